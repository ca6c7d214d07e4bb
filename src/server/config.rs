//! What a server can be told.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;

use super::decision_log::DecisionLogConfig;
use super::limits::ServeLimits;
use super::tls::TlsFiles;
use crate::http::Listener;
use crate::service::warm_up::WarmUp;
use crate::service::watch::WatchLimits;
use crate::store::{FollowLimits, OpenOptions};

/// A catalog besides those that ship with the program.
#[derive(Debug, Clone)]
pub struct CatalogFile {
    /// Where it comes from, for messages.
    pub origin: String,
    /// Its TOML.
    pub source: String,
}

/// Where a server listens.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: Listener,
    /// For operators, if they want it.
    pub admin: Option<Listener>,
}

impl From<TcpListener> for Listeners {
    /// For gRPC only.
    fn from(grpc: TcpListener) -> Self {
        Listeners { grpc: grpc.into(), admin: None }
    }
}

/// Everything that [`super::run`] wants to know. The command line documents each of them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: OpenOptions,
    /// More catalogs.
    pub catalogs: Vec<CatalogFile>,
    /// No caller authentication. Loopback only.
    pub dev: bool,
    /// Who may call; `None`: development mode only.
    pub callers: Option<PathBuf>,
    /// How to encrypt; `None`: not at all, which is for loopback.
    pub tls: Option<TlsFiles>,
    /// Serve health and metrics over TLS too.
    pub admin_tls: bool,
    /// Do not encrypt even where others are on the way: something before this server does.
    pub insecure_plaintext: bool,
    /// Fill the demo tenants, if they are not there.
    pub demo: bool,
    /// What the caches may take, in bytes.
    pub cache_bytes: u64,
    /// What to put into the caches before the server says that it is ready.
    pub warm_up: WarmUp,
    /// How old what is cached may be, and how long to go on without the database.
    pub follow: FollowLimits,
    /// What watching may take. Its grace is that of `follow`.
    pub watch: WatchLimits,
    /// How long the audit trail is kept; `None`: for good.
    pub audit_retention: Option<Duration>,
    /// How many threads serve connections; `None`: one for each core.
    pub workers: Option<usize>,
    /// What to log of decisions; `None`: nothing.
    pub decision_log: Option<DecisionLogConfig>,
    /// The largest request message, in bytes.
    pub max_message_bytes: usize,
    /// What connections and calls may take.
    pub limits: ServeLimits,
    /// The longest that a request may take.
    pub request_timeout: Duration,
    /// How long to go on serving as NOT_SERVING before connections are drained, so that load
    /// balancers notice first.
    pub drain_delay: Duration,
    /// How long draining may take before what is left is cut off.
    pub drain_timeout: Duration,
}

impl Config {
    /// The defaults of the command line, on this database.
    #[must_use]
    pub fn new(database_url: impl Into<String>) -> Self {
        Config {
            database: OpenOptions::new(database_url),
            catalogs: Vec::new(),
            dev: false,
            callers: None,
            tls: None,
            admin_tls: false,
            insecure_plaintext: false,
            demo: false,
            cache_bytes: 256 << 20,
            warm_up: WarmUp { tenants: 0, timeout: Duration::from_secs(10) },
            follow: FollowLimits::default(),
            watch: WatchLimits::default(),
            audit_retention: None,
            workers: None,
            decision_log: None,
            max_message_bytes: 8 << 20,
            limits: ServeLimits::default(),
            request_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
