//! Rows become domain values here, and the other way round.
//!
//! A row that makes no sense is reported by table, column and key, never with its content.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::entity::{member, member_role, member_team, role, tenant};
use crate::domain::Timestamp;
use crate::domain::catalog::CatalogRef;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::{Member, MemberStatus};
use crate::domain::name::RoleName;
use crate::domain::role::CustomRole;
use crate::domain::tenant::{Tenant, TenantState};

pub(super) fn corrupt(column: &str, key: &str) -> StoreError {
    StoreError::Corrupt(format!("{column} of {key}"))
}

/// Revisions and versions are never negative, and no counter gets anywhere near the end of `i64`.
pub(super) fn count(stored: i64, column: &str, key: &str) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| corrupt(column, key))
}

/// A count as the database keeps it.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn from_json<T: DeserializeOwned>(
    json: &str,
    column: &str,
    key: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|_| corrupt(column, key))
}

pub(super) fn to_json<T: Serialize>(value: &T, column: &str) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|_| StoreError::Corrupt(format!("{column} cannot be written as JSON")))
}

const fn state_name(state: TenantState) -> &'static str {
    match state {
        TenantState::Active => ACTIVE,
        TenantState::Deleted => DELETED,
        TenantState::Purged => PURGED,
    }
}

/// [`TenantState::Active`] and [`MemberStatus::Active`] as stored.
pub(super) const ACTIVE: &str = "active";
/// [`TenantState::Deleted`] as stored.
pub(super) const DELETED: &str = "deleted";
/// [`TenantState::Purged`] as stored.
pub(super) const PURGED: &str = "purged";

pub(super) const fn status_name(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Active => ACTIVE,
        MemberStatus::Archived => "archived",
    }
}

pub(super) fn status(name: &str, key: &str) -> Result<MemberStatus, StoreError> {
    match name {
        ACTIVE => Ok(MemberStatus::Active),
        "archived" => Ok(MemberStatus::Archived),
        _ => Err(corrupt("members.status", key)),
    }
}

impl TryFrom<tenant::Model> for Tenant {
    type Error = StoreError;

    fn try_from(row: tenant::Model) -> Result<Self, StoreError> {
        let key = row.id.as_str();
        let state = match row.state.as_str() {
            ACTIVE => TenantState::Active,
            DELETED => TenantState::Deleted,
            PURGED => TenantState::Purged,
            _ => return Err(corrupt("tenants.state", key)),
        };
        let version = u32::try_from(row.catalog_version)
            .map_err(|_| corrupt("tenants.catalog_version", key))?;
        Ok(Tenant {
            revision: count(row.revision, "tenants.revision", key)?,
            own_revision: count(row.own_revision, "tenants.own_revision", key)?,
            id: TenantId::trusted(key),
            catalog: CatalogRef { id: row.catalog_id, version },
            plan: row.plan,
            state,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            purge_at: row.purge_at.map(Timestamp),
        })
    }
}

/// The tenant's row when it is changed itself, at this revision.
pub(super) fn tenant_row(tenant: &Tenant, revision: u64) -> tenant::Model {
    tenant::Model {
        id: tenant.id.to_string(),
        catalog_id: tenant.catalog.id.clone(),
        catalog_version: i64::from(tenant.catalog.version),
        plan: tenant.plan.clone(),
        state: state_name(tenant.state).to_owned(),
        revision: stored(revision),
        own_revision: stored(revision),
        created_at: tenant.created_at.0,
        updated_at: tenant.updated_at.0,
        purge_at: tenant.purge_at.map(|at| at.0),
    }
}

impl TryFrom<role::Model> for CustomRole {
    type Error = StoreError;

    fn try_from(row: role::Model) -> Result<Self, StoreError> {
        let key = format!("{}/{}", row.tenant_id, row.id);
        Ok(CustomRole {
            id: RoleId::trusted(&row.id),
            name: RoleName::trusted(&row.name),
            description: row.description,
            grants: from_json(&row.grants, "roles.grants", &key)?,
            revision: count(row.revision, "roles.revision", &key)?,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
        })
    }
}

pub(super) fn role_row(
    tenant: &TenantId,
    role: &CustomRole,
    revision: u64,
) -> Result<role::Model, StoreError> {
    Ok(role::Model {
        tenant_id: tenant.to_string(),
        id: role.id.to_string(),
        name: role.name.to_string(),
        name_key: role.name.key().as_str().to_owned(),
        description: role.description.clone(),
        grants: to_json(&role.grants, "roles.grants")?,
        revision: stored(revision),
        created_at: role.created_at.0,
        updated_at: role.updated_at.0,
    })
}

pub(super) fn member(
    row: &member::Model,
    roles: Vec<RoleId>,
    teams: Vec<TeamId>,
) -> Result<Member, StoreError> {
    let key = format!("{}/{}", row.tenant_id, row.id);
    Ok(Member {
        id: MemberId::trusted(&row.id),
        status: status(&row.status, &key)?,
        roles,
        teams,
        revision: count(row.revision, "members.revision", &key)?,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
    })
}

pub(super) fn member_row(tenant: &TenantId, member: &Member, revision: u64) -> member::Model {
    member::Model {
        tenant_id: tenant.to_string(),
        id: member.id.to_string(),
        status: status_name(member.status).to_owned(),
        revision: stored(revision),
        created_at: member.created_at.0,
        updated_at: member.updated_at.0,
    }
}

pub(super) fn member_role_rows(
    tenant: &TenantId,
    member: &Member,
) -> impl Iterator<Item = member_role::Model> {
    member.roles.iter().enumerate().map(|(position, role)| member_role::Model {
        tenant_id: tenant.to_string(),
        member_id: member.id.to_string(),
        role_id: role.to_string(),
        position: stored(position as u64),
    })
}

pub(super) fn member_team_rows(
    tenant: &TenantId,
    member: &Member,
) -> impl Iterator<Item = member_team::Model> {
    member.teams.iter().map(|team| member_team::Model {
        tenant_id: tenant.to_string(),
        member_id: member.id.to_string(),
        team_id: team.to_string(),
    })
}
