//! Reading members.

use std::collections::{BTreeSet, HashMap};

use sea_orm::sea_query::{Expr, ExprTrait as _, IntoColumnRef};
use sea_orm::{EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};

use super::StoreError;
use super::entity::{member, member_role, member_team};
use super::listed::{By, asked_for_each, rows_of};
use super::read::{CHUNK, ReadTx};
use super::rows::{self, status_name};
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
        let ids: Vec<&str> = ids.iter().map(MemberId::as_str).collect();
        let mut members = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            let rows = rows_of(&self.tx, MEMBERS_BY_ID, tenant, ids).await?;
            self.complete(tenant, &rows, &mut members).await?;
        }
        Ok(members)
    }

    /// Those of the members that exist, in the order of their ids.
    pub(super) async fn members_in_order(
        &self,
        tenant: &TenantId,
        ids: &[String],
    ) -> Result<Vec<Member>, StoreError> {
        let mut members = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            let mut rows = rows_of(&self.tx, MEMBERS_BY_ID, tenant, ids).await?;
            rows.sort_unstable_by(|one, two| one.id.cmp(&two.id));
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
        let ids: Vec<&str> = ids.iter().map(MemberId::as_str).collect();
        let mut existing = BTreeSet::new();
        for ids in ids.chunks(CHUNK) {
            let found = rows_of(&self.tx, MEMBERS_BY_ID, tenant, ids).await?;
            existing.extend(found.iter().map(|row| MemberId::trusted(&row.id)));
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
        let MemberFilter { status, role, team } = filter;
        let ids: Vec<String> = match (role, team) {
            (Some(role), _) => {
                let holders = holders_who(tenant, role, filter, after);
                holders.limit(limit).into_tuple().all(&self.tx).await?
            }
            (None, Some(team)) => {
                let belonging = belonging_who(tenant, team, filter, after);
                belonging.limit(limit).into_tuple().all(&self.tx).await?
            }
            (None, None) => {
                let rows = everybody(tenant, *status, after).limit(limit).all(&self.tx).await?;
                return self.completed(tenant, &rows).await;
            }
        };
        self.members_in_order(tenant, &ids).await
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
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let mut roles: HashMap<String, Vec<(i64, RoleId)>> = HashMap::new();
        for holding in rows_of(&self.tx, ROLES_BY_MEMBER, tenant, &ids).await? {
            let role = (holding.position, RoleId::trusted(&holding.role_id));
            roles.entry(holding.member_id).or_default().push(role);
        }
        let mut teams: HashMap<String, Vec<TeamId>> = HashMap::new();
        for membership in rows_of(&self.tx, TEAMS_BY_MEMBER, tenant, &ids).await? {
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

pub(super) const MEMBERS_BY_ID: By<member::Entity> =
    By { tenant: member::Column::TenantId, key: member::Column::Id };
/// In no order: asked for one, SQLite may go through the whole tenant by an index that has it.
pub(super) const ROLES_BY_MEMBER: By<member_role::Entity> =
    By { tenant: member_role::Column::TenantId, key: member_role::Column::MemberId };
pub(super) const TEAMS_BY_MEMBER: By<member_team::Entity> =
    By { tenant: member_team::Column::TenantId, key: member_team::Column::MemberId };

/// Members in the order of their ids, after one of them.
fn everybody(
    tenant: &TenantId,
    status: Option<MemberStatus>,
    after: Option<&MemberId>,
) -> Select<member::Entity> {
    member::Entity::find()
        .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
        .apply_if(after, |query, id| query.filter(member::COLUMN.id.gt(id.as_str())))
        .apply_if(status, |query, status| {
            query.filter(member::COLUMN.status.eq(status_name(status)))
        })
        .order_by_asc(member::COLUMN.id)
}

/// The ids of those who hold a role and whom the filter wants.
fn holders_who(
    tenant: &TenantId,
    role: &RoleId,
    filter: &MemberFilter,
    after: Option<&MemberId>,
) -> Select<member_role::Entity> {
    let holder = (member_role::Entity, member_role::Column::MemberId);
    holders(tenant, role, after)
        .apply_if(filter.status, |query, status| query.filter(has_status(tenant, status, holder)))
        .apply_if(filter.team.as_ref(), |query, team| query.filter(is_in(tenant, team, holder)))
}

/// The ids of those who are in a team and whom the filter wants, whatever roles they hold.
fn belonging_who(
    tenant: &TenantId,
    team: &TeamId,
    filter: &MemberFilter,
    after: Option<&MemberId>,
) -> Select<member_team::Entity> {
    let one = (member_team::Entity, member_team::Column::MemberId);
    belonging(tenant, team, after)
        .apply_if(filter.status, |query, status| query.filter(has_status(tenant, status, one)))
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

/// Whether the member of a row is of this status.
fn has_status<C: IntoColumnRef>(tenant: &TenantId, status: MemberStatus, row: C) -> Expr {
    let question = member::Entity::find()
        .select_only()
        .column(member::Column::Status)
        .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(Expr::col((member::Entity, member::Column::Id)).equals(row));
    asked_for_each(question.into_query()).eq(status_name(status))
}

/// Whether the member of a row is in this team.
fn is_in<C: IntoColumnRef>(tenant: &TenantId, team: &TeamId, row: C) -> Expr {
    let question = member_team::Entity::find()
        .select_only()
        .column(member_team::Column::TeamId)
        .filter(member_team::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(member_team::COLUMN.team_id.eq(team.as_str()))
        .filter(Expr::col((member_team::Entity, member_team::Column::MemberId)).equals(row));
    asked_for_each(question.into_query()).eq(team.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::listed::listed;
    use super::*;
    use crate::store::candidates::tests::plan;

    #[tokio::test]
    async fn what_members_hold_is_looked_up_for_each() {
        let tenant = TenantId::trusted("t");
        for count in [1, 2, 100, CHUNK] {
            let ids: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
            let roles = plan(listed(ROLES_BY_MEMBER, &tenant, &ids)).await;
            assert_eq!(roles, ["member_roles (tenant_id=? AND member_id=?)"], "of {count}");
            let teams = plan(listed(TEAMS_BY_MEMBER, &tenant, &ids)).await;
            assert_eq!(teams, ["member_teams (tenant_id=? AND member_id=?)"], "of {count}");
            let members = plan(listed(MEMBERS_BY_ID, &tenant, &ids)).await;
            assert_eq!(members, ["members (tenant_id=? AND id=?)"], "of {count}");
        }
    }

    #[tokio::test]
    async fn a_page_goes_along_an_index_from_where_it_begins() {
        let tenant = TenantId::trusted("t");
        let (role, team) = (RoleId::trusted("r"), TeamId::trusted("q"));
        let after = MemberId::trusted("m");
        for status in [None, Some(MemberStatus::Active)] {
            let everybody = plan(everybody(&tenant, status, Some(&after)).limit(9)).await;
            assert_eq!(everybody, ["members (tenant_id=? AND id>?)"]);
            let filter = MemberFilter { status, role: None, team: None };
            let belonging = belonging_who(&tenant, &team, &filter, Some(&after)).limit(9);
            let of_status = "members (tenant_id=? AND id=?)";
            let of_status = status.map(|_| of_status.to_owned());
            let mut steps =
                vec!["member_teams (tenant_id=? AND team_id=? AND member_id>?)".to_owned()];
            steps.extend(of_status.clone());
            assert_eq!(plan(belonging).await, steps);
            for team in [None, Some(&team)] {
                let filter = MemberFilter { status, role: None, team: team.cloned() };
                let holders = holders_who(&tenant, &role, &filter, Some(&after)).limit(9);
                let mut steps =
                    vec!["member_roles (tenant_id=? AND role_id=? AND member_id>?)".to_owned()];
                steps.extend(of_status.clone());
                let in_team = "member_teams (tenant_id=? AND team_id=? AND member_id=?)";
                let in_team_by_key = "member_teams (tenant_id=? AND member_id=? AND team_id=?)";
                let found = plan(holders).await;
                let (first, probes) = found.split_at(steps.len());
                assert_eq!(first, steps);
                assert_eq!(probes.len(), usize::from(team.is_some()), "{found:?}");
                assert!(probes.iter().all(|probe| [in_team, in_team_by_key].contains(&&**probe)));
            }
        }
    }
}
