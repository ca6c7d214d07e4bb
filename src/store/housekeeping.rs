//! What has to be done from time to time.

use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    Statement,
};

use super::entity::{change, idempotency, meta, tenant};
use super::open::sqlite::LOCK_TIMEOUT;
use super::read::CHUNK;
use super::rows::{DELETED, corrupt, count, stored};
use super::{ChangePosition, Keyring, SqlStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;

/// The next tenants whose oldest event is from before a time. Asks each trail for that event: of the
/// old ones there may be millions, when a retention is set for the first time.
const OLD_TRAILS: &str = "\
SELECT h.tenant_id FROM audit_heads h WHERE h.tenant_id > $2 AND \
 (SELECT a.at FROM audit a WHERE a.tenant_id = h.tenant_id AND a.number IS NOT NULL \
  ORDER BY a.number LIMIT 1) < $1 \
ORDER BY h.tenant_id LIMIT $3";

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
        use idempotency::{COLUMN, Column, Entity};
        let mut forgotten = 0;
        loop {
            let oldest = Entity::find().filter(COLUMN.expires_at.lte(now.0));
            let Some(end) = self.end_of_chunk(oldest, Column::ExpiresAt).await? else {
                return Ok(forgotten);
            };
            let chunk = Entity::delete_many().filter(COLUMN.expires_at.lte(end));
            forgotten += chunk.exec(&self.inner.writers).await?.rows_affected;
        }
    }

    /// Deletes the changes that were made before this time, and says how many. What went is
    /// written down with it, so that whoever had not seen it finds out.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trim_changes(&self, before: Timestamp) -> Result<u64, StoreError> {
        use change::{COLUMN, Column, Entity};
        let mut trimmed = 0;
        loop {
            let tx = self.begin_write().await?;
            // Locked first: replicas do this one after the other.
            let mark = meta::Entity::find_by_id(meta::TRIMMED).lock_exclusive().one(&tx).await?;
            let mark = mark.and_then(|row| row.value.parse::<ChangePosition>().ok());
            let mark = mark.ok_or_else(|| corrupt("meta.value", meta::TRIMMED))?;
            let old: Vec<(i64, i64)> = Entity::find()
                .select_only()
                .columns([Column::Tx, Column::Seq])
                .filter(COLUMN.created_at.lt(before.0))
                .order_by_asc(COLUMN.created_at)
                .limit(CHUNK as u64)
                .into_tuple()
                .all(&tx)
                .await?;
            let mut newest = mark;
            for (tx, seq) in &old {
                let key = seq.to_string();
                let (tx, seq) =
                    (count(*tx, "changes.tx", &key)?, count(*seq, "changes.seq", &key)?);
                newest = newest.max(ChangePosition { tx, seq });
            }
            let chunk =
                Entity::delete_many().filter(COLUMN.seq.is_in(old.iter().map(|(_, seq)| *seq)));
            let deleted = chunk.exec(&tx).await?.rows_affected;
            let row = meta::ActiveModel {
                key: Unchanged(meta::TRIMMED.to_owned()),
                value: Set(newest.to_string()),
            };
            if newest > mark {
                meta::Entity::update(row).exec_without_returning(&tx).await?;
            }
            tx.commit().await?;
            trimmed += deleted;
            if old.len() < CHUNK {
                return Ok(trimmed);
            }
        }
    }

    /// SQLite: moves what is in the write-ahead log into the file, and gives the room of the log
    /// back. Waits for nobody: what somebody still reads there stays for the next time. PostgreSQL
    /// does that by itself.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let writers = &self.inner.writers;
        if writers.get_database_backend() != DbBackend::Sqlite {
            return Ok(());
        }
        // Waiting for readers here, all who write would wait as well.
        let done = "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)";
        let done = writers.execute_unprepared(done).await;
        let limit = LOCK_TIMEOUT.as_millis();
        writers.execute_unprepared(&format!("PRAGMA busy_timeout = {limit}")).await?;
        done?;
        Ok(())
    }

    /// Deletes the audit events from before this time, and says how many. Of each trail the oldest
    /// go, up to the first that stays; a checkpoint says where it begins then. What goes must be
    /// sound, as far as the current key and the database's can tell; else the trail stays.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trim_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let keys = self.inner.audit_keys.ring()?;
        self.trim_audit_with(&keys, before).await
    }

    /// The same with all keys that there were, of which the current one must be the store's.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trim_audit_with(
        &self,
        ring: &Keyring,
        before: Timestamp,
    ) -> Result<u64, StoreError> {
        let (mut trimmed, mut last) = (0, String::new());
        loop {
            let readers = &self.inner.readers;
            let backend = readers.get_database_backend();
            let values = [before.0.into(), last.as_str().into(), stored(CHUNK as u64).into()];
            let old = Statement::from_sql_and_values(backend, OLD_TRAILS, values);
            let rows = readers.query_all_raw(old).await?;
            for row in &rows {
                last = row.try_get("", "tenant_id")?;
                trimmed += self.trim_trail(&TenantId::trusted(&last), ring, before).await?;
            }
            if rows.len() < CHUNK {
                return Ok(trimmed);
            }
        }
    }

    async fn trim_trail(
        &self,
        tenant: &TenantId,
        ring: &Keyring,
        before: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut trimmed = 0;
        loop {
            // A turn for each piece: those who change the tenant need not wait long.
            let tx = self.write(tenant).await?;
            let keys = &self.inner.audit_keys;
            let deleted = tx.trim_audit(keys, ring, before, Timestamp::now()).await?;
            tx.commit_unchanged().await?;
            trimmed += deleted;
            if deleted < CHUNK as u64 {
                return Ok(trimmed);
            }
        }
    }

    /// Up to which time to delete so that it is about [`CHUNK`] rows: writers take turns, so none
    /// may take long. `None` when there is nothing.
    async fn end_of_chunk<E: EntityTrait>(
        &self,
        rows: Select<E>,
        time: E::Column,
    ) -> Result<Option<i64>, StoreError> {
        let times: Vec<i64> = rows
            .select_only()
            .column(time)
            .order_by_asc(time)
            .limit(CHUNK as u64)
            .into_tuple()
            .all(&self.inner.readers)
            .await?;
        Ok(times.last().copied())
    }
}
