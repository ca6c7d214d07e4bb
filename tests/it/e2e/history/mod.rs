//! Random writes on random replicas, each followed by questions on another one, all written down
//! and judged afterwards: not one stale answer, nothing lost, no step back.
//!
//! `ROLEGATE_HISTORY_WRITES` says how many, `ROLEGATE_HISTORY_SEED` begins the same way again.

pub(crate) mod checker;
mod checker_tests;
pub(crate) mod model;
pub(crate) mod record;
mod speak;
pub(crate) mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::checker::judge;
use self::record::History;
use self::workload::Run;
use super::fleet::{Fleet, migrate};
use super::process::Clients;
use crate::postgres::Cluster;
use crate::proxy::{Network, Proxy};

/// The default of `--max-staleness-ms`. No allowance: what was acknowledged that long before a
/// question was sent had been committed even longer.
pub(crate) const BOUND: Duration = Duration::from_secs(2);

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

pub(crate) fn seed() -> u64 {
    let random = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("ROLEGATE_HISTORY_SEED", u64::try_from(random.as_micros()).unwrap());
    println!("ROLEGATE_HISTORY_SEED={seed}");
    seed
}

pub(crate) fn empty(faults: bool) -> History {
    let bound = u64::try_from(BOUND.as_micros()).unwrap();
    History { bound, faults, ..History::default() }
}

/// Judges, and shows the first faults.
pub(crate) fn must_hold(history: &History) {
    match judge(history) {
        Ok(summary) => {
            println!("{summary:?}");
            assert!(summary.committed > history.writes.len() / 3, "hardly anything was written");
        }
        Err(faults) => {
            let first: Vec<_> = faults.iter().take(5).collect();
            panic!("{} faults, the first: {first:#?}", faults.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_on_three_replicas_are_never_answered_stale() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let url = cluster.url(&cluster.create_database());
    migrate(&url, &[]);
    let second = model::second_catalog();
    let catalogs = [model::CATALOG, &second];
    let fleet = Fleet::start(&[url.as_str(); 3], &catalogs, &["--database-connections", "8"]).await;
    let writes = usize::try_from(number("ROLEGATE_HISTORY_WRITES", 600)).unwrap();
    let began = Instant::now();
    let run = Run::new(4, writes, empty(false));
    let history = run.all(&fleet.clients, 6, seed()).await;
    println!("{} writes in {:?}", history.writes.len(), began.elapsed());
    must_hold(&history);
}

/// Two processes on one file keep the same promises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_on_one_file_are_never_answered_stale() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("rolegate.db").display());
    let second = model::second_catalog();
    let fleet = Fleet::start(&[url.as_str(); 2], &[model::CATALOG, &second], &[]).await;
    let writes = usize::try_from(number("ROLEGATE_HISTORY_WRITES", 600) / 3).unwrap();
    let run = Run::new(3, writes, empty(false));
    must_hold(&run.all(&fleet.clients, 4, seed()).await);
}

/// The same while everything fails, again and again: `ROLEGATE_FAULT_ROUNDS` times.
///
/// Answers may be marked as stale and calls may fail, but nothing acknowledged is lost, and no answer
/// is older than it says. Each time, every replica is itself again soon after the database is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nobody_is_misled_while_everything_fails() {
    let Some(cluster) = crate::postgres::dedicated() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let proxy = Proxy::start(cluster.port()).await;
    let behind = Cluster::url_at(proxy.port(), &database);
    let second = model::second_catalog();
    let catalogs = [model::CATALOG, &second];
    let fleet =
        Fleet::start(&[&url, &behind, &url], &catalogs, &["--database-connections", "8"]).await;
    let run = Run::new(3, usize::MAX, empty(true));
    let (working, clients, seed) = (Arc::clone(&run), fleet.clients.clone(), seed());
    let work = tokio::spawn(async move { working.all(&clients, 4, seed).await });
    let pause = async |seconds: f32| tokio::time::sleep(Duration::from_secs_f32(seconds)).await;
    pause(1.0).await;
    for round in 0..number("ROLEGATE_FAULT_ROUNDS", 1) {
        for fault in Fault::ALL {
            fault.begin(&cluster, &proxy);
            pause(2.6).await;
            fault.end(&cluster, &proxy);
            let mut recoveries = Vec::new();
            for clients in &fleet.clients {
                let start = Instant::now();
                while !is_well(clients).await {
                    assert!(start.elapsed() < RECOVERY, "{round}, {fault:?}: it does not recover");
                    pause(0.02).await;
                }
                recoveries.push(start.elapsed());
            }
            println!("{round}, {fault:?}: well again after {recoveries:?}");
            pause(0.5).await;
        }
    }
    run.finish();
    must_hold(&work.await.unwrap());
}

/// "Within seconds of the database's".
const RECOVERY: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Every connection is cut off by the server, again and again those that listen.
    CutOff,
    Pause,
    Kill,
    Network(Network),
}

impl Fault {
    const ALL: [Fault; 6] = [
        Fault::CutOff,
        Fault::Network(Network::Swallows),
        Fault::Pause,
        Fault::Network(Network::Resets),
        Fault::Kill,
        Fault::Network(Network::HalfCloses),
    ];

    fn begin(self, cluster: &Cluster, proxy: &Proxy) {
        match self {
            Fault::CutOff => cluster.sql(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE usename = 'rolegate' AND pid <> pg_backend_pid()",
            ),
            Fault::Pause => cluster.pause(),
            Fault::Kill => cluster.kill(),
            Fault::Network(network) => proxy.set(network),
        }
    }

    fn end(self, cluster: &Cluster, proxy: &Proxy) {
        match self {
            Fault::CutOff => {}
            Fault::Pause => cluster.resume(),
            Fault::Kill => cluster.restart(),
            Fault::Network(_) => proxy.set(Network::Good),
        }
    }
}

/// Whether a replica asks the database.
async fn is_well(clients: &Clients) -> bool {
    let questions = [record::Question {
        member: "owner".to_owned(),
        permission: "staff.manage".to_owned(),
        resource: None,
    }];
    speak::ask(clients, "tenant-0", &record::Want::Full, &questions).await.is_ok()
}
