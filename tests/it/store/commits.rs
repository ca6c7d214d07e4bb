use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rolegate::domain::Timestamp;
use rolegate::domain::ids::TenantId;
use rolegate::domain::role::CustomRole;
use rolegate::store::{
    AuditFilter, Change, ChangeListener, MemberFilter, SqlStore, StoreError, Touched,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::backend::{commit, entry, make_tenant, member, member_ids, role, role_ids, tenant_id};

async fn revision(store: &SqlStore, tenant: &TenantId) -> u64 {
    store.read().await.unwrap().tenant(tenant).await.unwrap().unwrap().revision
}

pub(super) async fn revisions_are_dense_under_many_writers(store: &SqlStore) {
    let tenants = [make_tenant(store, "one").await, make_tenant(store, "two").await];
    let mut writers = JoinSet::new();
    for n in 0..50 {
        let (store, tenant) = (store.clone(), tenants[n % 2].clone());
        writers.spawn(async move {
            let tx = store.write(&tenant).await.unwrap();
            let expected = tx.next_revision();
            tokio::task::yield_now().await;
            tx.put_members(&[member(&format!("m{n}"), &[], &[])]).await.unwrap();
            assert_eq!(commit(tx).await, expected);
            expected
        });
    }
    let mut revisions = writers.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=26).flat_map(|revision| [revision; 2]).collect::<Vec<_>>());
    let tx = store.read().await.unwrap();
    for tenant in &tenants {
        assert_eq!(tx.tenant(tenant).await.unwrap().unwrap().revision, 26);
        let mut of_members: Vec<_> = (tx.members(tenant, &MemberFilter::default(), None, 99))
            .await
            .unwrap()
            .into_iter()
            .map(|member| member.revision)
            .collect();
        of_members.sort_unstable();
        assert_eq!(of_members, (2..=26).collect::<Vec<_>>());
    }
}

pub(super) async fn dropping_leaves_nothing(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role("r")).await.unwrap();
    tx.put_members(&[member("m", &["r"], &["t"])]).await.unwrap();
    tx.put_tenant(tx.tenant().unwrap()).await.unwrap();
    drop(tx);
    let tx = store.write(&tenant_id("new")).await.unwrap();
    tx.put_tenant(&super::backend::tenant("new")).await.unwrap();
    drop(tx);

    let tx = store.write(&tenant).await.unwrap();
    assert_eq!((tx.next_revision(), tx.tenant().unwrap().own_revision), (2, 1));
    assert_eq!(tx.roles(&tenant, None, 9).await.unwrap(), []);
    assert_eq!(tx.members(&tenant, &MemberFilter::default(), None, 9).await.unwrap(), []);
    assert_eq!(tx.tenants(None, 9, true).await.unwrap().len(), 1);
    assert_eq!(tx.changes(&tenant, 0, 9).await.unwrap().len(), 1);
    let events = tx.audit_events(&tenant, &AuditFilter::default(), None, 9).await.unwrap();
    assert_eq!(events.len(), 1);
}

pub(super) async fn a_reader_sees_one_state(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let reader = store.read().await.unwrap();
    assert_eq!(reader.tenant(&tenant).await.unwrap().unwrap().revision, 1);
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role("r")).await.unwrap();
    commit(tx).await;
    assert_eq!(reader.tenant(&tenant).await.unwrap().unwrap().revision, 1);
    assert_eq!(reader.count_roles(&tenant).await.unwrap(), 0);
    let later = store.read().await.unwrap();
    assert_eq!(later.count_roles(&tenant).await.unwrap(), 1);
}

/// Keeps what it is told.
struct Told(mpsc::UnboundedSender<Change>);

impl ChangeListener for Told {
    fn committed(&self, _: u64, change: &Change) {
        self.0.send(change.clone()).unwrap();
    }

    fn uncertain(&self, tenant: &TenantId) {
        panic!("nothing is uncertain about {tenant}");
    }
}

fn listen(store: &SqlStore) -> mpsc::UnboundedReceiver<Change> {
    let (sender, receiver) = mpsc::unbounded_channel();
    assert!(store.set_listener(Arc::new(Told(sender))).is_ok());
    receiver
}

pub(super) async fn the_listener_is_told_once(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let mut told = listen(store);
    let again = Arc::new(Told(mpsc::unbounded_channel().0));
    assert!(store.set_listener(again).is_err(), "there is one already");

    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role("r")).await.unwrap();
    assert!(told.try_recv().is_err(), "nothing is committed yet");
    let touched = Touched::Roles(role_ids(&["r"]));
    tx.commit(touched.clone(), entry(1)).await.unwrap();
    // Told before the writer has its answer, hence no waiting here.
    assert_eq!(told.try_recv().unwrap(), Change { tenant: tenant.clone(), revision: 2, touched });
    assert!(told.try_recv().is_err());

    drop(store.write(&tenant).await.unwrap());
    let tx = store.write(&tenant).await.unwrap();
    assert_eq!(tx.next_revision(), 3);
    assert!(told.try_recv().is_err(), "nothing was committed since");
}

/// Gives up at the n-th time that it would have to wait.
struct GivesUp<F> {
    inner: Pin<Box<F>>,
    patience: usize,
}

impl<F: Future> Future for GivesUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.inner.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.patience == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.patience -= 1;
                Poll::Pending
            }
        }
    }
}

/// Wherever a client goes away in the middle of a commit: what was committed was told, once.
pub(super) async fn whoever_goes_away_does_not_keep_it_from_being_told(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let mut told = listen(store);
    let mut expected = 1;
    let (mut undone, mut done) = (0, 0);
    // How often a commit waits depends on timing, so the rounds go on until one was left in the
    // middle of COMMIT itself.
    for round in 0..1000 {
        let tx = store.write(&tenant).await.unwrap();
        assert_eq!(tx.next_revision(), expected + 1, "what was told is what was committed");
        tx.put_members(&[member("m", &[], &[])]).await.unwrap();
        let committing = GivesUp {
            inner: Box::pin(tx.commit(Touched::Nothing, entry(1))),
            patience: round % 12,
        };
        let left_early = committing.await.is_none();
        // The next writer gets its turn when this one has ended either way.
        let ended = store.write(&tenant).await.unwrap().next_revision() - 1;
        if ended > expected {
            let change = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
            assert_eq!(change.unwrap().unwrap().revision, ended);
            done += usize::from(left_early);
        } else {
            assert!(left_early);
            undone += 1;
        }
        assert!(told.try_recv().is_err(), "told once");
        expected = ended;
        if done > 2 && undone > 2 {
            return;
        }
    }
    panic!("{done} were left in the middle of COMMIT, {undone} before");
}

pub(super) async fn changes_match_commits(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    make_tenant(store, "other").await;
    let all = [
        Touched::Members(member_ids(&["a", "b"])),
        Touched::Roles(role_ids(&["old", "new"])),
        Touched::Nothing,
        Touched::Tenant,
    ];
    for touched in all.clone() {
        let tx = store.write(&tenant).await.unwrap();
        tx.commit(touched, entry(1)).await.unwrap();
    }
    let tx = store.read().await.unwrap();
    let expected: Vec<_> = (2..)
        .zip(all)
        .map(|(revision, touched)| Change { tenant: tenant.clone(), revision, touched })
        .collect();
    assert_eq!(tx.changes(&tenant, 1, 9).await.unwrap(), expected);
    assert_eq!(tx.changes(&tenant, 2, 2).await.unwrap(), expected[1..3]);
    assert_eq!(tx.changes(&tenant, 5, 9).await.unwrap(), []);
}

pub(super) async fn old_changes_are_trimmed(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    for at in [10, 20, 30] {
        let tx = store.write(&tenant).await.unwrap();
        tx.commit(Touched::Nothing, entry(at)).await.unwrap();
    }
    // The one that made the tenant goes too.
    assert_eq!(store.trim_changes(Timestamp(20)).await.unwrap(), 2);
    let left = store.read().await.unwrap().changes(&tenant, 0, 9).await.unwrap();
    assert_eq!(left.iter().map(|change| change.revision).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(revision(store, &tenant).await, 4);
}

pub(super) async fn a_change_of_no_tenant_is_refused(store: &SqlStore) {
    let nowhere = tenant_id("nowhere");
    let tx = store.write(&nowhere).await.unwrap();
    let refused = tx.commit(Touched::Nothing, entry(1)).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    let tx = store.read().await.unwrap();
    assert_eq!(tx.changes(&nowhere, 0, 9).await.unwrap(), []);
}

/// PostgreSQL answers the COMMIT of such a transaction with success, and rolls back.
pub(super) async fn a_change_of_which_a_statement_failed_is_not_committed(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&role("taken")).await.unwrap();
    assert_eq!(commit(tx).await, 2);
    let tx = store.write(&tenant).await.unwrap();
    tx.put_members(&[member("kim", &[], &[])]).await.unwrap();
    let same_name = CustomRole { id: role_ids(&["other"]).remove(0), ..role("taken") };
    let put = tx.put_role(&same_name).await;
    assert!(matches!(put, Err(StoreError::Conflict)), "{put:?}");
    let committed = tx.commit_unchanged().await;
    assert!(matches!(committed, Err(StoreError::Unavailable(_))), "{committed:?}");
    assert_eq!(revision(store, &tenant).await, 2);
    // The connection is as good as before.
    assert_eq!(commit(store.write(&tenant).await.unwrap()).await, 3);
}
