//! The cache: a decorator in front of the database that gives the same answers (DESIGN section 6).
//!
//! Three caches, bounded by weight: tenants (catalog and applied revision) and compiled custom roles,
//! which moka holds, and members (status, teams, the names of their roles), see [`members`] for why
//! not, and [`held`] for what members share. Nothing is keyed by a tenant's revision, so one role edit
//! leaves every member where it is.
//!
//! **What it takes.** Of the bound, 9 parts of 20 are for members, 4 for what they share, 5 for roles,
//! 1 for tenants, 1 for what threads keep ready. What is shared counts there once, as long as it is
//! there, and not at each member: else a cache of members who are alike would seem full at half its
//! bound.
//!
//! **One state.** Every entry carries the tenant's revision at which it was read. A view first reads
//! how far changes have been applied, then takes only entries read at or before that: an entry that
//! was touched by a later change up to there is gone, because changes are applied before they count
//! as applied. So all entries of a view are what the database said at that one revision. Whatever
//! does not fit makes the view start over, and in the end read the database in one transaction.
//!
//! **No resurrection.** See [`fill_guard`].
//!
//! **No lock on the way to a hot answer.** See [`front`].
//!
//! **No dangling role.** A deletion with reassignment is one change that names two roles and no
//! member. A cached member that names a role which is gone is itself out of date: it is dropped and
//! read again.

mod fill_guard;
mod following;
mod front;
mod held;
mod interner;
mod members;
mod one;
mod reads;
mod stats;
mod tenant;

/// What the parts synchronize with that also run under a checker of interleavings, which brings its
/// own (`tests/interleavings`).
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, Mutex, PoisonError};
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

pub use self::following::{FollowLimits, Following, Moment, Standing};
pub use self::stats::CacheStats;

use self::fill_guard::FillGuard;
use self::front::Front;
use self::held::Sharing;
use self::members::Members;
use self::one::LoadTurns;
use self::stats::Counters;
use self::tenant::CachedTenant;
use super::{
    Change, ChangeListener, DecisionSource, Freshness, MemberView, SqlStore, StoreError,
    TenantView, Touched,
};
use crate::domain::Timestamp;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::role::CompiledRole;
use crate::domain::throttle::Throttle;

/// How often a view starts over before it reads the database in one transaction.
const ATTEMPTS: usize = 3;

/// What an entry takes besides its content: the key's and value's places in the map, the policy's
/// queues, reference counts. moka was measured at 260 to 280 bytes for an entry without content.
const ENTRY_OVERHEAD: usize = 280;

/// What a tenant's entry points to besides: its state, with the text of its token.
const BESIDE_TENANT: usize = 150;

/// In how many groups keys are guarded: enough that two busy keys seldom meet.
const STRIPES: usize = 4096;

/// A cached member or role is found by this, never by a joined string. The tenant is in it: every
/// entry of a tenant gets an incarnation that no other has had in this process, of whatever tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key<Id> {
    incarnation: u64,
    id: Id,
}

impl<Id: Clone> Key<Id> {
    fn of(tenant: &CachedTenant, id: &Id) -> Self {
        Key { incarnation: tenant.incarnation, id: id.clone() }
    }
}

/// What was read, and the tenant's revision it was read at. `None`: there is no such thing.
#[derive(Debug, Clone)]
struct Entry<T> {
    value: Option<T>,
    seen_at: u64,
}

/// The cache in front of a store.
#[derive(Debug)]
pub struct Cached {
    store: SqlStore,
    tenants: Cache<TenantId, Arc<CachedTenant>>,
    members: Members,
    sharing: Sharing,
    roles: Cache<Key<RoleId>, Entry<Arc<CompiledRole>>>,
    guard: FillGuard,
    loads: LoadTurns,
    front: Front,
    incarnations: AtomicU64,
    /// Entries of tenants from before this one are forgotten.
    oldest_incarnation: AtomicU64,
    counters: Counters,
    following: Following,
    load_timeout: Duration,
}

impl Cached {
    /// A cache of at most about this many bytes. It must be made the store's listener, or it never
    /// hears of changes; and somebody must keep confirming what [`Cached::following`] says, or it is
    /// soon not used any more.
    #[must_use]
    pub fn new(store: SqlStore, bytes: u64, limits: FollowLimits) -> Self {
        Cached {
            store,
            tenants: Cache::builder()
                .max_capacity(bytes / 20)
                .weigher(|id: &TenantId, _: &Arc<CachedTenant>| {
                    weight(size_of::<CachedTenant>() + BESIDE_TENANT + id.as_str().len())
                })
                .build(),
            members: Members::new(bytes / 20 * 9),
            sharing: Sharing::new(bytes / 20 * 4),
            roles: Cache::builder()
                .max_capacity(bytes / 20 * 5)
                .weigher(|key: &Key<RoleId>, entry: &Entry<Arc<CompiledRole>>| {
                    let value = entry.value.as_deref().map(CompiledRole::weight);
                    weight(key.id.as_str().len() + value.unwrap_or_default())
                })
                .build(),
            guard: FillGuard::new(STRIPES),
            loads: LoadTurns::new(),
            front: Front::new((bytes / 20) as usize, deciding_threads()),
            incarnations: AtomicU64::new(0),
            oldest_incarnation: AtomicU64::new(0),
            counters: Counters::default(),
            load_timeout: limits.load_timeout,
            following: Following::new(limits),
        }
    }

    /// For so many threads that decide, which share what threads may keep. Without it, one for each core.
    #[must_use]
    pub fn for_threads(self, threads: usize) -> Self {
        Cached { front: Front::new(self.front.limit(), threads), ..self }
    }

    /// How well it does its work.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let Counters { member_hits, member_misses, role_hits, role_misses, bypasses } =
            &self.counters;
        CacheStats {
            member_hits: member_hits.get() + self.front.hits(),
            member_misses: member_misses.get(),
            role_hits: role_hits.get(),
            role_misses: role_misses.get(),
            bypasses: bypasses.get(),
            weight: self.tenants.weighted_size()
                + self.members.bytes()
                + self.sharing.bytes()
                + self.roles.weighted_size()
                + self.front.bytes(),
        }
    }

    /// Whether half of what is for tenants, for members, for what they share, or for roles is taken.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        let roles = self.roles.policy().max_capacity().unwrap_or(u64::MAX);
        let tenants = self.tenants.policy().max_capacity().unwrap_or(u64::MAX);
        [
            (self.tenants.weighted_size(), tenants),
            (self.members.bytes(), self.members.limit()),
            (self.sharing.bytes(), self.sharing.limit()),
            (self.roles.weighted_size(), roles),
        ]
        .into_iter()
        .any(|(taken, limit)| taken >= limit / 2)
    }

    /// How well it knows what the database holds.
    #[must_use]
    pub fn following(&self) -> &Following {
        &self.following
    }

    /// Forgets everything: what was missed is not known.
    pub fn forget_everything(&self) {
        self.guard.invalidate_all(|| {
            // Members and roles go with the entry of their tenant: what is left of them is found by
            // nobody, and evicted in time.
            let next = self.incarnations.load(Ordering::Acquire);
            self.oldest_incarnation.store(next, Ordering::Release);
        });
    }

    /// Nothing that is read for a decision may take longer.
    async fn in_time<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let epoch = self.store.epoch().id();
        match tokio::time::timeout(self.load_timeout, read).await {
            // An answer of a history that is over would come after those of the next one.
            Ok(read) => read.and_then(|read| self.store.still_in(epoch).map(|()| read)),
            Err(_) => {
                self.store.suspect();
                Err(StoreError::Unavailable("it takes too long to answer".to_owned()))
            }
        }
    }

    fn forget_member(&self, tenant: &CachedTenant, member: &MemberId) {
        let key = Key::of(tenant, member);
        self.guard.void(&key, || self.members.remove(&key));
    }

    fn forget_role(&self, tenant: &CachedTenant, role: &RoleId) {
        let key = Key::of(tenant, role);
        self.guard.void(&key, || self.roles.invalidate(&key));
    }

    fn forget_tenant(&self, id: &TenantId) {
        self.guard.invalidate(id, || self.tenants.invalidate(id));
    }
}

impl Cached {
    /// The view at one state from what is cached, reading what is not. Nothing when the cache cannot
    /// give one state that is fresh enough.
    async fn cached_view(
        &self,
        id: &TenantId,
        members: &[MemberId],
        wanted: u64,
    ) -> Result<Found, StoreError> {
        if let [member] = members {
            return self.one_view(id, member, wanted).await;
        }
        for _ in 0..ATTEMPTS {
            let Some(tenant) = self.tenant(id).await? else { return Ok(Found::NoTenant) };
            let Some(revision) = tenant.usable().filter(|revision| *revision >= wanted) else {
                return Ok(Found::NotHere);
            };
            if let Some(view) = self.assemble(id, &tenant, revision, members).await? {
                return Ok(Found::View(view));
            }
        }
        Ok(Found::NotHere)
    }

    /// The view as the database has it now.
    async fn stored_view(
        &self,
        id: &TenantId,
        members: &[MemberId],
        freshness: Freshness,
    ) -> Result<Option<TenantView>, StoreError> {
        self.counters.bypasses.add(1);
        let view = self.in_time(self.store.view(id, members, freshness)).await?;
        match &view {
            Some(view) => self.answered(id, view.state.epoch(), view.state.revision()),
            None => self.not_in_use(id),
        }
        Ok(view)
    }

    /// It is answered that there is no such tenant in use: no later answer may be from before.
    fn not_in_use(&self, id: &TenantId) {
        // Seldom anything is cached of it, and nobody else's views need be spoilt.
        if self.guard.void(id, || self.tenant_at_hand(id)).is_some() {
            self.forget_tenant(id);
        }
    }

    /// An answer is given at this revision, from elsewhere: no later one may be older.
    fn answered(&self, id: &TenantId, epoch: u64, revision: u64) {
        // Revisions of another epoch say nothing: what is cached of one is being dropped.
        let at_hand = || self.tenant_at_hand(id).filter(|tenant| tenant.epoch == epoch);
        let cached = at_hand().and_then(|tenant| tenant.usable());
        if cached.is_some_and(|usable| usable >= revision) {
            return;
        }
        // An entry that is being filled right now may be older than this answer: refuse it.
        self.guard.invalidate(id, || {
            if let Some(tenant) = at_hand() {
                tenant.answered_at(revision);
            }
        });
    }

    /// The view from what is held while the database is gone.
    fn held(
        &self,
        id: &TenantId,
        wanted: &[MemberId],
        at_least: u64,
        since: Timestamp,
    ) -> Result<Option<TenantView>, StoreError> {
        let view = self.tenant_at_hand(id).and_then(|tenant| {
            let revision = tenant.usable().filter(|revision| *revision >= at_least)?;
            let members = self.whole(&tenant, revision, wanted)?;
            let (catalog, state) = (Arc::clone(&tenant.catalog), tenant.state(revision));
            Some(TenantView { catalog, state, members, stale_since: Some(since) })
        });
        match view {
            Some(view) => Ok(Some(view)),
            None => Err(StoreError::Unavailable(
                "it does not answer, and this replica does not hold what was asked for".to_owned(),
            )),
        }
    }
}

/// What came of looking at the cache.
enum Found {
    View(TenantView),
    NoTenant,
    NotHere,
}

impl DecisionSource for Cached {
    fn is_current(&self) -> bool {
        self.following.standing() == Standing::Current
    }

    fn at_hand(&self, tenant: &str, member: &[u8], at_least: u64) -> Option<Arc<MemberView>> {
        let is_good = |kept: &front::Kept| {
            self.guard.is_still(kept.version)
                && kept.entry.usable() == Some(kept.view.state.revision())
        };
        let view = self.front.get(tenant, member, is_good);
        let view = view.or_else(|| self.one_at_hand(tenant, member))?;
        (view.state.revision() >= at_least).then_some(view)
    }

    async fn view(
        &self,
        id: &TenantId,
        members: &[MemberId],
        freshness: Freshness,
    ) -> Result<Option<TenantView>, StoreError> {
        let standing = self.following.standing();
        let wanted = match freshness {
            Freshness::MinimizeLatency => 0,
            Freshness::AtLeast(revision) => revision,
            Freshness::FullyConsistent => match standing {
                // At once, rather than after a timeout.
                Standing::Outage { .. } | Standing::Lost => return Err(lost()),
                Standing::Current | Standing::Behind => {
                    return self.stored_view(id, members, freshness).await;
                }
            },
        };
        let read = match standing {
            Standing::Current => match self.cached_view(id, members, wanted).await {
                Ok(Found::View(view)) => return Ok(Some(view)),
                Ok(Found::NoTenant) => return Ok(None),
                Ok(Found::NotHere) => self.stored_view(id, members, freshness).await,
                Err(error) => Err(error),
            },
            Standing::Behind => self.stored_view(id, members, freshness).await,
            Standing::Outage { since } => return self.held(id, members, wanted, since),
            Standing::Lost => return Err(lost()),
        };
        match (read, self.following.standing_without_database()) {
            // The database has just gone, and nobody has noticed yet.
            (Err(StoreError::Unavailable(_)), Standing::Outage { since }) => {
                self.held(id, members, wanted, since)
            }
            (read, _) => read,
        }
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("it does not answer".to_owned())
}

impl ChangeListener for Cached {
    fn committed(&self, epoch: u64, change: &Change) {
        let Change { tenant: id, revision, touched } = change;
        // Under the tenant's stripe, so that an entry that is being filled cannot miss the change.
        let cached = self.guard.invalidate(id, || self.tenant_at_hand(id));
        let Some(tenant) = cached else { return };
        if tenant.epoch != epoch {
            return self.forget_tenant(id);
        }
        if tenant.knows(*revision) {
            // Told before, or read with the tenant: forgetting again would only cost. But who tells
            // it for the first time may not be done with it.
            tenant.answered_at(*revision);
            return;
        }
        match touched {
            Touched::Tenant => return self.forget_tenant(id),
            Touched::Members(members) => {
                members.iter().for_each(|member| self.forget_member(&tenant, member));
            }
            Touched::Roles(roles) => {
                roles.iter().for_each(|role| self.forget_role(&tenant, role));
            }
            Touched::Nothing => {}
        }
        // Only now: whoever sees the revision must not find what it touched.
        if !tenant.apply(*revision) {
            static MISSING: Throttle = Throttle::each_second();
            if let Some(more) = MISSING.admit() {
                let said = "changes are missing; reading the tenant anew";
                tracing::warn!(tenant = %id, revision, more, "{said}");
            }
            self.forget_tenant(id);
        }
        // It may have been made here and be ahead of one that was made elsewhere and is not known yet:
        // whoever made it must find it, so until then the database is asked.
        tenant.answered_at(*revision);
    }

    fn uncertain(&self, tenant: &TenantId) {
        self.forget_tenant(tenant);
    }
}

/// One for each core.
fn deciding_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(ENTRY_OVERHEAD + bytes).unwrap_or(u32::MAX)
}
