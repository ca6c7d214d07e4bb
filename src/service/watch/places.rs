//! Places for streams: so many, and of each caller so many of them, so that none takes all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::WatchLimits;
use crate::domain::refusal::Refusal;

/// The places of one process.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    limit_per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_caller: HashMap<String, usize>,
}

impl Places {
    pub(super) fn new(limits: &WatchLimits) -> Arc<Self> {
        let (limit, limit_per_caller) = (limits.streams, limits.streams_per_caller);
        Arc::new(Places { limit, limit_per_caller, taken: Mutex::default() })
    }

    /// A place for a stream of this caller, if there is one.
    pub(super) fn take(self: &Arc<Self>, caller: &str) -> Result<Place, Refusal> {
        let mut taken = self.taken();
        if taken.all >= self.limit {
            return Err(Refusal::WatchStreamLimit { limit: self.limit, per_caller: false });
        }
        let own = taken.by_caller.get(caller).copied().unwrap_or_default();
        if own >= self.limit_per_caller {
            return Err(Refusal::WatchStreamLimit {
                limit: self.limit_per_caller,
                per_caller: true,
            });
        }
        taken.all += 1;
        taken.by_caller.insert(caller.to_owned(), own + 1);
        drop(taken);
        Ok(Place { places: Arc::clone(self), caller: caller.to_owned() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    caller: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        let left = taken.by_caller.get_mut(&self.caller).map(|own| {
            *own = own.saturating_sub(1);
            *own
        });
        if left == Some(0) {
            taken.by_caller.remove(&self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_takes_all_places_and_they_come_back() {
        let limits = WatchLimits { streams: 3, streams_per_caller: 2, ..WatchLimits::default() };
        let places = Places::new(&limits);
        let refused = |caller| places.take(caller).unwrap_err();
        let own = Refusal::WatchStreamLimit { limit: 2, per_caller: true };
        let [first, _second] = ["chat", "chat"].map(|caller| places.take(caller).unwrap());
        assert_eq!(refused("chat"), own);
        let other = places.take("admin").unwrap();
        for caller in ["chat", "third"] {
            let all = Refusal::WatchStreamLimit { limit: 3, per_caller: false };
            assert_eq!(refused(caller), all, "{caller}");
        }
        drop(other);
        assert_eq!(refused("chat"), own);
        drop(first);
        places.take("chat").unwrap();
        assert_eq!(places.taken().by_caller.len(), 1, "callers without streams are forgotten");
    }
}
