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

use std::time::{Duration, Instant};

use self::checker::judge;
use self::record::History;
use self::workload::Run;
use super::fleet::{Fleet, migrate};

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
