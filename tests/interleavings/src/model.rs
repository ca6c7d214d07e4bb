//! The cache's steps over maps: one tenant with one member, whose state is the number of the writer
//! who last changed it.

use std::collections::HashMap;

use crate::domain::catalog::Catalog;
use crate::fill_guard::{FillGuard, Meanwhile, Ticket, Version};
use crate::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use crate::tenant::CachedTenant;

/// What is left out, to see that the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Nothing: as the service does it.
    Nothing,
    /// Fills are made whatever was invalidated meanwhile.
    Guard,
    /// A change counts as applied before what it touched is gone.
    Order,
    /// A view takes entries that were read after the state that it is of.
    OneState,
    /// A view from an entry that was not kept does not stop the cache from giving older ones.
    NotKept,
    /// A change that is told before an earlier one does not stop the cache from giving the state
    /// before both.
    OwnWrites,
    /// The same for a change that somebody else is just telling of.
    ToldTwice,
    /// A thread goes on with what it kept although its tenant's entry was replaced or removed.
    Version,
    /// A thread goes on with what it kept although changes were applied.
    Applied,
    /// Answers from the database do not stop the cache from giving older ones.
    NeverBack,
    /// An entry takes the place of one that knows more.
    Displace,
    /// An entry takes the place of one that knew more, after that was evicted.
    Evicted,
}

/// How a view is asked for.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// Of one member, which is read in one statement.
    One,
    /// Of several, which are read one thing after the other.
    Many,
}

/// Which entry stays, as in `one`.
enum Kept {
    This,
    Other(Arc<CachedTenant>),
    Not,
}

/// What a thread keeps for itself, as in `front`.
struct KeptView {
    entry: Arc<CachedTenant>,
    version: Version,
    view: View,
}

const TENANT: &str = "tenant";
const MEMBER: &str = "member";
const ATTEMPTS: usize = 3;

/// The revision that a view names, and the state that it shows.
type View = (u64, u64);

/// What is committed: the revision, which is dense, and the member's state at each.
struct Database {
    states: Mutex<Vec<u64>>,
}

impl Database {
    fn read(&self) -> View {
        let states = lock(&self.states);
        let revision = states.len() as u64 - 1;
        (revision, states[revision as usize])
    }

    /// The second writer changes something else than the member.
    fn commit(&self, writer: u64) -> u64 {
        let mut states = lock(&self.states);
        let before = states[states.len() - 1];
        states.push(if writer == 2 { before } else { writer });
        states.len() as u64 - 1
    }

    fn at(&self, revision: u64) -> u64 {
        lock(&self.states)[revision as usize]
    }
}

#[derive(Clone, Copy)]
struct Entry {
    state: u64,
    seen_at: u64,
}

/// As `Cached`, with maps for moka.
struct Cache {
    broken: Broken,
    database: Arc<Database>,
    tenants: Mutex<HashMap<&'static str, Arc<CachedTenant>>>,
    members: Mutex<HashMap<(u64, &'static str), Entry>>,
    guard: FillGuard,
    incarnations: AtomicU64,
}

impl Cache {
    fn new(database: Arc<Database>, broken: Broken) -> Self {
        Cache {
            broken,
            database,
            tenants: Mutex::new(HashMap::new()),
            members: Mutex::new(HashMap::new()),
            // Two keys may share a stripe, or not.
            guard: FillGuard::new(2),
            incarnations: AtomicU64::new(0),
        }
    }

    /// As `at_hand` and, where that has nothing, `cached_view`.
    fn view(&self, ask: Ask, front: &mut Option<KeptView>) -> View {
        if let Some(kept) = front
            && (self.broken == Broken::Version || self.guard.is_still(kept.version))
            && (self.broken == Broken::Applied || kept.entry.usable() == Some(kept.view.0))
        {
            return kept.view;
        }
        if let Some(view) = self.one_at_hand(front) {
            return view;
        }
        match ask {
            Ask::One => self.one_view(),
            Ask::Many => self.many_view(),
        }
        .unwrap_or_else(|| self.stored_view())
    }

    /// As `cached_view` of several members.
    fn many_view(&self) -> Option<View> {
        for _ in 0..ATTEMPTS {
            let tenant = self.tenant();
            let revision = tenant.usable()?;
            if let Some(state) = self.member(&tenant, revision) {
                return Some((revision, state));
            }
        }
        None
    }

    /// As `one_view`, whose turns only spare the database.
    fn one_view(&self) -> Option<View> {
        for _ in 0..ATTEMPTS {
            let ticket = self.guard.begin(&TENANT);
            let before = self.tenant_at_hand();
            if let Some(tenant) = &before {
                let revision = tenant.usable()?;
                let key = (tenant.incarnation, MEMBER);
                let member = lock(&self.members).get(&key).copied();
                if let Some(member) = member.filter(|member| member.seen_at <= revision) {
                    return Some((revision, member.state));
                }
            }
            let read = self.database.read();
            if let Some(view) = self.fill_one(before, ticket, read) {
                return Some(view);
            }
        }
        None
    }

    /// As `fill_one`.
    fn fill_one(
        &self,
        before: Option<Arc<CachedTenant>>,
        ticket: Ticket,
        read: View,
    ) -> Option<View> {
        let (revision, state) = read;
        let tenant = match before {
            Some(tenant) => tenant,
            None => match self.keep_tenant(ticket, revision) {
                Ok(made) => made,
                Err(other) if other.usable() == Some(revision) => other,
                Err(_) => return None,
            },
        };
        let key = (tenant.incarnation, MEMBER);
        let entry = Entry { state, seen_at: revision };
        let fill = || _ = lock(&self.members).insert(key, entry);
        match self.broken {
            Broken::Guard => fill(),
            _ => drop(self.guard.fill(ticket, fill)),
        }
        match tenant.usable() {
            Some(usable) if usable > revision => return None,
            Some(usable) if usable == revision => {}
            _ => {
                if self.broken != Broken::NeverBack {
                    self.answered(revision);
                }
            }
        }
        Some(read)
    }

    /// As `one_at_hand`.
    fn one_at_hand(&self, front: &mut Option<KeptView>) -> Option<View> {
        let version = self.guard.version(&TENANT);
        let entry = self.tenant_at_hand()?;
        let revision = entry.usable()?;
        let member = lock(&self.members).get(&(entry.incarnation, MEMBER)).copied();
        let view = member.filter(|member| member.seen_at <= revision).map(|member| member.state)?;
        *front = version.map(|version| KeptView { entry, version, view: (revision, view) });
        Some((revision, view))
    }

    /// As `stored_view`.
    fn stored_view(&self) -> View {
        let view = self.database.read();
        if self.broken != Broken::NeverBack {
            self.answered(view.0);
        }
        view
    }

    fn tenant_at_hand(&self) -> Option<Arc<CachedTenant>> {
        lock(&self.tenants).get(TENANT).cloned()
    }

    fn tenant(&self) -> Arc<CachedTenant> {
        if let Some(found) = self.tenant_at_hand() {
            return found;
        }
        let ticket = self.guard.begin(&TENANT);
        let (revision, _) = self.database.read();
        let (Ok(tenant) | Err(tenant)) = self.keep_tenant(ticket, revision);
        tenant
    }

    /// As `keep_tenant`.
    fn keep_tenant(
        &self,
        ticket: Ticket,
        revision: u64,
    ) -> Result<Arc<CachedTenant>, Arc<CachedTenant>> {
        let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed);
        let tenant = Arc::new(CachedTenant::new(incarnation, 1, Arc::new(Catalog), revision));
        let fill = |meanwhile| match self.tenant_at_hand() {
            Some(other) if self.broken != Broken::Displace && other.knows_no_less(revision) => {
                Kept::Other(other)
            }
            None if self.broken != Broken::Evicted && meanwhile == Meanwhile::Replaced => Kept::Not,
            _ => {
                lock(&self.tenants).insert(TENANT, Arc::clone(&tenant));
                Kept::This
            }
        };
        let kept = match self.broken {
            Broken::Guard => Some(fill(Meanwhile::Nothing)),
            _ => self.guard.replace(ticket, fill),
        };
        match kept {
            Some(Kept::Other(other)) => return Err(other),
            Some(Kept::This) => {}
            Some(Kept::Not) | None if self.broken == Broken::NotKept => {}
            Some(Kept::Not) | None => self.answered(revision),
        }
        Ok(tenant)
    }

    fn answered(&self, revision: u64) {
        let cached = self.tenant_at_hand().and_then(|tenant| tenant.usable());
        if cached.is_some_and(|usable| usable >= revision) {
            return;
        }
        self.guard.invalidate(&TENANT, || {
            if let Some(tenant) = self.tenant_at_hand() {
                tenant.answered_at(revision);
            }
        });
    }

    /// As `members`: nothing when it was read at a later revision.
    fn member(&self, tenant: &CachedTenant, revision: u64) -> Option<u64> {
        let key = (tenant.incarnation, MEMBER);
        let cached = lock(&self.members).get(&key).copied();
        let entry = match cached {
            Some(entry) => entry,
            None => {
                let ticket = self.guard.begin(&key);
                let (seen_at, state) = self.database.read();
                let entry = Entry { state, seen_at };
                let fill = || _ = lock(&self.members).insert(key, entry);
                match self.broken {
                    Broken::Guard => fill(),
                    _ => drop(self.guard.fill(ticket, fill)),
                }
                entry
            }
        };
        (self.broken == Broken::OneState || entry.seen_at <= revision).then_some(entry.state)
    }

    /// As `committed`.
    fn committed(&self, revision: u64) {
        let cached = self.guard.invalidate(&TENANT, || self.tenant_at_hand());
        let Some(tenant) = cached else { return };
        if tenant.knows(revision) {
            if !matches!(self.broken, Broken::OwnWrites | Broken::ToldTwice) {
                tenant.answered_at(revision);
            }
            return;
        }
        if self.broken == Broken::Order {
            tenant.apply(revision);
        }
        // Some are about somebody else.
        if self.database.at(revision) != self.database.at(revision - 1) {
            let key = (tenant.incarnation, MEMBER);
            self.guard.void(&key, || lock(&self.members).remove(&key));
        }
        if !tenant.apply(revision) {
            self.guard.invalidate(&TENANT, || lock(&self.tenants).remove(TENANT));
        }
        if self.broken != Broken::OwnWrites {
            tenant.answered_at(revision);
        }
    }

    /// As moka does, when it likes.
    fn evict(&self) {
        lock(&self.members).clear();
        lock(&self.tenants).clear();
    }
}

/// Who takes part. The fewer they are, the more of their interleavings are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// One writer and two readers, nothing cached.
    Few,
    /// Two writers, whose changes a follower tells of as well, in another order, two readers, and
    /// evictions.
    All,
    /// One writer elsewhere, of whose change nobody is told before the end, and two readers.
    Untold,
    /// Two changes that are committed already; the second one's writer tells of it, and a follower
    /// of both, in another order.
    ToldTwice,
    /// One writer elsewhere, two readers, and evictions at any time.
    Evicted,
}

impl Cast {
    pub const EACH: [Cast; 5] =
        [Cast::Few, Cast::Untold, Cast::ToldTwice, Cast::Evicted, Cast::All];
}

/// Panics when a view is not what the database held at the revision that it names, when somebody
/// sees less than before, or when a writer does not see what it wrote.
pub fn run(cast: Cast, broken: Broken) {
    let stage = Stage::new(broken);
    let play: Vec<Part> = match cast {
        Cast::Few => vec![Part::Writer(1), Part::Reader(0, 3), Part::Reader(1, 3)],
        Cast::Untold => vec![Part::Elsewhere(1), Part::Reader(0, 3), Part::Reader(1, 3)],
        Cast::Evicted => {
            vec![Part::Elsewhere(1), Part::Reader(0, 2), Part::Reader(1, 3), Part::Evictor]
        }
        Cast::ToldTwice => {
            stage.cache.view(Ask::One, &mut None);
            let revision = [1, 2].map(|writer| stage.database.commit(writer))[1];
            vec![Part::Teller(revision), Part::Follower]
        }
        Cast::All => vec![
            Part::Writer(1),
            Part::Writer(2),
            Part::Reader(0, 4),
            Part::Reader(1, 4),
            Part::Follower,
        ],
    };
    let threads: Vec<_> = (play.into_iter())
        .map(|part| {
            let stage = stage.clone();
            shuttle::thread::spawn(move || stage.perform(part))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // For good: nothing old is left behind, once everything is told.
    let mut newest = stage.database.read().0;
    if matches!(cast, Cast::Untold | Cast::Evicted) {
        stage.cache.committed(newest);
    }
    stage.look(Ask::One, &mut None, &mut newest);
}

/// What somebody does.
enum Part {
    /// Commits a change and tells of it.
    Writer(u64),
    /// Commits a change where this cache does not hear of it.
    Elsewhere(u64),
    /// Tells of its change.
    Teller(u64),
    /// Which one, and how often it looks.
    Reader(u64, u64),
    /// Tells of every change, the newest first, and evicts.
    Follower,
    /// Evicts the tenant, then its members.
    Evictor,
}

#[derive(Clone)]
struct Stage {
    database: Arc<Database>,
    cache: Arc<Cache>,
    /// Every answer that begins later is at least as new.
    acknowledged: Arc<AtomicU64>,
}

impl Stage {
    fn new(broken: Broken) -> Self {
        let database = Arc::new(Database { states: Mutex::new(vec![0]) });
        let cache = Arc::new(Cache::new(Arc::clone(&database), broken));
        Stage { database, cache, acknowledged: Arc::new(AtomicU64::new(0)) }
    }

    fn perform(&self, part: Part) {
        match part {
            Part::Writer(writer) => self.tell(self.database.commit(writer)),
            Part::Elsewhere(writer) => _ = self.database.commit(writer),
            Part::Teller(revision) => self.tell(revision),
            Part::Reader(reader, looks) => self.read(reader, looks),
            Part::Follower => {
                let (newest, _) = self.database.read();
                (1..=newest).rev().for_each(|revision| self.cache.committed(revision));
                self.cache.evict();
            }
            Part::Evictor => {
                lock(&self.cache.tenants).clear();
                self.cache.evict();
            }
        }
    }

    fn tell(&self, revision: u64) {
        self.cache.committed(revision);
        self.acknowledged.fetch_max(revision, Ordering::SeqCst);
        let mut last = revision;
        self.look(Ask::One, &mut None, &mut last);
    }

    fn read(&self, reader: u64, looks: u64) {
        let (mut last, mut front) = (0, None);
        for look in 0..looks {
            last = self.acknowledged.load(Ordering::SeqCst).max(last);
            // The second one asks for full consistency first.
            if reader == 1 && look == 0 {
                self.see(self.cache.stored_view(), &mut last);
                continue;
            }
            let ask = if (reader + look) % 2 == 0 { Ask::One } else { Ask::Many };
            self.look(ask, &mut front, &mut last);
        }
    }

    fn look(&self, ask: Ask, front: &mut Option<KeptView>, last: &mut u64) {
        self.see(self.cache.view(ask, front), last);
    }

    fn see(&self, (revision, state): View, last: &mut u64) {
        assert_eq!(state, self.database.at(revision), "not the state of revision {revision}");
        assert!(revision >= *last, "back from {last} to {revision}");
        *last = revision;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
