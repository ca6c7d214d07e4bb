//! `TenantService`.

use tonic::{Request, Response, Status};

use super::accept::{read, read_as_caller, write};
use super::answer::answer;
use super::fields::Sound;
use super::pb::tenant_service_server::TenantService;
use super::{members, pb, show, values};
use crate::domain::ids::TenantId;
use crate::domain::refusal::Problem;
use crate::domain::tenant::{Tenant, TenantState};
use crate::service::Written;
use crate::service::move_catalog::{CatalogMoved, RoleCatalogChange};
use crate::service::page::Page;
use crate::service::roles::etag;
use crate::service::tenants::{NewTenant, PlanChanged, TenantCreated, Tenants};

const WIDENS_UNSEEN: &str = "must name the version whose widening accept_widening accepts: the newest \
    one may widen more than the one that was looked at. MoveCatalog with validate_only shows what a \
    version does";

/// Serves the administration of tenants.
#[derive(Debug, Clone)]
pub struct TenantApi {
    tenants: Tenants,
}

impl TenantApi {
    /// Serves these use cases.
    #[must_use]
    pub fn new(tenants: Tenants) -> Self {
        TenantApi { tenants }
    }
}

#[tonic::async_trait]
impl TenantService for TenantApi {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::CreateTenantRequest {
            tenant_id,
            catalog_id,
            catalog_version,
            plan,
            owner_member_id,
            owner_team_ids,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let catalog = fields.required("catalog_id", catalog_id);
        let owner = fields.id("owner_member_id", &owner_member_id);
        let owner_teams = fields.ids("owner_team_ids", &owner_team_ids);
        let (context, tenant, catalog, owner, owner_teams) =
            fields.all((context, tenant, catalog, owner, owner_teams))?;
        let version = version(catalog_version);
        let new = NewTenant { catalog, version, plan: values::given(plan), owner, owner_teams };

        let Written { value: TenantCreated { tenant, owner }, token } =
            self.tenants.create(context, &tenant, &new).await?;
        Ok(Response::new(pb::CreateTenantResponse {
            tenant: Some(show_tenant(tenant)),
            owner: Some(members::show_member(owner)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        let (mut fields, pb::GetTenantRequest { tenant_id, show_deleted }) = read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let (tenant,) = fields.all((tenant,))?;

        let tenant = self.tenants.get(&tenant, show_deleted).await?;
        Ok(Response::new(pb::GetTenantResponse { tenant: Some(show_tenant(tenant)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let (caller, message) = read_as_caller(request)?;
        let pb::ListTenantsRequest { page_size, page_token, show_deleted } = message;
        let page = values::page(page_size, page_token);

        let Page { items, next_token } = self.tenants.list(&caller, &page, show_deleted).await?;
        answer(pb::ListTenantsResponse {
            tenants: items.into_iter().map(show_tenant).collect(),
            next_page_token: next_token,
        })
    }

    async fn change_plan(
        &self,
        request: Request<pb::ChangePlanRequest>,
    ) -> Result<Response<pb::ChangePlanResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::ChangePlanRequest {
            tenant_id,
            plan,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let (context, tenant) = fields.all((context, tenant))?;
        let etag = values::given(etag);

        let Written { value: PlanChanged { tenant, custom_roles, limit }, token } =
            self.tenants.change_plan(context, &tenant, &plan, etag.as_deref()).await?;
        Ok(Response::new(pb::ChangePlanResponse {
            tenant: Some(show_tenant(tenant)),
            custom_role_count: show::count(custom_roles),
            custom_role_limit: limit,
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn move_catalog(
        &self,
        request: Request<pb::MoveCatalogRequest>,
    ) -> Result<Response<pb::MoveCatalogResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::MoveCatalogRequest {
            tenant_id,
            catalog_version,
            accept_widening,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let version = match version(catalog_version) {
            None if accept_widening => {
                let problem = Problem::Invalid(WIDENS_UNSEEN.to_owned());
                fields.wrong("catalog_version", problem)
            }
            version => Some(version),
        };
        let (context, tenant, version) = fields.all((context, tenant, version))?;
        let etag = values::given(etag);

        let Written { value: CatalogMoved { tenant, changes }, token } = self
            .tenants
            .move_catalog(context, &tenant, version, accept_widening, etag.as_deref())
            .await?;
        let change =
            |RoleCatalogChange { role, former, name, permissions }| pb::RoleCatalogChange {
                role_id: role.map(|role| role.to_string()).unwrap_or_default(),
                name,
                permissions: show::deltas(permissions),
                former_role_id: former.map(|role| role.to_string()).unwrap_or_default(),
            };
        Ok(Response::new(pb::MoveCatalogResponse {
            tenant: Some(show_tenant(tenant)),
            changes: changes.into_iter().map(change).collect(),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn delete_tenant(
        &self,
        request: Request<pb::DeleteTenantRequest>,
    ) -> Result<Response<pb::DeleteTenantResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::DeleteTenantRequest {
            tenant_id,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let (context, tenant) = fields.all((context, tenant))?;
        let etag = values::given(etag);

        let Written { value, token } =
            self.tenants.delete(context, &tenant, etag.as_deref()).await?;
        Ok(Response::new(pb::DeleteTenantResponse {
            tenant: Some(show_tenant(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn undelete_tenant(
        &self,
        request: Request<pb::UndeleteTenantRequest>,
    ) -> Result<Response<pb::UndeleteTenantResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::UndeleteTenantRequest {
            tenant_id,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let (context, tenant) = fields.all((context, tenant))?;
        let etag = values::given(etag);

        let Written { value, token } =
            self.tenants.undelete(context, &tenant, etag.as_deref()).await?;
        Ok(Response::new(pb::UndeleteTenantResponse {
            tenant: Some(show_tenant(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn purge_tenant(
        &self,
        request: Request<pb::PurgeTenantRequest>,
    ) -> Result<Response<pb::PurgeTenantResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::PurgeTenantRequest { tenant_id, actor_id: _, request_id: _, validate_only: _ } =
            message;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let (context, tenant) = fields.all((context, tenant))?;

        // There is no state left that a token could name.
        let Written { value: (), token: _ } = self.tenants.purge(context, &tenant).await?;
        Ok(Response::new(pb::PurgeTenantResponse {}))
    }
}

/// A catalog version; 0: the newest.
fn version(version: u32) -> Option<u32> {
    Some(version).filter(|version| *version != 0)
}

fn show_tenant(tenant: Tenant) -> pb::Tenant {
    let Tenant {
        id,
        catalog,
        plan,
        state,
        revision: _,
        own_revision,
        created_at,
        updated_at,
        purge_at,
    } = tenant;
    let state = match state {
        TenantState::Active => pb::TenantState::Active,
        // A purged tenant is never shown; if it were, it would not be in use.
        TenantState::Deleted | TenantState::Purged => pb::TenantState::Deleted,
    };
    pb::Tenant {
        id: id.to_string(),
        catalog: Some(show::catalog(&catalog)),
        plan: plan.unwrap_or_default(),
        state: state.into(),
        etag: etag(own_revision),
        create_time: Some(show::time(created_at)),
        update_time: Some(show::time(updated_at)),
        purge_time: purge_at.map(show::time),
    }
}
