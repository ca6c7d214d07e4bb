//! Rolegate
pub mod domain;
pub mod store;
