//! `rolegate migrate`.

use clap::Args;
use rolegate::store::{AuditKeyChoice, OpenOptions, SqlStore};

use super::Failure;
use super::database::DatabaseArgs;

/// What `migrate` wants to know.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The database was restored from a backup: also start a new epoch, and print its number.
    ///
    /// Replicas drop what they hold, and tokens from before are refused: they may speak of what came
    /// after the backup and is gone. Do this before the first replica uses the restored database.
    #[arg(long)]
    after_restore: bool,
}

/// Opening with `migrate` set is all it takes, however many do so at once.
pub(super) async fn migrate(args: MigrateArgs) -> Result<(), Failure> {
    let after_restore = args.after_restore;
    let mut options = OpenOptions { migrate: true, after_restore, ..args.database.options()? };
    // That a backup was restored is an event of every audit trail.
    if options.audit_key == AuditKeyChoice::Database && !after_restore {
        // The servers say which key they go on with.
        options.audit_key = AuditKeyChoice::None;
    }
    let store = SqlStore::open(&options).await?;
    let identity = store.identity().clone();
    store.close().await;
    tracing::info!(
        database = %identity.database_id,
        epoch = identity.epoch,
        "the schema is up to date"
    );
    if after_restore {
        super::catalog::print(&format!("epoch {}\n", identity.epoch))?;
    }
    Ok(())
}
