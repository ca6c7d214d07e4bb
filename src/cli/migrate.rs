//! `rolegate migrate`.

use clap::Args;
use rolegate::store::{OpenOptions, SqlStore};

use super::Failure;
use super::serve::DatabaseArgs;

/// What `migrate` wants to know.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Opening with `migrate` set is all it takes.
pub(super) async fn migrate(args: MigrateArgs) -> Result<(), Failure> {
    let options = OpenOptions { migrate: true, ..OpenOptions::new(args.database.database_url) };
    let store = SqlStore::open(&options).await?;
    tracing::info!(database = %store.identity().database_id, "the schema is up to date");
    store.close().await;
    Ok(())
}
