//! Which transactions could be seen at a moment.

use std::str::FromStr;

use sea_orm::DbBackend;

use super::{BadPosition, ChangePosition};

/// Which transactions are visible: all below `next`, but for those that were running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// All below this have ended.
    pub(super) oldest: u64,
    pub(super) next: u64,
    pub(super) running: Vec<u64>,
}

impl Snapshot {
    fn has_ended(&self, number: u64) -> bool {
        number < self.next && !self.running.contains(&number)
    }

    /// Whether something that this snapshot had not seen was trimmed before `now`. Of what was still
    /// running it is not known whether it made changes at all; if it has ended since, left nothing,
    /// and was overtaken by trimming, it counts as missed.
    pub(super) fn misses(
        &self,
        trimmed: u64,
        now: &Snapshot,
        returned: impl Fn(u64) -> bool,
    ) -> bool {
        now.next < self.next
            || trimmed >= self.next
            || self
                .running
                .iter()
                .any(|&number| number <= trimmed && now.has_ended(number) && !returned(number))
    }

    /// This snapshot plus what `now` sees up to a number. A transaction makes one change, so a number
    /// is never seen in part.
    pub(super) fn advanced_to(&self, number: u64, now: &Snapshot) -> Snapshot {
        let next = self.next.max(number + 1);
        let mut running: Vec<u64> = self
            .running
            .iter()
            .copied()
            .filter(|&running| running > number || !now.has_ended(running))
            .chain(
                now.running.iter().copied().filter(|running| (self.next..next).contains(running)),
            )
            .collect();
        running.sort_unstable();
        let oldest = running.first().copied().unwrap_or(next);
        Snapshot { oldest, next, running }
    }

    /// The same, claiming nothing beyond a number.
    pub(super) fn up_to(self, number: u64) -> Snapshot {
        let next = number.saturating_add(1).min(self.next);
        let running: Vec<u64> =
            self.running.into_iter().filter(|running| *running < next).collect();
        let oldest = running.first().copied().unwrap_or(next);
        Snapshot { oldest, next, running }
    }

    pub(super) fn horizon(&self, backend: DbBackend) -> ChangePosition {
        if backend == DbBackend::Postgres {
            // In front of the oldest transaction that may still commit.
            ChangePosition { tx: self.oldest, seq: 0 }
        } else {
            ChangePosition { tx: 0, seq: self.next.saturating_sub(1) }
        }
    }
}

/// The form of `pg_snapshot`: `oldest:next:running,running`.
impl FromStr for Snapshot {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(BadPosition);
        let number = |text: &str| text.parse::<u64>().map_err(|_| BadPosition);
        let (oldest, next) = (number(part()?)?, number(part()?)?);
        let running = part()?.split(',').filter(|text| !text.is_empty()).map(number);
        Ok(Snapshot { oldest, next, running: running.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn a_page_leaves_exactly_what_it_did_not_hold() {
        let seen = snapshot("10:20:10,15");
        let now = snapshot("15:30:15,22");
        // Of all that is visible now, the page held what is numbered up to 12: that was 10.
        assert_eq!(seen.advanced_to(12, &now), snapshot("15:20:15"));
        // Up to 23: everything below 20, then 20, 21, 23. 15 and 22 still run.
        assert_eq!(seen.advanced_to(23, &now), snapshot("15:24:15,22"));
        // What was running and lies behind the page's end is still to come, ended or not.
        let now = snapshot("30:30:");
        assert_eq!(seen.advanced_to(10, &now), snapshot("15:20:15"));
    }

    #[test]
    fn beyond_a_number_nothing_counts_as_seen() {
        assert_eq!(snapshot("10:30:10,22,25").up_to(23), snapshot("10:24:10,22"));
        assert_eq!(snapshot("25:30:25").up_to(20), snapshot("21:21:"));
        assert_eq!(snapshot("10:20:10").up_to(19), snapshot("10:20:10"));
    }

    #[test]
    fn only_what_was_never_seen_is_missed() {
        let seen = snapshot("10:20:10,15");
        let misses = |trimmed, now: &str, returned: &[u64]| {
            seen.misses(trimmed, &snapshot(now), |number| returned.contains(&number))
        };
        assert!(!misses(9, "30:30:", &[10, 15]), "trimmed long before");
        assert!(misses(20, "30:30:", &[10, 15]), "trimmed before it was seen");
        assert!(!misses(12, "10:30:10", &[15]), "still running, whatever was trimmed around it");
        assert!(misses(12, "30:30:", &[15]), "it ended, and what it did may have been trimmed");
        assert!(!misses(12, "30:30:", &[10, 15]));
        assert!(misses(0, "18:18:", &[]), "the database went back in time");
    }
}
