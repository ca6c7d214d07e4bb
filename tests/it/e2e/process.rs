//! A real server process on a real file, and clients for it over a real socket.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::member_service_client::MemberServiceClient;
use rolegate::grpc::pb::role_service_client::RoleServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running `rolegate serve`. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Where it serves health and metrics.
    pub(crate) admin: Option<String>,
    log: Arc<Mutex<String>>,
}

/// What a server that did not come up left behind.
#[derive(Debug)]
pub(crate) struct DidNotStart {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

/// The binary with these arguments, told nothing by the environment.
pub(crate) fn rolegate(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rolegate"));
    for (name, _) in std::env::vars() {
        if name.starts_with("ROLEGATE_") {
            command.env_remove(name);
        }
    }
    // Many run at the same time; whoever wants an admin port asks for a free one.
    command.env("ROLEGATE_ADMIN_ADDR", "none");
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command
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
        let mut child = rolegate(directory, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
            Ok((address, admin)) => Ok(Server { child, address, admin, log }),
            Err(_) => {
                child.kill().ok();
                let code = child.wait().unwrap().code();
                reader.join().unwrap();
                let stderr = log.lock().unwrap().clone();
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
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.unwrap().success());
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
