//! The use cases: deciding, and administering tenants, roles and members.
//!
//! Reading starts at [`decide`]; what every mutation has in common is in `write`,
//! and on whose behalf it is made in `acting`.

mod acting;
pub mod allowance;
pub mod at_hand;
pub mod audit;
pub mod authentication;
pub mod caller;
pub mod counts;
pub mod decide;
pub mod decision_log;
mod error;
pub mod explain;
pub mod follow;
mod held_roles;
pub mod members;
pub mod move_catalog;
pub mod page;
pub mod preview;
pub mod readiness;
pub mod refusals;
pub mod roles;
pub mod seal;
pub mod sieve;
pub mod tenants;
pub mod token;
mod told;
pub mod under_way;
pub mod upsert;
pub mod warm_up;
pub mod watch;
pub mod who;
mod write;

pub use error::ServiceError;
pub use write::{RequestId, WriteContext, Written};
