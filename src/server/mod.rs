//! The composition root: everything is put together here, and nowhere else. [`run`] is what `main`
//! and the tests call alike.

mod callers;
mod catalogs;
mod config;
mod core;
mod decision_log;
mod demo;
mod housekeeping;
mod jwks;
mod limits;
mod metrics;
mod process;
mod reload;
mod security;
mod strangers;
mod tls;
mod warming;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic_reflection::pb::{v1, v1alpha};

pub use catalogs::CatalogError;
pub use config::{CatalogFile, Config, Listeners};
pub use decision_log::DecisionLogConfig;
pub use limits::ServeLimits;
pub use security::SecurityError;
pub use tls::{TlsFiles, client_config};

use self::core::{Core, Everything, MakeEverything, Serving};
use self::decision_log::Writing;
use self::limits::Door;
use self::security::Security;
use self::warming::ready_when_warm;

use crate::grpc::admission::Room;
use crate::grpc::api::{Methods, Shared};
use crate::grpc::edge::EdgeLimits;
use crate::grpc::health::Health;
use crate::grpc::meter::RpcCounts;
use crate::grpc::reflection::{MAX_QUESTION_BYTES, Reflection};
use crate::grpc::{self, AuthzApi, CheckStreams, MemberApi, RoleApi, TenantApi};
use crate::http::{Admin, Metrics, Version};
use crate::service::decide::Decisions;
use crate::service::follow::Follower;
use crate::service::members::Members;
use crate::service::readiness::Readiness;
use crate::service::roles::Roles;
use crate::service::seal::Seal;
use crate::service::tenants::Tenants;
use crate::service::token::Tokens;
use crate::service::watch::{WatchLimits, Watches};
use crate::store::{
    Cached, ChangeListener, FollowLimits, OpenError, SqlStore, StoreError, newest_schema,
};

/// The services that are served, for the names of their methods.
const DESCRIPTORS: [&[u8]; 4] = [
    grpc::pb::DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];
/// What a connection gets to end beyond the time that a call may take.
const CLOSING: Duration = Duration::from_secs(5);

/// Why a server does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Callers could not be told apart, or be overheard.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The demo could not be set up.
    #[error("the demo tenants could not be made: {0}")]
    Demo(String),
    /// Decisions were to be logged, and cannot be.
    #[error("{0}")]
    DecisionLog(String),
    /// The listener failed.
    #[error("the gRPC server failed: {0}")]
    Transport(String),
}

/// The use cases over one store.
#[derive(Debug, Clone)]
pub struct Services {
    /// Decisions, from the cache.
    pub decisions: Decisions<Cached>,
    /// Roles.
    pub roles: Roles,
    /// Tenants.
    pub tenants: Tenants,
    /// Members.
    pub members: Members,
    /// The cache that decisions come from.
    pub cache: Arc<Cached>,
    /// The database's consistency tokens.
    pub tokens: Tokens,
}

impl Services {
    /// Puts the use cases together, with a cache that hears of every change, for so many threads that
    /// decide.
    #[must_use]
    pub fn new(store: &SqlStore, cache_bytes: u64, threads: usize, limits: FollowLimits) -> Self {
        let cache = Cached::new(store.clone(), cache_bytes, limits).for_threads(threads);
        let cache = Arc::new(cache);
        let listener: Arc<dyn ChangeListener> = Arc::clone(&cache) as _;
        if store.set_listener(listener).is_err() {
            // The cache that listens already stays right; this one would not.
            tracing::error!("a second cache on one store: it hears of no changes");
        }
        let tokens = Tokens::new(store.identity());
        let seal = Seal::new(store.identity().signing_key);
        Services {
            decisions: Decisions::new(Arc::clone(&cache), tokens.clone()),
            roles: Roles::new(store.clone(), tokens.clone(), seal.clone()),
            tenants: Tenants::new(store.clone(), tokens.clone(), seal.clone()),
            members: Members::new(store.clone(), tokens.clone(), seal),
            cache,
            tokens,
        }
    }
}

/// Serves until `shutdown` completes, then drains and closes the database.
///
/// # Errors
/// See [`ServeError`]; everything that can be wrong with the set-up is found before the first
/// connection is taken.
pub async fn run(
    config: Config,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let Listeners { grpc: listener, admin: admin_listener } = listeners.into();
    let address = listener.local_address().map_err(transport)?;
    let security = Security::start(&config, &address).await?;
    // Health and metrics come first and go last, so that the start and the end can be watched too.
    let readiness = Readiness::starting();
    let admin = Arc::new(Admin {
        readiness: readiness.clone(),
        metrics: Metrics::new(),
        version: Version::current(newest_schema()),
    });
    metrics::of_process(&admin.metrics, &admin.version);
    // Aborted when it is dropped.
    let mut background = JoinSet::new();
    if let Some(listener) = admin_listener {
        let address = listener.local_address().map_err(transport)?;
        tracing::info!(%address, "serving health and metrics");
        background.spawn(Arc::clone(&admin).serve(listener, security.admin_tls(&config)));
    }
    let mut shutdown = pin!(shutdown);
    readiness.hindered(Some("the database is not open yet"));
    let store = tokio::select! {
        opened = SqlStore::open(&config.database) => opened?,
        () = &mut shutdown => {
            tracing::info!("stopped before the database was open");
            return Ok(());
        }
    };
    readiness.hindered(None);
    store.check_rights().await?;
    catalogs::load(&store, &config.catalogs).await?;
    let workers = config.workers.unwrap_or_else(cores);
    let mut services = Services::new(&store, config.cache_bytes, workers, config.follow);
    let decision_log = match config.decision_log {
        Some(config) => Some(Writing::start(config).await.map_err(ServeError::DecisionLog)?),
        None => None,
    };
    if let Some(writing) = &decision_log {
        services.decisions = services.decisions.logged(writing.log());
        metrics::of_decision_log(&admin.metrics, Arc::clone(writing.log().counts()));
    }
    // Before anything is cached: what is cached from now on is followed from now on.
    let (cache, tokens) = (Arc::clone(&services.cache), services.tokens.clone());
    let follower = Follower::start(store.clone(), cache, tokens, readiness.clone()).await?;
    let follower = tokio::spawn(follower.run());
    let grace = config.follow.outage_grace;
    let watch_limits = WatchLimits { outage_grace: grace, ..config.watch };
    let watches = Watches::new(store.clone(), services.tokens.clone(), watch_limits);
    background.spawn(watches.clone().run());
    if config.demo {
        demo::fill(&services).await?;
    }
    let tenants = services.tenants.clone();
    let housekeeping =
        tokio::spawn(housekeeping::run(store.clone(), tenants, config.audit_retention));
    let rpcs = Arc::new(RpcCounts::of(&DESCRIPTORS).map_err(transport)?);
    metrics::of_watching(&admin.metrics, Arc::clone(watches.counts()));
    metrics::of_services(&admin.metrics, &services, &store, Arc::clone(&rpcs), config.cache_bytes);
    let (warm_up, bytes) = (config.warm_up, config.cache_bytes);
    let warming = ready_when_warm(warm_up, bytes, &store, &services.cache, &readiness);
    metrics::of_security(&admin.metrics, &security);
    let door = Door::new(&config.limits);
    let room = Arc::new(Room::new(config.limits.room(config.max_message_bytes)));
    metrics::of_limits(&admin.metrics, Arc::clone(&door), Arc::clone(&room));
    let limits =
        EdgeLimits { message_bytes: config.max_message_bytes, time: config.request_timeout };
    let streams = CheckStreams::default();
    let health = Health::new(readiness.clone());
    let shared = Shared { rpcs, limits, authenticator: security.authenticator(), room };
    let serving = Serving {
        everything: everything(services, watches.clone(), streams.clone(), health, shared)?,
        tls: security.tls(),
        limits: config.limits,
        patience: config.request_timeout + CLOSING,
    };
    background.spawn(security.keep_up_to_date());
    let mut core = Core::start(listener, door, workers, &serving).map_err(transport)?;
    tracing::info!(%address, workers, "serving gRPC");
    if config.demo && config.dev && config.tls.is_none() {
        demo::show_first_check(&address.to_string());
    }
    let served = tokio::select! {
        () = core.ended() => Err(transport("nothing is accepted any more")),
        () = &mut shutdown => {
            tracing::info!("shutting down: not serving any more, then draining");
            readiness.draining();
            tokio::time::sleep(config.drain_delay).await;
            // Streams would go on for as long as their clients want.
            watches.drain();
            streams.drain();
            if !core.drain(config.drain_timeout).await {
                tracing::warn!("connections were still open after the drain timeout");
            }
            Ok(())
        }
    };
    if let Some(writing) = decision_log {
        writing.finish().await;
    }
    if let Some(warming) = warming {
        warming.abort();
    }
    housekeeping.abort();
    follower.abort();
    store.close().await;
    tracing::info!("stopped");
    served
}

/// Makes all methods anew for each thread.
fn everything(
    services: Services,
    watches: Watches,
    streams: CheckStreams,
    health: Health,
    shared: Shared,
) -> Result<MakeEverything, ServeError> {
    // With the details that errors carry, so that clients without generated code can read them.
    let described = [&DESCRIPTORS[..], &[tonic_types::pb::FILE_DESCRIPTOR_SET]].concat();
    let reflection = Reflection::of(&described).map_err(transport)?;
    Ok(Arc::new(move || {
        let Services { decisions, roles, tenants, members, .. } = services.clone();
        let authz = AuthzApi::new(decisions.clone(), roles.clone(), watches.clone());
        let methods = Methods::new(
            authz,
            (&streams, decisions.clone()),
            RoleApi::new(roles),
            TenantApi::new(tenants),
            MemberApi::new(members),
            shared.limits.message_bytes,
        );
        let v1 = v1::server_reflection_server::ServerReflectionServer::new(reflection.clone())
            .max_decoding_message_size(MAX_QUESTION_BYTES);
        let v1alpha =
            v1alpha::server_reflection_server::ServerReflectionServer::new(reflection.clone())
                .max_decoding_message_size(MAX_QUESTION_BYTES);
        let methods = methods.and(|ours| ours.add_service(v1).add_service(v1alpha));
        let (api, health) = (shared.around(methods), health.clone());
        Everything { api, decisions, health, shared: shared.clone() }
    }))
}

/// One for each core that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn transport(error: impl std::fmt::Display) -> ServeError {
    ServeError::Transport(error.to_string())
}
