//! What a session of PostgreSQL must be like, and whether it stays so.
//!
//! A pooler between this program and the server may drop what a client asks for while it connects,
//! so settings are made by a statement on each new connection. It may also answer the next statement
//! from another session (transaction pooling), or reset the session in between. So each session gets
//! a marker besides: a new one must not have one yet, and what was set must be there when the next
//! statement asks for it. The pool asks again each time a connection is given back.
//!
//! What an answer's truth depends on does not hang on that alone: transactions say their isolation
//! themselves, see [`crate::store::sql`].

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::store::history::Unfit;

/// The session variable that holds the marker.
const MARKER: &str = "rolegate.session";
/// Ends what the last user of a connection left, and asks for the marker.
const TIDY: &str = "BEGIN; ROLLBACK; SELECT current_setting('rolegate.session', true)";
/// How long a connection that is given back may take for that.
const TIDY_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings of each session, and how to find out whether they are in force.
#[derive(Debug, Clone)]
pub(in crate::store) struct SessionSetup {
    names: Vec<&'static str>,
    marker: String,
    apply: String,
    read_back: String,
}

/// Why a session cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum SessionFault {
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Another client's session answers, or the session changes between two statements.
    #[error(
        "a pooler in front of the database server shares its sessions ({0}): let it serve this \
         program in session mode and reset sessions in between (PgBouncer: pool_mode = session, \
         server_reset_query = DISCARD ALL), or connect to the server itself"
    )]
    Shared(String),
    /// The server must not be used.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl From<SessionFault> for sqlx::Error {
    fn from(fault: SessionFault) -> Self {
        match fault {
            SessionFault::Database(error) => error,
            fault => sqlx::Error::Configuration(Box::new(fault)),
        }
    }
}

impl SessionSetup {
    /// Sessions with these settings, and with a synchronous commit wherever the server would not do
    /// that by itself. Values are this program's own: they need no quoting.
    pub(super) fn new(settings: &[(&'static str, String)]) -> Self {
        let marker = Uuid::new_v4().to_string();
        // Evaluated from left to right: the first column is what was there before.
        let mut apply = format!(
            "SELECT current_setting('{MARKER}', true), set_config('{MARKER}', '{marker}', false), \
             set_config('synchronous_commit', {SAFE_COMMIT}, false)"
        );
        let mut read_back = format!(
            "SELECT NULL::text, current_setting('{MARKER}', true), \
             current_setting('synchronous_commit')"
        );
        let mut names = vec!["its marker", "synchronous_commit"];
        for (name, value) in settings {
            apply += &format!(", set_config('{name}', '{value}', false)");
            read_back += &format!(", current_setting('{name}')");
            names.push(name);
        }
        SessionSetup { names, marker, apply, read_back }
    }

    /// Makes the settings on a new connection, and makes sure of them.
    pub(in crate::store) async fn establish(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), SessionFault> {
        let applied = one(connection, &self.apply).await?;
        if applied.try_get::<Option<String>, _>(0)?.is_some_and(|marker| !marker.is_empty()) {
            let seen = "a new connection came to a session that was in use before";
            return Err(SessionFault::Shared(seen.to_owned()));
        }
        self.compare(&applied, &one(connection, &self.read_back).await?)
    }

    /// Asks once more whether this is still the session that was established.
    pub(super) async fn verify(&self, connection: &mut PgConnection) -> Result<(), SessionFault> {
        let there = one(connection, &self.read_back).await?;
        self.is_ours(there.try_get(1)?)
    }

    /// Cleans up a connection that is given back to its pool. When a user of it went away in the
    /// middle of a BEGIN, the driver does not know that a transaction is open, and the next user's
    /// statement would never be committed. This ends it, and a connection that does not even answer
    /// is closed rather than waited for: it would be missing from the pool.
    pub(super) async fn tidy(&self, connection: &mut PgConnection) -> Result<(), SessionFault> {
        let tidy = connection.fetch_all(TIDY);
        let rows = tokio::time::timeout(TIDY_TIMEOUT, tidy).await;
        let rows = rows.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        self.is_ours(row.try_get(0)?)
    }

    fn is_ours(&self, marker: Option<String>) -> Result<(), SessionFault> {
        if marker.as_deref() == Some(&self.marker) {
            return Ok(());
        }
        Err(SessionFault::Shared("a session was reset, or exchanged for another".to_owned()))
    }

    /// The server writes values in its own way (`10s`), the same way both times.
    fn compare(&self, applied: &PgRow, there: &PgRow) -> Result<(), SessionFault> {
        for (name, column) in self.names.iter().zip(1..) {
            let (set, found): (Option<String>, Option<String>) =
                (applied.try_get(column)?, there.try_get(column)?);
            if set != found {
                let seen = format!("{name} does not stay as it was set");
                return Err(SessionFault::Shared(seen));
            }
        }
        Ok(())
    }
}

/// A commit that is acknowledged is safe. Where the server waits for standbys, too, that stays.
pub(in crate::store) const SAFE_COMMIT: &str = "CASE current_setting('synchronous_commit') \
     WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END";

/// By the simple protocol, so that a pooler which takes no prepared statements can answer, too.
async fn one(connection: &mut PgConnection, sql: &str) -> Result<PgRow, sqlx::Error> {
    let rows = connection.fetch_all(AssertSqlSafe(sql.to_owned())).await?;
    rows.into_iter().next_back().ok_or(sqlx::Error::RowNotFound)
}
