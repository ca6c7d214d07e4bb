//! Answers about decisions, as messages.

use super::{pb, show};
use crate::domain::catalog::Catalog;
use crate::domain::ids::TeamId;
use crate::domain::member::MemberStatus;
use crate::domain::plan::{QueryPlan, Term};
use crate::domain::relation::{Relation, RelationSet};
use crate::service::decide::{Answer, Effective, Filtered, Planned};
use crate::service::explain::{ExplainedRole, Explanation, open};

pub(super) fn filtered(answer: Answer<Filtered>) -> pb::FilterResourcesResponse {
    let Answer { value, catalog: _, token, stale_since } = answer;
    let Filtered { allowed, incomplete, missing, denied } = value;
    pb::FilterResourcesResponse {
        allowed_ids: allowed,
        incomplete_ids: incomplete,
        missing_attributes: show::attributes(&missing),
        denied_reason: show::denied(denied),
        consistency_token: token.unwrap_or_default(),
        stale_since: stale_since.map(show::time),
    }
}

pub(super) fn planned(answer: Answer<Planned>) -> pb::PlanFilterResponse {
    let Answer { value: Planned { plan, denied }, catalog: _, token, stale_since } = answer;
    let (kind, terms) = match plan {
        QueryPlan::Always => (pb::PlanKind::Always, Vec::new()),
        QueryPlan::Never => (pb::PlanKind::Never, Vec::new()),
        QueryPlan::AnyOf(terms) => (pb::PlanKind::AnyOf, terms.into_iter().map(term).collect()),
    };
    pb::PlanFilterResponse {
        kind: kind.into(),
        terms,
        denied_reason: show::denied(denied),
        consistency_token: token.unwrap_or_default(),
        stale_since: stale_since.map(show::time),
    }
}

fn term(term: Term) -> pb::PlanTerm {
    let (relation, teams): (_, &[TeamId]) = match &term {
        Term::Assignee => (Relation::Assignee, &[]),
        Term::Team(teams) => (Relation::Team, teams),
        Term::Unassigned => (Relation::Unassigned, &[]),
        Term::TeamUnassigned(teams) => (Relation::TeamUnassigned, teams),
        Term::Pool => (Relation::Pool, &[]),
        Term::Creator => (Relation::Creator, &[]),
        Term::Participant => (Relation::Participant, &[]),
        Term::Public => (Relation::Public, &[]),
    };
    pb::PlanTerm { relation: show::relation(relation).into(), team_ids: show::team_ids(teams) }
}

pub(super) fn effective(answer: Answer<Effective>) -> pb::ListEffectivePermissionsResponse {
    let Answer { value, catalog, token, stale_since } = answer;
    let Effective { permissions, sections, roles, denied } = value;
    let catalog = catalog.as_deref();
    let permission = |catalog: &Catalog, permission, reach: RelationSet| {
        let scope = catalog.scope_with_reach(permission, reach);
        pb::EffectivePermission {
            permission: catalog.permission(permission).id.clone(),
            scope: scope.map(|scope| scope.id.clone()).unwrap_or_default(),
            relations: show::reduced(reach),
        }
    };
    pb::ListEffectivePermissionsResponse {
        permissions: permissions
            .into_iter()
            .filter_map(|(ix, reach)| catalog.map(|catalog| permission(catalog, ix, reach)))
            .collect(),
        visible_section_ids: sections
            .into_iter()
            .filter_map(|section| catalog.map(|catalog| catalog.section(section).id.clone()))
            .collect(),
        role_ids: show::role_ids(&roles),
        denied_reason: show::denied(denied),
        catalog: catalog.map(|catalog| show::catalog(catalog.reference())),
        consistency_token: token.unwrap_or_default(),
        stale_since: stale_since.map(show::time),
    }
}

pub(super) fn explained(answer: Answer<Explanation>) -> pb::ExplainResponse {
    let Answer { value, catalog, token, stale_since: _ } = answer;
    let catalog = catalog.as_deref();
    let Explanation {
        decision,
        member,
        roles,
        base,
        granted,
        relations,
        has_resource: _,
        follows,
        steps,
    } = value;
    let (status, teams) = member.unzip();
    let status = match status {
        None => "",
        Some(MemberStatus::Active) => "active",
        Some(MemberStatus::Archived) => "archived",
    };
    let follows = catalog.zip(follows).map(|(catalog, ix)| catalog.permission(ix).id.clone());
    pb::ExplainResponse {
        decision: Some(show::decision(catalog, decision)),
        catalog: catalog.map(|catalog| show::catalog(catalog.reference())),
        member_status: status.to_owned(),
        team_ids: show::team_ids(&teams.unwrap_or_default()),
        roles: roles.into_iter().map(|role| explained_role(catalog, role)).collect(),
        base_relations: show::relations(base),
        granted_relations: show::relations(granted),
        holding_relations: relations.map(|r| show::relations(r.holding)).unwrap_or_default(),
        open_relations: relations.map(|r| show::relations(open(r))).unwrap_or_default(),
        follows: follows.unwrap_or_default(),
        steps,
        consistency_token: token.unwrap_or_default(),
    }
}

fn explained_role(catalog: Option<&Catalog>, role: ExplainedRole) -> pb::ExplainedRole {
    let ExplainedRole { role, name, relations, scope, inactive } = role;
    let scope = catalog.zip(scope).map(|(catalog, scope)| catalog.scope(scope).id.clone());
    pb::ExplainedRole {
        role_id: role.to_string(),
        name,
        granted: !relations.is_empty(),
        scope: scope.unwrap_or_default(),
        relations: show::relations(relations),
        inactive_reason: inactive.map(|reason| reason.describe()).unwrap_or_default(),
    }
}
