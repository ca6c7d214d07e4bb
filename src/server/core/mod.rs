//! The serving core: one thread for each core, each with a runtime of its own. A connection is given
//! to one of them when it is accepted and stays there, so that a request is read, decided and
//! answered without leaving its core. What waits for the database, and whatever else is to be done,
//! is done by the runtime of the process.
//!
//! An acceptor hands the connections out. Sharing the port between threads (SO_REUSEPORT) would let
//! a second server take it over unnoticed, and spread few connections unevenly.
//!
//! Why not one runtime for all: where tasks may move between threads, nearly every answer becomes a
//! write of its own. On one thread the answers to what came together leave together.

mod accept;
mod beginning;
mod calls;
mod connection;
mod message;
mod minder;
mod probe;
mod refusal;
mod signpost;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::limits::{Door, ServeLimits};
use super::tls::Tls;
use crate::grpc::api::{self, Shared};
use crate::grpc::health::Health;
use crate::http::Listener;
use crate::service::decide::Decisions;
use crate::store::Cached;

use self::worker::Worker;

type Api = api::Api<Cached>;

/// What calls are answered with.
pub(super) struct Everything {
    /// Any method.
    pub(super) api: Api,
    /// What is asked most, for the way that is short.
    pub(super) decisions: Decisions<Cached>,
    /// What is asked by everybody.
    pub(super) health: Health,
    pub(super) shared: Shared,
}

/// Makes it anew for each thread: what threads refer to together costs each of them.
pub(super) type MakeEverything = Arc<dyn Fn() -> Everything + Send + Sync>;

/// How to serve.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) everything: MakeEverything,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) limits: ServeLimits,
    /// How long a connection may take to end after it was asked to.
    pub(super) patience: Duration,
}

/// A core that serves.
pub(super) struct Core {
    acceptor: JoinHandle<()>,
    /// Turns true when connections are asked to end; each has a receiver.
    draining: watch::Sender<bool>,
    workers: Arc<[Worker]>,
}

impl Core {
    /// Serves what comes to this listener on so many threads.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub(super) fn start(
        listener: Listener,
        door: Arc<Door>,
        workers: usize,
        serving: &Serving,
    ) -> io::Result<Self> {
        let workers: io::Result<Arc<[Worker]>> =
            (0..workers.max(1)).map(|number| Worker::start(number, serving.clone())).collect();
        let workers = workers?;
        let draining = watch::Sender::new(false);
        let accepting = accept::accept(listener, door, Arc::clone(&workers), draining.clone());
        Ok(Core { acceptor: tokio::spawn(accepting), draining, workers })
    }

    /// Completes if nothing is accepted any more, which it always should be.
    pub(super) async fn ended(&mut self) {
        (&mut self.acceptor).await.ok();
    }

    /// Accepts nothing more, asks all connections to end, and waits for that: `false` when some did
    /// not in time and were cut off.
    pub(super) async fn drain(self, time: Duration) -> bool {
        self.acceptor.abort();
        self.draining.send_replace(true);
        let ended = tokio::time::timeout(time, self.draining.closed()).await.is_ok();
        let workers = self.workers;
        // Threads end in their own time, but in little of it.
        tokio::task::spawn_blocking(move || workers.iter().for_each(Worker::stop)).await.ok();
        ended
    }
}
