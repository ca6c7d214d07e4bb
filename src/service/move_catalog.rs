//! Moving a tenant to a newer version of its catalog. Nobody's access widens without that being
//! shown: the move is refused until the caller says that it has seen what every role gains.

use serde::{Deserialize, Serialize};

use super::error::ServiceError;
use super::members::owner_remains;
use super::roles::check_etag;
use super::tenants::{Tenants, touched_now};
use super::write::{Operation, Start, Trace, WriteContext, Written};
use crate::domain::catalog::diff::{CatalogDiff, RoleChange, role_diff};
use crate::domain::catalog::{Catalog, migrate_grants};
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::impact::PermissionDelta;
use crate::domain::refusal::Refusal;
use crate::domain::role::{CustomRole, RoleKind};
use crate::domain::tenant::Tenant;
use crate::store::{MemberFilter, Touched};

/// What a move does to the holders of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleCatalogChange {
    /// The role; none: what every active member has.
    pub role: Option<RoleId>,
    /// The default role that its holders had before, where it had another id.
    #[serde(default)]
    pub former: Option<RoleId>,
    /// Its name.
    pub name: String,
    /// What its holders gain and lose.
    pub permissions: Vec<PermissionDelta>,
}

/// A tenant on its new catalog version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogMoved {
    /// The tenant.
    pub tenant: Tenant,
    /// Each role that gains or loses something.
    pub changes: Vec<RoleCatalogChange>,
}

impl Tenants {
    /// Moves a tenant to a newer version of its catalog; none: the newest.
    ///
    /// # Errors
    /// No such tenant or version, it is not newer, something stands in the way, access would widen
    /// unseen, a stale etag; the store fails.
    pub async fn move_catalog(
        &self,
        context: WriteContext,
        id: &TenantId,
        version: Option<u32>,
        accept_widening: bool,
        etag: Option<&str>,
    ) -> Result<Written<CatalogMoved>, ServiceError> {
        let operation = match self.writer.begin(context, id).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (before, old) = operation.tenant().await?;
        check_etag(etag, before.own_revision)?;
        let new = self.catalog(&before.catalog.id, version).await?;
        if new.reference().version <= old.reference().version {
            return Err(Refusal::CatalogNotNewer {
                current: old.reference().version,
                requested: new.reference().version,
            }
            .into());
        }
        let custom = operation.tx.roles(id, None, u64::from(u32::MAX)).await?;
        let obstacles = obstacles(&operation, &before, &old, &new, &custom).await?;
        if !obstacles.is_empty() {
            return Err(Refusal::CatalogMoveBlocked { detail: obstacles.join("; ") }.into());
        }
        let changes = role_changes(&old, &new, &custom);
        let mut widened: Vec<String> = changes
            .iter()
            .filter(|change| change.permissions.iter().any(PermissionDelta::gained))
            .map(|change| change.role.as_ref().map(RoleId::to_string).unwrap_or_default())
            .collect();
        // Roles that became one are listed under the one.
        widened.dedup();
        // A trial shows the widening instead of refusing it: that is how it is seen.
        if !widened.is_empty() && !accept_widening && !operation.is_trial() {
            return Err(Refusal::CatalogWidensAccess { roles: widened }.into());
        }

        let rewritten = rename(&operation, &old, &new, custom).await?;
        let after = touched_now(&operation, &before, |tenant| {
            tenant.catalog = new.reference().clone();
        });
        operation.tx.put_tenant(&after).await?;
        owner_remains(&operation, &new).await?;
        let moved = CatalogMoved { tenant: after, changes };
        let mut trace = Trace::of(Some(&before), None);
        trace.after = serde_json::to_value(&moved).ok();
        trace.roles = rewritten;
        operation.finish(moved, Touched::Tenant, trace).await
    }
}

/// What has no place in the newer version, each with what to do about it.
async fn obstacles(
    operation: &Operation,
    tenant: &Tenant,
    old: &Catalog,
    new: &Catalog,
    custom: &[CustomRole],
) -> Result<Vec<String>, ServiceError> {
    let mut obstacles = Vec::new();
    for role in old.default_roles() {
        let members = operation.tx.role_members(&tenant.id, &role.id).await?;
        let held = members.active + members.archived;
        if held > 0 && new.default_role_renamed(role.id.as_str()).is_none() {
            obstacles.push(format!(
                "{held} members hold the role {}, which {} no longer has: give them another one \
                 first",
                role.id,
                new.reference()
            ));
        }
    }
    match &tenant.plan {
        Some(plan) if new.plan(plan).is_none() => obstacles.push(format!(
            "the tenant is on the plan {plan}, which {} does not have: change the plan first",
            new.reference()
        )),
        None if !new.plans().is_empty() => obstacles
            .push(format!("{} has plans and the tenant is on none of them", new.reference())),
        _ => {}
    }
    for role in custom {
        if let Some(default) = new.default_role_named(&role.name.key()) {
            obstacles.push(format!(
                "the custom role {} has the name of the default role {}: rename it first",
                role.id, default.id
            ));
        }
    }
    let limit = new.roles_per_member();
    if limit < old.roles_per_member()
        && let Some(member) = member_with_more_roles(operation, &tenant.id, limit).await?
    {
        obstacles.push(format!(
            "the member {member} holds more than the {limit} roles that {} allows",
            new.reference()
        ));
    }
    Ok(obstacles)
}

async fn member_with_more_roles(
    operation: &Operation,
    tenant: &TenantId,
    limit: usize,
) -> Result<Option<MemberId>, ServiceError> {
    const PAGE: u64 = 1_000;
    let mut last: Option<MemberId> = None;
    loop {
        let filter = MemberFilter::default();
        let page = operation.tx.members(tenant, &filter, last.as_ref(), PAGE).await?;
        if let Some(member) = page.iter().find(|member| member.roles.len() > limit) {
            return Ok(Some(member.id.clone()));
        }
        if (page.len() as u64) < PAGE {
            return Ok(None);
        }
        last = page.last().map(|member| member.id.clone());
    }
}

/// What every role, and every member, gains and loses.
fn role_changes(old: &Catalog, new: &Catalog, custom: &[CustomRole]) -> Vec<RoleCatalogChange> {
    let diff = CatalogDiff::of(old, new);
    let mut changes = Vec::new();
    if !diff.everyone.is_empty() {
        changes.push(RoleCatalogChange {
            role: None,
            former: None,
            name: String::new(),
            permissions: diff.everyone.clone(),
        });
    }
    for role in diff.roles {
        // A new role is held by nobody, and one that is held is not removed.
        let held = matches!(role.change, RoleChange::Kept | RoleChange::Renamed { .. });
        let former = match role.change {
            RoleChange::Renamed { from } => Some(from),
            RoleChange::Kept | RoleChange::Added | RoleChange::Removed => None,
        };
        if held && !role.deltas.is_empty() {
            changes.push(RoleCatalogChange {
                role: Some(RoleId::trusted(&role.role.id)),
                former,
                name: role.role.title,
                permissions: role.deltas,
            });
        }
    }
    for role in custom {
        let mut permissions = role_diff(old, new, RoleKind::Custom, &role.grants);
        permissions.retain(|delta| !diff.everyone.contains(delta));
        if !permissions.is_empty() {
            changes.push(RoleCatalogChange {
                role: Some(role.id.clone()),
                former: None,
                name: role.name.to_string(),
                permissions,
            });
        }
    }
    changes
}

/// Carries renamed permissions and default roles over to what is stored. Gives the roles that were
/// rewritten, and those whose holders went from one to the other.
async fn rename(
    operation: &Operation,
    old: &Catalog,
    new: &Catalog,
    custom: Vec<CustomRole>,
) -> Result<Vec<RoleId>, ServiceError> {
    let mut rewritten = Vec::new();
    for role in custom {
        let grants = migrate_grants(new, &role.grants);
        if grants != role.grants {
            let updated_at = operation.now;
            rewritten.push(role.id.clone());
            operation.tx.put_role(&CustomRole { grants, updated_at, ..role }).await?;
        }
    }
    for role in old.default_roles() {
        if let Some(renamed) = new.default_role_renamed(role.id.as_str())
            && renamed.id != role.id
        {
            operation.move_holders(&role.id, Some(&renamed.id)).await?;
            for id in [&role.id, &renamed.id] {
                if !rewritten.contains(id) {
                    rewritten.push(id.clone());
                }
            }
        }
    }
    Ok(rewritten)
}
