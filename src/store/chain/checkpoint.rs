//! Deleting the oldest events of a chain, so that what is left can still be verified.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::code::{self, from_hex, to_hex};
use super::key::{AuditKey, AuditKeys, Keyring};
use super::read::AT_ONCE;
use super::record::Checkpoint;
use super::verify::Verifier;
use crate::domain::Timestamp;
use crate::domain::tenant::TenantState;
use crate::store::StoreError;
use crate::store::entity::{audit, audit_checkpoint};
use crate::store::read::CHUNK;
use crate::store::rows::{stored, to_json};
use crate::store::write::WriteTx;

/// The calls that delete a tenant and bring it back, as they are recorded.
const DELETION: &str = "TenantService/DeleteTenant";
const UNDELETION: &str = "TenantService/UndeleteTenant";

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

impl WriteTx {
    /// Deletes the oldest events, as long as they are from before this time and at most [`CHUNK`].
    /// Says how many; nothing else of the tenant changes. All that goes is verified first, and a
    /// trail in which anything is found stays as it is: a checkpoint would cover up what happened.
    pub(in crate::store) async fn trim_audit(
        &self,
        keys: &AuditKeys,
        ring: &Keyring,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (tenant, key) = (self.id(), keys.own()?);
        let stays = |found: &str| {
            tracing::warn!(%tenant, found, "old audit events stay. `rolegate audit verify` says more");
            Ok(0)
        };
        // One that goes on under an older key could be made up from its beginning to its end.
        if let Err(error) = self.chain().await {
            return stays(&error.to_string());
        }
        // Purging goes by the event that deleted the tenant.
        let awaits_purge = self.tenant().is_some_and(|tenant| tenant.state == TenantState::Deleted);
        let earlier = self.checkpoint().await?;
        let mut verifier = Verifier::new(ring, tenant.as_str(), earlier.as_ref(), &[]);
        let (mut last, mut deleted, mut after) = (None, 0_i64, None);
        'pieces: loop {
            let events = self.trail_records(tenant, after, AT_ONCE).await?;
            let Some(end) = events.last() else { break };
            after = Some(end.number);
            for event in events {
                // What says that it is old is believed once it is verified.
                if event.at >= before.0 || deleted >= stored(CHUNK as u64) {
                    break 'pieces;
                }
                if awaits_purge && event.method == DELETION && event.refusal.is_none() {
                    break 'pieces;
                }
                verifier.event(&event);
                deleted += 1;
                last = Some(event);
            }
            if verifier.first_finding().is_some() {
                break;
            }
        }
        let Some(last) = last else { return Ok(0) };
        let pending = match verifier.cut() {
            Ok(pending) => pending,
            Err(finding) => return stays(&finding.detail),
        };
        let checkpoint = Checkpoint {
            tenant: tenant.to_string(),
            number: last.number,
            link: last.link,
            link_key_id: last.key_id,
            revision: last.revision,
            at: now.0,
            deleted: earlier.map_or(0, |earlier| earlier.deleted) + deleted,
            pending: to_json(&pending, "audit_checkpoints.pending")?,
            key_id: String::new(),
            mac: String::new(),
        };
        checkpoint.sign(key).save(&self.tx).await?;
        let trimmed = audit::Entity::delete_many()
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::Column::Number.lte(last.number))
            .exec(&self.tx)
            .await?;
        Ok(trimmed.rows_affected)
    }

    /// Whether the trail proves that the tenant was deleted before this time, and that nothing
    /// brought it back: the last event about that is the deletion, and from it to the end all is as
    /// it was recorded. If not, says why in the log.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn was_deleted_before(&self, time: Timestamp) -> Result<bool, StoreError> {
        let tenant = self.id();
        let doubted = |why: &str| {
            tracing::warn!(
                %tenant,
                why,
                "the tenant is marked as deleted, but its audit trail does not prove it, so it is \
                 not purged. `rolegate audit verify` says more; `PurgeTenant` purges all the same"
            );
            Ok(false)
        };
        let deletion = audit::Entity::find()
            .select_only()
            .column(audit::Column::Number)
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::COLUMN.method.eq(DELETION))
            .filter(audit::Column::Refusal.is_null())
            .filter(audit::Column::Number.is_not_null())
            .order_by_desc(audit::COLUMN.number)
            .into_tuple::<i64>()
            .one(&self.tx)
            .await?;
        let Some(deletion) = deletion else { return doubted("no event deleted it") };
        let Some(before) = deletion.checked_sub(1) else { return doubted("no event deleted it") };
        let trail = self.trail(tenant).await?;
        // The code of the deletion proves the link that it follows, wherever that comes from.
        let previous = audit::Entity::find()
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::Column::Number.eq(before))
            .one(&self.tx)
            .await?;
        let previous = match (previous, &trail.checkpoint) {
            (Some(previous), _) => previous.link.as_deref().and_then(from_hex),
            (None, Some(checkpoint)) => from_hex(&checkpoint.link),
            (None, None) => None,
        };
        let Some(previous) = previous else { return doubted("the event before is missing") };
        let ring = self.audit_keys().ring()?;
        let mut verifier = Verifier::from(&ring, tenant.as_str(), before, previous);
        let mut after = before;
        loop {
            let events = self.trail_records(tenant, Some(after), AT_ONCE).await?;
            let Some(last) = events.last() else { break };
            after = last.number;
            for event in &events {
                verifier.event(event);
                let is_deletion = event.number == deletion;
                if is_deletion && event.at >= time.0 {
                    return doubted("it was deleted too lately");
                }
                if !is_deletion && event.refusal.is_none() && event.method == UNDELETION {
                    return doubted("it was brought back");
                }
            }
        }
        let verified = verifier.finish(trail.head.as_ref(), trail.revision, trail.unchained);
        match verified.findings.first() {
            Some(finding) => doubted(&finding.detail),
            None => Ok(true),
        }
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
