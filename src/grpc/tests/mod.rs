//! The front as callers see it, without sockets.

mod answers;
mod bulk;
mod check_stream;
mod client;
mod edge;
mod parsing;
mod requests;
mod statuses;
mod wire;
mod writes;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use super::pb::tenant_service_server::TenantService;
use super::{AuthzApi, MemberApi, RoleApi, TenantApi, pb};
use crate::domain::catalog::{Catalog, shipped};
use crate::service::caller::Caller;
use crate::service::decide::Decisions;
use crate::service::members::Members;
use crate::service::roles::Roles;
use crate::service::seal::Seal;
use crate::service::tenants::Tenants;
use crate::service::token::Tokens;
use crate::service::watch::{WatchLimits, Watches};
use crate::store::{OpenOptions, SqlStore};

/// The services over a database of their own.
struct Apis {
    authz: AuthzApi<SqlStore>,
    roles: RoleApi,
    tenants: TenantApi,
    members: MemberApi,
    store: SqlStore,
    _directory: tempfile::TempDir,
}

impl Apis {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rolegate.db");
        let options = OpenOptions::new(format!("sqlite://{}", file.display()));
        let store = SqlStore::open(&options).await.unwrap();
        for source in shipped() {
            store.register(Arc::new(Catalog::parse(source).unwrap()));
        }
        let (tokens, seal) =
            (Tokens::new(store.identity()), Seal::new(store.identity().signing_key));
        let roles = Roles::new(store.clone(), tokens.clone(), seal.clone());
        let decisions = Decisions::new(Arc::new(store.clone()), tokens.clone());
        let watches = Watches::new(store.clone(), tokens.clone(), WatchLimits::default());
        tokio::spawn(watches.clone().run());
        Apis {
            authz: AuthzApi::new(decisions, roles.clone(), watches),
            roles: RoleApi::new(roles),
            tenants: TenantApi::new(Tenants::new(store.clone(), tokens.clone(), seal.clone())),
            members: MemberApi::new(Members::new(store.clone(), tokens, seal)),
            store,
            _directory: directory,
        }
    }
}

/// Makes a tenant with one owner.
async fn tenant(apis: &Apis, id: &str, catalog: &str) {
    let request = pb::CreateTenantRequest {
        tenant_id: id.into(),
        catalog_id: catalog.into(),
        owner_member_id: "owner".into(),
        plan: if catalog == "oqupie" { "enterprise".into() } else { String::new() },
        ..Default::default()
    };
    apis.tenants.create_tenant(of_caller(request)).await.unwrap();
}

/// A request of somebody who may call.
fn of_caller<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::new(Caller::development()));
    request
}

/// What the one `ErrorInfo` of a refusal says.
#[track_caller]
fn reason<T>(result: Result<Response<T>, Status>) -> String {
    let Err(status) = result else { panic!("it was not refused") };
    status.get_details_error_info().unwrap().reason
}

/// The violations of a refusal, each as `field REASON`.
#[track_caller]
fn violations<T>(result: Result<Response<T>, Status>) -> Vec<String> {
    let Err(status) = result else { panic!("it was not refused") };
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("{status:?}"));
    let violations = details.field_violations.into_iter();
    violations.map(|violation| format!("{} {}", violation.field, violation.reason)).collect()
}
