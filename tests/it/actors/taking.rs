//! What an actor may not give it may not take either: members of other teams, roles beyond it, and
//! the members of a role that it deletes. On both databases.

use rolegate::domain::ids::{MemberId, RoleId};
use rolegate::domain::member::MemberStatus;
use rolegate::service::roles::{Deletion, RoleEdit};
use rolegate::service::upsert::{Batch, BatchMode, ItemOutcome, Upsert};

use super::{House, alone, grants, member, name, on_behalf, outcome, role, team_ids};

/// An agent of OQUPIE who also manages members.
const LEAD: [&str; 7] = [
    "ticket.work at group",
    "customer.edit",
    "knowledge_base.work at own",
    "knowledge_base.edit",
    "management.execute",
    "organization.member.manage",
    "organization.member.delete",
];

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
    a_member_of_another_team_is_left_alone "oqupie",
    a_role_that_other_teams_hold_is_left_alone "test",
    a_role_beyond_the_actor_keeps_its_name "oqupie",
    reassigning_members_takes_the_right_to "separate",
    stripping_archived_members_takes_the_right_to "separate_refusing",
}

fn upsert(id: &MemberId) -> Upsert {
    Upsert { id: id.clone(), roles: None, teams: None, status: None }
}

async fn a_member_of_another_team_is_left_alone(house: House) {
    let (members, tenant) = (&house.members, &house.tenant);
    let lead_role = house.role("lead", &LEAD).await;
    let agent = house.role("agent too", &["ticket.work at group", "customer.edit"]).await;
    let lead = house.hire("lead", &[&lead_role], &["billing"]).await;
    let tess = house.hire("tess", &[&agent], &["technical"]).await;
    let tom = house.hire("tom", &[&agent], &["technical"]).await;
    let bea = house.hire("bea", &[&agent], &["billing"]).await;
    let (active, archived) = (MemberStatus::Active, MemberStatus::Archived);
    members.set_status(alone(), tenant, &tom, archived, None).await.unwrap();
    let before = house.revision().await;

    let act = || on_behalf(&lead);
    let mut said = Vec::new();
    for teams in [&[][..], &["billing"], &["billing", "technical"]] {
        let teams = team_ids(teams);
        said.push(outcome(members.set_teams(act(), tenant, &tess, &teams, None).await));
    }
    said.push(outcome(members.assign_roles(act(), tenant, &tess, &[], None).await));
    said.push(outcome(members.set_status(act(), tenant, &tess, archived, None).await));
    said.push(outcome(members.delete(act(), tenant, &tess, None).await));
    said.push(outcome(members.set_status(act(), tenant, &tom, active, None).await));
    said.push(outcome(members.set_teams(act(), tenant, &tom, &[], None).await));
    said.push(outcome(members.delete(act(), tenant, &tom, None).await));
    for item in [
        Upsert { teams: Some(vec![]), ..upsert(&tess) },
        Upsert { roles: Some(vec![]), ..upsert(&tess) },
        Upsert { status: Some(archived), ..upsert(&tess) },
        Upsert { status: Some(active), ..upsert(&tom) },
    ] {
        for mode in [BatchMode::AllOrNothing, BatchMode::ItemByItem] {
            let batch =
                Batch { items: vec![Ok(item.clone())], mode, archive_absent: false, etag: None };
            said.push(match members.upsert(act(), tenant, batch).await {
                Ok(written) => match &written.value.items[0].1 {
                    ItemOutcome::Refused(refusal) => name(refusal),
                    done => format!("{done:?}"),
                },
                refused => outcome(refused),
            });
        }
    }
    assert_eq!(said, vec!["ACTOR_OUTRANKED"; 17]);
    assert_eq!(house.revision().await, before, "nothing was changed");

    // Who is absent from a sync is kept for the same reason, with the others that are beyond it.
    let batch =
        Batch { items: vec![], mode: BatchMode::ItemByItem, archive_absent: true, etag: None };
    let done = members.upsert(act(), tenant, batch).await.unwrap().value;
    assert_eq!(done.archived, std::slice::from_ref(&bea));
    assert_eq!(done.kept_from_actor, ["lead", "owner", "tess"].map(member));

    // In its own team it does all of that, and undoes it.
    members.set_status(act(), tenant, &bea, active, None).await.unwrap();
    members.set_teams(act(), tenant, &bea, &[], None).await.unwrap();
    members.set_teams(act(), tenant, &bea, &team_ids(&["billing"]), None).await.unwrap();
    members.assign_roles(act(), tenant, &bea, &[], None).await.unwrap();
    members.assign_roles(act(), tenant, &bea, &[agent], None).await.unwrap();
    members.delete(act(), tenant, &bea, None).await.unwrap();
    // Whoever works on all tickets administers all teams.
    let admin = house.hire("admin", &[&role("admin")], &["billing"]).await;
    let act = || on_behalf(&admin);
    members.set_teams(act(), tenant, &tess, &[], None).await.unwrap();
    members.set_status(act(), tenant, &tess, archived, None).await.unwrap();
    members.delete(act(), tenant, &tess, None).await.unwrap();
}

async fn a_role_that_other_teams_hold_is_left_alone(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let held = ["admin.roles", "doc.open", "doc.view at group", "archive.list", "archive.search"];
    let lead_role = house.role("lead", &held).await;
    let view = house.role("view", &["doc.open", "doc.view at group"]).await;
    let list = house.role("list", &["archive.list", "archive.search"]).await;
    let lead = house.hire("lead", &[&lead_role], &["mine"]).await;
    house.hire("near", &[&view, &list], &["mine"]).await;
    let far = house.hire("far", &[&list], &["other"]).await;

    let act = || on_behalf(&lead);
    let narrower =
        |written: &[&str]| RoleEdit { grants: Some(grants(written)), ..RoleEdit::default() };
    let to = |role: &RoleId| Deletion { reassign_to: Some(role.clone()), ..Deletion::default() };
    // What somebody in the lead's team holds besides is no matter to those in others.
    let less = narrower(&["archive.list"]);
    assert_eq!(outcome(roles.update(act(), tenant, &list, &less).await), "yes");
    // Nor is a role whose holders are all in its team.
    let less = narrower(&["doc.open", "doc.view at own"]);
    assert_eq!(outcome(roles.update(act(), tenant, &view, &less).await), "yes");
    let more = narrower(&["doc.open", "doc.view at group"]);
    assert_eq!(outcome(roles.update(act(), tenant, &view, &more).await), "yes");

    // Once somebody in another team holds both, neither is the lead's to narrow, to rename or to
    // delete: archived or not.
    members.assign_roles(alone(), tenant, &far, &[view.clone(), list.clone()], None).await.unwrap();
    for status in [MemberStatus::Active, MemberStatus::Archived] {
        members.set_status(alone(), tenant, &far, status, None).await.unwrap();
        let renamed = RoleEdit { name: Some("Seeing".into()), ..RoleEdit::default() };
        let less = narrower(&["doc.open", "doc.view at own"]);
        let mut said = Vec::new();
        for role in [&view, &list] {
            said.push(outcome(roles.update(act(), tenant, role, &narrower(&[])).await));
            said.push(outcome(roles.update(act(), tenant, role, &renamed).await));
            said.push(outcome(roles.delete(act(), tenant, role, &to(&lead_role)).await));
        }
        said.push(outcome(roles.update(act(), tenant, &view, &less).await));
        assert_eq!(said, vec!["ACTOR_OUTRANKED"; 7], "{status:?}");
    }
}

/// The disguise: a powerful role gets a harmless name, and a harmless one the powerful name, for the
/// next owner to hand out.
async fn a_role_beyond_the_actor_keeps_its_name(house: House) {
    let (roles, tenant) = (&house.roles, &house.tenant);
    let head = house.role("Head of everything", &["ticket.work at all", "ticket.delete"]).await;
    let spare = house.role("Spare", &["customer.edit"]).await;
    let manager = house
        .role(
            "manager",
            &[
                "customer.edit",
                "management.execute",
                "organization.member.manage",
                "organization.role.manage",
            ],
        )
        .await;
    let manager = house.hire("manager", &[&manager], &[]).await;
    let act = || on_behalf(&manager);
    let label = |name: Option<&str>, description: Option<&str>| RoleEdit {
        name: name.map(str::to_owned),
        description: description.map(str::to_owned),
        ..RoleEdit::default()
    };
    let before = house.revision().await;
    for edit in [
        label(Some("Intern"), None),
        label(Some("head of everything"), None),
        label(None, Some("Knows nothing, does nothing")),
        RoleEdit {
            grants: Some(grants(&["ticket.work at all", "ticket.delete", "customer.edit"])),
            expand_requirements: true,
            ..label(Some("Intern"), None)
        },
    ] {
        let said = outcome(roles.update(act(), tenant, &head, &edit).await);
        assert_eq!(said, "ACTOR_OUTRANKED", "{edit:?}");
    }
    let taken = label(Some("Head of everything"), None);
    let said = outcome(roles.update(act(), tenant, &spare, &taken).await);
    assert_eq!(said, "RoleNameTaken");
    assert_eq!(house.revision().await, before);
    // What it may take from, it renames; what stays as it is, is not refused.
    let said = outcome(roles.update(act(), tenant, &spare, &label(Some("Used"), None)).await);
    assert_eq!(said, "yes");
    let same = label(Some("Head of everything"), Some(""));
    assert_eq!(outcome(roles.update(act(), tenant, &head, &same).await), "yes");
    let renamed = label(Some("Head"), Some("Of everything"));
    assert_eq!(
        outcome(roles.update(on_behalf(&member("owner")), tenant, &head, &renamed).await),
        "yes"
    );
}

async fn reassigning_members_takes_the_right_to(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let (roles_only, both) = administrators(&house).await;
    let to = |role: &RoleId| Deletion { reassign_to: Some(role.clone()), ..Deletion::default() };
    let target = house.role("target", &["doc.open"]).await;
    for status in [MemberStatus::Active, MemberStatus::Archived] {
        let held = house.role("held", &["doc.open"]).await;
        let kim = house.hire(&format!("kim-{status:?}"), &[&held], &[]).await;
        members.set_status(alone(), tenant, &kim, status, None).await.unwrap();
        let given = [target.clone()];
        let said =
            outcome(members.assign_roles(on_behalf(&roles_only), tenant, &kim, &given, None).await);
        assert_eq!(said, "ACTOR_NOT_PERMITTED");
        let said = outcome(roles.delete(on_behalf(&roles_only), tenant, &held, &to(&target)).await);
        assert_eq!(said, "ACTOR_NOT_PERMITTED", "{status:?}");
        assert_eq!(members.get(tenant, &kim).await.unwrap().roles, std::slice::from_ref(&held));
        let said = outcome(roles.delete(on_behalf(&both), tenant, &held, &to(&target)).await);
        assert_eq!(said, "yes");
        assert_eq!(members.get(tenant, &kim).await.unwrap().roles, std::slice::from_ref(&target));
    }
    // It is an attempt like any other.
    let refused = house.audit(Some(&roles_only)).await;
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|e| e.refusal.as_deref() == Some("ACTOR_NOT_PERMITTED")));
    // Where nobody holds the role, no member is changed.
    let idle = house.role("idle", &["doc.open"]).await;
    let said = outcome(roles.delete(on_behalf(&roles_only), tenant, &idle, &to(&target)).await);
    assert_eq!(said, "yes");
}

async fn stripping_archived_members_takes_the_right_to(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let (roles_only, both) = administrators(&house).await;
    let held = house.role("held", &["doc.open"]).await;
    let kim = house.hire("kim", &[&held], &[]).await;
    members.set_status(alone(), tenant, &kim, MemberStatus::Archived, None).await.unwrap();
    let deletion = Deletion::default();
    let said = outcome(roles.delete(on_behalf(&roles_only), tenant, &held, &deletion).await);
    assert_eq!(said, "ACTOR_NOT_PERMITTED");
    assert_eq!(members.get(tenant, &kim).await.unwrap().roles, std::slice::from_ref(&held));
    assert_eq!(outcome(roles.delete(on_behalf(&both), tenant, &held, &deletion).await), "yes");
    assert_eq!(members.get(tenant, &kim).await.unwrap().roles, []);
    let idle = house.role("idle", &["doc.open"]).await;
    let said = outcome(roles.delete(on_behalf(&roles_only), tenant, &idle, &deletion).await);
    assert_eq!(said, "yes");
}

/// One who manages roles, and one who also manages members.
async fn administrators(house: &House) -> (MemberId, MemberId) {
    let roles = house.role("roles", &["admin.roles", "doc.open"]).await;
    let both = house.role("both", &["admin.roles", "archive.list", "doc.open"]).await;
    let roles_only = house.hire("roles-only", &[&roles], &[]).await;
    (roles_only, house.hire("both", &[&both], &[]).await)
}
