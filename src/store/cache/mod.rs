//! The cache: a decorator in front of the database that gives the same answers (DESIGN section 6).
//!
//! Three moka caches, bounded by weight: tenants (catalog and applied revision), members (status,
//! teams, the names of their roles) and compiled custom roles. Nothing is keyed by a tenant's
//! revision, so one role edit leaves every member where it is.
//!
//! **One state.** Every entry carries the tenant's revision at which it was read. A view first reads
//! how far changes have been applied, then takes only entries read at or before that: an entry that
//! was touched by a later change up to there is gone, because changes are applied before they count
//! as applied. So all entries of a view are what the database said at that one revision. Whatever
//! does not fit makes the view start over, and in the end read the database in one transaction.
//!
//! **No resurrection.** See [`fill_guard`].
//!
//! **No dangling role.** A deletion with reassignment is one change that names two roles and no
//! member. A cached member that names a role which is gone is itself out of date: it is dropped and
//! read again.

mod fill_guard;
mod stats;
mod tenant;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

pub use self::stats::CacheStats;

use self::fill_guard::FillGuard;
use self::stats::Counters;
use self::tenant::CachedTenant;
use super::{
    Change, ChangeListener, DecisionSource, Freshness, SqlStore, StoreError, TenantView, Touched,
};
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::{Member, Subject};
use crate::domain::role::CompiledRole;

/// How often a view starts over before it reads the database in one transaction.
const ATTEMPTS: usize = 3;

/// What an entry takes besides its content: the key's and value's places in the map, the policy's
/// queues, reference counts. Measured for moka 0.12 at 150 to 180 bytes; the larger counts.
const ENTRY_OVERHEAD: usize = 180;

/// A cached member or role is found by this, never by a joined string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key<Id> {
    tenant: TenantId,
    incarnation: u64,
    id: Id,
}

/// What was read, and the tenant's revision it was read at. `None`: there is no such thing.
#[derive(Debug, Clone)]
struct Entry<T> {
    value: Option<Arc<T>>,
    seen_at: u64,
}

/// The cache in front of a store.
#[derive(Debug)]
pub struct Cached {
    store: SqlStore,
    tenants: Cache<TenantId, Arc<CachedTenant>>,
    members: Cache<Key<MemberId>, Entry<Member>>,
    roles: Cache<Key<RoleId>, Entry<CompiledRole>>,
    guard: FillGuard,
    incarnations: AtomicU64,
    counters: Counters,
}

impl Cached {
    /// A cache of at most about this many bytes. It must be made the store's listener, or it never
    /// hears of changes.
    #[must_use]
    pub fn new(store: SqlStore, bytes: u64) -> Self {
        Cached {
            store,
            tenants: Cache::builder()
                .max_capacity(bytes / 20)
                .weigher(|id: &TenantId, _: &Arc<CachedTenant>| {
                    weight(size_of::<CachedTenant>() + id.as_str().len())
                })
                .build(),
            members: Cache::builder()
                .max_capacity(bytes / 20 * 14)
                .weigher(|key: &Key<MemberId>, entry: &Entry<Member>| {
                    let value = entry.value.as_deref().map(member_bytes).unwrap_or_default();
                    weight(key.id.as_str().len() + value)
                })
                .build(),
            roles: Cache::builder()
                .max_capacity(bytes / 20 * 5)
                .weigher(|key: &Key<RoleId>, entry: &Entry<CompiledRole>| {
                    let value = entry.value.as_deref().map(CompiledRole::weight);
                    weight(key.id.as_str().len() + value.unwrap_or_default())
                })
                .build(),
            guard: FillGuard::new(),
            incarnations: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// How well it does its work.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let Counters { member_hits, member_misses, role_hits, role_misses, bypasses } =
            &self.counters;
        CacheStats {
            member_hits: member_hits.get(),
            member_misses: member_misses.get(),
            role_hits: role_hits.get(),
            role_misses: role_misses.get(),
            bypasses: bypasses.get(),
            weight: self.tenants.weighted_size()
                + self.members.weighted_size()
                + self.roles.weighted_size(),
        }
    }

    /// The tenant's entry, read if it is not cached. `None`: not in use.
    async fn tenant(&self, id: &TenantId) -> Result<Option<Arc<CachedTenant>>, StoreError> {
        if let Some(found) = self.tenants.get(id) {
            return Ok(Some(found));
        }
        let ticket = self.guard.begin(id);
        let seen = self.store.load_tenant(id).await?;
        let Some(catalog) = seen.value else { return Ok(None) };
        let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed);
        let tenant = Arc::new(CachedTenant::new(incarnation, catalog, seen.revision));
        // Not filled: a change came in between. The entry is good for the view at hand all the
        // same: members and roles that were read after the change do not fit it.
        self.guard.fill(ticket, || self.tenants.insert(id.clone(), Arc::clone(&tenant)));
        Ok(Some(tenant))
    }

    /// The view at a revision, if what is cached and what can be read belongs to it.
    async fn assemble(
        &self,
        id: &TenantId,
        tenant: &CachedTenant,
        revision: u64,
        wanted: &[MemberId],
    ) -> Result<Option<TenantView>, StoreError> {
        let Some(members) = self.members(id, tenant, revision, wanted).await? else {
            return Ok(None);
        };
        let named: BTreeSet<&RoleId> = members.iter().flat_map(|member| &member.roles).collect();
        let Some(roles) = self.roles(id, tenant, revision, named).await? else { return Ok(None) };
        let mut subjects = HashMap::with_capacity(members.len());
        for member in members {
            let mut held = Vec::with_capacity(member.roles.len());
            for role in &member.roles {
                match roles.get(role) {
                    Some(compiled) => held.push((role.clone(), Arc::clone(compiled))),
                    None => {
                        self.forget_member(id, tenant, &member.id);
                        return Ok(None);
                    }
                }
            }
            let subject = Subject {
                id: member.id.clone(),
                status: member.status,
                teams: member.teams.as_slice().into(),
                roles: held,
            };
            subjects.insert(member.id.clone(), Arc::new(subject));
        }
        let catalog = Arc::clone(&tenant.catalog);
        Ok(Some(TenantView { catalog, revision, members: subjects }))
    }

    /// Those of the members that exist; nothing when one was read at a later revision.
    async fn members(
        &self,
        id: &TenantId,
        tenant: &CachedTenant,
        revision: u64,
        wanted: &[MemberId],
    ) -> Result<Option<Vec<Arc<Member>>>, StoreError> {
        let key = |member: &MemberId| Key {
            tenant: id.clone(),
            incarnation: tenant.incarnation,
            id: member.clone(),
        };
        let mut found = Vec::with_capacity(wanted.len());
        let mut missing = Vec::new();
        for member in wanted {
            match self.members.get(&key(member)) {
                Some(entry) if entry.seen_at > revision => return Ok(None),
                Some(entry) => found.extend(entry.value),
                None => missing.push(member.clone()),
            }
        }
        self.counters.member_hits.add(wanted.len() - missing.len());
        self.counters.member_misses.add(missing.len());
        if missing.is_empty() {
            return Ok(Some(found));
        }
        let tickets: Vec<_> = missing.iter().map(|member| self.guard.begin(&key(member))).collect();
        let seen = self.store.load_members(id, &missing).await?;
        let mut loaded: HashMap<MemberId, Arc<Member>> =
            seen.value.into_iter().map(|member| (member.id.clone(), Arc::new(member))).collect();
        for (member, ticket) in missing.iter().zip(tickets) {
            let value = loaded.remove(member);
            found.extend(value.clone());
            let entry = Entry { value, seen_at: seen.revision };
            self.guard.fill(ticket, || self.members.insert(key(member), entry));
        }
        Ok((seen.revision <= revision).then_some(found))
    }

    /// Those of the roles that exist; nothing when one was read at a later revision.
    async fn roles(
        &self,
        id: &TenantId,
        tenant: &CachedTenant,
        revision: u64,
        wanted: BTreeSet<&RoleId>,
    ) -> Result<Option<HashMap<RoleId, Arc<CompiledRole>>>, StoreError> {
        let key = |role: &RoleId| Key {
            tenant: id.clone(),
            incarnation: tenant.incarnation,
            id: role.clone(),
        };
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing = BTreeSet::new();
        for role in wanted {
            if let Some(default) = tenant.catalog.default_role(role.as_str()) {
                found.insert(role.clone(), Arc::clone(&default.compiled));
                continue;
            }
            match self.roles.get(&key(role)) {
                Some(entry) if entry.seen_at > revision => return Ok(None),
                Some(entry) => {
                    self.counters.role_hits.add(1);
                    found.extend(entry.value.map(|compiled| (role.clone(), compiled)));
                }
                None => {
                    missing.insert(role.clone());
                }
            }
        }
        if missing.is_empty() {
            return Ok(Some(found));
        }
        self.counters.role_misses.add(missing.len());
        let tickets: Vec<_> = missing.iter().map(|role| self.guard.begin(&key(role))).collect();
        let seen = self.store.load_roles(id, &tenant.catalog, &missing).await?;
        for (role, ticket) in missing.iter().zip(tickets) {
            let value = seen.value.get(role).cloned();
            let entry = Entry { value, seen_at: seen.revision };
            self.guard.fill(ticket, || self.roles.insert(key(role), entry));
        }
        found.extend(seen.value);
        Ok((seen.revision <= revision).then_some(found))
    }

    fn forget_member(&self, id: &TenantId, tenant: &CachedTenant, member: &MemberId) {
        let key = Key { tenant: id.clone(), incarnation: tenant.incarnation, id: member.clone() };
        self.guard.invalidate(&key, || self.members.invalidate(&key));
    }

    fn forget_role(&self, id: &TenantId, tenant: &CachedTenant, role: &RoleId) {
        let key = Key { tenant: id.clone(), incarnation: tenant.incarnation, id: role.clone() };
        self.guard.invalidate(&key, || self.roles.invalidate(&key));
    }

    fn forget_tenant(&self, id: &TenantId) {
        self.guard.invalidate(id, || self.tenants.invalidate(id));
    }
}

impl DecisionSource for Cached {
    async fn view(
        &self,
        id: &TenantId,
        members: &[MemberId],
        freshness: Freshness,
    ) -> Result<Option<TenantView>, StoreError> {
        let wanted = match freshness {
            Freshness::MinimizeLatency => Some(0),
            Freshness::AtLeast(revision) => Some(revision),
            Freshness::FullyConsistent => None,
        };
        if let Some(wanted) = wanted {
            for _ in 0..ATTEMPTS {
                let Some(tenant) = self.tenant(id).await? else { return Ok(None) };
                let Some(revision) = tenant.usable().filter(|revision| *revision >= wanted) else {
                    break;
                };
                if let Some(view) = self.assemble(id, &tenant, revision, members).await? {
                    return Ok(Some(view));
                }
            }
        }
        self.counters.bypasses.add(1);
        let view = self.store.view(id, members, freshness).await?;
        if let Some(view) = &view {
            // An entry that is being filled right now may be older than this answer: refuse it.
            self.guard.invalidate(id, || {
                if let Some(tenant) = self.tenants.get(id) {
                    tenant.answered_at(view.revision);
                }
            });
        }
        Ok(view)
    }
}

impl ChangeListener for Cached {
    fn committed(&self, change: &Change) {
        let Change { tenant: id, revision, touched } = change;
        // Under the tenant's stripe, so that an entry that is being filled cannot miss the change.
        let cached = self.guard.invalidate(id, || self.tenants.get(id));
        let Some(tenant) = cached else { return };
        match touched {
            Touched::Tenant => return self.forget_tenant(id),
            Touched::Members(members) => {
                members.iter().for_each(|member| self.forget_member(id, &tenant, member));
            }
            Touched::Roles(roles) => {
                roles.iter().for_each(|role| self.forget_role(id, &tenant, role));
            }
            Touched::Nothing => {}
        }
        // Only now: whoever sees the revision must not find what it touched.
        if !tenant.apply(*revision) {
            tracing::warn!(tenant = %id, revision, "changes are missing; reading the tenant anew");
            self.forget_tenant(id);
        }
    }

    fn uncertain(&self, tenant: &TenantId) {
        self.forget_tenant(tenant);
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(ENTRY_OVERHEAD + bytes).unwrap_or(u32::MAX)
}

fn member_bytes(member: &Member) -> usize {
    let ids = (member.roles.iter().map(|id| id.as_str().len()))
        .chain(member.teams.iter().map(|id| id.as_str().len()));
    // Each id is a pointer with a length, and a counted text behind it.
    size_of::<Member>() + member.id.as_str().len() + ids.map(|bytes| bytes + 32).sum::<usize>()
}
