//! What is always asked of the database itself: who may do something, and why.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rolegate::service::explain::open;
use rolegate::service::page::PageRequest;
use rolegate::store::DecisionSource;

use super::compare::{Asked, Row};
use super::convert;
use crate::reference::model::Relations;
use crate::reference::relations::{holding, ways_to_fill_in};

type Outcome = Result<(), TestCaseError>;

impl<S: DecisionSource> Asked<'_, S> {
    /// ListAuthorizedMembers names exactly the members that a check allows, page by page.
    pub(super) async fn authorized_members_agree(
        &self,
        rows: &[Row<'_>],
        page_size: i32,
    ) -> Outcome {
        for permission in &self.world.catalog.permissions {
            let about = [None].into_iter().chain(self.resources.iter().map(Some));
            for (place, resource) in about.enumerate() {
                let mut expected: Vec<_> = rows
                    .iter()
                    .filter(|row| row.permission.id == permission.id)
                    .filter(|row| row.answers[place].allowed)
                    .map(|row| (row.member.to_owned(), row.answers[place].decided_by.clone()))
                    .collect();
                expected.sort();

                let resource = resource.map(|said| convert::resource(place, said));
                let mut found = Vec::new();
                let mut page = PageRequest { size: page_size, token: String::new() };
                loop {
                    let roles = &self.service.roles;
                    let answer = roles
                        .authorized_members(
                            self.tenant,
                            &permission.id,
                            resource.as_ref(),
                            &page,
                            &self.consistency,
                        )
                        .await
                        .unwrap();
                    prop_assert!(answer.value.items.len() <= page_size as usize);
                    for item in answer.value.items {
                        let decided_by = convert::decided_by(self.catalog, &item.decided_by);
                        found.push((item.member.to_string(), decided_by));
                    }
                    if answer.value.next_token.is_empty() {
                        break;
                    }
                    page.token = answer.value.next_token;
                }
                prop_assert_eq!(
                    found,
                    expected,
                    "ListAuthorizedMembers of {} on {:?}",
                    permission.id,
                    resource
                );
            }
        }
        Ok(())
    }

    /// Explain gives the very answer of a check, and the sets that it comes from, for every
    /// `step`th question.
    pub(super) async fn explanations_agree(&self, rows: &[Row<'_>], step: usize) -> Outcome {
        let resources = || [None].into_iter().chain(self.resources.iter().map(Some));
        let said = rows.iter().flat_map(|row| {
            resources().zip(&row.answers).map(move |(resource, answer)| (row, resource, answer))
        });
        for ((row, said, expected), question) in said.zip(self.questions(rows)).step_by(step) {
            let answer = self.service.roles.explain(self.tenant, &question).await.unwrap();
            let explanation = answer.value;
            let decision = convert::answer(self.catalog, &explanation.decision);
            prop_assert_eq!(&decision, expected, "Explain of {:?}", question);
            prop_assert!(!explanation.steps.is_empty());
            let Ok(member) = row.standing.member else { continue };

            prop_assert_eq!(
                convert::relations(explanation.base),
                row.standing.base.clone(),
                "Explain of {:?}: base",
                question
            );
            prop_assert_eq!(
                convert::relations(explanation.granted),
                row.standing.granted(),
                "Explain of {:?}: granted",
                question
            );
            let giving = explanation.roles.iter().filter(|role| !role.relations.is_empty());
            let giving: BTreeSet<_> = giving
                .map(|role| {
                    let scope = convert::scope(self.catalog, role.scope);
                    (role.role.as_str(), convert::relations(role.relations), scope)
                })
                .collect();
            let by_role = row.standing.by_role.iter();
            let by_role: BTreeSet<_> = by_role
                .map(|(role, (reach, scope))| (*role, reach.clone(), scope.clone()))
                .collect();
            prop_assert_eq!(giving, by_role, "Explain of {:?}: roles", question);

            // Of what no resource was named for, it is known that it is in the tenant.
            let nothing_named = || (Relations::from(["any"]), Relations::new());
            let expected = said.map_or_else(nothing_named, |said| {
                let held = holding(member, said);
                let could = ways_to_fill_in(member, said);
                let could = could.iter().flat_map(|way| holding(member, way));
                let open: Relations = could.filter(|relation| !held.contains(relation)).collect();
                (held, open)
            });
            let found = explanation
                .relations
                .map(|found| (convert::relations(found.holding), convert::relations(open(found))));
            prop_assert_eq!(found, Some(expected), "Explain of {:?}: relations", question);
        }
        Ok(())
    }
}
