//! The admin port: health through a server's life, and metrics that count what was done and name
//! nobody.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use rolegate::grpc::pb;
use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::exposition::{Exposition, labels};
use super::process::{Clients, Server, rolegate, signal};

struct Reply {
    status: u16,
    head: String,
    body: String,
}

async fn request(address: &str, method: &str, path: &str) -> Reply {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), exchange).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn get(address: &str, path: &str) -> Reply {
    request(address, "GET", path).await
}

async fn metrics(address: &str) -> Exposition {
    let reply = get(address, "/metrics").await;
    assert_eq!(reply.status, 200);
    Exposition::parse(&reply.body)
}

fn start(directory: &Path, more: &[&str]) -> (Server, String) {
    let arguments: Vec<_> = ["--admin-addr", "127.0.0.1:0"].iter().chain(more).copied().collect();
    let server = Server::start(directory, &arguments);
    let admin = server.admin.clone().unwrap();
    (server, admin)
}

/// The exit code of `rolegate health`, and what it says.
fn health(address: &str) -> (Option<i32>, String) {
    let output = rolegate(Path::new("/"), &["health", "--admin-addr", address]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn each_path_answers_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    for (path, body) in [("/livez", "alive\n"), ("/readyz", "ready\n"), ("/readyz?full", "ready\n")]
    {
        let reply = get(&admin, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, body), "{path}");
        assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
    }
    let version = get(&admin, "/version").await;
    assert_eq!(version.status, 200);
    let version: serde_json::Value = serde_json::from_str(&version.body).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["rustc"].as_str().unwrap().starts_with("1."), "{version}");
    assert!(version["schema"].as_str().unwrap().starts_with('m'), "{version}");
    assert!(version.get("commit").is_some(), "{version}");
    for path in ["/", "/metrics/", "/livez/x", "/Livez", "/../livez", "/debug/pprof"] {
        assert_eq!(get(&admin, path).await.status, 404, "{path}");
        assert_eq!(request(&admin, "POST", path).await.status, 404, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let reply = request(&admin, method, path).await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert!(reply.head.contains("allow: get, head"), "{}", reply.head);
        }
        let head = request(&admin, "HEAD", path).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(health(&admin), (Some(0), String::new()));
    let everywhere = admin.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(health(&everywhere), (Some(0), String::new()));
}

#[tokio::test]
async fn a_server_that_is_starting_is_alive_and_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    drop(Server::start(directory.path(), &[]));
    // Somebody else writes the database, so that the start has to wait.
    let url = format!("sqlite:{}", directory.path().join("rolegate.db").display());
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let holder = Database::connect(options).await.unwrap();
    holder.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap().to_string();
    drop(free);
    let path = directory.path().to_owned();
    let address = admin.clone();
    let starting = std::thread::spawn(move || Server::start(&path, &["--admin-addr", &address]));
    while TcpStream::connect(&admin).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ready = get(&admin, "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "starting\n"));
    assert_eq!(get(&admin, "/livez").await.status, 200);
    assert_eq!(get(&admin, "/version").await.status, 200);
    let measured = metrics(&admin).await;
    assert!(measured.value("rolegate_start_time_seconds", &[]) > 1.7e9);
    assert!(measured.family("rolegate_decisions").is_empty());
    let (code, said) = health(&admin);
    assert_eq!(code, Some(1));
    assert!(said.contains("not ready: starting"), "{said}");

    holder.execute_unprepared("ROLLBACK").await.unwrap();
    holder.close().await.unwrap();
    let _server = starting.join().unwrap();
    assert_eq!(get(&admin, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_server_that_drains_is_alive_and_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (server, admin) = start(directory.path(), &["--drain-delay", "3"]);
    assert_eq!(get(&admin, "/readyz").await.status, 200);
    signal(server.id(), "TERM");
    let deadline = Instant::now() + Duration::from_secs(2);
    let reason = loop {
        let reply = get(&admin, "/readyz").await;
        if reply.status == 503 {
            break reply.body;
        }
        assert!(Instant::now() < deadline, "it is still ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(reason, "draining\n");
    assert_eq!(get(&admin, "/livez").await.status, 200);
    // Requests are still answered: whoever has not noticed yet loses nothing.
    let mut clients = Clients::connect(&server).await;
    let request = pb::ListTenantsRequest::default();
    clients.tenants.list_tenants(request).await.unwrap();
    let (code, said) = health(&admin);
    assert_eq!(code, Some(1));
    assert!(said.contains("draining"), "{said}");
    drop(clients);
    assert_eq!(server.terminate().await, Some(0));
    assert!(health(&admin).1.contains("cannot be asked"));
}

#[test]
fn an_admin_port_that_cannot_be_is_refused_and_none_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let refused = Server::try_start(directory.path(), &["--admin-addr", &taken]);
    let Err(refused) = refused else { panic!("it started") };
    assert_eq!(refused.code, Some(1));
    for text in [taken.as_str(), "is taken", "--admin-addr"] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    let refused = Server::try_start(directory.path(), &["--admin-addr", "localhost"]);
    let Err(refused) = refused else { panic!("it started") };
    assert!(refused.stderr.contains("`none`"), "{}", refused.stderr);
    let server = Server::start(directory.path(), &["--admin-addr", "none"]);
    assert_eq!(server.admin, None);
    let (code, said) = health("none");
    assert_eq!(code, Some(1));
    assert!(said.contains("--admin-addr"), "{said}");
}

/// As many connections as are served at a time, none of which says anything.
#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    let mut idle = Vec::new();
    for number in 0..80 {
        let mut stream = TcpStream::connect(&admin).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await.unwrap();
        }
        idle.push(stream);
    }
    assert_eq!(get(&admin, "/livez").await.status, 200);
    let huge = format!("/livez?{}", "x".repeat(64 << 10));
    let mut stream = TcpStream::connect(&admin).await.unwrap();
    stream.write_all(format!("GET {huge} HTTP/1.1\r\n\r\n").as_bytes()).await.ok();
    let mut answer = Vec::new();
    // It may be cut off before the answer is read.
    stream.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

fn check(tenant: &str, member: &str, permission: &str) -> pb::CheckRequest {
    pb::CheckRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        permission: permission.into(),
        ..Default::default()
    }
}

fn item(member: &str, permission: &str) -> pb::CheckItem {
    pb::CheckItem { member_id: member.into(), permission: permission.into(), resource: None }
}

fn ticket(id: &str, team: &str) -> pb::Resource {
    pb::Resource {
        id: id.into(),
        assignees: Some(pb::IdList { ids: vec![] }),
        teams: Some(pb::IdList { ids: vec![team.into()] }),
        ..Default::default()
    }
}

fn create_role(name: &str, request_id: &str, validate_only: bool) -> pb::CreateRoleRequest {
    pb::CreateRoleRequest {
        tenant_id: "demo-qpien".into(),
        name: name.into(),
        grants: vec![pb::Grant { permission: "chat.view".into(), scope: String::new() }],
        request_id: request_id.into(),
        validate_only,
        ..Default::default()
    }
}

/// Every kind of decision, write and end of a call, once or a known number of times.
async fn a_busy_day(server: &Server) {
    let mut clients = Clients::connect(server).await;
    let authz = &mut clients.authz;
    for _ in 0..3 {
        authz.check(check("demo-oqupie", "olivia", "ticket.delete")).await.unwrap();
    }
    for (member, permission) in [
        ("alice", "customer.view"),
        ("alice", "ticket.delete"),
        ("alice", "ticket.work"),
        ("arthur", "customer.view"),
        ("nobody-at-all", "customer.view"),
    ] {
        authz.check(check("demo-oqupie", member, permission)).await.unwrap();
    }
    authz.check(check("no-such-tenant", "alice", "ticket.work")).await.unwrap();
    let nonsense = authz.check(check("demo-oqupie", "alice", "ticket.fold")).await;
    assert_eq!(nonsense.unwrap_err().code(), tonic::Code::InvalidArgument);
    // Two allowed, one denied, one that is no question.
    let batch = pb::BatchCheckRequest {
        tenant_id: "demo-oqupie".into(),
        items: vec![
            item("olivia", "ticket.delete"),
            item("adam", "ticket.delete"),
            item("dan", "ticket.delete"),
            item("dan", "ticket.fold"),
        ],
        ..Default::default()
    };
    authz.batch_check(batch).await.unwrap();
    // Two in her team, one in another, one of which too little is said.
    let filter = pb::FilterResourcesRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        resources: vec![
            ticket("ticket-1", "billing"),
            ticket("ticket-2", "billing"),
            ticket("ticket-3", "technical"),
            pb::Resource { id: "ticket-4".into(), ..Default::default() },
        ],
        ..Default::default()
    };
    let filtered = authz.filter_resources(filter).await.unwrap().into_inner();
    assert_eq!(filtered.allowed_ids.len(), 2);

    let roles = &mut clients.roles;
    roles.create_role(create_role("Gardener", "once", false)).await.unwrap();
    roles.create_role(create_role("Gardener", "once", false)).await.unwrap();
    roles.create_role(create_role("Florist", "", true)).await.unwrap();
    let taken = roles.create_role(create_role("gardener", "", false)).await;
    assert_eq!(taken.unwrap_err().code(), tonic::Code::AlreadyExists);
    let same = pb::ChangePlanRequest {
        tenant_id: "demo-oqupie".into(),
        plan: "enterprise".into(),
        ..Default::default()
    };
    clients.tenants.change_plan(same).await.unwrap();

    // What no descriptor names.
    for path in ["/rolegate.v1.AuthzService/Nope", "/secret-of.demo-oqupie/olivia"] {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::CheckRequest, pb::CheckResponse>::default();
        let request = tonic::Request::new(check("demo-oqupie", "alice", "ticket.work"));
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented);
    }
}

#[tokio::test]
async fn metrics_count_what_was_done_and_name_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (server, admin) = start(directory.path(), &["--demo", "--cache-mib", "7"]);
    let before = metrics(&admin).await;
    a_busy_day(&server).await;

    // A call is counted once the server is done with it, which may be just after its client has
    // the answer. The unknown method is the last one.
    let unknown = labels(&[("method", "unknown"), ("code", "UNIMPLEMENTED")]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let after = loop {
        let after = metrics(&admin).await;
        let open: f64 = after.family("rolegate_rpcs_open").values().sum();
        if after.get("rolegate_rpcs_total", &unknown) == Some(2.0) && open == 0.0 {
            break after;
        }
        assert!(Instant::now() < deadline, "calls are not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };

    let decisions = |reason: &str| {
        let outcome = if reason.starts_with("granted") { "allowed" } else { "denied" };
        let labels = [("outcome", outcome), ("reason", reason)];
        let name = "rolegate_decisions_total";
        after.value(name, &labels) - before.value(name, &labels)
    };
    // Checks, items of the batch, candidates of the filter.
    for (reason, count) in [
        ("granted_by_role", 3.0 + 2.0 + 2.0),
        ("granted_to_everyone", 1.0),
        ("tenant_not_found", 1.0),
        ("member_not_found", 1.0),
        ("member_archived", 1.0),
        ("permission_not_granted", 1.0 + 1.0),
        ("out_of_scope", 1.0),
        ("resource_required", 1.0),
        ("resource_attribute_required", 1.0),
    ] {
        assert_eq!(decisions(reason), count, "{reason}");
    }
    let writes = |kind: &str, outcome: &str| {
        let labels = [("kind", kind), ("outcome", outcome)];
        let name = "rolegate_writes_total";
        after.value(name, &labels) - before.value(name, &labels)
    };
    for (kind, outcome, count) in [
        ("roles", "committed", 1.0),
        ("roles", "replayed", 1.0),
        ("roles", "trial", 1.0),
        ("roles", "abandoned", 1.0),
        ("roles", "failed", 0.0),
        ("tenants", "unchanged", 1.0),
        ("tenants", "committed", 0.0),
        ("members", "committed", 0.0),
    ] {
        assert_eq!(writes(kind, outcome), count, "{kind} {outcome}");
    }
    let rpcs = |method: &str, code: &str| {
        let labels = labels(&[("method", method), ("code", code)]);
        after.get("rolegate_rpcs_total", &labels)
    };
    assert_eq!(rpcs("rolegate.v1.AuthzService/Check", "OK"), Some(9.0));
    assert_eq!(rpcs("rolegate.v1.AuthzService/Check", "INVALID_ARGUMENT"), Some(1.0));
    assert_eq!(rpcs("rolegate.v1.AuthzService/Check", "CANCELLED"), None);
    assert_eq!(rpcs("rolegate.v1.AuthzService/BatchCheck", "OK"), Some(1.0));
    assert_eq!(rpcs("rolegate.v1.RoleService/CreateRole", "ALREADY_EXISTS"), Some(1.0));
    let check = [("method", "rolegate.v1.AuthzService/Check")];
    assert_eq!(after.value("rolegate_rpc_duration_seconds_count", &check), 10.0);
    assert!(after.value("rolegate_rpc_duration_seconds_sum", &check) > 0.0);

    let member = [("kind", "member")];
    assert!(after.value("rolegate_cache_hits_total", &member) > 0.0);
    assert!(after.value("rolegate_cache_misses_total", &member) > 0.0);
    assert_eq!(after.value("rolegate_cache_limit_bytes", &[]), f64::from(7 << 20));
    assert!(after.value("rolegate_cache_bytes", &[]) < f64::from(7 << 20));
    assert_eq!(after.value("rolegate_database_connections_limit", &[("pool", "write")]), 1.0);
    let readers: f64 = ["in_use", "idle"]
        .map(|state| {
            after.value("rolegate_database_connections", &[("pool", "read"), ("state", state)])
        })
        .iter()
        .sum();
    assert!(readers >= 1.0);
    assert_eq!(after.family("rolegate_build_info").values().copied().collect::<Vec<_>>(), [1.0]);

    // No id, name or other text of anybody's is in it, and labels are only these.
    let text = get(&admin, "/metrics").await.body;
    for id in [
        "demo",
        "oqupie",
        "qpien",
        "olivia",
        "alice",
        "nobody",
        "tenant-",
        "ticket",
        "billing",
        "ardener",
        "lorist",
        "secret",
        "fold",
        "Nope",
        "owner",
        "enterprise",
    ] {
        assert!(!text.contains(id), "{id} is in {text}");
    }
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("rolegate_build_info", ["commit", "rustc", "schema", "version"].as_slice()),
        ("rolegate_decisions", &["outcome", "reason"]),
        ("rolegate_writes", &["kind", "outcome"]),
        ("rolegate_rpcs", &["code", "method"]),
        ("rolegate_rpcs_open", &["method"]),
        ("rolegate_rpc_duration_seconds", &["le", "method"]),
        ("rolegate_cache_hits", &["kind"]),
        ("rolegate_cache_misses", &["kind"]),
        ("rolegate_database_connections", &["pool", "state"]),
        ("rolegate_database_connections_limit", &["pool"]),
    ]);
    for (family, labels) in after.labels() {
        let allowed = allowed.get(family.as_str()).copied().unwrap_or_default();
        assert!(
            labels.iter().all(|label| allowed.contains(&label.as_str())),
            "{family} has {labels:?}"
        );
    }
}

#[tokio::test]
async fn an_open_stream_is_seen_and_a_client_that_leaves_is_counted() {
    const WATCH: &str = "grpc.health.v1.Health/Watch";
    let directory = tempfile::tempdir().unwrap();
    let (server, admin) = start(directory.path(), &[]);
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut stream = health.watch(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let open = [("method", WATCH)];
    assert_eq!(metrics(&admin).await.value("rolegate_rpcs_open", &open), 1.0);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let measured = metrics(&admin).await;
        let cancelled = labels(&[("method", WATCH), ("code", "CANCELLED")]);
        if measured.get("rolegate_rpcs_total", &cancelled) == Some(1.0) {
            assert_eq!(measured.value("rolegate_rpcs_open", &open), 0.0);
            let count = measured.get("rolegate_rpc_duration_seconds_count", &labels(&open));
            assert_eq!(count, None, "a stream's length is no latency");
            break;
        }
        assert!(Instant::now() < deadline, "the stream is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
