//! Opening a database: reaching it, bringing its schema up to date, learning which one it is.

mod postgres;
mod rights;
mod schema;
mod server;
mod session;
pub(super) mod sqlite;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::EntityTrait;
use uuid::Uuid;

pub(super) use self::server::Server;
pub(super) use self::session::{SAFE_COMMIT, SessionFault, SessionSetup};
use super::bounded::Connections;
use super::chain::AuditKeys;
use super::entity::meta;
use super::history::{Epoch, History, Lineage};
use super::turns::Turns;
use super::{AuditKeyChoice, OpenError};

/// Which database to open, and how.
#[derive(Clone)]
pub struct OpenOptions {
    /// `sqlite:///absolute/path`, `sqlite:relative/path`, or `postgres://user@host/database`.
    pub url: String,
    /// PostgreSQL's password, instead of one in the URL.
    pub password: Option<String>,
    /// A file with PostgreSQL's password, read again while the database is open: what it holds
    /// counts for connections made from then on.
    pub password_file: Option<PathBuf>,
    /// Make the schema if it is missing (SQLite: the file, too), and bring an older one up to date.
    /// Otherwise both are refused.
    pub migrate: bool,
    /// The database was restored from a backup: start a new epoch, in which nothing that was derived
    /// from what came after the backup is valid. Goes with `migrate`.
    pub after_restore: bool,
    /// What the audit trail is chained with.
    pub audit_key: AuditKeyChoice,
    /// How many connections. On SQLite all of them read, and one more writes. On PostgreSQL half of
    /// them read and half of them write, so that neither can starve the other; up to three more
    /// follow changes.
    pub connections: u32,
    /// How long to wait for a connection, which for SQLite's writers means: for their turn.
    pub acquire_timeout: Duration,
    /// PostgreSQL: how long one attempt to reach the server may take. Later it counts as waiting for
    /// a connection.
    pub connect_timeout: Duration,
    /// PostgreSQL: how long to go on trying when the database is opened and its server is not there
    /// yet.
    pub wait: Duration,
    /// PostgreSQL: how long one statement may take.
    pub statement_timeout: Duration,
    /// PostgreSQL: how long a write waits for another write of the same tenant.
    pub lock_timeout: Duration,
    /// PostgreSQL: how long a transaction may do nothing before the server ends it, so that a
    /// program that hangs, or whose machine is gone, holds nobody back.
    pub idle_in_transaction_timeout: Duration,
}

impl OpenOptions {
    /// The defaults. SQLite, the embedded default, is made and migrated without being asked; where
    /// several programs share a PostgreSQL, an operator decides when.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let url = url.into();
        OpenOptions {
            migrate: !postgres::is_url(&url),
            url,
            password: None,
            password_file: None,
            after_restore: false,
            audit_key: AuditKeyChoice::Database,
            connections: 16,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            wait: Duration::ZERO,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(10),
        }
    }

    /// Whether the URL carries a password.
    #[must_use]
    pub fn has_password_in_url(&self) -> bool {
        postgres::password_in(&self.url)
    }
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL, too, may hold a password.
        f.debug_struct("OpenOptions")
            .field("postgres", &postgres::is_url(&self.url))
            .field("migrate", &self.migrate)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// Which database this is. Made with it, and shared by all who use it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// Its own id.
    pub database_id: Uuid,
    /// Grows when it is restored from a backup.
    pub epoch: u64,
    /// The history of the server that it was opened on.
    pub history: History,
    /// What page tokens are signed with.
    pub signing_key: [u8; 32],
}

impl DatabaseIdentity {
    /// The epoch that it was opened in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch, self.history)
    }
}

impl std::fmt::Debug for DatabaseIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The signing key is a secret.
        f.debug_struct("DatabaseIdentity")
            .field("database_id", &self.database_id)
            .field("epoch", &self.epoch)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

pub(super) struct Opened {
    pub(super) readers: Connections,
    /// One connection only on SQLite, so that writers wait for each other in the order they came
    /// instead of spinning on the file's lock.
    pub(super) writers: Connections,
    /// Apart from the readers, so that slow reads never keep a revoke from being noticed.
    pub(super) followers: Connections,
    pub(super) identity: DatabaseIdentity,
    pub(super) audit_keys: AuditKeys,
    pub(super) lineage: Arc<Lineage>,
    /// Where writers of a tenant wait, and for how long. `None` where there is one writer.
    pub(super) turns: Option<(Turns, Duration)>,
}

pub(super) async fn open(options: &OpenOptions) -> Result<Opened, OpenError> {
    if postgres::is_url(&options.url) {
        postgres::open(options).await
    } else {
        sqlite::open(options).await
    }
}

/// Reads which database it is, `None` if that makes no sense.
async fn identity(
    connections: &Connections,
    lineage: &Lineage,
) -> Result<Option<DatabaseIdentity>, sea_orm::DbErr> {
    let rows = meta::Entity::find().all(connections).await?;
    let value = |key: &str| rows.iter().find(|row| row.key == key).map(|row| row.value.as_str());
    let identity = || {
        Some(DatabaseIdentity {
            database_id: Uuid::try_parse(value(meta::DATABASE_ID)?).ok()?,
            epoch: value(meta::EPOCH)?.parse().ok()?,
            history: lineage.history(),
            signing_key: from_hex(value(meta::SIGNING_KEY)?)?,
        })
    };
    let identity = identity();
    if let Some(identity) = &identity {
        lineage.begin(identity.epoch);
    }
    Ok(identity)
}

fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}
