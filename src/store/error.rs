//! What can go wrong with the database, in the words of whoever has to put it right.

use std::path::PathBuf;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr, SqlxError};
use sqlx::error::DatabaseError as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteError;

use super::StoreError;
use super::meaning::{for_probes, plain};
use super::renewal::{STALE, is_stale};

/// Why a database could not be opened, and what to do about it. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A database in memory: every connection would have its own, and all are lost at the end.
    #[error("a database in memory loses everything; give a file: sqlite:///var/lib/rolegate.db")]
    InMemory,
    /// The URL names a kind of database that this program cannot use.
    #[error(
        "the database URL must begin with sqlite: and name a file, or be of the form \
         postgres://user@host/database"
    )]
    UnsupportedUrl,
    /// The URL's parameters make no sense.
    #[error("the database URL cannot be understood: {0}")]
    BadUrl(String),
    /// There is no such file, and it was not to be made.
    #[error("there is no database at {}; `rolegate migrate` makes one", .0.display())]
    Missing(PathBuf),
    /// The file can neither be opened nor made.
    #[error("{} cannot be opened: {reason}", path.display())]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The file or its directory cannot be written.
    #[error(
        "{} is read-only; the database and its directory must be writable for this user",
        .0.display()
    )]
    ReadOnly(PathBuf),
    /// The file is something else.
    #[error("{} is not a SQLite database; was another file meant?", .0.display())]
    NotADatabase(PathBuf),
    /// The file is damaged.
    #[error("{} is damaged ({detail}); restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another program keeps it locked.
    #[error("{} is locked by another program", .0.display())]
    Locked(PathBuf),
    /// Its schema is older than this program's, and was not to be changed.
    #[error("the database lacks {}; run `rolegate migrate` first", .0.join(", "))]
    OlderSchema(Vec<String>),
    /// Its schema is newer than this program's, or it is another program's database.
    #[error(
        "the database has {}, which this program does not know: it belongs to a newer version of \
         Rolegate, so upgrade this program, or to another program, so name another database",
        .0.join(", ")
    )]
    NewerSchema(Vec<String>),
    /// Its audit trail goes on with a newer key than the one given.
    #[error(
        "the audit trail goes on under the key {0}, which came after the one given: give that one with \
         --audit-key-file"
    )]
    AuditKeyReplaced(String),
    /// Its audit trail goes on with another key than the one given, which it has never had.
    #[error(
        "the audit trail goes on under {}, and the one given ({given}) has never been this \
         database's: {}. To change the key run `rolegate audit rotate --audit-key-file NEW {}` first",
        named(current, *by_database),
        if *by_database { "leave --audit-key-file out" } else { "give that one with --audit-key-file" },
        predecessor(*by_database)
    )]
    AuditKeyUnknown {
        /// The id of the one given.
        given: String,
        /// The id of the one that it goes on with.
        current: String,
        /// Whether that one was made with the database.
        by_database: bool,
    },
    /// The key that is to be replaced was not given.
    #[error(
        "the audit trail goes on under {}, which a new key takes over from only when it is given \
         as well: add {}. If it is lost, --even-broken lets the trails go on without it, and \
         nobody can tell what was done to them before",
        named(current, *by_database),
        predecessor(*by_database)
    )]
    AuditKeyUnproven {
        /// The id of the one that it goes on with.
        current: String,
        /// Whether that one was made with the database.
        by_database: bool,
    },
    /// Its audit trail goes on with a key from a file, and none was given.
    #[error(
        "the audit trail goes on under the key {0}, which does not come from the database: give it \
         with --audit-key-file"
    )]
    AuditKeyWanted(String),
    /// The server does not answer.
    #[error("the database server at {place} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        place: String,
        /// What the operating system, or the server, says.
        reason: String,
        /// Whether the server may be there, or may have room, in a while.
        may_pass: bool,
    },
    /// The server does not let this user in.
    #[error(
        "the database server at {place} does not let {user} in: {reason}. The password goes into \
         ROLEGATE_DATABASE_PASSWORD, or into a file that --database-password-file names"
    )]
    NotAdmitted {
        /// Where it is.
        place: String,
        /// Who wanted in.
        user: String,
        /// What the server says.
        reason: String,
    },
    /// The server is there, the database is not.
    #[error("the database server at {place} has no database {name}; create it first")]
    NoDatabase {
        /// Where it is.
        place: String,
        /// What was asked for.
        name: String,
    },
    /// The file with the password cannot be used.
    #[error("the password file {} cannot be read: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that TLS needs cannot be used.
    #[error("the file {} of {parameter} cannot be used: {reason}", path.display())]
    TlsFile {
        /// The parameter of the URL that names it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The user may not do what serving takes.
    #[error(
        "the database user lacks rights; let the owner of the tables GRANT {} to it, see \
         docs/operations/deploy.md",
        .0.join("; ")
    )]
    MissingRights(Vec<String>),
    /// Sessions are not this program's own: a pooler in transaction mode, as a rule.
    #[error("the database server at {place} cannot be used: {fault}")]
    SharedSessions {
        /// Where it is.
        place: String,
        /// What was seen, and what to do about it.
        fault: String,
    },
    /// Too old a server.
    #[error("the database server is PostgreSQL {0}; version 14 or newer is needed")]
    OldServer(i32),
    /// A server that only follows another one.
    #[error("the database server at {0} is a read-only standby; name the primary server")]
    Standby(String),
    /// A schema without what says which database it is.
    #[error("the database does not say which one it is: its meta table is damaged")]
    NoIdentity,
    /// Its transaction numbers come from another server: it was restored from a dump.
    #[error(
        "the database was restored from a backup; run `rolegate migrate --after-restore` so that \
         nobody goes on with what was after the backup"
    )]
    Restored,
    /// Anything else.
    #[error("the database cannot be opened: {0}")]
    Failed(String),
}

fn named(key: &str, by_database: bool) -> String {
    let origin = if by_database { ", which was made with the database" } else { "" };
    format!("the key {key}{origin}")
}

fn predecessor(by_database: bool) -> &'static str {
    if by_database { "--began-with-database-key" } else { "--old-audit-key-file CURRENT" }
}

impl OpenError {
    /// What an error while connecting to a server means.
    pub(super) fn from_connecting(
        place: String,
        server: &PgConnectOptions,
        error: &SqlxError,
    ) -> Self {
        let answer = error.as_database_error();
        match answer.and_then(|answer| answer.code()).as_deref() {
            Some("28000" | "28P01") => OpenError::NotAdmitted {
                place,
                user: server.get_username().to_owned(),
                reason: plain(error),
            },
            Some("3D000") => OpenError::NoDatabase {
                place,
                name: server.get_database().unwrap_or(server.get_username()).to_owned(),
            },
            code => {
                let passes = |code: &str| ["08", "53", "57P"].iter().any(|it| code.starts_with(it));
                let may_pass = code.map_or(matches!(error, SqlxError::Io(_)), passes);
                OpenError::Unreachable { place, reason: plain(error), may_pass }
            }
        }
    }

    /// Whether the same can work in a while, without anybody changing anything here.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, OpenError::Unreachable { may_pass: true, .. })
    }

    /// What an error while preparing the database on a server means.
    pub(super) fn from_server(error: &DbErr) -> Self {
        if let DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) = error {
            // One connection was made before, so the server is there as a rule.
            let said = "no connection became free in time: the server takes fewer from this program \
                        than --database-connections (max_connections, or the CONNECTION LIMIT of the \
                        role or the database), or cannot be reached any more";
            return OpenError::Failed(said.to_owned());
        }
        OpenError::Failed(operators_words(error))
    }

    /// What an error while opening this file means.
    pub(super) fn from_file(path: PathBuf, error: &DbErr) -> Self {
        match sqlite_code(error) {
            Some(sqlite::READ_ONLY) => OpenError::ReadOnly(path),
            Some(sqlite::NOT_A_DATABASE) => OpenError::NotADatabase(path),
            Some(sqlite::BUSY | sqlite::LOCKED) => OpenError::Locked(path),
            Some(code @ (sqlite::FULL | sqlite::IO)) => OpenError::Inaccessible {
                path,
                reason: write_obstacle_of(code).unwrap_or_default().to_owned(),
            },
            Some(sqlite::CORRUPT) => OpenError::Damaged { path, detail: operators_words(error) },
            Some(sqlite::CANNOT_OPEN) => {
                OpenError::Inaccessible { path, reason: operators_words(error) }
            }
            _ => OpenError::Failed(operators_words(error)),
        }
    }
}

/// SQLite's result codes, see <https://www.sqlite.org/rescode.html>.
mod sqlite {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READ_ONLY: i32 = 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const CANNOT_OPEN: i32 = 14;
    pub(super) const NOT_A_DATABASE: i32 = 26;

    pub(super) const OUT_OF_MEMORY: i32 = 7;
    const INTERRUPTED: i32 = 9;
    pub(super) const IO: i32 = 10;
    pub(super) const FULL: i32 = 13;
    const LOCKING_PROTOCOL: i32 = 15;

    /// What has nothing to do with the statement.
    pub(super) const UNAVAILABLE: [i32; 9] = [
        BUSY,
        LOCKED,
        OUT_OF_MEMORY,
        READ_ONLY,
        INTERRUPTED,
        IO,
        FULL,
        CANNOT_OPEN,
        LOCKING_PROTOCOL,
    ];
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return StoreError::Conflict;
        }
        let not_understood = match driver_error(&error) {
            Some(SqlxError::ColumnDecode { .. } | SqlxError::Decode(_)) => true,
            _ => matches!(
                error,
                DbErr::Type(_)
                    | DbErr::Json(_)
                    | DbErr::TryIntoErr { .. }
                    | DbErr::ConvertFromU64(_)
            ),
        };
        let damaged = matches!(sqlite_code(&error), Some(sqlite::CORRUPT | sqlite::NOT_A_DATABASE));
        if not_understood || damaged {
            StoreError::Corrupt(operators_words(&error))
        } else if is_unavailable(&error) {
            StoreError::Unavailable(operators_words(&error))
        } else {
            StoreError::Internal(operators_words(&error))
        }
    }
}

/// Whether the same statement can succeed once the database, its server or its disk is well again.
/// Everything else fails however often it is tried.
fn is_unavailable(error: &DbErr) -> bool {
    match error {
        // The last is this program's own: no answer in time.
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) | DbErr::Custom(_) => return true,
        _ => {}
    }
    if is_stale(error) {
        return true;
    }
    if let Some(code) = sqlite_code(error) {
        return sqlite::UNAVAILABLE.contains(&code);
    }
    match driver_error(error) {
        Some(SqlxError::Database(answer)) => {
            let code = answer.code().unwrap_or_default();
            POSTGRES_UNAVAILABLE.iter().any(|class| code.starts_with(class))
        }
        Some(
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::Protocol(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed,
        ) => true,
        _ => false,
    }
}

/// Classes of SQLSTATE: the connection, a transaction that was ended or may only read, admission,
/// conflicts between transactions, a right that is missing, resources, and what operators and systems
/// do.
const POSTGRES_UNAVAILABLE: [&str; 10] =
    ["08", "25", "28", "3D", "40", "42501", "53", "55", "57", "58"];

/// What an error says, without addresses, SQL and values.
fn operators_words(error: &DbErr) -> String {
    if let DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) = error {
        return "no connection became free in time, or the server cannot be reached".to_owned();
    }
    if let DbErr::Custom(said) = error {
        return said.clone();
    }
    if is_stale(error) {
        return STALE.to_owned();
    }
    if let Some(said) = sqlite_code(error).and_then(sqlite_words) {
        return format!("{said} ({error})");
    }
    driver_error(error).map_or_else(|| error.to_string(), plain)
}

pub(super) fn driver_error(error: &DbErr) -> Option<&SqlxError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner)) => Some(inner),
        _ => None,
    }
}

/// What a result code of SQLite asks an operator for.
fn sqlite_words(code: i32) -> Option<&'static str> {
    write_obstacle_of(code).or(match code {
        sqlite::BUSY | sqlite::LOCKED => Some("another program keeps the database file locked"),
        sqlite::OUT_OF_MEMORY => Some("there is no memory left"),
        sqlite::CANNOT_OPEN => Some(
            "the database file cannot be opened: is its file system read-only, was it moved, or are \
             there too many open files?",
        ),
        _ => None,
    })
}

/// What keeps a database file from being written, however often it is tried, until an operator does
/// something.
fn write_obstacle_of(code: i32) -> Option<&'static str> {
    match code {
        sqlite::FULL => Some("the disk of the database file is full, or this user's quota"),
        sqlite::READ_ONLY => Some("the database file or its directory is read-only"),
        sqlite::IO => Some("the disk of the database file fails"),
        _ => None,
    }
}

/// The same of an error. For people, without paths.
pub(super) fn write_obstacle(error: &DbErr) -> Option<&'static str> {
    let of_file = sqlite_code(error).and_then(write_obstacle_of);
    of_file.or_else(|| driver_error(error).and_then(for_probes))
}

/// SQLite's primary result code; the upper bits only refine it.
fn sqlite_code(error: &DbErr) -> Option<i32> {
    let answer = driver_error(error)?.as_database_error()?;
    // Most SQLSTATEs are numbers too.
    let code = answer.try_downcast_ref::<SqliteError>()?.code()?;
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::store::{OpenOptions, SqlStore};

    #[tokio::test]
    async fn only_what_a_retry_can_help_is_unavailable() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let fails = async |sql: &str| {
            let failed = store.inner.writers.execute_unprepared(sql).await;
            StoreError::from(failed.expect_err(sql))
        };
        let meta = |values: &str| format!("INSERT INTO meta (key, value) VALUES ({values})");
        for bug in [
            "SELECT nonsense".to_owned(),
            "SELECT ?40000".to_owned(),
            meta("'x', NULL"),
            "INSERT INTO members (tenant_id, id, status, revision, created_at, updated_at) \
             VALUES ('none', 'm', 'active', 1, 1, 1)"
                .to_owned(),
        ] {
            let error = fails(&bug).await;
            assert!(matches!(error, StoreError::Internal(_)), "{bug}: {error:?}");
        }
        assert!(matches!(fails(&meta("'epoch', '2'")).await, StoreError::Conflict));

        let full = "PRAGMA max_page_count = 1; \
                    INSERT INTO meta (key, value) VALUES ('x', hex(zeroblob(1000000)))";
        let error = fails(full).await;
        assert!(matches!(error, StoreError::Unavailable(_)), "full: {error:?}");
        assert!(error.to_string().contains("disk of the database file is full"), "{error}");
        let error = fails("PRAGMA query_only = on; DELETE FROM meta").await;
        assert!(matches!(error, StoreError::Unavailable(_)), "read-only: {error:?}");
        assert!(error.to_string().contains("is read-only"), "{error}");
        store.close().await;
        let error = fails("SELECT 1").await;
        assert!(matches!(error, StoreError::Unavailable(_)), "closed: {error:?}");
    }
}
