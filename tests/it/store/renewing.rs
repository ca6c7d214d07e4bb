//! Connections whose prepared statements the server no longer runs, on every pool of a store.

use rolegate::domain::Timestamp;
use rolegate::domain::ids::TenantId;
use rolegate::store::{
    ChangePosition, DecisionSource as _, FollowCursor, Freshness, OpenOptions, SqlStore, StoreError,
};

use super::backend::{commit, make_members, member, member_id};
use super::following::drain;
use super::server::{opened, run};

/// Something of each pool: followers, readers outside and inside of transactions, writers.
async fn everything(store: &SqlStore, tenant: &TenantId, cursor: &mut FollowCursor) {
    let before = store.read().await.unwrap().tenant(tenant).await.unwrap().unwrap().revision;
    let member = [member_id("kim")];
    let view = store.view(tenant, &member, Freshness::FullyConsistent).await.unwrap();
    assert_eq!(view.unwrap().members.len(), 1);
    store.recorded_catalogs().await.unwrap();
    store.purgeable(Timestamp(1)).await.unwrap();
    store.ordered_changes(ChangePosition::default(), 10).await.unwrap();
    store.forget_expired_requests(Timestamp(1)).await.unwrap();
    store.current_epoch().await.unwrap();
    let tx = store.write(tenant).await.unwrap();
    assert_eq!(tx.tenant().unwrap().revision, before);
    commit(tx).await;
    assert_eq!(drain(store, cursor).await, [format!("acme@{}", before + 1)]);
}

/// Two connections: each of them has everything prepared.
fn small(options: OpenOptions) -> OpenOptions {
    OpenOptions { connections: 2, ..options }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_another_type_is_read_by_a_statement_prepared_anew() {
    let Some((cluster, database, store)) = opened(small).await else { return };
    store.register(std::sync::Arc::new(super::backend::qpien()));
    let tenant = make_members(&store, "acme", &[member("kim", &["user"], &["t"])]).await;
    let mut cursor = store.follow_start().await.unwrap();
    let mut admin = cluster.admin(&database).await;
    for kind in ["varchar", "text"] {
        for _ in 0..3 {
            everything(&store, &tenant, &mut cursor).await;
        }
        for column in [
            "tenants ALTER COLUMN plan",
            "changes ALTER COLUMN touched",
            "meta ALTER COLUMN value",
            "catalog_versions ALTER COLUMN source",
        ] {
            run(&mut admin, &format!("ALTER TABLE {column} TYPE {kind}")).await;
            everything(&store, &tenant, &mut cursor).await;
        }
    }
    store.close().await;
}

/// As a pooler does that resets sessions, or an operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_were_dropped_are_prepared_anew() {
    let Some((cluster, database, store)) = opened(small).await else { return };
    store.register(std::sync::Arc::new(super::backend::qpien()));
    let tenant = make_members(&store, "acme", &[member("kim", &["user"], &["t"])]).await;
    let mut cursor = store.follow_start().await.unwrap();
    let mut admin = cluster.admin(&database).await;
    for sql in [
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NULL; END$$",
        "CREATE CONSTRAINT TRIGGER forget AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION forget()",
    ] {
        run(&mut admin, sql).await;
    }
    // Each commit drops what the writer has prepared.
    for _ in 0..4 {
        everything(&store, &tenant, &mut cursor).await;
    }
    store.close().await;
}

/// What was done in the transaction so far would have to be done again, which only its caller can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_of_a_transaction_it_is_for_the_caller_to_try_again() {
    let Some((cluster, database, store)) = opened(small).await else { return };
    let tenant = make_members(&store, "acme", &[member("kim", &["user"], &["t"])]).await;
    let mut admin = cluster.admin(&database).await;
    let member = member_id("kim");
    let mut kind = "varchar";
    for written in [false, true] {
        // The statement that becomes stale is prepared on every connection.
        for _ in 0..2 {
            let tx = store.read().await.unwrap();
            tx.member(&tenant, &member).await.unwrap();
            let tx = store.write(&tenant).await.unwrap();
            tx.member(&tenant, &member).await.unwrap();
        }
        let alter = format!("ALTER TABLE members ALTER COLUMN status TYPE {kind} COLLATE \"C\"");
        kind = "text";
        let failed = if written {
            let tx = store.write(&tenant).await.unwrap();
            run(&mut admin, &alter).await;
            let failed = tx.member(&tenant, &member).await;
            assert!(tx.commit_unchanged().await.is_err(), "nothing of it is kept");
            failed
        } else {
            let tx = store.read().await.unwrap();
            tx.tenant(&tenant).await.unwrap();
            run(&mut admin, &alter).await;
            tx.member(&tenant, &member).await
        };
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
        let tx = store.read().await.unwrap();
        assert!(tx.member(&tenant, &member).await.unwrap().is_some(), "the next one does");
        drop(tx);
        let tx = store.write(&tenant).await.unwrap();
        assert!(tx.member(&tenant, &member).await.unwrap().is_some());
        commit(tx).await;
    }
    store.close().await;
}
