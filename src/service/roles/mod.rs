//! Roles as an admin handles them: read here, made and changed in `edit`, deleted in `delete`.

mod delete;
mod edit;
mod guards;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(super) use delete::reassignment;
pub use delete::{Deletion, RoleDeleted};
pub use edit::{RoleDraft, RoleEdit, RoleWritten};
pub use guards::{MAX_GRANTS, etag};
pub(super) use guards::{check_etag, collect, editable, parse_grants, unknown_roles};

use super::counts::WriteCounts;
use super::error::ServiceError;
use super::page::{Page, PageRequest, PageRoom, Pager};
use super::refusals::RefusalCounts;
use super::seal::Seal;
use super::tenants::in_use;
use super::token::Tokens;
use super::write::Writer;
use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, DefaultRole, DeletionPolicy, MAX_CUSTOM_ROLES};
use crate::domain::grant::Grant;
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::name::RoleName;
use crate::domain::refusal::Refusal;
use crate::domain::role::{CustomRole, DroppedGrant, RoleKind};
use crate::domain::tenant::Tenant;
use crate::store::{RoleMembers, SqlStore};

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
    /// Who holds it; nobody where that was not counted.
    pub members: RoleMembers,
    /// What a deletion wants to be sent back.
    pub confirmation: Option<String>,
    /// Whether it is the owner's.
    pub owner: bool,
}

impl RoleDetails {
    /// About what it takes in an answer.
    fn shown_bytes(&self) -> usize {
        /// A reason in words.
        const REASON: usize = 200;
        let grant = |grant: &Grant| {
            grant.permission.len() + grant.scope.as_ref().map_or(0, String::len) + 8
        };
        let grants: usize = self.grants.iter().map(grant).sum();
        let inactive: usize = self.inactive.iter().map(|one| grant(&one.grant) + REASON).sum();
        let confirmation = self.confirmation.as_ref().map_or(0, String::len);
        self.name.len() + self.description.len() + confirmation + grants + inactive + 256
    }
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
        let writer = Writer::new(store.clone(), tokens.clone());
        Roles { store, writer, seal, tokens }
    }

    /// How its mutations ended, since the start.
    #[must_use]
    pub fn write_counts(&self) -> &Arc<WriteCounts> {
        self.writer.counts()
    }

    /// What actors were refused, since the start.
    #[must_use]
    pub fn refusal_counts(&self) -> &Arc<RefusalCounts> {
        self.writer.refusals()
    }

    /// The catalog that the tenant is on: the tree for a role editor.
    ///
    /// # Errors
    /// No such tenant, or the store fails.
    pub async fn catalog(&self, tenant: &TenantId) -> Result<Arc<Catalog>, ServiceError> {
        let tx = self.store.read().await?;
        let (_, catalog) = in_use(&self.store, &tx, tenant).await?;
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
        let (_, catalog) = in_use(&self.store, &tx, tenant).await?;
        let members = tx.role_members(tenant, role).await?;
        if let Some(default) = catalog.default_role(role.as_str()) {
            return Ok(show_default(&catalog, default, members, language));
        }
        match tx.role(tenant, role).await? {
            Some(custom) => Ok(show_custom(&catalog, &custom, members)),
            None => Err(Refusal::RoleNotFound(role.clone()).into()),
        }
    }

    /// Default roles in the catalog's order, then custom ones in the order of their making, fewer than
    /// asked for where they have many grants; with how many members hold each role of the page if that
    /// is wanted.
    ///
    /// # Errors
    /// No such tenant, a bad page, or the store fails.
    pub async fn list(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
        language: &str,
        counted: bool,
    ) -> Result<RoleList, ServiceError> {
        let pager = Pager::new(&self.seal, "ListRoles", &[tenant.as_str()]);
        let (size, cursor) = pager.read(page)?;
        let tx = self.store.read().await?;
        let (record, catalog) = in_use(&self.store, &tx, tenant).await?;
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
            .map(|role| show_default(&catalog, role, RoleMembers::default(), language))
            .collect();
        if items.len() <= size {
            let wanted = size + 1 - items.len();
            for role in tx.roles(tenant, customs_after.as_ref(), wanted as u64).await? {
                items.push(show_custom(&catalog, &role, RoleMembers::default()));
            }
        }
        let found = items.len();
        items.truncate(size);
        let mut room = PageRoom::new();
        let fitting = items.iter().take_while(|role| room.take(role.shown_bytes())).count();
        items.truncate(fitting);
        if counted {
            let shown: Vec<RoleId> = items.iter().map(|role| role.id.clone()).collect();
            for count in tx.members_by_role(tenant, &shown).await? {
                let role = items.iter_mut().find(|role| role.id == count.role);
                if let Some(role) = role {
                    role.members = count.members;
                }
            }
        }
        let last = items.last().filter(|_| fitting < found);
        let next_token = last.map(|role| pager.token(role.id.as_str())).unwrap_or_default();
        Ok(RoleList {
            page: Page { items, next_token },
            custom_roles: tx.count_roles(tenant).await?,
            limit: custom_role_limit(&record, &catalog),
        })
    }
}

/// How many custom roles the tenant's plan allows; none: no limit.
pub(super) fn custom_role_limit(tenant: &Tenant, catalog: &Catalog) -> Option<u32> {
    catalog.plan(tenant.plan.as_deref()?)?.custom_roles
}

/// How many custom roles the tenant may have: where the plan sets no limit, there still is one, so
/// that no tenant's roles outgrow what a move to another catalog version looks through.
pub(super) fn most_custom_roles(tenant: &Tenant, catalog: &Catalog) -> u32 {
    custom_role_limit(tenant, catalog).unwrap_or(MAX_CUSTOM_ROLES)
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

fn show_default(
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

fn show_custom(catalog: &Catalog, role: &CustomRole, members: RoleMembers) -> RoleDetails {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tenant::TenantState;

    #[test]
    fn where_the_plan_sets_no_limit_there_still_is_one() {
        let now = Timestamp::now();
        for (wanted, plan, most) in [("oqupie", "enterprise", 5), ("qpien", "", MAX_CUSTOM_ROLES)] {
            let sources = crate::domain::catalog::shipped();
            let mut catalogs = sources.iter().map(|source| Catalog::parse(source).unwrap());
            let catalog = catalogs.find(|catalog| catalog.reference().id == wanted).unwrap();
            let tenant = Tenant {
                id: TenantId::trusted("t"),
                catalog: catalog.reference().clone(),
                plan: Some(plan.to_owned()).filter(|plan| !plan.is_empty()),
                state: TenantState::Active,
                revision: 1,
                own_revision: 1,
                created_at: now,
                updated_at: now,
                purge_at: None,
            };
            assert_eq!(most_custom_roles(&tenant, &catalog), most);
        }
    }
}
