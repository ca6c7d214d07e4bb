//! What a stored role gives under the catalog that its tenant is on.

use super::super::grant::{Grant, check_grants};
use super::super::relation::{Relation, RelationSet};
use super::super::role::{CompiledRole, DropReason, RoleKind};
use super::{catalog, custom, grants, ix, set, subject};

fn dropped(role: &CompiledRole) -> Vec<(String, DropReason)> {
    let dropped = role.dropped().iter();
    dropped.map(|dropped| (dropped.grant.to_string(), dropped.reason.clone())).collect()
}

fn missing(ids: &[&str]) -> DropReason {
    DropReason::RequirementMissing(ids.iter().map(|id| (*id).to_owned()).collect())
}

#[test]
fn each_grant_gives_its_scope_closed_under_implication() {
    let catalog = catalog();
    let role = custom(
        &catalog,
        &["doc.open", "doc.view at group", "doc.edit at own", "doc.queue at waiting"],
    );
    assert_eq!(dropped(&role), []);
    let group = set(&[Relation::Assignee, Relation::Team, Relation::TeamUnassigned]);
    let waiting = set(&[Relation::Unassigned, Relation::TeamUnassigned, Relation::Pool]);
    for (permission, relations, scope) in [
        ("doc.open", RelationSet::ANY, None),
        ("doc.view", group, Some("group")),
        ("doc.edit", set(&[Relation::Assignee]), Some("own")),
        ("doc.queue", waiting, Some("waiting")),
        ("doc.delete", RelationSet::EMPTY, None),
        // Base permissions are the catalog's to give, not the role's.
        ("doc.read_shared", RelationSet::EMPTY, None),
    ] {
        let reach = role.reach(ix(&catalog, permission));
        assert_eq!(reach.relations, relations, "{permission}");
        let name = reach.scope.map(|scope| catalog.scope(scope).id.as_str());
        assert_eq!(name, scope, "{permission}");
    }
}

#[test]
fn a_follower_has_the_reach_of_what_it_follows_in_the_same_role() {
    let catalog = catalog();
    let role = custom(
        &catalog,
        &["doc.open", "doc.view at all", "doc.edit at desk", "doc.delete", "archive.purge"],
    );
    let edit = role.reach(ix(&catalog, "doc.edit"));
    assert_eq!(role.reach(ix(&catalog, "doc.delete")), edit);
    assert_eq!(role.reach(ix(&catalog, "archive.purge")), edit, "also along a chain");
}

#[test]
fn what_lacks_a_requirement_is_dropped_and_so_is_what_needs_it() {
    let catalog = catalog();
    let role = custom(
        &catalog,
        &["doc.view at all", "doc.edit at own", "doc.delete", "archive.purge", "archive.list"],
    );
    assert_eq!(
        dropped(&role),
        [
            ("doc.view at all".to_owned(), missing(&["doc.open"])),
            ("doc.edit at own".to_owned(), missing(&["doc.view"])),
            ("doc.delete".to_owned(), missing(&["doc.edit"])),
            ("archive.purge".to_owned(), missing(&["doc.delete"])),
        ]
    );
    for (permission, _) in catalog.permissions() {
        let held = !role.reach(permission).relations.is_empty();
        assert_eq!(held, permission == ix(&catalog, "archive.list"));
    }
}

#[test]
fn what_is_dropped_is_never_narrowed_to_fit() {
    let catalog = catalog();
    let role = custom(&catalog, &["doc.open", "doc.view at own", "doc.edit at group"]);
    assert_eq!(dropped(&role), [("doc.edit at group".to_owned(), missing(&["doc.view"]))]);
    let role = custom(&catalog, &["archive.export"]);
    let needed = missing(&["archive.list or archive.search"]);
    assert_eq!(dropped(&role), [("archive.export".to_owned(), needed)]);
}

#[test]
fn what_the_catalog_no_longer_sustains_gives_nothing_and_is_told() {
    let catalog = catalog();
    let stored = [
        "doc.gone",
        "doc.view at gone",
        "doc.edit",
        "doc.open at all",
        "admin.close",
        "admin.profile",
        "admin.roles",
    ];
    let role = custom(&catalog, &stored);
    let expected = [
        ("doc.gone", DropReason::UnknownPermission),
        ("doc.view at gone", DropReason::UnknownScope),
        ("doc.edit", DropReason::UnknownScope),
        ("doc.open at all", DropReason::UnknownScope),
        ("admin.close", DropReason::NeverGrantable),
        ("admin.profile", DropReason::HeldByEveryone),
    ];
    assert_eq!(dropped(&role), expected.map(|(grant, reason)| (grant.to_owned(), reason)));
    assert_eq!(role.reach(ix(&catalog, "admin.roles")).relations, RelationSet::ANY);
    // A default role may hold what no custom role may.
    let default = CompiledRole::compile(&catalog, RoleKind::Default, &grants(&["admin.close"]));
    assert_eq!(default.dropped(), []);
    assert_eq!(default.reach(ix(&catalog, "admin.close")).relations, RelationSet::ANY);
}

/// What is accepted gives all that it says, whatever the combination.
#[test]
fn whatever_is_accepted_compiles_without_loss() {
    let catalog = catalog();
    let mut choices: Vec<Vec<Option<Grant>>> = Vec::new();
    for (_, permission) in catalog.permissions().take(7) {
        let grant = |scope: Option<String>| Grant { permission: permission.id.clone(), scope };
        let mut ways = vec![None];
        if permission.scopes.is_empty() {
            ways.push(Some(grant(None)));
        }
        let scopes = permission.scopes.iter().map(|scope| catalog.scope(*scope).id.clone());
        ways.extend(scopes.map(|scope| Some(grant(Some(scope)))));
        choices.push(ways);
    }
    let combinations: usize = choices.iter().map(Vec::len).product();
    let mut accepted = 0;
    for mut number in 0..combinations {
        let mut role = Vec::new();
        for ways in &choices {
            role.extend(ways[number % ways.len()].clone());
            number /= ways.len();
        }
        let compiled = CompiledRole::compile(&catalog, RoleKind::Custom, &role);
        let closed = check_grants(&catalog, &role, false);
        assert_eq!(closed.is_ok(), compiled.dropped().is_empty(), "{role:?}");
        accepted += usize::from(closed.is_ok());
        if let Ok(expanded) = check_grants(&catalog, &role, true) {
            let compiled = CompiledRole::compile(&catalog, RoleKind::Custom, &expanded);
            assert_eq!(compiled.dropped(), [], "{role:?} became {expanded:?}");
        }
    }
    assert!(accepted > 10 && accepted < combinations);
}

/// `follows` and `requires` are resolved inside each role, before the union over roles.
#[test]
fn one_role_never_widens_what_another_grants() {
    let catalog = catalog();
    let narrow = &["doc.open", "doc.view at own", "doc.edit at own", "doc.delete"][..];
    let wide = &["doc.open", "doc.view at all", "doc.edit at all"][..];
    let both = subject(&catalog, &[narrow, wide]);
    let own = set(&[Relation::Assignee]);
    assert_eq!(both.granted(&catalog, ix(&catalog, "doc.edit")), RelationSet::ANY);
    assert_eq!(both.granted(&catalog, ix(&catalog, "doc.delete")), own, "not at all");
    // A requirement that another role meets is not met.
    let split = subject(&catalog, &[&["archive.export"], &["archive.list"]]);
    assert!(split.granted(&catalog, ix(&catalog, "archive.export")).is_empty());
    let split = subject(&catalog, &[&["doc.delete"], wide]);
    assert!(split.granted(&catalog, ix(&catalog, "doc.delete")).is_empty());
    // Reaches of one permission do add up.
    let scopes = &["doc.open", "doc.view at group"][..];
    let union = subject(&catalog, &[scopes, &["doc.open", "doc.view at mine"]]);
    let expected =
        set(&[Relation::Assignee, Relation::Team, Relation::TeamUnassigned, Relation::Creator]);
    assert_eq!(union.granted(&catalog, ix(&catalog, "doc.view")), expected);
}
