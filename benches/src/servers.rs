//! Servers to measure: this very program once more, so that all are built alike, on a core of their
//! own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::machine::{self, CORE_VARIABLE, SERVER_CORE};
use rolegate_bench::Failure;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// The service, by its own command line. Callers, metrics and logs are on.
    pub(crate) fn rolegate(
        program: &Path,
        directory: &Path,
        name: &str,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let (address, admin) = (free_address()?, free_address()?.to_string());
        let grpc = address.to_string();
        let mut arguments = vec!["serve", "--grpc-addr", &grpc, "--admin-addr", &admin];
        arguments.extend_from_slice(more);
        let mut command = Command::new(program);
        command.arg0("rolegate").args(arguments);
        Server::start(directory, name, command, address)
    }

    /// An echo: `echo-default` or `echo-tuned`.
    pub(crate) fn echo(
        program: &Path,
        directory: &Path,
        which: &str,
        reply: usize,
    ) -> Result<Self, Failure> {
        let address = free_address()?;
        let (listen, reply) = (address.to_string(), reply.to_string());
        let mut command = Command::new(program);
        command.args([which, "--address", &listen, "--reply", &reply]);
        Server::start(directory, which, command, address)
    }

    fn start(
        directory: &Path,
        name: &str,
        mut command: Command,
        address: SocketAddr,
    ) -> Result<Self, Failure> {
        let log = directory.join(format!("{name}.log"));
        // Nothing of the surroundings may change what is measured.
        command.env_clear().env(CORE_VARIABLE, SERVER_CORE.to_string());
        command.current_dir(directory);
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let child = command.spawn()?;
        let mut server = Server { child, log, address };
        server.listening()?;
        Ok(server)
    }

    fn listening(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("a server does not start:\n{log}").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(Some(ended)) = self.child.try_wait() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("a server ended by itself, with {ended}:\n{log}");
        }
        machine::terminate(self.pid());
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE / 10 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Free a moment ago, and below the ports that connections are made from.
fn free_address() -> Result<SocketAddr, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 8_000) as u16;
    for _ in 0..4_000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no port is free".into())
}
