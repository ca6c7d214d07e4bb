//! From commit to visible on another replica, without tokens: how long it takes, and that the stated
//! bound holds, also where commits overtake each other.

use std::time::Duration;

use tokio::time::Instant;

use super::desk::{Fresh, NO, YES, ask, make_member, make_tenant, seen, set, warm};
use super::fleet::{Fleet, migrate};
use super::history::{BOUND, number};
use crate::postgres::Cluster;

/// `ROLEGATE_DELAY_WRITES` of them, each looked for on both other replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_delay_to_other_replicas_is_within_the_bound() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let url = cluster.url(&cluster.create_database());
    migrate(&url, &[]);
    let fleet = Fleet::start(&[url.as_str(); 3], &[], &["--database-connections", "8"]).await;
    make_tenant(&fleet.clients[0], "acme").await;
    make_member(&fleet.clients[0], "acme", "kim").await.unwrap();
    let writes = usize::try_from(number("ROLEGATE_DELAY_WRITES", 120)).unwrap();
    let mut delays = Vec::new();
    for round in 0..writes {
        let may = round % 2 == 1;
        let (before, after) = if may { (NO, YES) } else { (YES, NO) };
        // Held by all, so that it has to be forgotten.
        for clients in &fleet.clients {
            let start = Instant::now();
            seen(clients, "acme", "kim", before, start, BOUND).await;
        }
        let writer = round % 3;
        set(&fleet.clients[writer], "acme", "kim", may).await.unwrap();
        let committed = Instant::now();
        let look =
            |replica: usize| seen(&fleet.clients[replica], "acme", "kim", after, committed, BOUND);
        let (one, two) = tokio::join!(look((writer + 1) % 3), look((writer + 2) % 3));
        delays.extend([one, two]);
        // Not all at the same place in the replicas' rhythm.
        tokio::time::sleep(Duration::from_millis(round as u64 * 7 % 40)).await;
    }
    delays.sort_unstable();
    let part = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    println!(
        "from acknowledged to visible on another replica, asked for every millisecond: {} times, \
         p50 {:?}, p90 {:?}, p99 {:?}, max {:?}; the bound is {BOUND:?}",
        delays.len(),
        part(50),
        part(90),
        part(99),
        part(100)
    );
}

/// What the service would write to archive a member, in a transaction of one's own.
fn revoke_sql(tenant: &str) -> [String; 3] {
    [
        format!(
            "UPDATE members SET status = 'archived' WHERE tenant_id = '{tenant}' AND id = 'kim'"
        ),
        format!("UPDATE tenants SET revision = revision + 1 WHERE id = '{tenant}'"),
        format!(
            "INSERT INTO changes (tenant_id, revision, touched, created_at) \
             SELECT id, revision, '{{\"members\":[\"kim\"]}}', 1 FROM tenants \
             WHERE id = '{tenant}'"
        ),
    ]
}

async fn run(connection: &mut sqlx::PgConnection, sql: &str) {
    use sqlx::Executor as _;
    connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
}

async fn begin_to_revoke(cluster: &Cluster, database: &str, tenant: &str) -> sqlx::PgConnection {
    let mut connection = cluster.admin(database).await;
    run(&mut connection, "BEGIN").await;
    for sql in revoke_sql(tenant) {
        run(&mut connection, &sql).await;
    }
    connection
}

/// A transaction that stays open for seconds has a lower sequence number than others that are
/// committed before it, and one in another database, which has nothing to do with this, stays open
/// longest of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_replica_loses_a_commit_that_was_overtaken_and_none_is_held_back() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let unrelated = cluster.create_database();
    let mut elsewhere = cluster.admin(&unrelated).await;
    run(&mut elsewhere, "BEGIN").await;
    run(&mut elsewhere, "SELECT pg_current_xact_id()").await;

    let fleet = Fleet::start(&[url.as_str(); 3], &[], &["--database-connections", "8"]).await;
    for tenant in ["slow", "quick", "ordinary"] {
        make_tenant(&fleet.clients[0], tenant).await;
        make_member(&fleet.clients[0], tenant, "kim").await.unwrap();
    }
    for clients in &fleet.clients {
        for tenant in ["slow", "quick", "ordinary"] {
            warm(clients, tenant, &["kim"]).await;
        }
    }
    let everybody_sees = async |tenant: &str, expected, committed| {
        let look = |clients| seen(clients, tenant, "kim", expected, committed, BOUND);
        let [one, two, three] = fleet.clients.as_slice() else { panic!() };
        let (one, two, three) = tokio::join!(look(one), look(two), look(three));
        one.max(two).max(three)
    };
    let mut slow = begin_to_revoke(cluster, &database, "slow").await;
    let mut quick = begin_to_revoke(cluster, &database, "quick").await;
    run(&mut quick, "COMMIT").await;
    let overtaking = everybody_sees("quick", NO, Instant::now()).await;
    let mut ordinary = Duration::ZERO;
    // Longer than the bound, and than anybody's patience.
    let start = Instant::now();
    while start.elapsed() < 2 * BOUND {
        for may in [false, true] {
            set(&fleet.clients[1], "ordinary", "kim", may).await.unwrap();
            let expected = if may { YES } else { NO };
            ordinary = ordinary.max(everybody_sees("ordinary", expected, Instant::now()).await);
        }
        // What is not committed is not seen.
        let said = ask(&fleet.clients[2], "slow", "kim", Fresh::Any).await.unwrap();
        assert_eq!(said, YES);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    run(&mut slow, "COMMIT").await;
    let overtaken = everybody_sees("slow", NO, Instant::now()).await;
    println!(
        "seen by all three after the commit: overtaking {overtaking:?}, meanwhile up to \
         {ordinary:?}, overtaken {overtaken:?}"
    );
    run(&mut elsewhere, "COMMIT").await;
}
