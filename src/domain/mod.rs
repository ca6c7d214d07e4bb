//! Roles and decisions, pure and synchronous: no database, no network, no clock of its own. A
//! reader understands the product from here alone.
//!
//! Start with [`decision`], then [`role`] and [`grant`], then [`catalog`]; [`actor`] has who may
//! administer what.

pub mod actor;
pub mod candidates;
pub mod catalog;
pub mod decision;
pub mod document;
pub mod grant;
pub mod ids;
pub mod impact;
pub mod member;
pub mod name;
pub mod plan;
pub mod refusal;
pub mod relation;
pub mod resource;
pub mod role;
pub mod tenant;
#[cfg(test)]
mod tests;
/// How often the same line may be logged.
pub mod throttle;
mod time;

pub use time::Timestamp;
