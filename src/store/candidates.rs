//! Finding those who can be allowed something, a page at a time.

use sea_orm::sea_query::{Alias, Query, SelectStatement, UnionType};
use sea_orm::{ConnectionTrait as _, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use super::StoreError;
use super::entity::{member_role, role};
use super::members::{MemberFilter, belonging, holders};
use super::read::{CHUNK, ReadTx};
use crate::domain::candidates::Candidates;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::Member;
use crate::domain::role::CustomRole;

/// The most roles and teams whose members are looked for one by one: each is a part of a statement
/// that looks into an index once. Where more roles grant something, most members are taken to hold
/// one of them.
const MAX_SOURCES: usize = 100;

impl ReadTx {
    /// The custom roles whose grants name the permission: all that grant it, and perhaps some where
    /// that grant gives nothing. `None`: too many to go by.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn roles_naming(
        &self,
        tenant: &TenantId,
        permission: &str,
    ) -> Result<Option<Vec<CustomRole>>, StoreError> {
        // Grants are JSON, in which nothing in the id of a permission is written another way. That `_`
        // stands for any character finds more, not less.
        let rows = role::Entity::find()
            .filter(role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(role::COLUMN.grants.contains(format!("\"{permission}\"")))
            .limit(MAX_SOURCES as u64 + 1)
            .all(&self.tx)
            .await?;
        if rows.len() > MAX_SOURCES {
            return Ok(None);
        }
        rows.into_iter().map(CustomRole::try_from).collect::<Result<_, _>>().map(Some)
    }

    /// The next candidates in the order of their ids, archived ones too; fewer than `limit`: there are
    /// no more. What it takes goes with `limit` and the number of roles and teams to look at, not with
    /// the number of their members.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn candidates(
        &self,
        tenant: &TenantId,
        candidates: &Candidates,
        after: Option<&MemberId>,
        limit: u64,
    ) -> Result<Vec<Member>, StoreError> {
        let Candidates::Among { roles, teams, members } = candidates else {
            return self.members(tenant, &MemberFilter::default(), after, limit).await;
        };
        if roles.len() + teams.len() > MAX_SOURCES || members.len() > CHUNK {
            return self.members(tenant, &MemberFilter::default(), after, limit).await;
        }
        // Of those who are named it is not known yet whether they exist.
        let named = members.iter().filter(|id| after.is_none_or(|after| *id > after)).cloned();
        let named = self.existing_members(tenant, &named.collect()).await?;
        let mut ids: Vec<String> = named.iter().map(MemberId::to_string).collect();
        if let Some(first) = first(tenant, (roles, teams), after, limit) {
            let statement = self.tx.get_database_backend().build(&first);
            for row in self.tx.query_all_raw(statement).await? {
                ids.push(row.try_get("", "member_id")?);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        self.members_in_order(tenant, &ids).await
    }
}

/// The statement for the first ids of those who hold one of the roles or are in one of the teams.
/// `None`: there are no such.
fn first(
    tenant: &TenantId,
    (roles, teams): (&[RoleId], &[TeamId]),
    after: Option<&MemberId>,
    limit: u64,
) -> Option<SelectStatement> {
    let of_role = |role| holders(tenant, role, after).limit(limit).into_query();
    let of_team = |team| belonging(tenant, team, after).limit(limit).into_query();
    let sources = roles.iter().map(of_role).chain(teams.iter().map(of_team));
    first_of(sources.collect(), limit)
}

/// The first ids of all sources, each of which gives its own first ones.
fn first_of(sources: Vec<SelectStatement>, limit: u64) -> Option<SelectStatement> {
    // Each within a statement of its own: SQLite takes no limit on a part of a union.
    let bounded = |source| {
        let mut all = Query::select();
        all.column(member_role::Column::MemberId).from_subquery(source, Alias::new("source")).take()
    };
    let mut sources = sources.into_iter().map(bounded);
    let mut all = sources.next()?;
    for source in sources {
        all.union(UnionType::All, source);
    }
    let mut first = Query::select();
    first
        .distinct()
        .column(member_role::Column::MemberId)
        .from_subquery(all, Alias::new("sources"))
        .order_by(member_role::Column::MemberId, sea_orm::Order::Asc)
        .limit(limit);
    Some(first)
}

#[cfg(test)]
pub(super) mod tests {
    use sea_orm::{DbBackend, Select, Statement};

    use super::*;
    use crate::store::{OpenOptions, SqlStore};

    /// How SQLite goes about a statement: what it looks up, and by what of an index.
    pub(in crate::store) async fn plan<E: EntityTrait>(select: Select<E>) -> Vec<String> {
        plan_of(select.build(DbBackend::Sqlite)).await
    }

    /// The same of any statement.
    async fn plan_of(Statement { sql, values, .. }: Statement) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("rolegate.db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let explain = Statement { sql: explain, values, db_backend: DbBackend::Sqlite };
        let steps = store.inner.readers.query_all_raw(explain).await.unwrap();
        let steps = steps.iter().map(|step| step.try_get::<String>("", "detail").unwrap());
        let steps = steps.filter_map(|step| {
            let (table, by) = step.strip_prefix("SEARCH ")?.split_once(" USING ")?;
            Some(format!("{table} {}", by.get(by.find('(')?..)?))
        });
        let steps = steps.collect();
        store.close().await;
        steps
    }

    #[tokio::test]
    async fn each_source_is_looked_at_from_where_the_page_begins() {
        let (roles, teams) = (["r", "s"].map(RoleId::trusted), ["q"].map(TeamId::trusted));
        let after = MemberId::trusted("l");
        let first = first(&TenantId::trusted("t"), (&roles, &teams), Some(&after), 9).unwrap();
        assert_eq!(
            plan_of(DbBackend::Sqlite.build(&first)).await,
            [
                "member_roles (tenant_id=? AND role_id=? AND member_id>?)",
                "member_roles (tenant_id=? AND role_id=? AND member_id>?)",
                "member_teams (tenant_id=? AND team_id=? AND member_id>?)",
            ]
        );
    }
}
