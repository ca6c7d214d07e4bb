//! Connections whose statements end, whatever the server does; [`Transaction`]s keep to the same
//! bounds.
//!
//! The server has a statement timeout of its own, but a server that is stopped, or behind a network
//! that drops everything, cannot keep to it. Whoever waits is told then, and the pool closes the
//! connection.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::entity::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait,
};

use super::reach::Reach;
use super::renewal::Renewal;
use super::transaction::{Access, Transaction, WriteHealth};

/// A pool, or the transaction that prepares a database, with an end to every statement.
#[derive(Debug, Clone)]
pub(super) struct Bounded<C> {
    inner: C,
    bounds: Option<Bounds>,
    health: WriteHealth,
    is_pool: bool,
}

/// When waiting for a server ends.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// The longest that a statement may take, with the way there and back.
    pub(super) limit: Duration,
    /// Ends it sooner when the server is gone.
    pub(super) reach: Arc<Reach>,
    /// Closes connections whose prepared statements are of no use any more.
    pub(super) renewal: Arc<Renewal>,
}

/// A pool. Clones share it.
pub(super) type Connections = Bounded<DatabaseConnection>;
/// The transaction that a database is prepared in while it is opened, as migrations want it. The
/// pool is new then, and dropped if anything fails.
pub(super) type Preparation = Bounded<DatabaseTransaction>;

impl<C> Bounded<C> {
    /// Without bounds, a file: it answers, or says why not.
    pub(super) fn new(inner: C, bounds: Option<Bounds>) -> Self {
        Bounded { inner, bounds, health: WriteHealth::default(), is_pool: true }
    }

    /// For what cannot take anything else. Has no end.
    pub(super) fn inner(&self) -> &C {
        &self.inner
    }

    /// How writing went last.
    pub(super) fn health(&self) -> &WriteHealth {
        &self.health
    }

    pub(super) fn suspect(&self) {
        if let Some(bounds) = &self.bounds {
            bounds.reach.suspect();
        }
    }

    pub(super) fn trouble(&self) -> Option<&'static str> {
        self.bounds.as_ref().and_then(|bounds| bounds.reach.trouble())
    }

    pub(super) fn is_gone(&self) -> bool {
        self.bounds.as_ref().is_some_and(|bounds| bounds.reach.is_gone())
    }
}

impl<C> Bounded<C> {
    /// Runs a statement, and once more if its connection must be renewed: a pool has others. In a
    /// transaction the second attempt fails as everything does after an error.
    async fn run<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let bounds = self.bounds.as_ref();
        let outcome = bounded(bounds, attempt()).await;
        match bounds {
            Some(bounds) if bounds.renewal.is_due(&outcome) && self.is_pool => {
                bounded(Some(bounds), attempt()).await
            }
            _ => outcome,
        }
    }
}

impl Connections {
    pub(super) async fn begin(&self, access: Access) -> Result<Transaction, DbErr> {
        Transaction::begin(&self.inner, self.bounds.clone(), access, &self.health).await
    }

    pub(super) async fn prepare(&self, options: TransactionOptions) -> Result<Preparation, DbErr> {
        let inner = bounded(self.bounds.as_ref(), self.inner.begin_with_options(options)).await?;
        let (bounds, health) = (self.bounds.clone(), self.health.clone());
        Ok(Bounded { inner, bounds, health, is_pool: false })
    }
}

impl Preparation {
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        bounded(self.bounds.as_ref(), self.inner.commit()).await
    }
}

pub(super) async fn bounded<T>(
    bounds: Option<&Bounds>,
    statement: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    let Some(Bounds { limit, reach, renewal: _ }) = bounds else { return statement.await };
    let in_time = async {
        tokio::time::timeout(*limit, statement).await.unwrap_or_else(|_| {
            let limit = limit.as_secs_f32();
            Err(DbErr::Custom(format!("the database server did not answer within {limit} s")))
        })
    };
    reach.unless_gone(in_time).await
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Bounded<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(|| self.inner.execute_raw(statement.clone())).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        bounded(self.bounds.as_ref(), self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(|| self.inner.query_one_raw(statement.clone())).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(|| self.inner.query_all_raw(statement.clone())).await
    }

    fn support_returning(&self) -> bool {
        self.inner.support_returning()
    }
}
