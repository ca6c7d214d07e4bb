//! What is particular to PostgreSQL: a server that several programs share.

use std::future::Future;
use std::time::{Duration, Instant};

use rolegate::domain::catalog::CatalogRef;
use rolegate::store::{
    ChangePosition, FollowCursor, MemberFilter, OpenError, OpenOptions, RecordOutcome,
    RecordedCatalog, SqlStore, StoreError,
};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::backend::{commit, make_tenant, member, postgres_options, tenant_id};
use super::following::drain;
use crate::postgres::{self, Cluster};

async fn refused(options: &OpenOptions) -> OpenError {
    match SqlStore::open(options).await {
        Ok(store) => panic!("opened {store:?}"),
        Err(error) => error,
    }
}

/// A database of one's own on the shared server, and a store on it.
async fn opened(
    change: impl FnOnce(OpenOptions) -> OpenOptions,
) -> Option<(&'static Cluster, String, SqlStore)> {
    let cluster = postgres::shared()?;
    let database = cluster.create_database();
    let options = change(postgres_options(&cluster.url(&database)));
    let store = SqlStore::open(&options).await.unwrap();
    Some((cluster, database, store))
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

fn change_sql(tenant: &str, revision: u32) -> String {
    format!(
        "INSERT INTO changes (tenant_id, revision, touched, created_at) \
         VALUES ('{tenant}', {revision}, '\"nothing\"', 1)"
    )
}

/// What an error must be, and by when.
async fn unavailable_within<T: std::fmt::Debug>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, StoreError>>,
) {
    let outcome = timeout(limit, attempt).await;
    let Ok(Err(StoreError::Unavailable(said))) = outcome else { panic!("{outcome:?}") };
    for secret in ["SELECT", "127.0.0.1", "rolegate@", "acme"] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Tries until it works, for as long as recovering may take.
async fn recovers<T>(limit: Duration, attempt: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(start.elapsed() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_held_back_when_commits_overtake_each_other() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    let unrelated = cluster.create_database();
    let mut elsewhere = cluster.admin(&unrelated).await;
    run(&mut elsewhere, "BEGIN").await;
    run(&mut elsewhere, "SELECT pg_current_xact_id()").await;

    let mut cursor = store.follow_start().await.unwrap();
    let (position, _) = store.ordered_end().await.unwrap();
    let (mut slow, mut quick) = (cluster.admin(&database).await, cluster.admin(&database).await);
    run(&mut slow, "BEGIN").await;
    run(&mut slow, &change_sql("slow", 1)).await;
    run(&mut quick, "BEGIN").await;
    run(&mut quick, &change_sql("quick", 1)).await;
    assert_eq!(drain(&store, &mut cursor).await, [""; 0], "nothing is committed");
    // The one with the higher sequence number commits first, and is seen at once.
    run(&mut quick, "COMMIT").await;
    assert_eq!(drain(&store, &mut cursor).await, ["quick@1"]);
    // So is all else, while the slow one stays open for seconds.
    for n in 0..20 {
        make_tenant(&store, &format!("t{n}")).await;
        assert_eq!(drain(&store, &mut cursor).await, [format!("t{n}@1")]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    run(&mut slow, "COMMIT").await;
    assert_eq!(drain(&store, &mut cursor).await, ["slow@1"]);
    assert_eq!(drain(&store, &mut cursor).await, [""; 0]);

    // The final order waits, even for the transaction in the other database.
    let page = store.ordered_changes(position, 100).await.unwrap();
    assert!(page.changes.is_empty() && !page.gap, "{page:?}");
    run(&mut elsewhere, "COMMIT").await;
    let ordered = recovers(Duration::from_secs(30), async || {
        let page = store.ordered_changes(page.next, 100).await?;
        if page.changes.len() == 22 { Ok(page) } else { Err(StoreError::Conflict) }
    });
    let tenants: Vec<_> =
        ordered.await.changes.iter().map(|change| change.change.tenant.to_string()).collect();
    assert_eq!(tenants[..3], ["slow", "quick", "t0"]);
}

/// By sequence numbers, or with one page of a size that ends in between, the slow one would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn small_pages_lose_nothing_either() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    let mut cursor = store.follow_start().await.unwrap();
    let mut slow = cluster.admin(&database).await;
    run(&mut slow, "BEGIN").await;
    run(&mut slow, &change_sql("slow", 1)).await;
    for n in 0..4 {
        make_tenant(&store, &format!("t{n}")).await;
    }
    let mut seen = Vec::new();
    let mut next = async |cursor: &mut FollowCursor| {
        let followed = store.follow(cursor, 1).await.unwrap();
        *cursor = followed.next;
        seen.extend(followed.changes.iter().map(|change| change.change.tenant.to_string()));
    };
    next(&mut cursor).await;
    next(&mut cursor).await;
    run(&mut slow, "COMMIT").await;
    for _ in 0..4 {
        next(&mut cursor).await;
    }
    assert_eq!(seen, ["t0", "t1", "slow", "t2", "t3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_migrated_by_many_at_once_is_made_once() {
    let Some(cluster) = postgres::shared() else { return };
    let options = postgres_options(&cluster.url(&cluster.create_database()));
    let serve = OpenOptions { migrate: false, ..options.clone() };
    let error = refused(&serve).await;
    assert!(
        matches!(&error, OpenError::OlderSchema(names) if names == &["m0001_initial"]),
        "{error:?}"
    );
    assert!(error.to_string().contains("rolegate migrate"), "{error}");
    let mut openers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let options = options.clone();
        openers.spawn(async move { SqlStore::open(&options).await.unwrap().identity().clone() });
    }
    let identities = openers.join_all().await;
    assert!(identities.iter().all(|identity| identity == &identities[0]));
    assert_eq!(SqlStore::open(&serve).await.unwrap().identity(), &identities[0]);
}

#[tokio::test]
async fn a_newer_schema_is_opened_if_it_says_that_this_program_can_read_it() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    store.close().await;
    let options = OpenOptions::new(cluster.url(&database));
    assert!(!options.migrate, "whoever serves does not migrate");
    cluster.sql(&database, "INSERT INTO seaql_migrations VALUES ('m9999_future', 0)");
    SqlStore::open(&options).await.unwrap().close().await;
    cluster.sql(&database, "UPDATE meta SET value = '2' WHERE key = 'oldest_reader'");
    let error = refused(&options).await;
    assert!(matches!(error, OpenError::NewerSchema(_)), "{error:?}");
}

#[tokio::test]
async fn whoever_cannot_get_in_is_told_why() {
    let Some(cluster) = postgres::shared() else { return };
    let database = cluster.create_database();
    let user = postgres::LOCKED_USER;
    cluster.sql("postgres", &format!("ALTER DATABASE {database} OWNER TO {user}"));
    let url = format!("postgres://{user}@127.0.0.1:{}/{database}", cluster.port());
    let with = |password: &str| OpenOptions {
        password: Some(password.to_owned()),
        ..postgres_options(&url)
    };
    SqlStore::open(&with(postgres::LOCKED_PASSWORD)).await.unwrap().close().await;
    let error = refused(&with("wrong-guess")).await;
    assert!(matches!(error, OpenError::NotAdmitted { .. }), "{error:?}");
    assert!(error.to_string().contains("--database-password-file"), "{error}");
    assert!(!error.to_string().contains("wrong-guess"), "{error}");
    // No TLS there, and it was asked for.
    let secured = OpenOptions { url: format!("{url}?sslmode=require"), ..with("wrong-guess") };
    let error = refused(&secured).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");

    let error = refused(&postgres_options(&cluster.url("nowhere"))).await;
    assert!(matches!(&error, OpenError::NoDatabase { name, .. } if name == "nowhere"), "{error:?}");
    SqlStore::open(&postgres_options(&cluster.socket_url(&cluster.create_database())))
        .await
        .unwrap();

    let start = Instant::now();
    let error = refused(&postgres_options("postgres://rolegate@127.0.0.1:1/x")).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "a refused connection needs no waiting");
    for (url, hint) in [
        ("postgres://rolegate@127.0.0.1:port/x", "port"),
        ("postgres://rolegate@127.0.0.1/x?sslmode=perhaps", "perhaps"),
        ("postgres://rolegate@127.0.0.1/x?password=s3cret", "password cannot be a parameter"),
        ("postgres://rolegate@127.0.0.1/x?pass%77ord=s3cret", "no parameter"),
        ("postgres://rolegate@127.0.0.1/x?options=-c%20fsync", "no parameter options"),
    ] {
        let error = refused(&postgres_options(url)).await;
        assert!(matches!(error, OpenError::BadUrl(_)), "{url}: {error:?}");
        assert!(error.to_string().contains(hint), "{url}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{url}: {error}");
    }
}

/// A dump takes the numbers of transactions along, but not the server's count of them.
#[tokio::test]
async fn a_database_restored_from_a_dump_wants_a_new_epoch() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    let tenant = make_tenant(&store, "acme").await;
    store.close().await;
    cluster.sql(&database, "UPDATE changes SET tx = tx + 1000000");
    let serve = OpenOptions::new(cluster.url(&database));
    let error = refused(&serve).await;
    assert!(matches!(error, OpenError::Restored), "{error:?}");
    assert!(error.to_string().contains("--after-restore"), "{error}");
    let restore = OpenOptions { migrate: true, after_restore: true, ..serve.clone() };
    SqlStore::open(&restore).await.unwrap().close().await;
    let store = SqlStore::open(&serve).await.unwrap();
    let mut cursor = store.follow_start().await.unwrap();
    commit(store.write(&tenant).await.unwrap()).await;
    assert_eq!(drain(&store, &mut cursor).await, ["acme@2"]);
    assert_eq!(drain(&store, &mut cursor).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_connection_is_killed_comes_back() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    let tenant = make_tenant(&store, "acme").await;
    let mut listener = store.listen();
    timeout(Duration::from_secs(10), listener.next()).await.expect("listening begins");
    let mut admin = cluster.admin(&database).await;
    for _ in 0..3 {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        let killed: i64 = admin.fetch_one(sql).await.unwrap().get(0);
        assert_eq!(killed, 1);
        timeout(Duration::from_secs(10), listener.next()).await.expect("it may have missed some");
        commit(store.write(&tenant).await.unwrap()).await;
        timeout(Duration::from_secs(10), listener.next()).await.expect("it listens again");
    }
    store.close().await;
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'rolegate'";
    recovers(Duration::from_secs(10), async || {
        let mut admin = cluster.admin(&database).await;
        let left: i64 = admin.fetch_one(sql).await.unwrap().get(0);
        if left == 0 { Ok(()) } else { Err(StoreError::Unavailable(format!("{left} left"))) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_hangs_ends_and_leaves_the_others_alone() {
    let quick = Duration::from_millis(400);
    let change = |options| OpenOptions { statement_timeout: quick, ..options };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let tenant = make_tenant(&store, "acme").await;
    let mut admin = cluster.admin(&database).await;
    run(&mut admin, "BEGIN; LOCK TABLE roles IN ACCESS EXCLUSIVE MODE").await;
    let mut hanging = tokio::task::JoinSet::new();
    // More than there are connections.
    for _ in 0..30 {
        let (store, tenant) = (store.clone(), tenant.clone());
        hanging.spawn(async move {
            unavailable_within(Duration::from_secs(6), async {
                store.read().await?.count_roles(&tenant).await
            })
            .await;
        });
    }
    // Writers and followers have connections of their own.
    let mut cursor = store.follow_start().await.unwrap();
    commit(store.write(&tenant).await.unwrap()).await;
    assert_eq!(drain(&store, &mut cursor).await, ["acme@2"]);
    hanging.join_all().await;
    run(&mut admin, "ROLLBACK").await;
    assert_eq!(store.read().await.unwrap().count_roles(&tenant).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_connection_or_a_turn_one_is_told_in_time() {
    let quick = Duration::from_millis(500);
    let change = |options| OpenOptions {
        connections: 4,
        acquire_timeout: quick,
        lock_timeout: quick,
        ..options
    };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let options = change(postgres_options(&cluster.url(&database)));
    let other = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let readers = [store.read().await.unwrap(), store.read().await.unwrap()];
    unavailable_within(Duration::from_secs(2), store.read()).await;
    let busy = store.write(&tenant).await.unwrap();
    // More than there are connections; another tenant's writers do not queue behind them.
    let waiting: Vec<_> = (0..9)
        .map(|n| {
            let (store, tenant) = ([&store, &other][n % 2].clone(), tenant.clone());
            tokio::spawn(async move {
                unavailable_within(Duration::from_secs(2), store.write(&tenant)).await;
            })
        })
        .collect();
    tokio::task::yield_now().await;
    make_tenant(&store, "elsewhere").await;
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(commit(busy).await, 2);
    drop(readers);
    assert_eq!(commit(store.write(&tenant).await.unwrap()).await, 3);
    assert!(store.read().await.unwrap().tenant(&tenant).await.is_ok());
}

/// A program that hangs in the middle of a transaction holds nobody back for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_nothing_is_ended() {
    let quick = Duration::from_millis(300);
    let change = |options| OpenOptions { idle_in_transaction_timeout: quick, ..options };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let options = change(postgres_options(&cluster.url(&database)));
    let other = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let hangs = other.write(&tenant).await.unwrap();
    assert_eq!(commit(store.write(&tenant).await.unwrap()).await, 2);
    assert!(hangs.put_members(&[member("kim", &[], &[])]).await.is_err());
    drop(hangs);
    let tx = store.read().await.unwrap();
    assert_eq!(tx.members(&tenant, &MemberFilter::default(), None, 9).await.unwrap(), []);
}

/// Whoever goes away while a transaction begins must not leave it to the next user of the
/// connection: what that one writes would never be committed.
#[tokio::test]
async fn a_beginning_that_was_cut_off_swallows_nothing() {
    let change = |options| OpenOptions { connections: 2, ..options };
    let Some((cluster, database, store)) = opened(change).await else { return };
    let other = SqlStore::open(&postgres_options(&cluster.url(&database))).await.unwrap();
    let tenant = tenant_id("acme");
    for round in 0..40_u32 {
        {
            let beginning = store.write(&tenant);
            let mut beginning = std::pin::pin!(beginning);
            for _ in 0..round % 8 {
                if std::future::poll_fn(|cx| std::task::Poll::Ready(beginning.as_mut().poll(cx)))
                    .await
                    .is_ready()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
        let catalog = RecordedCatalog {
            reference: CatalogRef { id: "c".into(), version: round },
            hash: String::new(),
            source: String::new(),
        };
        assert_eq!(store.record_catalog(&catalog).await.unwrap(), RecordOutcome::New);
        let recorded = other.recorded_catalogs().await.unwrap();
        assert_eq!(recorded.len(), round as usize + 1, "what was recorded is committed");
    }
}

/// Everything that this thread says, at the finest level.
#[derive(Clone, Default)]
struct Said(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_said() {
    let Some(cluster) = postgres::shared() else { return };
    let database = cluster.create_database();
    let user = postgres::LOCKED_USER;
    cluster.sql("postgres", &format!("ALTER DATABASE {database} OWNER TO {user}"));
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let place = format!("127.0.0.1:{}/{database}", cluster.port());
    let from_file = OpenOptions {
        password: Some(postgres::LOCKED_PASSWORD.to_owned()),
        ..postgres_options(&format!("postgres://{user}@{place}"))
    };
    // As the environment may give it.
    let in_url =
        postgres_options(&format!("postgres://{user}:{}@{place}", "s3cret%2F%40%3A%3F%23%25%26"));
    let wrong = OpenOptions { password: Some("s3cret-not".to_owned()), ..from_file.clone() };
    let mut shown = format!("{from_file:?}{in_url:?}{wrong:?}");
    for options in [from_file, in_url] {
        let store = SqlStore::open(&options).await.unwrap();
        shown += &format!("{store:?}");
        make_tenant(&store, if shown.len() % 2 == 0 { "even" } else { "odd" }).await.to_string();
        let mut listener = store.listen();
        timeout(Duration::from_secs(10), listener.next()).await.unwrap();
        store.close().await;
    }
    shown += &format!("{:?}", refused(&wrong).await);
    drop(guard);
    shown += &String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    assert!(shown.contains("sea_orm"), "the finest level was heard: {} bytes", shown.len());
    assert!(!shown.contains("s3cret"), "a password was said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answering_or_dies_is_survived() {
    let Some(cluster) = postgres::dedicated() else { return };
    let quick = Duration::from_millis(700);
    let options = OpenOptions {
        acquire_timeout: quick,
        statement_timeout: quick,
        ..postgres_options(&cluster.url(&cluster.create_database()))
    };
    let store = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let mut listener = store.listen();
    timeout(Duration::from_secs(10), listener.next()).await.unwrap();
    let cursor = store.follow_start().await.unwrap();
    let read = async || store.read().await?.tenant(&tenant).await;
    let revision = async || Ok(read().await?.map_or(0, |tenant| tenant.revision));
    let write = async || {
        let tx = store.write(&tenant).await?;
        tx.put_members(&[member("kim", &[], &[])]).await?;
        tx.commit(rolegate::store::Touched::Nothing, super::backend::entry(1)).await
    };
    let bound = Duration::from_secs(6);

    cluster.pause();
    for _ in 0..3 {
        let readers = (0..20).map(|_| {
            let (store, tenant) = (store.clone(), tenant.clone());
            tokio::spawn(unavailable_within(bound, async move {
                store.read().await?.tenant(&tenant).await
            }))
        });
        for reader in readers.collect::<Vec<_>>() {
            reader.await.unwrap();
        }
        unavailable_within(bound, write()).await;
        unavailable_within(bound, store.follow(&cursor, 9)).await;
    }
    cluster.resume();
    // A commit that was cut off may have happened all the same, so revisions only grow.
    let before = recovers(bound, revision).await;
    assert!(recovers(bound, write).await > before);

    for _ in 0..2 {
        cluster.kill();
        unavailable_within(bound, read()).await;
        while !store.is_gone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Whatever the patience is, nobody needs it now.
        for _ in 0..20 {
            unavailable_within(Duration::from_millis(100), read()).await;
            unavailable_within(Duration::from_millis(100), write()).await;
        }
        unavailable_within(bound, write()).await;
        unavailable_within(bound, store.follow(&cursor, 9)).await;
        cluster.restart();
        let before = recovers(bound, revision).await;
        assert!(recovers(bound, write).await > before);
        assert!(!store.is_gone());
        timeout(bound, listener.next()).await.expect("it listens again");
    }
    cluster.stop();
    unavailable_within(bound, read()).await;
    cluster.restart();
    recovers(bound, read).await;
    let followed = recovers(bound, async || store.follow(&cursor, 99).await).await;
    assert!(!followed.gap && followed.changes.len() >= 3, "{followed:?}");
    assert!(followed.changes.iter().all(|change| change.position > ChangePosition::default()));
}
