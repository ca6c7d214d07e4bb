//! Random values. Everything is drawn as plain numbers first and then built into something sound,
//! so that a failing case shrinks to a small one.

mod catalogs;
mod tenants;
mod writes;

pub(super) use catalogs::{GUARD, catalog};
pub(super) use tenants::{Case, GrantDraw, build_grants, case};
pub(super) use writes::{Write, write};

/// The people that anything can be about. Ids are compared byte by byte, and have to survive SQL.
pub(super) const PEOPLE: [&str; 6] = ["ann", "Ann", "o'brien", "김철수", "b%_", "zoë"];
/// Never a member.
pub(super) const STRANGER: &str = "nobody at all";
/// Holds every tenant's owner role and is left alone, so that everybody else may come and go.
pub(super) const OWNER: &str = "~owner";
/// The teams that anything can be in.
pub(super) const TEAMS: [&str; 4] = ["sales", "Sales", "night's", "팀"];
