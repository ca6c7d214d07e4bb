//! The reference: what the answers must be, written straight from DESIGN section 3 and nothing
//! else.
//!
//! It is slow and obvious on purpose: sets of names, loops, everything worked out anew for every
//! question. It shares no code with the crate, so that a mistake would have to be made twice, in
//! two different ways, to go unseen.
//!
//! - [`model`]: catalogs, roles, members and resources as plain values.
//! - [`relations`]: how a member stands to a resource, and which relations imply others.
//! - [`roles`]: what a role really gives, once requirements are looked at.
//! - [`decide`]: the decision, and what is derived from it.

pub(crate) mod decide;
mod examples;
pub(crate) mod model;
pub(crate) mod relations;
pub(crate) mod roles;
