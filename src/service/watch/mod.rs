//! Watching changes, in order and resumable (`Watch`).
//!
//! A stream begins at its cursor, or now. While it is behind the `feed` it reads pages from the
//! database; once it has caught up it reads what the feed holds, so that the database is asked once
//! for all streams. What reaches a client goes through a `pipe` of a few messages: whoever does not
//! read is disconnected, and resumes from its cursor.

mod counts;
mod cursor;
mod feed;
mod pipe;
mod places;
mod reader;
mod rights;
mod stream;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use counts::{EndReason, WatchCounts};

use self::cursor::Cursors;
use self::feed::Feed;
use self::pipe::Outlet;
use self::places::Places;
use self::reader::Reader;
use self::rights::Rights;
use self::stream::Stream;
use super::caller::{Caller, Capability};
use super::error::ServiceError;
use super::token::Tokens;
use crate::domain::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::refusal::{CursorLoss, Problem, Refusal};
use crate::store::{ChangePosition, SqlStore, Touched};

/// The most tenants that one stream names.
pub const MAX_TENANTS: usize = 1_000;

/// What watching may take.
#[derive(Debug, Clone, Copy)]
pub struct WatchLimits {
    /// How many streams there may be.
    pub streams: usize,
    /// How many of them one caller may have.
    pub streams_per_caller: usize,
    /// How long a stream is silent before its client gets a heartbeat.
    pub heartbeat: Duration,
    /// How long a client may not read while there is something for it.
    pub patience: Duration,
    /// How long streams stay open while the database does not answer.
    pub outage_grace: Duration,
    /// How many changes are held for the streams together.
    pub ring_changes: usize,
    /// About what these may take, in bytes.
    pub ring_bytes: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        WatchLimits {
            streams: 100,
            streams_per_caller: 50,
            heartbeat: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            outage_grace: Duration::from_secs(60),
            ring_changes: 10_000,
            ring_bytes: 16 << 20,
        }
    }
}

/// What a client wants to watch.
#[derive(Debug, Clone, Default)]
pub struct WatchQuery {
    /// These tenants; none: every tenant.
    pub tenants: BTreeSet<TenantId>,
    /// Where to go on; empty: from now on.
    pub cursor: String,
}

/// A change as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedChange {
    position: ChangePosition,
    /// The tenant.
    pub tenant: TenantId,
    /// Names the tenant's state after the change.
    pub token: String,
    /// When it was made.
    pub at: Timestamp,
    /// What it touched.
    pub touched: Touched,
}

impl WatchedChange {
    /// About what it takes, in memory or in a message.
    fn bytes(&self) -> usize {
        const OTHERS: usize = 64;
        let ids: usize = match &self.touched {
            Touched::Members(ids) => ids.iter().map(|id| id.as_str().len() + 32).sum(),
            Touched::Roles(ids) => ids.iter().map(|id| id.as_str().len() + 32).sum(),
            Touched::Nothing | Touched::Tenant => 0,
        };
        OTHERS + self.tenant.as_str().len() + self.token.len() + ids
    }
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// In their order; none: a heartbeat.
    pub changes: Vec<Arc<WatchedChange>>,
    /// Everything up to here has been delivered.
    pub cursor: String,
}

/// Why a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndCause {
    /// The client did not read.
    Slow {
        /// For so long.
        patience: Duration,
    },
    /// The server goes away.
    Draining,
    /// The database has not answered for longer than the grace.
    Database,
    /// Changes that the client has not seen are gone.
    Expired(CursorLoss),
    /// The caller may not watch any more.
    Revoked(RightsLost),
    /// A fault of ours. The text is for the operator.
    Failed(String),
}

/// What a caller lost while it watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RightsLost {
    /// Its proof does not hold any more: taken away, or its time is over.
    Proof,
    /// What watching takes.
    Capability(Capability),
}

impl EndCause {
    fn reason(&self) -> EndReason {
        match self {
            EndCause::Slow { .. } => EndReason::Slow,
            EndCause::Draining => EndReason::Draining,
            EndCause::Database => EndReason::Database,
            EndCause::Expired(_) => EndReason::Expired,
            EndCause::Revoked(_) => EndReason::Revoked,
            EndCause::Failed(_) => EndReason::Failed,
        }
    }
}

/// The end of a stream that its client did not want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEnd {
    /// Why.
    pub why: EndCause,
    /// Where to resume: behind what the client has taken.
    pub cursor: String,
}

/// A stream as its client has it; dropping it ends it.
#[derive(Debug)]
pub struct Watching(Outlet);

impl Watching {
    /// The next message, or the end.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, WatchEnd>>> {
        self.0.poll_take(context)
    }

    /// The next message, or the end.
    pub async fn next(&self) -> Option<Result<Delivery, WatchEnd>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

/// The streams of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Watches {
    shared: Arc<Shared>,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Shared {
    reader: Reader,
    cursors: Cursors,
    feed: Feed,
    limits: WatchLimits,
    counts: Arc<WatchCounts>,
}

impl Watches {
    /// Of this database. Somebody has to [`run`](Self::run) the feed.
    #[must_use]
    pub fn new(store: SqlStore, tokens: Tokens, limits: WatchLimits) -> Self {
        let cursors = Cursors::new(store.identity());
        let reader = Reader::new(store, tokens);
        let (feed, counts) = (Feed::new(), Arc::default());
        Watches {
            shared: Arc::new(Shared { reader, cursors, feed, limits, counts }),
            places: Places::new(&limits),
        }
    }

    /// What is counted of them.
    #[must_use]
    pub fn counts(&self) -> &Arc<WatchCounts> {
        &self.shared.counts
    }

    /// Reads changes for all streams, until it is dropped.
    pub async fn run(self) {
        self.shared.feed.run(&self.shared.reader, &self.shared.limits).await;
    }

    /// Ends all streams, and those that come: the server goes away.
    pub fn drain(&self) {
        self.shared.feed.drain();
    }

    /// Begins a stream of this caller. `rights` gives the caller as it is by now, and is asked again every other
    /// second: its tenants are what the stream tells of, and without the right to watch it ends.
    ///
    /// # Errors
    /// A refusal when there are too many streams, and when the cursor is none or leads nowhere any
    /// more.
    pub async fn watch(
        &self,
        caller: &Caller,
        query: WatchQuery,
        rights: impl Fn() -> Result<Arc<Caller>, RightsLost> + Send + Sync + 'static,
    ) -> Result<Watching, ServiceError> {
        let Shared { reader, cursors, .. } = &*self.shared;
        let WatchQuery { tenants, cursor } = query;
        let given = if cursor.is_empty() {
            None
        } else {
            let invalid = || Refusal::invalid("cursor", Problem::CursorInvalid);
            Some(cursors.read(&cursor).ok_or_else(invalid)?)
        };
        let place = self.places.take(&caller.name)?;
        let start = match given {
            None => reader.end().await?,
            Some(cursor) => {
                cursor.accept(&reader.page_in_turn(cursor.position, 0).await?)?;
                cursor
            }
        };
        let (stream, outlet) =
            Stream::new(Arc::clone(&self.shared), place, start, Rights::new(tenants, rights));
        tokio::spawn(stream.run());
        Ok(Watching(outlet))
    }
}
