//! Bringing a schema up to date, or finding out whether this program can work with it as it is.

use migrations::{Migrator, MigratorTrait};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, IntoActiveModel};

use crate::store::OpenError;
use crate::store::bounded::Preparation;
use crate::store::chain::{self, AuditKeys};
use crate::store::entity::{change, meta, tenant};

use super::OpenOptions;

/// The migration after which what is in the audit trail has to be chained.
const AUDIT_CHAIN: &str = "m0002_audit_chain";

/// Applies what is missing, all in this transaction, which keeps everybody else from doing the
/// same: a migration that fails leaves nothing.
///
/// A schema that is newer than this program is fine as long as it says that programs as old as this
/// one can still read it: while a new version is rolled out, both run.
pub(super) async fn update(
    tx: Preparation,
    options: &OpenOptions,
    failed: &(dyn Fn(DbErr) -> OpenError + Sync),
) -> Result<AuditKeys, OpenError> {
    let applied = migrations::applied(tx.inner()).await.map_err(failed)?;
    let known: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
    let ours = known.len();
    let unknown: Vec<_> = applied.iter().filter(|name| !known.contains(name)).cloned().collect();
    let pending: Vec<_> = known.into_iter().filter(|name| !applied.contains(name)).collect();
    if !unknown.is_empty() {
        let readable = pending.is_empty()
            && oldest_reader(&tx).await.map_err(failed)?.is_some_and(|oldest| oldest <= ours);
        if !readable {
            return Err(OpenError::NewerSchema(unknown));
        }
        tracing::warn!(
            unknown = unknown.join(", "),
            "the schema is newer than this program, which can still work with it"
        );
    } else if !pending.is_empty() && !options.migrate {
        return Err(OpenError::OlderSchema(pending));
    } else if !pending.is_empty() {
        Migrator::up(tx.inner(), None).await.map_err(failed)?;
        if pending.iter().any(|name| name == AUDIT_CHAIN) {
            chain::adopt(&tx, &options.audit_key).await.map_err(failed)?;
        }
    }
    if options.after_restore {
        new_epoch(&tx).await.map_err(failed)?;
    }
    let keys = chain::register(&tx, &options.audit_key, failed).await?;
    if options.after_restore {
        chain::announce_restore(&tx, &keys).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)?;
    Ok(keys)
}

/// What was after the backup is gone, so what anybody derived from it is void. The changes in the
/// backup are numbered by the server that it was taken from: nobody may go on from them.
async fn new_epoch(tx: &Preparation) -> Result<(), DbErr> {
    change::Entity::delete_many().exec(tx.inner()).await?;
    let revision = Expr::col(tenant::Column::Revision).add(chain::REVISIONS_LOST);
    tenant::Entity::update_many()
        .col_expr(tenant::Column::Revision, revision)
        .exec(tx.inner())
        .await?;
    let epoch = value(tx, meta::EPOCH).await?;
    let epoch = epoch.and_then(|epoch| epoch.parse::<u64>().ok());
    let Some(epoch) = epoch.and_then(|epoch| epoch.checked_add(1)) else {
        return Err(DbErr::Custom("the epoch in its meta table is not a number".to_owned()));
    };
    for (key, value) in [(meta::EPOCH, epoch.to_string()), (meta::TRIMMED, "0:0".to_owned())] {
        let row = meta::Model { key: key.to_owned(), value: String::new() }.into_active_model();
        let row = meta::ActiveModel { value: Set(value), ..row };
        meta::Entity::update(row).exec_without_returning(tx).await?;
    }
    Ok(())
}

async fn value(tx: &Preparation, key: &str) -> Result<Option<String>, DbErr> {
    Ok(meta::Entity::find_by_id(key).one(tx).await?.map(|row| row.value))
}

/// The number of the schema that a program must know to work with this one.
async fn oldest_reader(tx: &Preparation) -> Result<Option<usize>, DbErr> {
    Ok(value(tx, meta::OLDEST_READER).await?.and_then(|number| number.parse().ok()))
}
