//! Roles: a tenant's custom ones as they are stored, and any role as decisions use it.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::catalog::{Catalog, Grantable, PermissionIx, ScopeIx};
use super::grant::{Grant, Held, scope_for};
use super::ids::RoleId;
use super::name::RoleName;
use super::relation::RelationSet;

/// A role that a tenant's admin made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomRole {
    /// Made by us.
    pub id: RoleId,
    /// Unique in the tenant, see [`super::name::NameKey`].
    pub name: RoleName,
    /// A line or two for people.
    pub description: String,
    /// As they were written, in the catalog's order.
    pub grants: Vec<Grant>,
    /// The tenant's revision that last changed it; also its etag.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl CustomRole {
    /// The role ready for decisions under this catalog.
    #[must_use]
    pub fn compile(&self, catalog: &Catalog) -> CompiledRole {
        CompiledRole::compile(catalog, RoleKind::Custom, &self.grants)
    }
}

/// Which rules a role's grants fall under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// From the catalog: may hold what no custom role may.
    Default,
    /// Made by a tenant.
    Custom,
}

/// What a role gives of one permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Closed under implication; empty: nothing.
    pub relations: RelationSet,
    /// The scope it was granted at, also of a permission that follows another.
    pub scope: Option<ScopeIx>,
}

/// Why a stored grant gives nothing under the catalog that the tenant is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The catalog no longer has the permission.
    UnknownPermission,
    /// The permission no longer has the scope, or has come to need one.
    UnknownScope,
    /// Custom roles may no longer hold it.
    NeverGrantable,
    /// Every member holds it now; nothing is lost.
    HeldByEveryone,
    /// The catalog asks for what the role lacks.
    RequirementMissing(Vec<String>),
}

impl DropReason {
    /// For a person.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            DropReason::UnknownPermission => "the catalog no longer has the permission".to_owned(),
            DropReason::UnknownScope => "the permission no longer has the scope".to_owned(),
            DropReason::NeverGrantable => "custom roles may no longer hold it".to_owned(),
            DropReason::HeldByEveryone => "every member holds it anyway".to_owned(),
            DropReason::RequirementMissing(missing) => {
                format!("the role lacks {}", missing.join(", "))
            }
        }
    }
}

/// A stored grant that gives nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedGrant {
    /// As stored.
    pub grant: Grant,
    /// Why it gives nothing.
    pub reason: DropReason,
}

/// A role ready for decisions: one relation set per permission of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompiledRole {
    reach: Box<[Reach]>,
    dropped: Vec<DroppedGrant>,
}

impl CompiledRole {
    /// Resolves scopes, followers and requirements inside the role. What the catalog does not
    /// sustain is dropped, never widened.
    #[must_use]
    pub fn compile(catalog: &Catalog, kind: RoleKind, grants: &[Grant]) -> Self {
        let mut held = Held::default();
        let mut dropped = Vec::new();
        for grant in grants {
            match admit(catalog, kind, grant) {
                Ok((permission, scope)) => {
                    held.insert(permission, scope);
                }
                Err(reason) => dropped.push(DroppedGrant { grant: grant.clone(), reason }),
            }
        }
        for (permission, scope, missing) in held.drop_unmet(catalog) {
            dropped.push(DroppedGrant {
                grant: Grant {
                    permission: catalog.permission(permission).id.clone(),
                    scope: scope.map(|ix| catalog.scope(ix).id.clone()),
                },
                reason: DropReason::RequirementMissing(missing),
            });
        }
        let mut reach = vec![Reach::default(); catalog.permissions().len()];
        for (permission, _) in held.iter() {
            let leader = catalog.leader(permission);
            let scope = match catalog.permission(leader).grantable {
                Grantable::Base(scope) => scope,
                Grantable::Yes | Grantable::Never => held.scope(leader),
            };
            if let Some(slot) = reach.get_mut(permission.get()) {
                *slot = Reach { relations: held.reach(catalog, permission), scope };
            }
        }
        CompiledRole { reach: reach.into(), dropped }
    }

    /// What it gives of a permission; nothing for one it does not hold.
    #[must_use]
    pub fn reach(&self, permission: PermissionIx) -> Reach {
        self.reach.get(permission.get()).copied().unwrap_or_default()
    }

    /// The stored grants that give nothing.
    #[must_use]
    pub fn dropped(&self) -> &[DroppedGrant] {
        &self.dropped
    }

    /// About how many bytes it takes, for the cache's bound.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.reach.len() * size_of::<Reach>()
            + self.dropped.len() * size_of::<DroppedGrant>()
    }
}

fn admit(
    catalog: &Catalog,
    kind: RoleKind,
    grant: &Grant,
) -> Result<(PermissionIx, Option<ScopeIx>), DropReason> {
    let permission = catalog.find(&grant.permission).ok_or(DropReason::UnknownPermission)?;
    match (catalog.permission(permission).grantable, kind) {
        (Grantable::Base(_), _) => return Err(DropReason::HeldByEveryone),
        (Grantable::Never, RoleKind::Custom) => return Err(DropReason::NeverGrantable),
        (Grantable::Never | Grantable::Yes, _) => {}
    }
    let scope = scope_for(catalog, permission, grant.scope.as_deref(), 0)
        .map_err(|_| DropReason::UnknownScope)?;
    Ok((permission, scope))
}
