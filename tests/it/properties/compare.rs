//! Everything that is decided from a source - a check, a batch, a list, a plan, a menu - against
//! the reference.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rolegate::domain::catalog::Catalog;
use rolegate::domain::ids::TenantId;
use rolegate::domain::plan::{QueryPlan, Term};
use rolegate::service::decide::Question;
use rolegate::service::token::Consistency;
use rolegate::store::DecisionSource;

use super::convert;
use super::coverage::Coverage;
use super::generate::STRANGER;
use super::sql::CallersTables;
use super::tenant::{ASKER, Service};
use crate::reference::decide::{
    Answer, Standing, effective, scope_named, standing, visible_sections,
};
use crate::reference::model::{Permission, Resource, World};

/// What is asked, and of whom.
pub(super) struct Asked<'a, S> {
    pub(super) service: &'a Service<S>,
    pub(super) tenant: &'a TenantId,
    pub(super) catalog: &'a Catalog,
    pub(super) world: &'a World,
    pub(super) resources: &'a [Resource],
    pub(super) consistency: Consistency,
}

/// What the reference says of one member and one permission.
pub(super) struct Row<'w> {
    pub(super) member: &'w str,
    pub(super) permission: &'w Permission,
    pub(super) standing: Standing<'w>,
    /// About no resource, then about each.
    pub(super) answers: Vec<Answer>,
}

type Outcome = Result<(), TestCaseError>;

/// The reference's answers to every question that there is.
pub(super) fn expected<'w>(world: &'w World, resources: &[Resource]) -> Vec<Row<'w>> {
    let members = world.members.iter().map(|member| member.id.as_str()).chain([STRANGER]);
    expected_of(members, world, resources)
}

/// The same for these members, whether they are there or not.
pub(super) fn expected_of<'w>(
    members: impl Iterator<Item = &'w str>,
    world: &'w World,
    resources: &[Resource],
) -> Vec<Row<'w>> {
    let mut rows = Vec::new();
    for member in members {
        for permission in &world.catalog.permissions {
            let standing = standing(world, member, permission);
            let about = [None].into_iter().chain(resources.iter().map(Some));
            let answers = about.map(|resource| standing.answer(resource)).collect();
            rows.push(Row { member, permission, standing, answers });
        }
    }
    rows
}

impl<S: DecisionSource> Asked<'_, S> {
    /// What is asked about: no resource, then each.
    fn subjects(&self) -> Vec<Option<rolegate::domain::resource::Resource>> {
        let resources = self.resources.iter().enumerate();
        let resources = resources.map(|(number, said)| Some(convert::resource(number, said)));
        [None].into_iter().chain(resources).collect()
    }

    /// Every question, in the order of the rows and of their answers.
    pub(super) fn questions(&self, rows: &[Row<'_>]) -> Vec<Question> {
        let subjects = self.subjects();
        let mut questions = Vec::new();
        for row in rows {
            questions.extend(subjects.iter().map(|resource| Question {
                member: convert::member_id(row.member),
                permission: row.permission.id.clone(),
                resource: resource.clone(),
            }));
        }
        questions
    }

    /// All questions in one batch.
    pub(super) async fn batch_answers(&self, questions: &[Question]) -> Vec<Answer> {
        let items = questions.iter().cloned().map(Ok).collect();
        let decisions = &self.service.decisions;
        let answer = decisions
            .check_batch(ASKER, self.tenant, items, &self.consistency)
            .await
            .unwrap()
            .value;
        let answer = answer.iter().map(|item| item.as_ref().unwrap());
        answer.map(|decision| convert::answer(self.catalog, decision)).collect()
    }

    /// BatchCheck, in the order of the questions.
    pub(super) async fn batch_agrees(&self, rows: &[Row<'_>], coverage: &Coverage) -> Outcome {
        let questions = self.questions(rows);
        let answers = self.batch_answers(&questions).await;
        let expected = rows.iter().flat_map(|row| &row.answers);
        for ((question, answer), expected) in questions.iter().zip(&answers).zip(expected) {
            prop_assert_eq!(answer, expected, "BatchCheck of {:?}", question);
            coverage.saw(expected.reason);
            if expected.decided_by.len() > 1 {
                coverage.saw("several roles decide");
            }
        }
        prop_assert_eq!(answers.len(), questions.len());
        Ok(())
    }

    /// Check, for every `step`th question.
    pub(super) async fn checks_agree(&self, rows: &[Row<'_>], step: usize) -> Outcome {
        let expected = rows.iter().flat_map(|row| &row.answers);
        for (question, expected) in self.questions(rows).iter().zip(expected).step_by(step) {
            let decisions = &self.service.decisions;
            let answer =
                decisions.check(ASKER, self.tenant, question, &self.consistency).await.unwrap();
            let decision = answer.value;
            let roles: BTreeSet<_> = decision.decided_by.iter().map(|by| &by.role).collect();
            prop_assert_eq!(roles.len(), decision.decided_by.len(), "a role twice: {:?}", decision);
            let answer = convert::answer(self.catalog, &decision);
            prop_assert_eq!(&answer, expected, "Check of {:?}", question);
        }
        Ok(())
    }

    /// FilterResources gives those that a check allows, and names those that lack something.
    pub(super) async fn filters_agree(&self, rows: &[Row<'_>], coverage: &Coverage) -> Outcome {
        let resources: Vec<_> = self.subjects().into_iter().flatten().collect();
        for row in rows {
            let member = convert::member_id(row.member);
            let permission = &row.permission.id;
            let decisions = &self.service.decisions;
            let filtered = decisions
                .filter(ASKER, self.tenant, &member, permission, &resources, &self.consistency)
                .await
                .unwrap()
                .value;
            let about = format!("FilterResources of {member} for {permission}");
            let answers = &row.answers[1..];
            let ids = |wanted: &dyn Fn(&Answer) -> bool| -> Vec<String> {
                let found = answers.iter().enumerate().filter(|(_, answer)| wanted(answer));
                found.map(|(number, _)| number.to_string()).collect()
            };
            let incomplete = ids(&|answer| answer.reason == "RESOURCE_ATTRIBUTE_REQUIRED");
            let missing: BTreeSet<_> =
                answers.iter().flat_map(|answer| answer.missing.iter().copied()).collect();
            let hopeless = match row.standing.member {
                Err(why) => Some(why),
                Ok(_) if row.standing.granted().is_empty() => Some("PERMISSION_NOT_GRANTED"),
                Ok(_) => None,
            };
            if !incomplete.is_empty() {
                coverage.saw("incomplete resources");
            }
            prop_assert_eq!(filtered.allowed, ids(&|answer| answer.allowed), "{}", about);
            prop_assert_eq!(filtered.incomplete, incomplete, "{}: incomplete", about);
            prop_assert_eq!(filtered.missing.len(), missing.len(), "{}: missing", about);
            prop_assert_eq!(convert::attributes(&filtered.missing), missing, "{}: missing", about);
            prop_assert_eq!(filtered.denied.map(convert::reason), hopeless, "{}: denied", about);
        }
        Ok(())
    }

    /// PlanFilter is in normal form, and selects what a check allows of the resources of which
    /// everything is said.
    pub(super) async fn plans_agree(
        &self,
        rows: &[Row<'_>],
        tables: &CallersTables,
        coverage: &Coverage,
    ) -> Outcome {
        tables.fill(self.resources).await;
        for row in rows {
            let member = convert::member_id(row.member);
            let permission = &row.permission.id;
            let decisions = &self.service.decisions;
            let planned = decisions
                .plan(self.tenant, &member, permission, &self.consistency)
                .await
                .unwrap()
                .value;
            let about = format!("PlanFilter of {member} for {permission}: {:?}", planned.plan);
            let (terms, why) = row.standing.plan();
            prop_assert_eq!(terms_of(&planned.plan), terms.clone(), "{}", about);
            prop_assert_eq!(planned.denied.map(convert::reason), why, "{}: denied", about);
            let mut teams = self.world.member(row.member).map_or(vec![], |m| m.teams.clone());
            teams.sort();
            for used in team_lists(&planned.plan) {
                prop_assert_eq!(&used, &teams, "{}: teams", about);
            }
            let selected = tables.select(row.member, &planned.plan).await;
            for (number, resource) in self.resources.iter().enumerate() {
                if everything_is_said(resource) {
                    let allowed = row.answers[number + 1].allowed;
                    prop_assert_eq!(
                        selected.contains(&number),
                        allowed,
                        "{} over {:?}",
                        about,
                        resource
                    );
                    coverage.saw(if allowed { "selected" } else { "not selected" });
                }
            }
            for term in terms {
                coverage.saw_term(term);
            }
        }
        Ok(())
    }

    /// ListEffectivePermissions: the member holds what can be allowed, at the reach that decides.
    pub(super) async fn effective_agrees(&self) -> Outcome {
        let members = self.world.members.iter().map(|member| member.id.as_str());
        for id in members.chain([STRANGER]) {
            let about = format!("ListEffectivePermissions of {id}");
            let member = convert::member_id(id);
            let decisions = &self.service.decisions;
            let found =
                decisions.effective(self.tenant, &member, &self.consistency).await.unwrap().value;
            let held = effective(self.world, id);
            let mut shown = Vec::new();
            for (ix, reach) in &found.permissions {
                let permission = &self.catalog.permission(*ix).id;
                let scope = self.catalog.scope_with_reach(*ix, *reach);
                let of_world = self.world.catalog.permission(permission).unwrap();
                let reach = convert::relations(*reach);
                prop_assert_eq!(
                    scope.map(|scope| scope.id.clone()),
                    scope_named(self.world, of_world, &reach),
                    "{}: the scope of {}",
                    about,
                    permission
                );
                shown.push((permission.clone(), reach));
            }
            prop_assert_eq!(shown, held.clone(), "{}", about);
            let sections: BTreeSet<_> =
                found.sections.iter().map(|ix| self.catalog.section(*ix).id.clone()).collect();
            prop_assert_eq!(sections, visible_sections(self.world, &held), "{}: sections", about);
            let of_world = self.world.member(id);
            let why = match of_world {
                None => Some("MEMBER_NOT_FOUND"),
                Some(member) if !member.active => Some("MEMBER_ARCHIVED"),
                Some(_) => None,
            };
            prop_assert_eq!(found.denied.map(convert::reason), why, "{}: denied", about);
            let roles: Vec<_> = of_world.map_or(vec![], |member| {
                let roles = self.world.roles_of(member);
                roles.iter().map(|role| role.id.clone()).collect()
            });
            let shown: Vec<_> = found.roles.iter().map(ToString::to_string).collect();
            prop_assert_eq!(shown, roles, "{}: roles", about);
        }
        Ok(())
    }
}

fn everything_is_said(resource: &Resource) -> bool {
    resource.assignees.is_some()
        && resource.teams.is_some()
        && resource.creator.is_some()
        && resource.participants.is_some()
        && resource.public.is_some()
}

fn terms_of(plan: &QueryPlan) -> Vec<&'static str> {
    match plan {
        QueryPlan::Always => vec!["any"],
        QueryPlan::Never => vec![],
        QueryPlan::AnyOf(terms) => terms
            .iter()
            .map(|term| match term {
                Term::Assignee => "assignee",
                Term::Team(_) => "team",
                Term::Unassigned => "unassigned",
                Term::TeamUnassigned(_) => "team_unassigned",
                Term::Pool => "pool",
                Term::Creator => "creator",
                Term::Participant => "participant",
                Term::Public => "public",
            })
            .collect(),
    }
}

fn team_lists(plan: &QueryPlan) -> Vec<Vec<String>> {
    let QueryPlan::AnyOf(terms) = plan else { return vec![] };
    let lists = terms.iter().filter_map(|term| match term {
        Term::Team(teams) | Term::TeamUnassigned(teams) => Some(teams),
        _ => None,
    });
    lists.map(|teams| teams.iter().map(ToString::to_string).collect()).collect()
}
