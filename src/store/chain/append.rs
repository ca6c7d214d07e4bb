//! Adding events to a chain.

use std::collections::BTreeMap;

use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::code::{self, Code, Digests, FIELDS, GENESIS, Rewrite, Running, from_hex, to_hex};
use super::key::{AuditKey, AuditKeys, Keyring};
use super::record::Record;
use crate::domain::ids::TenantId;
use crate::store::StoreError;
use crate::store::entity::{audit, audit_checkpoint, audit_head};
use crate::store::rows::{corrupt, from_json, to_json};

impl AuditKeys {
    /// What new links are made with.
    pub(super) fn own(&self) -> Result<&AuditKey, StoreError> {
        let none = || StoreError::Internal("opened without a key for the audit trail".to_owned());
        self.own.as_ref().ok_or_else(none)
    }

    /// What this program can verify with by itself: the own key, and the database's as an older one.
    pub(in crate::store) fn ring(&self) -> Result<Keyring, StoreError> {
        let own = self.own()?.clone();
        let older = (own != self.database).then(|| self.database.clone());
        Ok(Keyring::new(own, older))
    }
}

/// The chain of one tenant, whose writers wait for each other. Ends where the transaction has got to.
#[derive(Debug)]
pub(in crate::store) struct Chain<'k> {
    key: &'k AuditKey,
    tenant: String,
    pub(super) number: i64,
    pub(super) link: Code,
    /// What the next event erased from others.
    erased: Option<String>,
}

impl<'k> Chain<'k> {
    /// The chain of a tenant; the transaction must have locked the tenant. One that `exists` must
    /// have a chain.
    pub(in crate::store) async fn load(
        connection: &impl ConnectionTrait,
        keys: &'k AuditKeys,
        tenant: &TenantId,
        exists: bool,
    ) -> Result<Self, StoreError> {
        let key = keys.own()?;
        let head = audit_head::Entity::find_by_id(tenant.as_str())
            .lock_exclusive()
            .one(connection)
            .await?;
        let Some(head) = head else {
            if exists {
                return Err(corrupt("audit_heads", tenant.as_str()));
            }
            return Ok(Self::at(key, tenant, 0, GENESIS));
        };
        // What the head says of the key, anybody could have written; an event that says it without
        // being made with it is found out.
        let ends_with = end_key(connection, tenant, head.number).await?.unwrap_or(head.key_id);
        if ends_with != key.id() {
            return Err(StoreError::AuditKeyMismatch(if keys.known.contains(&ends_with) {
                format!(
                    "the audit trail of {tenant} ends under the older key {ends_with}. Whoever \
                     knows that key could have written its end, so the tenant cannot be changed \
                     before `rolegate audit rotate` has verified it, with both keys"
                )
            } else {
                format!(
                    "the audit trail of {tenant} goes on under the key {ends_with}, which is newer \
                     than this program's: start it again with that key"
                )
            }));
        }
        let number = head.number;
        let link = from_hex(&head.link);
        let link = link.ok_or_else(|| corrupt("audit_heads.link", tenant.as_str()))?;
        Ok(Self::at(key, tenant, number, link))
    }

    pub(super) fn at(key: &'k AuditKey, tenant: &TenantId, number: i64, link: Code) -> Self {
        Chain { key, tenant: tenant.to_string(), number, link, erased: None }
    }

    /// How many events there have been.
    pub(in crate::store) fn number(&self) -> i64 {
        self.number
    }

    /// Lets the next event say what was erased with it.
    pub(in crate::store) fn erases(&mut self, erasures: &Erasures) {
        if !erasures.0.is_empty() {
            let mut running = Running::new(self.number + 1);
            for (number, mac) in &erasures.0 {
                running.add(*number, mac);
            }
            self.erased = Some(running.total());
        }
    }

    /// Makes an event the next of the chain.
    pub(in crate::store) fn seal(&mut self, event: Record) -> Record {
        let (salt, text) = salt();
        let covered = Digests::of(&event, &salt);
        let event = Record {
            tenant: self.tenant.clone(),
            number: self.number + 1,
            key_id: self.key.id().to_owned(),
            salt: text,
            covered: covered.write(),
            digests: None,
            rewrites: None,
            erased: self.erased.take(),
            ..event
        };
        self.number = event.number;
        self.link = code::link(self.key, &self.link, &event, &covered);
        Record { link: to_hex(&self.link), ..event }
    }

    /// Keeps where the chain ends now.
    pub(in crate::store) async fn save(
        &self,
        connection: &impl ConnectionTrait,
    ) -> Result<(), StoreError> {
        use audit_head::{ActiveModel, Column, Entity, Model};
        let row = Model {
            tenant_id: self.tenant.clone(),
            number: self.number,
            key_id: self.key.id().to_owned(),
            link: to_hex(&self.link),
        };
        let change = OnConflict::column(Column::TenantId)
            .update_columns([Column::Number, Column::KeyId, Column::Link])
            .to_owned();
        Entity::insert(ActiveModel::from(row))
            .on_conflict(change)
            .exec_without_returning(connection)
            .await?;
        Ok(())
    }
}

/// The key of the event that a chain ends with, or of the checkpoint if that event was deleted.
pub(super) async fn end_key(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    number: i64,
) -> Result<Option<String>, StoreError> {
    let event = audit::Entity::find()
        .select_only()
        .column(audit::Column::KeyId)
        .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(audit::Column::Number.eq(number))
        .into_tuple::<Option<String>>()
        .one(connection)
        .await?;
    if let Some(key) = event {
        return Ok(key);
    }
    let checkpoint = audit_checkpoint::Entity::find_by_id(tenant.as_str()).one(connection).await?;
    Ok(checkpoint.map(|checkpoint| checkpoint.key_id))
}

/// 122 random bits, and the same as text.
fn salt() -> ([u8; 16], String) {
    let salt = Uuid::new_v4().into_bytes();
    (salt, to_hex(&salt))
}

/// What a transaction has erased so far: the code of each event that it rewrote, by the event's
/// number. The next event of the chain is the one that says so.
#[derive(Debug, Default)]
pub(in crate::store) struct Erasures(BTreeMap<i64, String>);

impl Erasures {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Proves the new values of an event, under a new salt. Where the `old` values were not those
    /// that the chain vouches for, the new ones are not vouched for, either: the digest stays what
    /// it was, which the new value does not have, so whoever verifies still finds the edit.
    pub(in crate::store) fn rewrite(
        &mut self,
        chain: &Chain<'_>,
        old: &Record,
        event: Record,
    ) -> Result<Record, StoreError> {
        const COLUMN: &str = "audit.rewrites";
        let (by, number) = (chain.number + 1, event.number);
        let mut rewrites: Vec<Rewrite> = match &event.rewrites {
            Some(rewrites) => from_json(rewrites, COLUMN, &number.to_string())?,
            None => Vec::new(),
        };
        let current = event.digests.as_ref().unwrap_or(&event.covered).clone();
        let vouched = Digests::read(&current);
        let vouched = vouched.ok_or_else(|| corrupt("audit.digests", &number.to_string()))?;
        let found = from_hex(&old.salt).map(|salt| Digests::of(old, &salt));
        let (salt, text) = salt();
        let mut digests = Digests::of(&event, &salt);
        let kept = digests.0.iter_mut().zip(&vouched.0).enumerate();
        for (field, (digest, vouched)) in kept {
            let found = found.as_ref().and_then(|found| found.0.get(field));
            if found != Some(vouched) {
                *digest = *vouched;
            }
        }
        if found.as_ref() != Some(&vouched) {
            let fields = found.map_or_else(|| FIELDS.to_vec(), |found| found.differing(&vouched));
            tracing::warn!(
                tenant = chain.tenant,
                number,
                fields = fields.join(", "),
                "an audit event was edited before a member was erased from it. The edit stays to be \
                 found by `rolegate audit verify`"
            );
        }
        // The same transaction can have rewritten it before. Anything else that says so was made up.
        let again = rewrites.last().is_some_and(|last| self.0.get(&number) == Some(&last.mac));
        let before = match rewrites.pop_if(|_| again) {
            Some(first) => first.before,
            None => current,
        };
        let after = digests.write();
        let mac = to_hex(&code::rewrite(chain.key, &event.tenant, number, by, &before, &after));
        let key_id = chain.key.id().to_owned();
        rewrites.push(Rewrite { by, key_id, before, mac: mac.clone() });
        self.0.insert(number, mac);
        Ok(Record {
            salt: text,
            digests: Some(after),
            rewrites: Some(to_json(&rewrites, COLUMN)?),
            ..event
        })
    }
}
