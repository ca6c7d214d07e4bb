//! Following what other processes change (DESIGN section 6.3): this replica's cache forgets what a
//! committed change touched as soon as the change is visible, and keeps confirming that it has.

use std::sync::Arc;
use std::time::Duration;

use super::readiness::Readiness;
use super::token::Tokens;
use crate::store::{
    Cached, ChangeListener as _, FollowCursor, Followed, Moment, NewEpoch, SqlStore, Standing,
    StoreError,
};

/// How often to ask when nobody wakes us: the net under lost notifications. Several times within
/// the bound that is promised.
const POLL: Duration = Duration::from_millis(250);
/// The longest that one question may take before the database counts as gone; or half of the bound
/// that is promised, if that is less. So a database that hangs is known to be gone before anybody
/// would have to wait for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many changes are taken at a time.
const BATCH: u64 = 1_000;

/// Keeps one replica's cache up to date with its database.
#[derive(Debug)]
pub struct Follower {
    store: SqlStore,
    cache: Arc<Cached>,
    tokens: Tokens,
    readiness: Readiness,
    cursor: FollowCursor,
    patience: Duration,
    /// For the log: told once, not at every poll.
    lost: bool,
}

impl Follower {
    /// Begins to follow. Must come before the first fill of the cache, which may then be as old as
    /// this moment but no older.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn start(
        store: SqlStore,
        cache: Arc<Cached>,
        tokens: Tokens,
        readiness: Readiness,
    ) -> Result<Self, StoreError> {
        let asked = Moment::now();
        let cursor = store.follow_start().await?;
        // It may have failed over since it was opened. Nothing is cached yet.
        store.adopt(cursor.epoch(), cursor.history());
        tokens.begin_epoch(cursor.epoch().id());
        cache.following().confirm(asked);
        let patience = PATIENCE.min(cache.following().limits().staleness / 2);
        Ok(Follower { store, cache, tokens, readiness, cursor, patience, lost: false })
    }

    /// Follows until it is dropped.
    pub async fn run(mut self) {
        let mut wake = self.store.listen();
        loop {
            match self.catch_up().await {
                Ok(()) => self.found(),
                Err(error) => self.missed(&error),
            }
            // Woken or not: what counts is that it is asked soon enough.
            let woken = async {
                tokio::select! {
                    () = wake.next() => {}
                    () = self.store.another_history() => {}
                }
            };
            tokio::time::timeout(POLL, woken).await.ok();
        }
    }

    /// Applies everything that is visible now.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        loop {
            let asked = Moment::now();
            let question = self.store.follow(&self.cursor, BATCH);
            let Ok(followed) = tokio::time::timeout(self.patience, question).await else {
                self.store.suspect();
                return Err(StoreError::Unavailable("it takes too long to answer".to_owned()));
            };
            let followed = followed?;
            self.begin_anew(&followed);
            for change in &followed.changes {
                self.cache.committed(followed.epoch.id(), &change.change);
            }
            self.cursor = followed.next;
            if !followed.more {
                self.cache.following().confirm(asked);
                return Ok(());
            }
        }
    }

    /// Drops what is held where it may be of another epoch, or not all of what changed is known. In
    /// this order: what is read from now on is of the new epoch, then no token of the old one is
    /// taken, then nothing of the old one is held.
    fn begin_anew(&self, followed: &Followed) {
        let Followed { epoch, history, gap, .. } = followed;
        let adopted = self.store.adopt(*epoch, *history);
        let is_new = self.tokens.begin_epoch(epoch.id());
        match adopted {
            Some(NewEpoch::FailedOver { from, to }) => tracing::warn!(
                timeline = to.timeline,
                timeline_before = from.timeline,
                same_cluster = to.system == from.system,
                "the database failed over: what was held is dropped, tokens and cursors from before \
                 are refused"
            ),
            Some(NewEpoch::Restored) => {
                tracing::warn!(epoch = epoch.number, "the database was restored: starting anew");
            }
            None if *gap => {
                tracing::warn!("changes were trimmed before they were seen: starting anew");
            }
            None => {}
        }
        if is_new || *gap {
            self.cache.forget_everything();
        }
    }

    fn found(&mut self) {
        self.readiness.hindered(None);
        self.readiness.impaired(self.store.write_obstacle());
        if std::mem::take(&mut self.lost) {
            tracing::info!("the database answers again");
        }
    }

    fn missed(&mut self, error: &StoreError) {
        self.cache.following().unreachable();
        let trouble = self.store.trouble();
        self.readiness.impaired(self.store.write_obstacle().or(trouble));
        // Readiness follows the grace: until then this replica still decides.
        if self.cache.following().standing() == Standing::Lost {
            let unfit = self.store.unfit().map(|unfit| unfit.to_string());
            let trouble = trouble.unwrap_or("the database does not answer");
            self.readiness.hindered(Some(unfit.as_deref().unwrap_or(trouble)));
        }
        if !std::mem::replace(&mut self.lost, true) {
            tracing::error!(%error, "changes cannot be followed; deciding from what is held");
        }
    }
}
