//! A fill can never resurrect what was invalidated (DESIGN section 6.1).
//!
//! The danger: a load reads the old value, a change commits and invalidates, the load ends and puts
//! the old value back, for good. So a load takes a ticket before it reads, an invalidation makes
//! every ticket of its key void, and a fill with a void ticket is not made.
//!
//! Tickets are counted per stripe of keys and not per key, so that nothing has to be kept for keys
//! that are not cached. Two keys on one stripe cost each other a fill now and then, never an answer.
//!
//! It knows nothing of the cache that it guards: what fills and what removes is given to it. So it
//! also runs under a checker of interleavings, see `tests/interleavings`.

use std::hash::{BuildHasher, Hash, RandomState};

use super::sync::{Mutex, PoisonError};

/// Hands out tickets and keeps fills and invalidations of a key apart.
#[derive(Debug)]
pub(super) struct FillGuard {
    hasher: RandomState,
    generations: Box<[Mutex<u64>]>,
}

/// Taken before a load; good for one fill unless its key was invalidated meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    stripe: usize,
    generation: u64,
}

impl FillGuard {
    /// With this many stripes, at least one.
    pub(super) fn new(stripes: usize) -> Self {
        FillGuard {
            hasher: RandomState::new(),
            generations: (0..stripes.max(1)).map(|_| Mutex::new(0)).collect(),
        }
    }

    /// To be called before the value is read from where it is kept.
    pub(super) fn begin(&self, key: &impl Hash) -> Ticket {
        let stripe = self.stripe(key);
        Ticket { stripe, generation: self.on_stripe(stripe, |generation| *generation) }
    }

    /// Makes the fill, unless the key was invalidated since the ticket was taken.
    pub(super) fn fill(&self, ticket: Ticket, insert: impl FnOnce()) -> bool {
        self.on_stripe(ticket.stripe, |generation| {
            let good = *generation == ticket.generation;
            if good {
                insert();
            }
            good
        })
    }

    /// Voids every ticket of the key, and removes what is cached of it, as one step.
    pub(super) fn invalidate<R>(&self, key: &impl Hash, remove: impl FnOnce() -> R) -> R {
        self.on_stripe(self.stripe(key), |generation| {
            *generation += 1;
            remove()
        })
    }

    /// Voids every ticket, and removes everything, as one step.
    pub(super) fn invalidate_all(&self, remove: impl FnOnce()) {
        let mut locked: Vec<_> = (self.generations.iter())
            .map(|generation| generation.lock().unwrap_or_else(PoisonError::into_inner))
            .collect();
        locked.iter_mut().for_each(|generation| **generation += 1);
        remove();
    }

    fn stripe(&self, key: &impl Hash) -> usize {
        (self.hasher.hash_one(key) % self.generations.len() as u64) as usize
    }

    #[expect(clippy::indexing_slicing, reason = "a stripe is a remainder by their number")]
    fn on_stripe<R>(&self, stripe: usize, act: impl FnOnce(&mut u64) -> R) -> R {
        // A panic under the lock leaves a number behind, which is never half written.
        let mut generation =
            self.generations[stripe].lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_was_overtaken_does_not_fill() {
        let guard = FillGuard::new(8);
        let mut cached = None;
        let ticket = guard.begin(&"key");
        guard.invalidate(&"key", || ());
        assert!(!guard.fill(ticket, || cached = Some("old")));
        let ticket = guard.begin(&"key");
        assert!(guard.fill(ticket, || cached = Some("new")));
        assert_eq!(cached, Some("new"));
        // One load may fill many keys of a stripe, and a fill voids nobody's ticket.
        assert!(guard.fill(ticket, || cached = Some("newer")));
    }
}
