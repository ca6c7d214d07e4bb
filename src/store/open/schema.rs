//! Bringing a schema up to date, or finding out whether this program can work with it as it is.

use migrations::{Migrator, MigratorTrait};
use sea_orm::{DbErr, EntityTrait};

use crate::store::OpenError;
use crate::store::bounded::Transaction;
use crate::store::entity::meta;

/// Applies what is missing, all in this transaction, which keeps everybody else from doing the
/// same: a migration that fails leaves nothing.
///
/// A schema that is newer than this program is fine as long as it says that programs as old as this
/// one can still read it: while a new version is rolled out, both run.
pub(super) async fn update(
    tx: Transaction,
    migrate: bool,
    failed: &(dyn Fn(DbErr) -> OpenError + Sync),
) -> Result<(), OpenError> {
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
        return Ok(());
    }
    if pending.is_empty() {
        return Ok(());
    }
    if !migrate {
        return Err(OpenError::OlderSchema(pending));
    }
    Migrator::up(tx.inner(), None).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}

/// The number of the schema that a program must know to work with this one.
async fn oldest_reader(tx: &Transaction) -> Result<Option<usize>, DbErr> {
    let row = meta::Entity::find_by_id(meta::OLDEST_READER).one(tx).await?;
    Ok(row.and_then(|row| row.value.parse().ok()))
}
