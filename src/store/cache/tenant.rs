//! What is cached of a tenant: its catalog, and how far its changes have been applied here.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::sync::{Arc, AtomicU64, Mutex, Ordering as Memory, PoisonError};
use crate::domain::catalog::Catalog;
use crate::store::State;

/// Changes that wait for an earlier one; more than that, and the tenant is read anew.
const MAX_WAITING: usize = 64;

/// A tenant in use, as the cache holds it.
#[derive(Debug)]
pub(super) struct CachedTenant {
    /// Tells what was cached for this entry from what was cached for an earlier one of the same
    /// tenant: members and roles are keyed by it, so that they go with their tenant's entry.
    pub(super) incarnation: u64,
    /// The id of the epoch that the revisions are of.
    pub(super) epoch: u64,
    pub(super) catalog: Arc<Catalog>,
    /// Every change up to this revision has been applied to what is cached. Written under `waiting`,
    /// read without it.
    applied: AtomicU64,
    /// The newest revision that an answer was given at: no later answer may be older.
    answered: AtomicU64,
    /// The newest state that a view was made of.
    state: Mutex<Arc<State>>,
    /// Revisions that were applied out of turn.
    waiting: Mutex<BTreeSet<u64>>,
}

impl CachedTenant {
    pub(super) fn new(incarnation: u64, epoch: u64, catalog: Arc<Catalog>, revision: u64) -> Self {
        CachedTenant {
            incarnation,
            epoch,
            catalog,
            applied: AtomicU64::new(revision),
            answered: AtomicU64::new(revision),
            state: Mutex::new(Arc::new(State::at(epoch, revision))),
            waiting: Mutex::default(),
        }
    }

    /// The state that cached members and roles can be used for: none while an answer was already
    /// given at a newer one.
    pub(super) fn usable(&self) -> Option<u64> {
        let applied = self.applied.load(Memory::Acquire);
        (applied >= self.answered.load(Memory::Acquire)).then_some(applied)
    }

    /// Whether an entry that was read at this revision must not take this one's place: it would know
    /// no more, or give answers from before one that was given.
    pub(super) fn knows_no_less(&self, revision: u64) -> bool {
        self.applied.load(Memory::Acquire) >= revision
            || self.answered.load(Memory::Acquire) > revision
    }

    /// The state at a revision: one for all views of it, as long as they come in order.
    pub(super) fn state(&self, revision: u64) -> Arc<State> {
        let mut newest = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match revision.cmp(&newest.revision()) {
            Ordering::Less => return Arc::new(State::at(self.epoch, revision)),
            Ordering::Equal => {}
            Ordering::Greater => *newest = Arc::new(State::at(self.epoch, revision)),
        }
        Arc::clone(&newest)
    }

    /// An answer is given at this revision from elsewhere.
    pub(super) fn answered_at(&self, revision: u64) {
        self.answered.fetch_max(revision, Memory::AcqRel);
    }

    /// Whether a change is applied already, or waits for its turn.
    pub(super) fn knows(&self, revision: u64) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        revision <= self.applied.load(Memory::Acquire) || waiting.contains(&revision)
    }

    /// A change was applied: what it touched is no longer cached. Revisions are dense, so an earlier
    /// change that is not applied yet is known by its gap, and this one waits for it. `false` when
    /// so many wait that something must have been missed.
    pub(super) fn apply(&self, revision: u64) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut applied = self.applied.load(Memory::Acquire);
        if revision > applied {
            waiting.insert(revision);
        }
        while waiting.remove(&(applied + 1)) {
            applied += 1;
        }
        self.applied.store(applied, Memory::Release);
        waiting.len() <= MAX_WAITING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(revision: u64) -> CachedTenant {
        let source = crate::domain::catalog::shipped()[1];
        CachedTenant::new(1, 1, Arc::new(Catalog::parse(source).unwrap()), revision)
    }

    #[test]
    fn changes_count_in_their_order_whatever_order_they_come_in() {
        let tenant = tenant(5);
        for (told, usable) in [(4, 5), (7, 5), (8, 5), (6, 8), (8, 8), (10, 8), (9, 10)] {
            assert!(tenant.apply(told));
            assert_eq!(tenant.usable(), Some(usable), "told of {told}");
        }
        assert!((20..20 + MAX_WAITING as u64).all(|revision| tenant.apply(revision)));
        assert!(!tenant.apply(500));
    }

    #[test]
    fn after_a_newer_answer_the_cache_is_not_used_until_it_has_caught_up() {
        let tenant = tenant(5);
        tenant.answered_at(7);
        assert_eq!(tenant.usable(), None);
        tenant.apply(6);
        assert_eq!(tenant.usable(), None);
        tenant.apply(7);
        assert_eq!(tenant.usable(), Some(7));
        tenant.answered_at(6);
        assert_eq!(tenant.usable(), Some(7));
    }
}
