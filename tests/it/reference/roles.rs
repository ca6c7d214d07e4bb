//! What a role really gives. `follows` and `requires` are resolved here, inside one role, before
//! any union over roles.

use super::model::{Catalog, Grant, Permission, Relations, Role, Who};
use super::relations::with_implied;

/// What every active member has of a permission; nothing unless it is a base one.
pub(crate) fn base_reach(catalog: &Catalog, permission: &Permission) -> Relations {
    if permission.who != Who::Base {
        return Relations::new();
    }
    match permission.scopes.first() {
        Some(scope) => with_implied(&catalog.scopes[scope]),
        None => with_implied(&Relations::from(["any"])),
    }
}

/// The grants of a role that count under this catalog: what cannot be there at all is dropped,
/// then what requires something that is not there, until nothing more has to go.
pub(crate) fn effective_grants(catalog: &Catalog, role: &Role) -> Vec<Grant> {
    let mut grants = role.grants.clone();
    grants.retain(|grant| can_stand(catalog, role, grant));
    loop {
        let held = grants.clone();
        grants.retain(|grant| requirements_met(catalog, &held, &grant.permission));
        if grants == held {
            return grants;
        }
    }
}

/// Whether the grant is well-formed by itself.
fn can_stand(catalog: &Catalog, role: &Role, grant: &Grant) -> bool {
    let Some(permission) = catalog.permission(&grant.permission) else { return false };
    match permission.who {
        // Everybody has it already.
        Who::Base => return false,
        Who::DefaultRoles if role.custom => return false,
        Who::DefaultRoles | Who::Roles => {}
    }
    match &grant.scope {
        Some(scope) => permission.scopes.contains(scope),
        None => permission.scopes.is_empty(),
    }
}

/// How far a permission reaches with these grants and what everybody has. A permission that
/// follows another reaches as far as that one does.
fn reach_within(catalog: &Catalog, grants: &[Grant], id: &str) -> Relations {
    let Some(permission) = catalog.permission(id) else { return Relations::new() };
    if permission.who == Who::Base {
        return base_reach(catalog, permission);
    }
    let Some(grant) = grants.iter().find(|grant| grant.permission == id) else {
        return Relations::new();
    };
    if let Some(followed) = &permission.follows {
        return reach_within(catalog, grants, followed);
    }
    match &grant.scope {
        Some(scope) => with_implied(&catalog.scopes[scope]),
        None => with_implied(&Relations::from(["any"])),
    }
}

/// Whether everything that a permission requires is there and reaches at least as far.
fn requirements_met(catalog: &Catalog, grants: &[Grant], id: &str) -> bool {
    let Some(permission) = catalog.permission(id) else { return false };
    let mine = reach_within(catalog, grants, id);
    let far_enough = |required: &String| {
        let theirs = reach_within(catalog, grants, required);
        !theirs.is_empty() && theirs.is_superset(&mine)
    };
    let followed_is_there = permission.follows.as_ref().is_none_or(far_enough);
    !mine.is_empty()
        && followed_is_there
        && permission.requires.iter().all(|choices| choices.iter().any(far_enough))
}

/// How far a role lets its members go with a permission.
pub(crate) fn reach(catalog: &Catalog, role: &Role, permission: &Permission) -> Relations {
    if permission.who == Who::Base {
        // It comes from no role.
        return Relations::new();
    }
    reach_within(catalog, &effective_grants(catalog, role), &permission.id)
}

/// The scope that the role's reach comes from: that of the grant, or of what it follows; none for
/// what is unscoped.
pub(crate) fn scope(catalog: &Catalog, role: &Role, permission: &Permission) -> Option<String> {
    if let Some(followed) = &permission.follows {
        return scope(catalog, role, catalog.permission(followed)?);
    }
    if permission.who == Who::Base {
        return permission.scopes.first().cloned();
    }
    let grants = effective_grants(catalog, role);
    grants.into_iter().find(|grant| grant.permission == permission.id)?.scope
}
