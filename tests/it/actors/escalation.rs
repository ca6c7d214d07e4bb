//! Attempts to get more than one holds, in earnest, on both databases; what the audit has of them;
//! and what becomes of an actor that is demoted while it acts.

use rolegate::domain::ids::{MemberId, RoleId};
use rolegate::domain::member::MemberStatus;
use rolegate::service::roles::{Deletion, RoleDraft, RoleEdit};
use rolegate::service::upsert::{Batch, BatchMode, ItemOutcome, Upsert};

use super::{
    House, alone, draft, grants, member, name, on_behalf, outcome, role, team_ids, with_request,
};

/// Holds all of the administration, and tickets of its own teams.
const LEAD: [&str; 6] = [
    "ticket.work at group",
    "customer.edit",
    "management.execute",
    "organization.member.manage",
    "organization.member.delete",
    "organization.role.manage",
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
    nothing_leads_to_more_than_one_holds "oqupie",
    an_actor_that_is_demoted_meanwhile_acts_before_or_not_at_all "qpien",
    absent_betters_are_kept "qpien",
    what_the_audit_keeps_is_bounded "qpien",
}

fn upsert(id: &str) -> Upsert {
    Upsert { id: member(id), roles: None, teams: None, status: None }
}

fn batch(items: Vec<Upsert>, mode: BatchMode) -> Batch {
    Batch { items: items.into_iter().map(Ok).collect(), mode, archive_absent: false, etag: None }
}

async fn nothing_leads_to_more_than_one_holds(house: House) {
    let (roles, members, tenant) = (&house.roles, &house.members, &house.tenant);
    let lead_role = house.role("lead", &LEAD).await;
    let wide = house.role("wide", &["ticket.work at all"]).await;
    let group = house.role("group", &["ticket.work at group"]).await;
    let empty = house.role("empty", &[]).await;
    let lead = house.hire("lead", &[&lead_role], &["mine"]).await;
    let other = house.hire("other", &[&empty], &["other"]).await;
    let kim = house.hire("kim", &[], &[]).await;
    let better = house.hire("better", &[&wide], &["mine"]).await;
    let gone = house.hire("gone", &[&wide], &[]).await;
    let archived = MemberStatus::Archived;
    members.set_status(alone(), tenant, &gone, archived, None).await.unwrap();
    let before = house.revision().await;

    let act = || on_behalf(&lead);
    let edit = |written: &[&str], expand_requirements| RoleEdit {
        grants: Some(grants(written)),
        expand_requirements,
        ..RoleEdit::default()
    };
    let delete = |to: &RoleId| Deletion { reassign_to: Some(to.clone()), ..Deletion::default() };
    let one = |role: &RoleId| vec![role.clone()];
    let mut said = Vec::new();
    let mut tried = |what: &str, outcome: String| said.push(format!("{what}: {outcome}"));

    let draft_wide = draft("New", &["ticket.work at all"]);
    tried("create", outcome(roles.create(act(), tenant, &draft_wide).await));
    let expanding = RoleDraft {
        name: "New".into(),
        grants: grants(&["brand.delete"]),
        expand_requirements: true,
        ..RoleDraft::default()
    };
    tried("create, expanded", outcome(roles.create(act(), tenant, &expanding).await));
    tried("clone", outcome(roles.clone_role(act(), tenant, &wide, "Copy", None).await));
    let all = edit(&["ticket.work at all"], false);
    tried("update", outcome(roles.update(act(), tenant, &group, &all).await));
    let follower = edit(&["ticket.work at group", "ticket.delete"], false);
    tried("update, follower", outcome(roles.update(act(), tenant, &group, &follower).await));
    let expanding = edit(&["delivery_bot.edit"], true);
    tried("update, expanded", outcome(roles.update(act(), tenant, &empty, &expanding).await));
    let through_team = edit(&["ticket.work at group"], false);
    tried("update, teams", outcome(roles.update(act(), tenant, &empty, &through_team).await));
    tried("disarm", outcome(roles.update(act(), tenant, &wide, &edit(&[], false)).await));
    tried("delete", outcome(roles.delete(act(), tenant, &empty, &delete(&wide)).await));
    tried(
        "delete, owner",
        outcome(roles.delete(act(), tenant, &empty, &delete(&role("owner"))).await),
    );
    tried("delete, teams", outcome(roles.delete(act(), tenant, &empty, &delete(&group)).await));
    tried("delete, better", outcome(roles.delete(act(), tenant, &wide, &delete(&group)).await));
    tried("delete, own", outcome(roles.delete(act(), tenant, &lead_role, &delete(&group)).await));

    let given = one(&wide);
    tried("assign", outcome(members.assign_roles(act(), tenant, &kim, &given, None).await));
    let given = one(&role("owner"));
    tried("assign, owner", outcome(members.assign_roles(act(), tenant, &kim, &given, None).await));
    tried(
        "assign, self",
        outcome(members.assign_roles(act(), tenant, &lead, &one(&group), None).await),
    );
    tried("assign, better", outcome(members.assign_roles(act(), tenant, &better, &[], None).await));
    tried(
        "assign, teams",
        outcome(members.assign_roles(act(), tenant, &other, &one(&group), None).await),
    );
    let puppet = member("puppet");
    tried("create member", outcome(members.create(act(), tenant, &puppet, &one(&wide), &[]).await));
    let teams = team_ids(&["other"]);
    let made = members.create(act(), tenant, &puppet, &one(&group), &teams).await;
    tried("create member, teams", outcome(made));
    tried("teams, self", outcome(members.set_teams(act(), tenant, &lead, &teams, None).await));
    tried("teams, better", outcome(members.set_teams(act(), tenant, &better, &teams, None).await));
    let active = MemberStatus::Active;
    tried("restore", outcome(members.set_status(act(), tenant, &gone, active, None).await));
    tried("archive, self", outcome(members.set_status(act(), tenant, &lead, archived, None).await));
    tried(
        "archive, better",
        outcome(members.set_status(act(), tenant, &better, archived, None).await),
    );
    tried("delete member", outcome(members.delete(act(), tenant, &better, None).await));
    tried("delete, owner", outcome(members.delete(act(), tenant, &member("owner"), None).await));
    for (what, item) in [
        ("assign", Upsert { roles: Some(one(&wide)), ..upsert("kim") }),
        ("create", Upsert { roles: Some(one(&wide)), ..upsert("puppet") }),
        (
            "teams",
            Upsert { roles: Some(one(&group)), teams: Some(teams.clone()), ..upsert("puppet") },
        ),
        ("self", Upsert { roles: Some(vec![]), ..upsert("lead") }),
        ("better", Upsert { status: Some(archived), ..upsert("better") }),
        ("restore", Upsert { status: Some(active), ..upsert("gone") }),
        ("owner", Upsert { roles: Some(one(&role("owner"))), ..upsert("kim") }),
    ] {
        let refused = batch(vec![item.clone()], BatchMode::AllOrNothing);
        tried(&format!("batch, {what}"), outcome(members.upsert(act(), tenant, refused).await));
        let refused = batch(vec![item], BatchMode::ItemByItem);
        let done = members.upsert(act(), tenant, refused).await.unwrap();
        let ItemOutcome::Refused(refusal) = &done.value.items[0].1 else { panic!("{done:?}") };
        tried(&format!("item, {what}"), name(refusal));
    }
    let (lacks, better_, owner, itself) =
        ("ACTOR_LACKS_GRANT", "ACTOR_OUTRANKED", "OWNER_REQUIRED", "ACTOR_IS_SUBJECT");
    let mut expected = Vec::new();
    for (what, reason) in [
        ("create", lacks),
        ("create, expanded", lacks),
        ("clone", lacks),
        ("update", lacks),
        ("update, follower", lacks),
        ("update, expanded", lacks),
        ("update, teams", lacks),
        ("disarm", better_),
        ("delete", lacks),
        ("delete, owner", owner),
        ("delete, teams", lacks),
        ("delete, better", better_),
        ("delete, own", itself),
        ("assign", lacks),
        ("assign, owner", owner),
        ("assign, self", itself),
        ("assign, better", better_),
        ("assign, teams", lacks),
        ("create member", lacks),
        ("create member, teams", lacks),
        ("teams, self", itself),
        ("teams, better", better_),
        ("restore", better_),
        ("archive, self", itself),
        ("archive, better", better_),
        ("delete member", better_),
        ("delete, owner", owner),
    ] {
        expected.push((what.to_owned(), reason));
    }
    for (what, reason) in [
        ("assign", lacks),
        ("create", lacks),
        ("teams", lacks),
        ("self", itself),
        ("better", better_),
        ("restore", better_),
        ("owner", owner),
    ] {
        expected.push((format!("batch, {what}"), reason));
        expected.push((format!("item, {what}"), reason));
    }
    let shown: Vec<_> = expected.iter().map(|(what, reason)| format!("{what}: {reason}")).collect();
    assert_eq!(said, shown);
    assert_eq!(house.revision().await, before, "nothing was changed");

    // Each is in the audit, in order, with who, why and about what.
    let events = house.audit(Some(&lead)).await;
    let refusals: Vec<_> = events.iter().map(|event| event.refusal.clone().unwrap()).collect();
    assert_eq!(refusals, expected.iter().map(|(_, reason)| *reason).collect::<Vec<_>>());
    for event in &events {
        assert_eq!((event.revision, event.entry.caller.as_str()), (before, "test"));
        assert_eq!(event.entry.actor.as_ref(), Some(&lead));
    }
    let assign = &events[13].entry;
    assert_eq!(assign.members, std::slice::from_ref(&kim));
    assert_eq!(assign.after.as_ref().unwrap()["roles"][0], wide.as_str());
    assert_eq!(events[3].entry.roles, std::slice::from_ref(&group));
    assert_eq!(events[3].entry.after.as_ref().unwrap()["grants"][0]["scope"], "all");

    // Within what it holds, it administers.
    members.assign_roles(act(), tenant, &kim, &one(&group), None).await.unwrap();
    members.set_teams(act(), tenant, &kim, &team_ids(&["mine"]), None).await.unwrap();
    roles.create(act(), tenant, &draft("Fine", &["ticket.work at group"])).await.unwrap();
    let done = house.audit(Some(&lead)).await;
    assert_eq!(done.iter().filter(|event| event.refusal.is_none()).count(), 3);
}

/// The demotion and what the actor does race for the tenant. What was done stands in the audit
/// before the demotion; what comes after it is refused.
async fn an_actor_that_is_demoted_meanwhile_acts_before_or_not_at_all(house: House) {
    let tenant = &house.tenant;
    let admin = house.hire("admin", &[], &[]).await;
    let kim = house.hire("kim", &[], &[]).await;
    let (mut before, mut after) = (0, 0);
    for round in 0..24 {
        let members = &house.members;
        members.assign_roles(alone(), tenant, &admin, &[role("admin")], None).await.unwrap();
        members.assign_roles(alone(), tenant, &kim, &[], None).await.unwrap();
        let user = [role("user")];
        let demote = members.assign_roles(alone(), tenant, &admin, &[], None);
        let act = members.assign_roles(on_behalf(&admin), tenant, &kim, &user, None);
        // Either may come first; both orders are helped along.
        let (demoted, acted) = if round % 2 == 0 {
            tokio::join!(demote, act)
        } else {
            let (acted, demoted) = tokio::join!(act, demote);
            (demoted, acted)
        };
        let demoted = demoted.unwrap().value.revision;
        match outcome_of(acted) {
            Ok(revision) => {
                assert!(revision < demoted, "{revision} {demoted}");
                before += 1;
            }
            Err(reason) => {
                assert_eq!(reason, "ACTOR_NOT_PERMITTED");
                let held = members.get(tenant, &kim).await.unwrap();
                assert_eq!(held.roles, []);
                after += 1;
            }
        }
    }
    assert!(before > 0 && after > 0, "{before} before, {after} after");
    let refused = house.audit(Some(&admin)).await;
    assert_eq!(refused.iter().filter(|event| event.refusal.is_some()).count(), after);
}

fn outcome_of(
    result: Result<
        rolegate::service::Written<rolegate::domain::member::Member>,
        rolegate::service::ServiceError,
    >,
) -> Result<u64, String> {
    match result {
        Ok(written) => Ok(written.value.revision),
        refused => Err(outcome(refused)),
    }
}

async fn absent_betters_are_kept(house: House) {
    let (members, tenant) = (&house.members, &house.tenant);
    let hooks = house.role("hooks", &["settings.webhooks.manage"]).await;
    let admin = house.hire("admin", &[&role("admin")], &[]).await;
    house.hire("better", &[&hooks], &[]).await;
    house.hire("kim", &[&role("user")], &[]).await;
    house.hire("lee", &[&role("user")], &[]).await;
    let sync = |mode| Batch { archive_absent: true, ..batch(vec![upsert("lee")], mode) };
    let refused = members.upsert(on_behalf(&admin), tenant, sync(BatchMode::AllOrNothing)).await;
    assert_eq!(outcome(refused), "ACTOR_IS_SUBJECT", "itself is absent, too");

    let done = members.upsert(on_behalf(&admin), tenant, sync(BatchMode::ItemByItem)).await;
    let done = done.unwrap().value;
    assert_eq!(done.archived, [member("kim")]);
    assert_eq!(done.kept_from_actor, ["admin", "better", "owner"].map(member));
    assert_eq!(done.kept_owners, []);
    let events = house.audit(Some(&admin)).await;
    let [first, archived, kept] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(first.refusal.as_deref(), Some("ACTOR_IS_SUBJECT"));
    assert_eq!(
        (&archived.refusal, archived.entry.members.as_slice()),
        (&None, &[member("kim")][..])
    );
    assert_eq!(kept.refusal.as_deref(), Some("ACTOR_IS_SUBJECT"));
    assert_eq!(kept.entry.members, ["admin", "better", "owner"].map(member));
    assert_eq!(kept.entry.after.as_ref().unwrap()["refused"], 3);

    // Who may not archive may not ask for it, whoever is absent.
    let manager = house.role("manager", &["settings.users.manage"]).await;
    let manager = house.hire("manager", &[&manager], &[]).await;
    let itself = Upsert { status: Some(MemberStatus::Active), ..upsert("manager") };
    let unchanged = batch(vec![itself, upsert("better")], BatchMode::AllOrNothing);
    let done = members.upsert(on_behalf(&manager), tenant, unchanged).await.unwrap();
    assert!(done.value.items.iter().all(|(_, outcome)| *outcome == ItemOutcome::Unchanged));
}

async fn what_the_audit_keeps_is_bounded(house: House) {
    let (members, tenant) = (&house.members, &house.tenant);
    let admin = house.hire("admin", &[&role("admin")], &[]).await;
    let try_it = async |actor: &MemberId| {
        let context = with_request(on_behalf(actor), "r", "p");
        outcome(members.assign_roles(context, tenant, &member("owner"), &[], None).await)
    };
    // Neither trials nor those who are no members.
    let trial =
        members.assign_roles(super::trial(&admin), tenant, &member("owner"), &[], None).await;
    assert_eq!(outcome(trial), "OWNER_REQUIRED");
    assert_eq!(try_it(&member("stranger")).await, "ACTOR_NOT_FOUND");
    assert!(house.audit(None).await.iter().all(|event| event.refusal.is_none()));

    for _ in 0..53 {
        assert_eq!(try_it(&admin).await, "OWNER_REQUIRED");
    }
    let events = house.audit(Some(&admin)).await;
    assert_eq!(events.len(), 50);
    assert_eq!(house.members.refusal_counts().unrecorded(), 3);
    assert!(events.iter().all(|event| event.entry.request_id.as_deref() == Some("r")));

    // A request that stands for another actor's is another request.
    let by = |actor: &MemberId, payload| {
        let context = with_request(on_behalf(actor), "once", payload);
        let members = house.members.clone();
        let tenant = tenant.clone();
        async move { outcome(members.create(context, &tenant, &member("new"), &[], &[]).await) }
    };
    assert_eq!(by(&admin, "p").await, "yes");
    assert_eq!(by(&admin, "p").await, "yes", "a replay");
    assert_eq!(by(&member("owner"), "q").await, "RequestIdReused");

    // A huge attempt is told of in brief.
    let name = "x".repeat(90);
    let many: Vec<String> =
        (0..1_000).map(|number| format!("no.such.permission.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let user = house.hire("user", &[&role("user")], &[]).await;
    let refused = house.roles.create(on_behalf(&user), tenant, &draft(&name, &many)).await;
    assert_eq!(outcome(refused), "ACTOR_NOT_PERMITTED");
    let events = house.audit(Some(&user)).await;
    assert!(events[0].entry.after.as_ref().unwrap()["left_out_bytes"].as_u64().unwrap() > 4_096);
}
