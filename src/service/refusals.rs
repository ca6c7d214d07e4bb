//! What actors were refused, for the audit: recorded after the refused transaction is over, in a
//! short one of its own.
//!
//! **Recorded**: refusals by a rule about the actor, of writes in earnest. Not recorded: trials
//! (`validate_only` asks whether something would be allowed, and front ends ask often), what is wrong
//! with the request itself, and actors that the tenant does not know: there is no member to hold to
//! account, and a member that was erased must not come back into the trail by a late retry.
//!
//! **Bounded**: whoever can make an actor's calls can make refused ones without end, and each is a
//! row. So each replica records at most so many an hour for each tenant, and of them at most so many
//! for each actor. The first few of each actor are recorded however many others there were, so that
//! nobody can keep what others try out of the trail, alone or with helpers; what is beyond is
//! counted, and the log says so once an hour. Each attempt has its line in the log, with its actor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::write::Trace;
use crate::domain::Timestamp;
use crate::domain::actor::ActorRefusal;
use crate::domain::ids::{MemberId, TenantId};
use crate::domain::throttle::Throttle;
use crate::store::{AuditEntry, SqlStore};

/// For how long refusals of a tenant are counted together.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// How many of a tenant are recorded in that time, of each service.
pub const RECORDED_PER_HOUR: u32 = 100;
/// How many of them of one actor.
pub const RECORDED_PER_ACTOR: u32 = 50;
/// How many of each actor are recorded whatever the others did.
pub const ALWAYS_RECORDED_PER_ACTOR: u32 = 5;
/// Of how many actors of a tenant refusals are recorded in that time: each is kept count of.
const MAX_ACTORS: usize = 10_000;
/// For how many tenants refusals are recorded in that time.
const MAX_TENANTS: usize = 100_000;

/// How much was recorded lately, and how much not.
#[derive(Debug, Default)]
pub struct RefusalCounts {
    unrecorded: AtomicU64,
    lately: Mutex<Option<Lately>>,
}

#[derive(Debug)]
struct Lately {
    since: Instant,
    tenants: HashMap<TenantId, OfTenant>,
}

/// What was refused to the actors of one tenant lately.
#[derive(Debug, Default)]
struct OfTenant {
    recorded: u32,
    actors: HashMap<MemberId, u32>,
    told: bool,
}

impl OfTenant {
    /// Whether one more of this actor is recorded: nobody can use up what is there for all, and all
    /// together cannot use up what is there for each.
    fn admits(&mut self, actor: &MemberId) -> bool {
        if self.actors.len() >= MAX_ACTORS && !self.actors.contains_key(actor) {
            return false;
        }
        let of_actor = self.actors.entry(actor.clone()).or_default();
        let is_first = *of_actor < ALWAYS_RECORDED_PER_ACTOR;
        if *of_actor >= RECORDED_PER_ACTOR || (self.recorded >= RECORDED_PER_HOUR && !is_first) {
            return false;
        }
        *of_actor += 1;
        self.recorded += 1;
        true
    }
}

impl RefusalCounts {
    /// How many refusals to actors the audit does not have: beyond the limit, or the database
    /// failed.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded.load(Ordering::Relaxed)
    }

    /// Whether one more of this tenant and actor is recorded.
    fn admits(&self, tenant: &TenantId, actor: &MemberId, now: Instant) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Lately { since: now, tenants: HashMap::new() };
        let lately = match &mut *lately {
            Some(lately) if now.duration_since(lately.since) < PERIOD => lately,
            over => over.insert(fresh()),
        };
        if lately.tenants.len() >= MAX_TENANTS && !lately.tenants.contains_key(tenant) {
            return false;
        }
        let of_tenant = lately.tenants.entry(tenant.clone()).or_default();
        let admitted = of_tenant.admits(actor);
        if !admitted && !std::mem::replace(&mut of_tenant.told, true) {
            tracing::warn!(
                %tenant,
                %actor,
                limit = RECORDED_PER_HOUR,
                limit_of_an_actor = RECORDED_PER_ACTOR,
                always_of_an_actor = ALWAYS_RECORDED_PER_ACTOR,
                "so many refusals to actors that not all are recorded within this hour"
            );
        }
        admitted
    }

    fn add_unrecorded(&self) {
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }
}

/// What an actor tries, ready to be recorded should it be refused.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) store: SqlStore,
    pub(super) counts: Arc<RefusalCounts>,
    pub(super) tenant: TenantId,
    pub(super) caller: String,
    pub(super) actor: MemberId,
    pub(super) method: &'static str,
    pub(super) request_id: Option<String>,
    pub(super) at: Timestamp,
    pub(super) is_trial: bool,
    pub(super) trace: Trace,
}

impl Attempt {
    /// Records that it was refused. Whatever becomes of that, it stays refused.
    pub(super) async fn record(self, refusal: &ActorRefusal) {
        let Attempt { store, counts, tenant, caller, actor, method, request_id, at, .. } = self;
        let reason = refusal.name();
        tracing::info!(%tenant, method, %caller, %actor, reason, "refused to an actor");
        if self.is_trial || matches!(refusal, ActorRefusal::NotFound { .. }) {
            return;
        }
        if !counts.admits(&tenant, &actor, Instant::now()) {
            counts.add_unrecorded();
            return;
        }
        let Trace { roles, members, before, after } = self.trace;
        let (actor, method) = (Some(actor), method.to_owned());
        let entry =
            AuditEntry { at, caller, actor, method, request_id, roles, members, before, after };
        // In a task of its own: a client that goes away now must not keep it out of the audit.
        let recording =
            tokio::spawn(async move { store.record_refusal(&tenant, entry, reason).await });
        match recording.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                counts.add_unrecorded();
                static FAILED: Throttle = Throttle::each_second();
                if let Some(more) = FAILED.admit() {
                    tracing::warn!(%error, more, "a refusal to an actor could not be recorded");
                }
            }
            Err(error) => {
                counts.add_unrecorded();
                tracing::warn!(%error, "a refusal to an actor was not recorded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_so_many_an_hour() {
        let counts = RefusalCounts::default();
        let (one, other) = (TenantId::trusted("one"), TenantId::trusted("other"));
        let start = Instant::now();
        let admitted = |tenant, at| {
            let actor = |number: u32| MemberId::trusted(&format!("actor-{}", number % 10));
            (0..150).filter(|number| counts.admits(tenant, &actor(*number), at)).count()
        };
        assert_eq!(admitted(&one, start), 100);
        assert_eq!(admitted(&other, start), 100, "another tenant's do not count");
        assert_eq!(admitted(&one, start + PERIOD / 2), 0);
        assert_eq!(admitted(&one, start + PERIOD), 100);
    }

    #[test]
    fn no_actor_uses_up_what_is_there_for_all() {
        let counts = RefusalCounts::default();
        let (tenant, now) = (TenantId::trusted("one"), Instant::now());
        let loud = MemberId::trusted("loud");
        assert_eq!((0..500).filter(|_| counts.admits(&tenant, &loud, now)).count(), 50);
        assert!(counts.admits(&tenant, &MemberId::trusted("quiet"), now));
    }

    #[test]
    fn all_together_do_not_use_up_what_is_there_for_each() {
        let counts = RefusalCounts::default();
        let (tenant, now) = (TenantId::trusted("one"), Instant::now());
        let admitted = |actor: &str, at| {
            let actor = MemberId::trusted(actor);
            (0..50).filter(|_| counts.admits(&tenant, &actor, at)).count()
        };
        assert_eq!(["a", "b"].map(|actor| admitted(actor, now)), [50, 50]);
        assert_eq!(["c", "d"].map(|actor| admitted(actor, now)), [5, 5], "its first are recorded");
        assert_eq!(admitted("c", now), 0);
        assert_eq!(admitted("c", now + PERIOD), 50);
        // Each actor takes memory, so there is an end.
        let crowd = (0..2 * MAX_ACTORS).map(|number| MemberId::trusted(&format!("m-{number}")));
        let first = crowd.filter(|actor| counts.admits(&tenant, actor, now)).count();
        assert!(first < MAX_ACTORS, "{first}");
    }
}
