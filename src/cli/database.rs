//! Which database, and how patient to be with it: the same for every command that needs one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rolegate::files;
use rolegate::store::{AuditKey, AuditKeyChoice, OpenOptions};

use super::Failure;

const URL: &str = "ROLEGATE_DATABASE_URL";
/// How long one attempt to reach a server may take at the start.
const ONE_ATTEMPT: Duration = Duration::from_secs(5);
const PASSWORD: &str = "ROLEGATE_DATABASE_PASSWORD";

/// Which database.
#[derive(Debug, Args)]
#[command(next_help_heading = "Database")]
pub(super) struct DatabaseArgs {
    /// The database: `sqlite:FILE` or `postgres://USER@HOST/DATABASE`.
    ///
    /// A SQLite file is made if it is missing. PostgreSQL (14 or newer) needs `rolegate migrate`
    /// before the first start and after an upgrade; its password comes from
    /// ROLEGATE_DATABASE_PASSWORD or --database-password-file. Add `?sslmode=verify-full` to have
    /// the server prove who it is, and `&sslrootcert=FILE` if the system does not know its
    /// authority. [env: ROLEGATE_DATABASE_URL] [default: sqlite:rolegate.db]
    //
    // Clap shows what is in the environment, where this may hold a password, so it does not read it.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A file with PostgreSQL's password, read again every second, so that another one counts for
    /// connections made from then on. A line break at its end does not count.
    #[arg(long, env = "ROLEGATE_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    database_password_file: Option<PathBuf>,
    /// How many connections to use: on PostgreSQL half to read and half to write, and up to three
    /// more to follow what other replicas do; on SQLite all to read, and one more to write.
    #[arg(long, env = "ROLEGATE_DATABASE_CONNECTIONS", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1024))]
    database_connections: u32,
    /// How long to wait for a free connection, in milliseconds.
    #[arg(long, env = "ROLEGATE_DATABASE_ACQUIRE_TIMEOUT_MS", value_name = "MS", default_value_t = 5000, value_parser = milliseconds())]
    database_acquire_timeout_ms: u64,
    /// PostgreSQL: how long to wait at the start for a server that is not there yet, or has no
    /// connection left, in milliseconds. Later it counts as waiting for a connection.
    #[arg(long, env = "ROLEGATE_DATABASE_CONNECT_TIMEOUT_MS", value_name = "MS", default_value_t = 60_000, value_parser = milliseconds())]
    database_connect_timeout_ms: u64,
    /// PostgreSQL: how long one statement may take, in milliseconds.
    #[arg(long, env = "ROLEGATE_DATABASE_STATEMENT_TIMEOUT_MS", value_name = "MS", default_value_t = 10_000, value_parser = milliseconds())]
    database_statement_timeout_ms: u64,
    /// PostgreSQL: how long a write waits for another write of the same tenant, in milliseconds.
    #[arg(long, env = "ROLEGATE_DATABASE_LOCK_TIMEOUT_MS", value_name = "MS", default_value_t = 5000, value_parser = milliseconds())]
    database_lock_timeout_ms: u64,
    /// PostgreSQL: how long a transaction may do nothing before the server ends it, in milliseconds.
    #[arg(long, env = "ROLEGATE_DATABASE_IDLE_TRANSACTION_TIMEOUT_MS", value_name = "MS", default_value_t = 10_000, value_parser = milliseconds())]
    database_idle_transaction_timeout_ms: u64,
    /// A file with the key that audit trails are chained with: at least 32 random bytes. A line break
    /// at its end does not count.
    ///
    /// `openssl rand -hex 32` makes one. Without it a key is used that is kept in the database, so
    /// whoever can read the database could make a trail that looks sound.
    #[arg(long, env = "ROLEGATE_AUDIT_KEY_FILE", value_name = "FILE")]
    audit_key_file: Option<PathBuf>,
}

fn milliseconds() -> clap::builder::RangedU64ValueParser {
    // Zero would mean "for ever" to the server.
    clap::value_parser!(u64).range(1..=600_000)
}

impl DatabaseArgs {
    /// What the audit trail is chained with.
    pub(super) fn audit_key(&self) -> Result<AuditKeyChoice, Failure> {
        let key = self.audit_key_file.as_deref().map(read_audit_key).transpose()?;
        Ok(key.map_or(AuditKeyChoice::Database, AuditKeyChoice::Given))
    }

    /// How to open it.
    ///
    /// # Errors
    /// When a password is where everybody on the machine can see it, or there are two of them.
    pub(super) fn options(self) -> Result<OpenOptions, Failure> {
        let audit_key = self.audit_key()?;
        let milliseconds = Duration::from_millis;
        let from_flag = self.database_url.is_some();
        let url = match self.database_url {
            Some(url) => url,
            None => environment(URL)?.unwrap_or_else(|| "sqlite:rolegate.db".to_owned()),
        };
        let (password_file, password) = (self.database_password_file, environment(PASSWORD)?);
        if password_file.is_some() && password.is_some() {
            return Err(format!(
                "there are two passwords, in {PASSWORD} and in --database-password-file: leave one \
                 of them out"
            )
            .into());
        }
        if let Some(file) = &password_file {
            std::fs::metadata(file).map_err(|error| {
                format!("the password file {} cannot be read: {error}", file.display())
            })?;
        }
        let wait = milliseconds(self.database_connect_timeout_ms);
        let options = OpenOptions {
            audit_key,
            password,
            password_file,
            connections: self.database_connections,
            acquire_timeout: milliseconds(self.database_acquire_timeout_ms),
            connect_timeout: wait.min(ONE_ATTEMPT),
            wait,
            statement_timeout: milliseconds(self.database_statement_timeout_ms),
            lock_timeout: milliseconds(self.database_lock_timeout_ms),
            idle_in_transaction_timeout: milliseconds(self.database_idle_transaction_timeout_ms),
            ..OpenOptions::new(url)
        };
        if from_flag {
            refuse_password_in_flag(&options)?;
        }
        if options.has_password_in_url()
            && (options.password.is_some() || options.password_file.is_some())
        {
            return Err(
                format!("there are two passwords, one of them in {URL}: take one out").into()
            );
        }
        Ok(options)
    }
}

/// The audit key in a file.
pub(super) fn read_audit_key(file: &Path) -> Result<AuditKey, Failure> {
    let content = files::read(file).map_err(|error| format!("the audit key file {error}"))?;
    AuditKey::from_file(&content)
        .map_err(|bad| format!("the audit key in {} is too short: {bad}", file.display()).into())
}

/// How to look at a database that a flag names, without changing it.
pub(super) fn to_look_at(url: &str) -> Result<OpenOptions, Failure> {
    let password = environment(PASSWORD)?;
    let audit_key = AuditKeyChoice::None;
    let options = OpenOptions { migrate: false, audit_key, password, ..OpenOptions::new(url) };
    refuse_password_in_flag(&options)?;
    Ok(options)
}

fn refuse_password_in_flag(options: &OpenOptions) -> Result<(), Failure> {
    if !options.has_password_in_url() {
        return Ok(());
    }
    Err(format!(
        "the URL in --database-url holds a password, which every user of this machine can read in \
         the list of processes: take it out and give it in {PASSWORD} or in a file that \
         --database-password-file names, or give the whole URL in {URL}. Choose a new password, \
         too: this one has been seen"
    )
    .into())
}

/// A variable that is set and not empty. What is in it is not for messages.
fn environment(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Some(value)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8").into()),
    }
}
