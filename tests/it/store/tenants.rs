use rolegate::domain::Timestamp;
use rolegate::domain::catalog::CatalogRef;
use rolegate::domain::tenant::{Tenant, TenantState};
use rolegate::store::{
    AuditFilter, MemberFilter, RequestKey, Response, SqlStore, StoreError, Touched,
};

use super::backend::{commit, entry, make_members, make_tenant, member, role, tenant, tenant_id};

pub(super) async fn what_is_written_is_read_back(store: &SqlStore) {
    let id = tenant_id("acme");
    let tx = store.write(&id).await.unwrap();
    assert_eq!((tx.tenant(), tx.next_revision()), (None, 1));
    let made = Tenant { plan: Some("basic".into()), ..tenant("acme") };
    tx.put_tenant(&made).await.unwrap();
    assert_eq!(tx.commit(Touched::Tenant, entry(1)).await.unwrap(), 1);
    assert_eq!(store.read().await.unwrap().tenant(&id).await.unwrap(), Some(made.clone()));

    // A change of something else moves the tenant's revision, but not its own.
    let tx = store.write(&id).await.unwrap();
    assert_eq!((tx.tenant(), tx.next_revision()), (Some(&made), 2));
    tx.put_role(&role("r")).await.unwrap();
    assert_eq!(commit(tx).await, 2);
    let found = store.read().await.unwrap().tenant(&id).await.unwrap();
    assert_eq!(found, Some(Tenant { revision: 2, ..made }));

    let changed = Tenant {
        catalog: CatalogRef { id: "qpien".into(), version: 7 },
        plan: None,
        state: TenantState::Deleted,
        revision: 3,
        own_revision: 3,
        updated_at: Timestamp(900),
        purge_at: Some(Timestamp(1000)),
        ..tenant("acme")
    };
    let tx = store.write(&id).await.unwrap();
    tx.put_tenant(&changed).await.unwrap();
    assert_eq!(commit(tx).await, 3);
    assert_eq!(store.read().await.unwrap().tenant(&id).await.unwrap(), Some(changed));
    assert_eq!(store.read().await.unwrap().tenant(&tenant_id("other")).await.unwrap(), None);
}

pub(super) async fn ids_are_case_sensitive(store: &SqlStore) {
    let (lower, upper) = (make_tenant(store, "acme").await, make_tenant(store, "ACME").await);
    let tx = store.write(&lower).await.unwrap();
    tx.put_members(&[member("kim", &[], &["t"]), member("Kim", &[], &["T"])]).await.unwrap();
    commit(tx).await;
    let tx = store.read().await.unwrap();
    assert_eq!(tx.tenant(&lower).await.unwrap().map(|t| t.revision), Some(2));
    assert_eq!(tx.tenant(&upper).await.unwrap().map(|t| t.revision), Some(1));
    for (id, team) in [("kim", "t"), ("Kim", "T")] {
        let found = tx.member(&lower, &member(id, &[], &[]).id).await.unwrap().unwrap();
        assert_eq!(
            found,
            rolegate::domain::member::Member { revision: 2, ..member(id, &[], &[team]) }
        );
    }
    assert_eq!(tx.member(&lower, &member("KIM", &[], &[]).id).await.unwrap(), None);
    assert_eq!(tx.members(&upper, &MemberFilter::default(), None, 9).await.unwrap(), []);
}

pub(super) async fn are_listed_in_order(store: &SqlStore) {
    for (id, state) in [
        ("b", TenantState::Active),
        ("Z", TenantState::Active),
        ("a", TenantState::Deleted),
        ("é", TenantState::Active),
        ("c", TenantState::Purged),
    ] {
        let tx = store.write(&tenant_id(id)).await.unwrap();
        tx.put_tenant(&Tenant { state, ..tenant(id) }).await.unwrap();
        commit(tx).await;
    }
    let tx = store.read().await.unwrap();
    let list = async |after: Option<&str>, limit, deleted| {
        let after = after.map(tenant_id);
        let found = tx.tenants(after.as_ref(), limit, deleted).await.unwrap();
        found.into_iter().map(|tenant| tenant.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 9, false).await, ["Z", "b", "é"]);
    assert_eq!(list(None, 9, true).await, ["Z", "a", "b", "é"]);
    assert_eq!(list(None, 2, true).await, ["Z", "a"]);
    assert_eq!(list(Some("a"), 2, true).await, ["b", "é"]);
    assert_eq!(list(Some("é"), 2, true).await, [""; 0]);
}

pub(super) async fn deleted_ones_become_purgeable(store: &SqlStore) {
    for (id, state, purge_at) in [
        ("later", TenantState::Deleted, Some(20)),
        ("sooner", TenantState::Deleted, Some(10)),
        ("in-use", TenantState::Active, Some(1)),
        ("purged", TenantState::Purged, Some(1)),
        ("kept", TenantState::Deleted, None),
    ] {
        let tx = store.write(&tenant_id(id)).await.unwrap();
        let purge_at = purge_at.map(Timestamp);
        tx.put_tenant(&Tenant { state, purge_at, ..tenant(id) }).await.unwrap();
        commit(tx).await;
    }
    for (now, due) in
        [(9, vec![]), (10, vec!["sooner"]), (19, vec!["sooner"]), (20, vec!["sooner", "later"])]
    {
        let found = store.purgeable(Timestamp(now)).await.unwrap();
        assert_eq!(found, due.into_iter().map(tenant_id).collect::<Vec<_>>(), "at {now}");
    }
}

pub(super) async fn purging_leaves_nothing_but_the_id(store: &SqlStore) {
    let request = |tenant: &str| RequestKey {
        caller: "c".into(),
        tenant: tenant_id(tenant),
        method: "m".into(),
        request_id: "1".into(),
    };
    for name in ["gone", "stays"] {
        let id = make_members(store, name, &[member("m", &["r"], &["t"])]).await;
        let tx = store.write(&id).await.unwrap();
        tx.put_role(&role("r")).await.unwrap();
        tx.remember(&request(name), "h", "{}", Timestamp(1), Timestamp(100)).await.unwrap();
        let about_all = rolegate::store::AuditEntry {
            roles: vec![role("r").id],
            members: vec![member("m", &[], &[]).id],
            ..entry(1)
        };
        assert_eq!(tx.commit(Touched::Nothing, about_all).await.unwrap(), 3);
    }
    let tx = store.write(&tenant_id("gone")).await.unwrap();
    tx.delete_tenant_data().await.unwrap();
    tx.put_tenant(&Tenant { state: TenantState::Purged, ..tenant("gone") }).await.unwrap();
    assert_eq!(tx.commit(Touched::Tenant, entry(4)).await.unwrap(), 4);

    let tx = store.read().await.unwrap();
    // The purge itself is on the trail.
    for (name, here, events) in [("gone", 0, 1), ("stays", 1, 3)] {
        let id = tenant_id(name);
        assert_eq!(tx.roles(&id, None, 9).await.unwrap().len(), here, "{name}");
        let members = tx.members(&id, &MemberFilter::default(), None, 9).await.unwrap();
        assert_eq!(members.len(), here, "{name}");
        let holders = tx.role_members(&id, &role("r").id).await.unwrap();
        assert_eq!(holders.active, here as u64, "{name}");
        let remembered = tx.remembered(&request(name), Timestamp(2)).await.unwrap();
        // That it was answered stays, so that a late retry does nothing; what was answered goes.
        let kept = remembered.is_some_and(|left| matches!(left.response, Response::Kept(_)));
        assert_eq!(kept, here == 1, "{name}");
        let audit = tx.audit_events(&id, &AuditFilter::default(), None, 9).await.unwrap();
        assert_eq!(audit.len(), events, "{name}");
    }
    let found = tx.tenant(&tenant_id("gone")).await.unwrap().unwrap();
    assert_eq!((found.state, found.revision), (TenantState::Purged, 4));
}

/// Whoever comes second finds the tenant there; the net below that is the unique id.
pub(super) async fn made_by_two_at_once_only_once(store: &SqlStore) {
    let make = async || {
        let tx = store.write(&tenant_id("acme")).await?;
        if tx.tenant().is_some() {
            return Err(StoreError::Conflict);
        }
        tx.put_tenant(&tenant("acme")).await?;
        tx.commit(Touched::Tenant, entry(1)).await
    };
    let (one, two) = tokio::join!(make(), make());
    assert!(
        matches!(
            (&one, &two),
            (Ok(1), Err(StoreError::Conflict)) | (Err(StoreError::Conflict), Ok(1))
        ),
        "{one:?} {two:?}"
    );
}
