//! Reading members.

use std::collections::{BTreeSet, HashMap};

use sea_orm::sea_query::{Expr, ExprTrait as _, IntoColumnRef, SelectStatement};
use sea_orm::{
    EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::entity::{member, member_role, member_team};
use super::read::{CHUNK, ReadTx};
use super::rows::{self, ACTIVE, count, status, status_name};
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::{Member, MemberStatus};

/// Which members are wanted; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Of this status.
    pub status: Option<MemberStatus>,
    /// Holding this role.
    pub role: Option<RoleId>,
    /// In this team.
    pub team: Option<TeamId>,
}

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
    /// Active members.
    pub active: u64,
    /// Archived members.
    pub archived: u64,
}

impl ReadTx {
    /// A member.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn member(
        &self,
        tenant: &TenantId,
        member: &MemberId,
    ) -> Result<Option<Member>, StoreError> {
        Ok(self.members_by_ids(tenant, std::slice::from_ref(member)).await?.pop())
    }

    /// Those of the named members that exist, in no particular order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn members_by_ids(
        &self,
        tenant: &TenantId,
        ids: &[MemberId],
    ) -> Result<Vec<Member>, StoreError> {
        let mut members = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            let rows = member::Entity::find()
                .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
                .filter(member::COLUMN.id.is_in(ids.iter().map(MemberId::as_str)))
                .all(&self.tx)
                .await?;
            self.complete(tenant, &rows, &mut members).await?;
        }
        Ok(members)
    }

    /// Which of these are members.
    pub(super) async fn existing_members(
        &self,
        tenant: &TenantId,
        ids: &BTreeSet<MemberId>,
    ) -> Result<BTreeSet<MemberId>, StoreError> {
        let mut existing = BTreeSet::new();
        for ids in ids.iter().collect::<Vec<_>>().chunks(CHUNK) {
            let found = member::Entity::find()
                .select_only()
                .column(member::Column::Id)
                .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
                .filter(member::COLUMN.id.is_in(ids.iter().map(|id| id.as_str())))
                .into_tuple::<String>()
                .all(&self.tx)
                .await?;
            existing.extend(found.iter().map(|id| MemberId::trusted(id)));
        }
        Ok(existing)
    }

    /// Members in the order of their ids. What it takes goes with `limit`, not with the tenant: the
    /// holders of a role and the members of a team are found by an index in that order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn members(
        &self,
        tenant: &TenantId,
        filter: &MemberFilter,
        after: Option<&MemberId>,
        limit: u64,
    ) -> Result<Vec<Member>, StoreError> {
        let rows = page(tenant, filter, after, limit).all(&self.tx).await?;
        self.completed(tenant, &rows).await
    }

    /// How many active members hold the role.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn count_active_with_role(
        &self,
        tenant: &TenantId,
        role: &RoleId,
    ) -> Result<u64, StoreError> {
        let holders = member_role::Entity::find()
            .inner_join(member::Entity)
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_role::COLUMN.role_id.eq(role.as_str()))
            .filter(member::COLUMN.status.eq(ACTIVE));
        Ok(holders.count(&self.tx).await?)
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
        let holders = member_role::Entity::find()
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_role::COLUMN.role_id.eq(role.as_str()));
        let all = holders.count(&self.tx).await?;
        let active = self.count_active_with_role(tenant, role).await?;
        Ok(RoleMembers { active, archived: all.saturating_sub(active) })
    }

    /// How many members hold each role that anybody holds, in the order of the roles' ids.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn member_count_by_role(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<RoleCount>, StoreError> {
        let rows: Vec<(String, String, i64)> = member_role::Entity::find()
            .inner_join(member::Entity)
            .select_only()
            .column(member_role::Column::RoleId)
            .column(member::Column::Status)
            .column_as(member_role::COLUMN.member_id.count(), "members")
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .group_by(member_role::Column::RoleId)
            .group_by(member::Column::Status)
            .order_by_asc(member_role::COLUMN.role_id)
            .into_tuple()
            .all(&self.tx)
            .await?;
        let mut counts: Vec<RoleCount> = Vec::new();
        for (role, member_status, members) in rows {
            let members = count(members, "member_roles", &role)?;
            if counts.last().is_none_or(|last| last.role.as_str() != role) {
                counts.push(RoleCount { role: RoleId::trusted(&role), active: 0, archived: 0 });
            }
            if let Some(last) = counts.last_mut() {
                match status(&member_status, &format!("a member with role {role}"))? {
                    MemberStatus::Active => last.active = members,
                    MemberStatus::Archived => last.archived = members,
                }
            }
        }
        Ok(counts)
    }

    /// Members with their roles and teams, in the order of their rows.
    pub(super) async fn completed(
        &self,
        tenant: &TenantId,
        rows: &[member::Model],
    ) -> Result<Vec<Member>, StoreError> {
        let mut members = Vec::with_capacity(rows.len());
        for rows in rows.chunks(CHUNK) {
            self.complete(tenant, rows, &mut members).await?;
        }
        Ok(members)
    }

    /// Adds roles and teams to at most [`CHUNK`] members, keeping their order.
    async fn complete(
        &self,
        tenant: &TenantId,
        rows: &[member::Model],
        members: &mut Vec<Member>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut roles: HashMap<String, Vec<(i64, RoleId)>> = HashMap::new();
        for holding in roles_of(tenant, rows).all(&self.tx).await? {
            let role = (holding.position, RoleId::trusted(&holding.role_id));
            roles.entry(holding.member_id).or_default().push(role);
        }
        let mut teams: HashMap<String, Vec<TeamId>> = HashMap::new();
        for membership in teams_of(tenant, rows).all(&self.tx).await? {
            let of_member = teams.entry(membership.member_id).or_default();
            of_member.push(TeamId::trusted(&membership.team_id));
        }
        for row in rows {
            let mut roles = roles.remove(&row.id).unwrap_or_default();
            roles.sort();
            let roles = roles.into_iter().map(|(_, role)| role).collect();
            let mut teams = teams.remove(&row.id).unwrap_or_default();
            teams.sort();
            members.push(rows::member(row, roles, teams)?);
        }
        Ok(())
    }
}

/// The statement for a page of members.
fn page(
    tenant: &TenantId,
    filter: &MemberFilter,
    after: Option<&MemberId>,
    limit: u64,
) -> Select<member::Entity> {
    let MemberFilter { status, role, team } = filter;
    let all = member::Entity::find()
        .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
        .order_by_asc(member::COLUMN.id);
    match (role, team) {
        (Some(role), _) => {
            let holders = holders(tenant, role, after).limit(limit);
            let holder = (member_role::Entity, member_role::Column::MemberId);
            let holders = holders
                .apply_if(*status, |query, status| {
                    query.filter(Expr::exists(of_status(tenant, status, after, holder)))
                })
                .apply_if(team.as_ref(), |query, team| {
                    query.filter(Expr::exists(in_team(tenant, team, after, holder)))
                });
            all.filter(member::COLUMN.id.in_subquery(holders.into_query()))
        }
        (None, Some(team)) => {
            let belonging = belonging(tenant, team, after).limit(limit);
            let one = (member_team::Entity, member_team::Column::MemberId);
            let belonging = belonging.apply_if(*status, |query, status| {
                query.filter(Expr::exists(of_status(tenant, status, after, one)))
            });
            all.filter(member::COLUMN.id.in_subquery(belonging.into_query()))
        }
        (None, None) => all
            .apply_if(after, |query, id| query.filter(member::COLUMN.id.gt(id.as_str())))
            .apply_if(*status, |query, status| {
                query.filter(member::COLUMN.status.eq(status_name(status)))
            })
            .limit(limit),
    }
}

/// What these members hold, in no order: asked for one, SQLite may go through the whole tenant by an
/// index that has it.
fn roles_of(tenant: &TenantId, members: &[member::Model]) -> Select<member_role::Entity> {
    member_role::Entity::find()
        .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_role::COLUMN.member_id.is_in(members.iter().map(|row| row.id.as_str())))
}

/// Which teams they are in, in no order.
fn teams_of(tenant: &TenantId, members: &[member::Model]) -> Select<member_team::Entity> {
    member_team::Entity::find()
        .filter(member_team::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_team::COLUMN.member_id.is_in(members.iter().map(|row| row.id.as_str())))
}

/// The ids of those who hold a role, in their order, after one of them.
pub(super) fn holders(
    tenant: &TenantId,
    role: &RoleId,
    after: Option<&MemberId>,
) -> Select<member_role::Entity> {
    member_role::Entity::find()
        .select_only()
        .column(member_role::Column::MemberId)
        .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_role::COLUMN.role_id.eq(role.as_str()))
        .apply_if(after, |query, id| query.filter(member_role::COLUMN.member_id.gt(id.as_str())))
        .order_by_asc(member_role::COLUMN.member_id)
}

/// The ids of those who are in a team, in their order, after one of them.
pub(super) fn belonging(
    tenant: &TenantId,
    team: &TeamId,
    after: Option<&MemberId>,
) -> Select<member_team::Entity> {
    member_team::Entity::find()
        .select_only()
        .column(member_team::Column::MemberId)
        .filter(member_team::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_team::COLUMN.team_id.eq(team.as_str()))
        .apply_if(after, |query, id| query.filter(member_team::COLUMN.member_id.gt(id.as_str())))
        .order_by_asc(member_team::COLUMN.member_id)
}

/// The member of an outer statement, if it is of this status. Where this is asked of each member that
/// an index leads to, SQLite looks it up; a list of all members of the status it would make first.
/// PostgreSQL may go along both, so both begin after the same member.
fn of_status<C: IntoColumnRef>(
    tenant: &TenantId,
    status: MemberStatus,
    after: Option<&MemberId>,
    outer: C,
) -> SelectStatement {
    member::Entity::find()
        .select_only()
        .column(member::Column::Id)
        .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(Expr::col((member::Entity, member::Column::Id)).equals(outer))
        .filter(member::COLUMN.status.eq(status_name(status)))
        .apply_if(after, |query, id| query.filter(member::COLUMN.id.gt(id.as_str())))
        .into_query()
}

/// The same, if it is in this team.
fn in_team<C: IntoColumnRef>(
    tenant: &TenantId,
    team: &TeamId,
    after: Option<&MemberId>,
    outer: C,
) -> SelectStatement {
    belonging(tenant, team, after)
        .filter(Expr::col((member_team::Entity, member_team::Column::MemberId)).equals(outer))
        .into_query()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::candidates::tests::plan;

    #[tokio::test]
    async fn what_members_hold_is_looked_up_for_each() {
        let tenant = TenantId::trusted("t");
        for count in [1, 2, 100, CHUNK] {
            let row = |n| member::Model {
                tenant_id: "t".to_owned(),
                id: format!("m{n}"),
                status: ACTIVE.to_owned(),
                revision: 1,
                created_at: 1,
                updated_at: 1,
            };
            let rows: Vec<member::Model> = (0..count).map(row).collect();
            let roles = plan(roles_of(&tenant, &rows)).await;
            assert_eq!(roles, ["member_roles (tenant_id=? AND member_id=?)"], "of {count}");
            let teams = plan(teams_of(&tenant, &rows)).await;
            assert_eq!(teams, ["member_teams (tenant_id=? AND member_id=?)"], "of {count}");
        }
    }

    #[tokio::test]
    async fn a_page_goes_along_an_index_from_where_it_begins() {
        let tenant = TenantId::trusted("t");
        let (role, team) = (RoleId::trusted("r"), TeamId::trusted("q"));
        let after = MemberId::trusted("m");
        for (role, team, expected) in [
            (Some(&role), None, "member_roles (tenant_id=? AND role_id=? AND member_id>?)"),
            (None, Some(&team), "member_teams (tenant_id=? AND team_id=? AND member_id>?)"),
            (Some(&role), Some(&team), "member_roles (tenant_id=? AND role_id=? AND member_id>?)"),
            (None, None, "members (tenant_id=? AND id>?)"),
        ] {
            for status in [None, Some(MemberStatus::Active)] {
                let filter = MemberFilter { status, role: role.cloned(), team: team.cloned() };
                let plan = plan(page(&tenant, &filter, Some(&after), 9)).await;
                assert!(plan.iter().any(|step| step == expected), "{filter:?}: {plan:#?}");
                let whole = "(tenant_id=?)";
                assert!(!plan.iter().any(|step| step.ends_with(whole)), "{filter:?}: {plan:#?}");
            }
        }
    }
}
