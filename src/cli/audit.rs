//! `rolegate audit`: whether audit trails are what was recorded, and taking them elsewhere.

mod export;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use rolegate::domain::Timestamp;
use rolegate::domain::ids::TenantId;
use rolegate::store::{AuditKey, AuditKeyChoice, Keyring, OpenOptions, Rotated, SqlStore};

use super::Failure;
use super::database::{DatabaseArgs, read_audit_key};

/// What can be done with audit trails.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Checks that the trails are what was recorded: finds events that were edited, deleted, put in
    /// or moved. Exit code 0: sound; 1: broken; 2: could not look.
    Verify(verify::VerifyArgs),
    /// Prints where each trail ends, signed, as JSON lines. Keep them where whoever can write the
    /// database cannot: only they tell a trail from one whose end was cut off.
    Head(ReadArgs),
    /// Prints a trail as JSON lines, oldest event first, with what proves it.
    Export(export::ExportArgs),
    /// After a change of the key: verifies every trail and lets it go on with the new one, which
    /// holds all that came before. Until then, tenants cannot be changed.
    Rotate(RotateArgs),
    /// Deletes old events, as `serve --audit-retention-days` does, also those under older keys,
    /// which a server cannot verify and therefore keeps.
    Trim(TrimArgs),
}

/// What is to be deleted for its age.
#[derive(Debug, Args)]
pub(super) struct TrimArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    older: OlderKeys,
    /// Events that are older go.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    older_than_days: u32,
}

/// Which trails are to go on with a new key.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    read: ReadArgs,
    /// Let trails go on that are broken, too: tenants whose trail ends under an older key cannot be
    /// changed. What is wrong with them stays to be found.
    #[arg(long)]
    even_broken: bool,
}

/// Which trails, and the keys to read them with.
#[derive(Debug, Args)]
pub(super) struct ReadArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    older: OlderKeys,
    /// Only this tenant's.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

/// Keys that were replaced.
#[derive(Debug, Args)]
pub(super) struct OlderKeys {
    /// A key that was in use before the current one; several times for several, the newest first.
    #[arg(long = "old-audit-key-file", value_name = "FILE")]
    files: Vec<std::path::PathBuf>,
    /// The trails began with the key that was made with the database, before there was a key file.
    #[arg(long)]
    began_with_database_key: bool,
}

impl OlderKeys {
    fn read_files(&self) -> Result<Vec<AuditKey>, Failure> {
        self.files.iter().map(|file| read_audit_key(file)).collect()
    }

    fn ring(&self, current: Option<AuditKey>, database: &AuditKey) -> Result<Keyring, Failure> {
        let mut older = self.read_files()?;
        if self.began_with_database_key {
            older.push(database.clone());
        }
        Ok(Keyring::new(current.unwrap_or_else(|| database.clone()), older))
    }
}

/// A database that is looked at, and the keys.
struct Opened {
    store: SqlStore,
    keys: Keyring,
}

/// What a database is opened for.
#[derive(Clone, Copy)]
enum Purpose {
    /// Looking at trails.
    Look,
    /// Writing to them, with the current key.
    Write,
    /// Making the given key the current one.
    Rotate {
        /// Whether the key before may be missing.
        even_broken: bool,
    },
}

async fn open(
    database: DatabaseArgs,
    older: &OlderKeys,
    purpose: Purpose,
) -> Result<Opened, Failure> {
    let mut options = OpenOptions { migrate: false, wait: Duration::ZERO, ..database.options()? };
    let given = match &options.audit_key {
        AuditKeyChoice::Given(key) => Some(key.clone()),
        _ => None,
    };
    match (purpose, &given) {
        (Purpose::Look, _) => options.audit_key = AuditKeyChoice::None,
        (Purpose::Rotate { even_broken }, Some(key)) => {
            let older_ids = older.read_files()?.iter().map(|key| key.id().to_owned()).collect();
            options.audit_key = AuditKeyChoice::Successor {
                key: key.clone(),
                of: (!even_broken).then_some(older_ids),
                of_database: older.began_with_database_key,
            };
        }
        (Purpose::Rotate { .. } | Purpose::Write, _) => {}
    }
    let store = SqlStore::open(&options).await?;
    let keys = older.ring(given, store.database_audit_key())?;
    Ok(Opened { store, keys })
}

/// Those that were asked for.
async fn tenants(store: &SqlStore, asked: Option<&String>) -> Result<Vec<TenantId>, Failure> {
    let all = store.trail_tenants().await?;
    let Some(asked) = asked else { return Ok(all) };
    let found: Vec<TenantId> = all.into_iter().filter(|tenant| tenant.as_str() == asked).collect();
    if found.is_empty() {
        return Err(format!("there is no trail of a tenant {asked}").into());
    }
    Ok(found)
}

/// Runs one of them.
pub(super) async fn run(command: AuditCommand) -> ExitCode {
    let ended = match command {
        AuditCommand::Verify(args) => verify::verify(args).await,
        AuditCommand::Head(args) => head(args).await,
        AuditCommand::Export(args) => export::export(args).await,
        AuditCommand::Rotate(args) => rotate(args).await,
        AuditCommand::Trim(args) => trim(args).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("rolegate: {error}");
        ExitCode::from(2)
    })
}

async fn head(args: ReadArgs) -> Result<ExitCode, Failure> {
    let Opened { store, keys } = open(args.database, &args.older, Purpose::Look).await?;
    let key = keys.current().ok_or("there is no key to sign with")?;
    for tenant in tenants(&store, args.tenant.as_ref()).await? {
        // One that is only in rows that somebody put in has none; `verify` says so.
        if let Some(head) = store.read().await?.trail(&tenant).await?.head {
            let signed = store.sign_head(&tenant, &head, key);
            super::catalog::print(&format!("{}\n", serde_json::to_string(&signed)?))?;
        }
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(args: RotateArgs) -> Result<ExitCode, Failure> {
    let RotateArgs { read: args, even_broken } = args;
    let purpose = Purpose::Rotate { even_broken };
    let Opened { store, keys } = open(args.database, &args.older, purpose).await?;
    let (mut rotated, mut broken) = (0, Vec::new());
    for tenant in tenants(&store, args.tenant.as_ref()).await? {
        match store.rotate_audit(&tenant, &keys, even_broken).await? {
            Rotated::Done => rotated += 1,
            Rotated::Unneeded => {}
            Rotated::Broken => broken.push(tenant.to_string()),
        }
    }
    store.close().await;
    super::catalog::print(&format!("{rotated} trails go on with the current key\n"))?;
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "rolegate: left alone, because they are not what was recorded or an older key was not \
         given: {}. `rolegate audit verify` says more",
        broken.join(", ")
    );
    Ok(ExitCode::FAILURE)
}

async fn trim(args: TrimArgs) -> Result<ExitCode, Failure> {
    let Opened { store, keys } = open(args.database, &args.older, Purpose::Write).await?;
    let kept = Duration::from_secs(u64::from(args.older_than_days) * 24 * 60 * 60);
    let trimmed = store.trim_audit_with(&keys, Timestamp::now().minus(kept)).await?;
    store.close().await;
    super::catalog::print(&format!("{trimmed} events were deleted\n"))?;
    Ok(ExitCode::SUCCESS)
}
