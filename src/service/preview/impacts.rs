//! What members gain and lose.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::catalog::Catalog;
use crate::domain::ids::{MemberId, RoleId};
use crate::domain::impact::{PermissionDelta, member_impact};
use crate::domain::member::{MemberStatus, Subject};
use crate::domain::role::CompiledRole;

/// A role under the id it is held by.
pub(super) type Held = (RoleId, Arc<CompiledRole>);

/// Somebody active who holds these roles.
pub(super) fn holding(roles: Vec<Held>) -> Subject {
    let id = MemberId::trusted("");
    Subject { id, status: MemberStatus::Active, teams: Arc::default(), roles }
}

/// What changes for members, worked out once for all who hold the same roles.
pub(super) struct Impacts<'a, F> {
    catalog: &'a Catalog,
    roles_after: F,
    by_roles: HashMap<Vec<RoleId>, Vec<PermissionDelta>>,
}

impl<'a, F: Fn(&Subject) -> Vec<Held>> Impacts<'a, F> {
    pub(super) fn new(catalog: &'a Catalog, roles_after: F) -> Self {
        Impacts { catalog, roles_after, by_roles: HashMap::new() }
    }

    pub(super) fn of(&mut self, member: &Subject) -> &[PermissionDelta] {
        let held = member.roles.iter().map(|(role, _)| role.clone()).collect();
        self.by_roles.entry(held).or_insert_with(|| {
            let roles = (self.roles_after)(member);
            member_impact(self.catalog, member, Some(&Subject { roles, ..member.clone() }))
        })
    }
}
