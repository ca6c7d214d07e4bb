use rolegate::domain::Timestamp;
use rolegate::domain::ids::TenantId;
use rolegate::store::{AuditEntry, AuditEvent, AuditFilter, SqlStore, Touched};
use serde_json::json;

use super::backend::{entry, make_tenant, member, member_id, member_ids, role_id, role_ids};

async fn record(store: &SqlStore, tenant: &TenantId, entry: AuditEntry) -> u64 {
    let tx = store.write(tenant).await.unwrap();
    tx.commit(Touched::Nothing, entry).await.unwrap()
}

async fn list(store: &SqlStore, tenant: &TenantId, filter: &AuditFilter) -> Vec<AuditEvent> {
    store.read().await.unwrap().audit_events(tenant, filter, None, 99).await.unwrap()
}

pub(super) async fn is_read_back_newest_first(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let full = AuditEntry {
        actor: Some(member_id("boss")),
        method: "UpdateRole".into(),
        request_id: Some("q-1".into()),
        roles: role_ids(&["r2", "r1", "r2"]),
        members: member_ids(&["m"]),
        before: Some(json!({"name": "Ж", "grants": []})),
        after: Some(json!(null)),
        ..entry(20)
    };
    assert_eq!(record(store, &tenant, full.clone()).await, 2);
    // Not by time: clocks can go backwards.
    assert_eq!(record(store, &tenant, entry(10)).await, 3);
    let found = list(store, &tenant, &AuditFilter::default()).await;
    let as_read = AuditEntry { roles: role_ids(&["r1", "r2"]), ..full };
    let brief: Vec<_> =
        found.iter().map(|event| (event.revision, event.refusal.clone(), &event.entry)).collect();
    assert_eq!(brief, [(3, None, &entry(10)), (2, None, &as_read), (1, None, &entry(1))]);
    assert!(found.is_sorted_by(|newer, older| newer.number > older.number));
}

pub(super) async fn is_filtered(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let other = make_tenant(store, "other").await;
    let entries = [
        AuditEntry { actor: Some(member_id("kim")), roles: role_ids(&["x"]), ..entry(10) },
        AuditEntry { actor: Some(member_id("Kim")), members: member_ids(&["x", "y"]), ..entry(20) },
        AuditEntry { roles: role_ids(&["x", "z"]), members: member_ids(&["y"]), ..entry(30) },
    ];
    for of_tenant in [&tenant, &other] {
        for entry in entries.clone() {
            record(store, of_tenant, entry).await;
        }
    }
    let all = AuditFilter::default();
    for (filter, times) in [
        (all.clone(), vec![30, 20, 10, 1]),
        (AuditFilter { actor: Some(member_id("kim")), ..all.clone() }, vec![10]),
        (AuditFilter { actor: Some(member_id("nobody")), ..all.clone() }, vec![]),
        (AuditFilter { role: Some(role_id("x")), ..all.clone() }, vec![30, 10]),
        (AuditFilter { member: Some(member_id("x")), ..all.clone() }, vec![20]),
        (AuditFilter { member: Some(member_id("y")), ..all.clone() }, vec![30, 20]),
        (
            AuditFilter { role: Some(role_id("z")), member: Some(member_id("y")), ..all.clone() },
            vec![30],
        ),
        (AuditFilter { from: Some(Timestamp(20)), ..all.clone() }, vec![30, 20]),
        (AuditFilter { until: Some(Timestamp(20)), ..all.clone() }, vec![10, 1]),
        (
            AuditFilter {
                from: Some(Timestamp(10)),
                until: Some(Timestamp(30)),
                role: Some(role_id("x")),
                ..all.clone()
            },
            vec![10],
        ),
    ] {
        let found = list(store, &tenant, &filter).await;
        let found: Vec<_> = found.iter().map(|event| event.entry.at.0).collect();
        assert_eq!(found, times, "{filter:?}");
    }
}

pub(super) async fn is_read_in_pages(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let other = make_tenant(store, "other").await;
    for at in 2..=10 {
        record(store, &tenant, entry(at)).await;
        record(store, &other, entry(at)).await;
    }
    let tx = store.read().await.unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let all = AuditFilter::default();
        let page = tx.audit_events(&tenant, &all, before, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        before = Some(last.number);
        seen.extend(page.iter().map(|event| event.entry.at.0));
    }
    assert_eq!(seen, (1..=10).rev().collect::<Vec<_>>());
}

pub(super) async fn takes_many_subjects(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let members: Vec<_> = (0..2500).map(|n| member_id(&format!("m{n:05}"))).collect();
    record(store, &tenant, AuditEntry { members: members.clone(), ..entry(2) }).await;
    let about_last = AuditFilter { member: members.last().cloned(), ..AuditFilter::default() };
    let found = list(store, &tenant, &about_last).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].entry.members, members);
}

pub(super) async fn a_refusal_changes_nothing_else(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let tx = store.write(&tenant).await.unwrap();
    tx.put_members(&[member("kim", &[], &[])]).await.unwrap();
    tx.commit_unchanged().await.unwrap();
    let attempt = AuditEntry { actor: Some(member_id("kim")), roles: role_ids(&["r"]), ..entry(5) };
    store.record_refusal(&tenant, attempt.clone(), "EXCEEDS_OWN_GRANTS").await.unwrap();
    let about = AuditFilter { role: Some(role_id("r")), ..AuditFilter::default() };
    let found = list(store, &tenant, &about).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].refusal.as_deref(), Some("EXCEEDS_OWN_GRANTS"));
    assert_eq!((found[0].revision, &found[0].entry), (1, &attempt));
    let tx = store.read().await.unwrap();
    assert_eq!(tx.tenant(&tenant).await.unwrap().unwrap().revision, 1);
    assert_eq!(tx.changes(&tenant, 0, 9).await.unwrap().len(), 1);
}

pub(super) async fn is_trimmed_by_age(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    for at in [10, 20] {
        record(store, &tenant, AuditEntry { roles: role_ids(&["r"]), ..entry(at) }).await;
    }
    assert_eq!(store.trim_audit(Timestamp(20)).await.unwrap(), 2);
    let found = list(store, &tenant, &AuditFilter::default()).await;
    assert_eq!(found.iter().map(|event| event.entry.at.0).collect::<Vec<_>>(), [20]);
    assert_eq!(found[0].entry.roles, role_ids(&["r"]));
}
