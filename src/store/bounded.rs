//! Connections and transactions whose statements end, whatever the server does.
//!
//! The server has a statement timeout of its own, but a server that is stopped, or behind a network
//! that drops everything, cannot keep to it. Whoever waits is told then, and the pool closes the
//! connection.

use std::time::Duration;

use sea_orm::entity::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait,
};

/// A connection, pool or transaction, with an end to every statement.
#[derive(Debug, Clone)]
pub(super) struct Bounded<C> {
    inner: C,
    /// None: a file, which answers or says why not.
    limit: Option<Duration>,
}

/// A pool. Clones share it.
pub(super) type Connections = Bounded<DatabaseConnection>;
/// A transaction. Dropping it rolls it back.
pub(super) type Transaction = Bounded<DatabaseTransaction>;

impl<C> Bounded<C> {
    pub(super) fn new(inner: C, limit: Option<Duration>) -> Self {
        Bounded { inner, limit }
    }

    /// For what cannot take anything else. Has no end.
    pub(super) fn inner(&self) -> &C {
        &self.inner
    }
}

impl Connections {
    pub(super) async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let inner = bounded(self.limit, self.inner.begin_with_options(options)).await?;
        Ok(Bounded { inner, limit: self.limit })
    }
}

impl Transaction {
    /// After an error it may be committed all the same.
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        bounded(self.limit, self.inner.commit()).await
    }
}

async fn bounded<T>(
    limit: Option<Duration>,
    statement: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    let Some(limit) = limit else { return statement.await };
    tokio::time::timeout(limit, statement).await.unwrap_or_else(|_| {
        Err(DbErr::Custom(format!("the server did not answer within {} s", limit.as_secs_f32())))
    })
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Bounded<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        bounded(self.limit, self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        bounded(self.limit, self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        bounded(self.limit, self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        bounded(self.limit, self.inner.query_all_raw(statement)).await
    }

    fn support_returning(&self) -> bool {
        self.inner.support_returning()
    }
}
