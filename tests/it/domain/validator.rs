//! What the catalog format refuses: each case is a small edit of a sound catalog, the line that
//! must be blamed, and what must be said. One mistake gives one message: what depends on it is not
//! reported again.

use std::collections::BTreeMap;

use rolegate::domain::catalog::{Catalog, DeletionPolicy, Grantable, Requirement};
use rolegate::domain::document::FileProblem;

use super::support;

const SOUND: &str = include_str!("catalogs/sound.toml");

fn problems(source: &str) -> Vec<FileProblem> {
    match Catalog::parse(source) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.all().to_vec(),
    }
}

/// Runs one group of `catalogs/broken.toml`.
fn check(group: &str) {
    let broken = include_str!("catalogs/broken.toml");
    let groups: BTreeMap<String, Vec<[String; 4]>> = toml::from_str(broken).unwrap();
    for [from, to, blamed, said] in &groups[group] {
        assert_eq!(SOUND.matches(from).count(), 1, "an edit of one place: {from}");
        let source = SOUND.replace(from, to);
        let problems = problems(&source);
        let all = problems.iter().map(FileProblem::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(problems.len(), 1, "{from} => {to}:\n{all}");
        let line = source.lines().nth(problems[0].line - 1).unwrap();
        assert!(line.starts_with(blamed), "{to}: blamed {line:?}, not {blamed:?}: {all}");
        assert!(problems[0].message.contains(said), "{to}: {all}\n should say: {said}");
    }
}

#[test]
fn the_sound_catalog_is_sound() {
    let catalog = Catalog::parse(SOUND).unwrap();
    assert_eq!(catalog.reference().to_string(), "shop@3");
    assert_eq!(catalog.title().get("ko-KR"), "상점");
    assert_eq!(catalog.roles_per_member(), 2);
    assert_eq!(catalog.plan("free").unwrap().custom_roles, Some(1));
    assert_eq!(catalog.plan("big").unwrap().custom_roles, None, "no entry, no limit");
    let confirmation = Some("yes, delete {name}".to_owned());
    assert_eq!(catalog.deletion(), &DeletionPolicy::RefuseWhileAssigned { confirmation });
    let guards = catalog.administration();
    assert_eq!(guards.member_removal, guards.members, "as for members where not said");
    let scopes: Vec<_> =
        catalog.scopes().iter().map(|s| (s.id.as_str(), s.title.get(""))).collect();
    let shown = [("all", "all"), ("mine", "My team's"), ("own", "own"), ("shared", "shared")];
    assert_eq!(scopes, shown);
    let order_delete = catalog.permission(support::ix(&catalog, "order.delete"));
    let edit = support::ix(&catalog, "order.edit");
    assert_eq!(order_delete.requires, [Requirement::Permission(edit)], "what it follows");
    let public = catalog.permission(support::ix(&catalog, "order.list_public"));
    assert!(matches!(public.grantable, Grantable::Base(Some(_))));
    let manager = catalog.default_role("manager").unwrap();
    assert!(manager.grants.contains(&support::grants(&["order.view at all"])[0]));
    assert!(manager.grants.iter().all(|grant| grant.permission != "order.list_public"));
    assert_eq!(catalog.find_renamed("order.see"), catalog.find("order.view"));
    assert_eq!(catalog.default_role_renamed("seller").unwrap().id.as_str(), "clerk");
}

#[test]
fn a_text_that_is_no_toml_is_refused_with_its_line() {
    let problems = problems("id = \"x\"\nversion = = 1\n");
    assert_eq!(problems[0].line, 2);
    assert!(problems[0].message.starts_with("not valid TOML: "), "{}", problems[0]);
    assert_eq!(Catalog::parse("id = \"a\"\nid = \"b\"\n").unwrap_err().all()[0].line, 2);
    let nothing = Catalog::parse("").unwrap_err().to_string();
    for key in ["id", "version", "title", "owner_role", "administration", "deletion"] {
        assert!(nothing.contains(&format!("the catalog has no {key}")), "{nothing}");
    }
}

#[test]
fn keys_and_types() {
    check("keys_and_types");
}

#[test]
fn names_that_do_not_exist() {
    check("names_that_do_not_exist");
}

#[test]
fn ids() {
    check("ids");
    // What asks for an id that is refused still finds it: one message, not one for each use.
    let found = problems(&SOUND.replace("refund.small", "small"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].message.contains("permission id \"small\" is not well-formed"), "{found:#?}");
}

#[test]
fn permissions() {
    check("permissions");
    // A scope that no scope of what is required covers.
    let source =
        SOUND.replace("scopes = [\"own\", \"mine\", \"all\"]", "scopes = [\"own\", \"all\"]");
    let source = source.replace("\"order.view at mine\"", "\"order.view at own\"");
    assert_eq!(problems(&source), [], "each scope of order.edit is covered");
    let source = SOUND
        .replace("scopes = [\"own\", \"mine\", \"all\"]", "scopes = [\"mine\", \"shared\"]")
        .replace(
            "\"team.close\"]",
            "\"team.close\", \"order.view\", \"order.edit\", \"order.delete\"]",
        );
    let messages: Vec<_> = problems(&source).into_iter().map(|p| p.message).collect();
    for said in [
        "\"order.edit\" at scope \"all\" could never be granted",
        "role \"owner\" has everything, but permission \"order.view\" has no scope with \"any\"",
    ] {
        assert!(messages.iter().any(|m| m.contains(said)), "{said}: {messages:#?}");
    }
    // What could never be completed on a custom role.
    let source = SOUND
        .replace("requires = [\"team.people\"]", "requires = [\"team.close\"]")
        .replace("except = [\"team.close\"]", "except = []");
    let found = problems(&source);
    assert_eq!(found.len(), 1, "{found:#?}");
    let said = "\"team.roles\" requires \"team.close\", which no custom role may hold";
    assert!(found[0].message.contains(said), "{found:#?}");
    // Two scopes that nobody could tell apart.
    let source = SOUND
        .replace("shared = [\"public\"]", "shared = [\"public\"]\nwide = [\"any\", \"team\"]")
        .replace("scopes = [\"own\", \"all\"]", "scopes = [\"own\", \"all\", \"wide\"]");
    let found = problems(&source);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0]
            .message
            .contains("scopes \"wide\" and \"all\" of permission \"order.edit\" reach equally far")
    );
}

#[test]
fn sections() {
    check("sections");
}

#[test]
fn default_roles() {
    check("default_roles");
}

#[test]
fn deletion_and_administration() {
    check("deletion_and_administration");
}

#[test]
fn a_catalog_with_ten_mistakes_is_told_all_ten() {
    let broken = r#"id = "ten"
version = "1"
title = "Ten"
owner_role = "owner"
colour = "red"
[deletion]
policy = "reasign"
[administration]
roles = "a.roles"
members = "a.people"
[scopes]
all = ["everyone"]
[[section]]
id = "a"
[[permission]]
id = "a.roles"
section = "b"
title = "Roles"
requires = ["a.peple"]
[[permission]]
id = "a.people"
section = "a"
title = "People"
[[permission]]
id = "a.people"
section = "a"
title = "People again"
[[role]]
id = "owner"
title = "Owner"
everything = true
[[role]]
id = "helper"
title = "owner"
grants = ["a.people at all"]
"#;
    let told = Catalog::parse(broken).unwrap_err().to_string();
    let expected = [
        "line 2: version of the catalog must be a number, not a string",
        "line 5: unknown key \"colour\" in the catalog",
        "line 7: policy of [deletion] must be reassign or refuse_while_assigned, not \"reasign\"; did you mean \"reassign\"?",
        "line 12: relation \"everyone\" of scope \"all\" does not exist",
        "line 13: section \"a\" has no title",
        "line 17: section \"b\" of permission \"a.roles\" is not declared",
        "line 19: permission \"a.peple\" in requires of \"a.roles\" is not declared; did you mean \"a.people\"?",
        "line 25: permission \"a.people\" is declared twice, first on line 21",
        "line 32: role \"helper\" has the name of role \"owner\": \"owner\"",
        "line 35: role \"helper\": \"a.people\" takes no scope",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn layout_and_comments_do_not_count_in_the_hash_and_content_does() {
    let hash = |source: &str| Catalog::parse(source).unwrap().hash().to_owned();
    let sound = hash(SOUND);
    assert_eq!(sound.len(), 64);
    let same = [
        SOUND.replace("version = 3", "# a comment\nversion   =   0x3 # another"),
        SOUND.replace("id = \"big\"\ntitle = \"Big\"", "title = 'Big'\nid = \"big\""),
        SOUND.replace('\n', "\r\n"),
        SOUND.replace("[limits.custom_roles]\nfree = 1", "[limits]\ncustom_roles = { free = 1 }"),
        SOUND
            .replace("own = [\"creator\"]\n", "")
            .replace("all = [\"any\"]", "all = [\"any\"]\nown = [\"creator\",]"),
    ];
    for source in same {
        assert_eq!(hash(&source), sound, "{source}");
    }
    let other = [
        SOUND.replace("version = 3", "version = 4"),
        SOUND.replace("\"Free\"", "\"free\""),
        SOUND.replace("상점", "가게"),
        SOUND.replace("\"own\", \"mine\"", "\"mine\", \"own\""),
    ];
    for source in other {
        assert_ne!(hash(&source), sound, "{source}");
    }
}

#[test]
fn too_many_of_a_kind_are_refused() {
    let mut source = SOUND.to_owned();
    for number in 0..4096 {
        source += &format!(
            "[[permission]]\nid = \"many.p{number}\"\nsection = \"team\"\ntitle = \"P{number}\"\n"
        );
    }
    let found = problems(&source);
    assert!(found[0].message.contains("more than 4096 permission entries"), "{}", found[0]);
}

#[test]
fn a_long_chain_of_followers_is_refused() {
    let mut source = SOUND.to_owned();
    for number in 0..20 {
        let followed = match number {
            0 => "order.edit".to_owned(),
            _ => format!("chain.p{}", number - 1),
        };
        source += &format!(
            "[[permission]]\nid = \"chain.p{number}\"\nsection = \"team\"\ntitle = \"P\"\n\
             follows = \"{followed}\"\n"
        );
    }
    let found = problems(&source);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].message.contains("\"chain.p8\" follows over more than 8"), "{found:#?}");
}

/// Whatever is cut out, doubled or swapped: it is refused with places that exist, or it is a
/// catalog that keeps its promises.
#[test]
fn a_damaged_catalog_is_refused_or_sound() {
    let lines: Vec<&str> = SOUND.lines().collect();
    let mut damaged = Vec::new();
    for at in 0..lines.len() {
        let (before, after) = lines.split_at(at);
        damaged.push([before, &after[1..]].concat().join("\n"));
        damaged.push([before, &after[..1], after].concat().join("\n"));
        for step in [1, 7, 30] {
            let mut swapped = lines.clone();
            swapped.swap(at, (at + step) % lines.len());
            damaged.push(swapped.join("\n"));
        }
    }
    let (mut refused, mut sound) = (0, 0);
    for source in damaged {
        match Catalog::parse(&source) {
            Err(problems) => {
                refused += 1;
                assert!(!problems.all().is_empty());
                for problem in problems.all() {
                    assert!(problem.line <= source.lines().count() + 1, "{problem}\n{source}");
                }
            }
            Ok(catalog) => {
                sound += 1;
                for role in catalog.default_roles() {
                    assert_eq!(role.compiled.dropped(), [], "{source}");
                }
                let owner = support::with_default_role(&catalog, catalog.owner().as_str());
                for (_, permission) in catalog.permissions() {
                    assert!(support::holds(&catalog, &owner, &permission.id), "{source}");
                }
            }
        }
    }
    assert!(refused > 100 && sound > 10, "{refused} refused, {sound} sound");
}
