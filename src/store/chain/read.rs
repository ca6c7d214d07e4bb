//! Reading trails with what proves them.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement,
};

use super::code::{self, to_hex};
use super::finding::Verified;
use super::key::{AuditKey, Keyring};
use super::record::{Checkpoint, Head, Record, SignedHead};
use super::verify::Verifier;
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;
use crate::store::entity::{audit, audit_checkpoint, audit_head, audit_subject, tenant};
use crate::store::read::{CHUNK, ReadTx};
use crate::store::{SqlStore, StoreError};

/// How many events are read at a time: each can be large.
pub(super) const AT_ONCE: u64 = 64;

/// What there is of a trail besides its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailState {
    /// Where it begins, if older events were deleted.
    pub checkpoint: Option<Checkpoint>,
    /// Where it ends.
    pub head: Option<Head>,
    /// The tenant's revision; `None` if there is no such tenant.
    pub revision: Option<i64>,
    /// Events that have no place in the chain.
    pub unchained: u64,
}

impl SqlStore {
    /// All tenants of which there is any trace, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trail_tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        #[derive(FromQueryResult)]
        struct Found {
            id: String,
        }
        let sql = "SELECT id FROM tenants UNION SELECT tenant_id FROM audit_heads UNION \
                   SELECT tenant_id FROM audit_checkpoints UNION SELECT tenant_id FROM audit \
                   ORDER BY 1";
        let readers = &self.inner.readers;
        let all = Statement::from_string(readers.get_database_backend(), sql);
        let found = Found::find_by_statement(all).all(readers).await?;
        Ok(found.iter().map(|row| TenantId::trusted(&row.id)).collect())
    }

    /// Verifies a trail, as it is at one moment, in pieces.
    ///
    /// # Errors
    /// [`StoreError`]; what is wrong with the trail is no error.
    pub async fn verify_audit(
        &self,
        tenant: &TenantId,
        keys: &Keyring,
        exported: &[SignedHead],
    ) -> Result<Verified, StoreError> {
        self.read().await?.verify_trail(tenant, keys, exported).await
    }

    /// The key that was made with the database.
    #[must_use]
    pub fn database_audit_key(&self) -> &AuditKey {
        &self.inner.audit_keys.database
    }

    /// Signs the end of a chain.
    #[must_use]
    pub fn sign_head(&self, tenant: &TenantId, head: &Head, key: &AuditKey) -> SignedHead {
        let mut signed = SignedHead {
            database: self.identity().database_id.to_string(),
            tenant: tenant.to_string(),
            number: head.number,
            link: head.link.clone(),
            at: Timestamp::now().0,
            key_id: key.id().to_owned(),
            mac: String::new(),
        };
        signed.mac = to_hex(&code::head(key, &signed));
        signed
    }
}

impl ReadTx {
    /// Verifies a trail.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(super) async fn verify_trail(
        &self,
        tenant: &TenantId,
        keys: &Keyring,
        exported: &[SignedHead],
    ) -> Result<Verified, StoreError> {
        let trail = self.trail(tenant).await?;
        let mut verifier =
            Verifier::new(keys, tenant.as_str(), trail.checkpoint.as_ref(), exported);
        let mut after = None;
        loop {
            let events = self.trail_records(tenant, after, AT_ONCE).await?;
            let Some(last) = events.last() else { break };
            after = Some(last.number);
            for event in &events {
                verifier.event(event);
            }
        }
        if let Some(head) = &trail.head {
            verifier.head_key(head);
        }
        Ok(verifier.finish(trail.head.as_ref(), trail.revision, trail.unchained))
    }

    /// What there is of a trail besides its events.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trail(&self, tenant: &TenantId) -> Result<TrailState, StoreError> {
        let id = tenant.as_str();
        let checkpoint = audit_checkpoint::Entity::find_by_id(id).one(&self.tx).await?;
        let head = audit_head::Entity::find_by_id(id).one(&self.tx).await?;
        let tenant = tenant::Entity::find_by_id(id).one(&self.tx).await?;
        let unchained = audit::Entity::find()
            .filter(audit::COLUMN.tenant_id.eq(id))
            .filter(audit::Column::Number.is_null())
            .count(&self.tx)
            .await?;
        Ok(TrailState {
            checkpoint: checkpoint.map(Checkpoint::from),
            head: head.map(|audit_head::Model { tenant_id: _, number, key_id, link }| Head {
                number,
                key_id,
                link,
            }),
            revision: tenant.map(|tenant| tenant.revision),
            unchained,
        })
    }

    /// Events of a trail in order, after the one with this number.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn trail_records(
        &self,
        tenant: &TenantId,
        after: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Record>, StoreError> {
        let mut query = audit::Entity::find()
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::Column::Number.is_not_null());
        if let Some(after) = after {
            query = query.filter(audit::Column::Number.gt(after));
        }
        let rows = query.order_by_asc(audit::COLUMN.number).limit(limit).all(&self.tx).await?;
        let mut subjects = subjects_of(&self.tx, &rows).await?;
        let told = |row: audit::Model| {
            let told = subjects.remove(&row.seq).unwrap_or_default();
            record(row, told)
        };
        Ok(rows.into_iter().map(told).collect())
    }
}

/// What an event is about: kind and id.
pub(in crate::store) type Told = Vec<(String, String)>;

/// What events are about, by their rows.
pub(in crate::store) async fn subjects_of(
    connection: &impl ConnectionTrait,
    rows: &[audit::Model],
) -> Result<HashMap<i64, Told>, DbErr> {
    let tenants: HashMap<i64, &str> =
        rows.iter().map(|row| (row.seq, row.tenant_id.as_str())).collect();
    let mut subjects: HashMap<i64, Told> = HashMap::new();
    for rows in rows.chunks(CHUNK) {
        let found = audit_subject::Entity::find()
            .filter(audit_subject::COLUMN.audit_seq.is_in(rows.iter().map(|row| row.seq)))
            .all(connection)
            .await?;
        for subject in found {
            // Filters look for the subject's own tenant, so it counts as well.
            let elsewhere = tenants.get(&subject.audit_seq) != Some(&subject.tenant_id.as_str());
            let kind =
                if elsewhere { format!("{} of another", subject.kind) } else { subject.kind };
            subjects.entry(subject.audit_seq).or_default().push((kind, subject.subject_id));
        }
    }
    for told in subjects.values_mut() {
        told.sort_unstable();
    }
    Ok(subjects)
}

/// A row and what it is about.
pub(in crate::store) fn record(row: audit::Model, subjects: Told) -> Record {
    let audit::Model {
        seq: _,
        tenant_id: tenant,
        revision,
        at,
        caller,
        actor,
        method,
        request_id,
        before,
        after,
        refusal,
        number,
        key_id,
        link,
        salt,
        covered,
        digests,
        rewrites,
        erased,
    } = row;
    Record {
        tenant,
        number: number.unwrap_or_default(),
        revision,
        at,
        caller,
        actor,
        method,
        request_id,
        before,
        after,
        refusal,
        subjects,
        key_id: key_id.unwrap_or_default(),
        link: link.unwrap_or_default(),
        salt: salt.unwrap_or_default(),
        covered: covered.unwrap_or_default(),
        digests,
        rewrites,
        erased,
    }
}
