//! Query plans: their normal form, and that they never disagree with a check.

use super::super::ids::{MemberId, TeamId};
use super::super::member::MemberStatus;
use super::super::plan::{QueryPlan, Term};
use super::super::relation::{Relation, RelationSet};
use super::super::resource::{Relations, Resource};
use super::{catalog, ix, set, subject};

fn teams(ids: &[&str]) -> Vec<TeamId> {
    ids.iter().map(|id| TeamId::trusted(id)).collect()
}

#[test]
fn normal_form() {
    use Relation::{
        Any, Assignee, Creator, Participant, Pool, Public, Team, TeamUnassigned, Unassigned,
    };
    let mine = || teams(&["t1", "t2"]);
    for (granted, in_teams, plan) in [
        (&[][..], &["t1"][..], QueryPlan::Never),
        (&[Any], &[], QueryPlan::Always),
        (&[Any, Assignee, Pool], &["t1"], QueryPlan::Always),
        (&[Assignee], &[], QueryPlan::AnyOf(vec![Term::Assignee])),
        // No empty team list: nothing left of it is nothing.
        (&[Team], &[], QueryPlan::Never),
        (&[TeamUnassigned], &[], QueryPlan::Never),
        (&[Team, Creator], &[], QueryPlan::AnyOf(vec![Term::Creator])),
        // Sorted, each team once.
        (&[Team], &["t2", "t1", "t2"], QueryPlan::AnyOf(vec![Term::Team(mine())])),
        // Implied terms are dropped.
        (&[Team, TeamUnassigned], &["t1", "t2"], QueryPlan::AnyOf(vec![Term::Team(mine())])),
        (&[Unassigned, TeamUnassigned, Pool], &["t1"], QueryPlan::AnyOf(vec![Term::Unassigned])),
        // A fixed order, whatever the order they come in.
        (
            &[Public, Participant, Creator, Pool, TeamUnassigned, Assignee],
            &["t1", "t2"],
            QueryPlan::AnyOf(vec![
                Term::Assignee,
                Term::TeamUnassigned(mine()),
                Term::Pool,
                Term::Creator,
                Term::Participant,
                Term::Public,
            ]),
        ),
        (
            &[Unassigned, Team],
            &["t1", "t2"],
            QueryPlan::AnyOf(vec![Term::Team(mine()), Term::Unassigned]),
        ),
    ] {
        let declared = set(granted);
        let in_teams = teams(in_teams);
        assert_eq!(QueryPlan::from_grant(declared.closed(), &in_teams), plan, "{granted:?}");
        assert_eq!(QueryPlan::from_grant(declared, &in_teams), plan, "{granted:?}, not closed");
    }
}

/// What the caller's own query does with a plan.
fn selects(plan: &QueryPlan, me: &MemberId, resource: &Resource) -> bool {
    let assignees = resource.assignees.clone().unwrap_or_default();
    let in_teams = resource.teams.clone().unwrap_or_default();
    let in_any = |teams: &[TeamId]| {
        assert!(!teams.is_empty(), "no empty team list");
        in_teams.iter().any(|team| teams.contains(team))
    };
    match plan {
        QueryPlan::Always => true,
        QueryPlan::Never => false,
        QueryPlan::AnyOf(terms) => {
            assert!(!terms.is_empty());
            terms.iter().any(|term| match term {
                Term::Assignee => assignees.contains(me),
                Term::Team(teams) => in_any(teams),
                Term::Unassigned => assignees.is_empty(),
                Term::TeamUnassigned(teams) => assignees.is_empty() && in_any(teams),
                Term::Pool => assignees.is_empty() && in_teams.is_empty(),
                Term::Creator => resource.creator == Some(Some(me.clone())),
                Term::Participant => {
                    resource.participants.as_ref().is_some_and(|ids| ids.contains(me))
                }
                Term::Public => resource.public == Some(true),
            })
        }
    }
}

/// A list can never disagree with a check: every grant, every kind of resource, with teams and
/// without.
#[test]
fn a_plan_selects_exactly_what_a_check_allows() {
    let me = MemberId::trusted("me");
    let people = [vec![], vec![MemberId::trusted("me")], vec![MemberId::trusted("other")]];
    let mut resources = Vec::new();
    for assignees in &people {
        for team in [&[][..], &["t1"], &["t9"], &["t1", "t9"]] {
            for participants in &people[1..] {
                for (creator, public) in
                    [(None, false), (Some("me"), true), (Some("other"), true), (Some("me"), false)]
                {
                    resources.push(Resource {
                        id: String::new(),
                        assignees: Some(assignees.clone()),
                        teams: Some(teams(team)),
                        creator: Some(creator.map(MemberId::trusted)),
                        participants: Some(participants.clone()),
                        public: Some(public),
                    });
                }
            }
        }
    }
    for bits in 0..(1_u32 << Relation::ALL.len()) {
        let chosen = Relation::ALL.into_iter().enumerate();
        let granted: RelationSet = chosen
            .filter(|(bit, _)| bits & (1 << bit) != 0)
            .map(|(_, relation)| relation)
            .collect();
        let granted = granted.closed();
        for my_teams in [teams(&[]), teams(&["t1", "t2"])] {
            let plan = QueryPlan::from_grant(granted, &my_teams);
            for resource in &resources {
                let relations = Relations::between(&me, &my_teams, resource);
                let allowed = granted.intersects(relations.holding);
                assert_eq!(selects(&plan, &me, resource), allowed, "{granted:?} {resource:?}");
            }
        }
    }
}

#[test]
fn a_members_plan_is_of_what_it_is_granted() {
    let catalog = catalog();
    let mut me = subject(&catalog, &[&["doc.open", "doc.view at desk"]]);
    let plan = |me: &_, permission| QueryPlan::of(me, &catalog, ix(&catalog, permission));
    let desk = QueryPlan::AnyOf(vec![Term::Assignee, Term::Team(teams(&["mine"])), Term::Pool]);
    assert_eq!(plan(&me, "doc.view"), desk);
    assert_eq!(plan(&me, "doc.open"), QueryPlan::Always);
    assert_eq!(plan(&me, "doc.edit"), QueryPlan::Never);
    assert_eq!(plan(&me, "doc.read_shared"), QueryPlan::AnyOf(vec![Term::Public]));
    me.status = MemberStatus::Archived;
    assert_eq!(plan(&me, "doc.open"), QueryPlan::Never);
}
