//! Which history of the database a server is in, and which one this replica is in.
//!
//! **Vocabulary.** A PostgreSQL server is a *primary* or a *standby*, which repeats what a primary
//! does, now or minutes later. When a standby is promoted, it starts a new *timeline*: what the old
//! primary did after the last change that reached it is not part of that. A [`History`] is the
//! server's system identifier with its timeline; both are the server's own, so that all replicas see
//! the same one without agreeing on anything or writing it down. An [`Epoch`] is the number that
//! `migrate --after-restore` counts up, together with the history. Revisions, transaction numbers and
//! positions mean something within one epoch only: after a failover that lost writes, the same
//! numbers are given to other changes. So a state, a token, a cursor and what is cached each carry the
//! epoch they are of, bound when the state was read and not when the text was made.
//!
//! **Why a timeline, and which.** `pg_control_checkpoint()` still tells the old timeline between a
//! promotion and the next checkpoint. The name of the current WAL file tells the one that is written
//! to, from the first moment on; every user may ask for it, and for the system identifier. A timeline
//! changes with each promotion, whether or not writes were lost. That is on purpose: nobody can tell
//! from here.
//!
//! **Why it is asked once for each connection.** A session keeps its server process, a primary never
//! turns into a standby and never changes its timeline while it runs, and a standby is refused. So
//! what a new connection says holds for as long as it lives. The questions that everything hangs on
//! ask again all the same, in the statement that reads the state: a look of the follower, and the
//! statement that takes the turn of a write.
//!
//! **Flow.** The follower is in the *adopted* epoch, and so are cache and tokens. A connection that
//! reads or writes is used only if its server is in that history; one of the follower also if it is in
//! a newer one:
//!
//! - a standby, or a primary of an older timeline than one that was seen (an old primary that still
//!   lives), is refused. If nothing else can be reached, the database is as good as gone.
//! - a newer history wakes the follower, whose own connections to the old one are not used any more.
//!   It looks, *adopts* it, and drops what is cached; then cursors and tokens of before are refused.
//!   Connections that were made before the adoption are closed when they would be used next.
//!
//! **Races.**
//! - *A read that began before the adoption* was made on a connection of the old history, and its
//!   state carries the old epoch: its token is refused from now on. It does not fill the cache, whose
//!   tickets the adoption has voided, and a load that ends after the adoption is an error.
//! - *A row that was written before the promotion* is read from either server, each time under the
//!   epoch of the server that gave it. If it was lost, only the old epoch ever had it.
//! - *A write under way* belongs to the server that its transaction began on, which says so with the
//!   tenant's lock. It is not committed once another history was adopted, and if that happened during
//!   the commit, its end is unknown. An acknowledged write's token names the history that has it, so
//!   that it is refused in one that may have lost it.
//! - *Another replica has not looked yet*: it refuses tokens of the new epoch, or signs tokens of the
//!   old one, for the time between two looks. Neither is taken for the other's.
//! - *A change of the old history that is told late* to the cache meets entries of another epoch, and
//!   is not applied to them.
//!
//! **What cannot be told from here.** A server that was put back to an earlier state without a new
//! timeline (a snapshot of its disk, a dump restored into it) looks as if nothing had happened:
//! `migrate --after-restore` says so. Two standbys that were promoted independently may have the same
//! timeline. An old primary that is cut off together with this replica goes on being followed: that
//! it is fenced is the cluster manager's promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{DbErr, QueryResult};
use sha2::{Digest, Sha256};
use sqlx::{Executor as _, PgConnection, Row as _};
use tokio::sync::Notify;

use super::open::SessionFault;
use super::{SqlStore, StoreError};

/// What tells the history of a PostgreSQL server, for the list of a `SELECT`.
pub(super) const COLUMNS: &str = "pg_is_in_recovery() AS standby, \
    CASE WHEN pg_is_in_recovery() THEN NULL \
    ELSE pg_walfile_name(pg_current_wal_lsn()) END AS wal_file, \
    (SELECT system_identifier FROM pg_control_system()) AS system";

/// Connections that were made this shortly after an adoption are made again: the question may have
/// been answered just before it.
const DOUBTFUL: Duration = Duration::from_secs(1);

/// A history of a database server; of SQLite, where there is one only, the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// The server's system identifier: which cluster it is.
    pub system: u64,
    /// Its timeline: how often a server of that cluster was promoted, as a rule.
    pub timeline: u32,
}

impl History {
    /// A number that no other history has, as far as chance goes; 0 of SQLite's.
    fn id(self) -> u64 {
        if self == History::default() {
            return 0;
        }
        digest(self.system, u64::from(self.timeline))
    }
}

/// An epoch of a database: within one, numbers of revisions, transactions and changes are not given
/// twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// Grows with each `migrate --after-restore`.
    pub number: u64,
    /// Names the server's history; 0 on SQLite.
    pub history: u64,
}

impl Epoch {
    pub(super) fn new(number: u64, history: History) -> Self {
        Epoch { number, history: history.id() }
    }

    /// Both in one number.
    #[must_use]
    pub fn id(self) -> u64 {
        if self.history == 0 { self.number } else { digest(self.number, self.history) }
    }
}

fn digest(one: u64, two: u64) -> u64 {
    let digest = Sha256::digest([one.to_be_bytes(), two.to_be_bytes()].concat());
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Why another epoch was adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewEpoch {
    /// A backup was restored, as `migrate --after-restore` says.
    Restored,
    /// Another server, or a promoted one, is the primary.
    FailedOver {
        /// Where this replica was.
        from: History,
        /// Where it is now.
        to: History,
    },
}

/// How many epochs were adopted since the start, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpochCounts {
    /// By a restored backup.
    pub restored: u64,
    /// By another history.
    pub failed_over: u64,
}

/// Why a server that answers must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A server that repeats what another one does.
    #[error("the database server is a standby")]
    Standby,
    /// A server that was a primary until another one was promoted.
    #[error(
        "the database server is an old primary, of timeline {timeline}; timeline {known} was seen"
    )]
    Superseded {
        /// Its own timeline.
        timeline: u32,
        /// The newest that this replica knows of the same cluster.
        known: u32,
    },
    /// A primary in a history that the follower has not adopted yet.
    #[error("the database server has just become the primary, and is not followed yet")]
    NotFollowed,
    /// Another database of Rolegate, with tokens and keys of its own.
    #[error("the database server has another database; restart the server to use it")]
    OtherDatabase,
    /// A database with transaction numbers of another server: a dump was restored.
    #[error(
        "the database was restored from a backup on another server; run `rolegate migrate \
         --after-restore`"
    )]
    Restored,
}

impl From<Unfit> for DbErr {
    fn from(unfit: Unfit) -> Self {
        DbErr::Custom(unfit.to_string())
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading and writing, in the adopted history only.
    Work,
    /// Finding out which history to adopt.
    Follow,
}

/// What this replica knows of its servers' histories. Shared by all pools of a store.
#[derive(Debug)]
pub(super) struct Lineage {
    known: Mutex<Known>,
    news: Notify,
    restored: AtomicU64,
    failed_over: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    number: u64,
    adopted: History,
    /// When, if not at the start.
    adopted_at: Option<Instant>,
    /// Not the adopted one between a connection that told of it and the follower's next look.
    newest: History,
    newest_at: Option<Instant>,
    /// Why the server that was tried last must not be used.
    unfit: Option<Unfit>,
}

impl Lineage {
    /// Of a replica that starts in this history.
    pub(super) fn new(history: History) -> Self {
        let known = Known {
            number: 0,
            adopted: history,
            adopted_at: None,
            newest: history,
            newest_at: None,
            unfit: None,
        };
        Lineage {
            known: Mutex::new(known),
            news: Notify::new(),
            restored: AtomicU64::new(0),
            failed_over: AtomicU64::new(0),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The adopted epoch.
    pub(super) fn epoch(&self) -> Epoch {
        let known = self.known();
        Epoch::new(known.number, known.adopted)
    }

    /// The adopted history.
    pub(super) fn history(&self) -> History {
        self.known().adopted
    }

    /// Why the server that was tried last must not be used.
    pub(super) fn unfit(&self) -> Option<Unfit> {
        self.known().unfit
    }

    pub(super) fn counts(&self) -> EpochCounts {
        EpochCounts {
            restored: self.restored.load(Ordering::Relaxed),
            failed_over: self.failed_over.load(Ordering::Relaxed),
        }
    }

    /// Completes when a server told of a history that is not adopted yet.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// The number that was read when the database was opened.
    pub(super) fn begin(&self, number: u64) {
        self.known().number = number;
    }

    /// Takes on what a look of the follower has told.
    pub(super) fn adopt(&self, number: u64, history: History) -> Option<NewEpoch> {
        let mut known = self.known();
        let (before, from) = (known.number, known.adopted);
        if (before, from) == (number, history) {
            return None;
        }
        known.number = number;
        if from == history {
            self.restored.fetch_add(1, Ordering::Relaxed);
            return Some(NewEpoch::Restored);
        }
        known.adopted = history;
        known.adopted_at = Some(Instant::now());
        known.see(history);
        self.failed_over.fetch_add(1, Ordering::Relaxed);
        Some(NewEpoch::FailedOver { from, to: history })
    }

    /// Judges a server by what one of its connections says.
    pub(super) fn judge(&self, told: Option<History>, purpose: Purpose) -> Result<(), Unfit> {
        let mut known = self.known();
        let verdict = known.judge(told, purpose);
        match verdict {
            Err(Unfit::NotFollowed) => self.news.notify_one(),
            Err(unfit) => known.unfit = Some(unfit),
            Ok(()) => known.unfit = None,
        }
        verdict
    }

    /// No server answers, so none is known that must not be used.
    pub(super) fn nobody(&self) {
        self.known().unfit = None;
    }

    /// Remembers why a server must not be used.
    pub(super) fn refuse(&self, unfit: Unfit) -> Unfit {
        self.known().unfit = Some(unfit);
        unfit
    }

    /// Whether a connection that was made so long ago can be of the history that it has to be of.
    pub(super) fn may_use(&self, age: Duration, purpose: Purpose) -> bool {
        let known = self.known();
        let since = match purpose {
            Purpose::Work => known.adopted_at,
            Purpose::Follow => known.newest_at,
        };
        since.is_none_or(|since| since.elapsed() > age.saturating_add(DOUBTFUL))
    }

    /// Asks a new connection.
    pub(super) async fn admit(
        &self,
        connection: &mut PgConnection,
        purpose: Purpose,
    ) -> Result<(), SessionFault> {
        let row = connection.fetch_one(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS}"))).await?;
        Ok(self.judge(told_in(&row)?, purpose)?)
    }
}

impl Known {
    fn see(&mut self, history: History) {
        if self.newest != history {
            self.newest = history;
            self.newest_at = Some(Instant::now());
        }
    }

    fn judge(&mut self, told: Option<History>, purpose: Purpose) -> Result<(), Unfit> {
        let history = told.ok_or(Unfit::Standby)?;
        let newest = self.newest;
        if history.system == newest.system && history.timeline < newest.timeline {
            return Err(Unfit::Superseded { timeline: history.timeline, known: newest.timeline });
        }
        // Another cluster has no order to this one. Where new connections lead to is what counts.
        self.see(history);
        if purpose == Purpose::Work && history != self.adopted {
            return Err(Unfit::NotFollowed);
        }
        Ok(())
    }
}

/// The history of a server from [`COLUMNS`]; `Some(None)` of a standby.
fn told(standby: bool, wal_file: Option<String>, system: Option<i64>) -> Option<Option<History>> {
    if standby {
        return Some(None);
    }
    let timeline = u32::from_str_radix(wal_file?.get(..8)?, 16).ok()?;
    // An unsigned number in a signed column.
    Some(Some(History { system: system?.cast_unsigned(), timeline }))
}

/// The same from a row of a statement that has them.
pub(super) fn told_by(row: &QueryResult) -> Result<Option<History>, DbErr> {
    told(row.try_get("", "standby")?, row.try_get("", "wal_file")?, row.try_get("", "system")?)
        .ok_or_else(|| DbErr::Custom("the database server does not tell its timeline".to_owned()))
}

/// The same from a row of the driver's.
pub(super) fn told_in(row: &sqlx::postgres::PgRow) -> Result<Option<History>, sqlx::Error> {
    told(row.try_get("standby")?, row.try_get("wal_file")?, row.try_get("system")?)
        .ok_or_else(|| sqlx::Error::Protocol("the server tells no timeline".to_owned()))
}

impl SqlStore {
    /// The epoch that is followed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.lineage.epoch()
    }

    /// The history of the database server that is followed.
    #[must_use]
    pub fn history(&self) -> History {
        self.inner.lineage.history()
    }

    /// How many epochs were adopted since the start.
    #[must_use]
    pub fn epoch_counts(&self) -> EpochCounts {
        self.inner.lineage.counts()
    }

    /// Why the database server that was tried last must not be used, if that is so.
    #[must_use]
    pub fn unfit(&self) -> Option<Unfit> {
        self.inner.lineage.unfit()
    }

    /// Adopts the epoch that a look has found; from then on no connection to a server of another
    /// history is used. What was derived from the epoch before must be dropped afterwards.
    pub fn adopt(&self, epoch: Epoch, history: History) -> Option<NewEpoch> {
        self.inner.lineage.adopt(epoch.number, history)
    }

    /// Completes when a server in another history was met: it is time to look.
    pub async fn another_history(&self) {
        self.inner.lineage.news().await;
    }

    /// Turns what was found about a server into an error, and has the probe look at it.
    pub(super) fn fit(&self, verdict: Result<(), Unfit>) -> Result<(), StoreError> {
        verdict.map_err(|unfit| {
            self.suspect();
            StoreError::Unavailable(unfit.to_string())
        })
    }

    /// Checks that the server which answered with these [`COLUMNS`] is the one that is followed.
    pub(super) fn is_followed(&self, row: Option<&QueryResult>) -> Result<(), StoreError> {
        let told = row.map(told_by).transpose()?.flatten();
        self.fit(self.inner.lineage.judge(told, Purpose::Work))
    }

    /// Checks that the epoch with this id is still the one that is followed.
    pub(super) fn still_in(&self, epoch: u64) -> Result<(), StoreError> {
        if self.epoch().id() == epoch {
            return Ok(());
        }
        Err(StoreError::Unavailable("the database failed over, or was restored".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(system: u64, timeline: u32) -> History {
        History { system, timeline }
    }

    #[test]
    fn what_a_server_says_is_understood() {
        let file = |text: &str| Some(text.to_owned());
        assert_eq!(told(true, None, Some(7)), Some(None));
        assert_eq!(
            told(false, file("0000001A0000000000000003"), Some(-1)),
            Some(Some(history(u64::MAX, 26)))
        );
        for (wal_file, system) in [(None, Some(7)), (file("x"), Some(7)), (file("00000001"), None)]
        {
            assert_eq!(told(false, wal_file, system), None);
        }
    }

    #[test]
    fn each_epoch_has_an_id_of_its_own() {
        assert_eq!(Epoch::new(3, History::default()).id(), 3);
        let ids: std::collections::BTreeSet<u64> = [(1, 7, 1), (2, 7, 1), (1, 7, 2), (1, 8, 1)]
            .into_iter()
            .map(|(number, system, timeline)| Epoch::new(number, history(system, timeline)).id())
            .collect();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn only_servers_of_the_adopted_history_are_used() {
        use Purpose::{Follow, Work};
        let lineage = Lineage::new(history(7, 2));
        let judge =
            |system, timeline, purpose| lineage.judge(Some(history(system, timeline)), purpose);
        assert_eq!(lineage.judge(None, Follow), Err(Unfit::Standby));
        assert_eq!(lineage.unfit(), Some(Unfit::Standby));
        assert_eq!(judge(7, 2, Work), Ok(()));
        assert_eq!(lineage.unfit(), None);
        let old = Unfit::Superseded { timeline: 1, known: 2 };
        assert_eq!(judge(7, 1, Work), Err(old));
        assert_eq!(judge(7, 1, Follow), Err(old));
        // From now on the follower must find the new one, and the old one is used for nothing new.
        assert_eq!(judge(7, 3, Work), Err(Unfit::NotFollowed));
        assert_eq!(judge(7, 2, Follow), Err(Unfit::Superseded { timeline: 2, known: 3 }));
        assert_eq!(judge(7, 3, Follow), Ok(()));
        assert_eq!(judge(7, 3, Work), Err(Unfit::NotFollowed));
        let (from, to) = (history(7, 2), history(7, 3));
        assert_eq!(lineage.adopt(0, to), Some(NewEpoch::FailedOver { from, to }));
        assert_eq!(judge(7, 3, Work), Ok(()));
        assert_eq!(lineage.adopt(0, to), None);
        assert_eq!(lineage.adopt(1, to), Some(NewEpoch::Restored));
        assert_eq!(lineage.counts(), EpochCounts { restored: 1, failed_over: 1 });
        // Another cluster, whatever its timeline.
        assert_eq!(judge(8, 1, Work), Err(Unfit::NotFollowed));
        assert_eq!(judge(8, 1, Follow), Ok(()));
    }

    #[test]
    fn connections_from_before_an_adoption_are_not_used() {
        let lineage = Lineage::new(history(7, 1));
        let second = Duration::from_secs(1);
        assert!(lineage.may_use(second, Purpose::Work), "there was none yet");
        lineage.judge(Some(history(7, 2)), Purpose::Follow).unwrap();
        assert!(!lineage.may_use(second, Purpose::Follow), "it leads to the old one");
        assert!(lineage.may_use(second, Purpose::Work), "nothing is adopted yet");
        lineage.adopt(0, history(7, 2));
        assert!(!lineage.may_use(second, Purpose::Work));
        assert!(!lineage.may_use(Duration::ZERO, Purpose::Work), "it may have been asked before");
    }
}
