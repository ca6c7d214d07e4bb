//! What several answers have in common, as messages.

use super::pb;
use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, CatalogRef};
use crate::domain::decision::{DecidedBy, Decision, DecisionReason};
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId, TeamId};
use crate::domain::impact::PermissionDelta;
use crate::domain::relation::{Relation, RelationSet};
use crate::domain::resource::Attribute;

pub(super) fn time(Timestamp(micros): Timestamp) -> prost_types::Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// A count in an answer, which nobody needs beyond four billion.
pub(super) fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn role_ids(ids: &[RoleId]) -> Vec<String> {
    ids.iter().map(RoleId::to_string).collect()
}

pub(super) fn member_ids(ids: &[MemberId]) -> Vec<String> {
    ids.iter().map(MemberId::to_string).collect()
}

pub(super) fn team_ids(ids: &[TeamId]) -> Vec<String> {
    ids.iter().map(TeamId::to_string).collect()
}

pub(super) fn catalog(CatalogRef { id, version }: &CatalogRef) -> pb::CatalogVersion {
    pb::CatalogVersion { catalog_id: id.clone(), version: *version }
}

pub(super) fn grant(Grant { permission, scope }: Grant) -> pb::Grant {
    pb::Grant { permission, scope: scope.unwrap_or_default() }
}

pub(super) fn grants(grants: Vec<Grant>) -> Vec<pb::Grant> {
    grants.into_iter().map(grant).collect()
}

pub(super) fn relation(relation: Relation) -> pb::Relation {
    match relation {
        Relation::Any => pb::Relation::Any,
        Relation::Assignee => pb::Relation::Assignee,
        Relation::Team => pb::Relation::Team,
        Relation::Unassigned => pb::Relation::Unassigned,
        Relation::TeamUnassigned => pb::Relation::TeamUnassigned,
        Relation::Pool => pb::Relation::Pool,
        Relation::Creator => pb::Relation::Creator,
        Relation::Participant => pb::Relation::Participant,
        Relation::Public => pb::Relation::Public,
    }
}

/// Every relation of a set.
pub(super) fn relations(set: RelationSet) -> Vec<i32> {
    set.iter().map(|one| relation(one).into()).collect()
}

/// A set without what is implied.
pub(super) fn reduced(set: RelationSet) -> Vec<i32> {
    relations(set.reduced())
}

pub(super) fn reason(reason: DecisionReason) -> pb::DecisionReason {
    match reason {
        DecisionReason::GrantedByRole => pb::DecisionReason::GrantedByRole,
        DecisionReason::GrantedToEveryone => pb::DecisionReason::GrantedToEveryone,
        DecisionReason::TenantNotFound => pb::DecisionReason::TenantNotFound,
        DecisionReason::MemberNotFound => pb::DecisionReason::MemberNotFound,
        DecisionReason::MemberArchived => pb::DecisionReason::MemberArchived,
        DecisionReason::PermissionNotGranted => pb::DecisionReason::PermissionNotGranted,
        DecisionReason::OutOfScope => pb::DecisionReason::OutOfScope,
        DecisionReason::ResourceRequired => pb::DecisionReason::ResourceRequired,
        DecisionReason::ResourceAttributeRequired => pb::DecisionReason::ResourceAttributeRequired,
    }
}

/// A reason for having nothing; unspecified where there is something.
pub(super) fn denied(denied: Option<DecisionReason>) -> i32 {
    denied.map_or(pb::DecisionReason::Unspecified, reason).into()
}

pub(super) fn attributes(missing: &[Attribute]) -> Vec<String> {
    missing.iter().map(|attribute| attribute.name().to_owned()).collect()
}

/// Deciding roles, with the names that their scopes have in the catalog that decided.
pub(super) fn deciding(
    catalog: Option<&Catalog>,
    decided_by: Vec<DecidedBy>,
) -> Vec<pb::DecidingGrant> {
    let show = |DecidedBy { role, scope }: DecidedBy| {
        let scope = catalog.zip(scope).map(|(catalog, scope)| catalog.scope(scope).id.clone());
        pb::DecidingGrant { role_id: role.to_string(), scope: scope.unwrap_or_default() }
    };
    decided_by.into_iter().map(show).collect()
}

pub(super) fn decision(catalog: Option<&Catalog>, decision: Decision) -> pb::Decision {
    let verdict = if decision.is_allowed() { pb::Verdict::Allowed } else { pb::Verdict::Denied };
    let Decision { reason: why, decided_by, missing } = decision;
    pb::Decision {
        verdict: verdict.into(),
        reason: reason(why).into(),
        decided_by: deciding(catalog, decided_by),
        missing_attributes: attributes(&missing),
    }
}

pub(super) fn deltas(deltas: Vec<PermissionDelta>) -> Vec<pb::PermissionDelta> {
    let show = |delta: PermissionDelta| {
        let (gained, lost) = (delta.gained(), delta.lost());
        // A rename shows in the catalog; a reader of the delta knows the new name.
        let PermissionDelta { permission, renamed_from: _, old, new } = delta;
        pb::PermissionDelta {
            permission,
            old_scope: old.scope.unwrap_or_default(),
            new_scope: new.scope.unwrap_or_default(),
            old_relations: reduced(old.relations),
            new_relations: reduced(new.relations),
            gained,
            lost,
        }
    };
    deltas.into_iter().map(show).collect()
}
