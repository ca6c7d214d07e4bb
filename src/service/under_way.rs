//! What a caller has under way at once, of what all callers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of something that is under way. Clones are the same count.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    /// How much there is.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// So much more, if it is no more than the limit then: what finds no room is never counted, not
    /// even for as long as it takes to refuse it.
    #[must_use]
    pub fn add(&self, more: usize, limit: usize) -> bool {
        let fits = |count: usize| count.checked_add(more).filter(|count| *count <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// So much of what was added is over.
    pub fn remove(&self, less: usize) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

/// What one caller has under way. It outlives a change of what the caller may do.
#[derive(Debug, Clone, Default)]
pub struct UnderWay {
    /// Calls that end by themselves.
    pub calls: Count,
    /// Streams of questions.
    pub streams: Count,
    /// The bytes of their messages.
    pub bytes: Count,
}

impl PartialEq for UnderWay {
    /// It says nothing of what a caller is.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for UnderWay {}
