//! What the use cases count, for whoever runs the service. Counting takes no lock and tells nothing
//! of one tenant or member from another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thread_local::ThreadLocal;

use crate::domain::decision::DecisionReason;

const REASONS: usize = DecisionReason::ALL.len();

/// A count that one thread writes and any may read: no core takes it from another.
#[derive(Debug, Default)]
pub struct OwnCount(AtomicU64);

impl OwnCount {
    /// Counts. For the thread that it belongs to.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Decisions since the start, by reason. A reason tells the verdict too. Each thread counts for
/// itself.
#[derive(Debug, Default)]
pub struct DecisionCounts(ThreadLocal<[OwnCount; REASONS]>);

impl DecisionCounts {
    /// How many were decided for this reason.
    #[must_use]
    pub fn get(&self, reason: DecisionReason) -> u64 {
        let of_thread =
            |counts: &[OwnCount; REASONS]| counts.get(reason as usize).map(OwnCount::get);
        self.0.iter().filter_map(of_thread).sum()
    }

    pub(super) fn add(&self, reason: DecisionReason, count: usize) {
        if let Some(counter) = self.0.get_or_default().get(reason as usize) {
            counter.add(count as u64);
        }
    }

    /// Counts many decisions with one addition for each reason.
    pub(super) fn add_all(&self, reasons: impl Iterator<Item = DecisionReason>) {
        let mut tally = Tally::default();
        reasons.for_each(|reason| tally.add(reason));
        self.add_tally(&tally);
    }

    pub(super) fn add_tally(&self, tally: &Tally) {
        for (reason, count) in DecisionReason::ALL.into_iter().zip(tally.0) {
            if count > 0 {
                self.add(reason, count);
            }
        }
    }
}

/// Decisions that are not counted yet, by reason: of answers that may still be dropped, or of many
/// that are counted together.
#[derive(Debug, Default)]
pub struct Tally([usize; REASONS]);

impl Tally {
    /// One more.
    pub fn add(&mut self, reason: DecisionReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// How a mutation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It was written.
    Committed,
    /// Things were so already.
    Unchanged,
    /// The same request had been answered before, and got the same answer.
    Replayed,
    /// Nothing was to be written.
    Trial,
    /// It ended before its commit: refused, failed, or its caller was gone.
    Abandoned,
    /// Its actor may not do it.
    RefusedToActor,
    /// The commit failed.
    Failed,
}

impl WriteOutcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [WriteOutcome; 7] = [
        WriteOutcome::Committed,
        WriteOutcome::Unchanged,
        WriteOutcome::Replayed,
        WriteOutcome::Trial,
        WriteOutcome::Abandoned,
        WriteOutcome::RefusedToActor,
        WriteOutcome::Failed,
    ];

    /// Its name for operators.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WriteOutcome::Committed => "committed",
            WriteOutcome::Unchanged => "unchanged",
            WriteOutcome::Replayed => "replayed",
            WriteOutcome::Trial => "trial",
            WriteOutcome::Abandoned => "abandoned",
            WriteOutcome::RefusedToActor => "refused_to_actor",
            WriteOutcome::Failed => "failed",
        }
    }
}

/// Mutations since the start, by outcome.
#[derive(Debug, Default)]
pub struct WriteCounts([AtomicU64; WriteOutcome::ALL.len()]);

impl WriteCounts {
    /// How many ended so.
    #[must_use]
    pub fn get(&self, outcome: WriteOutcome) -> u64 {
        self.0.get(outcome as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Counts a mutation when it is dropped: as abandoned, unless it was told how it ended.
#[derive(Debug)]
pub(super) struct WriteEnding {
    counts: Arc<WriteCounts>,
    outcome: WriteOutcome,
}

impl WriteEnding {
    pub(super) fn new(counts: &Arc<WriteCounts>) -> Self {
        WriteEnding { counts: Arc::clone(counts), outcome: WriteOutcome::Abandoned }
    }

    pub(super) fn is(&mut self, outcome: WriteOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for WriteEnding {
    fn drop(&mut self) {
        if let Some(count) = self.counts.0.get(self.outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_outcome_has_its_own_place_and_name() {
        let counts = DecisionCounts::default();
        for (position, reason) in DecisionReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, position);
            counts.add_all(std::iter::repeat_n(reason, position + 1));
        }
        for (position, reason) in DecisionReason::ALL.into_iter().enumerate() {
            assert_eq!(counts.get(reason), position as u64 + 1, "{}", reason.name());
        }
        for (position, outcome) in WriteOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, position);
        }
        let names: std::collections::BTreeSet<_> = (DecisionReason::ALL.map(DecisionReason::name))
            .into_iter()
            .chain(WriteOutcome::ALL.map(WriteOutcome::name))
            .collect();
        assert_eq!(names.len(), REASONS + WriteOutcome::ALL.len());
    }

    #[test]
    fn a_write_that_never_said_how_it_ended_was_abandoned() {
        let counts = Arc::new(WriteCounts::default());
        drop(WriteEnding::new(&counts));
        WriteEnding::new(&counts).is(WriteOutcome::Committed);
        let all = WriteOutcome::ALL.map(|outcome| counts.get(outcome));
        assert_eq!(all, [1, 0, 0, 0, 1, 0, 0]);
    }
}
