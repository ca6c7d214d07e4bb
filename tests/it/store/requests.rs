use rolegate::domain::Timestamp;
use rolegate::store::{Remembered, RequestKey, Response, SqlStore};

use super::backend::{commit, make_tenant, tenant_id};

fn key(id: &str) -> RequestKey {
    RequestKey {
        caller: "admin-service".into(),
        tenant: tenant_id("acme"),
        method: "CreateRole".into(),
        request_id: id.into(),
    }
}

async fn remember(store: &SqlStore, key: &RequestKey, response: &str, now: i64) {
    let tx = store.write(&tenant_id("acme")).await.unwrap();
    let expiry = Timestamp(now + 100);
    tx.remember(key, "hash", response, Timestamp(now), expiry).await.unwrap();
    commit(tx).await;
}

async fn recall(store: &SqlStore, key: &RequestKey, now: i64) -> Option<String> {
    let found = store.read().await.unwrap().remembered(key, Timestamp(now)).await.unwrap();
    found.map(|Remembered { payload_hash, response }| {
        assert_eq!(payload_hash, "hash");
        match response {
            Response::Kept(response) => response,
            gone => panic!("{gone:?}"),
        }
    })
}

pub(super) async fn are_remembered_until_they_expire(store: &SqlStore) {
    make_tenant(store, "acme").await;
    remember(store, &key("1"), "{\"a\":1}", 0).await;
    remember(store, &key("2"), "{}", 50).await;
    assert_eq!(recall(store, &key("1"), 99).await.as_deref(), Some("{\"a\":1}"));
    assert_eq!(recall(store, &key("1"), 100).await, None);
    assert_eq!(store.forget_expired_requests(Timestamp(99)).await.unwrap(), 0);
    assert_eq!(store.forget_expired_requests(Timestamp(100)).await.unwrap(), 1);
    assert_eq!(recall(store, &key("1"), 0).await, None, "forgotten for good");
    assert_eq!(recall(store, &key("2"), 100).await.as_deref(), Some("{}"));
}

pub(super) async fn are_remembered_by_all_of_their_key(store: &SqlStore) {
    make_tenant(store, "acme").await;
    remember(store, &key("1"), "{}", 0).await;
    for other in [
        key("2"),
        RequestKey { caller: "ADMIN-service".into(), ..key("1") },
        RequestKey { tenant: tenant_id("Acme"), ..key("1") },
        RequestKey { method: "DeleteRole".into(), ..key("1") },
    ] {
        assert_eq!(recall(store, &other, 0).await, None, "{other:?}");
    }
    assert!(recall(store, &key("1"), 0).await.is_some());
}

pub(super) async fn are_remembered_only_if_committed(store: &SqlStore) {
    make_tenant(store, "acme").await;
    let tx = store.write(&tenant_id("acme")).await.unwrap();
    tx.remember(&key("1"), "hash", "{}", Timestamp(0), Timestamp(100)).await.unwrap();
    assert!(tx.remembered(&key("1"), Timestamp(0)).await.unwrap().is_some());
    drop(tx);
    assert_eq!(recall(store, &key("1"), 0).await, None);
}

pub(super) async fn can_be_remembered_again(store: &SqlStore) {
    make_tenant(store, "acme").await;
    remember(store, &key("1"), "old", 0).await;
    // Expired, but not swept yet.
    remember(store, &key("1"), "new", 200).await;
    assert_eq!(recall(store, &key("1"), 250).await.as_deref(), Some("new"));
}

pub(super) async fn are_remembered_where_nothing_changed(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let tx = store.write(&tenant).await.unwrap();
    tx.remember(&key("1"), "hash", "{}", Timestamp(0), Timestamp(100)).await.unwrap();
    tx.commit_unchanged().await.unwrap();
    assert_eq!(recall(store, &key("1"), 0).await.as_deref(), Some("{}"));
    let tx = store.read().await.unwrap();
    assert_eq!(tx.tenant(&tenant).await.unwrap().unwrap().revision, 1);
    assert_eq!(tx.changes(&tenant, 0, 9).await.unwrap().len(), 1);
}
