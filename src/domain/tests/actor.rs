//! The rules about actors, one by one, on a small catalog. The actor is `me`, in the team `mine`.

use super::super::Timestamp;
use super::super::actor::{Actor, ActorRefusal, Duty, Holders, Measures};
use super::super::catalog::Catalog;
use super::super::ids::{MemberId, RoleId, TeamId};
use super::super::member::{Member, MemberStatus, Subject};
use super::super::role::CompiledRole;
use super::{catalog, custom, subject};

/// What the roles of the tenant give.
const ROLES: [(&str, &[&str]); 6] = [
    ("own", &["doc.open", "doc.view at own"]),
    ("group", &["doc.open", "doc.view at group"]),
    ("all", &["doc.open", "doc.view at all"]),
    ("queue", &["doc.queue at waiting"]),
    ("team_queue", &["doc.queue at team"]),
    ("list", &["archive.list"]),
];

/// An administrator who holds this besides.
fn actor(catalog: &Catalog, held: &[&str]) -> Actor {
    let me = subject(catalog, &[&["admin.roles"], held]);
    Actor::admit(catalog, &me.id, Some(&me), Duty::Roles).unwrap()
}

fn owner(catalog: &Catalog) -> Actor {
    let mut me = subject(catalog, &[&[]]);
    let role = catalog.default_role("owner").unwrap();
    me.roles = vec![(role.id.clone(), role.compiled.clone())];
    Actor::admit(catalog, &me.id, Some(&me), Duty::Members).unwrap()
}

fn measured(catalog: &Catalog, actor: &Actor) -> Measures {
    let owner = catalog.default_role("owner").unwrap();
    let roles = ROLES.map(|(id, grants)| (RoleId::trusted(id), custom(catalog, grants)));
    let all = roles.into_iter().chain([(owner.id.clone(), CompiledRole::clone(&owner.compiled))]);
    all.map(|(id, role)| (id, actor.measure(catalog, &role))).collect()
}

/// `kim: own group, mine theirs, archived`
fn member(written: &str) -> Option<Member> {
    let (id, rest) = written.split_once(':')?;
    let mut parts = rest.split(',').map(str::trim);
    let words = |part: Option<&str>| -> Vec<String> {
        part.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let roles = words(parts.next()).iter().map(|id| RoleId::trusted(id)).collect();
    let teams = words(parts.next()).iter().map(|id| TeamId::trusted(id)).collect();
    let archived = parts.next() == Some("archived");
    Some(Member {
        id: MemberId::trusted(id),
        status: if archived { MemberStatus::Archived } else { MemberStatus::Active },
        roles,
        teams,
        revision: 1,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    })
}

/// `-`, or the reason, what is missing, and `in teams` where that is so.
fn shown(judged: Result<(), ActorRefusal>) -> String {
    let Err(refusal) = judged else { return "-".to_owned() };
    let spelled = |lack: &super::super::actor::Lack| {
        lack.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    match &refusal {
        ActorRefusal::Outranked { lack, .. } => format!("{} {}", refusal.name(), spelled(lack)),
        ActorRefusal::LacksGrant { lack, in_teams, .. } => {
            let teams = if *in_teams { " in teams" } else { "" };
            format!("{} {}{teams}", refusal.name(), spelled(lack))
        }
        _ => refusal.name().to_owned(),
    }
}

#[test]
fn an_actor_is_an_active_member_with_the_permission() {
    let catalog = catalog();
    fn admit(catalog: &Catalog, me: Option<&Subject>) -> String {
        let id = MemberId::trusted("me");
        shown(Actor::admit(catalog, &id, me, Duty::Roles).map(drop))
    }
    let mut me = subject(&catalog, &[&["admin.roles"]]);
    assert_eq!(admit(&catalog, None), "ACTOR_NOT_FOUND");
    assert_eq!(admit(&catalog, Some(&me)), "-");
    assert_eq!(
        admit(&catalog, Some(&subject(&catalog, &[&["archive.list"]]))),
        "ACTOR_NOT_PERMITTED"
    );
    me.status = MemberStatus::Archived;
    assert_eq!(admit(&catalog, Some(&me)), "ACTOR_ARCHIVED");
}

#[test]
fn members_are_changed_within_what_the_actor_holds() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group", "doc.queue at waiting"]);
    let all = actor(&catalog, &["doc.open", "doc.view at all", "doc.queue at waiting"]);
    let owner = owner(&catalog);
    let view_any = "doc.view:any";
    for (who, actor, before, after, expected) in [
        ("group", &group, "", "kim: own", "-".to_owned()),
        ("group", &group, "", "kim: group, mine", "-".to_owned()),
        ("group", &group, "", "kim: own all", format!("ACTOR_LACKS_GRANT {view_any}")),
        ("group", &group, "kim: own", "kim: list", "ACTOR_LACKS_GRANT archive.list".to_owned()),
        ("group", &group, "kim: group", "kim:", "-".to_owned()),
        // Betters: to take, to move, to delete, to archive.
        ("group", &group, "kim: own all", "kim: own", format!("ACTOR_OUTRANKED {view_any}")),
        ("group", &group, "kim: all", "kim: all, mine", format!("ACTOR_OUTRANKED {view_any}")),
        ("group", &group, "kim: all", "", format!("ACTOR_OUTRANKED {view_any}")),
        ("group", &group, "kim: all", "kim: all,, archived", format!("ACTOR_OUTRANKED {view_any}")),
        ("group", &group, "kim: all,, archived", "", format!("ACTOR_OUTRANKED {view_any}")),
        ("group", &group, "kim: all,, archived", "kim: all", format!("ACTOR_OUTRANKED {view_any}")),
        ("all", &all, "kim: all,, archived", "kim: all", "-".to_owned()),
        // A role that is nowhere gives nothing.
        ("group", &group, "kim: nowhere", "kim: own", "-".to_owned()),
        // Itself.
        ("owner", &owner, "me: own", "me:", "ACTOR_IS_SUBJECT".to_owned()),
        ("owner", &owner, "me: own", "", "ACTOR_IS_SUBJECT".to_owned()),
        // Owners, whatever the actor holds.
        ("all", &all, "", "kim: owner", "OWNER_REQUIRED".to_owned()),
        ("all", &all, "kim: owner", "kim:", "OWNER_REQUIRED".to_owned()),
        ("all", &all, "kim: owner,, archived", "kim: owner", "OWNER_REQUIRED".to_owned()),
        ("all", &all, "kim: owner", "kim: owner, mine", "OWNER_REQUIRED".to_owned()),
        ("owner", &owner, "kim: owner", "kim: own", "-".to_owned()),
        ("owner", &owner, "kim: own", "kim: owner, theirs", "-".to_owned()),
    ] {
        let measured = measured(&catalog, actor);
        let (was, is) = (member(before), member(after));
        let judged = actor.may_change(&catalog, was.as_ref(), is.as_ref(), &measured);
        assert_eq!(shown(judged), expected, "{who}: {before} -> {after}");
    }
}

#[test]
fn what_is_held_through_a_team_is_given_in_that_team_only() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group", "doc.queue at waiting"]);
    let all = actor(&catalog, &["doc.open", "doc.view at all", "doc.queue at team"]);
    let view = "ACTOR_LACKS_GRANT doc.view:team in teams";
    let queue = "ACTOR_LACKS_GRANT doc.queue:team in teams";
    for (who, actor, before, after, expected) in [
        ("group", &group, "", "kim: own, theirs", "-"),
        ("group", &group, "", "kim: group, mine theirs", view),
        ("group", &group, "kim: own, theirs", "kim: group, theirs", view),
        ("group", &group, "kim: group", "kim: group, theirs", view),
        ("group", &group, "kim: group, mine", "kim: group", "-"),
        // It had that already; what it loses, and what it gets besides, are fine.
        ("group", &group, "kim: group, theirs ours", "kim: group, theirs", "-"),
        ("group", &group, "kim: group, theirs", "kim: group own, theirs mine", "-"),
        // Archived, it reaches nothing; restored, it does.
        ("group", &group, "", "kim: group, theirs, archived", "-"),
        ("group", &group, "kim: group, theirs, archived", "kim: group, theirs", view),
        // Whatever the team.
        ("all", &all, "", "kim: group, theirs", "-"),
        ("all", &all, "", "kim: team_queue, theirs", queue),
        ("all", &all, "", "kim: team_queue, mine", "-"),
    ] {
        let measured = measured(&catalog, actor);
        let (was, is) = (member(before), member(after));
        let judged = actor.may_change(&catalog, was.as_ref(), is.as_ref(), &measured);
        assert_eq!(shown(judged), expected, "{who}: {before} -> {after}");
    }
}

/// Grants before and after, roles that holders hold besides, whether one is in another team, and
/// what comes of it.
type Edit<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], bool, &'a str);

#[test]
fn an_edit_adds_what_the_actor_holds_and_takes_nothing_from_betters() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group", "doc.edit at own"]);
    let (nobody, better) = ([], ["all"]);
    let edits: [Edit<'_>; 14] = [
        (&[], &["doc.open", "doc.view at own"], &nobody, false, "-"),
        (
            &[],
            &["doc.open", "doc.view at mine"],
            &nobody,
            false,
            "ACTOR_LACKS_GRANT doc.view:creator",
        ),
        (&[], &["archive.list"], &nobody, false, "ACTOR_LACKS_GRANT archive.list"),
        // What stays may be beyond it.
        (&["archive.list"], &["archive.list", "doc.open"], &nobody, false, "-"),
        (&["archive.list"], &["archive.list", "doc.open"], &better, false, "-"),
        // Taking: from the role itself, or from holders with another one.
        (
            &["archive.list", "doc.open"],
            &["archive.list"],
            &nobody,
            false,
            "ACTOR_OUTRANKED archive.list",
        ),
        (&["archive.list"], &[], &nobody, false, "ACTOR_OUTRANKED archive.list"),
        (&["doc.open"], &[], &nobody, false, "-"),
        (&["doc.open"], &[], &better, false, "ACTOR_OUTRANKED doc.view:any"),
        (&["doc.open"], &[], &["owner"], false, "OWNER_REQUIRED"),
        // A follower widens along with what it follows.
        (
            &["doc.open", "doc.view at own", "doc.edit at own"],
            &["doc.open", "doc.view at own", "doc.edit at own", "doc.delete"],
            &nobody,
            false,
            "ACTOR_LACKS_GRANT doc.delete:assignee",
        ),
        (
            &["doc.open", "doc.view at group", "doc.edit at own", "doc.delete"],
            &["doc.open", "doc.view at group", "doc.edit at group", "doc.delete"],
            &nobody,
            false,
            "ACTOR_LACKS_GRANT doc.edit:team doc.delete:team",
        ),
        // Through teams.
        (&["doc.open"], &["doc.open", "doc.view at group"], &nobody, false, "-"),
        (
            &["doc.open"],
            &["doc.open", "doc.view at group"],
            &nobody,
            true,
            "ACTOR_LACKS_GRANT doc.view:team in teams",
        ),
    ];
    for (before, after, co_held, in_other_teams, expected) in edits {
        let mut measured = measured(&catalog, &group);
        let id = RoleId::trusted("edited");
        let (was, is) = (custom(&catalog, before), custom(&catalog, after));
        measured.insert(id.clone(), group.measure(&catalog, &was));
        let roles = co_held.iter().map(|role| RoleId::trusted(role)).collect();
        let holders = Holders { roles, in_other_teams };
        let judged = group.may_write_role(&catalog, Some(&id), &was, &is, &holders, &measured);
        assert_eq!(shown(judged), expected, "{before:?} -> {after:?}, {co_held:?}");
    }
}

#[test]
fn a_deletion_takes_everything_and_gives_all_of_the_other_role() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group"]);
    let measured = measured(&catalog, &group);
    for (role, to, co_held, in_other_teams, expected) in [
        ("own", Some("group"), &[][..], false, "-"),
        ("own", None, &[], true, "-"),
        ("own", Some("group"), &[], true, "ACTOR_LACKS_GRANT doc.view:team in teams"),
        ("own", Some("all"), &[], false, "ACTOR_LACKS_GRANT doc.view:any"),
        ("own", Some("owner"), &[], false, "OWNER_REQUIRED"),
        ("all", Some("own"), &[], false, "ACTOR_OUTRANKED doc.view:any"),
        ("own", Some("group"), &["list"], false, "ACTOR_OUTRANKED archive.list"),
        ("own", Some("group"), &["owner"], false, "OWNER_REQUIRED"),
        // `a` and `b` are the actor's own.
        ("b", Some("own"), &[], false, "ACTOR_IS_SUBJECT"),
    ] {
        let (id, to_id) = (RoleId::trusted(role), to.map(RoleId::trusted));
        let roles = co_held.iter().map(|role| RoleId::trusted(role)).collect();
        let holders = Holders { roles, in_other_teams };
        let judged = group.may_delete_role(&catalog, &id, to_id.as_ref(), &holders, &measured);
        assert_eq!(shown(judged), expected, "{role} -> {to:?}, {co_held:?}");
    }
}
