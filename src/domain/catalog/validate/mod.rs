//! Whether a catalog holds together: ids are looked up, rules are checked, default roles are
//! compiled as any role is.
//!
//! A mistake is reported once and read around: what depends on a broken part is left unchecked
//! rather than reported again, and everything else is still checked.

mod cycle;
mod permissions;
mod policy;
mod register;
mod requirements;
mod roles;
mod tree;

use std::collections::BTreeSet;

use super::raw::RawCatalog;
use super::{
    Administration, Catalog, CatalogRef, DeletionPolicy, PermissionIx, RelationSet, RoleId, ScopeIx,
};
use crate::domain::document::Problems;
use register::{Form, Register};

/// What the checks share while the catalog takes shape.
struct Draft<'p> {
    catalog: Catalog,
    permissions: Register<PermissionIx>,
    scopes: Register<ScopeIx>,
    /// Permissions with a reported mistake that changes what they mean: what follows from them is
    /// not checked.
    unclear: BTreeSet<PermissionIx>,
    problems: &'p Problems<'p>,
}

/// Checks the whole file. Gives a catalog only when nothing was reported, by this or before.
pub(super) fn catalog<'p>(raw: &RawCatalog, problems: &'p Problems<'p>) -> Option<Catalog> {
    let reference = CatalogRef {
        id: raw.id.as_ref().map(|word| word.text.clone()).unwrap_or_default(),
        version: raw.version.unwrap_or_default(),
    };
    if let Some(id) = &raw.id {
        Form::Word.check("catalog", id, problems);
    }
    let first = PermissionIx::new(0)?;
    let mut draft = Draft {
        catalog: Catalog {
            reference,
            hash: String::new(),
            source: String::new(),
            title: raw.title.clone(),
            sections: Vec::new(),
            scopes: Vec::new(),
            permissions: Vec::new(),
            by_id: Default::default(),
            base: Box::<[RelationSet]>::default(),
            plans: Vec::new(),
            default_roles: Vec::new(),
            owner: RoleId::trusted(""),
            roles_per_member: raw.roles_per_member,
            deletion: DeletionPolicy::Reassign,
            administration: Administration { roles: first, members: first, member_removal: first },
        },
        permissions: Register::new("permission"),
        scopes: Register::new("scope"),
        unclear: BTreeSet::new(),
        problems,
    };
    let sections = draft.sections(&raw.sections);
    draft.scopes(&raw.scopes);
    let sites = draft.permissions(&raw.permissions, &sections);
    draft.requirements(&sites);
    draft.roles(raw);
    draft.policy(raw);
    let complete = problems.is_empty();
    complete.then_some(draft.catalog)
}
