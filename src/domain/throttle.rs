//! How often a line may be logged that a client, or an outage, can repeat at will: whoever can make
//! a program write without end fills its disk, and hides what matters.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a few lines through in each period and counts the others. One for each place that logs.
#[derive(Debug)]
pub struct Throttle {
    lines: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    let_through: u32,
    left_out: u64,
}

impl Throttle {
    /// Lets one line through each second.
    #[must_use]
    pub const fn each_second() -> Self {
        Self::new(1, Duration::from_secs(1))
    }

    /// Lets so many lines through in each period.
    #[must_use]
    pub const fn new(lines: u32, period: Duration) -> Self {
        let state = State { since: None, let_through: 0, left_out: 0 };
        Throttle { lines, period, state: Mutex::new(state) }
    }

    /// Returns how many lines were left out since the last one that was let through, if this one
    /// may be logged.
    #[must_use]
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.duration_since(since) >= self.period) {
            state.since = Some(now);
            state.let_through = 0;
        }
        if state.let_through >= self.lines {
            state.left_out += 1;
            return None;
        }
        state.let_through += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_a_period_tell_of_all() {
        let throttle = Throttle::new(2, Duration::from_secs(1));
        let start = Instant::now();
        let at = |ms| throttle.admit_at(start + Duration::from_millis(ms));
        assert_eq!((at(0), at(1), at(2), at(999)), (Some(0), Some(0), None, None));
        assert_eq!((at(1000), at(1001), at(1500)), (Some(2), Some(0), None));
        assert_eq!(at(60_000), Some(1));
    }
}
