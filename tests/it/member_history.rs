//! Each change of a member's roles is in the audit trail under the member, and under the roles that it
//! lost and got, however it came about. On both databases.

use std::collections::BTreeSet;
use std::sync::Arc;

use rolegate::domain::catalog::{Catalog, shipped};
use rolegate::domain::ids::{MemberId, RoleId};
use rolegate::domain::member::MemberStatus;
use rolegate::service::page::PageRequest;
use rolegate::service::roles::Deletion;
use rolegate::service::upsert::{Batch, BatchMode, Upsert};
use rolegate::store::{AuditEvent, AuditFilter, Keyring};
use serde_json::Value;

use crate::actors::{House, alone, member, role, team_ids};

macro_rules! on_both {
    ($($case:ident $catalog:literal,)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::House::sqlite($catalog).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                let Some(house) = super::House::postgres($catalog).await else { return };
                super::$case(house).await;
            })*
        }
    };
}
on_both! {
    a_deletion_with_reassignment_tells_of_each_member "test",
    a_deletion_tells_of_the_archived_members_that_it_strips "separate_refusing",
    a_renamed_default_role_tells_of_each_holder "oqupie",
    every_way_to_change_roles_is_told_under_them "oqupie",
    many_holders_are_told_of_in_parts "oqupie",
}

async fn events(house: &House, filter: AuditFilter) -> Vec<AuditEvent> {
    let page = PageRequest { size: 1_000, token: String::new() };
    house.roles.audit(&house.tenant, &filter, &page).await.unwrap().items
}

async fn of_member(house: &House, id: &MemberId) -> Vec<AuditEvent> {
    events(house, AuditFilter { member: Some(id.clone()), ..AuditFilter::default() }).await
}

async fn of_role(house: &House, id: &RoleId) -> Vec<AuditEvent> {
    events(house, AuditFilter { role: Some(id.clone()), ..AuditFilter::default() }).await
}

/// The roles that an event says that a member had, or has.
fn roles_of(told: &Option<Value>, id: &MemberId) -> Vec<String> {
    let all = told.as_ref().unwrap();
    let one = std::slice::from_ref(all);
    let all = all.as_array().map_or(one, Vec::as_slice);
    let found = all.iter().find(|told| told["id"] == id.as_str()).unwrap();
    let roles = found["roles"].as_array().unwrap().iter();
    roles.map(|role| role.as_str().unwrap().to_owned()).collect()
}

fn texts(roles: &[&RoleId]) -> Vec<String> {
    roles.iter().map(|role| role.to_string()).collect()
}

async fn assert_sound(house: &House) {
    let ring = Keyring::new(house.store.database_audit_key().clone(), []);
    let verified = house.store.verify_audit(&house.tenant, &ring, &[]).await.unwrap();
    assert!(verified.is_sound(), "{verified:?}");
}

async fn a_deletion_with_reassignment_tells_of_each_member(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let old = house.role("Old", &["doc.open"]).await;
    let new = house.role("New", &["archive.list"]).await;
    let besides = house.role("Besides", &["archive.search"]).await;
    let a = house.hire("a", &[&besides, &old], &["one"]).await;
    let has_both = house.hire("b", &[&new, &old], &[]).await;
    let archived = house.hire("c", &[&old], &[]).await;
    let status = MemberStatus::Archived;
    members.set_status(alone(), tenant, &archived, status, None).await.unwrap();
    let untouched = house.hire("d", &[&new], &[]).await;
    let before = house.revision().await;
    let deletion = Deletion { reassign_to: Some(new.clone()), ..Deletion::default() };
    roles.delete(alone(), tenant, &old, &deletion).await.unwrap();

    for (id, had, has) in [
        (&a, [&besides, &old].as_slice(), [&besides, &new].as_slice()),
        (&has_both, &[&new, &old], &[&new]),
        (&archived, &[&old], &[&new]),
    ] {
        let told = &of_member(&house, id).await[0];
        assert_eq!(told.revision, before + 1, "{id}");
        assert_eq!(roles_of(&told.entry.before, id), texts(had), "{id}");
        assert_eq!(roles_of(&told.entry.after, id), texts(has), "{id}");
        // What is told is what there is.
        let found = members.get(tenant, id).await.unwrap();
        let all = told.entry.after.as_ref().unwrap().as_array().unwrap();
        let all = all.iter().find(|told| told["id"] == id.as_str()).unwrap();
        assert_eq!(*all, serde_json::to_value(&found).unwrap());
        for role in [&old, &new] {
            let under = of_role(&house, role).await;
            assert!(under.iter().any(|event| event.number == told.number), "{id} under {role}");
        }
    }
    assert!(of_member(&house, &untouched).await.iter().all(|event| event.revision <= before));
    assert!(of_role(&house, &besides).await.iter().all(|event| event.revision <= before));
    assert_sound(&house).await;

    // Erased, a member is in none of it.
    members.delete(alone(), tenant, &a, None).await.unwrap();
    assert_eq!(of_member(&house, &a).await, []);
    assert!(!format!("{:?}", events(&house, AuditFilter::default()).await).contains("\"a\""));
    assert_sound(&house).await;

    // A trial tells nothing.
    let all = events(&house, AuditFilter::default()).await.len();
    let deletion = Deletion { reassign_to: Some(besides.clone()), ..Deletion::default() };
    let trial = rolegate::service::WriteContext { validate_only: true, ..alone() };
    roles.delete(trial, tenant, &new, &deletion).await.unwrap();
    assert_eq!(events(&house, AuditFilter::default()).await.len(), all);
}

async fn a_deletion_tells_of_the_archived_members_that_it_strips(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let old = house.role("Old", &["doc.open"]).await;
    let kept = house.role("Kept", &["doc.open"]).await;
    let gone = house.hire("gone", &[&old, &kept], &[]).await;
    members.set_status(alone(), tenant, &gone, MemberStatus::Archived, None).await.unwrap();
    let done = roles.delete(alone(), tenant, &old, &Deletion::default()).await.unwrap().value;
    assert_eq!(done.stripped_archived, 1);
    let told = &of_member(&house, &gone).await[0];
    assert_eq!(roles_of(&told.entry.before, &gone), texts(&[&old, &kept]));
    assert_eq!(roles_of(&told.entry.after, &gone), texts(&[&kept]));
    assert_eq!(told.entry.roles, [old]);
    assert_sound(&house).await;
}

async fn a_renamed_default_role_tells_of_each_holder(house: House) {
    let (old, new) = (role("agent"), role("clerk"));
    let (a, b) = (house.hire("a", &[&old], &[]).await, house.hire("b", &[&old], &[]).await);
    let other = house.hire("other", &[&role("admin")], &[]).await;
    let status = MemberStatus::Archived;
    house.members.set_status(alone(), &house.tenant, &b, status, None).await.unwrap();
    let source = shipped().iter().find(|source| source.contains("id = \"oqupie\"")).unwrap();
    let newer = source.replacen("\nversion = 1\n", "\nversion = 2\n", 1).replacen(
        "[[role]]\nid = \"agent\"\n",
        "[[role]]\nid = \"clerk\"\nrenamed_from = [\"agent\"]\n",
        1,
    );
    house.store.register(Arc::new(Catalog::parse(&newer).unwrap()));
    let before = house.revision().await;
    let moved = house.tenants().move_catalog(alone(), &house.tenant, Some(2), true, None).await;
    moved.unwrap();
    for id in [&a, &b] {
        let told = &of_member(&house, id).await[0];
        assert_eq!(told.revision, before + 1);
        assert_eq!(roles_of(&told.entry.before, id), texts(&[&old]));
        assert_eq!(roles_of(&told.entry.after, id), texts(&[&new]));
        assert_eq!(told.entry.roles, [old.clone(), new.clone()]);
    }
    assert!(of_member(&house, &other).await.iter().all(|event| event.revision <= before));
    assert_sound(&house).await;
}

async fn every_way_to_change_roles_is_told_under_them(house: House) {
    let (members, tenant) = (&house.members, &house.tenant);
    let (agent, pro) = (role("agent"), role("pro_agent"));
    let mut told_under_both = Vec::new();
    let mut seen = of_role(&house, &agent).await.len() + of_role(&house, &pro).await.len();
    let mut told = async |what: &'static str| {
        let (under_agent, under_pro) = (of_role(&house, &agent).await, of_role(&house, &pro).await);
        let all = under_agent.len() + under_pro.len();
        told_under_both.push((what, all - seen));
        seen = all;
    };
    let kim = house.hire("kim", &[&agent], &[]).await;
    told("made").await;
    members.set_teams(alone(), tenant, &kim, &team_ids(&["one"]), None).await.unwrap();
    told("other teams").await;
    let given = std::slice::from_ref(&pro);
    members.assign_roles(alone(), tenant, &kim, given, None).await.unwrap();
    told("another role").await;
    let status = MemberStatus::Archived;
    members.set_status(alone(), tenant, &kim, status, None).await.unwrap();
    told("archived").await;
    let item = |id: &str, role: &RoleId| Upsert {
        id: member(id),
        roles: Some(vec![role.clone()]),
        teams: None,
        status: None,
    };
    let items = vec![Ok(item("kim", &agent)), Ok(item("lee", &role("admin")))];
    let mode = BatchMode::AllOrNothing;
    let batch = Batch { items, mode, archive_absent: false, etag: None };
    members.upsert(alone(), tenant, batch).await.unwrap();
    told("in a batch").await;
    members.delete(alone(), tenant, &kim, None).await.unwrap();
    told("deleted").await;
    assert_eq!(
        told_under_both,
        [
            ("made", 1),
            ("other teams", 0),
            ("another role", 2),
            ("archived", 0),
            ("in a batch", 2),
            ("deleted", 1),
        ]
    );
    assert_eq!(of_role(&house, &role("owner")).await.len(), 1, "the tenant's first owner");
    assert_sound(&house).await;
}

async fn many_holders_are_told_of_in_parts(house: House) {
    const MEMBERS: usize = 1_250;
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let old = house.role("Old", &["customer.edit"]).await;
    let agent = role("agent");
    let item = |n| Upsert {
        id: member(&format!("m{n:05}")),
        roles: Some(vec![old.clone()]),
        teams: Some(team_ids(&["one", "two"])),
        status: None,
    };
    let items = (0..MEMBERS).map(|n| Ok(item(n))).collect();
    let mode = BatchMode::AllOrNothing;
    let batch = Batch { items, mode, archive_absent: false, etag: None };
    members.upsert(alone(), tenant, batch).await.unwrap();
    let before = house.revision().await;
    let deletion = Deletion { reassign_to: Some(agent.clone()), ..Deletion::default() };
    let done = roles.delete(alone(), tenant, &old, &deletion).await.unwrap().value;
    assert_eq!(done.reassigned.active, MEMBERS as u64);
    assert_eq!(house.revision().await, before + 1, "one change");
    let events = of_role(&house, &agent).await;
    let parts: Vec<_> = events.iter().filter(|event| event.revision == before + 1).collect();
    let told: Vec<&MemberId> = parts.iter().flat_map(|event| &event.entry.members).collect();
    assert_eq!(told.len(), MEMBERS, "each once");
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), MEMBERS);
    for event in parts {
        assert!(event.entry.members.len() <= 100 && event.size < 80 << 10, "{}", event.size);
    }
    assert_sound(&house).await;
}
