//! Where a server that starts can expect its first questions.

use sea_orm::{
    ConnectionTrait as _, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Statement,
};

use super::StoreError;
use super::entity::member;
use super::read::ReadTx;
use super::rows::{ACTIVE, stored};
use crate::domain::ids::{MemberId, TenantId};

/// Counts first, in one pass, and asks each tenant for its state afterwards.
const LARGEST: &str = "\
SELECT tenant_id FROM \
 (SELECT tenant_id, count(*) AS members FROM members WHERE status = $1 GROUP BY tenant_id) sizes \
WHERE (SELECT t.state FROM tenants t WHERE t.id = tenant_id) = $1 \
ORDER BY members DESC, tenant_id LIMIT $2";

impl ReadTx {
    /// The tenants in use with the most active members, the largest first. Counts all members of the
    /// database.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn busiest_tenants(&self, limit: u64) -> Result<Vec<TenantId>, StoreError> {
        let values = [ACTIVE.into(), stored(limit).into()];
        let backend = self.tx.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, LARGEST, values);
        let rows = self.tx.query_all_raw(statement).await?;
        rows.iter()
            .map(|row| Ok(TenantId::trusted(&row.try_get::<String>("", "tenant_id")?)))
            .collect()
    }

    /// The ids of active members in their order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn active_members(
        &self,
        tenant: &TenantId,
        after: Option<&MemberId>,
        limit: u64,
    ) -> Result<Vec<MemberId>, StoreError> {
        let ids: Vec<String> = member::Entity::find()
            .select_only()
            .column(member::Column::Id)
            .filter(member::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(member::COLUMN.status.eq(ACTIVE))
            .apply_if(after, |query, id| query.filter(member::COLUMN.id.gt(id.as_str())))
            .order_by_asc(member::COLUMN.id)
            .limit(limit)
            .into_tuple()
            .all(&self.tx)
            .await?;
        Ok(ids.iter().map(|id| MemberId::trusted(id)).collect())
    }
}
