//! The place where everything happens, and what is in the database: made through the public API.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rolegate::grpc::pb;
use rolegate::grpc::pb::member_service_client::MemberServiceClient;
use rolegate::grpc::pb::role_service_client::RoleServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::servers::Server;
use rolegate_bench::Failure;
use rolegate_bench::workload::{self, CATALOG, People, Role};

/// The most members in one batch.
const BATCH: usize = 10_000;

/// A directory with a catalog, a callers file, certificates and a database. It goes when this is
/// dropped.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    /// The service's program.
    program: PathBuf,
    /// The default echo's.
    pub(crate) plain: PathBuf,
    /// The caller's token.
    pub(crate) token: String,
}

impl Place {
    /// Below the build's directory, so on a disk and not in memory.
    pub(crate) fn new(program: Option<&Path>, plain: Option<&Path>) -> Result<Self, Failure> {
        let bench = std::env::current_exe()?;
        let near = bench.parent().ok_or("the program is nowhere")?;
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(near)?;
        let or_this = |program: Option<&Path>| -> Result<PathBuf, Failure> {
            Ok(program.map(Path::canonicalize).transpose()?.unwrap_or_else(|| bench.clone()))
        };
        let (program, plain) = (or_this(program)?, or_this(plain)?);
        let place = Place { directory, program, plain, token: String::new() };
        std::fs::write(place.path().join("catalog.toml"), workload::catalog())?;
        let can = "check,read,admin";
        let told = place.rolegate(&["token", "new", "--name", "bench", "--capabilities", can])?;
        let (token, caller) = told.split_once("\n\n").ok_or("no token was made")?;
        std::fs::write(place.path().join("callers.toml"), caller)?;
        place.rolegate(&["dev-certs", "--out", "certs"])?;
        Ok(Place { token: token.trim().to_owned(), ..place })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The authority that signed the server's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path().join("certs/ca.pem")
    }

    fn rolegate(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.program);
        let output = command.arg0("rolegate").args(arguments).current_dir(self.path()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A server on a database of this place.
    pub(crate) fn serve(
        &self,
        name: &str,
        database: &str,
        more: &[&str],
    ) -> Result<Server, Failure> {
        let database = format!("sqlite:{database}");
        let mut arguments = vec!["--database-url", &database];
        arguments.extend_from_slice(&["--callers", "callers.toml", "--catalog", "catalog.toml"]);
        arguments.extend_from_slice(more);
        Server::rolegate(&self.program, self.path(), name, &arguments)
    }

    /// A server with TLS.
    pub(crate) fn serve_tls(&self, name: &str, database: &str) -> Result<Server, Failure> {
        let tls = ["--tls-cert", "certs/server.pem", "--tls-key", "certs/server.key"];
        self.serve(name, database, &tls)
    }
}

/// Says who calls.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Api = InterceptedService<Channel, Bearer>;

/// Clients to set things up with.
pub(crate) struct Clients {
    tenants: TenantServiceClient<Api>,
    roles: RoleServiceClient<Api>,
    members: MemberServiceClient<Api>,
}

impl Clients {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Result<Self, Failure> {
        let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
        let bearer = Bearer(format!("Bearer {token}").parse()?);
        let api = InterceptedService::new(channel, bearer);
        Ok(Clients {
            tenants: TenantServiceClient::new(api.clone()),
            roles: RoleServiceClient::new(api.clone()),
            members: MemberServiceClient::new(api).max_encoding_message_size(16 << 20),
        })
    }

    /// Makes tenants with their custom role and their members.
    pub(crate) async fn make(&mut self, people: People) -> Result<(), Failure> {
        for tenant in people.first..people.first + people.tenants {
            self.make_tenant(tenant).await?;
            let custom = self.make_role(tenant, "Desk").await?;
            let role = |member| match Role::of(member) {
                Role::Custom => custom.clone(),
                default => default.default_id().to_owned(),
            };
            self.make_members(tenant, people.members, role).await?;
        }
        Ok(())
    }

    pub(crate) async fn make_tenant(&mut self, tenant: usize) -> Result<(), Failure> {
        let request = pb::CreateTenantRequest {
            tenant_id: workload::tenant(tenant),
            catalog_id: CATALOG.to_owned(),
            owner_member_id: workload::id(5, tenant, 0),
            ..Default::default()
        };
        self.tenants.create_tenant(request).await?;
        Ok(())
    }

    /// Makes a custom role, and gives its id.
    pub(crate) async fn make_role(&mut self, tenant: usize, name: &str) -> Result<String, Failure> {
        let grants = Role::Custom.grants().map(|(permission, scope)| pb::Grant {
            permission,
            scope: scope.unwrap_or_default().to_owned(),
        });
        let request = pb::CreateRoleRequest {
            tenant_id: workload::tenant(tenant),
            name: name.to_owned(),
            grants: grants.collect(),
            ..Default::default()
        };
        let made = self.roles.create_role(request).await?.into_inner();
        Ok(made.role.ok_or("no role was made")?.id)
    }

    /// Makes members, each in its teams and one role.
    pub(crate) async fn make_members(
        &mut self,
        tenant: usize,
        members: usize,
        role: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        for first in (0..members).step_by(BATCH) {
            let upsert = |member| pb::MemberUpsert {
                member_id: workload::member(tenant, member),
                role_ids: Some(vec![role(member)].into()),
                team_ids: Some(workload::teams(tenant, member).into()),
                status: pb::MemberStatus::Active.into(),
                ..Default::default()
            };
            let request = pb::BatchUpsertMembersRequest {
                tenant_id: workload::tenant(tenant),
                members: (first..members.min(first + BATCH)).map(upsert).collect(),
                mode: pb::BatchMode::AllOrNothing.into(),
                ..Default::default()
            };
            self.members.batch_upsert_members(request).await?;
        }
        Ok(())
    }
}
