//! The network and the database fail in every way that they can, and what is promised holds.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::desk::{Fresh, NO, YES, ask, make_member, make_tenant, seen, set, until, warm};
use super::fleet::{Fleet, migrate};
use super::process::Clients;
use crate::postgres::Cluster;
use crate::proxy::{Network, Proxy};
use crate::timing::limit;

/// `--max-staleness-ms` of the replicas here.
const BOUND: Duration = Duration::from_secs(1);
/// "At once", for what needs the database.
const AT_ONCE: Duration = Duration::from_millis(1_500);
/// How long it takes to tell a server that hangs from one that is slow.
const CERTAINTY: Duration = Duration::from_secs(4);
/// "Within seconds of the database's".
const RECOVERY: Duration = Duration::from_secs(6);
const SETTINGS: [&str; 4] = ["--max-staleness-ms", "1000", "--outage-grace", "30"];

/// Refused for now, with a hint when to try again, and without a wait.
async fn refused_at_once<T>(what: &str, call: impl Future<Output = Result<T, Status>>) {
    let start = Instant::now();
    let status = call.await.err().unwrap_or_else(|| panic!("{what}: it was answered"));
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
    let retry = status.get_details_retry_info();
    assert!(retry.is_some_and(|info| info.retry_delay.is_some()), "{what}: no RetryInfo");
    assert!(start.elapsed() < limit(AT_ONCE), "{what}: {:?}", start.elapsed());
}

/// What a replica must do from the moment at which it lost its database until it is marked: it
/// answers what it holds, rightly, and soon. Gives back when it was marked, and the longest wait.
async fn decisions_go_on(clients: &Clients, tenant: &str) -> (Duration, Duration) {
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        let asked = Instant::now();
        let said =
            ask(clients, tenant, "held", Fresh::Any).await.expect("what is held is answered");
        longest = longest.max(asked.elapsed());
        assert!(longest < limit(AT_ONCE), "a decision waited for the database: {longest:?}");
        assert!(said.allowed);
        if said.stale {
            return (start.elapsed(), longest);
        }
        assert!(start.elapsed() < limit(Duration::from_secs(6)), "never marked as stale");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What needs the database is refused at once, for as long as it is gone.
async fn nothing_else_does(clients: &Clients, tenant: &str, token: &str) {
    let token = Fresh::Token(token.to_owned());
    refused_at_once("cold", ask(clients, tenant, "cold", Fresh::Any)).await;
    refused_at_once("full", ask(clients, tenant, "held", Fresh::Full)).await;
    refused_at_once("behind a token", ask(clients, tenant, "held", token)).await;
    refused_at_once("a write", make_member(clients, tenant, "new")).await;
}

/// How long it takes until this replica is as it was.
async fn recovered(clients: &Clients, tenant: &str) -> Duration {
    let start = Instant::now();
    until(RECOVERY, "fully consistent", async || {
        ask(clients, tenant, "held", Fresh::Full).await.is_ok_and(|said| said == YES)
    })
    .await;
    until(RECOVERY, "not marked any more", async || {
        ask(clients, tenant, "held", Fresh::Any).await.is_ok_and(|said| said == YES)
    })
    .await;
    until(RECOVERY, "cold", async || {
        ask(clients, tenant, "cold", Fresh::Any).await.is_ok_and(|said| said == YES)
    })
    .await;
    until(RECOVERY, "a write", async || make_member(clients, tenant, "late").await.is_ok()).await;
    start.elapsed()
}

async fn furnish(clients: &Clients, tenant: &str) {
    make_tenant(clients, tenant).await;
    for member in ["held", "revoked", "cold"] {
        make_member(clients, tenant, member).await.unwrap();
    }
}

/// One replica behind a network that breaks, one that is well and goes on revoking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_network_makes_no_wrong_answer() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let proxy = Proxy::start(cluster.port()).await;
    let behind = Cluster::url_at(proxy.port(), &database);
    let fleet = Fleet::start(&[&url, &behind], &[], &SETTINGS).await;
    let [well, broken] = fleet.clients.as_slice() else { panic!() };
    for (network, tenant) in [
        (Network::Resets, "resets"),
        (Network::HalfCloses, "half-closes"),
        (Network::Swallows, "swallows"),
    ] {
        furnish(well, tenant).await;
        warm(broken, tenant, &["held", "revoked"]).await;
        proxy.set(network);
        let token = set(well, tenant, "revoked", false).await.unwrap();
        let committed = Instant::now();
        // Both at the same time: what is held is answered, and what was revoked is not allowed for
        // longer than the bound without a mark.
        let watch = async {
            while committed.elapsed() < CERTAINTY {
                let asked = committed.elapsed();
                if let Ok(said) = ask(broken, tenant, "revoked", Fresh::Any).await {
                    assert!(asked < BOUND || said.stale || !said.allowed, "{network:?}: {asked:?}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (marked, ()) = tokio::join!(decisions_go_on(broken, tenant), watch);
        let (marked, longest) = marked;
        nothing_else_does(broken, tenant, &token).await;
        assert!(!ask(well, tenant, "revoked", Fresh::Any).await.unwrap().allowed);

        proxy.set(Network::Good);
        let recovery = recovered(broken, tenant).await;
        assert!(!ask(broken, tenant, "revoked", Fresh::Any).await.unwrap().allowed);
        println!(
            "{network:?}: marked after {marked:?}, answers took up to {longest:?}, recovered in \
             {recovery:?}"
        );
    }
}

/// Slow is not gone: everything works, and the bound holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_changes_nothing_but_the_time() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let proxy = Proxy::start(cluster.port()).await;
    let behind = Cluster::url_at(proxy.port(), &database);
    let fleet = Fleet::start(&[&url, &behind], &[], &SETTINGS).await;
    let [well, slow] = fleet.clients.as_slice() else { panic!() };
    furnish(well, "acme").await;
    warm(slow, "acme", &["held", "revoked"]).await;
    proxy.set(Network::Slow(Duration::from_millis(100)));
    let mut delays = Vec::new();
    for round in 0..8 {
        let may = round % 2 == 1;
        let token = set(well, "acme", "revoked", may).await.unwrap();
        let committed = Instant::now();
        let expected = if may { YES } else { NO };
        if round % 4 == 0 {
            let said = ask(slow, "acme", "revoked", Fresh::Token(token)).await.unwrap();
            assert_eq!(said.allowed, expected.allowed);
        }
        let asked = Instant::now();
        assert!(ask(slow, "acme", "held", Fresh::Any).await.unwrap().allowed);
        assert!(asked.elapsed() < limit(BOUND), "what is held does not wait for the network");
        let delay = seen(slow, "acme", "revoked", expected, committed, BOUND).await;
        delays.extend((round % 4 != 0).then_some(delay));
    }
    make_member(slow, "acme", "late").await.unwrap();
    println!("behind a network with 100 ms each way: {delays:?}");
}

/// The whole server stops, without a word: connections stay open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_as_good_as_gone_and_comes_back() {
    let Some(cluster) = crate::postgres::dedicated() else { return };
    let url = cluster.url(&cluster.create_database());
    migrate(&url, &[]);
    let fleet = Fleet::start(&[&url, &url], &[], &SETTINGS).await;
    let [one, two] = fleet.clients.as_slice() else { panic!() };
    furnish(one, "acme").await;
    make_member(one, "acme", "later").await.unwrap();
    warm(one, "acme", &["held", "revoked", "later"]).await;
    warm(two, "acme", &["held", "revoked"]).await;
    let token = set(one, "acme", "revoked", false).await.unwrap();
    // Its own change comes back to it with the others, and takes out of the cache what it is about.
    set(two, "acme", "later", false).await.unwrap();
    until(RECOVERY, "a later change of the other", async || {
        ask(one, "acme", "later", Fresh::Any).await.is_ok_and(|said| said == NO)
    })
    .await;
    // Cached again, as it is now.
    until(RECOVERY, "the revoke", async || {
        ask(one, "acme", "revoked", Fresh::Any).await.is_ok_and(|said| said == NO)
    })
    .await;
    cluster.pause();
    let paused = Instant::now();
    for clients in [one, two] {
        let (marked, longest) = decisions_go_on(clients, "acme").await;
        println!("paused: marked after {marked:?}, answers took up to {longest:?}");
    }
    // What needs the database is refused at once as soon as it is certain that nobody is there.
    tokio::time::sleep(CERTAINTY.saturating_sub(paused.elapsed())).await;
    // The other one may not hold it any more.
    let said = ask(two, "acme", "revoked", Fresh::Any).await;
    assert!(said.is_err() || said.is_ok_and(|said| said.stale || !said.allowed));
    refused_at_once("cold", ask(one, "acme", "cold", Fresh::Any)).await;
    refused_at_once("full", ask(one, "acme", "held", Fresh::Full)).await;
    refused_at_once("a write", make_member(one, "acme", "new")).await;
    // A token that this replica has reached needs no database.
    let said = ask(one, "acme", "revoked", Fresh::Token(token)).await.unwrap();
    assert!(!said.allowed && said.stale);
    cluster.resume();
    let (first, second) = tokio::join!(recovered(one, "acme"), async {
        until(RECOVERY, "the revoke", async || {
            ask(two, "acme", "revoked", Fresh::Any).await.is_ok_and(|said| said == NO)
        })
        .await
    });
    println!("resumed: recovered in {first:?}, the other sees the revoke in {second:?}");
}

/// Who listens is cut off again and again; polling is the net under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_the_bound_holds() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let fleet = Fleet::start(&[url.as_str(); 3], &[], &SETTINGS).await;
    furnish(&fleet.clients[0], "acme").await;
    for clients in &fleet.clients {
        warm(clients, "acme", &["held", "revoked"]).await;
    }
    let kill = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' \
         AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()"
    );
    let mut admin = cluster.admin("postgres").await;
    let mut delays = Vec::new();
    let mut killed = 0;
    for round in 0..12 {
        let rows = sqlx::query(sqlx::AssertSqlSafe(kill.clone())).fetch_all(&mut admin).await;
        killed += rows.unwrap().len();
        let may = round % 2 == 1;
        let (writer, reader) = (round % 3, (round + 1) % 3);
        set(&fleet.clients[writer], "acme", "revoked", may).await.unwrap();
        let committed = Instant::now();
        let expected = if may { YES } else { NO };
        let reader = &fleet.clients[reader];
        delays.push(seen(reader, "acme", "revoked", expected, committed, BOUND).await);
    }
    delays.sort_unstable();
    println!("{killed} listening connections cut off: {delays:?}");
    assert!(killed >= 12, "nobody was cut off: {killed}");
    // An ordinary request works all along.
    let request = pb::GetTenantRequest { tenant_id: "acme".into(), show_deleted: false };
    fleet.clients[0].tenants.clone().get_tenant(request).await.unwrap();
}
