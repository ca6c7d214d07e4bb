//! One stream: from its cursor on, behind the feed or with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cursor::Cursor;
use super::feed::{Answers, View};
use super::pipe::{Inlet, Left, Outlet, pipe};
use super::places::Place;
use super::rights::Rights;
use super::{Delivery, EndCause, EndReason, RightsLost, Shared, WatchCounts, WatchedChange};
use crate::domain::ids::TenantId;
use crate::service::caller::Caller;
use crate::service::error::ServiceError;
use crate::store::{ChangePosition, StoreError};

/// The most changes of one message.
const MAX_CHANGES: usize = 500;
/// About the most that these take, in bytes. One change alone may take more.
const MAX_BYTES: usize = 256 << 10;
/// How many changes a stream that is behind reads at a time.
const PAGE: u64 = MAX_CHANGES as u64;
/// How long it waits when the database does not answer it.
const PAUSE: Duration = Duration::from_millis(250);

/// The task of one stream.
pub(super) struct Stream<A> {
    shared: Arc<Shared>,
    inlet: Inlet,
    counted: Counted,
    view: watch::Receiver<View>,
    /// Everything up to here is delivered, or not for this client.
    cursor: Cursor,
    /// The generation of the feed's ring that this cursor is known to belong to.
    joined: Option<u64>,
    rights: Rights<A>,
    sent: Instant,
}

/// Counts the stream, and has its place among all, for as long as it is there, however its task
/// ends.
struct Counted {
    counts: Arc<WatchCounts>,
    _place: Place,
    reason: EndReason,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.ended(self.reason);
    }
}

/// What there is to do.
enum Step {
    /// The feed does not reach back to the cursor, or is not the one that it belongs to.
    CatchUp(u64),
    Deliver(Part),
    Wait {
        heartbeats: bool,
    },
}

/// What the client gets of some changes.
struct Part {
    changes: Vec<Arc<WatchedChange>>,
    /// All up to here have been looked at.
    to: ChangePosition,
}

/// Why a stream does not go on: the client went away, or an end that it is told.
enum Stop {
    Left,
    Told(EndCause),
}

impl From<Left> for Stop {
    fn from(_: Left) -> Self {
        Stop::Left
    }
}

impl From<EndCause> for Stop {
    fn from(cause: EndCause) -> Self {
        Stop::Told(cause)
    }
}

impl<A: Fn() -> Result<Arc<Caller>, RightsLost> + Send + Sync> Stream<A> {
    pub(super) fn new(
        shared: Arc<Shared>,
        place: Place,
        cursor: Cursor,
        rights: Rights<A>,
    ) -> (Self, Outlet) {
        let (inlet, outlet) = pipe(shared.cursors.write(cursor));
        let counts = Arc::clone(&shared.counts);
        counts.begun();
        // Unless something else is found out, it ends because the client is gone.
        let counted = Counted { counts, _place: place, reason: EndReason::Left };
        let view = shared.feed.join();
        let sent = Instant::now();
        (Stream { shared, inlet, counted, view, cursor, joined: None, rights, sent }, outlet)
    }

    pub(super) async fn run(mut self) {
        if let Stop::Told(cause) = self.follow().await {
            self.counted.reason = cause.reason();
            // Before the client knows: when it comes back, its place must be free.
            drop(self.counted);
            self.inlet.end(cause);
        }
    }

    async fn follow(&mut self) -> Stop {
        // At once, so that a client knows where it begins before it lists what there is.
        if let Err(stop) = self.send(Vec::new()).await {
            return stop;
        }
        loop {
            if let Err(stop) = self.step().await {
                return stop;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        self.rights.refresh()?;
        match self.look()? {
            Step::Deliver(part) => self.deliver(part).await,
            Step::CatchUp(generation) => self.catch_up(generation).await,
            Step::Wait { heartbeats } => self.wait(heartbeats).await,
        }
    }

    /// What the feed says.
    fn look(&mut self) -> Result<Step, EndCause> {
        let view = self.view.borrow_and_update();
        ended(&view)?;
        let heartbeats = view.database == Answers::Yes;
        let Some(ring) = &view.ring else { return Ok(Step::Wait { heartbeats: false }) };
        let Cursor { epoch, position } = self.cursor;
        if self.joined != Some(ring.generation) || ring.epoch != epoch || position < ring.from {
            return Ok(Step::CatchUp(ring.generation));
        }
        if position >= ring.to {
            return Ok(Step::Wait { heartbeats });
        }
        Ok(Step::Deliver(part(ring.after(position).cloned(), ring.to, |tenant| {
            self.rights.include(tenant)
        })))
    }

    /// Reads on from the database.
    async fn catch_up(&mut self, generation: u64) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let page = tokio::select! {
            page = shared.reader.page_in_turn(self.cursor.position, PAGE) => page,
            () = self.inlet.left() => return Err(Stop::Left),
        };
        let page = match page {
            Ok(page) => page,
            Err(ServiceError::Store(StoreError::Unavailable(_) | StoreError::Conflict)) => {
                // For how long, the feed says.
                return self.pause().await;
            }
            Err(error) => return Err(EndCause::Failed(error.to_string()).into()),
        };
        self.cursor.accept(&page).map_err(EndCause::Expired)?;
        let (epoch, to, more) = (page.epoch, page.next, page.more);
        let mut changes = page
            .changes
            .into_iter()
            .map(|change| Arc::new(shared.reader.watched(epoch, change)))
            .peekable();
        while changes.peek().is_some() {
            self.rights.refresh()?;
            let part = part(changes.by_ref(), to, |tenant| self.rights.include(tenant));
            self.deliver(part).await?;
        }
        self.cursor.position = to;
        if !more {
            self.joined = Some(generation);
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            () = self.inlet.left() => Err(Stop::Left),
        }
    }

    async fn deliver(&mut self, part: Part) -> Result<(), Stop> {
        let Part { changes, to } = part;
        self.cursor.position = to;
        if changes.is_empty() && self.sent.elapsed() < self.shared.limits.heartbeat {
            return Ok(());
        }
        self.send(changes).await
    }

    /// Until there is something new, the client is gone, or it is time for a heartbeat.
    async fn wait(&mut self, heartbeats: bool) -> Result<(), Stop> {
        let due = self.sent + self.shared.limits.heartbeat;
        tokio::select! {
            // The feed lives in what this stream holds.
            _ = self.view.changed() => Ok(()),
            () = self.inlet.left() => Err(Stop::Left),
            // The next step asks.
            () = tokio::time::sleep_until(self.rights.due) => Ok(()),
            () = tokio::time::sleep_until(due), if heartbeats => self.send(Vec::new()).await,
        }
    }

    async fn send(&mut self, changes: Vec<Arc<WatchedChange>>) -> Result<(), Stop> {
        let count = changes.len();
        let delivery = Delivery { changes, cursor: self.shared.cursors.write(self.cursor) };
        let (mut view, patience) = (self.view.clone(), self.shared.limits.patience);
        let mut put = std::pin::pin!(self.inlet.put(delivery));
        let mut slow = std::pin::pin!(tokio::time::sleep(patience));
        loop {
            tokio::select! {
                biased;
                put = &mut put => {
                    put?;
                    break;
                }
                () = &mut slow => return Err(EndCause::Slow { patience }.into()),
                // A client that does not read must not hold up the server's end.
                view = view.wait_for(|view| ended(view).is_err()) => {
                    if let Ok(view) = view {
                        ended(&view)?;
                    }
                    break;
                }
                () = tokio::time::sleep_until(self.rights.due) => self.rights.refresh()?,
            }
        }
        self.counted.counts.given(count);
        self.sent = Instant::now();
        Ok(())
    }
}

/// An end that comes for all streams.
fn ended(view: &View) -> Result<(), EndCause> {
    if view.draining {
        Err(EndCause::Draining)
    } else if view.database == Answers::Lost {
        Err(EndCause::Database)
    } else {
        Ok(())
    }
}

/// What fits into one message. The rest of the changes stays where it is.
fn part(
    changes: impl Iterator<Item = Arc<WatchedChange>>,
    end: ChangePosition,
    keep: impl Fn(&TenantId) -> bool,
) -> Part {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for change in changes {
        if !keep(&change.tenant) {
            continue;
        }
        let to = change.position;
        bytes += change.bytes();
        kept.push(change);
        if kept.len() >= MAX_CHANGES || bytes >= MAX_BYTES {
            return Part { changes: kept, to };
        }
    }
    Part { changes: kept, to: end }
}
