//! Explaining a decision: every step, read from the database, past every cache.

use super::decide::{Answer, Question, known};
use super::error::ServiceError;
use super::roles::Roles;
use crate::domain::catalog::{Catalog, PermissionIx, ScopeIx};
use crate::domain::decision::{Decision, DecisionReason};
use crate::domain::ids::{RoleId, TeamId, TenantId};
use crate::domain::member::{MemberStatus, Subject};
use crate::domain::relation::{Relation, RelationSet};
use crate::domain::resource::Relations;
use crate::domain::role::DropReason;
use crate::store::{DecisionSource, Freshness};

/// What one role has to do with a question.
#[derive(Debug, Clone)]
pub struct ExplainedRole {
    /// The role.
    pub role: RoleId,
    /// Its name.
    pub name: String,
    /// What it gives of the permission; empty: nothing.
    pub relations: RelationSet,
    /// The scope it was granted at.
    pub scope: Option<ScopeIx>,
    /// Why a grant that stands in the role gives nothing.
    pub inactive: Option<DropReason>,
}

/// A decision with all that led to it.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The very decision of a check.
    pub decision: Decision,
    /// The member's status and teams, if there is such a member.
    pub member: Option<(MemberStatus, Vec<TeamId>)>,
    /// The member's roles.
    pub roles: Vec<ExplainedRole>,
    /// What every active member has of the permission.
    pub base: RelationSet,
    /// What the member has of it.
    pub granted: RelationSet,
    /// How the member stands to the resource, as far as that was said; without one, only `any` holds.
    /// None for a member that does not exist.
    pub relations: Option<Relations>,
    /// Whether the request named a resource.
    pub has_resource: bool,
    /// The permission whose scope decides the reach, when it is another one.
    pub follows: Option<PermissionIx>,
    /// The steps, for a person.
    pub steps: Vec<String>,
}

impl Roles {
    /// Explains one decision.
    ///
    /// # Errors
    /// An unknown permission is refused; a failing store is no answer.
    pub async fn explain(
        &self,
        tenant: &TenantId,
        question: &Question,
    ) -> Result<Answer<Explanation>, ServiceError> {
        let members = std::slice::from_ref(&question.member);
        let view = self.store.view(tenant, members, Freshness::FullyConsistent).await?;
        let Some(view) = view else {
            let value = Explanation::nothing(DecisionReason::TenantNotFound);
            return Ok(Answer { value, catalog: None, token: None, stale_since: None });
        };
        let permission = known(&view.catalog, &question.permission)?;
        let value = match view.members.get(&question.member) {
            None => Explanation::nothing(DecisionReason::MemberNotFound),
            Some(subject) => {
                let ids: Vec<RoleId> = subject.roles.iter().map(|(id, _)| id.clone()).collect();
                let custom = self.store.read().await?.roles_by_ids(tenant, &ids).await?;
                let name = |id: &RoleId| match view.catalog.default_role(id.as_str()) {
                    Some(role) => role.title.get("").to_owned(),
                    None => custom
                        .iter()
                        .find(|role| role.id == *id)
                        .map(|role| role.name.to_string())
                        .unwrap_or_default(),
                };
                explain(subject, &view.catalog, permission, question, name)
            }
        };
        let token = Some(self.tokens.issue(tenant, view.state.epoch(), view.state.revision()));
        Ok(Answer { value, catalog: Some(view.catalog), token, stale_since: None })
    }
}

impl Explanation {
    fn nothing(reason: DecisionReason) -> Self {
        let step = match reason {
            DecisionReason::TenantNotFound => "There is no such tenant: denied.",
            _ => "There is no such member in the tenant: denied.",
        };
        Explanation {
            decision: Decision::denied(reason),
            member: None,
            roles: Vec::new(),
            base: RelationSet::EMPTY,
            granted: RelationSet::EMPTY,
            relations: None,
            has_resource: false,
            follows: None,
            steps: vec![step.to_owned()],
        }
    }
}

fn explain(
    subject: &Subject,
    catalog: &Catalog,
    permission: PermissionIx,
    question: &Question,
    name: impl Fn(&RoleId) -> String,
) -> Explanation {
    let id = &catalog.permission(permission).id;
    let roles = subject.roles.iter().map(|(role, compiled)| {
        let reach = compiled.reach(permission);
        let dropped = compiled.dropped().iter().find(|dropped| dropped.grant.permission == *id);
        ExplainedRole {
            role: role.clone(),
            name: name(role),
            relations: reach.relations,
            scope: reach.scope,
            inactive: dropped.map(|dropped| dropped.reason.clone()),
        }
    });
    let leader = catalog.leader(permission);
    let resource = question.resource.as_ref();
    let mut explanation = Explanation {
        decision: subject.decide(catalog, permission, resource),
        member: Some((subject.status, subject.teams.to_vec())),
        roles: roles.collect(),
        base: catalog.base(permission),
        granted: subject.granted(catalog, permission),
        relations: Some(match resource {
            Some(resource) => Relations::between(&subject.id, &subject.teams, resource),
            None => Relations::without_resource(),
        }),
        has_resource: resource.is_some(),
        follows: (leader != permission).then_some(leader),
        steps: Vec::new(),
    };
    explanation.steps = steps(&explanation, catalog, permission);
    explanation
}

fn steps(explanation: &Explanation, catalog: &Catalog, permission: PermissionIx) -> Vec<String> {
    let id = &catalog.permission(permission).id;
    let mut steps = Vec::new();
    match &explanation.member {
        Some((MemberStatus::Archived, _)) => {
            steps.push("The member is archived, so it may do nothing: denied.".to_owned());
            return steps;
        }
        Some((_, teams)) => steps.push(format!(
            "The member is active, in {} and holds {}.",
            counted(teams.len(), "team"),
            counted(explanation.roles.len(), "role"),
        )),
        None => {}
    }
    if let Some(leader) = explanation.follows {
        let leader = &catalog.permission(leader).id;
        steps.push(format!("{id} reaches as far as {leader} does in the same role."));
    }
    if !explanation.base.is_empty() {
        steps.push(format!("Every active member has {id} for {}.", relations(explanation.base)));
    }
    for role in &explanation.roles {
        let has = match (&role.inactive, role.relations.is_empty()) {
            (Some(reason), _) => format!(
                "has {id}, but it gives nothing under {}: {}",
                catalog.reference(),
                reason.describe()
            ),
            (None, true) => format!("does not have {id}"),
            (None, false) => match role.scope {
                Some(scope) => format!(
                    "has {id} at {} ({})",
                    catalog.scope(scope).id,
                    relations(role.relations)
                ),
                None => format!("has {id}"),
            },
        };
        steps.push(format!("The role \"{}\" {has}.", role.name));
    }
    match explanation.relations {
        Some(_) if !explanation.has_resource => steps.push(
            "The request names no resource, so of all relations only any holds.".to_owned(),
        ),
        Some(found) => steps.push(format!(
            "Between the member and the resource holds {}; {} could hold, had the request said more.",
            relations(found.holding),
            relations(open(found)),
        )),
        None => {}
    }
    steps.push(verdict(&explanation.decision));
    steps
}

/// What could hold beyond what does.
#[must_use]
pub fn open(relations: Relations) -> RelationSet {
    relations.possible.iter().filter(|relation| !relations.holding.contains(*relation)).collect()
}

fn verdict(decision: &Decision) -> String {
    match decision.reason {
        DecisionReason::GrantedByRole | DecisionReason::GrantedToEveryone => {
            "What is granted and what holds have a relation in common: allowed.".to_owned()
        }
        DecisionReason::PermissionNotGranted => "Nothing is granted: denied.".to_owned(),
        DecisionReason::ResourceRequired => {
            "It is granted for some resources only: denied; name the resource.".to_owned()
        }
        DecisionReason::ResourceAttributeRequired => {
            let missing: Vec<_> = decision.missing.iter().map(|missing| missing.name()).collect();
            format!("What was said does not suffice: denied; say {}.", missing.join(", "))
        }
        DecisionReason::OutOfScope
        | DecisionReason::TenantNotFound
        | DecisionReason::MemberNotFound
        | DecisionReason::MemberArchived => {
            "What is granted and what holds have no relation in common: denied.".to_owned()
        }
    }
}

fn relations(set: RelationSet) -> String {
    let names: Vec<_> = set.iter().map(Relation::name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn counted(count: usize, thing: &str) -> String {
    match count {
        0 => format!("no {thing}"),
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::catalog::shipped;
    use crate::domain::ids::MemberId;
    use crate::domain::role::{CompiledRole, RoleKind};

    #[test]
    fn without_a_resource_any_alone_holds() {
        let catalog = shipped()
            .iter()
            .map(|source| Catalog::parse(source).unwrap())
            .find(|catalog| catalog.reference().id == "qpien")
            .unwrap();
        let owner = catalog.owner().clone();
        let grants = &catalog.default_role(owner.as_str()).unwrap().grants;
        let subject = Subject {
            id: MemberId::trusted("olivia"),
            status: MemberStatus::Active,
            teams: Arc::from([]),
            roles: vec![(
                owner,
                Arc::new(CompiledRole::compile(&catalog, RoleKind::Default, grants)),
            )],
        };
        let question = Question {
            member: subject.id.clone(),
            permission: "conversation.view".into(),
            resource: None,
        };
        let permission = catalog.find("conversation.view").unwrap();
        let explained = explain(&subject, &catalog, permission, &question, |role| role.to_string());
        assert!(explained.decision.is_allowed());
        let any = RelationSet::EMPTY.with(Relation::Any);
        assert_eq!(explained.relations.unwrap().holding, any);
        let steps = explained.steps.join(" ");
        assert!(steps.contains("names no resource"), "{steps}");
    }
}
