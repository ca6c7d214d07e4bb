//! One member that is not cached: one statement, asked once however many want the answer at the same
//! time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{Mutex, MutexGuard};

use super::fill_guard::{Meanwhile, Ticket};
use super::tenant::CachedTenant;
use super::{ATTEMPTS, Cached, Entry, Found, Key};
use crate::domain::catalog::Catalog;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::role::CompiledRole;
use crate::store::cold::Cold;
use crate::store::source::subject;
use crate::store::{State, StoreError, TenantView};

/// How many can load at once without waiting for another's turn.
const TURNS: usize = 1024;

/// Who may load what. Keys share turns, so that nothing has to be kept for keys that nobody loads;
/// two that share one cost each other some waiting.
#[derive(Debug)]
pub(super) struct LoadTurns {
    hasher: RandomState,
    turns: Box<[Mutex<()>]>,
}

impl LoadTurns {
    pub(super) fn new() -> Self {
        LoadTurns {
            hasher: RandomState::new(),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder by how many there are")]
    async fn wait(&self, tenant: &TenantId, member: &MemberId) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one((tenant, member));
        self.turns[(hash % self.turns.len() as u64) as usize].lock().await
    }
}

/// Which entry of a tenant stays.
enum Kept {
    This,
    Other(Arc<CachedTenant>),
    Not,
}

impl Cached {
    /// The view of one member at one state. Whoever has waited for another's load of the same finds
    /// it cached.
    pub(super) async fn one_view(
        &self,
        id: &TenantId,
        member: &MemberId,
        wanted: u64,
    ) -> Result<Found, StoreError> {
        let _turn = self.in_time(async { Ok(self.loads.wait(id, member).await) }).await?;
        let wanted_members = std::slice::from_ref(member);
        for _ in 0..ATTEMPTS {
            let ticket = self.guard.begin(id);
            // Before the read, which then knows no less than it.
            let before = self.tenant_at_hand(id);
            if let Some(tenant) = &before {
                let Some(revision) = tenant.usable().filter(|revision| *revision >= wanted) else {
                    return Ok(Found::NotHere);
                };
                if let Some(members) = self.whole(tenant, revision, wanted_members) {
                    let (catalog, state) = (Arc::clone(&tenant.catalog), tenant.state(revision));
                    return Ok(Found::View(TenantView {
                        catalog,
                        state,
                        members,
                        stale_since: None,
                    }));
                }
            }
            let Some(cold) = self.in_time(self.store.load_one(id, member)).await? else {
                self.not_in_use(id);
                return Ok(Found::NoTenant);
            };
            self.counters.member_misses.add(1);
            self.counters.role_misses.add(cold.roles.len());
            if let Some(view) = self.fill_one(id, member, before, ticket, cold) {
                return Ok(Found::View(view));
            }
        }
        Ok(Found::NotHere)
    }

    /// What was read, cached as far as nothing of the tenant was changed meanwhile. Nothing when a
    /// newer state has been answered with by now.
    fn fill_one(
        &self,
        id: &TenantId,
        member: &MemberId,
        before: Option<Arc<CachedTenant>>,
        ticket: Ticket,
        cold: Cold,
    ) -> Option<TenantView> {
        let Cold { epoch, revision, catalog, member: found, roles } = cold;
        let tenant = match before {
            Some(tenant) => tenant,
            None => match self.keep_tenant(id, ticket, &catalog, (epoch, revision)) {
                Ok(made) => made,
                // What was read belongs to its state too.
                Err(other) if other.usable() == Some(revision) => other,
                Err(_) => return None,
            },
        };
        // Under the tenant's ticket: every change of it makes that void before anything else.
        let value = found.as_ref().map(|member| self.sharing.held(member));
        self.guard.fill(ticket, || {
            let entry = Entry { value, seen_at: revision };
            self.members.insert(&Key::of(&tenant, member), entry);
            for (role, compiled) in &roles {
                let key = Key::of(&tenant, role);
                if !self.roles.contains_key(&key) {
                    let entry = Entry { value: Some(Arc::clone(compiled)), seen_at: revision };
                    self.roles.insert(key, entry);
                }
            }
        });
        let state = match tenant.usable() {
            Some(usable) if usable > revision => return None,
            Some(usable) if usable == revision => tenant.state(revision),
            // The change is in the database and not applied here yet.
            _ => {
                self.answered(id, epoch, revision);
                Arc::new(State::at(epoch, revision))
            }
        };
        let mut compiled: HashMap<RoleId, Arc<CompiledRole>> = roles.into_iter().collect();
        for role in found.iter().flat_map(|member| &member.roles) {
            if let Some(default) = catalog.default_role(role.as_str()) {
                compiled.insert(role.clone(), Arc::clone(&default.compiled));
            }
        }
        let subject = found.map(|found| Arc::new(subject(id, found, &compiled)));
        let members = subject.map(|subject| (member.clone(), subject)).into_iter().collect();
        Some(TenantView { catalog, state, members, stale_since: None })
    }

    /// The tenant's entry, made of what was read with this ticket.
    ///
    /// # Errors
    /// Another one has been made meanwhile that knows no less, and stays.
    pub(super) fn keep_tenant(
        &self,
        id: &TenantId,
        ticket: Ticket,
        catalog: &Arc<Catalog>,
        (epoch, revision): (u64, u64),
    ) -> Result<Arc<CachedTenant>, Arc<CachedTenant>> {
        let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed);
        let tenant = Arc::new(CachedTenant::new(incarnation, epoch, Arc::clone(catalog), revision));
        let kept = self.guard.replace(ticket, |meanwhile| match self.tenant_at_hand(id) {
            // In its place answers would go back in time, and its members would go cold.
            Some(other) if other.epoch == epoch && other.knows_no_less(revision) => {
                Kept::Other(other)
            }
            // One that knew more may have been there, been answered from, and evicted.
            None if meanwhile == Meanwhile::Replaced => Kept::Not,
            _ => {
                self.tenants.insert(id.clone(), Arc::clone(&tenant));
                Kept::This
            }
        });
        match kept {
            Some(Kept::Other(other)) => return Err(other),
            Some(Kept::This) => {}
            // Or a change came in between. The entry is good for the view at hand all the same:
            // members and roles that were read after the change do not fit it. But another entry
            // may have been made meanwhile that knows less.
            Some(Kept::Not) | None => self.answered(id, epoch, revision),
        }
        Ok(tenant)
    }
}
