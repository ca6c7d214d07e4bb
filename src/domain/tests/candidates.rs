//! Who can be allowed: nobody else is, and no more are looked at than it takes.

use std::sync::Arc;

use super::super::candidates::Candidates;
use super::super::ids::{MemberId, RoleId, TeamId};
use super::super::member::{MemberStatus, Subject};
use super::super::resource::Resource;
use super::super::role::CompiledRole;
use super::{catalog, custom, ix};

fn members(ids: &[&str]) -> Option<Vec<MemberId>> {
    Some(ids.iter().map(|id| MemberId::trusted(id)).collect())
}

fn teams(ids: &[&str]) -> Option<Vec<TeamId>> {
    Some(ids.iter().map(|id| TeamId::trusted(id)).collect())
}

/// The roles of the cases, one for each scope of `doc.queue`, and one with two scopes of others.
const ROLES: [(&str, &[&str]); 6] = [
    ("waiting", &["doc.queue at waiting"]),
    ("made", &["doc.queue at made"]),
    ("team", &["doc.queue at team"]),
    ("all", &["doc.queue at all"]),
    ("desk", &["doc.open", "doc.view at desk"]),
    ("mine", &["doc.open", "doc.view at mine"]),
];

fn resources() -> Vec<Option<Resource>> {
    let mut all = vec![None, Some(Resource::default())];
    for assignees in [None, members(&[]), members(&["m1", "m2"])] {
        for in_teams in [None, teams(&[]), teams(&["t1", "t2"])] {
            for creator in [None, Some(None), Some(Some(MemberId::trusted("m3")))] {
                for public in [None, Some(true)] {
                    all.push(Some(Resource {
                        assignees: assignees.clone(),
                        teams: in_teams.clone(),
                        creator: creator.clone(),
                        public,
                        ..Resource::default()
                    }));
                }
            }
        }
    }
    all
}

#[test]
fn nobody_else_is_allowed() {
    let catalog = catalog();
    let roles = ROLES.map(|(id, grants)| (RoleId::trusted(id), Arc::new(custom(&catalog, grants))));
    let known: Vec<(&RoleId, &CompiledRole)> =
        roles.iter().map(|(id, role)| (id, &**role)).collect();
    let mut outside = 0;
    for permission in ["doc.queue", "doc.view", "doc.read_shared", "admin.profile", "admin.close"] {
        let permission = ix(&catalog, permission);
        for resource in resources() {
            let candidates =
                Candidates::of(&catalog, permission, resource.as_ref(), known.iter().copied());
            let Candidates::Among { roles: of, teams: within, members: named } = &candidates else {
                continue;
            };
            for (role, compiled) in &roles {
                for id in ["m1", "m2", "m3", "m4"] {
                    for team in ["t1", "t2", "t3"] {
                        let (id, team) = (MemberId::trusted(id), TeamId::trusted(team));
                        if of.contains(role) || within.contains(&team) || named.contains(&id) {
                            continue;
                        }
                        outside += 1;
                        let subject = Subject {
                            id,
                            status: MemberStatus::Active,
                            teams: Arc::from([team]),
                            roles: vec![(role.clone(), Arc::clone(compiled))],
                        };
                        let decision = subject.decide(&catalog, permission, resource.as_ref());
                        assert!(
                            !decision.is_allowed(),
                            "{subject:?} on {resource:?} is not among {candidates:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(outside > 1_000, "{outside}");
}

#[test]
fn no_more_are_looked_at_than_it_takes() {
    let catalog = catalog();
    let roles = ROLES.map(|(id, grants)| (RoleId::trusted(id), custom(&catalog, grants)));
    let among = |roles: &[&str], in_teams: &[&str], named: &[&str]| Candidates::Among {
        roles: roles.iter().map(|id| RoleId::trusted(id)).collect(),
        teams: teams(in_teams).unwrap(),
        members: members(named).unwrap(),
    };
    let ticket = Resource {
        assignees: members(&["m2", "m1", "m2"]),
        teams: teams(&["t2", "t1"]),
        creator: Some(Some(MemberId::trusted("m3"))),
        participants: members(&["m4"]),
        ..Resource::default()
    };
    let waiting = Resource { assignees: members(&[]), ..ticket.clone() };
    let shared = Resource { public: Some(true), ..ticket.clone() };
    for (permission, resource, expected) in [
        ("doc.queue", None, among(&["all"], &[], &[])),
        ("doc.queue", Some(&ticket), among(&["all"], &["t1", "t2"], &["m3"])),
        ("doc.queue", Some(&waiting), among(&["all", "waiting"], &["t1", "t2"], &["m3"])),
        // Assigned to them or made by them, in a team; nobody has it on everything.
        ("doc.view", Some(&ticket), among(&[], &["t1", "t2"], &["m1", "m2", "m3"])),
        ("doc.view", None, among(&[], &[], &[])),
        ("doc.read_shared", Some(&shared), Candidates::Everybody),
        ("doc.read_shared", Some(&ticket), among(&[], &[], &[])),
        ("admin.profile", None, Candidates::Everybody),
        ("admin.close", Some(&ticket), among(&[], &[], &[])),
    ] {
        let known = roles.iter().map(|(id, role)| (id, role));
        let found = Candidates::of(&catalog, ix(&catalog, permission), resource, known);
        assert_eq!(found, expected, "{permission} on {resource:?}");
    }
}
