//! Who can be allowed something at all, so that whoever lists those who are need not look at
//! everybody.
//!
//! What holds between a member and a resource comes from three sides: some relations hold for
//! everybody (`any`; that nobody is assigned; that it is public), some for members of the resource's
//! teams, and some for those whom the resource names. So whoever is allowed holds a role that grants
//! one of the first, is in one of the teams, or is named.

use super::catalog::{Catalog, PermissionIx};
use super::ids::{MemberId, RoleId, TeamId};
use super::relation::{Relation, RelationSet};
use super::resource::{Relations, Resource};
use super::role::CompiledRole;

/// Nobody else can be allowed; those who are here need not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidates {
    /// Every member.
    Everybody,
    /// Those for whom one of these is true.
    Among {
        /// They hold one of these roles.
        roles: Vec<RoleId>,
        /// They are in one of these teams.
        teams: Vec<TeamId>,
        /// They are one of these.
        members: Vec<MemberId>,
    },
}

impl Candidates {
    /// Who can be allowed the permission, on a resource or without one. `roles` are all that grant it,
    /// at least.
    #[must_use]
    pub fn of<'r>(
        catalog: &Catalog,
        permission: PermissionIx,
        resource: Option<&Resource>,
        roles: impl IntoIterator<Item = (&'r RoleId, &'r CompiledRole)>,
    ) -> Self {
        let nobody = MemberId::trusted("");
        let for_all = match resource {
            Some(resource) => Relations::between(&nobody, &[], resource).holding,
            None => RelationSet::EMPTY.with(Relation::Any),
        };
        let base = catalog.base(permission);
        if base.intersects(for_all) {
            return Candidates::Everybody;
        }
        let mut holders = Vec::new();
        // What is granted besides, and holds for some only.
        let mut for_some = base;
        for (id, role) in roles {
            let granted = role.reach(permission).relations;
            if granted.intersects(for_all) {
                holders.push(id.clone());
            } else {
                for_some = for_some.union(granted);
            }
        }
        let (mut teams, mut members) = (Vec::new(), Vec::new());
        if let Some(Resource { id: _, assignees, teams: of, creator, participants, public: _ }) =
            resource
        {
            if for_some.contains(Relation::Team) || for_some.contains(Relation::TeamUnassigned) {
                teams.extend(of.iter().flatten().cloned());
            }
            if for_some.contains(Relation::Assignee) {
                members.extend(assignees.iter().flatten().cloned());
            }
            if for_some.contains(Relation::Creator) {
                members.extend(creator.iter().flatten().cloned());
            }
            if for_some.contains(Relation::Participant) {
                members.extend(participants.iter().flatten().cloned());
            }
        }
        holders.sort();
        teams.sort();
        teams.dedup();
        members.sort();
        members.dedup();
        Candidates::Among { roles: holders, teams, members }
    }
}
