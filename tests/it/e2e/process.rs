//! A real server process on a real file, and clients for it over a real socket.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::member_service_client::MemberServiceClient;
use rolegate::grpc::pb::role_service_client::RoleServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(90);
/// Every secret that tests make up has it.
pub(crate) const MARK: &str = "planted-";
/// The same where a secret is hexadecimal.
pub(crate) const MARK_IN_HEX: &str = "706c616e7465642d";
/// What nothing may log, whatever happens to it: secrets that were planted, JSON web tokens, private
/// keys (all of P-256, so they begin alike), passwords, and SQL.
const UNSPEAKABLE: [&str; 12] = [
    MARK,
    MARK_IN_HEX,
    "eyJhbGciOi",
    "PRIVATE KEY",
    "MIGHAgEAMBMGByqGSM49",
    "s3cret",
    "SELECT ",
    "INSERT INTO",
    "UPDATE \"",
    "DELETE FROM",
    "PRAGMA",
    "CREATE TABLE",
];

/// A running `rolegate serve`. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Where it serves health and metrics.
    pub(crate) admin: Option<String>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// What a server that did not come up left behind.
#[derive(Debug)]
pub(crate) struct DidNotStart {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

/// The binary with these arguments, told nothing by the environment but to say all that it has to
/// say: none of it may be a secret.
pub(crate) fn rolegate(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rolegate"));
    for (name, _) in std::env::vars() {
        if name.starts_with("ROLEGATE_") {
            command.env_remove(name);
        }
    }
    // Many run at the same time; whoever wants an admin port asks for a free one.
    command.env("ROLEGATE_ADMIN_ADDR", "none");
    command.env("ROLEGATE_LOG", "trace");
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command
}

/// What comes of it.
pub(crate) fn output(directory: &Path, arguments: &[&str]) -> Output {
    let output = rolegate(directory, arguments).output().unwrap();
    tells_no_secret(&String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
pub(crate) fn tells_no_secret(log: &str) {
    for line in log.lines() {
        for secret in UNSPEAKABLE {
            assert!(!line.contains(secret), "{secret:?} is in a log: {line}");
        }
    }
}

impl Server {
    /// Starts one on any free port, with a database in this directory.
    pub(crate) fn start(directory: &Path, more: &[&str]) -> Server {
        Self::try_start(directory, more).unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub(crate) fn try_start(directory: &Path, more: &[&str]) -> Result<Server, DidNotStart> {
        let mut arguments =
            vec!["serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--log-format", "json"];
        arguments.extend(more);
        Self::spawn(directory, &arguments)
    }

    pub(crate) fn spawn(directory: &Path, arguments: &[&str]) -> Result<Server, DidNotStart> {
        let mut command = rolegate(directory, arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (found, address) = mpsc::channel();
        // The log must go on being read, or the server would block on a full pipe.
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut admin = None;
            for line in lines.map_while(Result::ok) {
                let parsed: Option<serde_json::Value> = serde_json::from_str(&line).ok();
                if let Some(line) = parsed
                    && let Some(address) = line["address"].as_str().map(str::to_owned)
                {
                    match line["message"].as_str() {
                        Some("serving health and metrics") => admin = Some(address),
                        Some("serving gRPC") => drop(found.send((address, admin.take()))),
                        _ => {}
                    }
                }
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok((address, admin)) => Ok(Server { child, address, admin, log, reader: Some(reader) }),
            Err(_) => {
                child.kill().ok();
                let code = child.wait().unwrap().code();
                reader.join().unwrap();
                let stderr = log.lock().unwrap().clone();
                tells_no_secret(&stderr);
                Err(DidNotStart { code, stderr })
            }
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.timeout(PATIENCE).connect().await.unwrap()
    }

    /// Ends it the way a process manager does, and waits for its own exit.
    pub(crate) async fn terminate(mut self) -> Option<i32> {
        signal(self.child.id(), "TERM");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            // Clients on this very thread must be able to say goodbye meanwhile.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server did not end on SIGTERM");
    }

    /// The log once this is in it: another thread reads what the process says.
    pub(crate) async fn log_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "{text:?} is not in the log: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without giving it a chance to do anything (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(reader) = self.reader.take()
            && reader.join().is_ok()
            && !std::thread::panicking()
        {
            tells_no_secret(&self.log.lock().unwrap());
        }
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.unwrap().success());
}

/// SIGSTOP, and until it has happened: a thread stops when it next runs, which on a busy machine may
/// be after it has answered some more. What is not there any more is as good as stopped.
pub(crate) fn suspend(process: u32) {
    // It may have ended by itself.
    Command::new("kill").args(["-STOP", &process.to_string()]).status().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !is_suspended(process) {
        assert!(Instant::now() < deadline, "{process} does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether each thread of a process is stopped.
fn is_suspended(process: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        // `4711 (name, which may have anything in it) T ...`
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
        matches!(state, None | Some('T' | 'Z' | 'X'))
    })
}

/// One client for each service.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) authz: AuthzServiceClient<Channel>,
    pub(crate) roles: RoleServiceClient<Channel>,
    pub(crate) tenants: TenantServiceClient<Channel>,
    pub(crate) members: MemberServiceClient<Channel>,
}

impl Clients {
    pub(crate) async fn connect(server: &Server) -> Clients {
        let channel = server.channel().await;
        Clients {
            authz: AuthzServiceClient::new(channel.clone()),
            roles: RoleServiceClient::new(channel.clone()),
            tenants: TenantServiceClient::new(channel.clone()),
            members: MemberServiceClient::new(channel),
        }
    }
}
