//! Following ids from an older version of a catalog into a newer one.

use super::{Catalog, DefaultRole, PermissionIx};
use crate::domain::grant::Grant;
use crate::domain::relation::RelationSet;

impl Catalog {
    /// The permission's index by its id or by one it had in an older version, unless that old id
    /// is in use again.
    #[must_use]
    pub fn find_renamed(&self, permission: &str) -> Option<PermissionIx> {
        self.find(permission).or_else(|| {
            self.permissions()
                .find(|(_, candidate)| candidate.renamed_from.iter().any(|old| old == permission))
                .map(|(ix, _)| ix)
        })
    }

    /// The default role by its id or by one it had in an older version.
    #[must_use]
    pub fn default_role_renamed(&self, id: &str) -> Option<&DefaultRole> {
        self.default_role(id).or_else(|| {
            self.default_roles().iter().find(|role| role.renamed_from.iter().any(|old| old == id))
        })
    }
}

/// Carries a custom role's stored grants into a newer catalog: renamed permissions get their new
/// ids. What the newer catalog does not know stays as it is, gives nothing when compiled, and is
/// reported there.
///
/// Two permissions that became one keep the narrower scope, so that a rename never widens a role.
#[must_use]
pub fn migrate_grants(new: &Catalog, grants: &[Grant]) -> Vec<Grant> {
    let mut migrated: Vec<Grant> = Vec::with_capacity(grants.len());
    for grant in grants {
        let Some(ix) = new.find_renamed(&grant.permission) else {
            migrated.push(grant.clone());
            continue;
        };
        let renamed =
            Grant { permission: new.permission(ix).id.clone(), scope: grant.scope.clone() };
        let taken = migrated.iter_mut().find(|other| other.permission == renamed.permission);
        let Some(taken) = taken else {
            migrated.push(renamed);
            continue;
        };
        let reach = |grant: &Grant| match &grant.scope {
            Some(scope) => new.scope_of(ix, scope).map(|scope| new.scope(scope).closed),
            None => new.permission(ix).scopes.is_empty().then_some(RelationSet::ANY),
        };
        match (reach(taken), reach(&renamed)) {
            (Some(kept), Some(other)) if other.includes(kept) => {}
            (Some(kept), Some(other)) if kept.includes(other) => *taken = renamed,
            (None, Some(_)) => *taken = renamed,
            (Some(_), None) => {}
            // Neither is the narrower one: the second keeps its old id, and so gives nothing.
            _ => migrated.push(grant.clone()),
        }
    }
    migrated
}
