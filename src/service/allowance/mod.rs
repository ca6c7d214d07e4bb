//! How many questions a caller may ask in a second.
//!
//! A bucket of `burst` questions that fills again at `per_second`, kept as one number: when it will
//! be full (the *generic cell rate algorithm*). Taking that number from core to core for every check
//! would cost more than the check, so each thread draws a *lease* of many questions and spends it
//! without touching anything that is shared, nor asking for the time:
//!
//! - A lease is a 64th of the burst, and at most what the rate allows in `LEASE_TIME`. What comes
//!   to less than two questions is no lease: then every question is drawn, and the limit is exact.
//! - A lease does not end. So in any time `t`, at most `burst + t * per_second` questions are
//!   answered, and for each thread one lease less a question.
//! - When the bucket has no whole lease left, threads draw what they need: nobody is refused while
//!   there is enough in it. What lies in another thread's lease is not in it.
//!
//! One message may ask more than the burst. It passes when the bucket is full, and is paid for
//! afterwards: there is no message that can never pass, and the rate holds all the same.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thread_local::ThreadLocal;

use super::counts::OwnCount;

/// For how long a lease lasts at the full rate.
const LEASE_TIME: Duration = Duration::from_millis(10);
/// Which part of the burst one lease is at most.
const LEASES: u64 = 64;
const SECOND: u64 = 1_000_000_000;
/// How often it is logged at most that a caller was refused.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What a caller may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    per_second: u32,
    burst: u32,
}

impl RateLimit {
    /// The highest rate, and the largest burst.
    pub const MAX: u32 = 100_000_000;

    /// So many questions a second, from 1 to [`RateLimit::MAX`]. Without a burst, as many at once as
    /// in a second.
    #[must_use]
    pub fn new(per_second: u32, burst: Option<u32>) -> Self {
        let within = |count: u32| count.clamp(1, Self::MAX);
        RateLimit { per_second: within(per_second), burst: within(burst.unwrap_or(per_second)) }
    }

    /// Questions a second.
    #[must_use]
    pub fn per_second(self) -> u32 {
        self.per_second
    }

    /// How many at once, after a pause.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// How long it takes to earn so many, in nanoseconds.
    fn cost(self, questions: u64) -> u64 {
        questions.saturating_mul(SECOND).div_ceil(self.per_second.into())
    }

    /// How many questions a thread draws at once.
    fn lease(self) -> u64 {
        let of_time = u128::from(self.per_second) * LEASE_TIME.as_nanos() / u128::from(SECOND);
        (u64::from(self.burst) / LEASES).min(of_time as u64).max(1)
    }
}

/// A caller asked more than it may. Nothing of that call was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateExceeded {
    /// Who asked.
    pub caller: String,
    /// What it may ask.
    pub limit: RateLimit,
    /// How much it asked in that message.
    pub questions: u64,
    /// When the same would pass, if it asks nothing else.
    pub retry_after: Duration,
}

/// What one caller may ask, and how much of it is left. Shared by all that it asks on.
#[derive(Debug)]
pub struct Allowance {
    limit: RateLimit,
    lease: u64,
    begun: Instant,
    /// When the bucket will be full, in nanoseconds since `begun`.
    full_at: Apart,
    leases: ThreadLocal<Lease>,
    refused: Arc<Refused>,
}

/// On a cache line of its own, so that whoever writes it does not take from other cores what stands
/// beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicU64);

/// What one thread has drawn and not spent. Nobody else looks at it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lease(AtomicU64);

/// What was refused. It outlives a change of the limit.
#[derive(Debug, Default)]
struct Refused {
    questions: ThreadLocal<OwnCount>,
    /// When it may be logged again, in nanoseconds since the allowance was `begun`.
    silent_until: AtomicU64,
}

impl PartialEq for Allowance {
    /// Whether the limits are the same.
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
    }
}

impl Eq for Allowance {}

impl Allowance {
    /// A full bucket.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        Allowance {
            limit,
            lease: limit.lease(),
            begun: Instant::now(),
            full_at: Apart::default(),
            leases: ThreadLocal::new(),
            refused: Arc::default(),
        }
    }

    /// What this one becomes under a limit that was read anew: itself, where nothing changed. In another
    /// as many questions are missing as in this one, or all that it has.
    #[must_use]
    pub fn under(self: &Arc<Self>, limit: RateLimit) -> Arc<Self> {
        self.under_at(limit, self.now())
    }

    fn under_at(self: &Arc<Self>, limit: RateLimit, now: u64) -> Arc<Self> {
        if limit == self.limit {
            return Arc::clone(self);
        }
        let until_full = self.full_at.0.load(Ordering::Relaxed).saturating_sub(now);
        let missing = (u128::from(until_full) * u128::from(self.limit.per_second))
            .div_ceil(u128::from(SECOND))
            .min(limit.burst.into()) as u64;
        let full_at = now.saturating_add(limit.cost(missing));
        Arc::new(Allowance {
            begun: self.begun,
            full_at: Apart(full_at.into()),
            refused: Arc::clone(&self.refused),
            ..Allowance::new(limit)
        })
    }

    /// What it allows.
    #[must_use]
    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    /// How many questions were refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.questions.iter().map(OwnCount::get).sum()
    }

    /// Takes so many questions out, if they are there.
    ///
    /// # Errors
    /// When they would be.
    pub fn take(&self, questions: u64) -> Result<(), Duration> {
        self.take_at(questions, || self.now())
    }

    /// Counts what was refused to this caller, and logs it now and then.
    pub fn refuse(&self, caller: &str, questions: u64) {
        self.refused.questions.get_or_default().add(questions);
        if self.may_log(self.now()) {
            let RateLimit { per_second, burst } = self.limit;
            let refused = self.refused();
            tracing::warn!(caller, per_second, burst, refused, "a caller asks more than it may");
        }
    }

    fn may_log(&self, now: u64) -> bool {
        let until = self.refused.silent_until.load(Ordering::Relaxed);
        // One of those who find that it may.
        now >= until && {
            let next = now.saturating_add(nanos(LOG_INTERVAL));
            let place = &self.refused.silent_until;
            place.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        }
    }

    fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }

    fn take_at(&self, questions: u64, now: impl FnOnce() -> u64) -> Result<(), Duration> {
        let Lease(lease) = self.leases.get_or_default();
        // This thread's only, so nothing comes between reading and writing it.
        let left = lease.load(Ordering::Relaxed);
        if let Some(rest) = left.checked_sub(questions) {
            lease.store(rest, Ordering::Relaxed);
            return Ok(());
        }
        let needed = questions - left;
        let drawn = self.draw(needed, now())?;
        lease.store(drawn.saturating_sub(needed), Ordering::Relaxed);
        Ok(())
    }

    /// Takes a lease out of the bucket, or no more than what is needed where that is more, or all that
    /// there is.
    fn draw(&self, needed: u64, now: u64) -> Result<u64, Duration> {
        let burst = u64::from(self.limit.burst);
        let empty = now.saturating_add(self.limit.cost(burst));
        let mut full_at = self.full_at.0.load(Ordering::Relaxed);
        loop {
            let from = full_at.max(now);
            let after = |count: u64| from.saturating_add(self.limit.cost(count));
            let drawn = if needed < self.lease && after(self.lease) <= empty {
                self.lease
            } else {
                // More than the burst passes when all of the burst is there.
                match after(needed.min(burst)).checked_sub(empty) {
                    None | Some(0) => needed,
                    Some(early) => return Err(Duration::from_nanos(early)),
                }
            };
            match self.full_at.0.compare_exchange_weak(
                full_at,
                after(drawn),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(drawn),
                Err(newer) => full_at = newer,
            }
        }
    }
}

/// 584 years fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
