//! The decision, and everything that is derived from it.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Member, Permission, Relations, Resource, World};
use super::relations::{ALL, holding, ways_to_fill_in, with_implied, without_implied};
use super::roles;

/// Why, in the words of the API.
pub(crate) type Reason = &'static str;

/// A member's standing with one permission: what a decision needs besides the resource.
#[derive(Debug, Clone)]
pub(crate) struct Standing<'w> {
    /// The member, if it is there and active; else why not.
    pub(crate) member: Result<&'w Member, Reason>,
    /// What everybody has of the permission.
    pub(crate) base: Relations,
    /// What each role of the member gives, by role, with the scope that it comes from. Roles that
    /// give nothing are left out.
    pub(crate) by_role: BTreeMap<&'w str, (Relations, Option<String>)>,
}

/// A verdict with its reason, and what it goes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) reason: Reason,
    /// The roles that decided, with their scopes.
    pub(crate) decided_by: BTreeSet<(String, Option<String>)>,
    /// What should have been said.
    pub(crate) missing: BTreeSet<&'static str>,
}

/// `allow(member, permission, resource)`: the verdict and why.
pub(crate) fn allow(
    world: &World,
    member: &str,
    permission: &Permission,
    resource: Option<&Resource>,
) -> (bool, Reason) {
    let answer = standing(world, member, permission).answer(resource);
    (answer.allowed, answer.reason)
}

/// Looks the member up, and what it has of the permission.
pub(crate) fn standing<'w>(
    world: &'w World,
    member: &str,
    permission: &Permission,
) -> Standing<'w> {
    let nothing =
        |why| Standing { member: Err(why), base: Relations::new(), by_role: BTreeMap::new() };
    let Some(member) = world.member(member) else { return nothing("MEMBER_NOT_FOUND") };
    if !member.active {
        return nothing("MEMBER_ARCHIVED");
    }
    let catalog = &world.catalog;
    let mut by_role = BTreeMap::new();
    for role in world.roles_of(member) {
        let reach = roles::reach(catalog, role, permission);
        if !reach.is_empty() {
            let scope = roles::scope(catalog, role, permission);
            by_role.insert(role.id.as_str(), (reach, scope));
        }
    }
    Standing { member: Ok(member), base: roles::base_reach(catalog, permission), by_role }
}

impl Standing<'_> {
    /// The union: what the member has of the permission.
    pub(crate) fn granted(&self) -> Relations {
        let mut granted = self.base.clone();
        for (reach, _) in self.by_role.values() {
            granted.extend(reach);
        }
        granted
    }

    /// The decision about a resource, or about none.
    pub(crate) fn answer(&self, resource: Option<&Resource>) -> Answer {
        let member = match self.member {
            Ok(member) => member,
            Err(why) => return self.denied(why),
        };
        let granted = self.granted();
        if granted.is_empty() {
            return self.denied("PERMISSION_NOT_GRANTED");
        }
        let holding = match resource {
            Some(resource) => holding(member, resource),
            None => Relations::from(["any"]),
        };
        if !granted.is_disjoint(&holding) {
            return self.allowed(&holding);
        }
        let Some(resource) = resource else { return self.denied("RESOURCE_REQUIRED") };
        let missing = missing(member, &granted, resource);
        if missing.is_empty() {
            return self.denied("OUT_OF_SCOPE");
        }
        Answer { missing, ..self.denied("RESOURCE_ATTRIBUTE_REQUIRED") }
    }

    fn allowed(&self, holding: &Relations) -> Answer {
        let deciding = self.by_role.iter().filter(|(_, (reach, _))| !reach.is_disjoint(holding));
        let decided_by: BTreeSet<_> =
            deciding.map(|(role, (_, scope))| (role.to_string(), scope.clone())).collect();
        let reason =
            if self.base.is_disjoint(holding) { "GRANTED_BY_ROLE" } else { "GRANTED_TO_EVERYONE" };
        Answer { allowed: true, reason, decided_by, missing: BTreeSet::new() }
    }

    fn denied(&self, reason: Reason) -> Answer {
        let having = self.by_role.iter();
        let decided_by =
            having.map(|(role, (_, scope))| (role.to_string(), scope.clone())).collect();
        Answer { allowed: false, reason, decided_by, missing: BTreeSet::new() }
    }

    /// The conditions of a query for what the member may see, in normal form, and why there are
    /// none. `["any"]` alone: no condition is needed.
    pub(crate) fn plan(&self) -> (Vec<&'static str>, Option<Reason>) {
        let member = match self.member {
            Ok(member) => member,
            Err(why) => return (Vec::new(), Some(why)),
        };
        let granted = self.granted();
        if granted.is_empty() {
            return (Vec::new(), Some("PERMISSION_NOT_GRANTED"));
        }
        let mut terms = without_implied(&granted);
        if member.teams.is_empty() {
            terms.retain(|term| !matches!(*term, "team" | "team_unassigned"));
        }
        if terms.is_empty() {
            return (Vec::new(), Some("OUT_OF_SCOPE"));
        }
        (ALL.into_iter().filter(|relation| terms.contains(relation)).collect(), None)
    }
}

/// The attributes that were not said and could have decided: those that make the difference in
/// some way of filling in all of them that would have been allowed.
fn missing(member: &Member, granted: &Relations, said: &Resource) -> BTreeSet<&'static str> {
    let matches = |way: &Resource| !granted.is_disjoint(&holding(member, way));
    let mut missing = BTreeSet::new();
    for way in ways_to_fill_in(member, said).iter().filter(|way| matches(way)) {
        let without = |forget: fn(&mut Resource)| {
            let mut way = way.clone();
            forget(&mut way);
            !matches(&way)
        };
        if said.assignees.is_none() && without(|way| way.assignees = None) {
            missing.insert("assignees");
        }
        if said.teams.is_none() && without(|way| way.teams = None) {
            missing.insert("teams");
        }
        if said.creator.is_none() && without(|way| way.creator = None) {
            missing.insert("creator_id");
        }
        if said.participants.is_none() && without(|way| way.participants = None) {
            missing.insert("participants");
        }
        if said.public.is_none() && without(|way| way.public = None) {
            missing.insert("public");
        }
    }
    missing
}

/// What a member holds: each permission in the catalog's order, with its reach.
pub(crate) fn effective(world: &World, member: &str) -> Vec<(String, Relations)> {
    let mut effective = Vec::new();
    for permission in &world.catalog.permissions {
        let granted = standing(world, member, permission).granted();
        if !granted.is_empty() {
            effective.push((permission.id.clone(), granted));
        }
    }
    effective
}

/// The sections with any of these permissions, in them or below them.
pub(crate) fn visible_sections(world: &World, held: &[(String, Relations)]) -> BTreeSet<String> {
    let catalog = &world.catalog;
    let mut visible = BTreeSet::new();
    for (id, _) in held {
        let mut section = catalog.permission(id).map(|permission| permission.section.clone());
        while let Some(id) = section {
            let found = catalog.sections.iter().find(|section| section.id == id);
            section = found.and_then(|section| section.parent.clone());
            visible.insert(id);
        }
    }
    visible
}

/// The name of the permission's scope, or of the one that it follows, with exactly this reach.
pub(crate) fn scope_named(
    world: &World,
    permission: &Permission,
    reach: &Relations,
) -> Option<String> {
    if let Some(followed) = &permission.follows {
        return scope_named(world, world.catalog.permission(followed)?, reach);
    }
    let same = |scope: &&String| with_implied(&world.catalog.scopes[*scope]) == *reach;
    permission.scopes.iter().find(same).cloned()
}
