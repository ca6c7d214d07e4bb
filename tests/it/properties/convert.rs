//! Between the reference's values and the crate's.

use std::collections::BTreeSet;

use rolegate::domain::catalog::{Catalog, ScopeIx};
use rolegate::domain::decision::{DecidedBy, Decision, DecisionReason};
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::{MemberId, RoleId, TeamId};
use rolegate::domain::relation::{Relation, RelationSet};
use rolegate::domain::resource::{Attribute, Resource};

use crate::reference::decide::Answer;
use crate::reference::model::{self, Relations};

pub(super) fn member_id(id: &str) -> MemberId {
    MemberId::parse(id).unwrap()
}

pub(super) fn role_ids(ids: &[String]) -> Vec<RoleId> {
    ids.iter().map(|id| RoleId::parse(id).unwrap()).collect()
}

pub(super) fn team_ids(ids: &[String]) -> Vec<TeamId> {
    ids.iter().map(|id| TeamId::parse(id).unwrap()).collect()
}

pub(super) fn grants(grants: &[model::Grant]) -> Vec<Grant> {
    let grant = |grant: &model::Grant| Grant {
        permission: grant.permission.clone(),
        scope: grant.scope.clone(),
    };
    grants.iter().map(grant).collect()
}

/// A resource, with its place in the list as its id.
pub(super) fn resource(number: usize, resource: &model::Resource) -> Resource {
    let members = |ids: &Vec<String>| ids.iter().map(|id| member_id(id)).collect();
    Resource {
        id: number.to_string(),
        assignees: resource.assignees.as_ref().map(members),
        teams: resource.teams.as_ref().map(|ids| team_ids(ids)),
        creator: resource.creator.as_ref().map(|id| id.as_deref().map(member_id)),
        participants: resource.participants.as_ref().map(members),
        public: resource.public,
    }
}

pub(super) fn relations(set: RelationSet) -> Relations {
    set.iter().map(Relation::name).collect()
}

/// A reason as the API names it.
pub(super) fn reason(reason: DecisionReason) -> &'static str {
    match reason {
        DecisionReason::GrantedByRole => "GRANTED_BY_ROLE",
        DecisionReason::GrantedToEveryone => "GRANTED_TO_EVERYONE",
        DecisionReason::TenantNotFound => "TENANT_NOT_FOUND",
        DecisionReason::MemberNotFound => "MEMBER_NOT_FOUND",
        DecisionReason::MemberArchived => "MEMBER_ARCHIVED",
        DecisionReason::PermissionNotGranted => "PERMISSION_NOT_GRANTED",
        DecisionReason::OutOfScope => "OUT_OF_SCOPE",
        DecisionReason::ResourceRequired => "RESOURCE_REQUIRED",
        DecisionReason::ResourceAttributeRequired => "RESOURCE_ATTRIBUTE_REQUIRED",
    }
}

pub(super) fn attributes(attributes: &[Attribute]) -> BTreeSet<&'static str> {
    attributes.iter().map(|attribute| attribute.name()).collect()
}

pub(super) fn scope(catalog: &Catalog, scope: Option<ScopeIx>) -> Option<String> {
    scope.map(|scope| catalog.scope(scope).id.clone())
}

pub(super) fn decided_by(
    catalog: &Catalog,
    decided_by: &[DecidedBy],
) -> BTreeSet<(String, Option<String>)> {
    decided_by.iter().map(|by| (by.role.to_string(), scope(catalog, by.scope))).collect()
}

/// A decision in the reference's words.
pub(super) fn answer(catalog: &Catalog, decision: &Decision) -> Answer {
    Answer {
        allowed: decision.is_allowed(),
        reason: reason(decision.reason),
        decided_by: decided_by(catalog, &decision.decided_by),
        missing: attributes(&decision.missing),
    }
}
