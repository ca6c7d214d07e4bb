//! Query plans: what a caller puts into its own query instead of asking about each resource.

use super::catalog::{Catalog, PermissionIx};
use super::ids::TeamId;
use super::member::Subject;
use super::relation::{Relation, RelationSet};

/// One condition of a plan. `me` is the member that the plan is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// `assignee = me`
    Assignee,
    /// `team in (...)`
    Team(Vec<TeamId>),
    /// Nobody is assigned.
    Unassigned,
    /// Nobody is assigned and `team in (...)`.
    TeamUnassigned(Vec<TeamId>),
    /// Nobody is assigned and it is in no team.
    Pool,
    /// `creator = me`
    Creator,
    /// `me in participants`
    Participant,
    /// Shared with everyone in the tenant.
    Public,
}

/// Which resources a member may act on, in normal form: implied terms dropped, in the order of
/// [`Relation::ALL`], no empty team list (DESIGN section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryPlan {
    /// Every resource of the tenant.
    Always,
    /// None.
    Never,
    /// Those that meet at least one condition; never an empty list.
    AnyOf(Vec<Term>),
}

impl QueryPlan {
    /// The plan of a member for a permission.
    #[must_use]
    pub fn of(subject: &Subject, catalog: &Catalog, permission: PermissionIx) -> Self {
        Self::from_grant(subject.granted(catalog, permission), &subject.teams)
    }

    /// The plan of whoever is granted these relations and is in these teams.
    #[must_use]
    pub fn from_grant(granted: RelationSet, teams: &[TeamId]) -> Self {
        if granted.contains(Relation::Any) {
            return QueryPlan::Always;
        }
        let mut teams = teams.to_vec();
        teams.sort();
        teams.dedup();
        let with_teams =
            |term: fn(Vec<TeamId>) -> Term| (!teams.is_empty()).then(|| term(teams.clone()));
        let terms: Vec<Term> = granted
            .reduced()
            .iter()
            .filter_map(|relation| match relation {
                Relation::Any => None,
                Relation::Assignee => Some(Term::Assignee),
                Relation::Team => with_teams(Term::Team),
                Relation::Unassigned => Some(Term::Unassigned),
                Relation::TeamUnassigned => with_teams(Term::TeamUnassigned),
                Relation::Pool => Some(Term::Pool),
                Relation::Creator => Some(Term::Creator),
                Relation::Participant => Some(Term::Participant),
                Relation::Public => Some(Term::Public),
            })
            .collect();
        if terms.is_empty() { QueryPlan::Never } else { QueryPlan::AnyOf(terms) }
    }
}
