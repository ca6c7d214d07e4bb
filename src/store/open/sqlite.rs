//! SQLite: a file on this machine.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, DbErr, SqliteTransactionMode, SqlxSqliteConnector, TransactionOptions,
};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::{OpenOptions, Opened, identity, schema};
use crate::store::OpenError;
use crate::store::bounded::Connections;
use crate::store::history::{History, Lineage};

/// How long to wait for another process that keeps the file locked.
pub(in crate::store) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How large the write-ahead log stays once all of it is in the file. It grows without a bound while
/// somebody reads an old state.
const LOG_KEPT: u64 = 8 << 20;

pub(super) async fn open(options: &OpenOptions) -> Result<Opened, OpenError> {
    let file = file_of(&options.url)?;
    prepare(&file, options.migrate)?;
    let failed = |error: DbErr| OpenError::from_file(file.clone(), &error);

    // The writer comes first: only it may turn the write-ahead log on.
    let writers = connect(&file, options, Access::Write).await.map_err(failed)?;
    // Nobody else can enter: two processes that open a new file at the same time do not get into
    // each other's way.
    let alone = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = writers.prepare(alone).await.map_err(failed)?;
    let audit_keys = schema::update(tx, options, &failed).await?;
    let readers = connect(&file, options, Access::Read).await.map_err(failed)?;
    let lineage = Arc::new(Lineage::new(History::default()));
    let identity = identity(&readers, &lineage).await.map_err(failed)?;
    let identity = identity.ok_or_else(|| OpenError::Damaged {
        path: file.clone(),
        detail: "its identity is missing or unreadable".to_owned(),
    })?;
    // Readers of a file hold nobody up.
    let followers = readers.clone();
    Ok(Opened { followers, readers, writers, identity, audit_keys, lineage, turns: None })
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

async fn connect(file: &Path, options: &OpenOptions, access: Access) -> Result<Connections, DbErr> {
    let file = file.to_owned();
    // The file is set below: the URL would end up in traces.
    let mut connect = ConnectOptions::new("sqlite:");
    connect
        .max_connections(match access {
            Access::Read => options.connections.max(1),
            Access::Write => 1,
        })
        .acquire_timeout(options.acquire_timeout)
        // A file does not go away like a server does: connections may stay, unasked.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_sqlite_pool_opts(|pool| {
            pool.after_release(|connection, _| Box::pin(async { Ok(is_clean(connection).await) }))
        })
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = sqlite
                .filename(&file)
                .foreign_keys(true)
                // Durable: what was acknowledged survives a power cut.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(LOCK_TIMEOUT);
            match access {
                Access::Read => sqlite.pragma("query_only", "on"),
                Access::Write => sqlite
                    .journal_mode(SqliteJournalMode::Wal)
                    .pragma("journal_size_limit", LOG_KEPT.to_string())
                    // What is erased does not stay in the file's free space.
                    .pragma("secure_delete", "on"),
            }
        });
    Ok(Connections::new(SqlxSqliteConnector::connect(connect).await?, None))
}

/// Ends what the last user of a connection left open, and says whether the connection is outside of
/// any transaction then. If not it is closed: the next user's commit would commit nothing, or its
/// reads would be of the state that the old transaction saw.
async fn is_clean(connection: &mut SqliteConnection) -> bool {
    // BEGIN fails within a transaction, whoever began it and however.
    let tidied = match connection.execute("BEGIN; ROLLBACK").await {
        Ok(done) => Ok(done),
        Err(_) => connection.execute("ROLLBACK").await,
    };
    if let Err(error) = &tidied {
        tracing::warn!(%error, "a connection to the database file was left in doubt and is closed");
    }
    // Of the driver's own count nothing is expected, as nothing begins by it.
    tidied.is_ok() && !connection.is_in_transaction()
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::store::SqlStore;

    /// Each takes about 10 MB.
    async fn write_much(store: &SqlStore, rows: std::ops::Range<u32>) {
        for row in rows {
            let sql = format!("INSERT INTO meta VALUES ('much-{row}', hex(zeroblob(5000000)))");
            store.inner.writers.execute_unprepared(&sql).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_write_ahead_log_does_not_stay_as_large_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("db");
        let url = format!("sqlite:{}", file.display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let log = || std::fs::metadata(directory.path().join("db-wal")).unwrap().len();
        for by_writing in [true, false] {
            // A reader that takes long keeps all that comes after it in the log.
            let reader = store.read().await.unwrap();
            let count = "SELECT count(*) FROM meta";
            let count = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, count);
            reader.tx.query_one_raw(count).await.unwrap();
            write_much(&store, if by_writing { 0..3 } else { 3..6 }).await;
            assert!(log() > 2 * LOG_KEPT, "{}", log());
            // Does not wait for it.
            store.checkpoint().await.unwrap();
            assert!(log() > 2 * LOG_KEPT, "{}", log());
            drop(reader);
            // It goes back to the pool when it gets to it.
            for _ in 0..1000 {
                if by_writing {
                    let touch = "INSERT INTO meta VALUES (hex(randomblob(8)), 'x')";
                    store.inner.writers.execute_unprepared(touch).await.unwrap();
                } else {
                    store.checkpoint().await.unwrap();
                }
                if log() <= LOG_KEPT {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let left = if by_writing { LOG_KEPT } else { 0 };
            assert!(log() <= left, "by writing: {by_writing}, {} are left", log());
        }
        let timeout = "PRAGMA busy_timeout";
        let timeout = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, timeout);
        let timeout = store.inner.writers.query_one_raw(timeout).await.unwrap().unwrap();
        assert_eq!(timeout.try_get_by_index::<i64>(0).unwrap(), 5000);
    }

    /// What an acknowledged write survives, and what it does not leave behind, hangs on these.
    #[tokio::test]
    async fn the_writer_is_durable() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let pragma = async |name: &str| {
            let sql = format!("PRAGMA {name}");
            let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
            store.inner.writers.query_one_raw(statement).await.unwrap().unwrap()
        };
        let full = 2;
        for (name, expected) in [("synchronous", full), ("foreign_keys", 1), ("secure_delete", 1)] {
            assert_eq!(pragma(name).await.try_get_by_index::<i64>(0).unwrap(), expected, "{name}");
        }
        let mode = pragma("journal_mode").await.try_get_by_index::<String>(0).unwrap();
        assert_eq!(mode, "wal");
    }
}
