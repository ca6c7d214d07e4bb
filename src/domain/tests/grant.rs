//! What may be written into a custom role.

use super::super::grant::{Choice, GrantProblem, check_grants};
use super::{catalog, grants, shown};

fn accepted(written: &[&str], expand: bool) -> Vec<String> {
    match check_grants(&catalog(), &grants(written), expand) {
        Ok(grants) => shown(&grants),
        Err(problems) => panic!("{written:?}: {problems:#?}"),
    }
}

fn refused(written: &[&str], expand: bool) -> Vec<GrantProblem> {
    match check_grants(&catalog(), &grants(written), expand) {
        Ok(grants) => panic!("{written:?} became {:?}", shown(&grants)),
        Err(problems) => problems,
    }
}

/// `doc.edit needs doc.view at own or all`, for each unmet requirement.
fn needs(written: &[&str], expand: bool) -> Vec<String> {
    let problems = refused(written, expand);
    // Expanding leaves exactly what is not called expandable.
    let expandable = |problem: &GrantProblem| {
        matches!(problem, GrantProblem::RequirementMissing { expandable: true, .. })
    };
    let left: Vec<_> = problems.iter().filter(|problem| !expandable(problem)).cloned().collect();
    let expanded = check_grants(&catalog(), &grants(written), true);
    assert_eq!(expanded.err().unwrap_or_default(), left, "{written:?}");
    let shown = problems.iter().map(|problem| match problem {
        GrantProblem::RequirementMissing { index, permission, choices, expandable: _ } => {
            let choices: Vec<_> = choices.iter().map(Choice::to_string).collect();
            let place = index.map_or("-".to_owned(), |index| index.to_string());
            format!("{place}: {permission} needs {}", choices.join(" | "))
        }
        other => panic!("{other:?}"),
    });
    shown.collect()
}

#[test]
fn what_is_accepted_comes_back_in_the_catalogs_order() {
    for (written, stored) in [
        (&[][..], &[][..]),
        (&["admin.roles", "doc.open"], &["doc.open", "admin.roles"]),
        (
            &["archive.purge", "doc.delete", "doc.edit at own", "doc.view at group", "doc.open"],
            &["doc.open", "doc.view at group", "doc.edit at own", "doc.delete", "archive.purge"],
        ),
    ] {
        assert_eq!(accepted(written, false), stored);
        assert_eq!(accepted(written, true), stored, "nothing to add");
    }
}

#[test]
fn every_grant_that_is_wrong_by_itself_is_told_at_once() {
    let permission = |id: &str| id.to_owned();
    let written = [
        "doc.opn",
        "doc.view at nowhere",
        "doc.edit",
        "doc.delete at own",
        "doc.open at all",
        "admin.roles",
        "admin.roles",
        "admin.close",
        "doc.read_shared",
        "admin.profile",
        "archive.export",
    ];
    let allowed: Vec<String> = ["own", "group", "desk", "mine", "all"].map(str::to_owned).into();
    let expected = [
        GrantProblem::UnknownPermission { index: 0, permission: permission("doc.opn") },
        GrantProblem::UnknownScope {
            index: 1,
            permission: permission("doc.view"),
            scope: "nowhere".to_owned(),
            allowed: allowed.clone(),
        },
        GrantProblem::ScopeRequired { index: 2, permission: permission("doc.edit"), allowed },
        GrantProblem::ScopeNotAllowed {
            index: 3,
            permission: permission("doc.delete"),
            follows: Some(permission("doc.edit")),
        },
        GrantProblem::ScopeNotAllowed {
            index: 4,
            permission: permission("doc.open"),
            follows: None,
        },
        GrantProblem::Duplicate { index: 6, permission: permission("admin.roles") },
        GrantProblem::NeverGrantable { index: 7, permission: permission("admin.close") },
        GrantProblem::HeldByEveryone { index: 8, permission: permission("doc.read_shared") },
        GrantProblem::HeldByEveryone { index: 9, permission: permission("admin.profile") },
    ];
    assert_eq!(refused(&written, false), expected);
    assert_eq!(refused(&written, true), expected, "no expansion makes them right");
}

#[test]
fn a_scope_that_other_permissions_have_is_still_unknown_here() {
    assert!(matches!(
        refused(&["doc.queue at own"], false).as_slice(),
        [GrantProblem::UnknownScope { index: 0, .. }]
    ));
    assert!(matches!(
        refused(&["doc.open", "doc.open at all"], false).as_slice(),
        [GrantProblem::Duplicate { index: 1, .. }]
    ));
}

#[test]
fn missing_requirements_are_listed_transitively_and_completed_when_asked() {
    // Only what was written has a place in the list.
    assert_eq!(
        needs(&["archive.purge"], false),
        [
            "0: archive.purge needs doc.delete at own or group or desk or mine or all",
            "-: doc.view needs doc.open",
            "-: doc.edit needs doc.view at own or group or desk or mine or all",
            "-: doc.delete needs doc.edit at own or group or desk or mine or all",
        ],
        "what it follows, along the chain, and what that requires"
    );
    assert_eq!(
        needs(&["doc.edit at group"], false),
        ["0: doc.edit needs doc.view at group or desk or all", "-: doc.view needs doc.open"]
    );
    assert_eq!(
        accepted(&["doc.edit at group"], true),
        ["doc.open", "doc.view at group", "doc.edit at group"]
    );
    assert_eq!(
        needs(&["doc.delete", "doc.edit at own"], false),
        [
            "1: doc.edit needs doc.view at own or group or desk or mine or all",
            "-: doc.view needs doc.open",
        ]
    );
}

#[test]
fn expansion_takes_the_scope_that_reaches_just_as_far() {
    for (written, completed) in [
        (&["doc.edit at own"][..], "doc.view at own"),
        (&["doc.edit at mine"], "doc.view at mine"),
        (&["doc.edit at all"], "doc.view at all"),
        // What is there already is widened, never narrowed.
        (&["doc.edit at desk", "doc.view at own"], "doc.view at desk"),
        (&["doc.edit at own", "doc.view at desk"], "doc.view at desk"),
    ] {
        let grants = accepted(written, true);
        assert!(grants.iter().any(|grant| grant == completed), "{written:?}: {grants:?}");
    }
    // Only `all` reaches as far as both, and further: somebody has to choose.
    let expected = ["1: doc.edit needs doc.view at desk or all"];
    assert_eq!(needs(&["doc.open", "doc.edit at desk", "doc.view at mine"], true), expected);
}

#[test]
fn a_scope_that_is_too_narrow_is_a_missing_requirement() {
    assert_eq!(
        needs(&["doc.open", "doc.view at own", "doc.edit at desk"], false),
        ["2: doc.edit needs doc.view at desk or all"]
    );
    assert_eq!(
        needs(&["doc.open", "doc.view at desk", "doc.edit at mine"], false),
        ["2: doc.edit needs doc.view at mine or all"]
    );
    assert_eq!(accepted(&["doc.open", "doc.view at desk", "doc.edit at own"], false).len(), 3);
}

#[test]
fn what_could_be_completed_in_two_ways_is_not() {
    // As far as `own` reach both `group` and `mine`, and neither is narrower.
    let expected = ["0: doc.paint needs doc.label at group or mine or all"];
    assert_eq!(needs(&["doc.paint at own"], true), expected);
    assert_eq!(needs(&["doc.paint at own"], false), expected);
    assert_eq!(accepted(&["doc.paint at all"], true), ["doc.label at all", "doc.paint at all"]);
}

#[test]
fn an_any_of_requirement_is_never_completed_by_itself() {
    let expected = ["0: archive.export needs archive.list | archive.search"];
    assert_eq!(needs(&["archive.export"], false), expected);
    assert_eq!(needs(&["archive.export"], true), expected);
    for choice in ["archive.list", "archive.search"] {
        assert_eq!(accepted(&["archive.export", choice], false).len(), 2);
    }
    // Also when the any-of is only met on the way.
    assert_eq!(
        needs(&["archive.schedule"], true),
        ["-: archive.export needs archive.list | archive.search"]
    );
    assert_eq!(
        needs(&["archive.schedule"], false),
        [
            "0: archive.schedule needs archive.export",
            "0: archive.schedule needs admin.roles",
            "-: archive.export needs archive.list | archive.search",
        ]
    );
    assert_eq!(
        accepted(&["archive.schedule", "archive.list"], true),
        ["archive.list", "archive.export", "archive.schedule", "admin.roles"]
    );
}

#[test]
fn a_follower_requires_what_it_follows_and_takes_its_reach() {
    assert_eq!(
        needs(&["doc.open", "doc.view at desk", "doc.delete"], false),
        ["2: doc.delete needs doc.edit at own or group or desk or mine or all"]
    );
    // How far is not said, so it is the least.
    assert_eq!(
        accepted(&["doc.open", "doc.view at desk", "doc.delete"], true),
        ["doc.open", "doc.view at desk", "doc.edit at own", "doc.delete"]
    );
    assert_eq!(
        accepted(&["archive.purge", "doc.edit at mine"], true),
        ["doc.open", "doc.view at mine", "doc.edit at mine", "doc.delete", "archive.purge"]
    );
}

/// What was completed narrowly in one round can turn out too narrow in a later one, and then not be
/// widened in one way only: that is a refusal, not a role with a hole in it.
#[test]
fn what_expansion_cannot_finish_is_refused() {
    let catalog = super::Catalog::parse(
        r#"
            id = "t"
            version = 1
            title = "T"
            owner_role = "o"
            [deletion]
            policy = "reassign"
            [administration]
            roles = "z.admin"
            members = "z.admin"
            [scopes]
            own = ["assignee"]
            mine = ["assignee", "creator"]
            wide = ["assignee", "creator", "participant"]
            broad = ["assignee", "creator", "public"]
            all = ["any"]
            [[section]]
            id = "s"
            title = "S"
            # b.view has a.base completed at `own` before c.edit asks for more of b.view.
            [[permission]]
            id = "a.base"
            section = "s"
            title = "Base"
            scopes = ["own", "wide", "broad", "all"]
            [[permission]]
            id = "b.view"
            section = "s"
            title = "View"
            scopes = ["own", "mine", "all"]
            requires = ["a.base"]
            [[permission]]
            id = "c.edit"
            section = "s"
            title = "Edit"
            scopes = ["mine", "all"]
            requires = ["b.view"]
            [[permission]]
            id = "z.admin"
            section = "s"
            title = "Admin"
            [[role]]
            id = "o"
            title = "O"
            everything = true
        "#,
    );
    let catalog = catalog.unwrap_or_else(|problems| panic!("{problems}"));
    let problems = check_grants(&catalog, &grants(&["b.view at own", "c.edit at mine"]), true);
    let choice = Choice {
        permission: "a.base".to_owned(),
        scopes: ["wide", "broad", "all"].map(str::to_owned).into(),
    };
    let expected = GrantProblem::RequirementMissing {
        index: Some(0),
        permission: "b.view".to_owned(),
        choices: vec![choice],
        expandable: false,
    };
    assert_eq!(problems, Err(vec![expected]));
    let chosen = grants(&["b.view at own", "c.edit at mine", "a.base at wide"]);
    assert!(check_grants(&catalog, &chosen, true).is_ok());
}

/// Completing gives what is required and nothing beyond: where no declared scope is just that,
/// somebody has to choose.
#[test]
fn expansion_never_widens_beyond_what_is_required() {
    let qpien = crate::domain::catalog::shipped()
        .iter()
        .map(|source| super::Catalog::parse(source).unwrap())
        .find(|catalog| catalog.reference().id == "qpien")
        .unwrap();
    let expanded = |written: &[&str]| check_grants(&qpien, &grants(written), true);
    let written =
        ["chat.view", "conversation.view at participating", "conversation.reply at team_only"];
    let problems = expanded(&written).unwrap_err();
    let [GrantProblem::RequirementMissing { permission, choices, expandable, .. }] =
        problems.as_slice()
    else {
        panic!("{problems:?}")
    };
    assert_eq!((permission.as_str(), expandable), ("conversation.reply", &false));
    assert_eq!(choices[0].permission, "conversation.view");
    assert!(choices[0].scopes.contains(&"team_only".to_owned()), "{choices:?}");

    let completed = expanded(&["conversation.reply at team_only"]).unwrap();
    assert_eq!(
        shown(&completed),
        ["chat.view", "conversation.view at team_only", "conversation.reply at team_only"]
    );
}
