//! Deleting the oldest events of a chain, so that what is left can still be verified.

use std::collections::BTreeMap;

use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::code::{self, Rewrite, Running, from_hex, to_hex};
use super::key::{AuditKey, AuditKeys};
use super::record::Checkpoint;
use crate::domain::Timestamp;
use crate::store::StoreError;
use crate::store::entity::{audit, audit_checkpoint};
use crate::store::read::CHUNK;
use crate::store::rows::{from_json, stored, to_json};
use crate::store::write::WriteTx;

impl From<audit_checkpoint::Model> for Checkpoint {
    fn from(row: audit_checkpoint::Model) -> Self {
        let audit_checkpoint::Model {
            tenant_id: tenant,
            number,
            link,
            link_key_id,
            revision,
            at,
            deleted,
            pending,
            key_id,
            mac,
        } = row;
        Checkpoint {
            tenant,
            number,
            link,
            link_key_id,
            revision,
            at,
            deleted,
            pending,
            key_id,
            mac,
        }
    }
}

impl Checkpoint {
    /// Whether it was made with this key, as it is.
    pub(super) fn is_by(&self, key: &AuditKey) -> bool {
        self.key_id == key.id() && from_hex(&self.mac) == Some(code::checkpoint(key, self))
    }

    pub(super) fn sign(mut self, key: &AuditKey) -> Self {
        key.id().clone_into(&mut self.key_id);
        self.mac = to_hex(&code::checkpoint(key, &self));
        self
    }

    pub(super) async fn save(self, connection: &impl ConnectionTrait) -> Result<(), StoreError> {
        use audit_checkpoint::{ActiveModel, Column, Entity, Model};
        let row = Model {
            tenant_id: self.tenant,
            number: self.number,
            link: self.link,
            link_key_id: self.link_key_id,
            revision: self.revision,
            at: self.at,
            deleted: self.deleted,
            pending: self.pending,
            key_id: self.key_id,
            mac: self.mac,
        };
        let change = OnConflict::column(Column::TenantId)
            .update_columns([
                Column::Number,
                Column::Link,
                Column::LinkKeyId,
                Column::Revision,
                Column::At,
                Column::Deleted,
                Column::Pending,
                Column::KeyId,
                Column::Mac,
            ])
            .to_owned();
        Entity::insert(ActiveModel::from(row))
            .on_conflict(change)
            .exec_without_returning(connection)
            .await?;
        Ok(())
    }
}

/// What trimming goes by.
#[derive(Debug, sea_orm::FromQueryResult)]
struct Oldest {
    number: i64,
    at: i64,
    revision: i64,
    key_id: Option<String>,
    link: Option<String>,
    rewrites: Option<String>,
}

impl WriteTx {
    /// Deletes the oldest events, as long as they are from before this time and at most [`CHUNK`].
    /// Says how many; nothing else of the tenant changes. A trail that is not whole stays as it is:
    /// a checkpoint would cover up what happened to it.
    pub(in crate::store) async fn trim_audit(
        &self,
        keys: &AuditKeys,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (tenant, key) = (self.id(), keys.own()?);
        let earlier = self.checkpoint().await?;
        if earlier.as_ref().is_some_and(|earlier| !earlier.is_by(key)) {
            tracing::warn!(
                %tenant,
                "old audit events stay: the checkpoint of earlier ones is not by the current key. \
                 After a change of the key, run `rolegate audit rotate`; else `rolegate audit verify`"
            );
            return Ok(0);
        }
        let start = earlier.as_ref().map_or(0, |earlier| earlier.number);
        use audit::{COLUMN, Column};
        let oldest = audit::Entity::find()
            .select_only()
            .columns([
                Column::Number,
                Column::At,
                Column::Revision,
                Column::KeyId,
                Column::Link,
                Column::Rewrites,
            ])
            .filter(COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(Column::Number.is_not_null())
            .order_by_asc(COLUMN.number)
            .limit(CHUNK as u64)
            .into_model::<Oldest>()
            .all(&self.tx)
            .await?;
        let mut pending: BTreeMap<i64, Running> = BTreeMap::new();
        if let Some(earlier) = &earlier {
            let earlier: Vec<Running> =
                from_json(&earlier.pending, "audit_checkpoints.pending", tenant.as_str())?;
            pending.extend(earlier.into_iter().map(|running| (running.by, running)));
        }
        let (mut last, mut deleted) = (None, 0_i64);
        for event in oldest.into_iter().take_while(|event| event.at < before.0) {
            deleted += 1;
            if event.number != start + deleted {
                tracing::warn!(
                    %tenant,
                    number = start + deleted,
                    "old audit events stay: one of them is missing. `rolegate audit verify` says more"
                );
                return Ok(0);
            }
            if let Some(rewrites) = &event.rewrites {
                let key = event.number.to_string();
                let rewrites: Vec<Rewrite> = from_json(rewrites, "audit.rewrites", &key)?;
                for Rewrite { by, mac, .. } in rewrites {
                    let running = pending.entry(by).or_insert_with(|| Running::new(by));
                    running.add(event.number, &mac);
                }
            }
            last = Some(event);
        }
        let Some(last) = last else { return Ok(0) };
        pending.retain(|by, _| *by > last.number);
        let pending: Vec<Running> = pending.into_values().collect();
        let checkpoint = Checkpoint {
            tenant: tenant.to_string(),
            number: last.number,
            link: last.link.unwrap_or_default(),
            link_key_id: last.key_id.unwrap_or_default(),
            revision: last.revision,
            at: now.0,
            deleted: earlier.map_or(0, |earlier| earlier.deleted) + deleted,
            pending: to_json(&pending, "audit_checkpoints.pending")?,
            key_id: String::new(),
            mac: String::new(),
        };
        checkpoint.sign(key).save(&self.tx).await?;
        let trimmed = audit::Entity::delete_many()
            .filter(COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(Column::Number.lte(last.number))
            .exec(&self.tx)
            .await?;
        Ok(trimmed.rows_affected)
    }

    /// Deletes all events. What comes goes on from the last link.
    pub(in crate::store) async fn delete_audit(&self, keys: &AuditKeys) -> Result<(), StoreError> {
        let tenant = self.id();
        let key = keys.own()?;
        let chain = self.chain().await?;
        let all = audit::Entity::delete_many().filter(audit::COLUMN.tenant_id.eq(tenant.as_str()));
        all.exec(&self.tx).await?;
        let revision = self.tenant().map_or(0, |tenant| tenant.revision);
        let checkpoint = Checkpoint {
            tenant: tenant.to_string(),
            number: chain.number,
            link: to_hex(&chain.link),
            link_key_id: key.id().to_owned(),
            revision: stored(revision),
            at: Timestamp::now().0,
            deleted: chain.number,
            // Every erasure went with what it had rewritten.
            pending: "[]".to_owned(),
            key_id: String::new(),
            mac: String::new(),
        };
        checkpoint.sign(key).save(&self.tx).await
    }

    /// Where the chain begins, if not with the first event.
    pub(super) async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let row = audit_checkpoint::Entity::find_by_id(self.id().as_str()).one(&self.tx).await?;
        Ok(row.map(Checkpoint::from))
    }
}
