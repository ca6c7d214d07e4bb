//! Random changes of a tenant.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::TEAMS;
use super::tenants::{GrantDraw, grants};

/// A change, before it is known what there is to change.
#[derive(Debug, Clone)]
pub(in crate::properties) enum Write {
    AddMember {
        roles: Vec<Index>,
        teams: Vec<&'static str>,
    },
    AssignRoles {
        member: Index,
        roles: Vec<Index>,
    },
    SetTeams {
        member: Index,
        teams: Vec<&'static str>,
    },
    SetStatus {
        member: Index,
        active: bool,
    },
    DeleteMember {
        member: Index,
    },
    /// Several members at once, all or nothing.
    Sync {
        members: Vec<(Index, bool, Vec<Index>)>,
    },
    /// `closed`: without what lacks its requirements; else it may well be refused.
    AddRole {
        grants: Vec<GrantDraw>,
        closed: bool,
    },
    EditRole {
        role: Index,
        grants: Vec<GrantDraw>,
        closed: bool,
    },
    CloneRole {
        role: Index,
    },
    DeleteRole {
        role: Index,
        reassign_to: Index,
    },
    /// What custom roles hold may no longer be there, or require what they lack.
    MoveCatalog,
    /// Nobody may do anything in between.
    DeleteAndRestoreTenant,
}

/// A random change.
pub(in crate::properties) fn write() -> impl Strategy<Value = Write> {
    let index = any::<Index>;
    let roles = || prop::collection::vec(any::<Index>(), 0..=3);
    let teams = || subsequence(&TEAMS, 0..=2);
    let sync = prop::collection::vec((index(), any::<bool>(), roles()), 1..=3);
    let closed = || prop::bool::weighted(0.6);
    prop_oneof![
        2 => (roles(), teams()).prop_map(|(roles, teams)| Write::AddMember { roles, teams }),
        3 => (index(), roles()).prop_map(|(member, roles)| Write::AssignRoles { member, roles }),
        2 => (index(), teams()).prop_map(|(member, teams)| Write::SetTeams { member, teams }),
        2 => (index(), any::<bool>())
            .prop_map(|(member, active)| Write::SetStatus { member, active }),
        1 => index().prop_map(|member| Write::DeleteMember { member }),
        1 => sync.prop_map(|members| Write::Sync { members }),
        2 => (grants(), closed()).prop_map(|(grants, closed)| Write::AddRole { grants, closed }),
        4 => (index(), grants(), closed())
            .prop_map(|(role, grants, closed)| Write::EditRole { role, grants, closed }),
        1 => index().prop_map(|role| Write::CloneRole { role }),
        3 => (index(), index())
            .prop_map(|(role, reassign_to)| Write::DeleteRole { role, reassign_to }),
        1 => Just(Write::MoveCatalog),
        1 => Just(Write::DeleteAndRestoreTenant),
    ]
}
