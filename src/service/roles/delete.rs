//! Deleting custom roles, as the catalog's policy asks.

use serde::{Deserialize, Serialize};

use super::{Roles, check_etag, confirmation_text, editable, unknown_roles};
use crate::domain::actor::Duty;
use crate::domain::catalog::{Catalog, DeletionPolicy};
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::name::tidy;
use crate::domain::refusal::{Problem, Refusal};
use crate::domain::role::CustomRole;
use crate::service::ServiceError;
use crate::service::acting::on_role;
use crate::service::preview::{Previewed, split};
use crate::service::write::{Start, Trace, WriteContext, Written};
use crate::store::{ReadTx, RoleMembers, Touched};

/// How somebody wants a role to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Deletion {
    /// Where its members go.
    pub reassign_to: Option<RoleId>,
    /// What was typed to confirm.
    pub confirmation: String,
    /// Only if the role is as last read, or all is as it was previewed.
    pub etag: Option<String>,
}

/// What became of a deleted role's members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleDeleted {
    /// Those who got the other role.
    pub reassigned: RoleMembers,
    /// Archived members who lost it.
    pub stripped_archived: u64,
}

impl Roles {
    /// Deletes a custom role as the catalog's policy asks.
    ///
    /// # Errors
    /// Every guard of a deletion; the store fails.
    pub async fn delete(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        role: &RoleId,
        deletion: &Deletion,
    ) -> Result<Written<RoleDeleted>, ServiceError> {
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let reassign_to = deletion.reassign_to.as_ref();
        let attempt = || on_role(Some(role), serde_json::json!({ "reassign_to": reassign_to }));
        let operation = operation.on_behalf(&catalog, Duty::Roles, attempt).await?;
        let before = editable(&operation.tx, &catalog, tenant, role).await?;
        let (etag, preview) = split(deletion.etag.as_deref());
        check_etag(etag, before.revision)?;
        let target = reassignment(&operation.tx, &catalog, tenant, &before, reassign_to).await?;
        let change = Previewed::Delete { role, reassign_to: target.as_ref() };
        operation.preview_holds(preview, &catalog, Some(&change)).await?;
        confirmed(&catalog, &before, &deletion.confirmation)?;
        let operation = operation.may_delete_role(role, target.as_ref()).await?;
        let mut touched = vec![role.clone()];
        let mut deleted = RoleDeleted::default();
        touched.extend(target.clone());
        let moved = operation.move_holders(role, target.as_ref()).await?;
        match &target {
            Some(_) => deleted.reassigned = moved,
            None => deleted.stripped_archived = moved.archived,
        }
        operation.tx.delete_role(role).await?;
        let mut trace = Trace::of(Some(&before), None);
        trace.after = target.as_ref().map(|to| {
            let RoleMembers { active, archived } = deleted.reassigned;
            serde_json::json!({
                "reassigned_to": to,
                "active_members": active,
                "archived_members": archived,
            })
        });
        trace.roles.clone_from(&touched);
        operation.finish(deleted, Touched::Roles(touched), trace).await
    }
}

/// Where the members of a role that is to be deleted go: none where the policy has no
/// reassignment. Refused when policy, role and target do not go together.
pub(in crate::service) async fn reassignment(
    tx: &ReadTx,
    catalog: &Catalog,
    tenant: &TenantId,
    role: &CustomRole,
    target: Option<&RoleId>,
) -> Result<Option<RoleId>, ServiceError> {
    const FIELD: &str = "reassign_to_role_id";
    let members = tx.role_members(tenant, &role.id).await?;
    match (catalog.deletion(), target) {
        (DeletionPolicy::Reassign, None) => Err(Refusal::ReassignmentRequired {
            role: role.id.clone(),
            active_members: members.active,
            archived_members: members.archived,
        }
        .into()),
        (DeletionPolicy::Reassign, Some(target)) if *target == role.id => {
            Err(Refusal::invalid(FIELD, Problem::ReassignmentToItself).into())
        }
        (DeletionPolicy::Reassign, Some(target)) => {
            let targets = std::slice::from_ref(target);
            if unknown_roles(tx, catalog, tenant, targets).await?.is_empty() {
                return Ok(Some(target.clone()));
            }
            let problem = Problem::UnknownRole { role: target.to_string() };
            Err(Refusal::invalid(FIELD, problem).into())
        }
        (DeletionPolicy::RefuseWhileAssigned { .. }, Some(_)) => {
            Err(Refusal::ReassignmentNotSupported.into())
        }
        (DeletionPolicy::RefuseWhileAssigned { .. }, None) if members.active > 0 => {
            let (role, active_members) = (role.id.clone(), members.active);
            Err(Refusal::RoleAssigned { role, active_members }.into())
        }
        (DeletionPolicy::RefuseWhileAssigned { .. }, None) => Ok(None),
    }
}

/// The text that confirms a deletion must be the one that was shown, compared as names are kept.
fn confirmed(catalog: &Catalog, role: &CustomRole, typed: &str) -> Result<(), Refusal> {
    match confirmation_text(catalog, &role.name) {
        Some(expected) if tidy(&expected) != tidy(typed) => {
            Err(Refusal::invalid("confirmation_text", Problem::Confirmation { expected }))
        }
        _ => Ok(()),
    }
}
