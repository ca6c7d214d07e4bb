//! Reading members.

use std::collections::{BTreeSet, HashMap, HashSet};

use sea_orm::{EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::entity::{member, member_role, member_team};
use super::read::{CHUNK, ReadTx};
use super::rows::{self, ACTIVE, count, status, status_name};
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::{Member, MemberStatus};

/// The most roles that are named in one statement: databases bound the values of one, and no tenant
/// is bound to fewer roles where its plan sets no limit.
const MAX_NAMED_ROLES: usize = 5_000;

/// Which members are wanted; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Of this status.
    pub status: Option<MemberStatus>,
    /// Holding at least one of these roles. An empty list is held by nobody.
    pub any_role: Option<Vec<RoleId>>,
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

    /// Members in the order of their ids.
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
        match &filter.any_role {
            Some(roles) if roles.len() > MAX_NAMED_ROLES => {
                let roles: HashSet<&RoleId> = roles.iter().collect();
                self.members_holding(tenant, filter, &roles, after, limit).await
            }
            _ => self.selected_members(tenant, filter, after, limit).await,
        }
    }

    /// Looks at everybody: so many roles do not fit into a statement, and most members hold one of
    /// them.
    async fn members_holding(
        &self,
        tenant: &TenantId,
        filter: &MemberFilter,
        roles: &HashSet<&RoleId>,
        after: Option<&MemberId>,
        limit: u64,
    ) -> Result<Vec<Member>, StoreError> {
        let everybody = MemberFilter { any_role: None, ..filter.clone() };
        let mut found = Vec::new();
        let mut last = after.cloned();
        loop {
            let rest = limit - found.len() as u64;
            let page = rest.min(CHUNK as u64);
            let members = self.selected_members(tenant, &everybody, last.as_ref(), page).await?;
            let complete = (members.len() as u64) < page;
            last = members.last().map(|member| member.id.clone()).or(last);
            let holds = |member: &Member| member.roles.iter().any(|role| roles.contains(role));
            found.extend(members.into_iter().filter(holds));
            if complete || found.len() as u64 >= limit {
                return Ok(found);
            }
        }
    }

    async fn selected_members(
        &self,
        tenant: &TenantId,
        filter: &MemberFilter,
        after: Option<&MemberId>,
        limit: u64,
    ) -> Result<Vec<Member>, StoreError> {
        let MemberFilter { status, any_role, team } = filter;
        let holding = |roles: &Vec<RoleId>| {
            member_role::Entity::find()
                .select_only()
                .column(member_role::Column::MemberId)
                .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
                .filter(member_role::COLUMN.role_id.is_in(roles.iter().map(RoleId::as_str)))
                .into_query()
        };
        let belonging = |team: &TeamId| {
            member_team::Entity::find()
                .select_only()
                .column(member_team::Column::MemberId)
                .filter(member_team::COLUMN.tenant_id.eq(tenant.as_str()))
                .filter(member_team::COLUMN.team_id.eq(team.as_str()))
                .into_query()
        };
        let rows = member::Entity::find()
            .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
            .apply_if(after, |query, id| query.filter(member::COLUMN.id.gt(id.as_str())))
            .apply_if(*status, |query, status| {
                query.filter(member::COLUMN.status.eq(status_name(status)))
            })
            .apply_if(any_role.as_ref(), |query, roles| {
                query.filter(member::COLUMN.id.in_subquery(holding(roles)))
            })
            .apply_if(team.as_ref(), |query, team| {
                query.filter(member::COLUMN.id.in_subquery(belonging(team)))
            })
            .order_by_asc(member::COLUMN.id)
            .limit(limit)
            .all(&self.tx)
            .await?;
        let mut members = Vec::with_capacity(rows.len());
        for rows in rows.chunks(CHUNK) {
            self.complete(tenant, rows, &mut members).await?;
        }
        Ok(members)
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
        let ids = || rows.iter().map(|row| row.id.as_str());
        let mut roles: HashMap<String, Vec<RoleId>> = HashMap::new();
        let holdings = member_role::Entity::find()
            .filter(member_role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_role::COLUMN.member_id.is_in(ids()))
            .order_by_asc(member_role::COLUMN.position)
            .all(&self.tx)
            .await?;
        for holding in holdings {
            roles.entry(holding.member_id).or_default().push(RoleId::trusted(&holding.role_id));
        }
        let mut teams: HashMap<String, Vec<TeamId>> = HashMap::new();
        let memberships = member_team::Entity::find()
            .filter(member_team::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member_team::COLUMN.member_id.is_in(ids()))
            .order_by_asc(member_team::COLUMN.team_id)
            .all(&self.tx)
            .await?;
        for membership in memberships {
            let of_member = teams.entry(membership.member_id).or_default();
            of_member.push(TeamId::trusted(&membership.team_id));
        }
        for row in rows {
            let roles = roles.remove(&row.id).unwrap_or_default();
            let teams = teams.remove(&row.id).unwrap_or_default();
            members.push(rows::member(row, roles, teams)?);
        }
        Ok(())
    }
}
