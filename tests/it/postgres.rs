//! Real PostgreSQL servers to test with: one that all tests of a process share, each with a
//! database of its own, and more for tests that stop, pause or kill theirs.
//!
//! They end with the test process, however that ends: a keeper process waits for its standard input
//! to close, then stops the server and deletes its files.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::e2e::process::suspend;

/// PostgreSQL does not run as root; tests may have to.
pub(crate) const NOBODY: u32 = 65_534;
/// Below the ports that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// What stops a server once nobody holds the other end of its input. First gently, so that no shared
/// memory is left behind.
const KEEPER: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
pid=$(head -n 1 "$0/data/postmaster.pid" 2> /dev/null)
if [ -n "$pid" ] && tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -qF "$0/data"; then
    all="$pid $(ps -o pid= --ppid "$pid")"
    kill -CONT $all 2> /dev/null
    kill -QUIT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.5
    done
    kill -KILL $all 2> /dev/null
fi
rm -rf "$0"
"#;

/// The server that tests share. `None`, said loudly, when PostgreSQL is not installed; with
/// `ROLEGATE_REQUIRE_POSTGRES=1` the test fails instead.
pub(crate) fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = SHARED.get_or_init(|| is_installed().then(|| Cluster::start(""))).as_ref();
    if cluster.is_none() {
        skipped();
    }
    cluster
}

/// A server for one test alone. `None` as above.
pub(crate) fn dedicated() -> Option<Cluster> {
    dedicated_with("")
}

/// The same with more lines for its `postgresql.conf`.
pub(crate) fn dedicated_with(settings: &str) -> Option<Cluster> {
    if is_installed() {
        return Some(Cluster::start(settings));
    }
    skipped();
    None
}

fn is_installed() -> bool {
    let found = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(program).exists())
    };
    found("initdb") && found("pg_ctl") && found("postgres")
}

pub(crate) fn skipped() {
    let required = std::env::var("ROLEGATE_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
    assert!(!required, "initdb, pg_ctl and postgres are not on the PATH");
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not a print macro: those are kept back for tests that pass.
    let text = format!("\n*** SKIPPED, there is no PostgreSQL on the PATH: {name} ***\n");
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// A server with its files.
pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    keeper: Child,
}

impl Cluster {
    /// Makes a new cluster and starts it.
    fn start(more: &str) -> Cluster {
        let mut cluster = Self::in_new_directory();
        // Not the C locale: an order that depends on the locale would go unnoticed.
        cluster.run("initdb", |initdb| {
            initdb
                .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]);
        });
        cluster.write("pg_hba.conf", &format!(
            "local all all trust\nhost all {LOCKED_USER} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n\
             host replication all 127.0.0.1/32 trust\n"
        ));
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n\
             max_connections = 300\nmax_prepared_transactions = 5\nshared_buffers = 32MB\n\
             dynamic_shared_memory_type = mmap\nautovacuum = off\njit = off\n{more}",
            cluster.directory.display()
        );
        cluster.write("postgresql.conf", &settings);
        cluster.start_on_free_port();
        let role = format!(
            "CREATE ROLE rolegate LOGIN; CREATE ROLE {LOCKED_USER} LOGIN PASSWORD '{LOCKED_PASSWORD}'"
        );
        cluster.sql("postgres", &role);
        cluster
    }

    /// A standby of this server, which follows it as it is now, with more lines for its
    /// `postgresql.conf`.
    pub(crate) fn standby(&self, more: &str) -> Cluster {
        let mut standby = Self::in_new_directory();
        let port = self.port.to_string();
        standby.run("pg_basebackup", |backup| {
            backup
                .args(["--host=127.0.0.1", "--port", &port, "--username=postgres"])
                .args(["--wal-method=stream", "--checkpoint=fast", "--no-sync"])
                .arg("--write-recovery-conf");
        });
        let directory = standby.directory.display();
        let settings = format!("unix_socket_directories = '{directory}'\n{more}");
        standby.write("postgresql.conf", &settings);
        standby.start_on_free_port();
        standby
    }

    /// Cuts a standby off from its primary: from now on nothing reaches it.
    pub(crate) async fn cut_off(&self) {
        self.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
        self.until("the standby is cut off", "SELECT count(*) = 0 FROM pg_stat_wal_receiver").await;
    }

    /// Waits until a standby of this server has all that was written so far.
    pub(crate) async fn has_reached(&self, standby: &Cluster) {
        let mut admin = self.admin("postgres").await;
        let end: String = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text")
            .fetch_one(&mut admin)
            .await
            .unwrap();
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
        standby.until("the standby has caught up", &reached).await;
    }

    async fn until(&self, what: &str, condition: &str) {
        let mut admin = self.admin("postgres").await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let condition = sqlx::query_scalar(AssertSqlSafe(condition.to_owned()));
            let holds: Option<bool> = condition.fetch_one(&mut admin).await.unwrap();
            if holds == Some(true) {
                return;
            }
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        let output = self.command("pg_ctl").args(["-w", "promote"]).output().unwrap();
        assert!(output.status.success(), "{}", self.said(&output));
    }

    /// Without anything in it, watched by a keeper.
    fn in_new_directory() -> Cluster {
        let directory = tempfile::Builder::new().prefix("rg-pg-").tempdir_in("/tmp").unwrap();
        let directory = TempDir::keep(directory);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is typed at the tests' terminal is not for the keeper.
            .process_group(0)
            .spawn()
            .unwrap();
        Cluster { directory, port: 0, databases: AtomicU32::new(0), keeper }
    }

    fn start_on_free_port(&mut self) {
        let mut attempts = 0;
        loop {
            self.port = free_port();
            let started = self.try_restart();
            if started.status.success() {
                return;
            }
            attempts += 1;
            assert!(attempts < 5, "{}", self.said(&started));
        }
    }

    /// The port on 127.0.0.1, the same after a restart.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A new, empty database of an ordinary user.
    pub(crate) fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER rolegate"));
        name
    }

    /// That database over TCP.
    pub(crate) fn url(&self, database: &str) -> String {
        Self::url_at(self.port, database)
    }

    /// That database behind another port, which leads to this server.
    pub(crate) fn url_at(port: u16, database: &str) -> String {
        format!("postgres://rolegate@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// That database over the Unix socket.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        let directory = self.directory.display();
        format!("postgres:///{database}?host={directory}&port={}&user=rolegate", self.port)
    }

    /// A connection of the superuser.
    pub(crate) async fn admin(&self, database: &str) -> PgConnection {
        let url = format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port);
        PgConnection::connect(&url).await.unwrap()
    }

    /// Runs statements as the superuser, on a connection of their own.
    pub(crate) fn sql(&self, database: &str, statements: &str) {
        // Tests call this from inside and outside of runtimes.
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let mut admin = self.admin(database).await;
                    for statement in statements.split(';').filter(|text| !text.trim().is_empty()) {
                        admin.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
                    }
                    admin.close().await.unwrap();
                });
            });
            work.join().unwrap();
        });
    }

    /// What the server has logged since it was made.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Whether one of the libraries that come with the server, often in a package of their own, is
    /// there.
    pub(crate) fn has_library(&self, name: &str) -> bool {
        let found = Command::new("pg_config").arg("--pkglibdir").output();
        let directory = found.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let beside = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .filter(|directory| directory.join("postgres").exists())
            .map(|directory| directory.join("../lib"))
            .collect::<Vec<_>>();
        let told = directory.ok().map(|text| PathBuf::from(text.trim()));
        let mut places = told.into_iter().chain(beside);
        places.any(|place| place.join(format!("{name}.so")).exists())
    }

    /// How many connections a user has.
    pub(crate) async fn sessions_of(&self, user: &str) -> i64 {
        let mut admin = self.admin("postgres").await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        let count = sqlx::query_scalar(sql).bind(user).fetch_one(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        count
    }

    /// Stops it the way an operator does: what is under way is cut off.
    pub(crate) fn stop(&self) {
        let output = self.command("pg_ctl").args(["-m", "fast", "-w", "stop"]).output().unwrap();
        assert!(output.status.success(), "{}", self.said(&output));
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`].
    pub(crate) fn restart(&self) {
        let output = self.try_restart();
        assert!(output.status.success(), "{}", self.said(&output));
    }

    /// SIGSTOP for the server and each of its processes: connections stay open, nobody answers.
    pub(crate) fn pause(&self) {
        // The postmaster comes first, so that it makes no more of them.
        let processes = self.processes();
        suspend(processes[0]);
        for id in &self.processes()[1..] {
            suspend(*id);
        }
    }

    /// Ends a pause.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// SIGKILL for the server and each of its processes.
    pub(crate) fn kill(&self) {
        let processes = self.processes();
        self.signal("KILL");
        let deadline = Instant::now() + PATIENCE;
        while processes.iter().any(|id| Path::new("/proc").join(id.to_string()).exists()) {
            assert!(Instant::now() < deadline, "the server survives SIGKILL");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        // The postmaster comes first, so that it makes no more of them.
        for id in self.processes() {
            // One of them may have ended by itself.
            Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().unwrap();
        }
    }

    /// The postmaster and its children.
    fn processes(&self) -> Vec<u32> {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let postmaster: u32 = file.lines().next().unwrap().trim().parse().unwrap();
        let parent = postmaster.to_string();
        let output = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().unwrap();
        let children = String::from_utf8(output.stdout).unwrap();
        let children = children.split_whitespace().map(|id| id.parse().unwrap());
        std::iter::once(postmaster).chain(children).collect()
    }

    fn try_restart(&self) -> Output {
        let log = self.directory.join("log");
        let port = format!("-p {}", self.port);
        self.command("pg_ctl")
            .args(["-w", "-t", "60", "-o", &port, "-l"])
            .arg(log)
            .arg("start")
            // The server would keep a pipe open for as long as it lives.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .unwrap()
    }

    /// A program of PostgreSQL's, as a user that it likes, with the data directory.
    fn command(&self, program: &str) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", program]);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(self.directory.join("data")).current_dir(&self.directory);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command)) {
        let mut command = self.command(program);
        arguments(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program}: {}", self.said(&output));
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.directory.join("data").join(file);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        if path.ends_with("pg_hba.conf") {
            file.set_len(0).unwrap();
        }
        file.write_all(text.as_bytes()).unwrap();
    }

    fn said(&self, output: &Output) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}{}{log}", text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

/// A user who needs a password over TCP.
pub(crate) const LOCKED_USER: &str = "locked";
/// That password; it has what a URL would have to encode.
pub(crate) const LOCKED_PASSWORD: &str = "s3cret/@:?#%&";

pub(crate) fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that start at the same time begin at different places.
    let start = std::process::id() * 37;
    let count = u32::from(PORTS.end - PORTS.start);
    loop {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
