//! What SQLite does by itself, done to it on purpose. With PostgreSQL see `tests/it/store`.

use sea_orm::ConnectionTrait;
use tempfile::TempDir;

use crate::domain::Timestamp;
use crate::domain::catalog::CatalogRef;
use crate::domain::ids::TenantId;
use crate::domain::tenant::{Tenant, TenantState};
use crate::store::{AuditEntry, OpenOptions, SqlStore, StoreError, Touched};

/// A store with one connection that reads and one that writes.
async fn opened(directory: &TempDir) -> SqlStore {
    let url = format!("sqlite:{}", directory.path().join("db").display());
    let options = OpenOptions { connections: 1, ..OpenOptions::new(url) };
    SqlStore::open(&options).await.unwrap()
}

fn tenant(id: &str) -> Tenant {
    Tenant {
        id: TenantId::trusted(id),
        catalog: CatalogRef { id: "c".into(), version: 1 },
        plan: None,
        state: TenantState::Active,
        revision: 1,
        own_revision: 1,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        purge_at: None,
    }
}

async fn make(store: &SqlStore, id: &str) -> Result<u64, StoreError> {
    let tx = store.write(&TenantId::trusted(id)).await?;
    tx.put_tenant(&tenant(id)).await?;
    let entry = AuditEntry {
        at: Timestamp(1),
        caller: "c".into(),
        actor: None,
        method: "m".into(),
        request_id: None,
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
    };
    tx.commit(Touched::Tenant, entry).await
}

async fn is_there(store: &SqlStore, id: &str) -> bool {
    store.read().await.unwrap().tenant(&TenantId::trusted(id)).await.unwrap().is_some()
}

/// Makes these, each of which must be there at once, for this store and every other.
async fn keeps_writes(store: &SqlStore, directory: &TempDir, ids: &[&str]) {
    for id in ids {
        make(store, id).await.unwrap();
        assert!(is_there(store, id).await, "{id} is acknowledged and not there");
    }
    let other = opened(directory).await;
    for id in ids {
        assert!(is_there(&other, id).await, "{id} is acknowledged and nobody else sees it");
    }
    other.close().await;
}

/// What SQLite answers when the disk is full, by which it rolls back.
const FULL: &str = "INSERT INTO meta (key, value) VALUES ('x', hex(zeroblob(1000000)))";

#[tokio::test]
async fn nothing_acknowledged_is_lost_after_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory).await;
    keeps_writes(&store, &directory, &["before"]).await;
    let tx = store.write(&TenantId::trusted("full")).await.unwrap();
    tx.tx.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
    tx.tx.execute_unprepared(FULL).await.unwrap_err();
    drop(tx);
    store.inner.writers.execute_unprepared("PRAGMA max_page_count = 1000000").await.unwrap();
    keeps_writes(&store, &directory, &["one", "two"]).await;
    // A rollback, as every refusal and every trial ends with one.
    drop(store.write(&TenantId::trusted("three")).await.unwrap());
    keeps_writes(&store, &directory, &["four", "five"]).await;
    store.close().await;
}

#[tokio::test]
async fn after_a_statement_failed_its_transaction_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory).await;
    let id = TenantId::trusted("acme");
    let tx = store.write(&id).await.unwrap();
    tx.tx.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
    tx.tx.execute_unprepared(FULL).await.unwrap_err();
    tx.tx.execute_unprepared("PRAGMA max_page_count = 1000000").await.ok();
    // Each statement would be committed by itself.
    let put = tx.put_tenant(&tenant("acme")).await;
    assert!(matches!(put, Err(StoreError::Unavailable(_))), "{put:?}");
    let committed = tx.commit_unchanged().await;
    assert!(matches!(committed, Err(StoreError::Unavailable(_))), "{committed:?}");
    assert!(!is_there(&store, "acme").await);
    store.close().await;
}

#[tokio::test]
async fn no_reader_stays_at_an_old_state() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory).await;
    // SQLite ends a transaction that reads, too, when its memory or disk fails.
    let tx = store.read().await.unwrap();
    tx.tx.execute_unprepared("ROLLBACK").await.unwrap();
    drop(tx);
    keeps_writes(&store, &directory, &["one"]).await;
    keeps_writes(&store, &directory, &["two", "three"]).await;
    let mut cursor = store.follow_start().await.unwrap();
    for id in ["four", "five"] {
        make(&store, id).await.unwrap();
        let followed = store.follow(&cursor, 9).await.unwrap();
        assert_eq!(followed.changes.len(), 1, "{id}");
        cursor = followed.next;
    }
    store.close().await;
}

#[tokio::test]
async fn what_was_left_open_ends_before_anybody_writes_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory).await;
    for (number, left) in ["SAVEPOINT s", "BEGIN", "BEGIN IMMEDIATE"].into_iter().enumerate() {
        store.inner.writers.execute_unprepared(left).await.unwrap();
        keeps_writes(&store, &directory, &[&format!("write-{number}")]).await;
        store.inner.readers.execute_unprepared(left).await.ok();
        keeps_writes(&store, &directory, &[&format!("read-{number}")]).await;
        keeps_writes(&store, &directory, &[&format!("again-{number}")]).await;
        // Within a transaction of ours.
        let tx = store.write(&TenantId::trusted("none")).await.unwrap();
        tx.tx.execute_unprepared("SAVEPOINT s").await.unwrap();
        drop(tx);
        keeps_writes(&store, &directory, &[&format!("within-{number}")]).await;
    }
    store.close().await;
}

#[tokio::test]
async fn a_connection_whose_commit_failed_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory).await;
    let mark = "CREATE TEMP TABLE mark (x)";
    store.inner.writers.execute_unprepared(mark).await.unwrap();
    let is_marked = async || {
        store.inner.writers.execute_unprepared("INSERT INTO mark VALUES (1)").await.is_ok()
    };
    keeps_writes(&store, &directory, &["one"]).await;
    drop(store.begin_write().await.unwrap());
    assert!(is_marked().await, "neither commits nor rollbacks that succeed close it");
    let tx = store.begin_write().await.unwrap();
    tx.execute_unprepared("ROLLBACK").await.unwrap();
    let committed = tx.commit().await.map_err(StoreError::from);
    assert!(matches!(committed, Err(StoreError::Unavailable(_))), "{committed:?}");
    assert!(!is_marked().await);
    keeps_writes(&store, &directory, &["two"]).await;
    store.close().await;
}
