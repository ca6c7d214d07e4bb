//! One copy of what is equal, as long as anybody holds it.
//!
//! It is asked when something was loaded, and never on the way to a hot answer. What nobody holds
//! any more is found by sweeps: after a sweep that left so many things, a shard is asked as often as
//! that before the next one. So sweeping costs each question a constant, and at most as much as is
//! held, or came in since, lies about unused.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many locks there are: a sweep stops one shard, not all loads.
const SHARDS: usize = 64;

/// The fewest questions between two sweeps of a shard.
const SWEEP: usize = 64;

/// What can be shared: a clone is the same thing once more.
pub(super) trait Part: Clone + Eq + Hash {
    /// Whether anybody has it besides this one.
    fn is_held(&self) -> bool;

    /// What it takes, in bytes, without other parts that it is made of and without its pointer.
    fn bytes(&self) -> usize;
}

impl<T: Eq + Hash> Part for Arc<[T]> {
    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1
    }

    fn bytes(&self) -> usize {
        COUNTS + size_of_val::<[T]>(self)
    }
}

/// The two counts that stand before what an `Arc` points to.
pub(super) const COUNTS: usize = 2 * size_of::<usize>();

/// How many bytes several interners may know together.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Budget { limit, used: AtomicU64::new(0) }
    }

    /// What is known, in bytes.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What may be.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Two that ask at once may both get the last of it: it is exceeded by no more than that.
    fn take(&self, bytes: usize) -> bool {
        let good = self.used() + bytes as u64 <= self.limit;
        if good {
            self.used.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        good
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

/// Things of one kind, each once.
#[derive(Debug)]
pub(super) struct Interner<T> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<T>>]>,
}

#[derive(Debug)]
struct Shard<T> {
    known: HashSet<T>,
    /// How many questions there are until the next sweep.
    until_sweep: usize,
}

impl<T: Part> Interner<T> {
    pub(super) fn new() -> Self {
        let shard = || Mutex::new(Shard { known: HashSet::new(), until_sweep: SWEEP });
        Interner {
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// The known one that is equal, or else this one, known from now on. Nothing when the budget is
    /// used up: then it is for its owner to count.
    pub(super) fn share(&self, part: &T, budget: &Budget) -> Option<T> {
        let hash = self.hasher.hash_one(part);
        let mut shard = (self.shards.get(hash as usize % SHARDS)?)
            .lock()
            // A panic under the lock leaves a whole set behind.
            .unwrap_or_else(PoisonError::into_inner);
        shard.until_sweep -= 1;
        if shard.until_sweep == 0 {
            shard.sweep(budget);
        }
        if let Some(known) = shard.known.get(part) {
            return Some(known.clone());
        }
        budget.take(weight(part)).then(|| {
            shard.known.insert(part.clone());
            part.clone()
        })
    }
}

impl<T: Part> Shard<T> {
    fn sweep(&mut self, budget: &Budget) {
        self.known.retain(|part| {
            let held = part.is_held();
            if !held {
                budget.give_back(weight(part));
            }
            held
        });
        self.known.shrink_to(self.known.len() * 2);
        self.until_sweep = self.known.len().max(SWEEP);
    }
}

/// With its place in the set, which is up to half empty.
fn weight<T: Part>(part: &T) -> usize {
    allocated(part.bytes()) + 2 * (size_of::<T>() + 1)
}

/// What an allocator takes for so many bytes, roughly: it rounds up, and keeps what lists that grow
/// leave behind.
pub(super) const fn allocated(bytes: usize) -> usize {
    bytes + bytes / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32) -> Arc<[u32]> {
        Arc::from([number, 7])
    }

    #[test]
    fn what_is_equal_is_one_thing() {
        let (interner, budget) = (Interner::new(), Budget::new(1 << 20));
        let one = interner.share(&part(1), &budget).unwrap();
        let used = budget.used();
        assert!(Arc::ptr_eq(&one, &interner.share(&part(1), &budget).unwrap()));
        assert_eq!(budget.used(), used);
        assert_eq!(interner.share(&part(2), &budget), Some(part(2)));
        assert_eq!(budget.used(), 2 * used);
    }

    #[test]
    fn what_nobody_holds_is_forgotten_and_what_is_held_stays() {
        let (interner, budget) = (Interner::new(), Budget::new(1 << 20));
        let kept = interner.share(&part(0), &budget).unwrap();
        let alone = budget.used();
        // Held for a while, by nobody in the end.
        let crowd: Vec<_> =
            (1..=5_000).map(|number| interner.share(&part(number), &budget)).collect();
        assert_eq!(budget.used(), 5_001 * alone);
        drop(crowd);
        // Others come and go.
        for number in 10_000..30_000 {
            interner.share(&part(number), &budget).unwrap();
        }
        let most = 2 * (SHARDS * SWEEP) as u64 * alone;
        assert!(budget.used() <= most, "{} > {most}", budget.used());
        assert!(Arc::ptr_eq(&kept, &interner.share(&part(0), &budget).unwrap()));
    }

    #[test]
    fn beyond_the_budget_nothing_new_is_known() {
        let (interner, budget) = (Interner::new(), Budget::new(weight(&part(1)) as u64));
        let one = interner.share(&part(1), &budget).unwrap();
        assert_eq!(interner.share(&part(2), &budget), None);
        assert!(Arc::ptr_eq(&one, &interner.share(&part(1), &budget).unwrap()));
        drop(one);
        // Room comes back with the sweeps.
        assert!((2..10_000).any(|number| interner.share(&part(number), &budget).is_some()));
    }
}
