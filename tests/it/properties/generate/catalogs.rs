//! Random catalogs that are sound: requirements without circles that can be met, scopes that can
//! be told apart, an owner that holds everything, default roles that hold together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::Index;

use super::tenants::{GrantDraw, build_grants, grants};
use crate::reference::model::{Catalog, Grant, Permission, Relations, Role, Section, Who};
use crate::reference::relations::{ALL, with_implied};
use crate::reference::roles::{base_reach, effective_grants};

/// The permission that guards administration in every catalog made here.
pub(in crate::properties) const GUARD: &str = "admin.manage";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Unscoped,
    Scoped,
    Follower,
}

#[derive(Debug, Clone)]
struct PermissionDraw {
    kind: Kind,
    who: Who,
    section: Index,
    /// Where it stands in the file.
    place: u16,
    scopes: Vec<bool>,
    follows: Index,
    requires: Vec<Vec<Index>>,
}

/// A random catalog with so many default roles besides the owner.
pub(in crate::properties) fn catalog(
    default_roles: RangeInclusive<usize>,
) -> impl Strategy<Value = Catalog> {
    let parents = prop::collection::vec(prop::option::of(any::<Index>()), 1..=4);
    let scopes = prop::collection::vec(relations(), 2..=5);
    let permissions = prop::collection::vec(permission_draw(), 4..=14);
    let roles = prop::collection::vec(grants(), default_roles);
    (parents, scopes, permissions, roles).prop_map(build)
}

/// A scope's relations: one to three, sometimes with `any` among them.
fn relations() -> impl Strategy<Value = Relations> {
    let relations = |count| prop::collection::btree_set(prop::sample::select(&ALL[1..]), count);
    let some = prop_oneof![relations(1..=1), relations(2..=3)];
    (some, prop::bool::weighted(0.05)).prop_map(|(mut relations, any)| {
        if any {
            relations.insert("any");
        }
        relations
    })
}

fn permission_draw() -> impl Strategy<Value = PermissionDraw> {
    let kind = prop_oneof![
        1 => Just(Kind::Unscoped),
        6 => Just(Kind::Scoped),
        3 => Just(Kind::Follower),
    ];
    let who = prop_oneof![
        7 => Just(Who::Roles),
        2 => Just(Who::Base),
        1 => Just(Who::DefaultRoles),
    ];
    let choices = prop::collection::vec(any::<Index>(), 1..=3);
    let requires = prop_oneof![
        1 => Just(vec![]),
        1 => prop::collection::vec(choices, 1..=2),
    ];
    let scopes = prop::collection::vec(prop::bool::weighted(0.7), 5);
    (kind, who, any::<Index>(), any::<u16>(), scopes, any::<Index>(), requires).prop_map(
        |(kind, who, section, place, scopes, follows, requires)| PermissionDraw {
            kind,
            who,
            section,
            place,
            scopes,
            follows,
            requires,
        },
    )
}

type Draws = (Vec<Option<Index>>, Vec<Relations>, Vec<PermissionDraw>, Vec<Vec<GrantDraw>>);

fn build((parents, scope_draws, permission_draws, role_draws): Draws) -> Catalog {
    let sections: Vec<Section> = parents
        .iter()
        .enumerate()
        .map(|(number, parent)| Section {
            id: format!("section{number}"),
            parent: parent
                .filter(|_| number > 0)
                .map(|parent| format!("section{}", parent.index(number))),
        })
        .collect();
    let mut scopes: BTreeMap<String, Relations> = scope_draws
        .into_iter()
        .enumerate()
        .map(|(number, relations)| (format!("scope{number}"), relations))
        .collect();
    scopes.insert("all".to_owned(), Relations::from(["any"]));

    let guard = Permission {
        id: GUARD.to_owned(),
        section: sections[0].id.clone(),
        scopes: vec![],
        follows: None,
        requires: vec![],
        who: Who::Roles,
    };
    let mut catalog = Catalog { sections, scopes, permissions: vec![guard], default_roles: vec![] };
    // Each may only follow and require those before it, so there are no circles.
    for (number, draw) in permission_draws.iter().enumerate() {
        let permission = permission(&catalog, number, draw);
        catalog.permissions.push(permission);
    }
    // In the file they stand in any order.
    let mut placed: Vec<(u16, Permission)> = permission_draws
        .iter()
        .map(|draw| draw.place)
        .chain([0])
        .zip(catalog.permissions.iter().skip(1).chain(catalog.permissions.first()).cloned())
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    catalog.permissions = placed.into_iter().map(|(_, permission)| permission).collect();

    catalog.default_roles = vec![owner(&catalog)];
    for (number, draws) in role_draws.iter().enumerate() {
        let mut role = Role {
            id: format!("default{number}"),
            custom: false,
            grants: build_grants(&catalog, draws),
        };
        role.grants = effective_grants(&catalog, &role);
        catalog.default_roles.push(role);
    }
    catalog
}

fn permission(catalog: &Catalog, number: usize, draw: &PermissionDraw) -> Permission {
    let mut permission = Permission {
        id: format!("thing.p{number}"),
        section: catalog.sections[draw.section.index(catalog.sections.len())].id.clone(),
        scopes: vec![],
        follows: None,
        requires: vec![],
        who: draw.who,
    };
    match draw.kind {
        Kind::Unscoped => {}
        Kind::Scoped => permission.scopes = scopes(catalog, draw),
        Kind::Follower => {
            let followed = &catalog.permissions[draw.follows.index(catalog.permissions.len())];
            // What everybody has follows nothing; and the owner must reach everything.
            let reaches_all = reaches(catalog, followed).iter().any(|reach| reach.contains("any"));
            if draw.who != Who::Base && reaches_all {
                permission.follows = Some(followed.id.clone());
                if followed.who == Who::DefaultRoles {
                    permission.who = Who::DefaultRoles;
                }
            }
        }
    }
    for indices in &draw.requires {
        let mut choices: Vec<String> = indices
            .iter()
            .map(|index| catalog.permissions[index.index(catalog.permissions.len())].id.clone())
            .collect();
        choices.sort();
        choices.dedup();
        let spelled_out = choices.len() == 1 && choices.first() == permission.follows.as_ref();
        if !spelled_out
            && !permission.requires.contains(&choices)
            && can_be_met(catalog, &permission, &choices)
        {
            permission.requires.push(choices);
        }
    }
    permission
}

/// Scopes that reach differently far; one that reaches everything among them, except where the
/// one scope is all that everybody has.
fn scopes(catalog: &Catalog, draw: &PermissionDraw) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    let mut known: Vec<Relations> = Vec::new();
    for (id, wanted) in catalog.scopes.keys().rev().zip(&draw.scopes) {
        let reach = with_implied(&catalog.scopes[id]);
        if *wanted && !known.contains(&reach) {
            scopes.push(id.clone());
            known.push(reach);
        }
    }
    if scopes.is_empty() || draw.who != Who::Base {
        let everything = with_implied(&Relations::from(["any"]));
        if !known.contains(&everything) {
            scopes.push("all".to_owned());
        }
    }
    if draw.who == Who::Base {
        scopes.truncate(1);
    }
    scopes
}

/// The reaches that a permission can have.
fn reaches(catalog: &Catalog, permission: &Permission) -> Vec<Relations> {
    if let Some(followed) = &permission.follows {
        return reaches(catalog, catalog.permission(followed).unwrap());
    }
    if permission.scopes.is_empty() {
        return vec![with_implied(&Relations::from(["any"]))];
    }
    permission.scopes.iter().map(|scope| with_implied(&catalog.scopes[scope])).collect()
}

/// Whether whoever may hold the permission may hold one of these, wherever it reaches.
fn can_be_met(catalog: &Catalog, permission: &Permission, choices: &[String]) -> bool {
    let choices = choices.iter().map(|choice| catalog.permission(choice).unwrap());
    let candidates: Vec<&Permission> = choices
        .filter(|choice| match permission.who {
            Who::Base => {
                choice.who == Who::Base
                    && base_reach(catalog, choice).is_superset(&base_reach(catalog, permission))
            }
            Who::Roles => choice.who != Who::DefaultRoles,
            Who::DefaultRoles => true,
        })
        .collect();
    reaches(catalog, permission).iter().all(|reach| {
        candidates.iter().any(|candidate| {
            reaches(catalog, candidate).iter().any(|other| other.is_superset(reach))
        })
    })
}

/// Everything that not everybody has, as far as it goes.
fn owner(catalog: &Catalog) -> Role {
    let held = catalog.permissions.iter().filter(|permission| permission.who != Who::Base);
    let grants = held
        .map(|permission| Grant {
            permission: permission.id.clone(),
            scope: permission
                .scopes
                .iter()
                .find(|scope| catalog.scopes[*scope].contains("any"))
                .cloned(),
        })
        .collect();
    Role { id: "owner".to_owned(), custom: false, grants }
}
