//! Reading through the cache: what is there is taken, what is not is read and filled in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::front::Kept;
use super::held::Held;
use super::tenant::CachedTenant;
use super::{Cached, Entry, Key};
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::Subject;
use crate::domain::role::CompiledRole;
use crate::store::{MemberView, StoreError, TenantView};

/// What is cached of what was wanted.
pub(super) struct Partly<T, Id> {
    pub(super) found: T,
    pub(super) missing: Vec<Id>,
    /// How many were cached, for the statistics.
    pub(super) hits: usize,
}

/// A member that exists, and what is true of it.
type CachedMember = (MemberId, Arc<Held>);

pub(super) type CompiledRoles = HashMap<RoleId, Arc<CompiledRole>>;

impl Cached {
    /// The tenant's entry, read if it is not cached. `None`: not in use.
    pub(super) async fn tenant(
        &self,
        id: &TenantId,
    ) -> Result<Option<Arc<CachedTenant>>, StoreError> {
        if let Some(found) = self.tenant_at_hand(id) {
            return Ok(Some(found));
        }
        let ticket = self.guard.begin(id);
        let seen = self.in_time(self.store.load_tenant(id)).await?;
        let Some(catalog) = seen.value else {
            self.not_in_use(id);
            return Ok(None);
        };
        let (Ok(tenant) | Err(tenant)) =
            self.keep_tenant(id, ticket, &catalog, (seen.epoch, seen.revision));
        Ok(Some(tenant))
    }

    /// The tenant's entry, if it is cached.
    pub(super) fn tenant_at_hand(&self, id: &TenantId) -> Option<Arc<CachedTenant>> {
        let oldest = self.oldest_incarnation.load(Ordering::Acquire);
        self.tenants.get(id).filter(|tenant| tenant.incarnation >= oldest)
    }

    /// The view at a revision, if what is cached and what can be read belongs to it.
    pub(super) async fn assemble(
        &self,
        id: &TenantId,
        tenant: &CachedTenant,
        revision: u64,
        wanted: &[MemberId],
    ) -> Result<Option<TenantView>, StoreError> {
        let Some(members) = self.members(id, tenant, revision, wanted).await? else {
            return Ok(None);
        };
        let Some(roles) = self.roles(id, tenant, revision, named(&members)).await? else {
            return Ok(None);
        };
        match subjects(&members, &roles) {
            Ok(members) => {
                let (catalog, state) = (Arc::clone(&tenant.catalog), tenant.state(revision));
                Ok(Some(TenantView { catalog, state, members, stale_since: None }))
            }
            Err(dangling) => {
                dangling.iter().for_each(|member| self.forget_member(tenant, member));
                Ok(None)
            }
        }
    }

    /// The view of one member, if all of it is cached and belongs to one state; kept by this thread
    /// for the next time.
    pub(super) fn one_at_hand(&self, tenant: &str, member: &[u8]) -> Option<Arc<MemberView>> {
        let member = MemberId::trusted(std::str::from_utf8(member).ok()?);
        let id = TenantId::trusted(tenant);
        let version = self.guard.version(&id);
        let entry = self.tenant_at_hand(&id)?;
        let revision = entry.usable()?;
        let subject = self.one_subject(&entry, revision, &member)?;
        let view = Arc::new(MemberView {
            catalog: Arc::clone(&entry.catalog),
            state: entry.state(revision),
            subject: subject.map(Arc::new),
            stale_since: None,
        });
        if let Some(version) = version {
            let view = Arc::clone(&view);
            self.front.put(Kept { tenant: id, member, entry, version, view });
        }
        Some(view)
    }

    /// The same as [`Cached::whole`] of one, without the maps that many take: this is what a check
    /// costs more where a thread has not kept the view.
    fn one_subject(
        &self,
        tenant: &CachedTenant,
        revision: u64,
        id: &MemberId,
    ) -> Option<Option<Subject>> {
        let member = self.members.get(&Key::of(tenant, id))?;
        if member.seen_at > revision {
            return None;
        }
        let mut hits = 0;
        let subject = match member.value {
            None => None,
            Some(held) => Some(held.subject(id.clone(), |role| {
                if let Some(default) = tenant.catalog.default_role(role.as_str()) {
                    return Some(Arc::clone(&default.compiled));
                }
                hits += 1;
                let role = self.roles.get(&Key::of(tenant, role))?;
                role.value.filter(|_| role.seen_at <= revision)
            })?),
        };
        self.counters.member_hits.add(1);
        self.counters.role_hits.add(hits);
        Some(subject)
    }

    /// All of these members that exist, if everything that is needed is cached.
    pub(super) fn whole(
        &self,
        tenant: &CachedTenant,
        revision: u64,
        wanted: &[MemberId],
    ) -> Option<HashMap<MemberId, Arc<Subject>>> {
        let members = self.cached_members(tenant, revision, wanted)?;
        let roles = self.cached_roles(tenant, revision, named(&members.found))?;
        if !(members.missing.is_empty() && roles.missing.is_empty()) {
            return None;
        }
        let subjects = subjects(&members.found, &roles.found).ok()?;
        self.counters.member_hits.add(wanted.len());
        self.counters.role_hits.add(roles.hits);
        Some(subjects)
    }

    /// Those of the members that exist; nothing when one was read at a later revision.
    async fn members(
        &self,
        id: &TenantId,
        tenant: &CachedTenant,
        revision: u64,
        wanted: &[MemberId],
    ) -> Result<Option<Vec<CachedMember>>, StoreError> {
        let Some(cached) = self.cached_members(tenant, revision, wanted) else {
            return Ok(None);
        };
        let Partly { mut found, missing, hits } = cached;
        self.counters.member_hits.add(hits);
        self.counters.member_misses.add(missing.len());
        if missing.is_empty() {
            return Ok(Some(found));
        }
        let key = |member: &MemberId| Key::of(tenant, member);
        let tickets: Vec<_> = missing.iter().map(|member| self.guard.begin(&key(member))).collect();
        let seen = self.in_time(self.store.load_members(id, &missing)).await?;
        let mut loaded: HashMap<MemberId, Arc<Held>> = (seen.value.into_iter())
            .map(|member| (member.id.clone(), self.sharing.held(&member)))
            .collect();
        for (member, ticket) in missing.iter().zip(tickets) {
            let value = loaded.remove(member);
            found.extend(value.clone().map(|held| (member.clone(), held)));
            let entry = Entry { value, seen_at: seen.revision };
            self.guard.fill(ticket, || self.members.insert(&key(member), entry));
        }
        Ok((seen.revision <= revision).then_some(found))
    }

    /// What is cached of the members; nothing when one was read at a later revision.
    pub(super) fn cached_members(
        &self,
        tenant: &CachedTenant,
        revision: u64,
        wanted: &[MemberId],
    ) -> Option<Partly<Vec<CachedMember>, MemberId>> {
        let mut found = Vec::with_capacity(wanted.len());
        let mut missing = Vec::new();
        for member in wanted {
            match self.members.get(&Key::of(tenant, member)) {
                Some(entry) if entry.seen_at > revision => return None,
                Some(entry) => found.extend(entry.value.map(|held| (member.clone(), held))),
                None => missing.push(member.clone()),
            }
        }
        let hits = wanted.len() - missing.len();
        Some(Partly { found, missing, hits })
    }

    /// Those of the roles that exist; nothing when one was read at a later revision.
    async fn roles(
        &self,
        id: &TenantId,
        tenant: &CachedTenant,
        revision: u64,
        wanted: BTreeSet<&RoleId>,
    ) -> Result<Option<CompiledRoles>, StoreError> {
        let Some(cached) = self.cached_roles(tenant, revision, wanted) else {
            return Ok(None);
        };
        let Partly { mut found, missing, hits } = cached;
        self.counters.role_hits.add(hits);
        self.counters.role_misses.add(missing.len());
        if missing.is_empty() {
            return Ok(Some(found));
        }
        let key = |role: &RoleId| Key::of(tenant, role);
        let tickets: Vec<_> = missing.iter().map(|role| self.guard.begin(&key(role))).collect();
        let wanted: BTreeSet<RoleId> = missing.iter().cloned().collect();
        let seen = self.in_time(self.store.load_roles(id, &tenant.catalog, &wanted)).await?;
        for (role, ticket) in missing.iter().zip(tickets) {
            let value = seen.value.get(role).cloned();
            let entry = Entry { value, seen_at: seen.revision };
            self.guard.fill(ticket, || self.roles.insert(key(role), entry));
        }
        found.extend(seen.value);
        Ok((seen.revision <= revision).then_some(found))
    }

    /// What is cached of the roles; nothing when one was read at a later revision.
    pub(super) fn cached_roles(
        &self,
        tenant: &CachedTenant,
        revision: u64,
        wanted: BTreeSet<&RoleId>,
    ) -> Option<Partly<CompiledRoles, RoleId>> {
        let mut found = HashMap::with_capacity(wanted.len());
        let (mut missing, mut hits) = (Vec::new(), 0);
        for role in wanted {
            if let Some(default) = tenant.catalog.default_role(role.as_str()) {
                found.insert(role.clone(), Arc::clone(&default.compiled));
                continue;
            }
            match self.roles.get(&Key::of(tenant, role)) {
                Some(entry) if entry.seen_at > revision => return None,
                Some(entry) => {
                    hits += 1;
                    found.extend(entry.value.map(|compiled| (role.clone(), compiled)));
                }
                None => missing.push(role.clone()),
            }
        }
        Some(Partly { found, missing, hits })
    }
}

/// The roles that the members name.
fn named(members: &[CachedMember]) -> BTreeSet<&RoleId> {
    members.iter().flat_map(|(_, held)| held.roles.iter()).collect()
}

/// The members with their roles; else those that name a role which is gone.
fn subjects(
    members: &[CachedMember],
    roles: &CompiledRoles,
) -> Result<HashMap<MemberId, Arc<Subject>>, Vec<MemberId>> {
    let mut subjects = HashMap::with_capacity(members.len());
    let mut dangling = Vec::new();
    for (id, held) in members {
        match held.subject(id.clone(), |role| roles.get(role).cloned()) {
            Some(subject) => {
                subjects.insert(id.clone(), Arc::new(subject));
            }
            None => dangling.push(id.clone()),
        }
    }
    if dangling.is_empty() { Ok(subjects) } else { Err(dangling) }
}
