//! Members: people in a tenant.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::ids::{MemberId, RoleId, TeamId};
use super::role::CompiledRole;

/// The most teams a member may be in.
pub const MAX_TEAMS: usize = 200;

/// Whether a member takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberStatus {
    /// May be allowed things.
    Active,
    /// Kept, but denied everything.
    Archived,
}

/// A member as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Given by the caller.
    pub id: MemberId,
    /// Active or archived.
    pub status: MemberStatus,
    /// What it holds besides base permissions; as many as the catalog allows, none is fine.
    pub roles: Vec<RoleId>,
    /// Sorted, each once.
    pub teams: Vec<TeamId>,
    /// The tenant's revision that last changed it; also its etag.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Member {
    /// Whether it is active and holds the role.
    #[must_use]
    pub fn actively_holds(&self, role: &RoleId) -> bool {
        self.status == MemberStatus::Active && self.roles.contains(role)
    }

    /// Replaces its roles, unless these are the same in another order, which means nothing.
    pub fn set_roles(&mut self, roles: Vec<RoleId>) {
        let sorted = |roles: &[RoleId]| {
            let mut roles = roles.to_vec();
            roles.sort_unstable();
            roles
        };
        if sorted(&self.roles) != sorted(&roles) {
            self.roles = roles;
        }
    }
}

/// A member with its compiled roles: all that a decision needs to know of it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The member's id.
    pub id: MemberId,
    /// Active or archived.
    pub status: MemberStatus,
    /// Its teams.
    pub teams: Arc<[TeamId]>,
    /// Its roles.
    pub roles: Vec<(RoleId, Arc<CompiledRole>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_roles_is_no_change() {
        let roles = |ids: &[&str]| ids.iter().map(|id| RoleId::trusted(id)).collect::<Vec<_>>();
        let member = Member {
            id: MemberId::trusted("kim"),
            status: MemberStatus::Active,
            roles: roles(&["a", "b"]),
            teams: Vec::new(),
            revision: 1,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        for (set, expected) in [
            (&["b", "a"][..], &["a", "b"][..]),
            (&["a", "b"], &["a", "b"]),
            (&["b"], &["b"]),
            (&["b", "c"], &["b", "c"]),
            (&[], &[]),
        ] {
            let mut after = member.clone();
            after.set_roles(roles(set));
            assert_eq!(after.roles, roles(expected), "{set:?}");
        }
    }
}
