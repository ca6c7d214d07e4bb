//! A change that carries the etag of its preview is made only if that preview would say the same now.
//! On both databases.

use std::sync::Arc;

use rolegate::domain::catalog::{Catalog, shipped};
use rolegate::domain::ids::{MemberId, RoleId};
use rolegate::domain::member::MemberStatus;
use rolegate::domain::refusal::{PreviewLoss, Refusal};
use rolegate::service::page::PageRequest;
use rolegate::service::preview::{Preview, RoleChange};
use rolegate::service::roles::{Deletion, RoleEdit};
use rolegate::service::upsert::{Batch, BatchMode, Upsert};
use rolegate::service::{ServiceError, WriteContext};

use crate::actors::{House, alone, grants, member, role, team_ids};

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
    a_deletion_that_was_previewed_moves_whom_it_showed "oqupie",
    an_update_that_was_previewed_changes_whom_it_showed "test",
    an_assignment_that_was_previewed_is_of_those_members "test",
    a_preview_ends_with_the_catalog_version "oqupie",
    all_pages_of_a_preview_hold_together "test",
}

async fn preview(house: &House, change: &RoleChange) -> Preview {
    page(house, change, &PageRequest::default()).await
}

async fn page(house: &House, change: &RoleChange, page: &PageRequest) -> Preview {
    house.roles.preview(&house.tenant, change, page).await.unwrap().value
}

/// Nothing is written.
fn trial() -> WriteContext {
    WriteContext { validate_only: true, ..alone() }
}

#[track_caller]
fn lost<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> PreviewLoss {
    match result {
        Err(ServiceError::Refused(Refusal::PreviewOutdated(loss))) => loss,
        other => panic!("{other:?}"),
    }
}

async fn a_deletion_that_was_previewed_moves_whom_it_showed(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let helper = house.role("Helper", &["ticket.work at all", "customer.edit"]).await;
    let other = house.role("Other", &["customer.edit"]).await;
    let custom = house.role("Custom", &["customer.edit", "customer.delete"]).await;
    let agent = role("agent");
    for id in ["a", "b"] {
        house.hire(id, &[&helper], &["one"]).await;
    }
    for id in ["c", "d", "e"] {
        house.hire(id, &[&other], &[]).await;
    }
    let change = RoleChange::Delete { role: helper.clone(), reassign_to: Some(agent.clone()) };
    let delete = async |context, to: &RoleId, etag: &str| {
        let etag = Some(etag.to_owned());
        let deletion = Deletion { reassign_to: Some(to.clone()), etag, ..Deletion::default() };
        roles.delete(context, tenant, &helper, &deletion).await
    };
    let first = preview(&house, &change).await;
    assert_eq!(first.losing, 2);

    // As it was reported: three more get the role, and the deletion would move five.
    for id in ["c", "d", "e"] {
        members
            .assign_roles(alone(), tenant, &member(id), std::slice::from_ref(&helper), None)
            .await
            .unwrap();
    }
    assert_eq!(lost(delete(alone(), &agent, &first.etag).await), PreviewLoss::Members);
    assert_eq!(
        members.get(tenant, &member("e")).await.unwrap().roles,
        std::slice::from_ref(&helper)
    );

    // The same number, but others.
    let again = preview(&house, &change).await;
    assert_eq!(again.losing, 5);
    let (a, new) = (member("a"), member("new"));
    members.assign_roles(alone(), tenant, &a, std::slice::from_ref(&other), None).await.unwrap();
    assert_eq!(lost(delete(trial(), &agent, &again.etag).await), PreviewLoss::Members);
    members.create(alone(), tenant, &new, std::slice::from_ref(&helper), &[]).await.unwrap();
    assert_eq!(lost(delete(trial(), &agent, &again.etag).await), PreviewLoss::Members);

    // One less, another team, another status.
    let again = preview(&house, &change).await;
    members.delete(alone(), tenant, &new, None).await.unwrap();
    assert_eq!(lost(delete(trial(), &agent, &again.etag).await), PreviewLoss::Members);
    let again = preview(&house, &change).await;
    members.set_teams(alone(), tenant, &member("b"), &team_ids(&["two"]), None).await.unwrap();
    assert_eq!(lost(delete(trial(), &agent, &again.etag).await), PreviewLoss::Members);
    let again = preview(&house, &change).await;
    let archived = MemberStatus::Archived;
    members.set_status(alone(), tenant, &member("c"), archived, None).await.unwrap();
    assert_eq!(lost(delete(trial(), &agent, &again.etag).await), PreviewLoss::Members);

    // The role itself, and the one that its members would get.
    let change_to = RoleChange::Delete { role: helper.clone(), reassign_to: Some(custom.clone()) };
    let (to_agent, to_custom) =
        (preview(&house, &change).await.etag, preview(&house, &change_to).await.etag);
    let fewer = RoleEdit { grants: Some(grants(&["customer.edit"])), ..RoleEdit::default() };
    roles.update(alone(), tenant, &custom, &fewer).await.unwrap();
    assert_eq!(lost(delete(trial(), &custom, &to_custom).await), PreviewLoss::Roles);
    delete(trial(), &agent, &to_agent).await.unwrap();
    let renamed = RoleEdit { name: Some("Helping".into()), ..RoleEdit::default() };
    roles.update(alone(), tenant, &helper, &renamed).await.unwrap();
    assert_eq!(lost(delete(trial(), &agent, &to_agent).await), PreviewLoss::Roles);

    // Another change than the one that was previewed, and what is no preview of this tenant.
    let etag = preview(&house, &change).await.etag;
    assert_eq!(lost(delete(trial(), &custom, &etag).await), PreviewLoss::OtherChange);
    let edit = RoleEdit { etag: Some(etag.clone()), ..fewer };
    let edited = roles.update(trial(), tenant, &helper, &edit).await;
    assert_eq!(lost(edited), PreviewLoss::OtherChange);
    let garbled = format!("{}A", etag.trim_end_matches(|c: char| c.is_ascii_alphanumeric()));
    assert_eq!(lost(delete(trial(), &agent, &garbled).await), PreviewLoss::Unknown);
    let moved = members.set_teams(trial(), tenant, &a, &[], Some(&etag)).await;
    assert!(matches!(moved, Err(ServiceError::Refused(Refusal::EtagMismatch { .. }))), "{moved:?}");

    // What has nothing to do with it refuses nothing.
    house.hire("stranger", &[&other], &["one"]).await;
    members.set_teams(alone(), tenant, &a, &[], None).await.unwrap();
    house.role("Unrelated", &["customer.edit"]).await;
    let done = delete(alone(), &agent, &etag).await.unwrap().value;
    assert_eq!((done.reassigned.active, done.reassigned.archived), (3, 1));
}

async fn an_update_that_was_previewed_changes_whom_it_showed(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let view = house.role("View", &["doc.open", "doc.view at own"]).await;
    let besides = house.role("Besides", &["archive.list"]).await;
    house.hire("a", &[&view], &[]).await;
    let both = house.hire("b", &[&view, &besides], &[]).await;
    let wider = grants(&["doc.view at all"]);
    let change =
        RoleChange::Update { role: view.clone(), grants: wider.clone(), expand_requirements: true };
    let update = async |context, grants: &[_], expand_requirements, etag: &str| {
        let edit = RoleEdit {
            grants: Some(grants.to_vec()),
            expand_requirements,
            etag: Some(etag.to_owned()),
            ..RoleEdit::default()
        };
        roles.update(context, tenant, &view, &edit).await
    };
    let etag = preview(&house, &change).await.etag;
    update(trial(), &wider, true, &etag).await.unwrap();
    // What it comes to counts, not how it was asked for; in any order.
    update(trial(), &grants(&["doc.view at all", "doc.open"]), false, &etag).await.unwrap();
    let other = grants(&["doc.view at group"]);
    assert_eq!(lost(update(trial(), &other, true, &etag).await), PreviewLoss::OtherChange);
    // Not even what would change nothing.
    let same = grants(&["doc.open", "doc.view at own"]);
    assert_eq!(lost(update(trial(), &same, false, &etag).await), PreviewLoss::OtherChange);

    // A role that a holder holds besides decides what it gains.
    let more = RoleEdit {
        grants: Some(grants(&["archive.list", "archive.search"])),
        ..RoleEdit::default()
    };
    roles.update(alone(), tenant, &besides, &more).await.unwrap();
    assert_eq!(lost(update(trial(), &wider, true, &etag).await), PreviewLoss::Roles);
    let etag = preview(&house, &change).await.etag;
    members.assign_roles(alone(), tenant, &both, std::slice::from_ref(&view), None).await.unwrap();
    assert_eq!(lost(update(trial(), &wider, true, &etag).await), PreviewLoss::Members);
    let etag = preview(&house, &change).await.etag;
    roles
        .update(alone(), tenant, &besides, &RoleEdit { name: Some("B".into()), ..more })
        .await
        .unwrap();
    update(alone(), &wider, true, &etag).await.unwrap();
    assert_eq!(lost(update(alone(), &wider, true, &etag).await), PreviewLoss::Roles, "once");
}

async fn an_assignment_that_was_previewed_is_of_those_members(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let view = house.role("View", &["doc.open", "doc.view at own"]).await;
    let list = house.role("List", &["archive.list"]).await;
    let given = [list.clone(), view.clone()];
    let (a, b) = (house.hire("a", &[&view], &[]).await, house.hire("b", &[], &[]).await);
    let of = |who: &[&MemberId]| RoleChange::Assign {
        members: who.iter().map(|id| (*id).clone()).collect(),
        roles: given.to_vec(),
    };
    let assign = async |id: &MemberId, roles: &[RoleId], etag: &str| {
        members.assign_roles(trial(), tenant, id, roles, Some(etag)).await
    };
    let etag = preview(&house, &of(&[&a])).await.etag;
    assign(&a, &given, &etag).await.unwrap();
    assert_eq!(lost(assign(&b, &given, &etag).await), PreviewLoss::OtherChange);
    assert_eq!(lost(assign(&a, &given[1..], &etag).await), PreviewLoss::OtherChange);
    house.hire("c", &[&view], &[]).await;
    assign(&a, &given, &etag).await.unwrap();
    members.set_teams(alone(), tenant, &a, &team_ids(&["one"]), None).await.unwrap();
    assert_eq!(lost(assign(&a, &given, &etag).await), PreviewLoss::Members);
    // What it would be given, and what it holds.
    for changed in [&list, &view] {
        let etag = preview(&house, &of(&[&a])).await.etag;
        let edit = RoleEdit { description: Some(format!("{changed}")), ..RoleEdit::default() };
        roles.update(alone(), tenant, changed, &edit).await.unwrap();
        assert_eq!(lost(assign(&a, &given, &etag).await), PreviewLoss::Roles);
    }

    // Several at once are a batch that does nothing else.
    let etag = preview(&house, &of(&[&a, &b])).await.etag;
    assert_eq!(lost(assign(&a, &given, &etag).await), PreviewLoss::OtherChange);
    let item = |id: &MemberId| Upsert {
        id: id.clone(),
        roles: Some(given.to_vec()),
        teams: None,
        status: None,
    };
    let batch = |items: Vec<Upsert>, archive_absent| Batch {
        items: items.into_iter().map(Ok).collect(),
        mode: BatchMode::AllOrNothing,
        archive_absent,
        etag: Some(etag.clone()),
    };
    let upsert = async |context, batch| members.upsert(context, tenant, batch).await;
    for other in [
        batch(vec![item(&a)], false),
        batch(vec![item(&a), item(&b), item(&member("c"))], false),
        batch(vec![item(&a), item(&b)], true),
        batch(vec![item(&a), Upsert { roles: Some(vec![]), ..item(&b) }], false),
        batch(vec![item(&a), Upsert { teams: Some(vec![]), ..item(&b) }], false),
        batch(vec![], false),
    ] {
        assert_eq!(lost(upsert(trial(), other).await), PreviewLoss::OtherChange);
    }
    let own = Batch { etag: Some("7".into()), ..batch(vec![item(&a), item(&b)], false) };
    assert_eq!(lost(upsert(trial(), own).await), PreviewLoss::Unknown);
    upsert(alone(), batch(vec![item(&b), item(&a)], false)).await.unwrap();
    let again = upsert(alone(), batch(vec![item(&b), item(&a)], false)).await;
    assert_eq!(lost(again), PreviewLoss::Members);
}

async fn a_preview_ends_with_the_catalog_version(house: House) {
    let (roles, tenant) = (&house.roles, &house.tenant);
    let helper = house.role("Helper", &["customer.edit"]).await;
    house.hire("a", &[&helper], &[]).await;
    let change = RoleChange::Delete { role: helper.clone(), reassign_to: Some(role("agent")) };
    let etag = Some(preview(&house, &change).await.etag);
    let source = shipped().iter().find(|source| source.contains("id = \"oqupie\"")).unwrap();
    let newer = source.replacen("\nversion = 1\n", "\nversion = 2\n", 1);
    house.store.register(Arc::new(Catalog::parse(&newer).unwrap()));
    let moved = house.tenants().move_catalog(alone(), tenant, Some(2), false, None).await;
    moved.unwrap();
    let deletion = Deletion { reassign_to: Some(role("agent")), etag, ..Deletion::default() };
    let deleted = roles.delete(alone(), tenant, &helper, &deletion).await;
    assert_eq!(lost(deleted), PreviewLoss::Catalog);
}

/// Whoever has seen all pages has seen what the etag stands for: it is that of the first.
async fn all_pages_of_a_preview_hold_together(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let view = house.role("View", &["doc.open", "doc.view at own"]).await;
    for id in ["b", "c", "d"] {
        house.hire(id, &[&view], &[]).await;
    }
    let change = RoleChange::Update {
        role: view.clone(),
        grants: grants(&["doc.open"]),
        expand_requirements: false,
    };
    let mut wanted = PageRequest { size: 1, token: String::new() };
    let first = page(&house, &change, &wanted).await;
    wanted.token.clone_from(&first.members.next_token);
    // Comes before the second page, and would not be seen.
    house.hire("a", &[&view], &[]).await;
    let second = page(&house, &change, &wanted).await;
    assert_eq!(second.losing, 4);
    assert_eq!(second.etag, first.etag);
    let edit = RoleEdit {
        grants: Some(grants(&["doc.open"])),
        etag: Some(second.etag),
        ..RoleEdit::default()
    };
    assert_eq!(lost(roles.update(alone(), tenant, &view, &edit).await), PreviewLoss::Members);
    members.delete(alone(), tenant, &member("a"), None).await.unwrap();
    roles.update(alone(), tenant, &view, &edit).await.unwrap();
}
