//! What opening a database has to do with chains: which key they go on with, and chaining events
//! that are older than chains.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::append::Chain;
use super::code::{GENESIS, to_hex};
use super::key::{AuditKey, AuditKeyChoice, AuditKeys};
use super::read::{record, subjects_of};
use super::record::Checkpoint;
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;
use crate::store::audit::append;
use crate::store::bounded::Preparation;
use crate::store::entity::{audit, audit_head, meta, tenant};
use crate::store::rows::count;
use crate::store::{AuditEntry, OpenError, StoreError};

/// How many events are chained at a time: each can be large.
const AT_ONCE: u64 = 100;

/// By how much the revision of each tenant grows when a backup is restored: more than any tenant has
/// changed since the backup. Etags are revisions, and an etag of what was lost must not fit what is
/// written instead.
pub(in crate::store) const REVISIONS_LOST: i64 = 1_000_000;

/// The event that says so in each trail.
pub(super) const RESTORED: &str = "audit/restore";

fn custom(error: &StoreError) -> DbErr {
    DbErr::Custom(format!("chaining the audit trail: {error}"))
}

/// Finds the keys of a database, and enters a new one as the one that goes on.
pub(in crate::store) async fn register(
    tx: &Preparation,
    choice: &AuditKeyChoice,
    failed: &(dyn Fn(DbErr) -> OpenError + Sync),
) -> Result<AuditKeys, OpenError> {
    // Locked: whoever enters another key at the same time comes before or after.
    let row = meta::Entity::find_by_id(meta::AUDIT_KEY_IDS).lock_exclusive().one(tx).await;
    let row = row.map_err(failed)?.ok_or(OpenError::NoIdentity)?;
    let database = database_key(tx).await.map_err(failed)?.ok_or(OpenError::NoIdentity)?;
    let mut known: Vec<String> = row.value.split_whitespace().map(str::to_owned).collect();
    let newest = known.last().cloned();
    let own = match choice {
        AuditKeyChoice::None => None,
        AuditKeyChoice::Given(key) | AuditKeyChoice::Successor { key, .. } => {
            if newest.as_deref() != Some(key.id()) {
                if known.iter().any(|id| id == key.id()) {
                    return Err(OpenError::AuditKeyReplaced(newest.unwrap_or_default()));
                }
                may_follow(tx, choice, key, newest.as_deref(), &database, failed).await?;
            }
            Some(key.clone())
        }
        AuditKeyChoice::Database => match newest.as_deref() {
            Some(newest) if newest != database.id() => {
                return Err(OpenError::AuditKeyWanted(newest.to_owned()));
            }
            _ => Some(database.clone()),
        },
    };
    if let Some(key) = &own
        && newest.as_deref() != Some(key.id())
    {
        known.push(key.id().to_owned());
        let mut row = row.into_active_model();
        row.value = Set(known.join(" "));
        row.update(tx).await.map_err(failed)?;
        tracing::info!(key = key.id(), "audit events are chained with this key from now on");
    }
    Ok(AuditKeys { own, database, known })
}

/// Whether a key that this database has never had may become the current one.
///
/// By itself it does where nothing is chained yet. Otherwise a file that was named by mistake, or one
/// that a replica has and the others do not, would shut all others out for good; so the current key
/// is replaced by `rolegate audit rotate` alone, which takes that key to do it.
async fn may_follow(
    tx: &Preparation,
    choice: &AuditKeyChoice,
    key: &AuditKey,
    newest: Option<&str>,
    database: &AuditKey,
    failed: &(dyn Fn(DbErr) -> OpenError + Sync),
) -> Result<(), OpenError> {
    // A database that nobody has written to yet may have been opened without the file before.
    let current = match newest.filter(|newest| *newest != database.id()) {
        Some(newest) => Some(newest.to_owned()),
        None => {
            let other = audit_head::COLUMN.key_id.ne(key.id());
            let chained = audit_head::Entity::find().filter(other).limit(1).one(tx).await;
            chained.map_err(failed)?.map(|head| newest.map_or(head.key_id, str::to_owned))
        }
    };
    let Some(current) = current else { return Ok(()) };
    let by_database = current == database.id();
    match choice {
        AuditKeyChoice::Successor { of: None, .. } => Ok(()),
        AuditKeyChoice::Successor { of: Some(of), of_database, .. } => {
            if of.contains(&current) || (*of_database && by_database) {
                return Ok(());
            }
            Err(OpenError::AuditKeyUnproven { current, by_database })
        }
        _ => Err(OpenError::AuditKeyUnknown { given: key.id().to_owned(), current, by_database }),
    }
}

async fn database_key(tx: &Preparation) -> Result<Option<AuditKey>, DbErr> {
    let row = meta::Entity::find_by_id(meta::AUDIT_KEY).one(tx).await?;
    let key = row.and_then(|row| super::code::from_hex(&row.value));
    Ok(key.as_ref().map(AuditKey::new))
}

/// Makes the events that were there before there were chains the beginning of one, in the order in
/// which they were recorded. What was done to them before that, nobody can tell.
pub(in crate::store) async fn adopt(
    tx: &Preparation,
    choice: &AuditKeyChoice,
) -> Result<(), DbErr> {
    let key = match choice {
        AuditKeyChoice::Given(key) | AuditKeyChoice::Successor { key, .. } => Some(key.clone()),
        AuditKeyChoice::Database | AuditKeyChoice::None => database_key(tx).await?,
    };
    let key = key.ok_or_else(|| DbErr::Custom("the audit key is missing".to_owned()))?;
    let tenants = audit::Entity::find()
        .select_only()
        .column(audit::Column::TenantId)
        .distinct()
        .into_tuple::<String>()
        .all(tx)
        .await?;
    for id in &tenants {
        adopt_trail(tx, &key, &TenantId::trusted(id)).await?;
    }
    // A tenant whose whole trail was deleted for its age has a chain, too.
    for tenant in tenant::Entity::find().all(tx).await? {
        if tenants.contains(&tenant.id) {
            continue;
        }
        let id = TenantId::trusted(&tenant.id);
        let empty = Chain::at(&key, &id, 0, GENESIS);
        empty.save(tx).await.map_err(|error| custom(&error))?;
        let checkpoint = Checkpoint {
            tenant: tenant.id,
            number: 0,
            link: to_hex(&GENESIS),
            link_key_id: key.id().to_owned(),
            revision: tenant.revision,
            at: Timestamp::now().0,
            deleted: 0,
            pending: "[]".to_owned(),
            key_id: String::new(),
            mac: String::new(),
        };
        checkpoint.sign(&key).save(tx).await.map_err(|error| custom(&error))?;
    }
    Ok(())
}

/// Says in the trail of each tenant that a backup was restored, at the revision that it has since.
pub(in crate::store) async fn announce_restore(
    tx: &Preparation,
    keys: &AuditKeys,
) -> Result<(), DbErr> {
    let tenants: Vec<(String, i64)> = tenant::Entity::find()
        .select_only()
        .columns([tenant::Column::Id, tenant::Column::Revision])
        .into_tuple()
        .all(tx)
        .await?;
    for (id, revision) in tenants {
        let tenant = TenantId::trusted(&id);
        if audit_head::Entity::find_by_id(id).one(tx).await?.is_none() {
            tracing::warn!(%tenant, "the audit trail has no head. `rolegate audit verify` says more");
            continue;
        }
        let announce = async {
            let revision = count(revision, "tenants.revision", tenant.as_str())?;
            let mut chain = Chain::load(tx, keys, &tenant, true).await?;
            let entry = own_entry("rolegate migrate", RESTORED);
            append(&mut chain, tx, &tenant, revision, entry, None).await?;
            chain.save(tx).await
        };
        announce.await.map_err(|error: StoreError| custom(&error))?;
    }
    Ok(())
}

/// An entry for what happened to a trail itself.
pub(super) fn own_entry(caller: &str, method: &str) -> AuditEntry {
    AuditEntry {
        at: Timestamp::now(),
        caller: caller.to_owned(),
        actor: None,
        method: method.to_owned(),
        request_id: None,
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
    }
}

async fn adopt_trail(tx: &Preparation, key: &AuditKey, tenant: &TenantId) -> Result<(), DbErr> {
    let mut chain = Chain::at(key, tenant, 0, GENESIS);
    loop {
        let rows = audit::Entity::find()
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::Column::Number.is_null())
            .order_by_asc(audit::COLUMN.seq)
            .limit(AT_ONCE)
            .all(tx)
            .await?;
        if rows.is_empty() {
            return chain.save(tx).await.map_err(|error| custom(&error));
        }
        let mut subjects = subjects_of(tx, &rows).await?;
        for row in rows {
            let seq = row.seq;
            let told = subjects.remove(&seq).unwrap_or_default();
            let event = chain.seal(record(row, told));
            let row = audit::ActiveModel {
                seq: sea_orm::ActiveValue::Unchanged(seq),
                number: Set(Some(event.number)),
                key_id: Set(Some(event.key_id)),
                link: Set(Some(event.link)),
                salt: Set(Some(event.salt)),
                covered: Set(Some(event.covered)),
                ..Default::default()
            };
            audit::Entity::update(row).exec_without_returning(tx).await?;
        }
    }
}
