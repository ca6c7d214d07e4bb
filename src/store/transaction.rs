//! One transaction, from its BEGIN to its end, on a connection of its own.
//!
//! BEGIN and COMMIT are said here in so many words. The driver would count how deep in transactions
//! each connection is, and where that count is wrong its BEGIN is a SAVEPOINT and its COMMIT a
//! RELEASE: they succeed and keep nothing. The count goes wrong when a database ends a transaction
//! by itself, as SQLite does when the disk is full: the ROLLBACK that follows has nothing to end and
//! fails. So here
//!
//! - BEGIN is always the outermost: within a transaction it fails (SQLite), or the pool's check has
//!   ended that transaction before (PostgreSQL);
//! - after a statement that failed, or that nobody waited for, nothing more is done and nothing is
//!   committed. SQLite may have rolled back, and would commit what follows statement by statement;
//!   PostgreSQL would answer the COMMIT with success, and roll back;
//! - a connection whose BEGIN or COMMIT failed, or was not waited for, is closed;
//! - the first statement alone may begin a second time, on another connection: where the server no
//!   longer runs it as it was prepared ([`super::renewal`]);
//! - a transaction that is dropped is rolled back by the pool's check of each connection that comes
//!   back (in [`super::open`]), which closes one that it cannot prove to be outside of a transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use sea_orm::entity::prelude::async_trait::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DbBackend, DbErr,
    ExecResult, QueryResult, RuntimeErr, Statement,
};
use sea_query_sqlx::SqlxValues;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Database, Executor as _, IntoArguments, Postgres, Sqlite};
use tokio::sync::Mutex;

use super::bounded::{Bounds, bounded};
use super::error::write_obstacle;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading one state.
    Read,
    /// Writing, and reading what was written.
    Write,
}

impl Access {
    /// The statement that begins it. Says all that the answers depend on, whatever the session is
    /// set to.
    fn begin(self, backend: DbBackend) -> &'static str {
        match (backend, self) {
            (DbBackend::Postgres, Access::Read) => {
                "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
            }
            (DbBackend::Postgres, Access::Write) => {
                // Whether it may be written is the server's to say: operators freeze databases.
                "BEGIN ISOLATION LEVEL READ COMMITTED"
            }
            (_, Access::Read) => "BEGIN",
            // A transaction that reads first and writes later could find that it may not.
            (_, Access::Write) => "BEGIN IMMEDIATE",
        }
    }
}

/// What keeps a database from being written, as the last attempts showed. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteHealth(Arc<std::sync::Mutex<Option<&'static str>>>);

impl WriteHealth {
    /// Nothing while writes succeed.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("changes can be written again");
        }
    }

    fn failed(&self, error: &DbErr) {
        let Some(obstacle) = write_obstacle(error) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != Some(obstacle) {
            tracing::error!(obstacle, "changes cannot be written; decisions go on");
            *known = Some(obstacle);
        }
    }
}

/// A transaction. Dropping it rolls it back.
pub(super) struct Transaction {
    /// None only where another one could not be begun.
    session: Mutex<Option<Session>>,
    pool: DatabaseConnection,
    access: Access,
    bounds: Option<Bounds>,
    /// Nothing was done yet.
    unused: AtomicBool,
    /// A statement failed, or was not waited for.
    spoiled: AtomicBool,
    /// To be told of success and failure, if it writes.
    health: Option<WriteHealth>,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Transaction {
    pub(super) async fn begin(
        pool: &DatabaseConnection,
        bounds: Option<Bounds>,
        access: Access,
        health: &WriteHealth,
    ) -> Result<Self, DbErr> {
        let transaction = Transaction {
            session: Mutex::default(),
            pool: pool.clone(),
            access,
            bounds,
            unused: AtomicBool::new(true),
            spoiled: AtomicBool::new(false),
            health: (access == Access::Write).then(|| health.clone()),
        };
        transaction.begin_again().await?;
        Ok(transaction)
    }

    /// Commits, unless a statement failed. After any other error it may be committed all the same.
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        let Transaction { session, bounds, spoiled, health, .. } = self;
        if spoiled.into_inner() {
            return Err(spoilt());
        }
        let mut session = session.into_inner().ok_or_else(spoilt)?;
        told(health.as_ref(), bounded(bounds.as_ref(), Box::pin(session.commit())).await)?;
        if let Some(health) = health {
            health.succeeded();
        }
        Ok(())
    }

    /// Begins on a connection, which may be the pool's only one: what was before goes first.
    async fn begin_again(&self) -> Result<(), DbErr> {
        let mut session = self.session.lock().await;
        *session = None;
        let statement = self.access.begin(self.pool.get_database_backend());
        // Waiting for a connection takes much room, which is not for every caller's future.
        let begun = Box::pin(Session::begin(&self.pool, statement));
        let begun = bounded(self.bounds.as_ref(), begun).await;
        *session = Some(told(self.health.as_ref(), begun)?);
        Ok(())
    }

    /// Runs a statement, and once more in a new transaction if it is the first of this one and its
    /// connection must be renewed.
    async fn run<T, F>(
        &self,
        statement: Statement,
        once: impl Fn(Statement) -> F,
    ) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let attempt = self.attempt()?;
        let bounds = self.bounds.as_ref();
        let first = self.unused.swap(false, Ordering::AcqRel);
        let again = (first && bounds.is_some()).then(|| statement.clone());
        let outcome = bounded(bounds, once(statement)).await;
        let due = bounds.is_some_and(|bounds| bounds.renewal.is_due(&outcome));
        let outcome = match again.filter(|_| due) {
            Some(statement) => {
                self.begin_again().await?;
                bounded(bounds, once(statement)).await
            }
            None => outcome,
        };
        attempt.ended(outcome)
    }

    /// To be asked for before each statement, and told how it ended.
    fn attempt(&self) -> Result<Attempt<'_>, DbErr> {
        if self.spoiled.load(Ordering::Acquire) {
            return Err(spoilt());
        }
        Ok(Attempt { spoiled: &self.spoiled, health: self.health.as_ref(), succeeded: false })
    }
}

fn told<T>(health: Option<&WriteHealth>, ended: Result<T, DbErr>) -> Result<T, DbErr> {
    if let (Some(health), Err(error)) = (health, &ended) {
        health.failed(error);
    }
    ended
}

fn spoilt() -> DbErr {
    let said = "an earlier statement of this transaction failed, so nothing of it is kept";
    DbErr::Custom(said.to_owned())
}

/// A statement that is running. Dropped before it succeeded, it spoils its transaction.
struct Attempt<'t> {
    spoiled: &'t AtomicBool,
    health: Option<&'t WriteHealth>,
    succeeded: bool,
}

impl Attempt<'_> {
    fn ended<T>(mut self, ended: Result<T, DbErr>) -> Result<T, DbErr> {
        self.succeeded = ended.is_ok();
        told(self.health, ended)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.succeeded {
            self.spoiled.store(true, Ordering::Release);
        }
    }
}

/// A connection of the pool, while a transaction has it.
struct Session {
    connection: Pooled,
    stage: Stage,
}

enum Pooled {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The pool's check ends what is open.
    Returnable,
    /// BEGIN or COMMIT was sent, and how it ended is not known to be well.
    InDoubt,
}

/// Evaluates the same expression over either kind of connection.
macro_rules! on {
    ($session:expr, $connection:ident => $body:expr) => {
        match &mut $session.connection {
            Pooled::Sqlite(pooled) => {
                let $connection = &mut **pooled;
                $body
            }
            Pooled::Postgres(pooled) => {
                let $connection = &mut **pooled;
                $body
            }
        }
    };
}

impl Session {
    async fn begin(pool: &DatabaseConnection, statement: &'static str) -> Result<Self, DbErr> {
        let connection = match &pool.inner {
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let pool = pool.get_sqlite_connection_pool();
                Pooled::Sqlite(pool.acquire().await.map_err(acquire_error)?)
            }
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let pool = pool.get_postgres_connection_pool();
                Pooled::Postgres(pool.acquire().await.map_err(acquire_error)?)
            }
            _ => return Err(DbErr::Custom("not a kind of database that this uses".to_owned())),
        };
        // Somebody who goes away now leaves what the pool's check ends.
        let mut session = Session { connection, stage: Stage::Returnable };
        if let Err(error) =
            on!(session, connection => connection.execute(statement).await.map(drop))
        {
            session.stage = Stage::InDoubt;
            return Err(connection_error(error));
        }
        Ok(session)
    }

    async fn commit(&mut self) -> Result<(), DbErr> {
        self.stage = Stage::InDoubt;
        let committed = on!(self, connection => connection.execute("COMMIT").await.map(drop));
        committed.map_err(connection_error)?;
        self.stage = Stage::Returnable;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.stage == Stage::InDoubt {
            match &mut self.connection {
                Pooled::Sqlite(connection) => connection.close_on_drop(),
                Pooled::Postgres(connection) => connection.close_on_drop(),
            }
        }
    }
}

fn acquire_error(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => connection_error(error),
    }
}

/// About the connection rather than a statement: another attempt may succeed.
fn connection_error(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

fn exec_error(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

fn query_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

fn query<D>(statement: Statement) -> sqlx::query::Query<'static, D, SqlxValues>
where
    D: Database,
    SqlxValues: IntoArguments<D>,
{
    let values = statement.values.unwrap_or(sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.pool.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let once = |statement: Statement| async move {
            let mut session = self.session.lock().await;
            let session = session.as_mut().ok_or_else(spoilt)?;
            on!(session, connection => query(statement).execute(connection).await.map(Into::into))
                .map_err(exec_error)
        };
        self.run(statement, once).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let attempt = self.attempt()?;
        self.unused.store(false, Ordering::Release);
        let sql = AssertSqlSafe(sql.to_owned());
        let running = async {
            let mut session = self.session.lock().await;
            let session = session.as_mut().ok_or_else(spoilt)?;
            on!(session, connection => connection.execute(sql).await.map(Into::into))
                .map_err(exec_error)
        };
        attempt.ended(bounded(self.bounds.as_ref(), running).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let once = |statement: Statement| async move {
            let mut session = self.session.lock().await;
            let session = session.as_mut().ok_or_else(spoilt)?;
            on!(session, connection => {
                let row = query(statement).fetch_optional(connection).await;
                row.map(|row| row.map(Into::into))
            })
            .map_err(query_error)
        };
        self.run(statement, once).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let once = |statement: Statement| async move {
            let mut session = self.session.lock().await;
            let session = session.as_mut().ok_or_else(spoilt)?;
            on!(session, connection => {
                let rows = query(statement).fetch_all(connection).await;
                rows.map(|rows| rows.into_iter().map(Into::into).collect())
            })
            .map_err(query_error)
        };
        self.run(statement, once).await
    }
}

#[cfg(test)]
mod tests;
