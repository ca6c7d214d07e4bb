//! Random custom roles, members and resources.

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::{OWNER, PEOPLE, STRANGER, TEAMS, catalog};
use crate::reference::model::{Catalog, Grant, Member, Resource, Role, Who, World};

/// A tenant, and what is asked about.
#[derive(Debug, Clone)]
pub(in crate::properties) struct Case {
    pub(in crate::properties) world: World,
    pub(in crate::properties) resources: Vec<Resource>,
    pub(in crate::properties) roles_per_member: usize,
    /// The catalog's next version. It may be quite another one, but has all the default roles.
    pub(in crate::properties) newer: Catalog,
}

/// A grant before it is known which permissions there are.
#[derive(Debug, Clone)]
pub(in crate::properties) struct GrantDraw {
    permission: Index,
    scope: Index,
    odd: Odd,
}

/// What is wrong with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Odd {
    Nothing,
    /// The catalog has no such permission.
    UnknownPermission,
    /// A scope that may or may not be one of the permission's.
    SomeScope,
    NoScope,
}

/// Random grants, for [`build_grants`].
pub(in crate::properties) fn grants() -> impl Strategy<Value = Vec<GrantDraw>> {
    let odd = prop_oneof![
        20 => Just(Odd::Nothing),
        1 => Just(Odd::UnknownPermission),
        1 => Just(Odd::SomeScope),
        1 => Just(Odd::NoScope),
    ];
    let draw = (any::<Index>(), any::<Index>(), odd)
        .prop_map(|(permission, scope, odd)| GrantDraw { permission, scope, odd });
    prop::collection::vec(draw, 0..=14)
}

/// Grants of a catalog's permissions, each once. What they require may well be missing, and some
/// should not be there at all.
pub(in crate::properties) fn build_grants(catalog: &Catalog, draws: &[GrantDraw]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for draw in draws {
        let permission = &catalog.permissions[draw.permission.index(catalog.permissions.len())];
        let pick = |scopes: Vec<&String>| {
            (!scopes.is_empty()).then(|| scopes[draw.scope.index(scopes.len())].clone())
        };
        // Most grants of what everybody has are left out: they do nothing.
        if permission.who == Who::Base && draw.odd == Odd::Nothing {
            continue;
        }
        let scope = match draw.odd {
            Odd::Nothing | Odd::UnknownPermission => {
                // Mostly one that does not reach everything: there is more to see of those.
                let narrow = |scope: &&String| !catalog.scopes[*scope].contains("any");
                let narrow: Vec<&String> = permission.scopes.iter().filter(narrow).collect();
                pick(
                    narrow
                        .iter()
                        .cycle()
                        .take(4 * narrow.len())
                        .copied()
                        .chain(&permission.scopes)
                        .collect(),
                )
            }
            Odd::SomeScope => pick(catalog.scopes.keys().collect()),
            Odd::NoScope => None,
        };
        let permission = match draw.odd {
            Odd::UnknownPermission => format!("{}.gone", permission.id),
            _ => permission.id.clone(),
        };
        if !grants.iter().any(|grant| grant.permission == permission) {
            grants.push(Grant { permission, scope });
        }
    }
    grants
}

#[derive(Debug, Clone)]
struct MemberDraw {
    active: bool,
    roles: Vec<Index>,
    teams: Vec<&'static str>,
}

fn member_draw() -> impl Strategy<Value = MemberDraw> {
    let active = prop::bool::weighted(0.85);
    let roles = prop_oneof![
        1 => Just(vec![]),
        9 => prop::collection::vec(any::<Index>(), 1..=3),
    ];
    let teams = prop_oneof![
        1 => Just(vec![]),
        3 => subsequence(&TEAMS, 1..=2),
    ];
    (active, roles, teams).prop_map(|(active, roles, teams)| MemberDraw { active, roles, teams })
}

/// Everyone who can be named by a resource, members or not.
fn person() -> impl Strategy<Value = String> {
    prop_oneof![9 => select(&PEOPLE[..4]), 1 => select(&[STRANGER][..])].prop_map(str::to_owned)
}

/// A resource of which everything was said, or some of it, or nothing.
fn resource() -> impl Strategy<Value = Resource> {
    let said = prop_oneof![
        2 => Just(vec![true; 5]),
        3 => prop::collection::vec(prop::bool::weighted(0.6), 5),
        1 => Just(vec![false; 5]),
    ];
    let people = || prop::collection::vec(person(), 0..=2);
    let teams = prop::collection::vec(select(&TEAMS[..]).prop_map(str::to_owned), 0..=2);
    let creator = prop::option::of(person());
    (said, people(), teams, creator, people(), any::<bool>()).prop_map(
        |(said, assignees, teams, creator, participants, public)| Resource {
            assignees: said[0].then_some(assignees),
            teams: said[1].then_some(teams),
            creator: said[2].then_some(creator),
            participants: said[3].then_some(participants),
            public: said[4].then_some(public),
        },
    )
}

/// A random case.
pub(in crate::properties) fn case() -> impl Strategy<Value = Case> {
    let custom_roles = prop::collection::vec(grants(), 1..=3);
    let members = prop::collection::vec(member_draw(), 2..=4);
    let resources = prop::collection::vec(resource(), 3..=6);
    (catalog(1..=3), catalog(3..=3), custom_roles, members, resources, 1..=3_usize).prop_map(
        |(catalog, newer, custom_roles, members, resources, roles_per_member)| {
            let custom_roles = custom_roles.iter().enumerate().map(|(number, draws)| Role {
                id: format!("custom-{number}"),
                custom: true,
                grants: build_grants(&catalog, draws),
            });
            let custom_roles: Vec<Role> = custom_roles.collect();
            // Custom roles are what it is mostly about.
            let often = custom_roles.iter().cycle().take(4 * custom_roles.len());
            let roles = catalog.default_roles.iter().chain(often);
            // A role that is nowhere must do no harm.
            let roles = roles.map(|role| role.id.as_str()).chain(["no-such-role"]);
            let roles: Vec<String> = roles.map(str::to_owned).collect();
            let members = members.iter().zip(PEOPLE).map(|(draw, id)| {
                let mut held: Vec<String> = Vec::new();
                for index in &draw.roles {
                    let role = &roles[index.index(roles.len())];
                    if held.len() < roles_per_member && !held.contains(role) {
                        held.push(role.clone());
                    }
                }
                Member {
                    id: id.to_owned(),
                    active: draw.active,
                    roles: held,
                    teams: draw.teams.iter().map(|team| team.to_string()).collect(),
                }
            });
            let owner = Member {
                id: OWNER.to_owned(),
                active: true,
                roles: vec!["owner".to_owned()],
                teams: vec![],
            };
            let members = members.chain([owner]).collect();
            Case {
                world: World { catalog, custom_roles, members },
                resources,
                roles_per_member,
                newer,
            }
        },
    )
}
