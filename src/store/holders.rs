//! What happens to everybody who holds a role, in a few statements however many they are.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait as _, DbBackend, EntityTrait, PaginatorTrait, QueryFilter,
    QuerySelect, QueryTrait, Select, Statement, sea_query::SelectStatement,
};

use super::StoreError;
use super::entity::{member, member_role, member_team};
use super::members::holders;
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
 (SELECT string_agg(r.role_id, chr(31) ORDER BY r.role_id) AS roles FROM member_roles h \
  JOIN members m ON m.tenant_id = h.tenant_id AND m.id = h.member_id \
  JOIN member_roles r ON r.tenant_id = h.tenant_id AND r.member_id = h.member_id \
  WHERE h.tenant_id = $1 AND h.role_id = $2 AND m.status = $3 GROUP BY h.member_id) sets \
GROUP BY roles";

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
            let changed: Option<String> = member::Entity::find()
                .select_only()
                .column(member::Column::Id)
                .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
                .filter(member::COLUMN.id.is_in(ids.iter().map(String::as_str)))
                .filter(member::COLUMN.revision.gt(stored(revision)))
                .limit(1)
                .into_tuple()
                .one(&self.tx)
                .await?;
            if changed.is_some() {
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
        let elsewhere = |teams| in_other_teams(tenant, role, teams).into_query();
        let roles: Vec<String> = member_role::Entity::find()
            .select_only()
            .column(member_role::Column::RoleId)
            .distinct()
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_role::COLUMN.role_id.ne(role.as_str()))
            .filter(
                member_role::COLUMN
                    .member_id
                    .in_subquery(outside.map_or_else(|| holders_of(tenant, role), elsewhere)),
            )
            .into_tuple()
            .all(&self.tx)
            .await?;
        Ok(roles.iter().map(|role| RoleId::trusted(role)).collect())
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
        let found: Option<String> =
            in_other_teams(tenant, role, teams).limit(1).into_tuple().one(&self.tx).await?;
        Ok(found.is_some())
    }
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
        member_role::Entity::delete_many()
            .filter(member_role::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(member_role::COLUMN.role_id.eq(from.as_str()))
            .filter(member_role::COLUMN.member_id.in_subquery(self.holders(to)))
            .exec(&self.tx)
            .await?;
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

    fn holders(&self, role: &RoleId) -> SelectStatement {
        holders_of(self.id(), role)
    }

    /// Gives the holders of a role this change's revision.
    async fn mark_holders(&self, role: &RoleId, now: Timestamp) -> Result<u64, StoreError> {
        let marked = member::Entity::update_many()
            .set(member::ActiveModel {
                revision: Set(stored(self.next_revision())),
                updated_at: Set(now.0),
                ..Default::default()
            })
            .filter(member::COLUMN.tenant_id.eq(self.id().as_str()))
            .filter(member::COLUMN.id.in_subquery(self.holders(role)))
            .exec(&self.tx)
            .await?;
        Ok(marked.rows_affected)
    }
}

/// The members that hold the role, as a part of a statement.
fn holders_of(tenant: &TenantId, role: &RoleId) -> SelectStatement {
    member_role::Entity::find()
        .select_only()
        .column(member_role::Column::MemberId)
        .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_role::COLUMN.role_id.eq(role.as_str()))
        .into_query()
}

/// The holders of a role who are in a team other than these, once for each.
fn in_other_teams(
    tenant: &TenantId,
    role: &RoleId,
    teams: &[TeamId],
) -> Select<member_team::Entity> {
    member_team::Entity::find()
        .select_only()
        .column(member_team::Column::MemberId)
        .filter(member_team::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_team::COLUMN.team_id.is_not_in(teams.iter().map(TeamId::as_str)))
        .filter(member_team::COLUMN.member_id.in_subquery(holders_of(tenant, role)))
}
