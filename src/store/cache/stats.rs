//! How well the cache does its work, for operators and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Members that were cached when asked for.
    pub member_hits: u64,
    /// Members that had to be read.
    pub member_misses: u64,
    /// Custom roles that were cached when asked for.
    pub role_hits: u64,
    /// Custom roles that had to be read.
    pub role_misses: u64,
    /// Views that were read past the cache, because the caller asked for it or because the cache
    /// could not give one state.
    pub bypasses: u64,
    /// What is cached takes about this many bytes.
    pub weight: u64,
}

/// The same, counting.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) member_hits: Counter,
    pub(super) member_misses: Counter,
    pub(super) role_hits: Counter,
    pub(super) role_misses: Counter,
    pub(super) bypasses: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
