//! Relations: the nine of them, what they imply, and which hold.

use super::model::{Member, Relations, Resource};

/// All of them.
pub(crate) const ALL: [&str; 9] = [
    "any",
    "assignee",
    "team",
    "unassigned",
    "team_unassigned",
    "pool",
    "creator",
    "participant",
    "public",
];

/// Whether the first implies the second (each implies itself): "`any` all of them; `unassigned`
/// both `team_unassigned` and `pool`; `team` implies `team_unassigned`".
pub(crate) fn implies(first: &str, second: &str) -> bool {
    match (first, second) {
        _ if first == second => true,
        ("any", _) => true,
        ("unassigned", "team_unassigned" | "pool") => true,
        ("team", "team_unassigned") => true,
        _ => false,
    }
}

/// A set with everything that is implied by what is in it.
pub(crate) fn with_implied(relations: &Relations) -> Relations {
    ALL.into_iter()
        .filter(|relation| relations.iter().any(|have| implies(have, relation)))
        .collect()
}

/// A set without what is implied by something else in it.
pub(crate) fn without_implied(relations: &Relations) -> Relations {
    let implied = |relation: &str| {
        relations.iter().any(|other| *other != relation && implies(other, relation))
    };
    relations.iter().copied().filter(|relation| !implied(relation)).collect()
}

/// How the member stands to the resource, by what was said about it. What was not said does not
/// hold.
pub(crate) fn holding(member: &Member, resource: &Resource) -> Relations {
    let assigned_to_me =
        resource.assignees.as_ref().is_some_and(|assignees| assignees.contains(&member.id));
    let nobody_is_assigned = resource.assignees.as_ref().is_some_and(Vec::is_empty);
    let in_my_team = resource
        .teams
        .as_ref()
        .is_some_and(|teams| teams.iter().any(|team| member.teams.contains(team)));
    let in_no_team = resource.teams.as_ref().is_some_and(Vec::is_empty);

    let mut holding = Relations::from(["any"]);
    if assigned_to_me {
        holding.insert("assignee");
    }
    if in_my_team {
        holding.insert("team");
    }
    if nobody_is_assigned {
        holding.insert("unassigned");
    }
    if nobody_is_assigned && in_my_team {
        holding.insert("team_unassigned");
    }
    if nobody_is_assigned && in_no_team {
        holding.insert("pool");
    }
    if resource.creator.as_ref().is_some_and(|creator| creator.as_ref() == Some(&member.id)) {
        holding.insert("creator");
    }
    if resource.participants.as_ref().is_some_and(|those| those.contains(&member.id)) {
        holding.insert("participant");
    }
    if resource.public == Some(true) {
        holding.insert("public");
    }
    holding
}

/// Every way in which what was not said could turn out, as far as it matters to this member.
pub(crate) fn ways_to_fill_in(member: &Member, resource: &Resource) -> Vec<Resource> {
    let me = || member.id.clone();
    let others = || vec!["somebody else entirely".to_owned()];
    let mut ways = vec![resource.clone()];
    if resource.assignees.is_none() {
        ways = each_with(&ways, &[vec![], vec![me()], others()], |way, value| {
            way.assignees = Some(value);
        });
    }
    if resource.teams.is_none() {
        let mut teams = vec![vec![], others()];
        teams.extend(member.teams.iter().map(|team| vec![team.clone()]));
        ways = each_with(&ways, &teams, |way, value| way.teams = Some(value));
    }
    if resource.creator.is_none() {
        ways = each_with(&ways, &[None, Some(me())], |way, value| way.creator = Some(value));
    }
    if resource.participants.is_none() {
        ways = each_with(&ways, &[vec![], vec![me()]], |way, value| {
            way.participants = Some(value);
        });
    }
    if resource.public.is_none() {
        ways = each_with(&ways, &[false, true], |way, value| way.public = Some(value));
    }
    ways
}

fn each_with<T: Clone>(
    ways: &[Resource],
    values: &[T],
    set: impl Fn(&mut Resource, T),
) -> Vec<Resource> {
    let mut more = Vec::new();
    for way in ways {
        for value in values {
            let mut way = way.clone();
            set(&mut way, value.clone());
            more.push(way);
        }
    }
    more
}
