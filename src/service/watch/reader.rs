//! Reading the ordered changes: by the feed, and by streams that are behind it.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::WatchedChange;
use super::cursor::Cursor;
use crate::service::error::ServiceError;
use crate::service::token::Tokens;
use crate::store::{
    Change, ChangePosition, Epoch, OrderedChanges, SequencedChange, SqlStore, StoreError, Touched,
    Wakeups,
};

/// How many streams may read at the same time: they share their connections with decisions.
const CATCHING_UP: usize = 2;
/// The longest that one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most ids that a change names. One of more is told as one of the whole tenant.
const MAX_NAMED: usize = 1_000;

/// Reads changes as watchers see them.
#[derive(Debug)]
pub(super) struct Reader {
    store: SqlStore,
    tokens: Tokens,
    catching_up: Semaphore,
}

impl Reader {
    pub(super) fn new(store: SqlStore, tokens: Tokens) -> Self {
        Reader { store, tokens, catching_up: Semaphore::new(CATCHING_UP) }
    }

    pub(super) fn listen(&self) -> Wakeups {
        self.store.listen()
    }

    /// Behind everything that is settled now.
    pub(super) async fn end(&self) -> Result<Cursor, ServiceError> {
        let (position, epoch) = in_time(self.store.ordered_end()).await?;
        Ok(Cursor { epoch, position })
    }

    /// So many changes behind a position.
    pub(super) async fn page(
        &self,
        after: ChangePosition,
        limit: u64,
    ) -> Result<OrderedChanges, ServiceError> {
        in_time(self.store.ordered_changes(after, limit)).await
    }

    /// The same for one of many, who wait for each other.
    pub(super) async fn page_in_turn(
        &self,
        after: ChangePosition,
        limit: u64,
    ) -> Result<OrderedChanges, ServiceError> {
        let closed = |_| ServiceError::Internal("a semaphore was closed".to_owned());
        let _turn = self.catching_up.acquire().await.map_err(closed)?;
        self.page(after, limit).await
    }

    /// The change as it is told.
    pub(super) fn watched(&self, epoch: Epoch, change: SequencedChange) -> WatchedChange {
        let SequencedChange { position, change: Change { tenant, revision, touched }, at } = change;
        let touched = match touched {
            Touched::Members(ids) if ids.len() > MAX_NAMED => Touched::Tenant,
            Touched::Roles(ids) if ids.len() > MAX_NAMED => Touched::Tenant,
            touched => touched,
        };
        let token = self.tokens.issue(&tenant, epoch.id(), revision);
        WatchedChange { position, tenant, token, at, touched }
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ServiceError> {
    let late = |_| StoreError::Unavailable("it takes too long to answer".to_owned());
    Ok(tokio::time::timeout(PATIENCE, answer).await.map_err(late)??)
}
