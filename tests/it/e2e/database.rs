//! What operators meet with PostgreSQL: a server that is not there yet, a user without rights, a full
//! disk, a read-only database, no connection left. Each is told as what it is, and once a second.

use std::time::{Duration, Instant};

use rolegate::grpc::pb;
use tonic::Code;

use super::http::page;
use super::process::{Clients, Server, output};
use crate::postgres::{self, Cluster};

/// What the manual says that these two users need.
const RIGHTS: &str = "GRANT USAGE ON SCHEMA public TO serves; \
     ALTER DEFAULT PRIVILEGES FOR ROLE migrates IN SCHEMA public \
     GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO serves";

fn url(cluster: &Cluster, user: &str) -> String {
    format!("postgres://{user}@127.0.0.1:{}/authz?sslmode=disable", cluster.port())
}

/// A server of its own, migrated by one user, for another one to serve from.
fn migrated() -> Option<(Cluster, tempfile::TempDir)> {
    let cluster = postgres::dedicated()?;
    cluster.sql("postgres", "CREATE ROLE migrates LOGIN; CREATE ROLE serves LOGIN");
    cluster.sql("postgres", "CREATE DATABASE authz OWNER migrates");
    cluster.sql("authz", RIGHTS);
    let directory = tempfile::tempdir().unwrap();
    let url = url(&cluster, "migrates");
    let migrated = output(directory.path(), &["migrate", "--database-url", &url]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    Some((cluster, directory))
}

fn new_member(id: &str) -> pb::CreateMemberRequest {
    pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: id.into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    }
}

async fn make_tenant(clients: &mut Clients) {
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olivia".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(request).await.unwrap();
}

/// Writes until the log and the health endpoint tell of this trouble.
async fn told(server: &Server, clients: &mut Clients, log: &str, probe: &str) {
    let admin = server.admin.clone().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let refused = clients.members.create_member(new_member("kim")).await;
        let code = refused.as_ref().err().map(tonic::Status::code);
        let ready = page(&admin, "/readyz").await;
        if code == Some(Code::Unavailable) && server.log().contains(log) && ready.contains(probe) {
            // It goes on deciding, for as long as it may without a look at the database.
            assert!(ready.contains("ready, but") || ready.trim() == probe, "{ready}");
            return;
        }
        assert!(Instant::now() < deadline, "{log}: {refused:?}, {ready}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_database_is_told_as_what_it_is() {
    let Some((cluster, directory)) = migrated() else { return };
    let url = url(&cluster, "serves");
    let arguments = ["--database-url", &url, "--admin-addr", "127.0.0.1:0"];
    let server = Server::start(directory.path(), &arguments);
    let mut clients = Clients::connect(&server).await;
    // With the rights of the manual and no others.
    make_tenant(&mut clients).await;
    clients.members.create_member(new_member("lee")).await.unwrap();
    let archive = pb::ArchiveMemberRequest {
        tenant_id: "acme".into(),
        member_id: "lee".into(),
        ..Default::default()
    };
    clients.members.archive_member(archive).await.unwrap();
    let delete = pb::DeleteMemberRequest {
        tenant_id: "acme".into(),
        member_id: "lee".into(),
        ..Default::default()
    };
    clients.members.delete_member(delete).await.unwrap();

    cluster.sql("authz", "REVOKE INSERT ON members FROM serves");
    told(&server, &mut clients, "the database user lacks a right", "lacks a right").await;
    let Err(refused) = Server::try_start(directory.path(), &arguments) else { panic!("started") };
    for word in ["INSERT ON members", "GRANT", "docs/operations/deploy.md"] {
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    cluster.sql("authz", "GRANT INSERT ON members TO serves");

    let mut admin = cluster.admin("authz").await;
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
                $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END$$";
    sqlx::Executor::execute(&mut admin, full).await.unwrap();
    cluster.sql(
        "authz",
        "CREATE TRIGGER full_disk BEFORE INSERT ON members FOR EACH ROW EXECUTE FUNCTION full_disk()",
    );
    let said = "the disk of the database server is full";
    told(&server, &mut clients, said, said).await;
    cluster.sql("authz", "DROP TRIGGER full_disk ON members");

    let hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'serves'";
    cluster.sql("authz", "ALTER DATABASE authz SET default_transaction_read_only = on");
    cluster.sql("postgres", hang_up);
    told(&server, &mut clients, "the database takes no writes", "the database is read-only").await;
    cluster.sql("postgres", "ALTER DATABASE authz RESET default_transaction_read_only");

    cluster.sql("postgres", "ALTER ROLE serves CONNECTION LIMIT 0");
    cluster.sql("postgres", hang_up);
    let said = "the database server takes no more connections";
    told(&server, &mut clients, said, said).await;
    let quick = [&arguments[..], &["--database-connect-timeout-ms", "1500"]].concat();
    let Err(refused) = Server::try_start(directory.path(), &quick) else { panic!("started") };
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    // Nothing of PostgreSQL's own source code.
    for text in [server.log(), refused.stderr] {
        assert!(!text.contains(" at line "), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_a_second_whatever_is_asked() {
    let Some((cluster, directory)) = migrated() else { return };
    let server = Server::start(directory.path(), &["--database-url", &url(&cluster, "serves")]);
    let mut clients = Clients::connect(&server).await;
    make_tenant(&mut clients).await;
    cluster.stop();
    let start = Instant::now();
    for _ in 0..300 {
        let refused = clients.members.create_member(new_member("kim")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("the database is not available\"")).count();
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} s");
    let more: Vec<_> =
        log.lines().filter(|line| line.contains("the database is not available\"")).collect();
    assert!(more.iter().all(|line| line.contains("\"more\":")), "{more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_for_its_database_and_can_migrate_it() {
    let Some(cluster) = postgres::dedicated() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.create_database());
    cluster.stop();
    let quick = ["--database-url", &url, "--database-connect-timeout-ms", "1"];
    let Err(refused) = Server::try_start(directory.path(), &quick) else { panic!("started") };
    assert!(refused.stderr.contains("cannot be reached"), "{}", refused.stderr);
    let server = std::thread::scope(|scope| {
        let starting =
            scope.spawn(|| Server::start(directory.path(), &["--database-url", &url, "--migrate"]));
        // Long enough for it to find nobody there.
        std::thread::sleep(Duration::from_secs(4));
        cluster.restart();
        starting.join().unwrap()
    });
    let log = server.log();
    let waited =
        log.lines().filter(|line| line.contains("waiting for the database server")).count();
    assert!(waited >= 2, "{log}");
    make_tenant(&mut Clients::connect(&server).await).await;
    assert_eq!(server.terminate().await, Some(0));
}
