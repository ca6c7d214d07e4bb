//! The rules of grants, roles, decisions and plans, on a small catalog with one of each kind.

mod actor;
mod candidates;
mod decision;
mod grant;
mod impact;
mod plan;
mod role;

use std::sync::Arc;

use super::catalog::{Catalog, PermissionIx};
use super::grant::Grant;
use super::ids::{MemberId, RoleId, TeamId};
use super::member::{MemberStatus, Subject};
use super::relation::{Relation, RelationSet};
use super::role::{CompiledRole, RoleKind};

fn catalog() -> Catalog {
    match Catalog::parse(include_str!("fixture.toml")) {
        Ok(catalog) => catalog,
        Err(problems) => panic!("{problems}"),
    }
}

/// `doc.view at own`, or `doc.open`.
fn grants(written: &[&str]) -> Vec<Grant> {
    let grant = |text: &&str| match text.split_once(" at ") {
        Some((permission, scope)) => {
            Grant { permission: permission.to_owned(), scope: Some(scope.to_owned()) }
        }
        None => Grant { permission: (*text).to_owned(), scope: None },
    };
    written.iter().map(grant).collect()
}

fn shown(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(Grant::to_string).collect()
}

fn custom(catalog: &Catalog, written: &[&str]) -> CompiledRole {
    CompiledRole::compile(catalog, RoleKind::Custom, &grants(written))
}

fn ix(catalog: &Catalog, permission: &str) -> PermissionIx {
    catalog.find(permission).unwrap_or_else(|| panic!("no permission {permission}"))
}

fn set(relations: &[Relation]) -> RelationSet {
    relations.iter().copied().collect()
}

/// `me`, active, in the team `mine`, with these custom roles named `a`, `b`, …
fn subject(catalog: &Catalog, roles: &[&[&str]]) -> Subject {
    let names = ["a", "b", "c"].map(RoleId::trusted);
    let roles = names.into_iter().zip(roles);
    Subject {
        id: MemberId::trusted("me"),
        status: MemberStatus::Active,
        teams: Arc::from([TeamId::trusted("mine")]),
        roles: roles.map(|(name, role)| (name, Arc::new(custom(catalog, role)))).collect(),
    }
}
