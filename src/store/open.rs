//! Opening a database: finding it, bringing its schema up to date, learning which one it is.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use migrations::{Migrator, MigratorTrait};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, DatabaseConnection, DbErr, EntityTrait, SqliteTransactionMode,
    SqlxSqliteConnector, TransactionOptions, TransactionTrait,
};
use uuid::Uuid;

use super::OpenError;
use super::entity::meta;

/// Which database to open, and how.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// `sqlite:///absolute/path` or `sqlite:relative/path`.
    pub url: String,
    /// Make the database if it is missing, and bring an older schema up to date. Otherwise both are
    /// refused.
    pub migrate: bool,
    /// How many may read at the same time.
    pub readers: u32,
    /// How long to wait for a connection, which for writers means: for their turn.
    pub acquire_timeout: Duration,
}

impl OpenOptions {
    /// The embedded default: made and migrated without being asked.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        OpenOptions {
            url: url.into(),
            migrate: true,
            readers: 8,
            acquire_timeout: Duration::from_secs(10),
        }
    }
}

/// Which database this is. Made with it, and shared by all who use it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// Its own id.
    pub database_id: Uuid,
    /// Grows when it is restored from a backup.
    pub epoch: u64,
    /// What page tokens are signed with.
    pub signing_key: [u8; 32],
}

impl std::fmt::Debug for DatabaseIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The signing key is a secret.
        f.debug_struct("DatabaseIdentity")
            .field("database_id", &self.database_id)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

pub(super) struct Opened {
    pub(super) readers: DatabaseConnection,
    pub(super) writer: DatabaseConnection,
    pub(super) identity: DatabaseIdentity,
}

pub(super) async fn open(options: &OpenOptions) -> Result<Opened, OpenError> {
    let file = file_of(&options.url)?;
    prepare(&file, options.migrate)?;
    let failed = |error: DbErr| OpenError::from_database(file.clone(), &error);

    // The writer comes first: only it may turn the write-ahead log on.
    let writer = connect(&file, options, Access::Write).await.map_err(failed)?;
    update_schema(&writer, options.migrate, &file).await?;
    let readers = connect(&file, options, Access::Read).await.map_err(failed)?;
    let rows = meta::Entity::find().all(&readers).await.map_err(failed)?;
    let identity = identity(&rows).ok_or_else(|| OpenError::Damaged {
        path: file.clone(),
        detail: "its identity is missing or unreadable".to_owned(),
    })?;
    Ok(Opened { readers, writer, identity })
}

/// The file that a URL names.
fn file_of(url: &str) -> Result<PathBuf, OpenError> {
    if !url.starts_with("sqlite:") {
        return Err(OpenError::UnsupportedUrl);
    }
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(OpenError::InMemory);
    }
    // Everything else that SQLite takes there would change what this module relies on.
    if let Some((_, parameters)) = url.split_once('?')
        && !["mode=rwc", "mode=rw"].contains(&parameters)
    {
        return Err(OpenError::BadUrl(format!("{parameters} is not possible; leave it out")));
    }
    let parsed = SqliteConnectOptions::from_str(url)
        .map_err(|error| OpenError::BadUrl(error.to_string()))?;
    let file = parsed.get_filename();
    if file.as_os_str().is_empty() {
        // SQLite would make a temporary database.
        return Err(OpenError::UnsupportedUrl);
    }
    Ok(file.to_owned())
}

/// Makes the file if it is missing and wanted, for this user only, and finds out early whether it
/// can be written: SQLite itself opens what it can only read, and complains much later.
fn prepare(file: &Path, create: bool) -> Result<(), OpenError> {
    let inaccessible = |reason: std::io::Error| OpenError::Inaccessible {
        path: file.to_owned(),
        reason: reason.to_string(),
    };
    let missing = !file.try_exists().map_err(inaccessible)?;
    if missing && !create {
        return Err(OpenError::Missing(file.to_owned()));
    }
    if missing {
        let mut options = std::fs::OpenOptions::new();
        // Not `create_new`: another replica may be just as fast.
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(file).map_err(inaccessible)?;
    }
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    for path in [file, directory] {
        let found = std::fs::metadata(path).map_err(inaccessible)?;
        if path == file && found.is_dir() {
            let reason = "it is a directory".to_owned();
            return Err(OpenError::Inaccessible { path: file.to_owned(), reason });
        }
        if found.permissions().readonly() {
            return Err(OpenError::ReadOnly(path.to_owned()));
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

async fn connect(
    file: &Path,
    options: &OpenOptions,
    access: Access,
) -> Result<DatabaseConnection, DbErr> {
    let file = file.to_owned();
    // The file is set below: the URL would end up in traces.
    let mut connect = ConnectOptions::new("sqlite:");
    connect
        .max_connections(match access {
            Access::Read => options.readers.max(1),
            Access::Write => 1,
        })
        .acquire_timeout(options.acquire_timeout)
        // A file does not go away like a server does: connections may stay, unasked.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = sqlite
                .filename(&file)
                .foreign_keys(true)
                // Durable: what was acknowledged survives a power cut.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(5));
            match access {
                Access::Read => sqlite.pragma("query_only", "on"),
                Access::Write => sqlite.journal_mode(SqliteJournalMode::Wal),
            }
        });
    SqlxSqliteConnector::connect(connect).await
}

/// All migrations in one transaction that nobody else can enter: two processes that open a new file
/// at the same time do not get into each other's way, and a migration that fails leaves nothing.
async fn update_schema(
    writer: &DatabaseConnection,
    migrate: bool,
    file: &Path,
) -> Result<(), OpenError> {
    let failed = |error: DbErr| OpenError::from_database(file.to_owned(), &error);

    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = writer.begin_with_options(options).await.map_err(failed)?;
    let applied = migrations::applied(&tx).await.map_err(failed)?;
    let known: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
    let unknown: Vec<_> = applied.iter().filter(|name| !known.contains(name)).cloned().collect();
    if !unknown.is_empty() {
        return Err(OpenError::NewerSchema(unknown));
    }
    let pending: Vec<_> = known.into_iter().filter(|name| !applied.contains(name)).collect();
    if pending.is_empty() {
        return Ok(());
    }
    if !migrate {
        return Err(OpenError::OlderSchema(pending));
    }
    Migrator::up(&tx, None).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}

fn identity(rows: &[meta::Model]) -> Option<DatabaseIdentity> {
    let value = |key: &str| rows.iter().find(|row| row.key == key).map(|row| row.value.as_str());
    Some(DatabaseIdentity {
        database_id: Uuid::try_parse(value("database_id")?).ok()?,
        epoch: value("epoch")?.parse().ok()?,
        signing_key: from_hex(value("signing_key")?)?,
    })
}

fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}
