//! PostgreSQL that hangs, is too busy, or goes away: whoever asks is told in time, and all is well
//! again by itself.

use std::future::Future;
use std::time::Duration;

use rolegate::domain::catalog::CatalogRef;
use rolegate::store::{
    ChangePosition, MemberFilter, OpenOptions, RecordOutcome, RecordedCatalog, SqlStore, StoreError,
};
use sqlx::{Executor as _, Row as _};
use tokio::time::timeout;

use super::backend::{commit, make_tenant, member, postgres_options, tenant_id};
use super::following::drain;
use super::server::{opened, recovers, run};
use crate::postgres;
use crate::timing;

/// What an error must be, and by when.
async fn unavailable_within<T: std::fmt::Debug>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, StoreError>>,
) {
    let outcome = timeout(timing::limit(limit), attempt).await;
    let Ok(Err(StoreError::Unavailable(said))) = outcome else { panic!("{outcome:?}") };
    for secret in ["SELECT", "127.0.0.1", "rolegate@", "acme"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_connection_is_killed_comes_back() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    let tenant = make_tenant(&store, "acme").await;
    let mut listener = store.listen();
    timeout(Duration::from_secs(60), listener.next()).await.expect("listening begins");
    let mut admin = cluster.admin(&database).await;
    for _ in 0..3 {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        let killed: i64 = admin.fetch_one(sql).await.unwrap().get(0);
        assert_eq!(killed, 1);
        timeout(Duration::from_secs(60), listener.next()).await.expect("it may have missed some");
        commit(store.write(&tenant).await.unwrap()).await;
        timeout(Duration::from_secs(60), listener.next()).await.expect("it listens again");
    }
    store.close().await;
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'rolegate'";
    recovers(Duration::from_secs(10), async || {
        let mut admin = cluster.admin(&database).await;
        let left: i64 = admin.fetch_one(sql).await.unwrap().get(0);
        if left == 0 { Ok(()) } else { Err(StoreError::Unavailable(format!("{left} left"))) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_hangs_ends_and_leaves_the_others_alone() {
    let quick = Duration::from_millis(400);
    let change = |options| OpenOptions { statement_timeout: quick, ..options };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let tenant = make_tenant(&store, "acme").await;
    let mut admin = cluster.admin(&database).await;
    run(&mut admin, "BEGIN; LOCK TABLE roles IN ACCESS EXCLUSIVE MODE").await;
    let mut hanging = tokio::task::JoinSet::new();
    // More than there are connections.
    for _ in 0..30 {
        let (store, tenant) = (store.clone(), tenant.clone());
        hanging.spawn(async move {
            unavailable_within(Duration::from_secs(6), async {
                store.read().await?.count_roles(&tenant).await
            })
            .await;
        });
    }
    // Writers and followers have connections of their own.
    let mut cursor = store.follow_start().await.unwrap();
    commit(store.write(&tenant).await.unwrap()).await;
    assert_eq!(drain(&store, &mut cursor).await, ["acme@2"]);
    hanging.join_all().await;
    run(&mut admin, "ROLLBACK").await;
    assert_eq!(store.read().await.unwrap().count_roles(&tenant).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_connection_or_a_turn_one_is_told_in_time() {
    let quick = Duration::from_millis(500);
    let change = |options| OpenOptions {
        connections: 4,
        acquire_timeout: quick,
        lock_timeout: quick,
        ..options
    };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let options = change(postgres_options(&cluster.url(&database)));
    let other = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let readers = [store.read().await.unwrap(), store.read().await.unwrap()];
    unavailable_within(Duration::from_secs(2), store.read()).await;
    let busy = store.write(&tenant).await.unwrap();
    // More than there are connections; another tenant's writers do not queue behind them.
    let waiting: Vec<_> = (0..9)
        .map(|n| {
            let (store, tenant) = ([&store, &other][n % 2].clone(), tenant.clone());
            tokio::spawn(async move {
                unavailable_within(Duration::from_secs(2), store.write(&tenant)).await;
            })
        })
        .collect();
    tokio::task::yield_now().await;
    make_tenant(&store, "elsewhere").await;
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(commit(busy).await, 2);
    drop(readers);
    assert_eq!(commit(store.write(&tenant).await.unwrap()).await, 3);
    assert!(store.read().await.unwrap().tenant(&tenant).await.is_ok());
}

/// A program that hangs in the middle of a transaction holds nobody back for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_nothing_is_ended() {
    let quick = Duration::from_millis(300);
    let change = |options| OpenOptions { idle_in_transaction_timeout: quick, ..options };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let options = change(postgres_options(&cluster.url(&database)));
    let other = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let hangs = other.write(&tenant).await.unwrap();
    assert_eq!(commit(store.write(&tenant).await.unwrap()).await, 2);
    assert!(hangs.put_members(&[member("kim", &[], &[])]).await.is_err());
    drop(hangs);
    let tx = store.read().await.unwrap();
    assert_eq!(tx.members(&tenant, &MemberFilter::default(), None, 9).await.unwrap(), []);
}

/// Whoever goes away while a transaction begins must not leave it to the next user of the
/// connection: what that one writes would never be committed.
#[tokio::test]
async fn a_beginning_that_was_cut_off_swallows_nothing() {
    let change = |options| OpenOptions { connections: 2, ..options };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let other = SqlStore::open(&postgres_options(&cluster.url(&database))).await.unwrap();
    let tenant = tenant_id("acme");
    for round in 0..40_u32 {
        {
            let beginning = store.write(&tenant);
            let mut beginning = std::pin::pin!(beginning);
            for _ in 0..round % 8 {
                if std::future::poll_fn(|cx| std::task::Poll::Ready(beginning.as_mut().poll(cx)))
                    .await
                    .is_ready()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
        let catalog = RecordedCatalog {
            reference: CatalogRef { id: "c".into(), version: round },
            hash: String::new(),
            source: String::new(),
        };
        assert_eq!(store.record_catalog(&catalog).await.unwrap(), RecordOutcome::New);
        let recorded = other.recorded_catalogs().await.unwrap();
        assert_eq!(recorded.len(), round as usize + 1, "what was recorded is committed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answering_or_dies_is_survived() {
    let Some(cluster) = postgres::dedicated() else { return };
    let quick = Duration::from_millis(700);
    let options = OpenOptions {
        acquire_timeout: quick,
        statement_timeout: quick,
        ..postgres_options(&cluster.url(&cluster.create_database()))
    };
    let store = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let mut listener = store.listen();
    timeout(Duration::from_secs(60), listener.next()).await.unwrap();
    let cursor = store.follow_start().await.unwrap();
    let read = async || store.read().await?.tenant(&tenant).await;
    let revision = async || Ok(read().await?.map_or(0, |tenant| tenant.revision));
    let write = async || {
        let tx = store.write(&tenant).await?;
        tx.put_members(&[member("kim", &[], &[])]).await?;
        tx.commit(rolegate::store::Touched::Nothing, super::backend::entry(1)).await
    };
    let bound = Duration::from_secs(6);

    cluster.pause();
    for _ in 0..3 {
        let readers = (0..20).map(|_| {
            let (store, tenant) = (store.clone(), tenant.clone());
            tokio::spawn(unavailable_within(bound, async move {
                store.read().await?.tenant(&tenant).await
            }))
        });
        for reader in readers.collect::<Vec<_>>() {
            reader.await.unwrap();
        }
        unavailable_within(bound, write()).await;
        unavailable_within(bound, store.follow(&cursor, 9)).await;
    }
    cluster.resume();
    // A commit that was cut off may have happened all the same, so revisions only grow.
    let before = recovers(bound, revision).await;
    assert!(recovers(bound, write).await > before);

    for _ in 0..2 {
        cluster.kill();
        unavailable_within(bound, read()).await;
        while !store.is_gone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Whatever the patience is, nobody needs it now.
        for _ in 0..20 {
            unavailable_within(Duration::from_millis(100), read()).await;
            unavailable_within(Duration::from_millis(100), write()).await;
        }
        unavailable_within(bound, write()).await;
        unavailable_within(bound, store.follow(&cursor, 9)).await;
        cluster.restart();
        let before = recovers(bound, revision).await;
        assert!(recovers(bound, write).await > before);
        assert!(!store.is_gone());
        timeout(bound, listener.next()).await.expect("it listens again");
    }
    cluster.stop();
    unavailable_within(bound, read()).await;
    cluster.restart();
    recovers(bound, read).await;
    let followed = recovers(bound, async || store.follow(&cursor, 99).await).await;
    assert!(!followed.gap && followed.changes.len() >= 3, "{followed:?}");
    assert!(followed.changes.iter().all(|change| change.position > ChangePosition::default()));
}

/// Numbers of transactions that left nothing durable behind are given again after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_numbered_again_after_a_crash_is_followed() {
    let Some(cluster) = postgres::dedicated() else { return };
    let database = cluster.create_database();
    // So that nothing but a commit makes anything durable for a while.
    cluster.sql("postgres", "ALTER SYSTEM SET wal_writer_delay = '10s'");
    cluster.sql("postgres", "ALTER SYSTEM SET bgwriter_delay = '10s'");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    let store = SqlStore::open(&postgres_options(&cluster.url(&database))).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    commit(store.write(&tenant).await.unwrap()).await;
    let mut admin = cluster.admin(&database).await;
    for _ in 0..100 {
        run(&mut admin, "BEGIN; SELECT pg_current_xact_id(); ROLLBACK").await;
    }
    let mut cursor = store.follow_start().await.unwrap();
    let next: String = admin.fetch_one("SELECT pg_current_snapshot()::text").await.unwrap().get(0);
    cluster.kill();
    cluster.restart();
    recovers(Duration::from_secs(15), async || {
        commit(store.write(&tenant).await?).await;
        Ok(())
    })
    .await;
    let mut admin = cluster.admin(&database).await;
    let tx: i64 = admin.fetch_one("SELECT max(tx) FROM changes").await.unwrap().get(0);
    let free: i64 = next.split(':').nth(1).unwrap().parse().unwrap();
    assert!(tx < free, "{tx} was not given before: the server did not forget {next}");
    assert_eq!(drain(&store, &mut cursor).await, ["acme@3"]);
    store.close().await;
}
