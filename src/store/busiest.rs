//! Where a server that starts can expect its first questions.

use sea_orm::{EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::StoreError;
use super::entity::{member, tenant};
use super::read::ReadTx;
use super::rows::ACTIVE;
use crate::domain::ids::{MemberId, TenantId};

impl ReadTx {
    /// The tenants in use with the most active members, the largest first. Counts all members of the
    /// database.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn busiest_tenants(&self, limit: u64) -> Result<Vec<TenantId>, StoreError> {
        let in_use = tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .filter(tenant::COLUMN.state.eq(ACTIVE))
            .into_query();
        let tenants: Vec<String> = member::Entity::find()
            .select_only()
            .column(member::Column::TenantId)
            .filter(member::COLUMN.status.eq(ACTIVE))
            .filter(member::COLUMN.tenant_id.in_subquery(in_use))
            .group_by(member::Column::TenantId)
            .order_by_desc(member::COLUMN.id.count())
            .order_by_asc(member::COLUMN.tenant_id)
            .limit(limit)
            .into_tuple()
            .all(&self.tx)
            .await?;
        Ok(tenants.iter().map(|id| TenantId::trusted(id)).collect())
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
