//! How well this replica knows what the database holds: the promise that a revoke is seen within a
//! bound, and what happens to decisions while the database is gone (DESIGN sections 6.3 and 6.5).
//!
//! The follower confirms, each time it has asked the database, that every change committed before
//! it asked has been applied. The age of the last confirmation is all that is needed: within the
//! bound the cache may answer; beyond it the database is asked instead; when that does not answer
//! either, the cache goes on for a grace, saying so; after that nobody decides.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::Timestamp;

/// How old knowledge may be.
#[derive(Debug, Clone, Copy)]
pub struct FollowLimits {
    /// A revoke is seen within this time of its commit, while the database answers.
    pub staleness: Duration,
    /// How long to go on deciding without the database.
    pub outage_grace: Duration,
    /// The longest that one read for a decision may take.
    pub load_timeout: Duration,
}

impl Default for FollowLimits {
    fn default() -> Self {
        FollowLimits {
            staleness: Duration::from_secs(2),
            outage_grace: Duration::from_secs(60),
            load_timeout: Duration::from_secs(3),
        }
    }
}

/// A point on a clock that counts suspension: a machine that slept has old knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds since the machine was started.
    boot: u64,
    /// The same moment for people.
    wall: Timestamp,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Moment { boot: boot_micros(), wall: Timestamp::now() }
    }
}

fn boot_micros() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    u64::try_from(micros).unwrap_or_default()
}

/// What the cache may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    Current,
    /// Nothing: too much time has passed since the last confirmation. The database answers, as far
    /// as is known: ask it.
    Behind,
    /// The database does not answer. What is cached may be used, and is as of this time.
    Outage {
        /// When it was last known to be current.
        since: Timestamp,
    },
    /// The database has not answered for longer than the grace: nobody decides.
    Lost,
}

/// The knowledge of one replica.
#[derive(Debug)]
pub struct Following {
    limits: FollowLimits,
    confirmed_boot: AtomicU64,
    confirmed_wall: AtomicI64,
    reachable: AtomicBool,
}

impl Following {
    /// Current from now on.
    #[must_use]
    pub fn new(limits: FollowLimits) -> Self {
        let now = Moment::now();
        Following {
            limits,
            confirmed_boot: AtomicU64::new(now.boot),
            confirmed_wall: AtomicI64::new(now.wall.0),
            reachable: AtomicBool::new(true),
        }
    }

    /// How old knowledge may be.
    #[must_use]
    pub fn limits(&self) -> FollowLimits {
        self.limits
    }

    /// Every change that was committed before `asked` has been applied.
    pub fn confirm(&self, asked: Moment) {
        self.confirmed_boot.fetch_max(asked.boot, Ordering::AcqRel);
        self.confirmed_wall.fetch_max(asked.wall.0, Ordering::AcqRel);
        self.reachable.store(true, Ordering::Release);
    }

    /// The database did not answer.
    pub fn unreachable(&self) {
        self.reachable.store(false, Ordering::Release);
    }

    /// How long ago the last confirmation was.
    #[must_use]
    pub fn age(&self) -> Duration {
        let confirmed = self.confirmed_boot.load(Ordering::Acquire);
        Duration::from_micros(boot_micros().saturating_sub(confirmed))
    }

    /// What the cache may be used for, now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let age = self.age();
        if age <= self.limits.staleness {
            Standing::Current
        } else if self.reachable.load(Ordering::Acquire) {
            Standing::Behind
        } else {
            self.without_database(age)
        }
    }

    /// What the cache may be used for when the database was asked and did not answer.
    #[must_use]
    pub fn standing_without_database(&self) -> Standing {
        match self.age() {
            age if age <= self.limits.staleness => Standing::Current,
            age => self.without_database(age),
        }
    }

    fn without_database(&self, age: Duration) -> Standing {
        if age <= self.limits.outage_grace {
            Standing::Outage { since: Timestamp(self.confirmed_wall.load(Ordering::Acquire)) }
        } else {
            Standing::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A confirmation this long ago.
    fn aged(seconds: u64, reachable: bool) -> Following {
        let following = Following::new(FollowLimits::default());
        let past = boot_micros().saturating_sub(seconds * 1_000_000);
        following.confirmed_boot.store(past, Ordering::Release);
        following.confirmed_wall.store(77, Ordering::Release);
        following.reachable.store(reachable, Ordering::Release);
        following
    }

    #[test]
    fn knowledge_ages() {
        let outage = Standing::Outage { since: Timestamp(77) };
        for (seconds, reachable, standing) in [
            (0, true, Standing::Current),
            (1, false, Standing::Current),
            (5, true, Standing::Behind),
            (5, false, outage),
            (59, false, outage),
            (61, false, Standing::Lost),
            (61, true, Standing::Behind),
        ] {
            let following = aged(seconds, reachable);
            assert_eq!(following.standing(), standing, "{seconds} s, {reachable}");
        }
        assert_eq!(aged(5, true).standing_without_database(), outage);
        assert_eq!(aged(90, true).standing_without_database(), Standing::Lost);
        let back = aged(90, false);
        back.confirm(Moment::now());
        assert_eq!(back.standing(), Standing::Current);
    }
}
