//! The reference on cases that DESIGN section 3 spells out, small enough to check by eye. If one
//! of these is wrong, everything that is compared with the reference is.

use super::decide::{allow, standing};
use super::model::{
    Catalog, Grant, Member, Permission, Relations, Resource, Role, Section, Who, World,
};

/// `ticket.work` at `group` or `all`; `ticket.delete` follows it; `ticket.reply` requires it, or
/// rather as much of it as it reaches itself.
fn catalog() -> Catalog {
    let permission =
        |id: &str, scopes: &[&str], follows: Option<&str>, requires: &[&str]| Permission {
            id: id.to_owned(),
            section: "ticket".to_owned(),
            scopes: scopes.iter().map(|scope| scope.to_string()).collect(),
            follows: follows.map(str::to_owned),
            requires: requires.iter().map(|id| vec![id.to_string()]).collect(),
            who: Who::Roles,
        };
    Catalog {
        sections: vec![Section { id: "ticket".to_owned(), parent: None }],
        scopes: [
            ("all".to_owned(), Relations::from(["any"])),
            ("group".to_owned(), Relations::from(["assignee", "team"])),
            ("pool".to_owned(), Relations::from(["pool"])),
        ]
        .into(),
        permissions: vec![
            permission("ticket.work", &["all", "group", "pool"], None, &[]),
            permission("ticket.delete", &[], Some("ticket.work"), &[]),
            permission("ticket.reply", &["all", "group"], None, &["ticket.work"]),
            permission("ticket.sign", &[], None, &["ticket.reply"]),
        ],
        default_roles: vec![],
    }
}

/// One member, in team `sales`, with one role per list of grants.
fn world(roles: &[&[&str]]) -> World {
    let grant = |text: &&str| {
        let (permission, scope) = match text.split_once(" at ") {
            Some((permission, scope)) => (permission, Some(scope.to_owned())),
            None => (*text, None),
        };
        Grant { permission: permission.to_owned(), scope }
    };
    let role = |(number, grants): (usize, &&[&str])| Role {
        id: format!("r{number}"),
        custom: true,
        grants: grants.iter().map(grant).collect(),
    };
    let custom_roles: Vec<Role> = roles.iter().enumerate().map(role).collect();
    let member = Member {
        id: "ann".to_owned(),
        active: true,
        roles: custom_roles.iter().map(|role| role.id.clone()).collect(),
        teams: vec!["sales".to_owned()],
    };
    World { catalog: catalog(), custom_roles, members: vec![member] }
}

fn ask(roles: &[&[&str]], permission: &str, resource: Option<&Resource>) -> (bool, &'static str) {
    let world = world(roles);
    allow(&world, "ann", world.catalog.permission(permission).unwrap(), resource)
}

const ALLOWED: (bool, &str) = (true, "GRANTED_BY_ROLE");

fn ids(ids: &[&str]) -> Option<Vec<String>> {
    Some(ids.iter().map(|id| id.to_string()).collect())
}

#[test]
fn a_follower_reaches_as_far_as_its_own_role_lets_it() {
    let elsewhere = Resource { assignees: ids(&["bob"]), teams: ids(&[]), ..Resource::default() };
    let mine = Resource { assignees: ids(&["ann"]), ..Resource::default() };
    let wide_work = ["ticket.work at all"];
    let narrow_delete = ["ticket.work at group", "ticket.delete"];
    let roles: [&[&str]; 2] = [&wide_work, &narrow_delete];
    assert_eq!(ask(&roles, "ticket.work", Some(&elsewhere)), ALLOWED);
    assert_eq!(ask(&roles, "ticket.delete", Some(&elsewhere)), (false, "OUT_OF_SCOPE"));
    assert_eq!(ask(&roles, "ticket.delete", Some(&mine)), ALLOWED);
}

#[test]
fn what_lacks_its_requirement_is_dropped_with_all_that_requires_it() {
    let not_granted = (false, "PERMISSION_NOT_GRANTED");
    let too_narrow: [&[&str]; 1] =
        [&["ticket.work at group", "ticket.reply at all", "ticket.sign"]];
    assert_eq!(ask(&too_narrow, "ticket.work", None), (false, "RESOURCE_REQUIRED"));
    assert_eq!(ask(&too_narrow, "ticket.reply", None), not_granted);
    assert_eq!(ask(&too_narrow, "ticket.sign", None), not_granted);
    let wide: [&[&str]; 1] = [&["ticket.work at all", "ticket.reply at all", "ticket.sign"]];
    assert_eq!(ask(&wide, "ticket.sign", None), ALLOWED);
    // Another role's grant is no help.
    let split: [&[&str]; 2] = [&["ticket.work at all"], &["ticket.reply at all"]];
    assert_eq!(ask(&split, "ticket.reply", None), not_granted);
    // An unscoped one is granted at `any`, so what it requires must be too.
    let unscoped: [&[&str]; 1] =
        [&["ticket.work at group", "ticket.reply at group", "ticket.sign"]];
    assert_eq!(ask(&unscoped, "ticket.reply", None), (false, "RESOURCE_REQUIRED"));
    assert_eq!(ask(&unscoped, "ticket.sign", None), not_granted);
}

#[test]
fn not_said_is_not_empty() {
    let pool: [&[&str]; 1] = [&["ticket.work at pool"]];
    let said = |assignees: Option<Vec<String>>, teams: Option<Vec<String>>| {
        let resource = Resource { assignees, teams, ..Resource::default() };
        ask(&pool, "ticket.work", Some(&resource))
    };
    let out_of_scope = (false, "OUT_OF_SCOPE");
    let say_more = (false, "RESOURCE_ATTRIBUTE_REQUIRED");
    assert_eq!(said(ids(&[]), ids(&[])), ALLOWED);
    assert_eq!(said(ids(&[]), None), say_more);
    assert_eq!(said(None, ids(&[])), say_more);
    assert_eq!(said(None, None), say_more);
    // What was said rules it out, whatever the rest is.
    assert_eq!(said(ids(&["bob"]), None), out_of_scope);
    assert_eq!(said(None, ids(&["sales"])), out_of_scope);
}

#[test]
fn a_member_of_no_team_needs_no_teams_said() {
    let mut world = world(&[&["ticket.work at group"]]);
    let permission = world.catalog.permission("ticket.work").unwrap().clone();
    let unsaid_team = Resource { assignees: ids(&["bob"]), ..Resource::default() };
    let reason = |world: &World| allow(world, "ann", &permission, Some(&unsaid_team));
    assert_eq!(reason(&world), (false, "RESOURCE_ATTRIBUTE_REQUIRED"));
    world.members[0].teams.clear();
    assert_eq!(reason(&world), (false, "OUT_OF_SCOPE"));
    assert_eq!(standing(&world, "ann", &permission).plan(), (vec!["assignee"], None));
}
