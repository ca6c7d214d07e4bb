//! Following changes: what both databases promise.

use std::time::Duration;

use rolegate::domain::Timestamp;
use rolegate::store::{
    ChangePosition, FollowCursor, OpenOptions, SequencedChange, SqlStore, Touched,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backend::{Database, commit, entry, make_tenant, role_ids, tenant_id};

/// `tenant@revision` of everything new.
pub(super) async fn drain(store: &SqlStore, cursor: &mut FollowCursor) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let followed = store.follow(cursor, 100).await.unwrap();
        assert!(!followed.gap);
        seen.extend(
            followed.changes.iter().map(|c| format!("{}@{}", c.change.tenant, c.change.revision)),
        );
        *cursor = followed.next;
        if !followed.more {
            return seen;
        }
    }
}

/// So many changes in their final order. They may have to wait for what runs elsewhere on the server.
async fn ordered(
    store: &SqlStore,
    after: ChangePosition,
    page: u64,
    wanted: usize,
) -> Vec<SequencedChange> {
    let (mut found, mut position) = (Vec::new(), after);
    for _ in 0..1000 {
        let next = store.ordered_changes(position, page).await.unwrap();
        assert!(!next.gap && next.next >= position);
        assert_eq!(next.more, next.changes.len() as u64 == page);
        found.extend(next.changes);
        position = next.next;
        if found.len() >= wanted {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} of {wanted}", found.len());
}

/// A cursor from a moment at which nothing ran, nowhere on the server. What did run and has ended
/// could have been trimmed in between, for all that one knows.
async fn quiet_start(store: &SqlStore) -> FollowCursor {
    loop {
        let cursor = store.follow_start().await.unwrap();
        if format!("{cursor:?}").contains("running: []") {
            return cursor;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn every_change_is_told_once(database: &Database) {
    let store = &database.store;
    let other = database.replica().await;
    make_tenant(store, "before").await;
    let mut cursor = other.follow_start().await.unwrap();
    assert_eq!(drain(&other, &mut cursor).await, [""; 0]);
    let tenant = make_tenant(store, "acme").await;
    let tx = store.write(&tenant).await.unwrap();
    let touched = Touched::Roles(role_ids(&["a", "b"]));
    tx.commit(touched.clone(), entry(77)).await.unwrap();
    let followed = other.follow(&cursor, 100).await.unwrap();
    assert_eq!((followed.gap, followed.more, followed.epoch.number), (false, false, 1));
    let [made, changed] = followed.changes.as_slice() else { panic!("{followed:?}") };
    assert_eq!((made.change.revision, &made.change.tenant), (1, &tenant));
    assert_eq!((changed.change.revision, &changed.change.touched), (2, &touched));
    assert_eq!(changed.at, Timestamp(77));
    assert!(made.position < changed.position);
    let mut cursor = followed.next;
    assert_eq!(drain(&other, &mut cursor).await, [""; 0]);
}

pub(super) async fn pages_come_one_after_the_other(database: &Database) {
    let store = &database.store;
    let mut cursor = store.follow_start().await.unwrap();
    let (position, _) = store.ordered_end().await.unwrap();
    let tenant = make_tenant(store, "acme").await;
    for _ in 0..9 {
        commit(store.write(&tenant).await.unwrap()).await;
    }
    let mut followed = Vec::new();
    for page in 1..=4 {
        let found = store.follow(&cursor, 3).await.unwrap();
        followed.extend(found.changes);
        assert_eq!(found.more, page < 4);
        cursor = found.next;
    }
    assert!(followed.iter().map(|change| change.change.revision).eq(1..=10));
    assert_eq!(ordered(store, position, 3, 10).await, followed);
}

/// Each follower, whatever its pace, ends up with the same; and the order is one of revisions.
pub(super) async fn nothing_is_lost_among_many_writers(database: &Database) {
    let store = &database.store;
    let other = database.replica().await;
    let mut cursor = other.follow_start().await.unwrap();
    let (position, _) = other.ordered_end().await.unwrap();
    let mut writers = JoinSet::new();
    for n in 0..4 {
        let store = store.clone();
        writers.spawn(async move {
            let tenant = make_tenant(&store, &format!("t{n}")).await;
            let mut more = JoinSet::new();
            for _ in 0..12 {
                let (store, tenant) = (store.clone(), tenant.clone());
                more.spawn(async move { commit(store.write(&tenant).await.unwrap()).await });
            }
            more.join_all().await;
        });
    }
    let mut followed = Vec::new();
    let mut finished = false;
    while !finished {
        finished = writers.is_empty();
        while writers.try_join_next().is_some() {}
        let found = other.follow(&cursor, 5).await.unwrap();
        finished &= !found.more;
        cursor = found.next;
        followed.extend(found.changes);
    }
    let in_order = ordered(&other, position, 5, 4 * 13).await;
    assert!(in_order.is_sorted_by_key(|change| change.position));
    for n in 0..4 {
        let tenant = tenant_id(&format!("t{n}"));
        let of = |changes: &[SequencedChange]| -> Vec<u64> {
            let of_tenant = changes.iter().filter(|change| change.change.tenant == tenant);
            of_tenant.map(|change| change.change.revision).collect()
        };
        assert_eq!(of(&in_order), (1..=13).collect::<Vec<_>>());
        let mut seen = of(&followed);
        seen.sort_unstable();
        assert_eq!(seen, (1..=13).collect::<Vec<_>>());
    }
}

pub(super) async fn whoever_missed_what_was_trimmed_is_told(database: &Database) {
    let store = &database.store;
    let tenant = make_tenant(store, "acme").await;
    let behind = quiet_start(store).await;
    let (position, _) = store.ordered_end().await.unwrap();
    for at in [10, 20, 30] {
        store.write(&tenant).await.unwrap().commit(Touched::Nothing, entry(at)).await.unwrap();
    }
    let up_to_date = quiet_start(store).await;
    let end = ordered(store, position, 9, 3).await[2].position;
    assert!(!store.follow(&behind, 9).await.unwrap().gap);

    assert_eq!(store.trim_changes(Timestamp(20)).await.unwrap(), 2);
    let followed = store.follow(&behind, 9).await.unwrap();
    assert!(followed.gap && followed.changes.is_empty(), "{followed:?}");
    let mut cursor = followed.next;
    assert!(store.ordered_changes(position, 9).await.unwrap().gap);
    assert!(store.ordered_changes(ChangePosition::default(), 9).await.unwrap().gap);
    // Whoever had seen it goes on, and whoever was told goes on from there.
    assert!(!store.follow(&up_to_date, 9).await.unwrap().gap);
    assert!(!store.ordered_changes(end, 9).await.unwrap().gap);
    commit(store.write(&tenant).await.unwrap()).await;
    assert_eq!(drain(store, &mut cursor).await, ["acme@5"]);
    // Nothing left at all is no different.
    let cursor = quiet_start(store).await;
    assert_eq!(store.trim_changes(Timestamp(1000)).await.unwrap(), 3);
    assert!(store.follow(&up_to_date, 9).await.unwrap().gap);
    assert!(!store.follow(&cursor, 9).await.unwrap().gap);
}

pub(super) async fn trimming_goes_in_pieces(database: &Database) {
    let store = &database.store;
    let tenant = make_tenant(store, "acme").await;
    for _ in 0..1100 {
        commit(store.write(&tenant).await.unwrap()).await;
    }
    assert_eq!(store.trim_changes(Timestamp(1000)).await.unwrap(), 1101);
    assert_eq!(store.trim_changes(Timestamp(1000)).await.unwrap(), 0);
    assert_eq!(store.trim_audit(Timestamp(1000)).await.unwrap(), 1101);
    assert_eq!(store.trim_audit(Timestamp(1000)).await.unwrap(), 0);
}

pub(super) async fn a_restored_backup_is_a_new_epoch(database: &Database) {
    let store = &database.store;
    let tenant = make_tenant(store, "acme").await;
    let behind = store.follow_start().await.unwrap();
    let (position, epoch) = store.ordered_end().await.unwrap();
    assert_eq!((epoch.number, store.current_epoch().await.unwrap()), (1, 1));
    assert_eq!(epoch, store.epoch());
    let options = OpenOptions { migrate: true, after_restore: true, ..database.options.clone() };
    let restored = SqlStore::open(&options).await.unwrap();
    let (before, after) = (store.identity(), restored.identity());
    assert_eq!((after.epoch, after.database_id), (2, before.database_id));
    // Those who run on notice.
    assert_eq!(store.current_epoch().await.unwrap(), 2);
    let followed = store.follow(&behind, 9).await.unwrap();
    assert_eq!((followed.gap, followed.epoch.number), (true, 2));
    assert_eq!(store.ordered_changes(position, 9).await.unwrap().epoch.number, 2);
    let mut cursor = followed.next;
    commit(restored.write(&tenant).await.unwrap()).await;
    assert_eq!(drain(store, &mut cursor).await, ["acme@1000002"]);
    // It is not started again by opening.
    assert_eq!(database.replica().await.identity().epoch, 2);
}

pub(super) async fn a_commit_wakes_whoever_listens(database: &Database) {
    let store = &database.store;
    let tenant = make_tenant(store, "acme").await;
    let (mut one, mut two) = (store.listen(), store.listen());
    let mut cursor = store.follow_start().await.unwrap();
    // Listening begins with a wake-up on some databases.
    timeout(Duration::from_secs(1), one.next()).await.ok();
    timeout(Duration::from_millis(100), two.next()).await.ok();
    for revision in 2..=4 {
        commit(store.write(&tenant).await.unwrap()).await;
        for listener in [&mut one, &mut two] {
            timeout(Duration::from_secs(60), listener.next()).await.expect("nobody was woken");
        }
        assert_eq!(drain(store, &mut cursor).await, [format!("acme@{revision}")]);
    }
}
