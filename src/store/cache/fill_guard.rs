//! A fill can never resurrect what was invalidated (DESIGN section 6.1).
//!
//! The danger: a load reads the old value, a change commits and invalidates, the load ends and puts
//! the old value back, for good. So a load takes a ticket before it reads, an invalidation makes
//! every ticket of its key void, and a fill with a void ticket is not made.
//!
//! Tickets are counted per stripe of keys and not per key, so that nothing has to be kept for keys
//! that are not cached. Two keys on one stripe cost each other a fill now and then, never an answer.
//!
//! What threads keep for themselves of a key (see `front`) is good as long as its *version* is the
//! one that was taken before looking: a look takes no lock.
//!
//! It knows nothing of the cache that it guards: what fills and what removes is given to it. So it
//! also runs under a checker of interleavings, see `tests/interleavings`.

use std::hash::{BuildHasher, Hash, RandomState};

use super::sync::{AtomicU64, Mutex, Ordering, PoisonError};

/// Hands out tickets and keeps fills and invalidations of a key apart.
#[derive(Debug)]
pub(super) struct FillGuard {
    hasher: RandomState,
    stripes: Box<[Stripe]>,
}

/// What is known of the keys that share it.
#[derive(Debug, Default)]
struct Stripe {
    /// How often tickets were made void.
    generation: Mutex<u64>,
    /// How often what is cached was replaced or removed, twice: odd while that is being done.
    /// Written under `generation`, read without it.
    version: AtomicU64,
}

/// Taken before a load; good for one fill unless its key was invalidated meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    stripe: usize,
    generation: u64,
    version: u64,
}

/// What happened to the keys of a stripe since a ticket was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meanwhile {
    Nothing,
    /// Something was put into its place.
    Replaced,
}

/// Taken before what is cached of a key is looked at; good as long as nothing of it was replaced or
/// removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    stripe: usize,
    number: u64,
}

impl FillGuard {
    /// With this many stripes, at least one.
    pub(super) fn new(stripes: usize) -> Self {
        FillGuard {
            hasher: RandomState::new(),
            stripes: (0..stripes.max(1)).map(|_| Stripe::default()).collect(),
        }
    }

    /// To be called before the value is read from where it is kept.
    pub(super) fn begin(&self, key: &impl Hash) -> Ticket {
        let number = self.number(key);
        self.stripe(number).locked(|generation, version| Ticket {
            stripe: number,
            generation: *generation,
            version: version.load(Ordering::SeqCst),
        })
    }

    /// Makes the fill, unless the key was invalidated since the ticket was taken.
    pub(super) fn fill(&self, ticket: Ticket, insert: impl FnOnce()) -> bool {
        self.stripe(ticket.stripe).locked(|generation, _| {
            let good = *generation == ticket.generation;
            if good {
                insert();
            }
            good
        })
    }

    /// The same for a key whose versions are looked at: the value may take the place of another.
    ///
    /// What fills is told whether anything was put into a place since the ticket was taken. What was
    /// may be evicted again, and what was answered from it is then known to nobody.
    pub(super) fn replace<R>(
        &self,
        ticket: Ticket,
        insert: impl FnOnce(Meanwhile) -> R,
    ) -> Option<R> {
        self.stripe(ticket.stripe).locked(|generation, version| {
            let unchanged = version.load(Ordering::SeqCst) == ticket.version;
            let meanwhile = if unchanged { Meanwhile::Nothing } else { Meanwhile::Replaced };
            (*generation == ticket.generation).then(|| changing(version, || insert(meanwhile)))
        })
    }

    /// Voids every ticket of the key, and removes what is cached of it, as one step. For keys whose
    /// versions nobody looks at.
    pub(super) fn void<R>(&self, key: &impl Hash, remove: impl FnOnce() -> R) -> R {
        self.stripe(self.number(key)).locked(|generation, _| {
            *generation += 1;
            remove()
        })
    }

    /// Voids every ticket and version of the key, and removes what is cached of it, as one step.
    pub(super) fn invalidate<R>(&self, key: &impl Hash, remove: impl FnOnce() -> R) -> R {
        self.stripe(self.number(key)).locked(|generation, version| {
            *generation += 1;
            changing(version, remove)
        })
    }

    /// Voids every ticket and version, and removes everything, as one step.
    pub(super) fn invalidate_all(&self, remove: impl FnOnce()) {
        let mut locked: Vec<_> = (self.stripes.iter())
            .map(|stripe| {
                let generation = stripe.generation.lock().unwrap_or_else(PoisonError::into_inner);
                (generation, &stripe.version)
            })
            .collect();
        for (generation, version) in &mut locked {
            **generation += 1;
            version.fetch_add(1, Ordering::SeqCst);
        }
        remove();
        for (_, version) in &locked {
            version.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What is cached of the key from now on belongs to this version; none while it is being
    /// changed.
    pub(super) fn version(&self, key: &impl Hash) -> Option<Version> {
        let stripe = self.number(key);
        let number = self.stripe(stripe).version.load(Ordering::SeqCst);
        number.is_multiple_of(2).then_some(Version { stripe, number })
    }

    /// Whether nothing was replaced or removed since the version was taken.
    pub(super) fn is_still(&self, version: Version) -> bool {
        self.stripe(version.stripe).version.load(Ordering::SeqCst) == version.number
    }

    fn number(&self, key: &impl Hash) -> usize {
        (self.hasher.hash_one(key) % self.stripes.len() as u64) as usize
    }

    #[expect(clippy::indexing_slicing, reason = "a stripe's number is a remainder by how many")]
    fn stripe(&self, number: usize) -> &Stripe {
        &self.stripes[number]
    }
}

impl Stripe {
    fn locked<R>(&self, act: impl FnOnce(&mut u64, &AtomicU64) -> R) -> R {
        // A panic under the lock leaves a number behind, which is never half written, and at worst
        // an odd version, which nobody uses.
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut generation, &self.version)
    }
}

/// Who looks meanwhile sees that; who looked before sees it afterwards.
fn changing<R>(version: &AtomicU64, change: impl FnOnce() -> R) -> R {
    version.fetch_add(1, Ordering::SeqCst);
    let result = change();
    version.fetch_add(1, Ordering::SeqCst);
    result
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

    #[test]
    fn a_version_is_good_until_something_of_its_key_changes() {
        let guard = FillGuard::new(8);
        let version = guard.version(&"key").unwrap();
        let ticket = guard.begin(&"key");
        assert!(guard.fill(ticket, || assert!(guard.is_still(version))));
        assert!(guard.is_still(version));
        let looked = |meanwhile| {
            assert_eq!(guard.version(&"key"), None);
            meanwhile
        };
        assert_eq!(guard.replace(ticket, looked), Some(Meanwhile::Nothing));
        assert_eq!(guard.replace(ticket, looked), Some(Meanwhile::Replaced));
        assert!(!guard.is_still(version));
        let version = guard.version(&"key").unwrap();
        guard.void(&"key", || ());
        assert!(guard.is_still(version));
        assert_eq!(guard.replace(ticket, |_| ()), None);
        guard.invalidate(&"key", || assert_eq!(guard.version(&"key"), None));
        assert!(!guard.is_still(version));
        let version = guard.version(&"key").unwrap();
        guard.invalidate_all(|| assert_eq!(guard.version(&"key"), None));
        assert!(!guard.is_still(version));
    }
}
