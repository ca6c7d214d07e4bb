//! Other engines with the same roles, members and questions, in process.

use std::str::FromStr as _;

use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use rolegate::grpc::pb;
use serde::Serialize;

use rolegate_bench::Failure;
use rolegate_bench::workload::{self, Role};

const ROLES: [(Role, &str); 3] =
    [(Role::Agent, "agent"), (Role::Lead, "lead"), (Role::Custom, "custom")];

/// The name of the role that a member holds.
fn role_of(member: usize) -> &'static str {
    ROLES.iter().find(|(role, _)| *role == Role::of(member)).map_or("", |(_, name)| *name)
}

/// A policy line for each grant; roles and teams are role definitions.
const MODEL: &str = r#"
[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, act, scope

[role_definition]
g = _, _
g2 = _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.act == p.act && g(r.sub, p.sub) && (p.scope == "all" || r.obj.assignee == r.sub || (p.scope == "team" && g2(r.sub, r.obj.team)))
"#;

#[derive(Debug, Clone, Hash, Serialize)]
struct Object {
    assignee: String,
    team: String,
}

pub(crate) struct Casbin {
    enforcer: Enforcer,
    questions: Vec<(String, Object, String)>,
}

impl Casbin {
    pub(crate) async fn new(members: usize, items: &[pb::CheckItem]) -> Result<Self, Failure> {
        let model = DefaultModel::from_str(MODEL).await?;
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
        let mut grants = Vec::new();
        for (role, name) in ROLES {
            let line = |(permission, scope): (String, Option<&str>)| {
                vec![name.to_owned(), permission, scope.unwrap_or("all").to_owned()]
            };
            grants.extend(role.grants().map(line));
        }
        enforcer.add_policies(grants).await?;
        let (mut roles, mut teams) = (Vec::new(), Vec::new());
        for member in 0..members {
            let id = workload::member(0, member);
            roles.push(vec![id.clone(), role_of(member).to_owned()]);
            teams.extend(workload::teams(0, member).into_iter().map(|team| vec![id.clone(), team]));
        }
        enforcer.add_named_grouping_policies("g", roles).await?;
        enforcer.add_named_grouping_policies("g2", teams).await?;
        let question = |item: &pb::CheckItem| {
            let (assignee, team) = said(item);
            (item.member_id.clone(), Object { assignee, team }, item.permission.clone())
        };
        Ok(Casbin { enforcer, questions: items.iter().map(question).collect() })
    }

    pub(crate) fn decide(&self, question: usize) -> Result<bool, Failure> {
        let (member, object, permission) = &self.questions[question];
        Ok(self.enforcer.enforce((member.as_str(), object.clone(), permission.as_str()))?)
    }
}

/// A policy for each role and scope, with the actions that it holds there: as few as there can be.
pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    questions: Vec<(Request, Entities)>,
}

impl Cedar {
    pub(crate) fn new(items: &[pb::CheckItem], numbers: &[usize]) -> Result<Self, Failure> {
        let mut text = String::new();
        for (role, name) in ROLES {
            for (scope, reach) in [
                ("mine", "when { resource.assignee == principal }"),
                ("team", "when { resource.assignee == principal || principal in resource.team }"),
                ("all", ""),
            ] {
                let held = role.grants().filter(|(_, at)| at.unwrap_or("all") == scope);
                let actions: Vec<_> = held.map(|(id, _)| format!("Action::\"{id}\"")).collect();
                if !actions.is_empty() {
                    let actions = actions.join(", ");
                    text += &format!(
                        "permit(principal in Role::\"{name}\", action in [{actions}], resource) {reach};\n"
                    );
                }
            }
        }
        let policies = PolicySet::from_str(&text)?;
        let uid = |kind: &str, id: &str| EntityUid::from_str(&format!("{kind}::\"{id}\""));
        let mut questions = Vec::new();
        for (item, number) in items.iter().zip(numbers) {
            let (assignee, team) = said(item);
            let member = uid("Member", &item.member_id)?;
            let mut parents = std::collections::HashSet::from([uid("Role", role_of(*number))?]);
            for team in workload::teams(0, *number) {
                parents.insert(uid("Team", &team)?);
            }
            let resource = uid("Ticket", "1")?;
            let reference = |kind, id| -> Result<_, Failure> {
                Ok(RestrictedExpression::new_entity_uid(uid(kind, id)?))
            };
            let attributes = std::collections::HashMap::from([
                ("assignee".to_owned(), reference("Member", &assignee)?),
                ("team".to_owned(), reference("Team", &team)?),
            ]);
            let none = std::collections::HashSet::new();
            let entities = Entities::from_entities(
                [
                    Entity::new(member.clone(), Default::default(), parents)?,
                    Entity::new(resource.clone(), attributes, none)?,
                ],
                None,
            )?;
            let action = uid("Action", &item.permission)?;
            questions
                .push((Request::new(member, action, resource, Context::empty(), None)?, entities));
        }
        Ok(Cedar { authorizer: Authorizer::new(), policies, questions })
    }

    pub(crate) fn decide(&self, question: usize) -> bool {
        let (request, entities) = &self.questions[question];
        let answer = self.authorizer.is_authorized(request, &self.policies, entities);
        answer.decision() == Decision::Allow
    }
}

fn said(item: &pb::CheckItem) -> (String, String) {
    let first = |list: Option<&pb::IdList>| {
        list.and_then(|list| list.ids.first()).cloned().unwrap_or_default()
    };
    let resource = item.resource.as_ref();
    (
        first(resource.and_then(|resource| resource.assignees.as_ref())),
        first(resource.and_then(|resource| resource.teams.as_ref())),
    )
}
