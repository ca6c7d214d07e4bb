//! How many members hold a role. Goes along the holders of the role once, by index, and asks for the
//! status of each by its key; see [`super::listed`].

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::listed::list;
use super::read::ReadTx;
use super::rows::{ACTIVE, count};
use crate::domain::ids::{RoleId, TenantId};

/// How many members hold some role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleMembers {
    /// Active members.
    pub active: u64,
    /// Archived members.
    pub archived: u64,
}

/// How many members hold a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleCount {
    /// A custom or default role.
    pub role: RoleId,
    /// Active and archived members.
    pub members: RoleMembers,
}

const ONE: &str = "\
SELECT count(*) AS members, count(*) FILTER (WHERE \
  (SELECT m.status FROM members m WHERE m.tenant_id = $1 AND m.id = h.member_id) = $3) AS active \
FROM member_roles h WHERE h.tenant_id = $1 AND h.role_id = $2";

/// Each role's holders are counted where the value of a column would stand.
const MANY: &str = "\
SELECT role, \
 (SELECT count(*) FROM member_roles h WHERE h.tenant_id = $1 AND h.role_id = role) AS members, \
 (SELECT count(*) FROM member_roles h WHERE h.tenant_id = $1 AND h.role_id = role AND \
   (SELECT m.status FROM members m WHERE m.tenant_id = $1 AND m.id = h.member_id) = $3) AS active \
FROM ";
const SQLITE_ROLES: &str = "(SELECT value AS role FROM json_each($2)) AS wanted";
const POSTGRES_ROLES: &str = "json_array_elements_text($2::json) AS wanted(role)";

impl ReadTx {
    /// How many active members hold the role.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn count_active_with_role(
        &self,
        tenant: &TenantId,
        role: &RoleId,
    ) -> Result<u64, StoreError> {
        Ok(self.role_members(tenant, role).await?.active)
    }

    /// How many members hold the role.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn role_members(
        &self,
        tenant: &TenantId,
        role: &RoleId,
    ) -> Result<RoleMembers, StoreError> {
        let values = [tenant.as_str().into(), role.as_str().into(), ACTIVE.into()];
        let backend = self.tx.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, ONE, values);
        let row = self.tx.query_one_raw(statement).await?;
        row.map_or(Ok(RoleMembers::default()), |row| counted(&row, role.as_str()))
    }

    /// How many members hold each of these roles, in their order. Looks at the holders of these.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn members_by_role(
        &self,
        tenant: &TenantId,
        roles: &[RoleId],
    ) -> Result<Vec<RoleCount>, StoreError> {
        if roles.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.tx.get_database_backend();
        let source = if backend == DbBackend::Postgres { POSTGRES_ROLES } else { SQLITE_ROLES };
        let ids: Vec<&str> = roles.iter().map(RoleId::as_str).collect();
        let values = [tenant.as_str().into(), list(&ids)?, ACTIVE.into()];
        let statement = Statement::from_sql_and_values(backend, format!("{MANY}{source}"), values);
        let rows = self.tx.query_all_raw(statement).await?;
        rows.iter()
            .map(|row| {
                let role: String = row.try_get("", "role")?;
                let members = counted(row, &role)?;
                Ok(RoleCount { role: RoleId::trusted(&role), members })
            })
            .collect()
    }
}

fn counted(row: &QueryResult, role: &str) -> Result<RoleMembers, StoreError> {
    let number = |column| count(row.try_get("", column)?, "member_roles", role);
    let (all, active): (u64, u64) = (number("members")?, number("active")?);
    Ok(RoleMembers { active, archived: all.saturating_sub(active) })
}
