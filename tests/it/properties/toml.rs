//! Catalogs of the reference as the files that the crate reads.

use std::fmt::Write;

use super::generate::GUARD;
use crate::reference::model::{Catalog, Grant, Permission, Role, Who};

/// The file of a catalog.
pub(super) fn render(catalog: &Catalog, id: &str, version: u32, roles_per_member: usize) -> String {
    let mut file = format!(
        "id = \"{id}\"\nversion = {version}\ntitle = \"A product\"\nowner_role = \"owner\"\n\
         roles_per_member = {roles_per_member}\n\
         [deletion]\npolicy = \"reassign\"\n\
         [administration]\nroles = \"{GUARD}\"\nmembers = \"{GUARD}\"\n\
         [scopes]\n"
    );
    for (id, relations) in &catalog.scopes {
        writeln!(file, "{id} = {}", list(relations.iter())).unwrap();
    }
    for section in &catalog.sections {
        writeln!(file, "[[section]]\nid = \"{0}\"\ntitle = \"{0}\"", section.id).unwrap();
        if let Some(parent) = &section.parent {
            writeln!(file, "parent = \"{parent}\"").unwrap();
        }
    }
    for permission in &catalog.permissions {
        file.push_str(&render_permission(permission));
    }
    for role in &catalog.default_roles {
        file.push_str(&render_role(role));
    }
    file
}

fn render_permission(permission: &Permission) -> String {
    let Permission { id, section, scopes, follows, requires, who } = permission;
    let mut entry =
        format!("[[permission]]\nid = \"{id}\"\ntitle = \"{id}\"\nsection = \"{section}\"\n");
    if !scopes.is_empty() {
        writeln!(entry, "scopes = {}", list(scopes.iter())).unwrap();
    }
    if let Some(followed) = follows {
        writeln!(entry, "follows = \"{followed}\"").unwrap();
    }
    if !requires.is_empty() {
        let requires = requires.iter().map(|choices| match choices.as_slice() {
            [one] => format!("\"{one}\""),
            several => format!("{{ any_of = {} }}", list(several.iter())),
        });
        let requires: Vec<_> = requires.collect();
        writeln!(entry, "requires = [{}]", requires.join(", ")).unwrap();
    }
    match who {
        Who::Base => entry.push_str("custom_roles = \"base\"\n"),
        Who::DefaultRoles => entry.push_str("custom_roles = \"never\"\n"),
        Who::Roles => {}
    }
    entry
}

fn render_role(role: &Role) -> String {
    let mut entry = format!("[[role]]\nid = \"{0}\"\ntitle = \"{0}\"\n", role.id);
    if role.id == "owner" {
        entry.push_str("everything = true\n");
    } else {
        let grants = role.grants.iter().map(|Grant { permission, scope }| match scope {
            Some(scope) => format!("{permission} at {scope}"),
            None => permission.clone(),
        });
        writeln!(entry, "grants = {}", list(grants)).unwrap();
    }
    entry
}

fn list<T: std::fmt::Display>(entries: impl Iterator<Item = T>) -> String {
    let entries: Vec<_> = entries.map(|entry| format!("\"{entry}\"")).collect();
    format!("[{}]", entries.join(", "))
}
