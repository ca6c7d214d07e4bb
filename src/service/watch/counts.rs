//! What is counted of watching.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its client went away.
    Left,
    /// Its client did not read.
    Slow,
    /// The server goes away.
    Draining,
    /// The database did not answer for longer than the grace.
    Database,
    /// Changes that it had not seen are gone.
    Expired,
    /// Its caller may not watch any more.
    Revoked,
    /// A fault of ours.
    Failed,
}

impl EndReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [EndReason; 7] = [
        EndReason::Left,
        EndReason::Slow,
        EndReason::Draining,
        EndReason::Database,
        EndReason::Expired,
        EndReason::Revoked,
        EndReason::Failed,
    ];

    /// A stable name for whoever reads the numbers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Left => "left",
            EndReason::Slow => "slow",
            EndReason::Draining => "draining",
            EndReason::Database => "database",
            EndReason::Expired => "expired",
            EndReason::Revoked => "revoked",
            EndReason::Failed => "failed",
        }
    }
}

/// Streams, and what they carried since the start.
#[derive(Debug, Default)]
pub struct WatchCounts {
    open: AtomicU64,
    changes: AtomicU64,
    ends: [AtomicU64; EndReason::ALL.len()],
}

impl WatchCounts {
    /// How many streams are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many changes were given to streams: one that goes to two counts twice.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// How many streams ended for this reason.
    #[must_use]
    pub fn ends(&self, reason: EndReason) -> u64 {
        self.ends.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn begun(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn given(&self, changes: usize) {
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, reason: EndReason) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.ends.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
