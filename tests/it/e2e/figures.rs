//! Figures for docs/operations/scaling.md: what one PostgreSQL carries on this machine. Not a test,
//! nothing here fails; run it by name, in a release build, on a machine with nothing else to do:
//!
//! `cargo test --release --test it figures -- --ignored --nocapture --test-threads 1`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rolegate::grpc::pb;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::desk::{make_member, make_tenant, set};
use super::fleet::{Fleet, migrate};
use super::process::Clients;
use crate::postgres::Cluster;

/// Commits wait for the disk, as in production. Statements are counted.
const SETTINGS: &str = "fsync = on\nautovacuum = on\nshared_buffers = 128MB\n\
    shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.max = 1000\n";
const SECONDS: u64 = 8;

/// Three replicas on a server of their own, with a connection to look at it.
struct Scene {
    cluster: Cluster,
    database: String,
    admin: PgConnection,
    fleet: Fleet,
}

async fn scene() -> Option<Scene> {
    let cluster = crate::postgres::dedicated_with(SETTINGS)?;
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("{build} build, {} cores", std::thread::available_parallelism().unwrap());
    let database = cluster.create_database();
    let url = cluster.url(&database);
    migrate(&url, &[]);
    let mut admin = cluster.admin(&database).await;
    run(&mut admin, "CREATE EXTENSION pg_stat_statements").await;
    println!("PostgreSQL {}", text(&mut admin, "SHOW server_version").await);
    let fleet = Fleet::start(&[url.as_str(); 3], &[], &["--admin-addr", "127.0.0.1:0"]).await;
    for number in 0..32 {
        let tenant = format!("tenant-{number}");
        make_tenant(&fleet.clients[0], &tenant).await;
        make_member(&fleet.clients[0], &tenant, "kim").await.unwrap();
    }
    Some(Scene { cluster, database, admin, fleet })
}

#[ignore = "measures, tests nothing"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_and_bytes() {
    let Some(Scene { cluster, database, mut admin, fleet }) = scene().await else { return };
    idle(&cluster, &mut admin, &database).await;
    statements(&mut admin, &fleet.clients[0]).await;
    bytes(&mut admin, &fleet.clients[0]).await;
    cached(&fleet).await;
}

#[ignore = "measures, tests nothing"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_per_second() {
    let Some(Scene { cluster: _cluster, mut admin, fleet, .. }) = scene().await else { return };
    for (what, replicas, tenants) in [
        ("32 tenants, through one replica", 1, 32),
        ("32 tenants, through three replicas", 3, 32),
        ("one tenant, through one replica", 1, 1),
        ("one tenant, through three replicas", 3, 1),
    ] {
        run(&mut admin, "SELECT pg_stat_statements_reset()").await;
        let done = writes(&fleet.clients[..replicas], tenants).await as f64;
        let seconds = SECONDS as f64;
        println!("writes/s, 32 clients, {what}: {:.0}", done / seconds);
        for (calls, _, query) in calls(&mut admin).await {
            if query.contains("pg_current_snapshot") || query.contains("NOTIFY") {
                println!("  with {:.1} a second, of all replicas: {query}", calls / seconds);
            }
        }
    }
}

async fn run(admin: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(admin).await.unwrap();
}

async fn text(admin: &mut PgConnection, sql: &str) -> String {
    sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(admin).await.unwrap().get(0)
}

async fn count(admin: &mut PgConnection, sql: &str) -> f64 {
    let sql = format!("SELECT ({sql})::float8");
    sqlx::query(AssertSqlSafe(sql)).fetch_one(admin).await.unwrap().get(0)
}

/// Calls by statement since the last reset, most called first.
async fn calls(admin: &mut PgConnection) -> Vec<(f64, f64, String)> {
    let sql = "SELECT calls::float8, total_exec_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 90) \
               FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
               WHERE rolname = 'rolegate' ORDER BY calls DESC";
    let rows = sqlx::query(sql).fetch_all(admin).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn idle(cluster: &Cluster, admin: &mut PgConnection, database: &str) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    run(admin, "SELECT pg_stat_statements_reset()").await;
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    for (calls, time, query) in calls(admin).await.into_iter().take(6) {
        let (rate, each) = (calls / 3.0 / SECONDS as f64, time / calls);
        println!("at rest, per replica and second: {rate:.2} calls of {each:.3} ms: {query}");
    }
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'rolegate' AND datname = '{database}'"
    );
    let open = count(&mut cluster.admin("postgres").await, &sql).await;
    println!("connections at rest, per replica: {:.1}", open / 3.0);
}

async fn statements(admin: &mut PgConnection, clients: &Clients) {
    const WRITES: u32 = 200;
    run(admin, "SELECT pg_stat_statements_reset()").await;
    for round in 0..WRITES {
        set(clients, "tenant-0", "kim", round % 2 == 1).await.unwrap();
    }
    let calls = calls(admin).await;
    let mut total = 0.0;
    for (calls, time, query) in &calls {
        let per_write = calls / f64::from(WRITES);
        if per_write >= 0.2 {
            total += per_write;
            println!("per write: {per_write:.2} of {:.3} ms: {query}", time / calls);
        }
    }
    println!("statements per write (AssignRoles), with what three replicas ask: {total:.1}");
}

const TABLES: [&str; 11] = [
    "tenants",
    "roles",
    "members",
    "member_roles",
    "member_teams",
    "changes",
    "audit",
    "audit_subjects",
    "idempotency",
    "catalog_versions",
    "meta",
];

async fn sizes(admin: &mut PgConnection) -> Vec<f64> {
    let mut sizes = Vec::new();
    for table in TABLES {
        let sql = format!("SELECT pg_total_relation_size('{table}')");
        sizes.push(count(admin, &sql).await);
    }
    sizes
}

async fn bytes(admin: &mut PgConnection, clients: &Clients) {
    const MEMBERS: usize = 50_000;
    const WRITES: usize = 5_000;
    make_tenant(clients, "big").await;
    let before = sizes(admin).await;
    let upsert = |number: usize| pb::MemberUpsert {
        member_id: format!("8d2c4a{number:018x}"),
        role_ids: Some(vec!["user".into()].into()),
        team_ids: Some(vec!["billing".into(), "technical".into()].into()),
        status: pb::MemberStatus::Active.into(),
        ..Default::default()
    };
    let start = Instant::now();
    for batch in 0..MEMBERS / 5_000 {
        let request = pb::BatchUpsertMembersRequest {
            tenant_id: "big".into(),
            members: (batch * 5_000..(batch + 1) * 5_000).map(upsert).collect(),
            ..Default::default()
        };
        clients.members.clone().batch_upsert_members(request).await.unwrap();
    }
    println!("{MEMBERS} members in batches of 5,000: {:?}", start.elapsed());
    let after = sizes(admin).await;
    grown("per member (24-byte id, one role, two teams), by a batch", &before, &after, MEMBERS);
    let before = after;
    let work = writers(std::slice::from_ref(clients), 32, WRITES).await;
    let after = sizes(admin).await;
    grown("per write (AssignRoles)", &before, &after, work);
}

fn grown(what: &str, before: &[f64], after: &[f64], count: usize) {
    let mut total = 0.0;
    for (table, (before, after)) in TABLES.iter().zip(before.iter().zip(after)) {
        let each = (after - before) / count as f64;
        total += each;
        if each >= 1.0 {
            println!("bytes {what}: {each:.0} in {table}");
        }
    }
    println!("bytes {what}: {total:.0} in all, indexes and dead rows included");
}

/// What a member takes in a replica's cache.
async fn cached(fleet: &Fleet) {
    const MEMBERS: usize = 50_000;
    let process = fleet.servers[1].id();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    };
    let (before, start) = (resident(), Instant::now());
    for batch in 0..MEMBERS / 500 {
        let item = |number: usize| pb::CheckItem {
            member_id: format!("8d2c4a{number:018x}"),
            permission: "chat.view".into(),
            resource: None,
        };
        let request = pb::BatchCheckRequest {
            tenant_id: "big".into(),
            items: (batch * 500..(batch + 1) * 500).map(item).collect(),
            consistency: None,
        };
        fleet.clients[1].authz.clone().batch_check(request).await.unwrap();
    }
    let filled = start.elapsed();
    let admin = fleet.servers[1].admin.clone().unwrap();
    let page = super::http::page(&admin, "/metrics").await;
    let bytes = page.lines().find(|line| line.starts_with("rolegate_cache_bytes ")).unwrap();
    println!("{MEMBERS} members read into a cold cache, 500 a call: {filled:?}; {bytes}");
    println!(
        "resident memory grew by {:.0} bytes per member",
        (resident() - before) / MEMBERS as f64
    );
}

/// Runs writers for [`SECONDS`], and says how much they did.
async fn writes(replicas: &[Clients], tenants: usize) -> usize {
    let over = Arc::new(AtomicBool::new(false));
    let (stop, end) = (Arc::clone(&over), Duration::from_secs(SECONDS));
    tokio::spawn(async move {
        tokio::time::sleep(end).await;
        stop.store(true, Ordering::Release);
    });
    work(replicas, tenants, move |_| over.load(Ordering::Acquire)).await
}

/// Runs writers until so much is done.
async fn writers(replicas: &[Clients], tenants: usize, writes: usize) -> usize {
    work(replicas, tenants, move |done| done >= writes).await
}

async fn work(
    replicas: &[Clients],
    tenants: usize,
    enough: impl Fn(usize) -> bool + Clone + Send + 'static,
) -> usize {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..32 {
        let (clients, done) = (replicas[writer % replicas.len()].clone(), Arc::clone(&done));
        let (tenant, enough) = (format!("tenant-{}", writer % tenants), enough.clone());
        tasks.spawn(async move {
            let member = if tenants == 1 { format!("writer-{writer}") } else { "kim".to_owned() };
            make_member(&clients, &tenant, &member).await.ok();
            for round in 0.. {
                if enough(done.load(Ordering::Acquire)) {
                    return;
                }
                set(&clients, &tenant, &member, round % 2 == 1).await.unwrap();
                done.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    tasks.join_all().await;
    done.load(Ordering::Acquire)
}
