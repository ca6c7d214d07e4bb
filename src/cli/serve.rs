//! `rolegate serve`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use rolegate::files;
use rolegate::server::{self, CatalogFile, Config, DecisionLogConfig, Listeners, TlsFiles};
use rolegate::service::warm_up::WarmUp;
use rolegate::service::watch::WatchLimits;
use rolegate::store::FollowLimits;

use super::Failure;
use super::database::DatabaseArgs;
use super::limits::LimitArgs;
use super::listen::ListenAddr;

/// An address, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdminAddr(pub(super) Option<ListenAddr>);

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(AdminAddr(None));
        }
        let address = text.parse().map_err(|error: String| format!("{error}; or `none`"));
        address.map(|address| AdminAddr(Some(address)))
    }
}

/// How to encrypt.
#[derive(Debug, Args)]
struct TlsArgs {
    /// The server's certificate and what leads to its authority, in PEM. Read again when it changes,
    /// as the other two are.
    #[arg(long, env = "ROLEGATE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(long, env = "ROLEGATE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authorities of client certificates, in PEM. With it, certificates are asked for; a caller
    /// without one may prove itself by a token.
    #[arg(long, env = "ROLEGATE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Serve health and metrics over TLS too, with the same certificate.
    #[arg(long, env = "ROLEGATE_ADMIN_TLS", value_parser = BoolishValueParser::new())]
    admin_tls: bool,
    /// Serve callers without TLS on other addresses than loopback, because something before this
    /// server does TLS.
    #[arg(long, env = "ROLEGATE_INSECURE_PLAINTEXT", value_parser = BoolishValueParser::new())]
    insecure_plaintext: bool,
}

impl TlsArgs {
    fn files(self) -> Option<TlsFiles> {
        let TlsArgs { tls_cert, tls_key, tls_client_ca, .. } = self;
        Some(TlsFiles { certificate: tls_cert?, key: tls_key?, client_ca: tls_client_ca })
    }
}

/// What `serve` wants to know.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Bring the database's schema up to date first, as `rolegate migrate` does: for platforms that
    /// run one command. Several that do so take turns. On SQLite it is always done.
    #[arg(long, env = "ROLEGATE_MIGRATE")]
    migrate: bool,
    /// Where to listen for gRPC: HOST:PORT, :PORT for every address of the machine, or unix:PATH.
    #[arg(
        long,
        env = "ROLEGATE_GRPC_ADDR",
        value_name = "ADDR",
        default_value = "127.0.0.1:50051"
    )]
    grpc_addr: ListenAddr,
    /// Where to listen for health checks and metrics, in plain HTTP and open to whoever reaches it:
    /// `/livez`, `/readyz`, `/metrics`, `/version`. HOST:PORT, :PORT or unix:PATH; `none` switches it
    /// off.
    #[arg(
        long,
        env = "ROLEGATE_ADMIN_ADDR",
        value_name = "ADDR",
        default_value = "127.0.0.1:50052"
    )]
    admin_addr: AdminAddr,
    /// A catalog besides `oqupie` and `qpien`; can be given several times.
    #[arg(long = "catalog", env = "ROLEGATE_CATALOG", value_name = "FILE", value_delimiter = ',')]
    catalogs: Vec<PathBuf>,
    /// Who may call, how each proves who it is, and what it may do. Read again when it changes.
    #[arg(long, env = "ROLEGATE_CALLERS", value_name = "FILE")]
    callers: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Do not authenticate callers. Refuses to listen on anything but loopback.
    #[arg(long, env = "ROLEGATE_DEV", value_parser = BoolishValueParser::new())]
    dev: bool,
    /// Fill two demo tenants, `demo-oqupie` and `demo-qpien`, if they are not there.
    #[arg(long, env = "ROLEGATE_DEMO", value_parser = BoolishValueParser::new())]
    demo: bool,
    /// What the caches may take, in MiB.
    #[arg(long, env = "ROLEGATE_CACHE_MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    cache_mib: u64,
    /// Load so many tenants with their members into the caches before saying to be ready, those with the
    /// most active members first, up to half of what the caches may take.
    #[arg(long, env = "ROLEGATE_WARM_UP_TENANTS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warm_up_tenants: u32,
    /// How long that may take, in seconds. After it, what is not loaded is read when it is asked for.
    #[arg(long, env = "ROLEGATE_WARM_UP_TIMEOUT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    warm_up_timeout: u64,
    /// A revoke is seen by decisions within this many milliseconds of its commit, by whatever process
    /// it was made, while the database answers.
    #[arg(long, env = "ROLEGATE_MAX_STALENESS_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(500..=600_000))]
    max_staleness_ms: u64,
    /// How long to go on deciding from what is cached when the database does not answer, in seconds.
    #[arg(long, env = "ROLEGATE_OUTAGE_GRACE", default_value_t = 60)]
    outage_grace: u64,
    /// How many Watch streams may be open at the same time.
    #[arg(long, env = "ROLEGATE_MAX_WATCH_STREAMS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_watch_streams: u32,
    /// How many of them one caller may have.
    #[arg(long, env = "ROLEGATE_MAX_WATCH_STREAMS_PER_CALLER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_watch_streams_per_caller: u32,
    /// How long a Watch stream is silent before its client gets a heartbeat, in seconds.
    #[arg(long, env = "ROLEGATE_WATCH_HEARTBEAT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    watch_heartbeat: u64,
    /// How long a Watch client may not read while there are changes for it, in seconds, before it is
    /// disconnected.
    #[arg(long, env = "ROLEGATE_WATCH_PATIENCE", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    watch_patience: u64,
    /// Delete audit events that are older than this many days. 0: keep them for good.
    #[arg(long, env = "ROLEGATE_AUDIT_RETENTION_DAYS", default_value_t = 0, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    audit_retention_days: u32,
    /// How many threads serve connections. By default one for each core.
    #[arg(long, env = "ROLEGATE_WORKERS", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    workers: Option<u32>,
    /// Log decisions to this file, as lines of JSON; `-`: to standard output. It names members and
    /// resources.
    #[arg(long, env = "ROLEGATE_DECISION_LOG", value_name = "FILE")]
    decision_log: Option<PathBuf>,
    /// Log one decision in so many, chosen at random. 1: all of them.
    #[arg(
        long,
        env = "ROLEGATE_DECISION_LOG_SAMPLE",
        default_value = "1",
        value_name = "N",
        requires = "decision_log"
    )]
    decision_log_sample: NonZeroU32,
    /// The largest request message, in KiB.
    #[arg(long, env = "ROLEGATE_MAX_MESSAGE_KIB", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(64..=262_144))]
    max_message_kib: u32,
    /// The longest that a request may take, in seconds. A client's own deadline counts if it is
    /// shorter.
    #[arg(long, env = "ROLEGATE_REQUEST_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    request_timeout: u64,
    #[command(flatten)]
    limits: LimitArgs,
    /// How long to go on serving as NOT_SERVING after a signal, in seconds, so that load balancers
    /// notice first.
    #[arg(long, env = "ROLEGATE_DRAIN_DELAY", default_value_t = 0)]
    drain_delay: u64,
    /// How long open connections may take to end, in seconds.
    #[arg(long, env = "ROLEGATE_DRAIN_TIMEOUT", default_value_t = 30)]
    drain_timeout: u64,
}

/// Serves until a signal comes.
pub(super) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let mut database = args.database.options()?;
    database.migrate |= args.migrate;
    let mut catalogs = Vec::new();
    for path in &args.catalogs {
        catalogs.push(read_catalog(path)?);
    }
    let grpc = args.grpc_addr.listen("--grpc-addr").await?;
    let admin = match args.admin_addr {
        AdminAddr(Some(address)) => Some(address.listen("--admin-addr").await?),
        AdminAddr(None) => None,
    };
    let config = Config {
        database,
        catalogs,
        dev: args.dev,
        callers: args.callers,
        admin_tls: args.tls.admin_tls,
        insecure_plaintext: args.tls.insecure_plaintext,
        tls: args.tls.files(),
        demo: args.demo,
        cache_bytes: args.cache_mib << 20,
        warm_up: WarmUp {
            tenants: args.warm_up_tenants,
            timeout: Duration::from_secs(args.warm_up_timeout),
        },
        follow: FollowLimits {
            staleness: Duration::from_millis(args.max_staleness_ms),
            outage_grace: Duration::from_secs(args.outage_grace),
            ..FollowLimits::default()
        },
        watch: WatchLimits {
            streams: args.max_watch_streams as usize,
            streams_per_caller: args.max_watch_streams_per_caller as usize,
            heartbeat: Duration::from_secs(args.watch_heartbeat),
            patience: Duration::from_secs(args.watch_patience),
            ..WatchLimits::default()
        },
        audit_retention: (args.audit_retention_days > 0)
            .then(|| Duration::from_secs(24 * 60 * 60) * args.audit_retention_days),
        workers: args.workers.map(|workers| workers as usize),
        decision_log: args.decision_log.map(|file| DecisionLogConfig {
            file: Some(file).filter(|file| file.as_os_str() != "-"),
            one_in: args.decision_log_sample,
        }),
        limits: args.limits.limits(),
        max_message_bytes: (args.max_message_kib as usize) << 10,
        request_timeout: Duration::from_secs(args.request_timeout),
        drain_delay: Duration::from_secs(args.drain_delay),
        drain_timeout: Duration::from_secs(args.drain_timeout),
    };
    let running = server::run(config, Listeners { grpc, admin }, signal()?);
    Ok(Box::pin(running).await?)
}

/// Reads a catalog file; what is in it is looked at later.
pub(super) fn read_catalog(path: &Path) -> Result<CatalogFile, Failure> {
    let source = files::read_text(path).map_err(|error| format!("the catalog {error}"))?;
    Ok(CatalogFile { origin: path.display().to_string(), source })
}

/// Completes with the first SIGTERM or SIGINT.
fn signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
