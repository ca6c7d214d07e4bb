//! Tenants: made with a first owner, put on another plan or catalog version, deleted, purged.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::counts::WriteCounts;
use super::error::ServiceError;
use super::members::{owner_remains, parse_teams, reserved};
use super::page::{Page, PageRequest, Pager};
use super::roles::{check_etag, custom_role_limit};
use super::seal::Seal;
use super::token::Tokens;
use super::told::moved_roles;
use super::write::{Operation, Start, Trace, WriteContext, Writer, Written};
use crate::domain::catalog::{Catalog, CatalogRef};
use crate::domain::ids::{MemberId, TeamId, TenantId};
use crate::domain::member::{Member, MemberStatus};
use crate::domain::refusal::{Problem, Refusal};
use crate::domain::tenant::{Tenant, TenantState};
use crate::store::{ReadTx, SqlStore, Touched};

/// How many tenants of a caller are looked up by one query.
const TENANTS_AT_A_TIME: usize = 500;

/// How long a deleted tenant can be brought back.
pub const KEPT_AFTER_DELETION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a new tenant is to be.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// The catalog's id.
    pub catalog: String,
    /// Its version; none: the newest.
    pub version: Option<u32>,
    /// The plan; none where the catalog has no plans.
    pub plan: Option<String>,
    /// The first owner.
    pub owner: MemberId,
    /// The first owner's teams.
    pub owner_teams: Vec<TeamId>,
}

/// A tenant that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantCreated {
    /// The tenant.
    pub tenant: Tenant,
    /// Its first owner.
    pub owner: Member,
}

/// A tenant on its new plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChanged {
    /// The tenant.
    pub tenant: Tenant,
    /// How many custom roles it has.
    pub custom_roles: u64,
    /// How many the plan allows; none: no limit.
    pub limit: Option<u32>,
}

/// The use cases.
#[derive(Debug, Clone)]
pub struct Tenants {
    pub(super) store: SqlStore,
    pub(super) writer: Writer,
    seal: Seal,
}

impl Tenants {
    /// The use cases over this store.
    #[must_use]
    pub fn new(store: SqlStore, tokens: Tokens, seal: Seal) -> Self {
        Tenants { writer: Writer::new(store.clone(), tokens), store, seal }
    }

    /// How its mutations ended, since the start.
    #[must_use]
    pub fn write_counts(&self) -> &Arc<WriteCounts> {
        self.writer.counts()
    }

    /// One tenant; a deleted one only when asked for.
    ///
    /// # Errors
    /// No such tenant, or the store fails.
    pub async fn get(&self, id: &TenantId, show_deleted: bool) -> Result<Tenant, ServiceError> {
        let tx = self.store.read().await?;
        match tx.tenant(id).await? {
            Some(tenant) if is_shown(&tenant, show_deleted) => Ok(tenant),
            _ => Err(Refusal::TenantNotFound(id.clone()).into()),
        }
    }

    /// All tenants that there are for the caller, in the order of their ids.
    ///
    /// # Errors
    /// A bad page, or the store fails.
    pub async fn list(
        &self,
        caller: &Caller,
        page: &PageRequest,
        show_deleted: bool,
    ) -> Result<Page<Tenant>, ServiceError> {
        let deleted = if show_deleted { "deleted" } else { "" };
        let pager = Pager::new(&self.seal, "ListTenants", &[deleted]);
        let (size, cursor) = pager.read(page)?;
        let after = cursor.map(|last| TenantId::trusted(&last));
        let tx = self.store.read().await?;
        let limit = size as u64 + 1;
        let mut items = match &caller.tenants {
            None => tx.tenants(after.as_ref(), limit, show_deleted).await?,
            Some(own) => {
                // From the first that can be on the page; most pages end long before the last.
                let rest =
                    own.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
                let rest: Vec<&TenantId> = rest.collect();
                let mut found = Vec::new();
                for some in rest.chunks(TENANTS_AT_A_TIME) {
                    found.extend(tx.tenants_among(some, show_deleted).await?);
                    if found.len() > size {
                        break;
                    }
                }
                found
            }
        };
        let more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| more);
        let next_token = last.map(|tenant| pager.token(tenant.id.as_str())).unwrap_or_default();
        Ok(Page { items, next_token })
    }

    /// Makes a tenant with its first owner.
    ///
    /// # Errors
    /// The id is taken, or not one that this caller may take; unknown catalog or plan; the store fails.
    pub async fn create(
        &self,
        context: WriteContext,
        id: &TenantId,
        new: &NewTenant,
    ) -> Result<Written<TenantCreated>, ServiceError> {
        // Whether there is one or not: the answer must not tell.
        if id.is_out_of_reach() {
            return Err(Refusal::TenantNotAllowed(id.clone()).into());
        }
        let operation = match self.writer.begin(context, id).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => operation,
        };
        let catalog = self.catalog(&new.catalog, new.version).await?;
        let plan = parse_plan(&catalog, new.plan.as_deref())?;
        if let Some(violation) = reserved("owner_member_id", &new.owner) {
            return Err(Refusal::Invalid(vec![violation]).into());
        }
        let teams = parse_teams("owner_team_ids", &new.owner_teams).map_err(Refusal::Invalid)?;
        let revision = operation.tx.next_revision();
        match operation.tx.tenant().map(|tenant| tenant.state) {
            None | Some(TenantState::Purged) => {}
            Some(TenantState::Active | TenantState::Deleted) => {
                return Err(Refusal::TenantAlreadyExists(id.clone()).into());
            }
        }
        let tenant = Tenant {
            id: id.clone(),
            catalog: catalog.reference().clone(),
            plan,
            state: TenantState::Active,
            revision,
            own_revision: operation.shown_revision(0),
            created_at: operation.now,
            updated_at: operation.now,
            purge_at: None,
        };
        let owner = Member {
            id: new.owner.clone(),
            status: MemberStatus::Active,
            roles: vec![catalog.owner().clone()],
            teams,
            revision: operation.shown_revision(0),
            created_at: operation.now,
            updated_at: operation.now,
        };
        operation.tx.put_tenant(&tenant).await?;
        operation.tx.put_members(std::slice::from_ref(&owner)).await?;
        let created = TenantCreated { tenant, owner };
        let trace = Trace::of(None, Some(&created)).member(&created.owner.id);
        let trace = Trace { roles: moved_roles(None, Some(&created.owner)), ..trace };
        operation.finish(created, Touched::Tenant, trace).await
    }

    /// Puts a tenant on another plan. Roles above a lowered limit stay.
    ///
    /// # Errors
    /// No such tenant or plan, a stale etag, or the store fails.
    pub async fn change_plan(
        &self,
        context: WriteContext,
        id: &TenantId,
        plan: &str,
        etag: Option<&str>,
    ) -> Result<Written<PlanChanged>, ServiceError> {
        let operation = match self.writer.begin(context, id).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (before, catalog) = operation.tenant().await?;
        check_etag(etag, before.own_revision)?;
        let plan = parse_plan(&catalog, Some(plan))?;
        let custom_roles = operation.tx.count_roles(id).await?;
        let after = touched_now(&operation, &before, |tenant| tenant.plan = plan);
        let limit = custom_role_limit(&after, &catalog);
        if after.plan == before.plan {
            return operation.unchanged(PlanChanged { tenant: before, custom_roles, limit }).await;
        }
        operation.tx.put_tenant(&after).await?;
        let trace = Trace::of(Some(&before), Some(&after));
        let changed = PlanChanged { tenant: after, custom_roles, limit };
        operation.finish(changed, Touched::Nothing, trace).await
    }

    /// Deletes a tenant: everybody is denied from now on, its data is kept for a while.
    ///
    /// # Errors
    /// No such tenant, a stale etag, or the store fails.
    pub async fn delete(
        &self,
        context: WriteContext,
        id: &TenantId,
        etag: Option<&str>,
    ) -> Result<Written<Tenant>, ServiceError> {
        let operation = match self.writer.begin(context, id).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (before, _) = operation.tenant().await?;
        check_etag(etag, before.own_revision)?;
        let purge_at = operation.now.plus(KEPT_AFTER_DELETION);
        let after = touched_now(&operation, &before, |tenant| {
            tenant.state = TenantState::Deleted;
            tenant.purge_at = Some(purge_at);
        });
        operation.tx.put_tenant(&after).await?;
        let trace = Trace::of(Some(&before), Some(&after));
        operation.finish(after, Touched::Tenant, trace).await
    }

    /// Brings a deleted tenant back.
    ///
    /// # Errors
    /// No such tenant, it is not deleted, a stale etag, or the store fails.
    pub async fn undelete(
        &self,
        context: WriteContext,
        id: &TenantId,
        etag: Option<&str>,
    ) -> Result<Written<Tenant>, ServiceError> {
        let operation = match self.writer.begin(context, id).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let before = deleted(&operation)?;
        check_etag(etag, before.own_revision)?;
        let catalog = self.store.catalog(&before.catalog).await?;
        let after = touched_now(&operation, &before, |tenant| {
            tenant.state = TenantState::Active;
            tenant.purge_at = None;
        });
        operation.tx.put_tenant(&after).await?;
        owner_remains(&operation, &catalog).await?;
        let trace = Trace::of(Some(&before), Some(&after));
        operation.finish(after, Touched::Tenant, trace).await
    }

    /// Removes the data of a deleted tenant for good.
    ///
    /// # Errors
    /// No such tenant, it is not deleted, or the store fails.
    pub async fn purge(
        &self,
        context: WriteContext,
        id: &TenantId,
    ) -> Result<Written<()>, ServiceError> {
        let operation = match self.writer.begin(context, id).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        purge(operation).await
    }

    /// Removes the data of a tenant that was deleted long enough ago, and says whether it did. The
    /// audit trail must prove that: the tenant's row alone could be edited by whoever wants the
    /// tenant and its trail gone.
    ///
    /// # Errors
    /// No such tenant, it is not deleted, or the store fails.
    pub async fn purge_if_due(
        &self,
        context: WriteContext,
        id: &TenantId,
    ) -> Result<bool, ServiceError> {
        let operation = match self.writer.begin::<()>(context, id).await? {
            Start::Replay(_) => return Ok(false),
            Start::Fresh(operation) => *operation,
        };
        deleted(&operation)?;
        // Up to its last microsecond it can be brought back.
        let latest = operation.now.minus(KEPT_AFTER_DELETION).plus(Duration::from_micros(1));
        if !operation.tx.was_deleted_before(latest).await? {
            return Ok(false);
        }
        purge(operation).await.map(|_| true)
    }

    /// The catalog of that id, at the version asked for or the newest.
    pub(super) async fn catalog(
        &self,
        id: &str,
        version: Option<u32>,
    ) -> Result<Arc<Catalog>, ServiceError> {
        let found = match version {
            Some(version) => {
                let wanted = CatalogRef { id: id.to_owned(), version };
                self.store.catalogs().into_iter().find(|catalog| *catalog.reference() == wanted)
            }
            None => self.store.newest_catalog(id),
        };
        found.ok_or_else(|| {
            let catalogs = self.store.catalogs();
            let known = catalogs.iter().map(|catalog| catalog.reference().to_string());
            let (field, catalog) = match version {
                Some(version) => ("catalog_version", format!("{id}@{version}")),
                None => ("catalog_id", id.to_owned()),
            };
            Refusal::invalid(field, Problem::UnknownCatalog { catalog, known: known.collect() })
                .into()
        })
    }
}

/// A tenant in use, with its catalog, as a read transaction sees it.
pub(super) async fn in_use(
    store: &SqlStore,
    tx: &ReadTx,
    id: &TenantId,
) -> Result<(Tenant, Arc<Catalog>), ServiceError> {
    match tx.tenant(id).await? {
        Some(tenant) if tenant.state == TenantState::Active => {
            let catalog = store.catalog(&tenant.catalog).await?;
            Ok((tenant, catalog))
        }
        _ => Err(Refusal::TenantNotFound(id.clone()).into()),
    }
}

fn is_shown(tenant: &Tenant, show_deleted: bool) -> bool {
    match tenant.state {
        TenantState::Active => true,
        TenantState::Deleted => show_deleted,
        TenantState::Purged => false,
    }
}

async fn purge(operation: Operation) -> Result<Written<()>, ServiceError> {
    let before = deleted(&operation)?;
    let after = touched_now(&operation, &before, |tenant| {
        tenant.state = TenantState::Purged;
        tenant.plan = None;
        tenant.purge_at = None;
    });
    operation.tx.delete_tenant_data().await?;
    operation.tx.put_tenant(&after).await?;
    operation.finish((), Touched::Tenant, Trace::default()).await
}

fn deleted(operation: &Operation) -> Result<Tenant, Refusal> {
    match operation.tx.tenant() {
        Some(tenant) if tenant.state == TenantState::Deleted => Ok(tenant.clone()),
        Some(tenant) if tenant.state == TenantState::Active => {
            Err(Refusal::TenantNotDeleted(tenant.id.clone()))
        }
        _ => Err(Refusal::TenantNotFound(operation.tenant_id().clone())),
    }
}

/// The tenant as it is after a change of itself.
pub(super) fn touched_now(
    operation: &Operation,
    before: &Tenant,
    change: impl FnOnce(&mut Tenant),
) -> Tenant {
    let mut after = before.clone();
    change(&mut after);
    after.revision = operation.tx.next_revision();
    after.own_revision = operation.shown_revision(before.own_revision);
    after.updated_at = operation.now;
    after
}

fn parse_plan(catalog: &Catalog, plan: Option<&str>) -> Result<Option<String>, Refusal> {
    match plan.filter(|plan| !plan.is_empty()) {
        None if catalog.plans().is_empty() => Ok(None),
        None => Err(Refusal::invalid("plan", Problem::Required)),
        Some(plan) => match catalog.plan(plan) {
            Some(found) => Ok(Some(found.id.clone())),
            None => {
                let known = catalog.plans().iter().map(|plan| plan.id.clone()).collect();
                let problem = Problem::UnknownPlan { plan: plan.to_owned(), known };
                Err(Refusal::invalid("plan", problem))
            }
        },
    }
}
