//! What each thread keeps of what it answered last, so that a hot answer touches nothing that cores
//! share but two numbers that seldom change.
//!
//! moka counts and orders every read, under locks that cores share: right for deciding what to
//! evict, and several times the cost of the whole decision. So a thread keeps the views of the
//! members that it was asked about, ready to decide from, in a table of fixed size of its own. What all
//! threads share stays what holds, loads and evicts; a view in here is never the last word:
//!
//! - It is good as long as its tenant's entry is the one that was cached when the view was made:
//!   [`FillGuard::version`](super::fill_guard::FillGuard::version) changes when that is replaced or
//!   removed, and whenever a change comes in for a tenant that is not cached.
//! - And as long as no change was applied to that entry, nor a newer answer given: its revision is
//!   still the view's.
//!
//! A view that is not good any more is made anew from what is cached for all: no query, unless it is
//! lacking there as well. Where a view's member was evicted meanwhile the view goes on being good: what
//! makes views good is their tenant.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use thread_local::ThreadLocal;

use super::fill_guard::Version;
use super::tenant::CachedTenant;
use crate::domain::ids::{MemberId, TeamId, TenantId};
use crate::domain::member::Subject;
use crate::store::MemberView;

/// A view that takes more than this is not kept: few members are in that many teams.
const LARGEST: usize = 8 << 10;
/// What a view is expected to take, for the number of places: half of what most take, so that half of
/// the places stay free and few views drive each other out.
const USUAL: usize = 192;

/// Every how many answers a view is made anew from what is cached for all, which else would not learn
/// that its members and tenants are in use, and evict those that are asked for most.
const LOOK_AROUND: u64 = 256;

/// A view, and what it hangs on.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) tenant: TenantId,
    pub(super) member: MemberId,
    /// The tenant's entry that the view was made of.
    pub(super) entry: Arc<CachedTenant>,
    /// Of the tenant, from before the entry was looked up.
    pub(super) version: Version,
    pub(super) view: Arc<MemberView>,
}

/// What all threads keep.
#[derive(Debug)]
pub(super) struct Front {
    hasher: RandomState,
    shares: ThreadLocal<RefCell<Share>>,
    /// Of all threads.
    limit: usize,
    /// Of each thread.
    bytes: usize,
    /// Written by its own thread only, read by whoever wants to know.
    counts: ThreadLocal<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Good views that there were, hits or not.
    asked: AtomicU64,
    hits: AtomicU64,
    bytes: AtomicU64,
}

/// A hash, and what was kept under it.
type Place = Option<(u64, Box<Kept>)>;

/// What one thread keeps: two places for each hash.
#[derive(Debug)]
struct Share {
    places: Box<[Place]>,
    bytes: usize,
    /// The place to be cleared next when there is too much.
    hand: usize,
}

impl Front {
    /// At most about this many bytes for each of so many threads that decide.
    pub(super) fn new(bytes: usize, threads: usize) -> Self {
        Front {
            hasher: RandomState::default(),
            shares: ThreadLocal::with_capacity(threads),
            limit: bytes,
            bytes: bytes / threads.max(1),
            counts: ThreadLocal::with_capacity(threads),
        }
    }

    /// What all threads may keep, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// This thread's view of a member, if it is still good.
    pub(super) fn get(
        &self,
        tenant: &str,
        member: &[u8],
        is_good: impl FnOnce(&Kept) -> bool,
    ) -> Option<Arc<MemberView>> {
        let share = self.shares.get()?.try_borrow().ok()?;
        let hash = self.hash(tenant, member);
        let (_, kept) = share.pair(hash)?.iter().flatten().find(|(of, kept)| {
            *of == hash
                && kept.member.as_str().as_bytes() == member
                && kept.tenant.as_str() == tenant
        })?;
        if !is_good(kept) {
            return None;
        }
        let counts = &self.counts.get_or_default();
        let asked = counts.asked.load(Ordering::Relaxed).wrapping_add(1);
        counts.asked.store(asked, Ordering::Relaxed);
        if asked.is_multiple_of(LOOK_AROUND) {
            return None;
        }
        let hits = &counts.hits;
        hits.store(hits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(Arc::clone(&kept.view))
    }

    /// Keeps a view for this thread, in place of one that it has not kept as long.
    pub(super) fn put(&self, kept: Kept) {
        let bytes = weight(&kept);
        if bytes > LARGEST.min(self.bytes / 4) {
            return;
        }
        let hash = self.hash(kept.tenant.as_str(), kept.member.as_str().as_bytes());
        let share = self.shares.get_or(|| RefCell::new(Share::new(self.bytes)));
        let Ok(mut share) = share.try_borrow_mut() else { return };
        share.make_room(self.bytes.saturating_sub(bytes));
        share.put(hash, kept, bytes);
        let total = share.bytes as u64;
        self.counts.get_or_default().bytes.store(total, Ordering::Relaxed);
    }

    /// How many views were good, over all threads.
    pub(super) fn hits(&self) -> u64 {
        self.counts.iter().map(|counts| counts.hits.load(Ordering::Relaxed)).sum()
    }

    /// What all threads keep, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.counts.iter().map(|counts| counts.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Who makes keys collide only makes places change hands: there is no chain to grow.
    fn hash(&self, tenant: &str, member: &[u8]) -> u64 {
        self.hasher.hash_one((tenant, member))
    }
}

impl Share {
    fn new(bytes: usize) -> Self {
        let pairs = (bytes / USUAL / 2).max(1).next_power_of_two();
        let places: Box<[_]> = (0..pairs * 2).map(|_| None).collect();
        Share { bytes: size_of_val(&*places), places, hand: 0 }
    }

    /// Clears one place after the other until no more than this is taken, or all are cleared.
    fn make_room(&mut self, most: usize) {
        for _ in 0..self.places.len() {
            if self.bytes <= most {
                return;
            }
            let place = self.places.get_mut(self.hand).and_then(Option::take);
            self.bytes -= place.map(|(_, kept)| weight(&kept)).unwrap_or_default();
            self.hand = (self.hand + 1) % self.places.len();
        }
    }

    fn pair(&self, hash: u64) -> Option<&[Place]> {
        self.places.as_chunks::<2>().0.get(self.index(hash)).map(<[_; 2]>::as_slice)
    }

    /// The newest of a pair stands first; the other one goes.
    fn put(&mut self, hash: u64, kept: Kept, bytes: usize) {
        let index = self.index(hash);
        let Some([first, second]) = self.places.as_chunks_mut::<2>().0.get_mut(index) else {
            return;
        };
        let is_same = |place: &Place| {
            place.as_ref().is_some_and(|(of, old)| {
                *of == hash && old.member == kept.member && old.tenant == kept.tenant
            })
        };
        let gone =
            if is_same(first) { first.take() } else { std::mem::replace(second, first.take()) };
        *first = Some((hash, Box::new(kept)));
        self.bytes += bytes;
        self.bytes -= gone.map(|(_, kept)| weight(&kept)).unwrap_or_default();
    }

    fn index(&self, hash: u64) -> usize {
        // The number of pairs is a power of two.
        hash as usize & (self.places.len() / 2 - 1)
    }
}

/// What is kept, without the roles as they are compiled: those are cached for all. Its teams may be too,
/// but need not be any more.
fn weight(kept: &Kept) -> usize {
    let subject = kept.view.subject.as_deref().map(|Subject { id, status: _, teams, roles }| {
        let lists = roles.len() * 64 + teams.len() * size_of::<TeamId>();
        size_of::<Subject>() + id.as_str().len() + lists
    });
    let ids = kept.tenant.as_str().len() + kept.member.as_str().len() + 32;
    size_of::<Kept>() + size_of::<MemberView>() + ids + subject.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Catalog, shipped};
    use crate::store::State;
    use crate::store::cache::fill_guard::FillGuard;

    /// Of a member that is not there: the least that is kept.
    fn kept(tenant: &Arc<CachedTenant>, guard: &FillGuard, member: usize) -> Kept {
        let id = TenantId::parse("tenant").unwrap();
        Kept {
            version: guard.version(&id).unwrap(),
            tenant: id,
            member: MemberId::parse(&format!("member-{member}")).unwrap(),
            entry: Arc::clone(tenant),
            view: Arc::new(MemberView {
                catalog: Arc::clone(&tenant.catalog),
                state: Arc::new(State::at(1, 1)),
                subject: None,
                stale_since: None,
            }),
        }
    }

    #[test]
    fn what_a_thread_keeps_stays_within_its_bound_and_is_not_thrown_away_at_once() {
        const BOUND: usize = 64 << 10;
        let catalog = Arc::new(Catalog::parse(shipped()[1]).unwrap());
        let tenant = Arc::new(CachedTenant::new(1, 1, catalog, 1));
        let guard = FillGuard::new(1);
        let front = Front::new(BOUND, 1);
        // Twice: now and then a view that is kept is not given.
        let is_kept = |member: usize| {
            let id = format!("member-{member}");
            (0..2).any(|_| front.get("tenant", id.as_bytes(), |_| true).is_some())
        };
        let mut least = usize::MAX;
        for member in 0..1_000 {
            front.put(kept(&tenant, &guard, member));
            assert!(is_kept(member), "the newest one, {member}");
            assert!(front.bytes() <= BOUND as u64, "{} after {member}", front.bytes());
            if member >= 300 {
                least = least.min((0..=member).filter(|member| is_kept(*member)).count());
            }
        }
        // As many as there is room for, by their weight, less what collided.
        let room = BOUND / 2 / weight(&kept(&tenant, &guard, 999));
        assert!(least >= room, "{least} of {room}");
    }
}
