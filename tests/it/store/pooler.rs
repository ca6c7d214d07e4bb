//! Poolers between this program and PostgreSQL: what they drop, reset or share must not change an
//! answer, and what cannot work is refused in words that name them.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream as Probe;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rolegate::store::{OpenError, OpenOptions, SqlStore};
use sqlx::{Executor as _, Row as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::backend::{commit, make_members, make_tenant, member, member_id, postgres_options};
use super::server::run;
use crate::postgres::{self, Cluster};

/// Drops the options of new connections and, while it is told to, resets the session behind the
/// program's back each time no transaction is open.
struct Resetting {
    port: u16,
    resets: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Resetting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Resetting {
    /// The statement is what resets, once a connection has rested so many times.
    async fn start(server: u16, statement: &'static str, rests: usize) -> Resetting {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let resets = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&resets);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(relay(client, server, Arc::clone(&told), (statement, rests)));
            }
        });
        Resetting { port, resets, task }
    }

    fn reset_from_now_on(&self) {
        self.resets.store(true, Ordering::SeqCst);
    }
}

async fn relay(
    client: TcpStream,
    server: u16,
    resets: Arc<AtomicBool>,
    (statement, mut rests): (&str, usize),
) {
    let upstream = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    client.set_nodelay(true).unwrap();
    upstream.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = upstream.into_split();
    let to_server = Arc::new(Mutex::new(to_server));
    let Some(hello) = frame(&mut from_client, None).await else { return };
    to_server.lock().await.write_all(&without_options(&hello)).await.unwrap();
    let upwards = Arc::clone(&to_server);
    let up = async {
        while let Some(message) = next(&mut from_client).await {
            if upwards.lock().await.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(message) = next(&mut from_server).await {
            let rested = message[..] == *b"Z\0\0\0\x05I";
            if rested && rests > 0 {
                rests -= 1;
            } else if rested && resets.load(Ordering::SeqCst) {
                let length = u32::try_from(statement.len() + 5).unwrap().to_be_bytes();
                let reset = [b"Q", &length[..], statement.as_bytes(), b"\0"].concat();
                to_server.lock().await.write_all(&reset).await.unwrap();
                loop {
                    let Some(answer) = next(&mut from_server).await else { return };
                    if answer.first() == Some(&b'Z') {
                        break;
                    }
                }
            }
            if to_client.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// A message with its kind.
async fn next(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let kind = from.read_u8().await.ok()?;
    frame(from, Some(kind)).await
}

async fn frame(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    kind: Option<u8>,
) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut message: Vec<u8> = kind.into_iter().chain(length.to_be_bytes()).collect();
    let head = message.len();
    message.resize(head + length as usize - 4, 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some(message)
}

/// A startup message as PgBouncer passes it on with `ignore_startup_parameters = options`.
fn without_options(hello: &[u8]) -> Vec<u8> {
    let mut fields = hello[8..].split(|byte| *byte == 0);
    let mut kept = hello[4..8].to_vec();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if !name.is_empty() && name != b"options" {
            kept.extend([name, b"\0", value, b"\0"].concat());
        }
    }
    kept.push(0);
    let mut message = u32::try_from(kept.len() + 4).unwrap().to_be_bytes().to_vec();
    message.extend(kept);
    message
}

/// A read that sees a change from its middle on would decide at no state that there ever was.
async fn reads_are_at_one_state(store: &SqlStore, writer: &SqlStore) {
    let tenant = make_members(writer, "one-state", &[member("kim", &[], &[])]).await;
    let tx = store.read().await.unwrap();
    let before = tx.tenant(&tenant).await.unwrap().unwrap().revision;
    let change = writer.write(&tenant).await.unwrap();
    change.put_members(&[member("kim", &["r"], &[])]).await.unwrap();
    commit(change).await;
    let kim = tx.member(&tenant, &member_id("kim")).await.unwrap().unwrap();
    let after = tx.tenant(&tenant).await.unwrap().unwrap().revision;
    assert_eq!((after, kim.roles.len()), (before, 0), "it saw two states");
}

/// Whatever the role, the pooler or a reset in the middle says, transactions are what they must be.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pooler_drops_or_resets_changes_no_answer() {
    let Some(cluster) = postgres::shared() else { return };
    let database = cluster.create_database();
    let direct = SqlStore::open(&postgres_options(&cluster.url(&database))).await.unwrap();
    for setting in [
        "default_transaction_isolation = 'read committed'",
        "synchronous_commit = off",
        "statement_timeout = 0",
    ] {
        let alter = format!("ALTER ROLE rolegate IN DATABASE {database} SET {setting}");
        cluster.sql("postgres", &alter);
    }
    cluster.sql(&database, "CREATE TABLE said (commit text); GRANT ALL ON said TO rolegate");
    // Not all, or the session would not pass for its own any more.
    let reset = "RESET default_transaction_isolation; RESET default_transaction_read_only; \
                 RESET synchronous_commit";
    // And not before a session is established, which takes three answers.
    let pooler = Resetting::start(cluster.port(), reset, 3).await;
    let options = OpenOptions {
        migrate: false,
        statement_timeout: Duration::from_millis(700),
        ..OpenOptions::new(Cluster::url_at(pooler.port, &database))
    };
    let store = SqlStore::open(&options).await.unwrap();
    let mut admin = cluster.admin(&database).await;

    // The timeout holds without the options of the connection.
    let tenant = make_tenant(&direct, "acme").await;
    run(&mut admin, "BEGIN; LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE").await;
    let tx = store.read().await.unwrap();
    let error = tx.tenant(&tenant).await.unwrap_err().to_string();
    assert!(error.contains("57014"), "the server's own timeout: {error}");
    run(&mut admin, "ROLLBACK").await;
    drop(tx);

    // From here on each session is reset whenever it rests.
    pooler.reset_from_now_on();
    reads_are_at_one_state(&store, &direct).await;

    let repeatable = "default_transaction_isolation = 'repeatable read'";
    let alter = format!("ALTER ROLE rolegate IN DATABASE {database} SET {repeatable}");
    cluster.sql("postgres", &alter);
    // New connections, with another default to be reset to.
    let store = SqlStore::open(&options).await.unwrap();
    // A writer that waits for its turn must see what the one before it did.
    run(&mut admin, "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('acme', 0))").await;
    let waiting = tokio::spawn({
        let (store, tenant) = (store.clone(), tenant.clone());
        async move { store.write(&tenant).await.map(|tx| tx.tenant().unwrap().revision) }
    });
    waits_for_a_lock(cluster, &database).await;
    run(&mut admin, "UPDATE tenants SET revision = 41 WHERE id = 'acme'").await;
    run(&mut admin, "COMMIT").await;
    assert_eq!(waiting.await.unwrap().unwrap(), 41);
    // And what it writes is safe before it is acknowledged.
    let trigger = "CREATE TRIGGER say AFTER UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION say()";
    let say = "CREATE OR REPLACE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS \
               $$BEGIN INSERT INTO said VALUES (current_setting('synchronous_commit')); \
               RETURN NULL; END$$";
    run(&mut admin, say).await;
    run(&mut admin, trigger).await;
    commit(store.write(&tenant).await.unwrap()).await;
    let row = admin.fetch_one("SELECT min(commit) || max(commit) FROM said").await.unwrap();
    assert_eq!(row.get::<String, _>(0), "onon");
}

async fn waits_for_a_lock(cluster: &Cluster, database: &str) {
    let mut admin = cluster.admin(database).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND usename = 'rolegate' AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(20);
    while admin.fetch_one(sql).await.unwrap().get::<i64, _>(0) == 0 {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn shared_sessions(opened: Result<SqlStore, OpenError>) {
    let error = match opened {
        Ok(store) => panic!("opened {store:?}"),
        Err(error) => error,
    };
    assert!(matches!(error, OpenError::SharedSessions { .. }), "{error:?}");
    for word in ["pooler", "session mode", "pool_mode = session"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_resets_or_shares_sessions_is_named() {
    let Some(cluster) = postgres::shared() else { return };
    let database = cluster.create_database();
    let pooler = Resetting::start(cluster.port(), "RESET ALL", 0).await;
    pooler.reset_from_now_on();
    shared_sessions(
        SqlStore::open(&postgres_options(&Cluster::url_at(pooler.port, &database))).await,
    );
    // A session that somebody else has left behind.
    let left = format!("ALTER ROLE rolegate IN DATABASE {database} SET rolegate.session = 'left'");
    cluster.sql("postgres", &left);
    shared_sessions(SqlStore::open(&postgres_options(&cluster.url(&database))).await);
}

/// A real PgBouncer in front of a cluster; stopped when dropped.
struct PgBouncer {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl PgBouncer {
    /// `None`, said loudly, where it is not installed; with `ROLEGATE_REQUIRE_PGBOUNCER=1` the test
    /// fails instead.
    fn start(cluster: &Cluster, settings: &str) -> Option<PgBouncer> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mut directories = std::env::split_paths(&paths);
        // Debian has it where only administrators look.
        let place = Path::new("/usr/sbin").join("pgbouncer");
        let program = directories.find(|directory| directory.join("pgbouncer").exists());
        let Some(program) = program
            .map(|found| found.join("pgbouncer"))
            .or_else(|| place.exists().then_some(place))
        else {
            let required = std::env::var("ROLEGATE_REQUIRE_PGBOUNCER").is_ok_and(|is| is == "1");
            assert!(!required, "pgbouncer is not on the PATH");
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            let text = format!("\n*** SKIPPED, there is no PgBouncer on the PATH: {name} ***\n");
            std::io::stderr().write_all(text.as_bytes()).ok();
            return None;
        };
        let directory = tempfile::Builder::new().prefix("rg-pgb-").tempdir_in("/tmp").unwrap();
        let port = postgres::free_port();
        let (users, log) = (directory.path().join("users"), directory.path().join("log"));
        fs::write(&users, "\"rolegate\" \"\"\n").unwrap();
        let file = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             logfile = {}\ndefault_pool_size = 60\nmax_client_conn = 200\n{settings}\n",
            cluster.port(),
            users.display(),
            log.display(),
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&program);
        // It does not stay root; tests may have to be.
        if postgres::is_root() {
            let nobody = postgres::NOBODY;
            for path in [directory.path(), &users, &file] {
                chown(path, Some(nobody), Some(nobody)).unwrap();
            }
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(directory.path(), open).unwrap();
            command.args(["-u", "nobody"]);
        }
        let child = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pgbouncer = PgBouncer { child, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while Probe::connect(("127.0.0.1", port)).is_err() {
            let ended = pgbouncer.child.try_wait().unwrap();
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pgbouncer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_session_mode_changes_no_answer() {
    let Some(cluster) = postgres::shared() else { return };
    let ignored = "pool_mode = session\nserver_reset_query = DISCARD ALL\n\
                   ignore_startup_parameters = extra_float_digits,options";
    for settings in ["pool_mode = session", ignored] {
        let Some(pgbouncer) = PgBouncer::start(cluster, settings) else { return };
        let database = cluster.create_database();
        let options = postgres_options(&Cluster::url_at(pgbouncer.port, &database));
        let store = SqlStore::open(&options).await.unwrap();
        reads_are_at_one_state(&store, &store).await;
        store.close().await;
        // Sessions that were in use before come back clean.
        let store = SqlStore::open(&options).await.unwrap();
        make_tenant(&store, "acme").await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_another_mode_is_named() {
    let Some(cluster) = postgres::shared() else { return };
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = transaction\nserver_reset_query_always = 1",
        "pool_mode = session\nserver_reset_query =",
    ] {
        let Some(pgbouncer) = PgBouncer::start(cluster, settings) else { return };
        let database = cluster.create_database();
        let options = postgres_options(&Cluster::url_at(pgbouncer.port, &database));
        shared_sessions(SqlStore::open(&options).await);
    }
}
