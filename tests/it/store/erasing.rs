use rolegate::domain::Timestamp;
use rolegate::domain::ids::MemberId;
use rolegate::store::{AuditEntry, AuditFilter, RequestKey, Response, SqlStore, Touched};
use serde_json::json;

use super::backend::{
    commit, entry, make_tenant, member, member_id, member_ids, role_ids, tenant_id,
};

fn of_members(ids: &[&str]) -> serde_json::Value {
    ids.iter().map(|id| json!(member(id, &["agent"], &["support"]))).collect()
}

pub(super) async fn a_member_goes_from_the_trail(store: &SqlStore) {
    let (acme, other) = (make_tenant(store, "acme").await, make_tenant(store, "other").await);
    for tenant in [&acme, &other] {
        for (actor, subjects) in [("kim", vec!["lee"]), ("lee", vec!["kim", "Kim"])] {
            let recorded = AuditEntry {
                actor: Some(member_id(actor)),
                members: member_ids(&subjects),
                before: Some(of_members(&subjects)),
                ..entry(2)
            };
            let tx = store.write(tenant).await.unwrap();
            tx.commit(Touched::Nothing, recorded).await.unwrap();
        }
    }
    let tx = store.write(&acme).await.unwrap();
    tx.erase_member(&member_id("kim")).await.unwrap();
    commit(tx).await;

    let tx = store.read().await.unwrap();
    let about =
        |member: &MemberId| AuditFilter { member: Some(member.clone()), ..AuditFilter::default() };
    let all = tx.audit_events(&acme, &AuditFilter::default(), None, 9).await.unwrap();
    assert!(!format!("{all:?}").contains("\"kim\""), "{all:?}");
    let by_kim = all.iter().find(|event| event.revision == 2).unwrap();
    let pseudonym = by_kim.entry.actor.clone().unwrap();
    // The same everywhere, and others stay who they are.
    let of_kim = tx.audit_events(&acme, &about(&pseudonym), None, 9).await.unwrap();
    assert_eq!(of_kim.iter().map(|event| event.revision).collect::<Vec<_>>(), [3]);
    assert_eq!(of_kim[0].entry.actor, Some(member_id("lee")));
    assert_eq!(of_kim[0].entry.before, Some(of_members(&[pseudonym.as_str(), "Kim"])));
    let elsewhere = tx.audit_events(&other, &about(&member_id("kim")), None, 9).await.unwrap();
    assert_eq!(elsewhere.len(), 1);
}

pub(super) async fn what_is_called_like_a_member_stays(store: &SqlStore) {
    let acme = make_tenant(store, "acme").await;
    let names = ["agent", "support", "active"];
    let told = of_members(&["agent", "support", "active", "lee"]);
    let recorded = AuditEntry {
        roles: role_ids(&names),
        members: member_ids(&names),
        before: Some(told.clone()),
        after: Some(json!({ "id": "agent", "name": "agent", "grants": [] })),
        ..entry(2)
    };
    let tx = store.write(&acme).await.unwrap();
    tx.commit(Touched::Nothing, recorded.clone()).await.unwrap();
    for name in names {
        let tx = store.write(&acme).await.unwrap();
        tx.erase_member(&member_id(name)).await.unwrap();
        commit(tx).await;
    }
    let tx = store.read().await.unwrap();
    let all = tx.audit_events(&acme, &AuditFilter::default(), None, 9).await.unwrap();
    let found = &all.iter().find(|event| event.revision == 2).unwrap().entry;
    let mut expected = told;
    for (index, member) in expected.as_array_mut().unwrap().iter_mut().enumerate().take(3) {
        let pseudonym = &found.before.as_ref().unwrap()[index]["id"];
        assert!(pseudonym.as_str().unwrap().starts_with("erased-"), "{pseudonym}");
        member["id"] = pseudonym.clone();
    }
    assert_eq!(found.before, Some(expected), "roles, teams and statuses are what they were");
    assert_eq!(
        (&found.after, &found.roles),
        (&recorded.after, &{
            let mut roles = role_ids(&names);
            roles.sort_unstable();
            roles
        })
    );
}

pub(super) async fn answers_that_name_a_member_are_blanked(store: &SqlStore) {
    let acme = make_tenant(store, "acme").await;
    // What JSON escapes, and what patterns take for their own.
    for id in ["kim", "ki\"m", "ki\\m", "k%m", "k_m", "김"] {
        let key = |request: &str, tenant: &str| RequestKey {
            caller: "c".into(),
            tenant: tenant_id(tenant),
            method: "m".into(),
            request_id: request.into(),
        };
        let answers = [
            (key("names it", "acme"), json!({ "member": { "id": id } }), false),
            (key("names another", "acme"), json!({ "id": format!("{id}2") }), true),
            (key("of another tenant", "other"), json!({ "id": id }), true),
        ];
        let tx = store.write(&acme).await.unwrap();
        for (key, answer, _) in &answers {
            let text = answer.to_string();
            tx.remember(key, "h", &text, Timestamp(0), Timestamp(9)).await.unwrap();
        }
        tx.erase_member(&member_id(id)).await.unwrap();
        for (key, answer, stays) in &answers {
            let found = tx.remembered(key, Timestamp(1)).await.unwrap().unwrap();
            let kept = Response::Kept(answer.to_string());
            let left = if *stays { kept } else { Response::Erased };
            assert_eq!(found.response, left, "{id}: {}", key.request_id);
            assert_eq!(found.payload_hash, "h", "another request is still told from this one");
        }
        commit(tx).await;
    }
}
