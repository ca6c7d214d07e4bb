//! Roles as an admin handles them: read, create, edit, clone, delete.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::ServiceError;
use super::page::{Page, PageRequest, Pager};
use super::seal::Seal;
use super::token::Tokens;
use super::write::{Operation, Start, Trace, WriteContext, Writer, Written};
use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, DefaultRole, DeletionPolicy};
use crate::domain::grant::{Grant, check_grants};
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::name::{RoleName, TextError, parse_description};
use crate::domain::refusal::{Problem, Refusal, Unit, Violation};
use crate::domain::role::{CompiledRole, CustomRole, DroppedGrant, RoleKind};
use crate::domain::tenant::Tenant;
use crate::store::{ReadTx, RoleMembers, SqlStore, Touched};

/// The most grants that a request may list; a catalog has no more permissions.
pub const MAX_GRANTS: usize = crate::domain::catalog::MAX_PERMISSIONS;

/// A role as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleDetails {
    /// The role's id.
    pub id: RoleId,
    /// Default or custom.
    pub kind: RoleKind,
    /// A default role's title in the wanted language, or the custom role's name.
    pub name: String,
    /// A line or two more.
    pub description: String,
    /// What it holds.
    pub grants: Vec<Grant>,
    /// Those among them that give nothing.
    pub inactive: Vec<DroppedGrant>,
    /// Changes with the role.
    pub etag: String,
    /// None for default roles.
    pub created_at: Option<Timestamp>,
    /// None for default roles.
    pub updated_at: Option<Timestamp>,
    /// Who holds it.
    pub members: RoleMembers,
    /// What a deletion wants to be sent back.
    pub confirmation: Option<String>,
    /// Whether it is the owner's.
    pub owner: bool,
}

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
    /// Only if the role is as last read.
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

/// How somebody wants a role to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Deletion {
    /// Where its members go.
    pub reassign_to: Option<RoleId>,
    /// What was typed to confirm.
    pub confirmation: String,
    /// Only if the role is as last read.
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

/// Roles of a tenant, one page of them.
#[derive(Debug, Clone)]
pub struct RoleList {
    /// The roles.
    pub page: Page<RoleDetails>,
    /// How many custom roles there are.
    pub custom_roles: u64,
    /// How many the plan allows; none: no limit.
    pub limit: Option<u32>,
}

/// The use cases.
#[derive(Debug, Clone)]
pub struct Roles {
    pub(super) store: SqlStore,
    pub(super) writer: Writer,
    pub(super) seal: Seal,
    pub(super) tokens: Tokens,
}

impl Roles {
    /// The use cases over this store.
    #[must_use]
    pub fn new(store: SqlStore, tokens: Tokens, seal: Seal) -> Self {
        let writer = Writer { store: store.clone(), tokens: tokens.clone() };
        Roles { store, writer, seal, tokens }
    }

    /// The catalog that the tenant is on: the tree for a role editor.
    ///
    /// # Errors
    /// No such tenant, or the store fails.
    pub async fn catalog(&self, tenant: &TenantId) -> Result<Arc<Catalog>, ServiceError> {
        let tx = self.store.read().await?;
        let (_, catalog) = super::tenants::in_use(&self.store, &tx, tenant).await?;
        Ok(catalog)
    }

    /// One role, in full.
    ///
    /// # Errors
    /// No such tenant or role, or the store fails.
    pub async fn get(
        &self,
        tenant: &TenantId,
        role: &RoleId,
        language: &str,
    ) -> Result<RoleDetails, ServiceError> {
        let tx = self.store.read().await?;
        let (_, catalog) = super::tenants::in_use(&self.store, &tx, tenant).await?;
        let members = tx.role_members(tenant, role).await?;
        if let Some(default) = catalog.default_role(role.as_str()) {
            return Ok(show_default(&catalog, default, members, language));
        }
        match tx.role(tenant, role).await? {
            Some(custom) => Ok(show_custom(&catalog, &custom, members)),
            None => Err(Refusal::RoleNotFound(role.clone()).into()),
        }
    }

    /// Default roles in the catalog's order, then custom ones in the order of their making.
    ///
    /// # Errors
    /// No such tenant, a bad page, or the store fails.
    pub async fn list(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
        language: &str,
    ) -> Result<RoleList, ServiceError> {
        let pager = Pager::new(&self.seal, "ListRoles", &[tenant.as_str()]);
        let (size, cursor) = pager.read(page)?;
        let tx = self.store.read().await?;
        let (record, catalog) = super::tenants::in_use(&self.store, &tx, tenant).await?;
        let counts = tx.member_count_by_role(tenant).await?;
        let count = |role: &RoleId| {
            let found = counts.iter().find(|count| count.role == *role);
            found
                .map(|count| RoleMembers { active: count.active, archived: count.archived })
                .unwrap_or_default()
        };

        // The cursor is the last role shown: a default one's place is known from the catalog, and
        // any other is a custom one.
        let place = cursor.as_ref().map(|last| {
            catalog.default_roles().iter().position(|role| role.id.as_str() == last.as_str())
        });
        let (defaults_from, customs_after) = match (place, &cursor) {
            (Some(Some(place)), _) => (place + 1, None),
            (Some(None), Some(last)) => {
                (catalog.default_roles().len(), Some(RoleId::trusted(last)))
            }
            _ => (0, None),
        };
        let mut items: Vec<RoleDetails> = catalog
            .default_roles()
            .iter()
            .skip(defaults_from)
            .take(size + 1)
            .map(|role| show_default(&catalog, role, count(&role.id), language))
            .collect();
        if items.len() <= size {
            let wanted = size + 1 - items.len();
            for role in tx.roles(tenant, customs_after.as_ref(), wanted as u64).await? {
                items.push(show_custom(&catalog, &role, count(&role.id)));
            }
        }
        let more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| more);
        let next_token = last.map(|role| pager.token(role.id.as_str())).unwrap_or_default();
        Ok(RoleList {
            page: Page { items, next_token },
            custom_roles: tx.count_roles(tenant).await?,
            limit: custom_role_limit(&record, &catalog),
        })
    }

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
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (record, catalog) = operation.tenant().await?;
        let mut violations = Vec::new();
        let name = collect(&mut violations, parse_name("name", &draft.name));
        let description = collect(&mut violations, parse_text("description", &draft.description));
        let grants = collect(
            &mut violations,
            parse_grants(&catalog, &draft.grants, draft.expand_requirements),
        );
        let (Some(name), Some(description), Some(grants)) = (name, description, grants) else {
            return Err(Refusal::Invalid(violations).into());
        };
        let adjusted = added(&draft.grants, &grants);
        insert(*operation, &record, &catalog, NewRole { name, description, grants, adjusted }).await
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
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (record, catalog) = operation.tenant().await?;
        let (grants, source_description) = match catalog.default_role(source.as_str()) {
            Some(default) => (default.grants.clone(), default.description.get("").to_owned()),
            None => match operation.tx.role(tenant, source).await? {
                Some(custom) => (custom.grants, custom.description),
                None => return Err(Refusal::RoleNotFound(source.clone()).into()),
            },
        };
        let mut violations = Vec::new();
        let name = collect(&mut violations, parse_name("name", name));
        let description = collect(
            &mut violations,
            parse_text("description", description.unwrap_or(&source_description)),
        );
        let (Some(name), Some(description)) = (name, description) else {
            return Err(Refusal::Invalid(violations).into());
        };
        let compiled = CompiledRole::compile(&catalog, RoleKind::Custom, &grants);
        let adjusted: Vec<Grant> =
            compiled.dropped().iter().map(|dropped| dropped.grant.clone()).collect();
        let grants = grants.into_iter().filter(|grant| !adjusted.contains(grant)).collect();
        insert(*operation, &record, &catalog, NewRole { name, description, grants, adjusted }).await
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
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let before = editable(&operation.tx, &catalog, tenant, role).await?;
        check_etag(edit.etag.as_deref(), before.revision)?;
        let mut violations = Vec::new();
        let name = match &edit.name {
            Some(name) => collect(&mut violations, parse_name("name", name)),
            None => Some(before.name.clone()),
        };
        let description = match &edit.description {
            Some(text) => collect(&mut violations, parse_text("description", text)),
            None => Some(before.description.clone()),
        };
        let grants = match &edit.grants {
            Some(grants) => {
                collect(&mut violations, parse_grants(&catalog, grants, edit.expand_requirements))
            }
            None => Some(before.grants.clone()),
        };
        let (Some(name), Some(description), Some(grants)) = (name, description, grants) else {
            return Err(Refusal::Invalid(violations).into());
        };
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
            revision: operation.tx.next_revision(),
            updated_at: operation.now,
            ..before.clone()
        };
        operation.tx.put_role(&after).await?;
        let written = RoleWritten { role: show_custom(&catalog, &after, members), adjusted };
        let trace = Trace::of(Some(&before), Some(&after)).role(role);
        operation.finish(written, Touched::Roles(vec![role.clone()]), trace).await
    }

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
        let before = editable(&operation.tx, &catalog, tenant, role).await?;
        check_etag(deletion.etag.as_deref(), before.revision)?;
        let target = deletion.reassign_to.as_ref();
        let target = reassignment(&operation.tx, &catalog, tenant, &before, target).await?;
        confirmed(&catalog, &before, &deletion.confirmation)?;
        let mut touched = vec![role.clone()];
        let mut deleted = RoleDeleted::default();
        match &target {
            Some(target) => {
                touched.push(target.clone());
                let (active, archived) =
                    operation.tx.reassign_role(role, target, operation.now).await?;
                deleted.reassigned = RoleMembers { active, archived };
            }
            None => {
                deleted.stripped_archived = operation.tx.strip_role(role, operation.now).await?;
            }
        }
        operation.tx.delete_role(role).await?;
        let mut trace = Trace::of(Some(&before), None);
        trace.after = target.as_ref().map(|to| serde_json::json!({ "reassigned_to": to }));
        trace.roles.clone_from(&touched);
        operation.finish(deleted, Touched::Roles(touched), trace).await
    }
}

/// Where the members of a role that is to be deleted go: none where the policy has no
/// reassignment. Refused when policy, role and target do not go together.
pub(super) async fn reassignment(
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

/// The text that confirms a deletion must be the one that was shown, to the letter.
fn confirmed(catalog: &Catalog, role: &CustomRole, typed: &str) -> Result<(), Refusal> {
    match confirmation_text(catalog, &role.name) {
        Some(expected) if expected != typed => {
            Err(Refusal::invalid("confirmation_text", Problem::Confirmation { expected }))
        }
        _ => Ok(()),
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
    if let Some(limit) = custom_role_limit(tenant, catalog)
        && current >= u64::from(limit)
    {
        let plan = tenant.plan.clone().unwrap_or_default();
        return Err(Refusal::CustomRoleLimit { plan, limit, current }.into());
    }
    name_is_free(&operation, catalog, &tenant.id, &new.name, None).await?;
    let role = CustomRole {
        id: RoleId::generate(),
        name: new.name,
        description: new.description,
        grants: new.grants,
        revision: operation.tx.next_revision(),
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

/// The custom role, if it is one.
pub(super) async fn editable(
    tx: &ReadTx,
    catalog: &Catalog,
    tenant: &TenantId,
    role: &RoleId,
) -> Result<CustomRole, ServiceError> {
    if catalog.default_role(role.as_str()).is_some() {
        return Err(Refusal::DefaultRoleImmutable(role.clone()).into());
    }
    let role_not_found = || Refusal::RoleNotFound(role.clone()).into();
    tx.role(tenant, role).await?.ok_or_else(role_not_found)
}

async fn name_is_free(
    operation: &Operation,
    catalog: &Catalog,
    tenant: &TenantId,
    name: &RoleName,
    except: Option<&RoleId>,
) -> Result<(), ServiceError> {
    let key = name.key();
    let holder = match catalog.default_role_named(&key) {
        Some(role) => Some(role.id.clone()),
        None => operation.tx.role_named(tenant, &key).await?.map(|role| role.id),
    };
    match holder {
        Some(role) if Some(&role) != except => {
            Err(Refusal::RoleNameTaken { name: name.to_string(), role }.into())
        }
        _ => Ok(()),
    }
}

/// The roles among these that neither the catalog nor the tenant has.
pub(super) async fn unknown_roles(
    tx: &ReadTx,
    catalog: &Catalog,
    tenant: &TenantId,
    roles: &[RoleId],
) -> Result<Vec<RoleId>, ServiceError> {
    let custom: Vec<RoleId> = roles
        .iter()
        .filter(|role| catalog.default_role(role.as_str()).is_none())
        .cloned()
        .collect();
    if custom.is_empty() {
        return Ok(custom);
    }
    let known = tx.roles_by_ids(tenant, &custom).await?;
    let is_known = |role: &RoleId| known.iter().any(|known| known.id == *role);
    Ok(custom.into_iter().filter(|role| !is_known(role)).collect())
}

/// How many custom roles the tenant's plan allows; none: no limit.
pub(super) fn custom_role_limit(tenant: &Tenant, catalog: &Catalog) -> Option<u32> {
    catalog.plan(tenant.plan.as_deref()?)?.custom_roles
}

/// An etag is the revision that last changed the thing.
#[must_use]
pub fn etag(revision: u64) -> String {
    revision.to_string()
}

pub(super) fn check_etag(given: Option<&str>, revision: u64) -> Result<(), Refusal> {
    match given {
        Some(given) if given != etag(revision) => {
            Err(Refusal::EtagMismatch { current: etag(revision) })
        }
        _ => Ok(()),
    }
}

/// The text that a deletion of a role of this name must send back.
fn confirmation_text(catalog: &Catalog, name: &RoleName) -> Option<String> {
    match catalog.deletion() {
        DeletionPolicy::RefuseWhileAssigned { confirmation: Some(template) } => {
            Some(template.replace("{name}", name.as_str()))
        }
        _ => None,
    }
}

pub(super) fn show_default(
    catalog: &Catalog,
    role: &DefaultRole,
    members: RoleMembers,
    language: &str,
) -> RoleDetails {
    RoleDetails {
        id: role.id.clone(),
        kind: RoleKind::Default,
        name: role.title.get(language).to_owned(),
        description: role.description.get(language).to_owned(),
        grants: role.grants.clone(),
        inactive: Vec::new(),
        etag: catalog.reference().to_string(),
        created_at: None,
        updated_at: None,
        members,
        confirmation: None,
        owner: role.id == *catalog.owner(),
    }
}

pub(super) fn show_custom(
    catalog: &Catalog,
    role: &CustomRole,
    members: RoleMembers,
) -> RoleDetails {
    let compiled = role.compile(catalog);
    RoleDetails {
        id: role.id.clone(),
        kind: RoleKind::Custom,
        name: role.name.to_string(),
        description: role.description.clone(),
        grants: role.grants.clone(),
        inactive: compiled.dropped().to_vec(),
        etag: etag(role.revision),
        created_at: Some(role.created_at),
        updated_at: Some(role.updated_at),
        members,
        confirmation: confirmation_text(catalog, &role.name),
        owner: false,
    }
}

/// Grants of the written role that were not asked for as they stand there.
fn added(asked: &[Grant], written: &[Grant]) -> Vec<Grant> {
    written.iter().filter(|grant| !asked.contains(grant)).cloned().collect()
}

fn parse_name(field: &str, text: &str) -> Result<RoleName, Vec<Violation>> {
    RoleName::parse(text).map_err(|error| vec![Violation::new(field, text_problem(error))])
}

fn parse_text(field: &str, text: &str) -> Result<String, Vec<Violation>> {
    parse_description(text).map_err(|error| vec![Violation::new(field, text_problem(error))])
}

fn text_problem(error: TextError) -> Problem {
    match error {
        TextError::Empty => Problem::Required,
        TextError::TooLong { length, limit } => {
            Problem::TooLong { length, limit, unit: Unit::Characters }
        }
        TextError::Invisible(_) => Problem::Invalid(error.to_string()),
    }
}

pub(super) fn parse_grants(
    catalog: &Catalog,
    grants: &[Grant],
    expand: bool,
) -> Result<Vec<Grant>, Vec<Violation>> {
    if grants.len() > MAX_GRANTS {
        let problem = Problem::TooManyItems { count: grants.len(), limit: MAX_GRANTS };
        return Err(vec![Violation::new("grants", problem)]);
    }
    check_grants(catalog, grants, expand)
        .map_err(|problems| Violation::of_grants("grants", problems))
}

/// The value, or its violations put with the others.
pub(super) fn collect<T>(
    violations: &mut Vec<Violation>,
    result: Result<T, Vec<Violation>>,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(more) => {
            violations.extend(more);
            None
        }
    }
}
