//! What happens to everybody who holds a role, in a few statements however many they are.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait as _, DbBackend, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, QueryResult, QuerySelect, Statement, Value,
};

use super::StoreError;
use super::entity::member_role;
use super::listed::{list, rows_of};
use super::members::{MEMBERS_BY_ID, holders};
use super::read::{CHUNK, ReadTx};
use super::rows::{ACTIVE, count, stored};
use super::write::WriteTx;
use crate::domain::Timestamp;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};

/// For each active holder of a role all its roles as one text, and how many have the same. Goes along
/// the index of the role's holders once; the separator is in no id.
const SQLITE_ROLE_SETS: &str = "\
SELECT roles, count(*) AS members FROM \
 (SELECT group_concat(r.role_id, char(31)) AS roles FROM member_roles h \
  CROSS JOIN members m ON m.tenant_id = h.tenant_id AND m.id = h.member_id \
  CROSS JOIN member_roles r ON r.tenant_id = h.tenant_id AND r.member_id = h.member_id \
  WHERE h.tenant_id = ?1 AND h.role_id = ?2 AND m.status = ?3 GROUP BY h.member_id) \
GROUP BY roles";
const POSTGRES_ROLE_SETS: &str = "\
SELECT roles, count(*) AS members FROM \
 (SELECT (SELECT string_agg(r.role_id, chr(31) ORDER BY r.role_id) FROM member_roles r \
   WHERE r.tenant_id = $1 AND r.member_id = h.member_id) AS roles FROM member_roles h \
  WHERE h.tenant_id = $1 AND h.role_id = $2 AND \
   (SELECT m.status FROM members m WHERE m.tenant_id = $1 AND m.id = h.member_id) = $3) sets \
GROUP BY roles";

/// The other roles of each holder. Both databases do it in the order in which it stands.
const SQLITE_OTHER_ROLES: &str = "\
SELECT DISTINCT r.role_id FROM member_roles h CROSS JOIN member_roles r \
WHERE h.tenant_id = $1 AND h.role_id = $2 AND r.tenant_id = $1 AND r.member_id = h.member_id \
 AND r.role_id <> $2";
const POSTGRES_OTHER_ROLES: &str = "\
SELECT DISTINCT r.role_id FROM member_roles h CROSS JOIN LATERAL \
 (SELECT role_id FROM member_roles WHERE tenant_id = $1 AND member_id = h.member_id \
  AND role_id <> $2 OFFSET 0) r \
WHERE h.tenant_id = $1 AND h.role_id = $2";

const HOLDERS: &str =
    "SELECT h.member_id FROM member_roles h WHERE h.tenant_id = $1 AND h.role_id = $2";
/// What is asked of each holder who is to be in a team that is not in a list.
const IN_OTHER_TEAM: &str = "\
(SELECT t.team_id FROM member_teams t WHERE t.tenant_id = $1 AND t.member_id = h.member_id \
 AND t.team_id NOT IN ";
const SQLITE_TEAMS: &str = "(SELECT value FROM json_each($3)) LIMIT 1) IS NOT NULL";
const POSTGRES_TEAMS: &str = "(SELECT json_array_elements_text($3::json)) LIMIT 1) IS NOT NULL";

/// Goes along the tenant's members once and asks each for the role, by all columns of a key: the other
/// way round it would be a join.
const MARK: &str = "\
UPDATE members SET revision = $3, updated_at = $4 WHERE tenant_id = $1 AND \
 (SELECT h.role_id FROM member_roles h WHERE h.tenant_id = $1 AND h.role_id = $2 \
  AND h.member_id = members.id) IS NOT NULL";
const DROP_DOUBLES: &str = "\
DELETE FROM member_roles WHERE tenant_id = $1 AND role_id = $2 AND \
 (SELECT h.role_id FROM member_roles h WHERE h.tenant_id = $1 AND h.role_id = $3 \
  AND h.member_id = member_roles.member_id) IS NOT NULL";

impl ReadTx {
    /// Which roles the active holders of a role hold, it among them, and how many hold just those. One
    /// statement, which looks at every holder: what it gives is as long as there are such sets.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn role_sets(
        &self,
        tenant: &TenantId,
        role: &RoleId,
    ) -> Result<Vec<(Vec<RoleId>, u64)>, StoreError> {
        let backend = self.tx.get_database_backend();
        let postgres = backend == DbBackend::Postgres;
        let sql = if postgres { POSTGRES_ROLE_SETS } else { SQLITE_ROLE_SETS };
        let values = [tenant.as_str().into(), role.as_str().into(), ACTIVE.into()];
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = self.tx.query_all_raw(statement).await?;
        rows.iter()
            .map(|row| {
                let roles: String = row.try_get("", "roles")?;
                let members = count(row.try_get("", "members")?, "member_roles", role.as_str())?;
                Ok((roles.split('\u{1f}').map(RoleId::trusted).collect(), members))
            })
            .collect()
    }

    /// Whether anybody holds the role, archived members too.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn any_holder(&self, tenant: &TenantId, role: &RoleId) -> Result<bool, StoreError> {
        let found = member_role::Entity::find()
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_role::COLUMN.role_id.eq(role.as_str()))
            .limit(1)
            .one(&self.tx)
            .await?;
        Ok(found.is_some())
    }

    /// How many members hold the role, archived ones too.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn count_holders(&self, tenant: &TenantId, role: &RoleId) -> Result<u64, StoreError> {
        let holders = member_role::Entity::find()
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_role::COLUMN.role_id.eq(role.as_str()));
        Ok(holders.count(&self.tx).await?)
    }

    /// The same, if none of them was changed after this revision. Goes along the index of the role's
    /// holders, a part at a time, up to the first who was: no statement can turn out to join all
    /// holders with all members.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn holders_as_of(
        &self,
        tenant: &TenantId,
        role: &RoleId,
        revision: u64,
    ) -> Result<Option<u64>, StoreError> {
        let (mut all, mut last) = (0, None);
        loop {
            let ids: Vec<String> = holders(tenant, role, last.as_ref())
                .limit(CHUNK as u64)
                .into_tuple()
                .all(&self.tx)
                .await?;
            let members = rows_of(&self.tx, MEMBERS_BY_ID, tenant, &ids).await?;
            if members.iter().any(|member| member.revision > stored(revision)) {
                return Ok(None);
            }
            all += ids.len() as u64;
            match ids.last().filter(|_| ids.len() == CHUNK) {
                Some(id) => last = Some(MemberId::trusted(id)),
                None => return Ok(Some(all)),
            }
        }
    }

    /// The other roles of those who hold a role, archived ones too, each once; of those only who are
    /// in a team other than these, if they are given.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn roles_held_with(
        &self,
        tenant: &TenantId,
        role: &RoleId,
        outside: Option<&[TeamId]>,
    ) -> Result<Vec<RoleId>, StoreError> {
        let backend = self.tx.get_database_backend();
        let postgres = backend == DbBackend::Postgres;
        let mut sql = if postgres { POSTGRES_OTHER_ROLES } else { SQLITE_OTHER_ROLES }.to_owned();
        let mut values = vec![tenant.as_str().into(), role.as_str().into()];
        if let Some(teams) = outside {
            sql = format!("{sql} AND {}", in_other_team(backend));
            values.push(teams_of(teams)?);
        }
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = self.tx.query_all_raw(statement).await?;
        let role = |row: &QueryResult| Ok(RoleId::trusted(&row.try_get::<String>("", "role_id")?));
        rows.iter().map(role).collect()
    }

    /// Whether a holder of the role, archived or not, is in a team other than these.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn any_holder_outside(
        &self,
        tenant: &TenantId,
        role: &RoleId,
        teams: &[TeamId],
    ) -> Result<bool, StoreError> {
        let backend = self.tx.get_database_backend();
        let sql = format!("{HOLDERS} AND {} LIMIT 1", in_other_team(backend));
        let values = [tenant.as_str().into(), role.as_str().into(), teams_of(teams)?];
        let statement = Statement::from_sql_and_values(backend, sql, values);
        Ok(self.tx.query_one_raw(statement).await?.is_some())
    }
}

fn in_other_team(backend: DbBackend) -> String {
    let postgres = backend == DbBackend::Postgres;
    format!("{IN_OTHER_TEAM}{}", if postgres { POSTGRES_TEAMS } else { SQLITE_TEAMS })
}

fn teams_of(teams: &[TeamId]) -> Result<Value, DbErr> {
    let teams: Vec<&str> = teams.iter().map(TeamId::as_str).collect();
    list(&teams)
}

impl WriteTx {
    /// Gives every member that holds one role another one instead, archived members too, and says
    /// how many active and how many archived members that were. A role that is reassigned to itself
    /// stays where it is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn reassign_role(
        &self,
        from: &RoleId,
        to: &RoleId,
        now: Timestamp,
    ) -> Result<(u64, u64), StoreError> {
        if from == to {
            return Ok((0, 0));
        }
        let active = self.count_active_with_role(self.id(), from).await?;
        let all = self.mark_holders(from, now).await?;
        // Whoever has the new role already only loses the old one.
        self.change(DROP_DOUBLES, [from.as_str().into(), to.as_str().into()]).await?;
        member_role::Entity::update_many()
            .set(member_role::ActiveModel { role_id: Set(to.to_string()), ..Default::default() })
            .filter(member_role::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(member_role::COLUMN.role_id.eq(from.as_str()))
            .exec(&self.tx)
            .await?;
        Ok((active, all.saturating_sub(active)))
    }

    /// Takes the role from every member that holds it, archived ones too, and says how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn strip_role(&self, role: &RoleId, now: Timestamp) -> Result<u64, StoreError> {
        let all = self.mark_holders(role, now).await?;
        member_role::Entity::delete_many()
            .filter(member_role::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(member_role::COLUMN.role_id.eq(role.as_str()))
            .exec(&self.tx)
            .await?;
        Ok(all)
    }

    /// Gives the holders of a role this change's revision.
    async fn mark_holders(&self, role: &RoleId, now: Timestamp) -> Result<u64, StoreError> {
        let revision = stored(self.next_revision());
        self.change(MARK, [role.as_str().into(), revision.into(), now.0.into()]).await
    }

    /// Runs a statement about this tenant, and says how many rows it changed.
    async fn change(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, StoreError> {
        let values = std::iter::once(self.id().as_str().into()).chain(values);
        let backend = self.tx.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        Ok(self.tx.execute_raw(statement).await?.rows_affected())
    }
}
