//! Letting chains go on with a new key.

use sea_orm::EntityTrait;

use super::append::{Chain, end_key};
use super::code::from_hex;
use super::key::Keyring;
use super::open::own_entry;
use crate::domain::ids::TenantId;
use crate::store::audit::append;
use crate::store::entity::audit_head;
use crate::store::rows::corrupt;
use crate::store::{SqlStore, StoreError};

/// What became of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// It goes on with the current key.
    Done,
    /// It did so already, or there is none.
    Unneeded,
    /// It is not what was recorded, or a key is missing that would tell: it was left alone.
    Broken,
}

impl SqlStore {
    /// Verifies a chain that ends with an older key, from its beginning to its end, and adds an event
    /// to it, so that the current key holds all of it; signs its checkpoint again.
    ///
    /// With `broken`, one that is broken goes on as well: what is wrong with it stays to be found,
    /// and its checkpoint stays what it is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn rotate_audit(
        &self,
        tenant: &TenantId,
        keys: &Keyring,
        broken: bool,
    ) -> Result<Rotated, StoreError> {
        let tx = self.write(tenant).await?;
        let own = self.inner.audit_keys.own()?;
        let Some(head) = audit_head::Entity::find_by_id(tenant.as_str()).one(&tx.tx).await? else {
            return Ok(Rotated::Unneeded);
        };
        let verified = tx.verify_trail(tenant, keys, &[]).await?;
        if verified.is_sound() {
            return Ok(Rotated::Unneeded);
        }
        let sound = verified.findings.iter().all(|finding| finding.problem == "old_key");
        if !sound && !broken {
            return Ok(Rotated::Broken);
        }
        let ends_with = end_key(&tx.tx, tenant, head.number).await?;
        if !sound && ends_with.as_deref().unwrap_or(&head.key_id) == own.id() {
            return Ok(Rotated::Unneeded);
        }
        if sound && let Some(checkpoint) = tx.checkpoint().await? {
            checkpoint.sign(own).save(&tx.tx).await?;
        }
        let revision = tx.tenant().map_or(0, |tenant| tenant.revision);
        let entry = own_entry("rolegate", "audit/rotate");
        let link = from_hex(&head.link);
        let link = link.ok_or_else(|| corrupt("audit_heads.link", tenant.as_str()))?;
        let mut chain = Chain::at(own, tenant, head.number, link);
        append(&mut chain, &tx.tx, tenant, revision, entry, None).await?;
        chain.save(&tx.tx).await?;
        tx.commit_unchanged().await?;
        Ok(Rotated::Done)
    }
}
