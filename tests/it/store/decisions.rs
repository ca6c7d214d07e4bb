use std::sync::Arc;

use rolegate::domain::catalog::Catalog;
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::TenantId;
use rolegate::domain::member::{Member, MemberStatus, Subject};
use rolegate::domain::role::CustomRole;
use rolegate::domain::tenant::{Tenant, TenantState};
use rolegate::store::{DecisionSource, Freshness, SqlStore, TenantView};

use super::backend::{
    archived, commit, make_members, make_tenant, member, member_id, member_ids, qpien, role,
    role_ids, team_id, tenant, tenant_id,
};

fn register(store: &SqlStore) -> Arc<Catalog> {
    let catalog = Arc::new(qpien());
    store.register(Arc::clone(&catalog));
    catalog
}

async fn view(store: &SqlStore, tenant: &TenantId, ids: &[&str]) -> Option<TenantView> {
    store.view(tenant, &member_ids(ids), Freshness::FullyConsistent).await.unwrap()
}

/// The permissions that a subject's roles give, base permissions left out.
fn held(catalog: &Catalog, subject: &Subject) -> Vec<String> {
    let gives = |ix| subject.roles.iter().any(|(_, role)| !role.reach(ix).relations.is_empty());
    let held = catalog.permissions().filter(|(ix, _)| gives(*ix));
    held.map(|(_, permission)| permission.id.clone()).collect()
}

pub(super) async fn a_view_has_the_members_that_exist(store: &SqlStore) {
    register(store);
    let members = [member("kim", &["user"], &["t1", "t2"]), archived(member("lee", &[], &[]))];
    let tenant = make_members(store, "acme", &members).await;
    make_members(store, "other", &[member("Kim", &[], &[])]).await;
    let view = view(store, &tenant, &["kim", "lee", "Kim", "nobody"]).await.unwrap();
    assert_eq!(
        (view.state.revision(), view.catalog.reference().to_string()),
        (2, "qpien@1".into())
    );
    let mut found: Vec<_> = view.members.keys().cloned().collect();
    found.sort();
    assert_eq!(found, member_ids(&["kim", "lee"]));
    let kim = &view.members[&member_id("kim")];
    assert_eq!(
        (kim.status, &*kim.teams),
        (MemberStatus::Active, &[team_id("t1"), team_id("t2")][..])
    );
    assert_eq!(view.members[&member_id("lee")].status, MemberStatus::Archived);
}

pub(super) async fn a_view_compiles_what_members_hold(store: &SqlStore) {
    let catalog = register(store);
    let members = [
        member("default", &["owner"], &[]),
        member("custom", &["r"], &[]),
        member("both", &["r", "user"], &[]),
        member("dangling", &["gone", "r"], &[]),
    ];
    let tenant = make_members(store, "acme", &members).await;
    let tx = store.write(&tenant).await.unwrap();
    let grant = |permission: &str| Grant { permission: permission.into(), scope: None };
    // The last one may be on no custom role: compiling drops it.
    let grants = vec![grant("contact.view"), grant("account.manage")];
    tx.put_role(&CustomRole { grants, ..role("r") }).await.unwrap();
    commit(tx).await;

    let view = view(store, &tenant, &["default", "custom", "both", "dangling"]).await.unwrap();
    let subject = |id| &view.members[&member_id(id)];
    let owner = catalog.default_role("owner").unwrap();
    assert!(Arc::ptr_eq(&subject("default").roles[0].1, &owner.compiled));
    assert_eq!(held(&catalog, subject("custom")), ["contact.view"]);
    let ids = |id| subject(id).roles.iter().map(|(role, _)| role.clone()).collect::<Vec<_>>();
    assert_eq!(ids("both"), role_ids(&["r", "user"]));
    assert_eq!(ids("dangling"), role_ids(&["r"]), "a role that is nowhere gives nothing");
    assert!(Arc::ptr_eq(&subject("custom").roles[0].1, &subject("both").roles[0].1));
}

pub(super) async fn only_tenants_in_use_are_viewed(store: &SqlStore) {
    register(store);
    let id = make_tenant(store, "acme").await;
    assert!(view(store, &id, &[]).await.is_some());
    assert!(view(store, &tenant_id("Acme"), &[]).await.is_none());
    for (state, revision) in [(TenantState::Deleted, 2), (TenantState::Purged, 3)] {
        let tx = store.write(&id).await.unwrap();
        tx.put_tenant(&Tenant { state, ..tenant("acme") }).await.unwrap();
        assert_eq!(commit(tx).await, revision);
        assert!(view(store, &id, &[]).await.is_none());
        let seen = store.load_tenant(&id).await.unwrap();
        assert_eq!((seen.value.is_none(), seen.revision), (true, revision));
    }
}

pub(super) async fn pieces_come_with_the_revision_they_were_seen_at(store: &SqlStore) {
    let catalog = register(store);
    let kim = member("kim", &["r"], &["t"]);
    let tenant = make_members(store, "acme", std::slice::from_ref(&kim)).await;
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role("r")).await.unwrap();
    commit(tx).await;

    let seen = store.load_tenant(&tenant).await.unwrap();
    assert_eq!(seen.value.map(|catalog| catalog.reference().to_string()), Some("qpien@1".into()));
    assert_eq!(seen.revision, 3);
    let seen = store.load_members(&tenant, &member_ids(&["kim", "nobody"])).await.unwrap();
    assert_eq!((seen.value, seen.revision), (vec![Member { revision: 2, ..kim.clone() }], 3));
    let wanted = role_ids(&["r", "user", "R"]).into_iter().collect();
    let seen = store.load_roles(&tenant, &catalog, &wanted).await.unwrap();
    let mut found: Vec<_> = seen.value.into_keys().collect();
    found.sort();
    assert_eq!((found, seen.revision), (role_ids(&["r", "user"]), 3));
    let seen = store.load_members(&tenant_id("nowhere"), &[kim.id]).await.unwrap();
    assert_eq!((seen.value, seen.revision), (vec![], 0));
}
