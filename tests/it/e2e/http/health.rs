//! Alive and ready, from the start of a server to its end.

use std::net::TcpListener;
use std::time::Duration;

use rolegate::grpc::pb;
use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::super::process::{Clients, Server, output, signal};
use super::{get, health, scrape, start};
use crate::timing::limit;

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
    // First it says nothing but that it is starting.
    loop {
        let ready = get(&admin, "/readyz").await;
        assert_eq!(ready.status, 503);
        match ready.body.as_str() {
            "starting\n" => tokio::time::sleep(Duration::from_millis(10)).await,
            said => break assert_eq!(said, "starting: the database is not open yet\n"),
        }
    }
    assert_eq!(get(&admin, "/livez").await.status, 200);
    assert_eq!(get(&admin, "/version").await.status, 200);
    let measured = scrape(&admin).await;
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
    let deadline = Instant::now() + limit(Duration::from_secs(2));
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

/// Waits until `/readyz` answers so, and gives back what it says.
pub(super) async fn until_ready_is(admin: &str, status: u16) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let reply = get(admin, "/readyz").await;
        if reply.status == status {
            return reply.body;
        }
        assert!(Instant::now() < deadline, "it still says {}", reply.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_its_database_a_server_is_alive_and_ready_for_the_grace_only() {
    let Some(cluster) = crate::postgres::dedicated() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.create_database());
    let migrate = ["migrate", "--database-url", &url];
    assert!(output(directory.path(), &migrate).status.success());
    let limits = ["--max-staleness-ms", "500", "--outage-grace", "4"];
    let database = ["--database-url", &url];
    let (server, admin) = start(directory.path(), &[database.as_slice(), &limits].concat());
    let standing = |standing| [("standing", standing)];
    let measured = scrape(&admin).await;
    assert_eq!(measured.value("rolegate_standing", &standing("current")), 1.0);
    let pool = [("pool", "follow"), ("state", "idle")];
    assert!(
        measured.get("rolegate_database_connections", &super::exposition::labels(&pool)).is_some()
    );

    cluster.kill();
    let deadline = Instant::now() + limit(Duration::from_secs(3));
    while scrape(&admin).await.value("rolegate_standing", &standing("outage")) < 1.0 {
        assert!(Instant::now() < deadline, "the outage is not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(&admin, "/readyz").await.status, 200, "within the grace");

    let said = until_ready_is(&admin, 503).await;
    assert_eq!(said, "the database does not answer\n");
    assert_eq!(get(&admin, "/livez").await.status, 200);
    let measured = scrape(&admin).await;
    assert_eq!(measured.value("rolegate_standing", &standing("lost")), 1.0);
    assert!(measured.value("rolegate_staleness_seconds", &[]) > 4.0);
    let mut grpc = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: "rolegate.v1.AuthzService".into() };
    let status = grpc.check(request).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);

    cluster.restart();
    until_ready_is(&admin, 200).await;
    assert_eq!(scrape(&admin).await.value("rolegate_standing", &standing("current")), 1.0);
}
