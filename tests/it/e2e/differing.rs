//! Replicas that are not all alike: another catalog file, an older program.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;

use super::fleet::{Fleet, migrate};
use super::history::model::{CATALOG, second_catalog};
use super::process::{Clients, Server};

const BOUND: Duration = Duration::from_secs(2);

async fn may(clients: &Clients, tenant: &str, permission: &str) -> bool {
    let request = pb::CheckRequest {
        tenant_id: tenant.into(),
        member_id: "kim".into(),
        permission: permission.into(),
        ..Default::default()
    };
    let answer = clients.authz.clone().check(request).await.unwrap().into_inner();
    answer.decision.unwrap().verdict() == pb::Verdict::Allowed
}

/// A tenant of the custom catalog, with one clerk.
async fn make_tenant(clients: &Clients, tenant: &str) {
    let request = pb::CreateTenantRequest {
        tenant_id: tenant.into(),
        catalog_id: "history".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.clone().create_tenant(request).await.unwrap();
    let request = pb::CreateMemberRequest {
        tenant_id: tenant.into(),
        member_id: "kim".into(),
        role_ids: vec!["clerk".into()],
        ..Default::default()
    };
    clients.members.clone().create_member(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_other_catalog_files_decide_alike_or_do_not_start() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let url = cluster.url(&cluster.create_database());
    migrate(&url, &[]);
    let first = Fleet::start(&[&url], &[CATALOG], &[]).await;
    let one = &first.clients[0];
    make_tenant(one, "acme").await;
    assert!(!may(one, "acme", "report.view").await);

    // The same version with other content: two replicas would hold two truths.
    let widened = second_catalog().replace("version = 2", "version = 1");
    let path = first.directory().join("widened.toml");
    std::fs::write(&path, widened).unwrap();
    let path = path.display().to_string();
    let refused =
        Server::try_start(first.directory(), &["--database-url", &url, "--catalog", &path]);
    let Err(refused) = refused else { panic!("it started") };
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for hint in ["history@1", "widened.toml", "another content", "higher version"] {
        assert!(refused.stderr.contains(hint), "{hint}: {}", refused.stderr);
    }

    // None at all: the database's copy decides, also for a new tenant.
    let without = Fleet::start(&[&url], &[], &[]).await;
    let two = &without.clients[0];
    assert!(!may(two, "acme", "report.view").await);
    make_tenant(two, "globex").await;
    assert!(!may(one, "globex", "report.view").await);

    // A newer one: a tenant that moves to it is decided by it on all of them, also on those that
    // were started before it was known.
    let newer = Fleet::start(&[&url], &[&second_catalog()], &[]).await;
    let three = &newer.clients[0];
    assert!(!may(three, "acme", "report.view").await, "nobody has moved");
    let request = pb::MoveCatalogRequest {
        tenant_id: "acme".into(),
        catalog_version: 2,
        accept_widening: true,
        ..Default::default()
    };
    three.tenants.clone().move_catalog(request).await.unwrap();
    let moved = Instant::now();
    for clients in [one, two, three] {
        loop {
            let asked = moved.elapsed();
            if may(clients, "acme", "report.view").await {
                break;
            }
            assert!(asked <= BOUND, "it goes on with the old catalog");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(!may(clients, "globex", "report.view").await);
    }
    // With its older file, a replica starts as ever, and decides by what the database has.
    let again = Fleet::start(&[&url], &[CATALOG], &[]).await;
    assert!(may(&again.clients[0], "acme", "report.view").await);
    assert!(!may(&again.clients[0], "globex", "report.view").await);
}

/// A newer program has migrated: this one goes on if the schema says that it can, and is told what to
/// do if not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_program_serves_a_newer_schema_only_if_that_allows_it() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let old = Fleet::start(&[&url], &[CATALOG], &[]).await;
    make_tenant(&old.clients[0], "acme").await;

    cluster.sql(&database, "INSERT INTO seaql_migrations VALUES ('m9999_future', 0)");
    // Those that run go on, and those that are started join them.
    let joining = Fleet::start(&[&url], &[CATALOG], &[]).await;
    for clients in [&old.clients[0], &joining.clients[0]] {
        assert!(!may(clients, "acme", "report.view").await);
    }
    make_tenant(&joining.clients[0], "globex").await;

    cluster.sql(&database, "UPDATE meta SET value = '9999' WHERE key = 'oldest_reader'");
    let refused = Server::try_start(old.directory(), &["--database-url", &url]);
    let Err(refused) = refused else { panic!("it started") };
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for hint in ["m9999_future", "newer version of Rolegate", "upgrade this program"] {
        assert!(refused.stderr.contains(hint), "{hint}: {}", refused.stderr);
    }
}
