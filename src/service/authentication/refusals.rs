//! Who was not recognized: counted by reason, and logged now and then.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Unproven;

/// How often it is logged at most. Whoever knocks must not be able to fill a disk.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What was refused since the start.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    by_reason: BTreeMap<&'static str, u64>,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// Counts one, and logs it unless another was logged just now. Nothing of the credential itself
    /// is logged.
    pub fn add(&self, why: &Unproven, method: &str) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.by_reason.entry(why.name()).or_default() += 1;
        if counted.logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            counted.unlogged += 1;
            return;
        }
        counted.logged = Some(Instant::now());
        let others = std::mem::take(&mut counted.unlogged);
        drop(counted);
        tracing::warn!(
            reason = why.name(),
            method,
            others,
            "a call came from nobody that is known"
        );
    }

    /// How many, by reason.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.by_reason.iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}
