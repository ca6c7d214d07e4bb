//! What a caller is told that asks more than it may.

use std::time::Duration;

use super::{Said, counted, quoted};
use crate::grpc::pb::ErrorReason;
use crate::service::allowance::RateExceeded;

pub(in crate::grpc) fn rate_limited(exceeded: &RateExceeded) -> Said {
    let RateExceeded { caller, limit, questions, .. } = exceeded;
    let (per_second, burst) = (limit.per_second(), limit.burst());
    let milliseconds = retry_after(exceeded).as_millis();
    let message = format!(
        "The caller {} may ask {} a second and {burst} at once, and has asked more. Nothing of this \
         was done; ask again in {milliseconds} ms. The callers file of the server, or its \
         --max-questions-per-second-per-caller, sets the limit.",
        quoted(caller),
        counted(per_second.into(), "question"),
    );
    Said::new(ErrorReason::RateLimited, message)
        .with("caller", caller)
        .with("limit", per_second)
        .with("burst", burst)
        .with("questions", questions)
        .with("retry_after_ms", milliseconds)
}

/// When to ask again, in whole milliseconds, none of them too early.
pub(in crate::grpc) fn retry_after(exceeded: &RateExceeded) -> Duration {
    let nanos = exceeded.retry_after.as_nanos();
    Duration::from_millis(nanos.div_ceil(1_000_000) as u64)
}
