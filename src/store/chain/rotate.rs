//! Letting chains go on with a new key.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::key::Keyring;
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;
use crate::store::audit::append;
use crate::store::entity::{audit, audit_head};
use crate::store::{AuditEntry, SqlStore, StoreError};

/// What became of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// It goes on with the current key.
    Done,
    /// It did so already, or there is none.
    Unneeded,
    /// Its end is not what the head or the checkpoint says, or a key is missing that would tell: it
    /// was left alone.
    Broken,
}

impl SqlStore {
    /// Adds an event to a chain that ends with an older key, so that the current key holds all of it,
    /// and signs its checkpoint again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn rotate_audit(
        &self,
        tenant: &TenantId,
        keys: &Keyring,
    ) -> Result<Rotated, StoreError> {
        let tx = self.write(tenant).await?;
        let own = self.inner.audit_keys.own()?;
        let Some(head) = audit_head::Entity::find_by_id(tenant.as_str()).one(&tx.tx).await? else {
            return Ok(Rotated::Unneeded);
        };
        let checkpoint = tx.checkpoint().await?;
        let signed = checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.is_by(own));
        if head.key_id == own.id() && signed {
            return Ok(Rotated::Unneeded);
        }
        let last = audit::Entity::find()
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::Column::Number.is_not_null())
            .order_by_desc(audit::COLUMN.number)
            .one(&tx.tx)
            .await?;
        let end = match (&last, &checkpoint) {
            (Some(last), _) => (last.number.unwrap_or_default(), last.link.clone()),
            (None, Some(checkpoint)) => (checkpoint.number, Some(checkpoint.link.clone())),
            (None, None) => return Ok(Rotated::Broken),
        };
        if end != (head.number, Some(head.link)) {
            return Ok(Rotated::Broken);
        }
        if let Some(checkpoint) = checkpoint {
            // Signing what somebody made up would make it true.
            match keys.find(&checkpoint.key_id) {
                Some((_, key)) if checkpoint.is_by(key) => {
                    checkpoint.sign(own).save(&tx.tx).await?
                }
                _ => return Ok(Rotated::Broken),
            }
        }
        let revision = tx.tenant().map_or(0, |tenant| tenant.revision);
        let entry = AuditEntry {
            at: Timestamp::now(),
            caller: "rolegate".to_owned(),
            actor: None,
            method: "audit/rotate".to_owned(),
            request_id: None,
            roles: vec![],
            members: vec![],
            before: None,
            after: None,
        };
        let mut chain = tx.chain().await?;
        append(&mut chain, &tx.tx, tenant, revision, entry, None).await?;
        chain.save(&tx.tx).await?;
        tx.commit_unchanged().await?;
        Ok(Rotated::Done)
    }
}
