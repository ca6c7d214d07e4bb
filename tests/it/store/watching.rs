//! Watching changes: in order, once, from a cursor on, and what ends it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rolegate::domain::Timestamp;
use rolegate::domain::ids::TenantId;
use rolegate::domain::refusal::{CursorLoss, Problem, Refusal};
use rolegate::service::ServiceError;
use rolegate::service::caller::Caller;
use rolegate::service::token::Tokens;
use rolegate::service::watch::{
    Delivery, EndCause, EndReason, RightsLost, WatchEnd, WatchLimits, WatchQuery, Watches, Watching,
};
use rolegate::store::{ChangePosition, OpenOptions, SqlStore, Touched};
use tokio::time::timeout;

use super::backend::{Database, entry, make_tenant, member_ids, tenant_id};
use super::server::{change_sql, opened, run};

fn sees_a_only() -> Result<Arc<Caller>, RightsLost> {
    let tenants = Some([tenant_id("a")].into());
    Ok(Arc::new(Caller { tenants, ..Caller::development() }))
}

/// Beats fast, so that tests need not wait.
fn limits() -> WatchLimits {
    WatchLimits { heartbeat: Duration::from_millis(200), ..WatchLimits::default() }
}

fn watches(store: &SqlStore, limits: WatchLimits) -> Watches {
    let watches = Watches::new(store.clone(), Tokens::new(store.identity()), limits);
    tokio::spawn(watches.clone().run());
    watches
}

async fn watch(watches: &Watches, tenants: &[&str], cursor: &str) -> Result<Watching, Refusal> {
    let tenants = tenants.iter().map(|id| tenant_id(id)).collect();
    let query = WatchQuery { tenants, cursor: cursor.to_owned() };
    let caller = Arc::new(Caller::development());
    let rights = Arc::clone(&caller);
    watches.watch(&caller, query, move || Ok(Arc::clone(&rights))).await.map_err(
        |error| match error {
            ServiceError::Refused(refusal) => refusal,
            other => panic!("{other}"),
        },
    )
}

async fn next(watching: &Watching) -> Result<Delivery, WatchEnd> {
    timeout(Duration::from_secs(30), watching.next()).await.expect("silence").expect("no end")
}

/// A change that is known by its time.
async fn change(store: &SqlStore, tenant: &TenantId, at: i64) {
    store.write(tenant).await.unwrap().commit(Touched::Nothing, entry(at)).await.unwrap();
}

/// Waits until so many changes behind a position are in their order, so that no Watch that begins from
/// now on tells of them. What runs elsewhere on the server may hold them up for a while.
async fn settle(store: &SqlStore, behind: ChangePosition, wanted: u32) {
    while store.ordered_changes(behind, wanted.into()).await.unwrap().changes.len()
        < wanted as usize
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A tenant whose beginning is settled.
async fn settled_tenant(store: &SqlStore, id: &str) -> TenantId {
    let (position, _) = store.ordered_end().await.unwrap();
    let tenant = make_tenant(store, id).await;
    settle(store, position, 1).await;
    tenant
}

/// `tenant@time` of each change.
fn told(delivery: &Delivery) -> Vec<String> {
    delivery.changes.iter().map(|change| format!("{}@{}", change.tenant, change.at.0)).collect()
}

/// So many changes, and the cursor behind them.
async fn take(watching: &Watching, wanted: usize) -> (Vec<String>, String) {
    let mut all = Vec::new();
    loop {
        let delivery = next(watching).await.unwrap();
        all.extend(told(&delivery));
        assert!(all.len() <= wanted, "{} of {wanted}: {:?}", all.len(), &all[wanted..]);
        if all.len() == wanted {
            return (all, delivery.cursor);
        }
    }
}

/// Nothing but heartbeats for a while. Gives the last one's cursor.
async fn quiet(watching: &Watching) -> String {
    let mut cursor = String::new();
    for _ in 0..2 {
        let delivery = next(watching).await.unwrap();
        assert_eq!(told(&delivery), [""; 0]);
        cursor = delivery.cursor;
    }
    cursor
}

pub(super) async fn the_first_message_comes_at_once(database: &Database) {
    let tenant = settled_tenant(&database.store, "acme").await;
    let slow = WatchLimits { heartbeat: Duration::from_secs(3600), ..WatchLimits::default() };
    let watches = watches(&database.store, slow);
    let watching = watch(&watches, &[], "").await.unwrap();
    let first = next(&watching).await.unwrap();
    assert!(first.changes.is_empty() && !first.cursor.is_empty());
    // It is where the stream begins: whatever comes later is behind it.
    change(&database.store, &tenant, 10).await;
    assert_eq!(take(&watching, 1).await.0, ["acme@10"]);
    let again = watch(&watches, &[], &first.cursor).await.unwrap();
    assert_eq!(next(&again).await.unwrap(), first);
    assert_eq!(take(&again, 1).await.0, ["acme@10"]);
}

pub(super) async fn changes_come_in_order_and_resume_without_loss_or_repetition(
    database: &Database,
) {
    let store = &database.store;
    let (one, other) = (watches(store, limits()), watches(&database.replica().await, limits()));
    let watching = watch(&one, &[], "").await.unwrap();
    let begin = next(&watching).await.unwrap().cursor;
    let (a, b) = (make_tenant(store, "a").await, make_tenant(store, "b").await);
    let mut expected = vec!["a@1".to_owned(), "b@1".to_owned()];
    for at in 10..40 {
        let tenant = if at % 3 == 0 { &a } else { &b };
        change(store, tenant, at).await;
        expected.push(format!("{tenant}@{at}"));
    }
    // Every cursor of the stream is one to resume from, here or on another replica.
    let (mut seen, mut places) = (Vec::new(), vec![(0, begin)]);
    while seen.len() < expected.len() {
        let delivery = next(&watching).await.unwrap();
        seen.extend(told(&delivery));
        places.push((seen.len(), delivery.cursor));
    }
    assert_eq!(seen, expected);
    drop(watching);
    change(store, &a, 99).await;
    expected.push("a@99".to_owned());
    for (index, (place, cursor)) in places.iter().enumerate() {
        let watches = if index % 2 == 0 { &other } else { &one };
        let watching = watch(watches, &[], cursor).await.unwrap();
        let rest = &expected[*place..];
        assert_eq!(take(&watching, rest.len()).await.0, rest, "from {place}");
        quiet(&watching).await;
    }
    // A token is one of the state after the change.
    let watching = watch(&one, &["b"], &places[0].1).await.unwrap();
    let delivery = loop {
        let delivery = next(&watching).await.unwrap();
        if !delivery.changes.is_empty() {
            break delivery;
        }
    };
    let (tokens, epoch) = (Tokens::new(store.identity()), store.epoch().id());
    assert_eq!(delivery.changes[0].token, tokens.issue(&b, epoch, 1));
    assert_eq!(delivery.changes[1].token, tokens.issue(&b, epoch, 2));
    assert_eq!(delivery.changes[0].at, Timestamp(1));
}

pub(super) async fn only_the_tenants_asked_for_and_visible_are_told(database: &Database) {
    let store = &database.store;
    let watches = watches(store, limits());
    let all = watch(&watches, &[], "").await.unwrap();
    let some = watch(&watches, &["a", "c", "nobody"], "").await.unwrap();
    let query = WatchQuery { tenants: BTreeSet::new(), cursor: String::new() };
    let sees_a = watches.watch(&Caller::development(), query, sees_a_only).await.unwrap();
    let query = WatchQuery { tenants: [tenant_id("b")].into(), cursor: String::new() };
    let sees_none = watches.watch(&Caller::development(), query, sees_a_only).await.unwrap();
    let begin = next(&sees_none).await.unwrap().cursor;
    for id in ["a", "b", "c", "A"] {
        let tenant = make_tenant(store, id).await;
        change(store, &tenant, 20).await;
    }
    assert_eq!(take(&all, 8).await.0, ["a@1", "a@20", "b@1", "b@20", "c@1", "c@20", "A@1", "A@20"]);
    assert_eq!(take(&some, 4).await.0, ["a@1", "a@20", "c@1", "c@20"]);
    assert_eq!(take(&sees_a, 2).await.0, ["a@1", "a@20"]);
    // Whose tenants are quiet gets on all the same: its newest cursor is behind all of this.
    quiet(&sees_none).await;
    let end = quiet(&sees_none).await;
    assert_ne!(end, begin);
    let rest = watch(&watches, &[], &end).await.unwrap();
    quiet(&rest).await;
    // A cursor goes on from its place for whatever tenants are asked for.
    let others = watch(&watches, &["b"], &begin).await.unwrap();
    assert_eq!(take(&others, 2).await.0, ["b@1", "b@20"]);
}

pub(super) async fn a_cursor_that_leads_nowhere_is_refused(database: &Database) {
    let store = &database.store;
    let watches = watches(store, limits());
    let cursor = next(&watch(&watches, &[], "").await.unwrap()).await.unwrap().cursor;
    let invalid = Refusal::invalid("cursor", Problem::CursorInvalid);
    // Another database's; a consistency token; cut; garbled.
    let foreign = super::backend::sqlite().await.unwrap();
    let theirs = self::watches(&foreign.store, limits());
    let theirs = next(&watch(&theirs, &[], "").await.unwrap()).await.unwrap().cursor;
    let token = Tokens::new(store.identity()).issue(&tenant_id("acme"), 1, 1);
    for text in [theirs.as_str(), &token, &cursor[1..], "?", &"x".repeat(5_000)] {
        assert_eq!(watch(&watches, &[], text).await.unwrap_err(), invalid, "{text}");
    }
    // What came behind it was deleted.
    let tenant = make_tenant(store, "acme").await;
    for at in [10, 20, 30] {
        change(store, &tenant, at).await;
    }
    let watching = watch(&watches, &[], &cursor).await.unwrap();
    let (_, end) = take(&watching, 4).await;
    assert_eq!(store.trim_changes(Timestamp(25)).await.unwrap(), 3);
    let trimmed = Refusal::CursorExpired(CursorLoss::Trimmed);
    assert_eq!(watch(&watches, &[], &cursor).await.unwrap_err(), trimmed);
    // Whoever has it already goes on.
    change(store, &tenant, 40).await;
    assert_eq!(take(&watching, 1).await.0, ["acme@40"]);
    let again = watch(&watches, &[], &end).await.unwrap();
    assert_eq!(take(&again, 1).await.0, ["acme@40"]);
}

pub(super) async fn a_new_epoch_ends_every_stream(database: &Database) {
    let store = &database.store;
    let watches = watches(store, limits());
    let (one, two) =
        (watch(&watches, &[], "").await.unwrap(), watch(&watches, &["x"], "").await.unwrap());
    let cursor = next(&one).await.unwrap().cursor;
    quiet(&one).await;
    quiet(&two).await;
    let options = OpenOptions { migrate: true, after_restore: true, ..database.options.clone() };
    SqlStore::open(&options).await.unwrap();
    let restored = CursorLoss::Restored;
    for watching in [&one, &two] {
        let end = loop {
            match next(watching).await {
                Ok(delivery) => assert!(delivery.changes.is_empty()),
                Err(end) => break end,
            }
        };
        assert_eq!(end.why, EndCause::Expired(restored));
        assert!(watching.next().await.is_none());
    }
    let refused = watch(&watches, &[], &cursor).await.unwrap_err();
    assert_eq!(refused, Refusal::CursorExpired(restored));
    // A new one is of the new epoch.
    let tenant = make_tenant(store, "acme").await;
    let watching = watch(&watches, &[], "").await.unwrap();
    next(&watching).await.unwrap();
    change(store, &tenant, 50).await;
    loop {
        // What was made just before may come too.
        if told(&next(&watching).await.unwrap()).contains(&"acme@50".to_owned()) {
            break;
        }
    }
}

pub(super) async fn whoever_does_not_read_is_disconnected_and_resumes(database: &Database) {
    let store = &database.store;
    let patience = Duration::from_millis(300);
    let watches = watches(store, WatchLimits { patience, streams: 1, ..limits() });
    let tenant = settled_tenant(store, "acme").await;
    let watching = watch(&watches, &[], "").await.unwrap();
    let first = next(&watching).await.unwrap();
    change(store, &tenant, 10).await;
    let (changes, cursor) = take(&watching, 1).await;
    assert_eq!(changes, ["acme@10"]);
    // Heartbeats are enough for a client that does not read to be found out.
    for at in 11..20 {
        change(store, &tenant, at).await;
    }
    let slow = async {
        while watches.counts().ends(EndReason::Slow) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), slow).await.unwrap();
    assert_eq!(watches.counts().open(), 0);
    // Its place is free at once, and what waited for it has gone.
    let other = watch(&watches, &[], &cursor).await.unwrap();
    let end = next(&watching).await.unwrap_err();
    assert_eq!(end, WatchEnd { why: EndCause::Slow { patience }, cursor });
    let rest: Vec<_> = (11..20).map(|at| format!("acme@{at}")).collect();
    assert_eq!(take(&other, 9).await.0, rest);
    assert_ne!(first.cursor, end.cursor);
}

pub(super) async fn whoever_falls_behind_the_feed_reads_on_from_the_database(database: &Database) {
    let store = &database.store;
    let tenant = settled_tenant(store, "acme").await;
    // The idle one does not read for as long as 700 changes take.
    let patience = Duration::from_secs(300);
    let watches = watches(store, WatchLimits { ring_changes: 5, patience, ..limits() });
    let (idle, quick) =
        (watch(&watches, &[], "").await.unwrap(), watch(&watches, &[], "").await.unwrap());
    let expected: Vec<_> = (100..800).map(|at| format!("acme@{at}")).collect();
    let writer = async {
        for at in 100..800 {
            change(store, &tenant, at).await;
        }
    };
    let reader = async { take(&quick, expected.len()).await.0 };
    let ((), read) = tokio::join!(writer, reader);
    assert_eq!(read, expected);
    // By now the feed holds the last five; the two messages that waited hold some of the first.
    assert_eq!(take(&idle, expected.len()).await.0, expected);
    quiet(&idle).await;
}

pub(super) async fn what_is_trimmed_in_front_of_a_stream_ends_it(database: &Database) {
    let store = &database.store;
    let tenant = settled_tenant(store, "acme").await;
    let watches = watches(store, WatchLimits { ring_changes: 1, ..limits() });
    let watching = watch(&watches, &[], "").await.unwrap();
    // It does not read. Two messages are full, a third one waits.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (position, _) = store.ordered_end().await.unwrap();
    for at in 10..40 {
        change(store, &tenant, at).await;
    }
    settle(store, position, 30).await;
    let other = watch(&watches, &[], "").await.unwrap();
    quiet(&other).await;
    store.trim_changes(Timestamp(39)).await.unwrap();
    let end = loop {
        match next(&watching).await {
            Ok(delivery) => assert!(delivery.changes.is_empty(), "{delivery:?}"),
            Err(end) => break end,
        }
    };
    assert_eq!(end.why, EndCause::Expired(CursorLoss::Trimmed));
}

pub(super) async fn streams_are_bounded_and_end_when_the_server_drains(database: &Database) {
    let store = &database.store;
    let watches = watches(store, WatchLimits { streams: 2, ..limits() });
    let (one, two) =
        (watch(&watches, &[], "").await.unwrap(), watch(&watches, &[], "").await.unwrap());
    let refused = watch(&watches, &[], "").await.unwrap_err();
    assert_eq!(refused, Refusal::WatchStreamLimit { limit: 2, per_caller: false });
    let cursor = next(&one).await.unwrap().cursor;
    drop(two);
    while watches.counts().ends(EndReason::Left) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let three = watch(&watches, &[], &cursor).await.unwrap();
    assert_eq!(watches.counts().open(), 2);
    watches.drain();
    for watching in [&one, &three] {
        let end = loop {
            match next(watching).await {
                Ok(_) => {}
                Err(end) => break end,
            }
        };
        assert_eq!(end.why, EndCause::Draining);
        assert!(!end.cursor.is_empty());
    }
    assert_eq!(watches.counts().ends(EndReason::Draining), 2);
    // Whoever comes now is told the same, with its own cursor.
    let late = watch(&watches, &[], &cursor).await.unwrap();
    let end = loop {
        match next(&late).await {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(end, WatchEnd { why: EndCause::Draining, cursor });
}

pub(super) async fn a_change_of_too_many_members_names_none(database: &Database) {
    let store = &database.store;
    let tenant = settled_tenant(store, "acme").await;
    let watches = watches(store, limits());
    let watching = watch(&watches, &[], "").await.unwrap();
    next(&watching).await.unwrap();
    let ids: Vec<_> = (0..1_001).map(|n| format!("m{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for (ids, at) in [(&ids[..1_000], 10), (&ids[..], 20)] {
        let touched = Touched::Members(member_ids(ids));
        store.write(&tenant).await.unwrap().commit(touched, entry(at)).await.unwrap();
    }
    let mut changes = Vec::new();
    while changes.len() < 2 {
        changes.extend(next(&watching).await.unwrap().changes);
    }
    let touched = |index: usize| Arc::clone(&changes[index]).touched.clone();
    assert_eq!(touched(0), Touched::Members(member_ids(&ids[..1_000])));
    assert_eq!(touched(1), Touched::Tenant);
}

/// By sequence numbers, or without waiting for the slow one, it would be lost or come out of order.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_overtake_each_other_come_in_one_order() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    let watches = watches(&store, limits());
    let watching = watch(&watches, &[], "").await.unwrap();
    let begin = next(&watching).await.unwrap().cursor;
    let (mut slow, mut quick) = (cluster.admin(&database).await, cluster.admin(&database).await);
    run(&mut slow, "BEGIN").await;
    run(&mut slow, &change_sql("slow", 1)).await;
    run(&mut quick, "BEGIN").await;
    run(&mut quick, &change_sql("quick", 1)).await;
    run(&mut quick, "COMMIT").await;
    make_tenant(&store, "later").await;
    // For as long as the slow one is open, only heartbeats come, and none is behind it.
    let mut cursor = begin.clone();
    for _ in 0..3 {
        cursor = quiet(&watching).await;
    }
    run(&mut slow, "COMMIT").await;
    let expected = ["slow@1", "quick@1", "later@1"];
    assert_eq!(take(&watching, 3).await.0, expected);
    for cursor in [begin, cursor] {
        let again = watch(&watches, &[], &cursor).await.unwrap();
        assert_eq!(take(&again, 3).await.0, expected);
    }
    store.close().await;
}
