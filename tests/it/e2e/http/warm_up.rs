//! A server that loads tenants before it says that it is ready.

use rolegate::grpc::pb;
use sqlx::{Connection as _, Executor as _};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::super::desk::{Fresh, YES, ask, make_member, make_tenant};
use super::super::fleet::migrate;
use super::super::process::{Clients, Server};
use super::health::until_ready_is;
use super::{get, scrape, start};

/// Misses of members and of roles that these first questions make: one member with a custom role, one
/// with a default one.
async fn misses_of_first_checks(server: &Server, admin: &str, tenant: &str) -> (f64, f64) {
    until_ready_is(admin, 200).await;
    let misses = async || {
        let measured = scrape(admin).await;
        let of = |kind| measured.value("rolegate_cache_misses_total", &[("kind", kind)]);
        (of("member"), of("role"))
    };
    let before = misses().await;
    let mut clients = Clients::connect(server).await;
    let members = if tenant == "demo-oqupie" { ["nina", "alice"] } else { ["tina", "ula"] };
    for member in members {
        let check = pb::CheckRequest {
            tenant_id: tenant.into(),
            member_id: member.into(),
            permission: if tenant == "demo-oqupie" { "ticket.work" } else { "chat.view" }.into(),
            ..Default::default()
        };
        clients.authz.check(check).await.unwrap();
    }
    let after = misses().await;
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn first_checks_of_a_warm_server_find_everything_cached() {
    let directory = tempfile::tempdir().unwrap();
    drop(start(directory.path(), &["--demo"]));
    let (server, admin) = start(directory.path(), &[]);
    assert_eq!(misses_of_first_checks(&server, &admin, "demo-oqupie").await, (2.0, 1.0));
    drop(server);

    let (server, admin) = start(directory.path(), &["--warm-up-tenants", "5"]);
    for tenant in ["demo-oqupie", "demo-qpien"] {
        assert_eq!(misses_of_first_checks(&server, &admin, tenant).await, (0.0, 0.0), "{tenant}");
    }
    let log = server.log();
    let told = log.lines().find(|line| line.contains("\"warmed up\"")).unwrap();
    assert!(told.contains("\"tenants\":2") && told.contains("\"members\":22"), "{told}");
    drop(server);

    // One has a member more than the other.
    let (server, _) = start(directory.path(), &[]);
    let more = pb::CreateMemberRequest {
        tenant_id: "demo-qpien".into(),
        member_id: "one-more".into(),
        ..Default::default()
    };
    Clients::connect(&server).await.members.create_member(more).await.unwrap();
    drop(server);
    let (server, admin) = start(directory.path(), &["--warm-up-tenants", "1"]);
    assert_eq!(misses_of_first_checks(&server, &admin, "demo-qpien").await, (0.0, 0.0));
    assert_eq!(misses_of_first_checks(&server, &admin, "demo-oqupie").await, (2.0, 1.0));
}

#[tokio::test]
async fn a_warm_up_that_takes_too_long_is_given_up() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = start(directory.path(), &["--database-url", &url]);
    let clients = Clients::connect(&server).await;
    make_tenant(&clients, "acme").await;
    make_member(&clients, "acme", "kim").await.unwrap();
    drop(server);

    // Members cannot be read while this holds them.
    let mut holder = cluster.admin(&database).await;
    holder.execute("BEGIN; LOCK TABLE members IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let warm = ["--database-url", &url, "--warm-up-tenants", "1", "--warm-up-timeout", "3"];
    let (server, admin) = start(directory.path(), &warm);
    let ready = get(&admin, "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "starting\n"));
    let mut health = HealthClient::new(server.channel().await);
    let status = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(status.into_inner().status(), ServingStatus::NotServing);

    until_ready_is(&admin, 200).await;
    server.log_with("it took longer than --warm-up-timeout").await;
    let status = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(status.into_inner().status(), ServingStatus::Serving);
    holder.execute("ROLLBACK").await.unwrap();
    holder.close().await.unwrap();
    let clients = Clients::connect(&server).await;
    assert_eq!(ask(&clients, "acme", "kim", Fresh::Any).await.unwrap(), YES);
}
