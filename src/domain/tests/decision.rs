//! Every reason that a decision can have, and what comes with it.

use super::super::decision::{DecidedBy, Decision, DecisionReason};
use super::super::ids::{MemberId, RoleId, TeamId};
use super::super::member::{MemberStatus, Subject};
use super::super::relation::RelationSet;
use super::super::resource::{Attribute, Resource};
use super::{catalog, ix, subject};

/// What the caller said of a resource, in short: `assignees=me teams= public`.
fn resource(said: &str) -> Resource {
    let mut resource = Resource::default();
    for part in said.split_whitespace() {
        match part.split_once('=') {
            Some(("assignees", ids)) => {
                resource.assignees =
                    Some(list(ids).iter().map(|id| MemberId::trusted(id)).collect());
            }
            Some(("teams", ids)) => {
                resource.teams = Some(list(ids).iter().map(|id| TeamId::trusted(id)).collect());
            }
            Some(("creator", id)) => {
                resource.creator = Some((!id.is_empty()).then(|| MemberId::trusted(id)));
            }
            Some(("participants", ids)) => {
                resource.participants =
                    Some(list(ids).iter().map(|id| MemberId::trusted(id)).collect());
            }
            Some(("public", flag)) => resource.public = Some(flag == "yes"),
            _ => panic!("{part}"),
        }
    }
    resource
}

fn list(ids: &str) -> Vec<&str> {
    ids.split(',').filter(|id| !id.is_empty()).collect()
}

fn decide(subject: &Subject, permission: &str, said: Option<&str>) -> Decision {
    let catalog = catalog();
    let resource = said.map(resource);
    subject.decide(&catalog, ix(&catalog, permission), resource.as_ref())
}

#[test]
fn every_reason() {
    use DecisionReason::{
        GrantedByRole, GrantedToEveryone, OutOfScope, PermissionNotGranted,
        ResourceAttributeRequired, ResourceRequired,
    };
    let catalog = catalog();
    let me = subject(
        &catalog,
        &[&[
            "doc.open",
            "doc.view at group",
            "doc.edit at own",
            "doc.delete",
            "doc.queue at waiting",
        ]],
    );
    let (assignees, teams) = (Attribute::Assignees, Attribute::Teams);
    for (permission, said, reason, missing) in [
        // Unscoped: no resource is needed, any will do, and nothing need be said of it.
        ("doc.open", None, GrantedByRole, &[][..]),
        ("doc.open", Some(""), GrantedByRole, &[]),
        ("admin.profile", None, GrantedToEveryone, &[]),
        ("archive.list", None, PermissionNotGranted, &[]),
        ("archive.list", Some("assignees=me"), PermissionNotGranted, &[]),
        // Held for some resources only.
        ("doc.view", None, ResourceRequired, &[]),
        ("doc.view", Some("assignees=me"), GrantedByRole, &[]),
        ("doc.view", Some("teams=mine"), GrantedByRole, &[]),
        ("doc.view", Some("assignees=other teams=theirs"), OutOfScope, &[]),
        ("doc.view", Some("assignees=other"), ResourceAttributeRequired, &[teams]),
        ("doc.view", Some("assignees= teams="), OutOfScope, &[]),
        ("doc.view", Some(""), ResourceAttributeRequired, &[assignees, teams]),
        ("doc.edit", Some("teams=mine"), ResourceAttributeRequired, &[assignees]),
        ("doc.edit", Some("assignees="), OutOfScope, &[]),
        ("doc.delete", Some("assignees=other,me"), GrantedByRole, &[]),
        ("doc.delete", Some("assignees=other teams=mine"), OutOfScope, &[]),
        // Absent is not empty.
        ("doc.queue", Some("assignees="), GrantedByRole, &[]),
        ("doc.queue", Some("teams="), ResourceAttributeRequired, &[assignees]),
        ("doc.queue", Some("assignees=other"), OutOfScope, &[]),
        // Base, at a scope.
        ("doc.read_shared", None, ResourceRequired, &[]),
        ("doc.read_shared", Some("public=yes"), GrantedToEveryone, &[]),
        ("doc.read_shared", Some("public=no"), OutOfScope, &[]),
        ("doc.read_shared", Some("assignees=me"), ResourceAttributeRequired, &[Attribute::Public]),
    ] {
        let decision = decide(&me, permission, said);
        assert_eq!(decision.reason, reason, "{permission} {said:?}");
        assert_eq!(decision.missing, missing, "{permission} {said:?}");
        let allowed = matches!(reason, GrantedByRole | GrantedToEveryone);
        assert_eq!(decision.is_allowed(), allowed);
    }
}

/// Only what could have decided is asked for.
#[test]
fn where_the_team_decides_the_assignees_are_not_asked_for() {
    let catalog = catalog();
    let me = subject(&catalog, &[&["doc.queue at team"]]);
    assert_eq!(decide(&me, "doc.queue", Some("")).missing, [Attribute::Teams]);
    let nobodys = Subject { teams: [].into(), ..me };
    let decision = decide(&nobodys, "doc.queue", Some(""));
    assert_eq!(decision.reason, DecisionReason::OutOfScope, "a member of no team need not be told");
}

#[test]
fn an_archived_member_is_denied_everything() {
    let catalog = catalog();
    let mut me = subject(&catalog, &[&["doc.open"]]);
    me.status = MemberStatus::Archived;
    for permission in ["doc.open", "admin.profile", "archive.list"] {
        let decision = decide(&me, permission, None);
        assert_eq!(decision, Decision::denied(DecisionReason::MemberArchived), "{permission}");
        assert!(me.granted(&catalog, ix(&catalog, permission)).is_empty());
    }
    assert_eq!(me.effective(&catalog).count(), 0);
    assert!(me.visible_sections(&catalog).is_empty());
}

#[test]
fn the_roles_and_scopes_that_decided_are_told() {
    let catalog = catalog();
    let me = subject(
        &catalog,
        &[
            &["doc.open", "doc.view at own"],
            &["doc.open", "doc.view at group"],
            &["doc.open", "doc.view at all", "doc.edit at own", "doc.delete"],
        ],
    );
    let by = |role: &str, permission: &str, scope: Option<&str>| DecidedBy {
        role: RoleId::trusted(role),
        scope: scope.and_then(|scope| catalog.scope_of(ix(&catalog, permission), scope)),
    };
    let decided_by = |permission, said| decide(&me, permission, said).decided_by;
    let view = |role, scope| by(role, "doc.view", Some(scope));
    assert_eq!(decided_by("doc.view", Some("assignees=other teams=theirs")), [view("c", "all")]);
    assert_eq!(
        decided_by("doc.view", Some("teams=mine assignees=other")),
        [view("b", "group"), view("c", "all")]
    );
    assert_eq!(decided_by("doc.view", None), [view("c", "all")], "the only one that needs none");
    assert_eq!(decided_by("doc.open", None).len(), 3);
    assert_eq!(decided_by("doc.open", None)[0], by("a", "doc.open", None));
    // A follower tells the scope of what it follows.
    let own = catalog.scope_of(ix(&catalog, "doc.edit"), "own");
    let delete = decided_by("doc.delete", Some("assignees=me"));
    assert_eq!(delete, [DecidedBy { role: RoleId::trusted("c"), scope: own }]);
    // A denial tells who holds it.
    assert_eq!(decided_by("doc.delete", Some("assignees=other")), delete);
    assert_eq!(decided_by("doc.delete", None), delete);
    assert_eq!(decided_by("archive.list", None), []);
}

#[test]
fn menus_show_sections_with_something_in_them_or_below() {
    let catalog = catalog();
    let menu = |roles: &[&[&str]]| -> Vec<String> {
        let sections = subject(&catalog, roles).visible_sections(&catalog).into_iter();
        sections.map(|section| catalog.section(section).id.clone()).collect()
    };
    // What everyone holds shows too.
    assert_eq!(menu(&[]), ["doc", "admin"]);
    assert_eq!(menu(&[&["archive.list"]]), ["doc", "archive", "admin"]);
}

#[test]
fn what_is_listed_as_effective_is_what_is_granted() {
    let catalog = catalog();
    let me = subject(&catalog, &[&["doc.open", "doc.view at own"], &["archive.list"]]);
    let effective: Vec<_> = me.effective(&catalog).collect();
    let ids: Vec<_> = effective.iter().map(|(p, _)| catalog.permission(*p).id.as_str()).collect();
    let expected = ["doc.open", "doc.view", "doc.read_shared", "archive.list", "admin.profile"];
    assert_eq!(ids, expected);
    assert!(effective.iter().all(|(permission, granted)| {
        *granted == me.granted(&catalog, *permission) && *granted != RelationSet::EMPTY
    }));
}
