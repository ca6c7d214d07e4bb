//! Where tenants, roles and members are kept: the contract, and its SeaORM implementation.

mod contract;

pub use contract::*;
