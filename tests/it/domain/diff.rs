//! What a newer version of a catalog changes, and how stored grants are carried into it.

use rolegate::domain::catalog::diff::{CatalogDiff, RoleChange, role_diff};
use rolegate::domain::catalog::{Catalog, migrate_grants};
use rolegate::domain::impact::PermissionDelta;
use rolegate::domain::role::RoleKind;

use super::support::{self, grants};

const SOUND: &str = include_str!("catalogs/sound.toml");

fn old() -> Catalog {
    Catalog::parse(SOUND).unwrap()
}

/// The sound catalog with some places edited.
fn edited(edits: &[(&str, &str)]) -> Catalog {
    let mut source = SOUND.to_owned();
    for (from, to) in edits {
        assert!(source.contains(from), "{from}");
        source = source.replace(from, to);
    }
    Catalog::parse(&source).unwrap_or_else(|problems| panic!("{problems}"))
}

fn shown(deltas: &[PermissionDelta]) -> Vec<String> {
    deltas.iter().map(PermissionDelta::to_string).collect()
}

/// A version with one of each: renamed, added and removed permissions, changed roles and rules.
fn next() -> Catalog {
    edited(&[
        ("version = 3", "version = 4"),
        ("order.view", "order.read"),
        ("[\"order.see\"]", "[\"order.see\", \"order.view\"]"),
        ("requires = [\"team.people\"]", "requires = [\"team.people\", \"team.audit\"]"),
        ("id = \"refund.big\"", "id = \"refund.huge\""),
        ("\"refund.big\"]", "\"refund.huge\"]"),
        (
            "[[permission]]\nid = \"team.roles\"",
            "[[permission]]\nid = \"team.audit\"\nsection = \"team\"\ntitle = \"Read the log\"\n\n\
             [[permission]]\nid = \"team.roles\"",
        ),
        ("scopes = [\"shared\"]\ncustom_roles = \"base\"", "custom_roles = \"base\""),
        ("id = \"clerk\"", "id = \"seller_2\""),
        ("[\"seller\"]", "[\"seller\", \"clerk\"]"),
        ("at mine\"", "at all\""),
        ("    \"order.delete\",\n", ""),
        ("free = 1", "free = 2"),
        ("roles_per_member = 2", "roles_per_member = 1"),
        ("confirmation = \"yes, delete {name}\"\n", ""),
        ("roles = \"team.roles\"", "roles = \"team.people\""),
    ])
}

#[test]
fn a_product_person_reads_what_a_version_changes() {
    let diff = CatalogDiff::of(&old(), &next());
    assert!(diff.widens());
    assert!(!diff.is_empty());
    let expected = "\
shop@3 -> shop@4

Permissions
  added   refund.huge (Refund a lot)
  added   team.audit (Read the log)
  removed refund.big (Refund a lot)
  renamed order.view -> order.read

Every member
  gains   order.list_public: shared -> yes

Role owner (Owner)
  gains   refund.huge: no -> yes
  gains   team.audit: no -> yes
  loses   refund.big: yes -> no

Role manager (Manager)
  gains   refund.huge: no -> yes
  gains   team.audit: no -> yes
  loses   refund.big: yes -> no

Role seller_2 (Clerk), was clerk
  gains   order.read: mine -> all (was order.view)
  loses   order.delete: own -> no

Rules
  order.list_public: scopes shared -> none
  refund.report: now requires refund.huge or refund.small
  refund.report: no longer requires refund.big or refund.small
  team.roles: now requires team.audit
  plan free: custom roles: 1 -> 2
  roles per member: 2 -> 1
  deleting a custom role: refused while any active member holds it, and confirmed by \
\"yes, delete {name}\" -> refused while any active member holds it
  administering roles needs: team.roles -> team.people
";
    assert_eq!(diff.to_string(), expected);
}

#[test]
fn nothing_but_a_version_is_no_change() {
    let diff = CatalogDiff::of(&old(), &edited(&[("version = 3", "version = 4")]));
    assert!(diff.is_empty() && !diff.widens());
    assert_eq!(diff.to_string(), "shop@3 -> shop@4\n\nNothing changes for anybody.\n");
}

#[test]
fn a_rename_alone_changes_nobodys_reach() {
    let new = edited(&[
        ("order.view", "order.read"),
        ("[\"order.see\"]", "[\"order.view\"]"),
        ("refund.small", "refund.little"),
        ("title = \"Refund a little\"", "title = \"x\"\nrenamed_from = [\"refund.small\"]"),
        ("team.people", "team.members"),
        ("title = \"Manage people\"", "title = \"x\"\nrenamed_from = [\"team.people\"]"),
    ]);
    let diff = CatalogDiff::of(&old(), &new);
    let renamed = [
        ("order.view", "order.read"),
        ("refund.small", "refund.little"),
        ("team.people", "team.members"),
    ];
    let renamed: Vec<_> = renamed.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(diff.renamed, renamed);
    assert_eq!((diff.everyone.len(), diff.roles.len(), diff.rules.len()), (0, 0, 0), "{diff}");
    assert!(!diff.widens());
    let custom = grants(&["order.view at mine", "refund.small", "team.people", "team.roles"]);
    assert_eq!(role_diff(&old(), &new, RoleKind::Custom, &custom), []);
}

#[test]
fn widening_is_told_from_narrowing_and_from_both() {
    for (edits, widens, told) in [
        (("at mine\"", "at all\""), true, "gains   order.view: mine -> all"),
        (("at mine\"", "at own\""), false, "loses   order.view: mine -> own"),
        (("    \"order.delete\",\n", ""), false, "loses   order.delete: own -> no"),
        // The scope itself comes to mean something else.
        (
            ("\"team\", \"creator\"]", "\"participant\", \"creator\"]"),
            true,
            "changes order.view: mine (assignee or team or creator) -> \
             mine (assignee or creator or participant)",
        ),
    ] {
        let diff = CatalogDiff::of(&old(), &edited(&[edits]));
        assert_eq!(diff.widens(), widens, "{diff}");
        assert_eq!(diff.roles.len(), 1, "{diff}");
        assert_eq!(diff.roles[0].change, RoleChange::Kept);
        assert_eq!(shown(&diff.roles[0].deltas), [told]);
    }
}

#[test]
fn a_removed_role_loses_everything_and_a_new_one_widens_nobody() {
    let smaller = {
        let at = SOUND.find("[[role]]\nid = \"clerk\"").unwrap();
        Catalog::parse(&SOUND[..at]).unwrap()
    };
    let gone = CatalogDiff::of(&old(), &smaller);
    assert_eq!(gone.roles.len(), 1);
    assert_eq!(gone.roles[0].change, RoleChange::Removed);
    assert!(gone.roles[0].deltas.iter().all(|delta| delta.lost() && !delta.gained()));
    assert_eq!(gone.roles[0].deltas.len(), 5);
    let come = CatalogDiff::of(&smaller, &old());
    assert_eq!(come.roles[0].change, RoleChange::Added);
    assert!(!come.widens(), "nobody holds it yet");
}

#[test]
fn who_held_one_of_two_merged_roles_is_seen_to_gain_what_the_other_has() {
    let at = SOUND.find("[[role]]\nid = \"clerk\"").unwrap();
    let merged = SOUND[..at].to_owned() + "renamed_from = [\"clerk\"]\n";
    let merged = Catalog::parse(&merged.replace("version = 3", "version = 4")).unwrap();
    let diff = CatalogDiff::of(&old(), &merged);
    assert_eq!(diff.roles.len(), 1, "{diff}");
    assert_eq!(diff.roles[0].role.id, "manager");
    assert_eq!(
        diff.roles[0].change,
        RoleChange::Renamed { from: rolegate::domain::ids::RoleId::trusted("clerk") }
    );
    assert!(shown(&diff.roles[0].deltas).contains(&"gains   team.people: no -> yes".to_owned()));
    assert!(diff.widens());
    assert!(diff.to_string().contains("Role manager (Manager), was clerk"), "{diff}");
}

#[test]
fn a_custom_role_sees_what_it_would_gain_and_lose() {
    let custom = grants(&["order.view at mine", "team.people", "team.roles", "refund.big"]);
    assert_eq!(
        shown(&role_diff(&old(), &next(), RoleKind::Custom, &custom)),
        [
            // What every member gains, its members gain too.
            "gains   order.list_public: shared -> yes",
            // It lacks what the new version requires, so it is dropped.
            "loses   team.roles: yes -> no",
            "loses   refund.big: yes -> no",
        ]
    );
    // What was granted by the role is everybody's now, and the other way round.
    let everybodys =
        edited(&[("title = \"Refund a lot\"", "title = \"x\"\ncustom_roles = \"base\"")]);
    assert_eq!(role_diff(&old(), &everybodys, RoleKind::Custom, &custom), []);
    let back = role_diff(&everybodys, &old(), RoleKind::Custom, &grants(&["team.people"]));
    assert_eq!(shown(&back), ["loses   refund.big: yes -> no"]);
    let diff = CatalogDiff::of(&old(), &everybodys);
    assert_eq!(shown(&diff.everyone), ["gains   refund.big: no -> yes"]);
    assert_eq!(diff.roles, [], "owner and manager held it anyway, and a clerk is everyone");
}

#[test]
fn grants_are_carried_over_and_what_is_unknown_is_kept() {
    let stored = grants(&["order.view at mine", "refund.big", "refund.small", "gone.long_ago"]);
    let expected = grants(&["order.read at mine", "refund.big", "refund.small", "gone.long_ago"]);
    assert_eq!(migrate_grants(&next(), &stored), expected);
    assert_eq!(migrate_grants(&old(), &stored), stored, "nothing to rename");
    // An id from two versions ago.
    let ancient = grants(&["order.see at own"]);
    assert_eq!(migrate_grants(&next(), &ancient), grants(&["order.read at own"]));
}

#[test]
fn two_permissions_that_became_one_keep_the_narrower_reach() {
    // order.see and order.view are one permission now; scopes own < mine.
    let new = edited(&[(
        "scopes = [\"own\", \"mine\", \"all\"]",
        "scopes = [\"own\", \"mine\", \"shared\", \"all\"]",
    )]);
    for (stored, carried) in [
        (["order.view at mine", "order.see at own"], &["order.view at own"][..]),
        (["order.see at own", "order.view at mine"], &["order.view at own"]),
        (["order.see at own", "order.view at own"], &["order.view at own"]),
        // The one without a scope of today's gives nothing by itself.
        (["order.see at nowhere", "order.view at own"], &["order.view at own"]),
        (["order.view at own", "order.see at nowhere"], &["order.view at own"]),
        // Neither is the narrower one: the second gives nothing.
        (
            ["order.view at own", "order.see at shared"],
            &["order.view at own", "order.see at shared"],
        ),
    ] {
        assert_eq!(migrate_grants(&new, &grants(&stored)), grants(carried), "{stored:?}");
    }
}

#[test]
fn who_held_one_of_two_merged_permissions_is_seen_to_gain_the_other() {
    let new = edited(&[
        (
            "[[permission]]\nid = \"refund.big\"\nsection = \"refund\"\ntitle = \"Refund a lot\"\n",
            "",
        ),
        ("title = \"Refund a little\"", "title = \"x\"\nrenamed_from = [\"refund.big\"]"),
        (
            "requires = [{ any_of = [\"refund.small\", \"refund.big\"] }]",
            "requires = [\"refund.small\"]",
        ),
    ]);
    let held_big = role_diff(&old(), &new, RoleKind::Custom, &grants(&["refund.big"]));
    assert_eq!(shown(&held_big), ["gains   refund.small: no -> yes"]);
    let held_small = role_diff(&old(), &new, RoleKind::Custom, &grants(&["refund.small"]));
    assert_eq!(shown(&held_small), ["gains   refund.small: no -> yes (was refund.big)"]);
}

#[test]
fn the_shipped_catalogs_do_not_differ_from_themselves() {
    for id in ["oqupie", "qpien"] {
        let catalog = support::catalog(id);
        assert!(CatalogDiff::of(&catalog, &catalog).is_empty());
    }
}
