//! Times in tests. How long something takes depends on what else the machine does, so a test judges
//! it only where the machine does nothing else: `.ci/long` says so with `ROLEGATE_JUDGE_TIMES=1`.
//! Everywhere else a limit only keeps a test from waiting for ever.
//!
//! What is asserted everywhere is what holds on any machine, however slow: an answer that was asked
//! for later than the bound is right, or marked as stale.

use std::time::Duration;

/// Time after which something that should happen at once is not going to happen.
const HANGS: Duration = Duration::from_secs(90);

/// Returns the limit for something that takes this long at the most on a machine that is not busy.
pub(crate) fn limit(quiet: Duration) -> Duration {
    if std::env::var_os("ROLEGATE_JUDGE_TIMES").is_some_and(|value| value == "1") {
        quiet
    } else {
        quiet.max(HANGS)
    }
}
