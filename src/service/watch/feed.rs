//! The one reader of changes for all streams of a process: it asks the database while there is at
//! least one stream, and keeps the newest changes for them to read. However many streams there are,
//! the database is asked once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::reader::Reader;
use super::{WatchLimits, WatchedChange};
use crate::service::error::ServiceError;
use crate::store::{ChangePosition, Epoch, StoreError};

/// How often to ask when nobody wakes us. A change that waits for an older transaction is settled
/// when that one ends, which wakes nobody.
const POLL: Duration = Duration::from_millis(250);
/// How many changes are read at a time.
const PAGE: u64 = 1_000;

/// What streams see of the feed.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The newest changes. None until they are first read.
    pub(super) ring: Option<Ring>,
    pub(super) database: Answers,
    /// The server goes away.
    pub(super) draining: bool,
}

/// Whether the database does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Answers {
    #[default]
    Yes,
    NotSince(Instant),
    /// For longer than the grace.
    Lost,
}

/// The newest changes in their order: all of them behind `from` and up to `to`.
#[derive(Debug)]
pub(super) struct Ring {
    /// Another one whenever this is not what the ring before led to.
    pub(super) generation: u64,
    pub(super) epoch: Epoch,
    pub(super) from: ChangePosition,
    pub(super) to: ChangePosition,
    changes: VecDeque<Arc<WatchedChange>>,
    bytes: usize,
}

impl Ring {
    fn new(generation: u64, epoch: Epoch, at: ChangePosition) -> Self {
        Ring { generation, epoch, from: at, to: at, changes: VecDeque::new(), bytes: 0 }
    }

    fn extend(&mut self, changes: Vec<WatchedChange>, to: ChangePosition, limits: &WatchLimits) {
        for change in changes {
            self.bytes += change.bytes();
            self.changes.push_back(Arc::new(change));
            while self.changes.len() > limits.ring_changes || self.bytes > limits.ring_bytes {
                let Some(oldest) = self.changes.pop_front() else { break };
                self.bytes -= oldest.bytes();
                self.from = oldest.position;
            }
        }
        self.to = to;
    }

    /// The changes behind a position that is not in front of the ring.
    pub(super) fn after(
        &self,
        position: ChangePosition,
    ) -> impl Iterator<Item = &Arc<WatchedChange>> {
        let skipped = self.changes.partition_point(|change| change.position <= position);
        self.changes.range(skipped..)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    view: watch::Sender<View>,
    joined: Notify,
}

impl Feed {
    pub(super) fn new() -> Self {
        Feed { view: watch::Sender::new(View::default()), joined: Notify::new() }
    }

    /// For a stream: the feed runs for as long as somebody holds this.
    pub(super) fn join(&self) -> watch::Receiver<View> {
        let receiver = self.view.subscribe();
        self.joined.notify_one();
        receiver
    }

    /// Tells all streams, and those that come, to go elsewhere.
    pub(super) fn drain(&self) {
        self.view.send_modify(|view| view.draining = true);
    }

    /// Runs until it is dropped.
    pub(super) async fn run(&self, reader: &Reader, limits: &WatchLimits) {
        let mut generation = 0;
        loop {
            while self.view.receiver_count() == 0 {
                self.joined.notified().await;
            }
            let mut wake = reader.listen();
            while self.view.receiver_count() > 0 {
                match self.catch_up(reader, limits, &mut generation).await {
                    Ok(()) => self.answered(),
                    Err(error) => self.missed(&error, limits.outage_grace),
                }
                tokio::select! {
                    () = wake.next() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = self.view.closed() => {}
                }
            }
            // Nobody watches: nothing is asked and nothing is held.
            self.view.send_modify(|view| {
                view.ring = None;
                view.database = Answers::Yes;
            });
        }
    }

    async fn catch_up(
        &self,
        reader: &Reader,
        limits: &WatchLimits,
        generation: &mut u64,
    ) -> Result<(), ServiceError> {
        loop {
            let here = self.view.borrow().ring.as_ref().map(|ring| (ring.to, ring.epoch));
            let Some((position, epoch)) = here else {
                let end = reader.end().await?;
                self.begin(generation, end.epoch, end.position);
                return Ok(());
            };
            let page = reader.page(position, PAGE).await?;
            if page.gap || page.epoch != epoch {
                // Each stream asks again from where it is, and learns what this means for it.
                tracing::warn!(
                    epoch = page.epoch.number,
                    "watched changes are gone: starting anew"
                );
                self.begin(generation, page.epoch, page.next);
                return Ok(());
            }
            let changes =
                page.changes.into_iter().map(|change| reader.watched(epoch, change)).collect();
            self.view.send_if_modified(|view| {
                let Some(ring) = &mut view.ring else { return false };
                let moved = ring.to != page.next;
                ring.extend(changes, page.next, limits);
                moved
            });
            if !page.more {
                return Ok(());
            }
        }
    }

    fn begin(&self, generation: &mut u64, epoch: Epoch, at: ChangePosition) {
        *generation += 1;
        self.view.send_modify(|view| view.ring = Some(Ring::new(*generation, epoch, at)));
    }

    fn answered(&self) {
        self.view.send_if_modified(|view| {
            std::mem::replace(&mut view.database, Answers::Yes) != Answers::Yes
        });
    }

    fn missed(&self, error: &ServiceError, grace: Duration) {
        self.view.send_if_modified(|view| {
            let now = match view.database {
                Answers::Yes => {
                    if matches!(error, ServiceError::Store(StoreError::Unavailable(_))) {
                        tracing::warn!(%error, "changes cannot be read for watchers");
                    } else {
                        tracing::error!(%error, "changes cannot be read for watchers");
                    }
                    Answers::NotSince(Instant::now())
                }
                Answers::NotSince(since) if since.elapsed() > grace => Answers::Lost,
                as_before => as_before,
            };
            std::mem::replace(&mut view.database, now) != now
        });
    }
}
