//! The rules about actors, one by one, on a small catalog. The actor is `me`, in the team `mine`.

use super::super::Timestamp;
use super::super::actor::{Actor, ActorRefusal, Duty, Holders, Measures, RoleEdited};
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
        ActorRefusal::Outranked { lack, in_teams, .. }
        | ActorRefusal::LacksGrant { lack, in_teams, .. } => {
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
fn what_is_held_through_a_team_is_given_and_taken_in_that_team_only() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group", "doc.queue at waiting"]);
    let all = actor(&catalog, &["doc.open", "doc.view at all", "doc.queue at team"]);
    let view = "ACTOR_LACKS_GRANT doc.view:team in teams";
    let queue = "ACTOR_LACKS_GRANT doc.queue:team in teams";
    let better = "ACTOR_OUTRANKED doc.view:team in teams";
    for (who, actor, before, after, expected) in [
        ("group", &group, "", "kim: own, theirs", "-"),
        ("group", &group, "", "kim: group, mine theirs", view),
        ("group", &group, "kim: own, theirs", "kim: group, theirs", view),
        ("group", &group, "kim: group", "kim: group, theirs", view),
        ("group", &group, "kim: group, mine", "kim: group", "-"),
        // In another team it is its better: to take from, to move, to archive, to delete.
        ("group", &group, "kim: group, theirs", "kim:, theirs", better),
        ("group", &group, "kim: group, theirs", "kim: group", better),
        ("group", &group, "kim: group, theirs", "kim: group, mine", better),
        ("group", &group, "kim: group, theirs ours", "kim: group, theirs", better),
        ("group", &group, "kim: group, theirs", "kim: group own, theirs", better),
        ("group", &group, "kim: group, theirs", "kim: group, theirs, archived", better),
        ("group", &group, "kim: group, theirs", "", better),
        ("group", &group, "kim: own, theirs", "", "-"),
        // Archived, it counts as what its role would give: to make, to change, to restore, to delete.
        ("group", &group, "", "kim: group, theirs, archived", view),
        ("group", &group, "kim: own, theirs, archived", "kim: group, theirs, archived", view),
        ("group", &group, "kim: group, theirs, archived", "kim: own, theirs, archived", better),
        ("group", &group, "kim: group, theirs, archived", "kim: group, theirs", better),
        ("group", &group, "kim: group, theirs, archived", "", better),
        ("group", &group, "kim: group, mine, archived", "kim: group, mine", "-"),
        // Whatever the team.
        ("all", &all, "", "kim: group, theirs", "-"),
        ("all", &all, "kim: group, theirs", "kim: group", "-"),
        ("all", &all, "kim: group, theirs", "", "-"),
        ("all", &all, "", "kim: team_queue, theirs", queue),
        ("all", &all, "", "kim: team_queue, mine", "-"),
    ] {
        let measured = measured(&catalog, actor);
        let (was, is) = (member(before), member(after));
        let judged = actor.may_change(&catalog, was.as_ref(), is.as_ref(), &measured);
        assert_eq!(shown(judged), expected, "{who}: {before} -> {after}");
    }
}

#[test]
fn what_everyone_has_through_teams_is_given_and_taken_there_only() {
    let everyones = "
        [[permission]]
        id = \"doc.read_team\"
        section = \"doc\"
        title = \"Read what is my team's\"
        scopes = [\"team\"]
        custom_roles = \"base\"
    ";
    let fixture = [include_str!("fixture.toml"), everyones].concat();
    let catalog = Catalog::parse(&fixture).unwrap();
    let me = actor(&catalog, &["doc.open"]);
    let (gives, better) = (
        "ACTOR_LACKS_GRANT doc.read_team:team in teams",
        "ACTOR_OUTRANKED doc.read_team:team in teams",
    );
    for (before, after, expected) in [
        ("", "kim:, mine", "-"),
        ("", "kim:, theirs", gives),
        ("kim:", "kim:, theirs", gives),
        ("kim:, theirs", "kim:", better),
        ("kim:, theirs", "", better),
        ("kim:, mine", "", "-"),
    ] {
        let (was, is) = (member(before), member(after));
        let judged = me.may_change(&catalog, was.as_ref(), is.as_ref(), &Measures::new());
        assert_eq!(shown(judged), expected, "{before} -> {after}");
    }
}

/// Holders of a role, one of whom is in another team where it holds these roles besides.
fn holders(co_held: &[&str], elsewhere: Option<&[&str]>) -> Holders {
    let ids = |roles: &[&str]| roles.iter().map(|role| RoleId::trusted(role)).collect();
    Holders { any: true, roles: ids(co_held), in_other_teams: elsewhere.map(ids) }
}

/// Grants before and after, roles that holders hold besides, those of holders in another team, and
/// what comes of it.
type Edit<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], Option<&'a [&'a str]>, &'a str);

#[test]
fn an_edit_adds_what_the_actor_holds_and_takes_nothing_from_betters() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group", "doc.edit at own"]);
    let (nobody, better) = ([], ["all"]);
    let (view, better_in_teams) =
        ("ACTOR_LACKS_GRANT doc.view:team in teams", "ACTOR_OUTRANKED doc.view:team in teams");
    let edits: [Edit<'_>; 17] = [
        (&[], &["doc.open", "doc.view at own"], &nobody, None, "-"),
        (
            &[],
            &["doc.open", "doc.view at mine"],
            &nobody,
            None,
            "ACTOR_LACKS_GRANT doc.view:creator",
        ),
        (&[], &["archive.list"], &nobody, None, "ACTOR_LACKS_GRANT archive.list"),
        // What stays may be beyond it.
        (&["archive.list"], &["archive.list", "doc.open"], &nobody, None, "-"),
        (&["archive.list"], &["archive.list", "doc.open"], &better, None, "-"),
        // Taking: from the role itself, or from holders with another one.
        (
            &["archive.list", "doc.open"],
            &["archive.list"],
            &nobody,
            None,
            "ACTOR_OUTRANKED archive.list",
        ),
        (&["archive.list"], &[], &nobody, None, "ACTOR_OUTRANKED archive.list"),
        (&["doc.open"], &[], &nobody, None, "-"),
        (&["doc.open"], &[], &better, None, "ACTOR_OUTRANKED doc.view:any"),
        (&["doc.open"], &[], &["owner"], None, "OWNER_REQUIRED"),
        // A follower widens along with what it follows.
        (
            &["doc.open", "doc.view at own", "doc.edit at own"],
            &["doc.open", "doc.view at own", "doc.edit at own", "doc.delete"],
            &nobody,
            None,
            "ACTOR_LACKS_GRANT doc.delete:assignee",
        ),
        (
            &["doc.open", "doc.view at group", "doc.edit at own", "doc.delete"],
            &["doc.open", "doc.view at group", "doc.edit at group", "doc.delete"],
            &nobody,
            None,
            "ACTOR_LACKS_GRANT doc.edit:team doc.delete:team",
        ),
        // Through teams.
        (&["doc.open"], &["doc.open", "doc.view at group"], &nobody, None, "-"),
        (&["doc.open"], &["doc.open", "doc.view at group"], &nobody, Some(&[]), view),
        (&["doc.open", "doc.view at group"], &["doc.open"], &nobody, Some(&[]), better_in_teams),
        (&["doc.open"], &[], &["group"], Some(&["group"]), better_in_teams),
        // Whoever holds the other role is in the actor's team.
        (&["doc.open"], &[], &["group"], Some(&[]), "-"),
    ];
    for (before, after, co_held, elsewhere, expected) in edits {
        let holders = holders(co_held, elsewhere);
        let judged = edited(&catalog, &group, (before, after, false), &holders);
        assert_eq!(shown(judged), expected, "{before:?} -> {after:?}, {holders:?}");
    }
}

fn edited(
    catalog: &Catalog,
    actor: &Actor,
    (before, after, relabelled): (&[&str], &[&str], bool),
    holders: &Holders,
) -> Result<(), ActorRefusal> {
    let mut measured = measured(catalog, actor);
    let role = &RoleId::trusted("edited");
    let (before, after) = (&custom(catalog, before), &custom(catalog, after));
    measured.insert(role.clone(), actor.measure(catalog, before));
    let edited = RoleEdited { role, before, after, relabelled };
    actor.may_edit_role(catalog, edited, holders, &measured)
}

#[test]
fn what_nothing_may_be_taken_from_is_not_renamed() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group"]);
    let list: &[&str] = &["archive.list"];
    let view: &[&str] = &["doc.open", "doc.view at group"];
    let nobody = Holders::default();
    for (grants, holders, expected) in [
        (view, &nobody, "-"),
        (view, &holders(&[], None), "-"),
        (view, &holders(&["own"], None), "-"),
        (list, &nobody, "ACTOR_OUTRANKED archive.list"),
        (list, &holders(&[], None), "ACTOR_OUTRANKED archive.list"),
        (view, &holders(&["all"], None), "ACTOR_OUTRANKED doc.view:any"),
        (view, &holders(&["owner"], None), "OWNER_REQUIRED"),
        (view, &holders(&[], Some(&[])), "ACTOR_OUTRANKED doc.view:team in teams"),
    ] {
        let renamed = edited(&catalog, &group, (grants, grants, true), holders);
        assert_eq!(shown(renamed), expected, "{grants:?}, {holders:?}");
        let same = edited(&catalog, &group, (grants, grants, false), holders);
        assert_eq!(shown(same), "-", "{grants:?}, {holders:?}");
    }
}

#[test]
fn a_deletion_takes_everything_and_gives_all_of_the_other_role() {
    let catalog = catalog();
    let group = actor(&catalog, &["doc.open", "doc.view at group"]);
    let measured = measured(&catalog, &group);
    let better_in_teams = "ACTOR_OUTRANKED doc.view:team in teams";
    for (role, to, co_held, elsewhere, expected) in [
        ("own", Some("group"), &[][..], None, "-"),
        ("own", None, &[], Some(&[][..]), "-"),
        ("own", Some("group"), &[], Some(&[]), "ACTOR_LACKS_GRANT doc.view:team in teams"),
        ("group", Some("own"), &[], Some(&[]), better_in_teams),
        ("own", Some("own"), &["group"], Some(&["group"]), better_in_teams),
        ("own", Some("own"), &["group"], Some(&[]), "-"),
        ("own", Some("all"), &[], None, "ACTOR_LACKS_GRANT doc.view:any"),
        ("own", Some("owner"), &[], None, "OWNER_REQUIRED"),
        ("all", Some("own"), &[], None, "ACTOR_OUTRANKED doc.view:any"),
        ("own", Some("group"), &["list"], None, "ACTOR_OUTRANKED archive.list"),
        ("own", Some("group"), &["owner"], None, "OWNER_REQUIRED"),
        // `a` and `b` are the actor's own.
        ("b", Some("own"), &[], None, "ACTOR_IS_SUBJECT"),
    ] {
        let (id, to_id) = (RoleId::trusted(role), to.map(RoleId::trusted));
        let holders = holders(co_held, elsewhere);
        let judged = group.may_delete_role(&catalog, &id, to_id.as_ref(), &holders, &measured);
        assert_eq!(shown(judged), expected, "{role} -> {to:?}, {holders:?}");
    }
}

#[test]
fn deleting_a_role_that_somebody_holds_takes_what_assigning_takes() {
    let separate = include_str!("fixture.toml")
        .replace("members = \"admin.roles\"", "members = \"archive.list\"");
    let catalog = Catalog::parse(&separate).unwrap();
    let (roles_only, both) = (actor(&catalog, &[]), actor(&catalog, &["archive.list"]));
    let role = RoleId::trusted("empty");
    let held = Holders { any: true, ..Holders::default() };
    for (actor, holders, expected) in [
        (&roles_only, &held, "ACTOR_NOT_PERMITTED"),
        (&roles_only, &Holders::default(), "-"),
        (&both, &held, "-"),
    ] {
        for to in [None, Some(RoleId::trusted("own"))] {
            let measured = Measures::new();
            let judged = actor.may_delete_role(&catalog, &role, to.as_ref(), holders, &measured);
            assert_eq!(shown(judged), expected, "{holders:?}, {to:?}");
        }
    }
}
