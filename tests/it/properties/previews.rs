//! PreviewRoleChange, against what the reference says before and after the change.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rolegate::domain::ids::RoleId;
use rolegate::service::ServiceError;
use rolegate::service::page::PageRequest;
use rolegate::service::preview::RoleChange;
use rolegate::store::DecisionSource;

use super::compare::Asked;
use super::convert;
use super::coverage::Coverage;
use super::writes::{Call, Planned};
use crate::reference::decide::effective;
use crate::reference::model::{Relations, World};

impl<S: DecisionSource> Asked<'_, S> {
    /// A change that can be previewed does to the members just what its preview says.
    pub(super) async fn preview_agrees(
        &self,
        planned: &Planned,
        coverage: &Coverage,
    ) -> Result<(), TestCaseError> {
        let role = |id: &String| RoleId::parse(id).unwrap();
        let change = match &planned.call {
            Call::EditRole(edited, _) => RoleChange::Update {
                role: role(&edited.id),
                grants: convert::grants(&edited.grants),
                expand_requirements: false,
            },
            Call::DeleteRole { role: deleted, reassign_to } => {
                RoleChange::Delete { role: role(deleted), reassign_to: Some(role(reassign_to)) }
            }
            Call::AssignRoles(member) => RoleChange::Assign {
                members: vec![convert::member_id(&member.id)],
                roles: convert::role_ids(&member.roles),
            },
            _ => return Ok(()),
        };
        let mut page = PageRequest { size: 2, token: String::new() };
        let preview = self.service.roles.preview(self.tenant, &change, &page).await;
        let mut preview = match (preview, &planned.call) {
            (Ok(preview), _) => preview.value,
            (Err(ServiceError::Refused(_)), Call::EditRole(_, false)) => return Ok(()),
            (Err(error), _) => {
                return Err(TestCaseError::fail(format!("preview of {change:?}: {error:?}")));
            }
        };

        let impacts = self.world.members.iter().map(|member| {
            (member.id.clone(), impact(self.world, &planned.after.world, &member.id))
        });
        let mut changed: Vec<(String, Impact)> =
            impacts.filter(|(_, impact)| impact.gains || impact.loses).collect();
        changed.sort_by(|(left, _), (right, _)| left.cmp(right));
        let gaining = changed.iter().filter(|(_, impact)| impact.gains).count();
        let losing = changed.iter().filter(|(_, impact)| impact.loses).count();
        if gaining > 0 {
            coverage.saw("a preview with gains");
        }
        if losing > 0 {
            coverage.saw("a preview with losses");
        }
        prop_assert_eq!(preview.gaining, gaining as u64, "gaining by {:?}", change);
        prop_assert_eq!(preview.losing, losing as u64, "losing by {:?}", change);
        let mut shown = Vec::new();
        loop {
            prop_assert!(preview.members.items.len() <= 2);
            let items = std::mem::take(&mut preview.members.items);
            shown.extend(items.into_iter().map(|impact| impact.member.to_string()));
            page.token = preview.members.next_token;
            if page.token.is_empty() {
                break;
            }
            preview = self.service.roles.preview(self.tenant, &change, &page).await.unwrap().value;
            let counts = (preview.gaining, preview.losing);
            prop_assert_eq!(counts, (gaining as u64, losing as u64), "of a later page");
        }
        let changed: Vec<_> = changed.into_iter().map(|(id, _)| id).collect();
        prop_assert_eq!(shown, changed, "members changed by {:?}", change);
        Ok(())
    }
}

/// What a change does to one member.
struct Impact {
    gains: bool,
    loses: bool,
}

fn impact(before: &World, after: &World, member: &str) -> Impact {
    let (before, after) = (effective(before, member), effective(after, member));
    Impact { gains: !within(&after, &before), loses: !within(&before, &after) }
}

/// Whether nothing of the first goes beyond the second.
fn within(first: &[(String, Relations)], second: &[(String, Relations)]) -> bool {
    first.iter().all(|(permission, reach)| {
        let other = second.iter().find(|(other, _)| other == permission);
        other.is_some_and(|(_, other)| other.is_superset(reach))
    })
}
