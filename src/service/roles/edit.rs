//! Making and changing custom roles.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::guards::{name_is_free, parse_name, parse_text};
use super::{
    RoleDetails, Roles, check_etag, collect, custom_role_limit, editable, most_custom_roles,
    parse_grants, show_custom,
};
use crate::domain::actor::Duty;
use crate::domain::catalog::Catalog;
use crate::domain::grant::Grant;
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::name::RoleName;
use crate::domain::refusal::Refusal;
use crate::domain::role::{CompiledRole, CustomRole, RoleKind};
use crate::domain::tenant::Tenant;
use crate::service::ServiceError;
use crate::service::acting::on_role;
use crate::service::preview::{Previewed, split};
use crate::service::write::{Operation, Start, Trace, WriteContext, Written};
use crate::store::{RoleMembers, Touched};

/// What somebody wants a new role to be.
#[derive(Debug, Clone, Default)]
pub struct RoleDraft {
    /// As typed.
    pub name: String,
    /// As typed.
    pub description: String,
    /// As ticked.
    pub grants: Vec<Grant>,
    /// Add what the grants require.
    pub expand_requirements: bool,
}

/// What somebody wants to change of a role; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct RoleEdit {
    /// The new name.
    pub name: Option<String>,
    /// The new description.
    pub description: Option<String>,
    /// The whole new list.
    pub grants: Option<Vec<Grant>>,
    /// Add what the grants require.
    pub expand_requirements: bool,
    /// Only if the role is as last read, or all is as it was previewed.
    pub etag: Option<String>,
}

/// A role after a write, with what the write did by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleWritten {
    /// The role as it is now.
    pub role: RoleDetails,
    /// Grants that were added or widened because others require them (create, update), or left out
    /// because no custom role may hold them (clone).
    pub adjusted: Vec<Grant>,
}

impl Roles {
    /// Makes a custom role.
    ///
    /// # Errors
    /// Every guard of a new role; the store fails.
    pub async fn create(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        draft: &RoleDraft,
    ) -> Result<Written<RoleWritten>, ServiceError> {
        // Before the tenant is locked: nobody waits for what somebody typed to be read.
        let mut violations = Vec::new();
        let name = collect(&mut violations, parse_name("name", &draft.name));
        let description = collect(&mut violations, parse_text("description", &draft.description));
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (record, catalog) = operation.tenant().await?;
        let attempt = || on_role(None, json!({ "name": draft.name, "grants": draft.grants }));
        let operation = operation.on_behalf(&catalog, Duty::Roles, attempt).await?;
        let grants = collect(
            &mut violations,
            parse_grants(&catalog, &draft.grants, draft.expand_requirements),
        );
        let (Some(name), Some(description), Some(grants)) = (name, description, grants) else {
            return Err(Refusal::Invalid(violations).into());
        };
        let adjusted = added(&draft.grants, &grants);
        insert(operation, &record, &catalog, NewRole { name, description, grants, adjusted }).await
    }

    /// Makes a custom role from any role, leaving out what no custom role may hold.
    ///
    /// # Errors
    /// Every guard of a new role; no such source; the store fails.
    pub async fn clone_role(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        source: &RoleId,
        name: &str,
        description: Option<&str>,
    ) -> Result<Written<RoleWritten>, ServiceError> {
        let mut violations = Vec::new();
        let name = collect(&mut violations, parse_name("name", name));
        let typed =
            description.and_then(|text| collect(&mut violations, parse_text("description", text)));
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (record, catalog) = operation.tenant().await?;
        let attempt = || on_role(Some(source), json!({ "clone": source }));
        let operation = operation.on_behalf(&catalog, Duty::Roles, attempt).await?;
        let (grants, source_description) = match catalog.default_role(source.as_str()) {
            Some(default) => (default.grants.clone(), default.description.get("").to_owned()),
            None => match operation.tx.role(tenant, source).await? {
                Some(custom) => (custom.grants, custom.description),
                None => return Err(Refusal::RoleNotFound(source.clone()).into()),
            },
        };
        let copied = match description {
            Some(_) => None,
            None => collect(&mut violations, parse_text("description", &source_description)),
        };
        let (Some(name), Some(description)) = (name, typed.or(copied)) else {
            return Err(Refusal::Invalid(violations).into());
        };
        let compiled = CompiledRole::compile(&catalog, RoleKind::Custom, &grants);
        let adjusted: Vec<Grant> =
            compiled.dropped().iter().map(|dropped| dropped.grant.clone()).collect();
        let grants = grants.into_iter().filter(|grant| !adjusted.contains(grant)).collect();
        insert(operation, &record, &catalog, NewRole { name, description, grants, adjusted }).await
    }

    /// Changes a custom role.
    ///
    /// # Errors
    /// Every guard of an edit; the store fails.
    pub async fn update(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        role: &RoleId,
        edit: &RoleEdit,
    ) -> Result<Written<RoleWritten>, ServiceError> {
        let mut violations = Vec::new();
        let typed = edit.name.as_deref();
        let name = typed.map(|text| collect(&mut violations, parse_name("name", text)));
        let typed = edit.description.as_deref();
        let description =
            typed.map(|text| collect(&mut violations, parse_text("description", text)));
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let attempt = || on_role(Some(role), json!({ "name": edit.name, "grants": edit.grants }));
        let operation = operation.on_behalf(&catalog, Duty::Roles, attempt).await?;
        let before = editable(&operation.tx, &catalog, tenant, role).await?;
        let (etag, preview) = split(edit.etag.as_deref());
        check_etag(etag, before.revision)?;
        let name = name.unwrap_or_else(|| Some(before.name.clone()));
        let description = description.unwrap_or_else(|| Some(before.description.clone()));
        let grants = match &edit.grants {
            Some(grants) => {
                collect(&mut violations, parse_grants(&catalog, grants, edit.expand_requirements))
            }
            None => Some(before.grants.clone()),
        };
        let (Some(name), Some(description), Some(grants)) = (name, description, grants) else {
            return Err(Refusal::Invalid(violations).into());
        };
        let previewed = Previewed::Update { role, grants: &grants };
        operation.preview_holds(preview, &catalog, Some(&previewed)).await?;
        let adjusted = edit.grants.as_ref().map(|asked| added(asked, &grants)).unwrap_or_default();
        if name != before.name {
            name_is_free(&operation, &catalog, tenant, &name, Some(role)).await?;
        }
        let members = operation.tx.role_members(tenant, role).await?;
        if (&name, &description, &grants) == (&before.name, &before.description, &before.grants) {
            let role = show_custom(&catalog, &before, members);
            return operation.unchanged(RoleWritten { role, adjusted }).await;
        }
        let after = CustomRole {
            name,
            description,
            grants,
            revision: operation.shown_revision(before.revision),
            updated_at: operation.now,
            ..before.clone()
        };
        let operation = operation.may_edit_role(&before, &after).await?;
        operation.tx.put_role(&after).await?;
        let written = RoleWritten { role: show_custom(&catalog, &after, members), adjusted };
        let trace = Trace::of(Some(&before), Some(&after)).role(role);
        operation.finish(written, Touched::Roles(vec![role.clone()]), trace).await
    }
}

struct NewRole {
    name: RoleName,
    description: String,
    grants: Vec<Grant>,
    adjusted: Vec<Grant>,
}

/// Writes a new role, if the plan has room and the name is free.
async fn insert(
    operation: Operation,
    tenant: &Tenant,
    catalog: &Catalog,
    new: NewRole,
) -> Result<Written<RoleWritten>, ServiceError> {
    let current = operation.tx.count_roles(&tenant.id).await?;
    let limit = most_custom_roles(tenant, catalog);
    if current >= u64::from(limit) {
        // Named only where it is the plan that limits: another one helps then.
        let limits = custom_role_limit(tenant, catalog).is_some();
        let plan = tenant.plan.clone().filter(|_| limits).unwrap_or_default();
        return Err(Refusal::CustomRoleLimit { plan, limit, current }.into());
    }
    name_is_free(&operation, catalog, &tenant.id, &new.name, None).await?;
    let operation = operation.may_make_role(&new.grants).await?;
    let role = CustomRole {
        id: RoleId::generate(),
        name: new.name,
        description: new.description,
        grants: new.grants,
        revision: operation.shown_revision(0),
        created_at: operation.now,
        updated_at: operation.now,
    };
    operation.tx.put_role(&role).await?;
    let written = RoleWritten {
        role: show_custom(catalog, &role, RoleMembers::default()),
        adjusted: new.adjusted,
    };
    let trace = Trace::of(None, Some(&role)).role(&role.id);
    operation.finish(written, Touched::Roles(vec![role.id]), trace).await
}

/// Grants of the written role that were not asked for as they stand there.
fn added(asked: &[Grant], written: &[Grant]) -> Vec<Grant> {
    written.iter().filter(|grant| !asked.contains(grant)).cloned().collect()
}
