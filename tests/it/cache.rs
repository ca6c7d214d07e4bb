//! The cache under concurrent writers and readers: every view is what the database said at the
//! revision that the view names, and no reader goes back in time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolegate::domain::Timestamp;
use rolegate::domain::catalog::{Catalog, shipped};
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::{MemberId, RoleId, TenantId};
use rolegate::domain::member::{Member, MemberStatus};
use rolegate::domain::name::RoleName;
use rolegate::domain::role::CustomRole;
use rolegate::domain::tenant::{Tenant, TenantState};
use rolegate::store::{
    AuditEntry, Cached, ChangeListener, DecisionSource, FollowLimits, Freshness, OpenOptions,
    SqlStore, TenantView, Touched, WriteTx,
};

const PERMISSION: &str = "report.view";

/// What is true of the one member at one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Truth {
    exists: bool,
    allowed: bool,
}

fn entry() -> AuditEntry {
    AuditEntry {
        at: Timestamp(0),
        caller: "test".into(),
        actor: None,
        method: "test".into(),
        request_id: None,
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
    }
}

fn role(id: &RoleId, holds: bool) -> CustomRole {
    let grant = Grant { permission: PERMISSION.into(), scope: None };
    CustomRole {
        id: id.clone(),
        name: RoleName::trusted(id.as_str()),
        description: String::new(),
        grants: if holds { vec![grant] } else { vec![] },
        revision: 0,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

fn member(role: &RoleId) -> Member {
    Member {
        id: MemberId::trusted("kim"),
        status: MemberStatus::Active,
        roles: vec![role.clone()],
        teams: vec![],
        revision: 0,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

/// Nobody confirms here: the store tells of every change itself.
pub(crate) fn unhurried() -> FollowLimits {
    FollowLimits { staleness: Duration::from_secs(3600), ..FollowLimits::default() }
}

async fn open(directory: &tempfile::TempDir) -> SqlStore {
    let url = format!("sqlite://{}", directory.path().join("cache.db").display());
    let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
    store.register(Arc::new(Catalog::parse(shipped()[1]).unwrap()));
    store
}

/// A cache that hears of every change.
fn cache(store: &SqlStore, bytes: u64) -> Arc<Cached> {
    let cached = Arc::new(Cached::new(store.clone(), bytes, unhurried()));
    assert!(store.set_listener(Arc::clone(&cached) as Arc<dyn ChangeListener>).is_ok());
    cached
}

async fn make_tenant(store: &SqlStore, id: &TenantId) -> u64 {
    put_tenant(store, id, TenantState::Active).await
}

async fn put_tenant(store: &SqlStore, id: &TenantId, state: TenantState) -> u64 {
    let tx = store.write(id).await.unwrap();
    let catalog = store.newest_catalog("qpien").unwrap().reference().clone();
    tx.put_tenant(&Tenant {
        id: id.clone(),
        catalog,
        plan: None,
        state,
        revision: 1,
        own_revision: 1,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        purge_at: None,
    })
    .await
    .unwrap();
    tx.commit(Touched::Tenant, entry()).await.unwrap()
}

fn seen(view: &TenantView) -> Truth {
    let permission = view.catalog.find(PERMISSION).unwrap();
    let subject = view.members.get("kim");
    Truth {
        exists: subject.is_some(),
        allowed: subject
            .is_some_and(|subject| subject.decide(&view.catalog, permission, None).is_allowed()),
    }
}

/// One tenant's state as the writer knows it, changed in every way that decisions depend on.
struct Writer {
    store: SqlStore,
    tenant: TenantId,
    roles: [RoleId; 2],
    holds: [bool; 2],
    /// Which of the roles the member holds; none: there is no such member.
    held: Option<usize>,
    /// Custom roles are made anew now and then; this tells the next one's id.
    made: usize,
}

impl Writer {
    async fn new(store: &SqlStore, tenant: &TenantId) -> (Writer, u64, Truth) {
        make_tenant(store, tenant).await;
        let roles = [RoleId::trusted("a-0"), RoleId::trusted("b-0")];
        let tx = store.write(tenant).await.unwrap();
        tx.put_role(&role(&roles[0], true)).await.unwrap();
        tx.put_role(&role(&roles[1], false)).await.unwrap();
        tx.put_members(&[member(&roles[0])]).await.unwrap();
        let revision = tx.commit(Touched::Tenant, entry()).await.unwrap();
        let (store, tenant) = (store.clone(), tenant.clone());
        let writer = Writer { store, tenant, roles, holds: [true, false], held: Some(0), made: 0 };
        let truth = writer.truth();
        (writer, revision, truth)
    }

    fn truth(&self) -> Truth {
        Truth {
            exists: self.held.is_some(),
            allowed: self.held.is_some_and(|held| self.holds[held]),
        }
    }

    /// The next change, before its commit.
    async fn step(&mut self, number: usize) -> (WriteTx, Touched) {
        let tx = self.store.write(&self.tenant).await.unwrap();
        let kim = MemberId::trusted("kim");
        let touched = match (number % 7, self.held) {
            // The member goes to the other role.
            (0 | 3, Some(held)) => {
                self.held = Some(1 - held);
                tx.put_members(&[member(&self.roles[1 - held])]).await.unwrap();
                Touched::Members(vec![kim])
            }
            // It is deleted, or made.
            (5, Some(_)) => {
                self.held = None;
                tx.delete_members(std::slice::from_ref(&kim)).await.unwrap();
                Touched::Members(vec![kim])
            }
            (_, None) => {
                self.held = Some(number % 2);
                tx.put_members(&[member(&self.roles[number % 2])]).await.unwrap();
                Touched::Members(vec![kim])
            }
            // Its role is deleted with reassignment; no member is named.
            (6, Some(held)) => {
                let (gone, other) = (self.roles[held].clone(), self.roles[1 - held].clone());
                tx.reassign_role(&gone, &other, Timestamp(0)).await.unwrap();
                tx.delete_role(&gone).await.unwrap();
                self.made += 1;
                let name = if held == 0 { "a" } else { "b" };
                self.roles[held] = RoleId::trusted(&format!("{name}-{}", self.made));
                tx.put_role(&role(&self.roles[held], self.holds[held])).await.unwrap();
                self.held = Some(1 - held);
                Touched::Roles(vec![gone, other, self.roles[held].clone()])
            }
            // A role is edited.
            (step, Some(_)) => {
                let edited = step % 2;
                self.holds[edited] = !self.holds[edited];
                tx.put_role(&role(&self.roles[edited], self.holds[edited])).await.unwrap();
                Touched::Roles(vec![self.roles[edited].clone()])
            }
        };
        (tx, touched)
    }
}

async fn stress(bytes: u64, writes: usize) {
    let longer = std::env::var("ROLEGATE_STRESS_WRITES").ok().and_then(|count| count.parse().ok());
    let writes = longer.unwrap_or(writes);
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let cached = cache(&store, bytes);
    let tenant = TenantId::trusted("acme");
    let (mut writer, revision, truth) = Writer::new(&store, &tenant).await;

    let history = Arc::new(Mutex::new(BTreeMap::from([(revision, truth)])));
    let acknowledged = Arc::new(AtomicU64::new(revision));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..6)
        .map(|reader| {
            let (cached, tenant, done) = (Arc::clone(&cached), tenant.clone(), Arc::clone(&done));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                let mut observed = Vec::new();
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let floor = acknowledged.load(Ordering::Acquire);
                    let freshness = match reader % 3 {
                        0 => Freshness::AtLeast(floor),
                        1 if observed.len() % 10 == 0 => Freshness::FullyConsistent,
                        _ => Freshness::MinimizeLatency,
                    };
                    let kim = [MemberId::trusted("kim")];
                    let view = cached.view(&tenant, &kim, freshness).await.unwrap().unwrap();
                    // One process, and the write was acknowledged before: no mode may miss it.
                    assert!(
                        view.state.revision() >= floor,
                        "{} is older than {floor}",
                        view.state.revision()
                    );
                    assert!(
                        view.state.revision() >= last,
                        "back from {last} to {}",
                        view.state.revision()
                    );
                    last = view.state.revision();
                    observed.push((view.state.revision(), seen(&view)));
                    tokio::task::yield_now().await;
                }
                observed
            })
        })
        .collect();

    for number in 0..writes {
        let (tx, touched) = writer.step(number).await;
        let revision = tx.next_revision();
        history.lock().unwrap().insert(revision, writer.truth());
        assert_eq!(tx.commit(touched, entry()).await.unwrap(), revision);
        acknowledged.store(revision, Ordering::Release);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    done.store(true, Ordering::Relaxed);
    let history = history.lock().unwrap().clone();
    let mut views = 0;
    for reader in readers {
        for (revision, truth) in reader.await.unwrap() {
            views += 1;
            assert_eq!(history.get(&revision), Some(&truth), "at revision {revision}");
        }
    }
    assert!(views > writes, "too few views to tell: {views}");
}

/// Everything fits: hits, and invalidations of what is hit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn views_are_true_to_their_revision_while_everything_is_cached() {
    stress(1 << 20, 600).await;
}

/// Hardly anything fits: every view loads, in a race with the writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn views_are_true_to_their_revision_while_everything_is_evicted() {
    stress(20_000, 400).await;
}

/// One role edit must leave the members of a big tenant where they are: no query but the role's.
#[tokio::test]
async fn a_role_edit_leaves_no_member_cold() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let cached = cache(&store, 64 << 20);
    let tenant = TenantId::trusted("acme");
    make_tenant(&store, &tenant).await;
    let edited = RoleId::trusted("r-1");
    let members: Vec<Member> = (0..2_000)
        .map(|number| Member { id: MemberId::trusted(&format!("m{number}")), ..member(&edited) })
        .collect();
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role(&edited, true)).await.unwrap();
    tx.put_members(&members).await.unwrap();
    tx.commit(Touched::Tenant, entry()).await.unwrap();
    let ids: Vec<MemberId> = members.into_iter().map(|member| member.id).collect();
    let all = |view: TenantView| {
        let permission = view.catalog.find(PERMISSION).unwrap();
        let may =
            |id: &MemberId| view.members[id].decide(&view.catalog, permission, None).is_allowed();
        (view.members.len(), ids.iter().filter(|id| may(id)).count())
    };
    let view = cached.view(&tenant, &ids, Freshness::MinimizeLatency).await.unwrap().unwrap();
    assert_eq!(all(view), (2_000, 2_000));

    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role(&edited, false)).await.unwrap();
    tx.commit(Touched::Roles(vec![edited.clone()]), entry()).await.unwrap();
    let before = cached.stats();
    let view = cached.view(&tenant, &ids, Freshness::MinimizeLatency).await.unwrap().unwrap();
    assert_eq!(all(view), (2_000, 0));
    let after = cached.stats();
    assert_eq!(after.member_misses - before.member_misses, 0, "members went cold");
    assert_eq!(after.role_misses - before.role_misses, 1);
    assert_eq!(after.bypasses - before.bypasses, 0);
}

/// A cold start under load: each member is read once, however many ask about it at the same time, and
/// nobody's load makes another's go cold again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_ask_for_at_once_is_read_once() {
    const MEMBERS: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let cached = cache(&store, 64 << 20);
    let tenant = TenantId::trusted("acme");
    make_tenant(&store, &tenant).await;
    let custom = RoleId::trusted("r-1");
    let ids: Vec<MemberId> =
        (0..MEMBERS).map(|number| MemberId::trusted(&format!("m{number}"))).collect();
    let members: Vec<Member> =
        ids.iter().map(|id| Member { id: id.clone(), ..member(&custom) }).collect();
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role(&custom, true)).await.unwrap();
    tx.put_members(&members).await.unwrap();
    tx.commit(Touched::Tenant, entry()).await.unwrap();

    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        for id in &ids {
            let (cached, tenant, id) = (Arc::clone(&cached), tenant.clone(), id.clone());
            asking.spawn(async move {
                let only = std::slice::from_ref(&id);
                let view = cached.view(&tenant, only, Freshness::MinimizeLatency).await;
                let view = view.unwrap().unwrap();
                let permission = view.catalog.find(PERMISSION).unwrap();
                view.members[&id].decide(&view.catalog, permission, None).is_allowed()
            });
        }
    }
    assert!(asking.join_all().await.into_iter().all(|allowed| allowed));
    let stats = cached.stats();
    assert_eq!((stats.member_misses, stats.bypasses), (MEMBERS as u64, 0));
    for id in &ids {
        assert!(
            cached.at_hand(tenant.as_str(), id.as_str().as_bytes(), 0).is_some(),
            "{id} went cold"
        );
    }
}

/// A tenant is deleted elsewhere, and this cache has not heard of it. As soon as it has answered that
/// there is no such tenant, it answers nothing from before that.
#[tokio::test]
async fn after_there_is_no_such_tenant_nobody_is_answered_from_before() {
    let [kim, lee, may] = ["kim", "lee", "may"].map(MemberId::trusted);
    for (asked, freshness) in [
        (vec![lee.clone()], Freshness::MinimizeLatency),
        (vec![lee, may], Freshness::MinimizeLatency),
        (vec![kim.clone()], Freshness::FullyConsistent),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (store, elsewhere) = (open(&directory).await, open(&directory).await);
        let cached = cache(&store, 64 << 20);
        let tenant = TenantId::trusted("acme");
        make_tenant(&store, &tenant).await;
        let view = async |members: &[MemberId], freshness| {
            cached.view(&tenant, members, freshness).await.unwrap()
        };
        let kim = std::slice::from_ref(&kim);
        assert!(view(kim, Freshness::MinimizeLatency).await.is_some());
        assert!(cached.at_hand(tenant.as_str(), b"kim", 0).is_some());
        put_tenant(&elsewhere, &tenant, TenantState::Deleted).await;
        assert!(cached.at_hand(tenant.as_str(), b"kim", 0).is_some(), "nobody has told");

        assert!(view(&asked, freshness).await.is_none(), "{asked:?}");
        assert!(cached.at_hand(tenant.as_str(), b"kim", 0).is_none(), "{asked:?}");
        assert!(view(kim, Freshness::MinimizeLatency).await.is_none(), "{asked:?}");
    }
}
