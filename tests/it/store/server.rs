//! What is particular to PostgreSQL: a server that several programs share.

use std::time::{Duration, Instant};

use rolegate::store::{ChangePosition, FollowCursor, OpenError, OpenOptions, SqlStore, StoreError};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::time::timeout;

use super::backend::{commit, make_tenant, postgres_options};
use super::following::drain;
use crate::postgres::{self, Cluster};
use crate::timing;

async fn refused(options: &OpenOptions) -> OpenError {
    match SqlStore::open(options).await {
        Ok(store) => panic!("opened {store:?}"),
        Err(error) => error,
    }
}

/// A database of one's own on the shared server, and a store on it.
pub(super) async fn opened(
    change: impl FnOnce(OpenOptions) -> OpenOptions,
) -> Option<(&'static Cluster, String, SqlStore)> {
    let cluster = postgres::shared()?;
    let database = cluster.create_database();
    let options = change(postgres_options(&cluster.url(&database)));
    let store = SqlStore::open(&options).await.unwrap();
    Some((cluster, database, store))
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

pub(super) fn change_sql(tenant: &str, revision: u32) -> String {
    format!(
        "INSERT INTO changes (tenant_id, revision, touched, created_at) \
         VALUES ('{tenant}', {revision}, '\"nothing\"', 1)"
    )
}

/// Tries until it works, for as long as recovering may take.
pub(super) async fn recovers<T>(
    limit: Duration,
    attempt: impl AsyncFn() -> Result<T, StoreError>,
) -> T {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(start.elapsed() < timing::limit(limit), "{error}"),
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

/// Numbers of transactions that left nothing are given again after a crash: a watcher whose position
/// was ahead of the last change would never be told of what then gets a lower one.
#[tokio::test(flavor = "multi_thread")]
async fn no_position_is_ahead_of_the_last_change() {
    let Some((cluster, database, store)) = opened(|options| options).await else { return };
    assert_eq!(store.ordered_end().await.unwrap().0, ChangePosition::default());
    make_tenant(&store, "acme").await;
    let made = recovers(Duration::from_secs(30), async || {
        let page = store.ordered_changes(ChangePosition::default(), 9).await?;
        page.changes.first().map(|change| change.position).ok_or(StoreError::Conflict)
    });
    let made = made.await;
    let mut other = cluster.admin(&database).await;
    for _ in 0..3 {
        run(&mut other, "BEGIN").await;
        run(&mut other, "SELECT pg_current_xact_id()").await;
        run(&mut other, "ROLLBACK").await;
    }
    assert_eq!(store.ordered_end().await.unwrap().0, made);
    let page = store.ordered_changes(made, 9).await.unwrap();
    assert_eq!((page.next, page.gap, page.changes.len()), (made, false, 0));
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
        matches!(&error, OpenError::OlderSchema(names) if names == &["m0001_initial", "m0002_audit_chain", "m0003_holders"]),
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
    cluster.sql(&database, "UPDATE meta SET value = '4' WHERE key = 'oldest_reader'");
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
    // A line of the server's source code says nothing to anybody here.
    assert!(!error.to_string().contains(" at line "), "{error}");
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
    assert!(
        start.elapsed() < timing::limit(Duration::from_secs(5)),
        "a refused connection needs no waiting"
    );
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

/// Managed databases give out another password every now and then, by a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_is_read_again() {
    let Some(cluster) = postgres::dedicated() else { return };
    let (database, user) = (cluster.create_database(), postgres::LOCKED_USER);
    cluster.sql("postgres", &format!("ALTER DATABASE {database} OWNER TO {user}"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let options = OpenOptions {
        password_file: Some(file.clone()),
        ..postgres_options(&format!("postgres://{user}@127.0.0.1:{}/{database}", cluster.port()))
    };
    let error = refused(&options).await;
    assert!(matches!(&error, OpenError::PasswordFile { path, .. } if path == &file), "{error:?}");
    std::fs::write(&file, format!("{}\n", postgres::LOCKED_PASSWORD)).unwrap();
    let store = SqlStore::open(&options).await.unwrap();
    let tenant = make_tenant(&store, "acme").await;
    let works = || {
        recovers(Duration::from_secs(60), async || {
            store.read().await?.tenant(&tenant).await?;
            commit(store.write(&tenant).await?).await;
            Ok(())
        })
    };
    let hang_up =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'");
    // A file that cannot be read changes nothing.
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.sql("postgres", &hang_up);
    works().await;
    cluster.sql("postgres", &format!("ALTER ROLE {user} PASSWORD 'another'"));
    cluster.sql("postgres", &hang_up);
    recovers(Duration::from_secs(30), async || match store.read().await {
        Err(StoreError::Unavailable(_)) => Ok(()),
        _ => Err(StoreError::Conflict),
    })
    .await;
    std::fs::write(&file, "another").unwrap();
    works().await;
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
    assert_eq!(drain(&store, &mut cursor).await, ["acme@1000002"]);
    assert_eq!(drain(&store, &mut cursor).await, [""; 0]);
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
    // Other tests have come by most places, and nobody listened.
    tracing::callsite::rebuild_interest_cache();
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
    for (options, id) in [(from_file, "file"), (in_url, "url")] {
        let store = SqlStore::open(&options).await.unwrap();
        shown += &format!("{store:?}");
        make_tenant(&store, id).await.to_string();
        let mut listener = store.listen();
        timeout(Duration::from_secs(60), listener.next()).await.unwrap();
        store.close().await;
    }
    shown += &format!("{:?}", refused(&wrong).await);
    drop(guard);
    shown += &String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    assert!(shown.contains("sea_orm"), "the finest level was heard: {} bytes", shown.len());
    assert!(!shown.contains("s3cret"), "a password was said");
}
