//! What changes besides who holds what: the rules that custom roles and administration are under.

use super::super::{Catalog, DeletionPolicy, Grantable, Permission, Requirement};

/// One line for each rule that changed.
pub(super) fn changed(old: &Catalog, new: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    for (_, permission) in new.permissions() {
        let mut earlier =
            std::iter::once(&permission.id).chain(&permission.renamed_from).map(String::as_str);
        if let Some(ix) = earlier.find_map(|id| old.find(id)) {
            permission_rules(old, old.permission(ix), new, permission, &mut lines);
        }
    }
    plans(old, new, &mut lines);
    let mut compare = |what: &str, before: String, after: String| {
        if before != after {
            lines.push(format!("{what}: {before} -> {after}"));
        }
    };
    compare("the owner role", old.owner().to_string(), new.owner().to_string());
    let per_member = |catalog: &Catalog| catalog.roles_per_member().to_string();
    compare("roles per member", per_member(old), per_member(new));
    compare("deleting a custom role", deletion(old.deletion()), deletion(new.deletion()));
    let (before, after) = (old.administration(), new.administration());
    for (what, before, after) in [
        ("administering roles needs", before.roles, after.roles),
        ("administering members needs", before.members, after.members),
        ("removing members needs", before.member_removal, after.member_removal),
    ] {
        // A rename alone is no other rule, and is told elsewhere.
        let before = &old.permission(before).id;
        if new.find_renamed(before) != Some(after) {
            compare(what, before.clone(), new.permission(after).id.clone());
        }
    }
    lines
}

fn permission_rules(
    old: &Catalog,
    before: &Permission,
    new: &Catalog,
    after: &Permission,
    lines: &mut Vec<String>,
) {
    let kind = |permission: &Permission| match permission.grantable {
        Grantable::Base(_) => "held by every member",
        Grantable::Yes => "for custom roles too",
        Grantable::Never => "never on a custom role",
    };
    let id = &after.id;
    if kind(before) != kind(after) {
        lines.push(format!("{id}: {} -> {}", kind(before), kind(after)));
    }
    let scopes = |catalog: &Catalog, permission: &Permission| {
        let scopes = permission.scopes.iter().map(|scope| catalog.scope(*scope).id.clone());
        scopes.collect::<Vec<_>>()
    };
    let (scopes_before, scopes_after) = (scopes(old, before), scopes(new, after));
    if scopes_before != scopes_after {
        let show = |scopes: &[String]| match scopes {
            [] => "none".to_owned(),
            scopes => scopes.join(", "),
        };
        lines.push(format!("{id}: scopes {} -> {}", show(&scopes_before), show(&scopes_after)));
    }
    let needs_before = requirements(old, before, |id| {
        new.find_renamed(id).map_or_else(|| id.to_owned(), |ix| new.permission(ix).id.clone())
    });
    let needs_after = requirements(new, after, str::to_owned);
    for needed in needs_after.iter().filter(|needed| !needs_before.contains(needed)) {
        lines.push(format!("{id}: now requires {needed}"));
    }
    for needed in needs_before.iter().filter(|needed| !needs_after.contains(needed)) {
        lines.push(format!("{id}: no longer requires {needed}"));
    }
}

fn requirements(
    catalog: &Catalog,
    permission: &Permission,
    name: impl Fn(&str) -> String,
) -> Vec<String> {
    let show = |requirement: &Requirement| {
        let choices = requirement.choices().iter().map(|ix| name(&catalog.permission(*ix).id));
        let mut choices: Vec<_> = choices.collect();
        choices.sort();
        choices.join(" or ")
    };
    permission.requires.iter().map(show).collect()
}

fn plans(old: &Catalog, new: &Catalog, lines: &mut Vec<String>) {
    let limit = |limit: Option<u32>| match limit {
        Some(limit) => limit.to_string(),
        None => "any number".to_owned(),
    };
    for plan in new.plans() {
        let after = limit(plan.custom_roles);
        match old.plan(&plan.id) {
            None => lines.push(format!("plan {}: new, custom roles: {after}", plan.id)),
            Some(before) if before.custom_roles != plan.custom_roles => {
                let before = limit(before.custom_roles);
                lines.push(format!("plan {}: custom roles: {before} -> {after}", plan.id));
            }
            Some(_) => {}
        }
    }
    for plan in old.plans().iter().filter(|plan| new.plan(&plan.id).is_none()) {
        lines.push(format!("plan {}: removed", plan.id));
    }
}

fn deletion(policy: &DeletionPolicy) -> String {
    match policy {
        DeletionPolicy::Reassign => "its members get another role".to_owned(),
        DeletionPolicy::RefuseWhileAssigned { confirmation: None } => {
            "refused while any active member holds it".to_owned()
        }
        DeletionPolicy::RefuseWhileAssigned { confirmation: Some(text) } => {
            format!("refused while any active member holds it, and confirmed by \"{text}\"")
        }
    }
}
