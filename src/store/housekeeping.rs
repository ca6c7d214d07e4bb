//! What has to be done from time to time.

use sea_orm::{EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::entity::{audit, change, idempotency, tenant};
use super::rows::DELETED;
use super::{SqlStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;

impl SqlStore {
    /// The deleted tenants whose data is due to be purged.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn purgeable(&self, now: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let ids: Vec<String> = tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .filter(tenant::COLUMN.state.eq(DELETED))
            .filter(tenant::COLUMN.purge_at.lte(now.0))
            .order_by_asc(tenant::COLUMN.purge_at)
            .into_tuple()
            .all(&self.inner.readers)
            .await?;
        Ok(ids.iter().map(|id| TenantId::trusted(id)).collect())
    }

    /// Forgets the answers that have expired, and says how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_expired_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let expired =
            idempotency::Entity::delete_many().filter(idempotency::COLUMN.expires_at.lte(now.0));
        Ok(expired.exec(&self.inner.writers).await?.rows_affected)
    }

    /// Deletes the changes that were made before this time, and says how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trim_changes(&self, before: Timestamp) -> Result<u64, StoreError> {
        let old = change::Entity::delete_many().filter(change::COLUMN.created_at.lt(before.0));
        Ok(old.exec(&self.inner.writers).await?.rows_affected)
    }

    /// Deletes the audit events from before this time, and says how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trim_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let old = audit::Entity::delete_many().filter(audit::COLUMN.at.lt(before.0));
        Ok(old.exec(&self.inner.writers).await?.rows_affected)
    }
}
