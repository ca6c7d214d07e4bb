//! From the listener to the thread that serves a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::worker::Worker;
use crate::domain::throttle::Throttle;
use crate::http::{Detached, Listener};
use crate::server::limits::{Door, Place};

/// What to wait after a connection could not be accepted, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that nothing was read from yet.
pub(super) struct Arrival {
    /// Not yet of any runtime.
    pub(super) stream: Detached,
    pub(super) place: Place,
    /// Turns true when the connection is to end; draining waits until it is dropped.
    pub(super) draining: watch::Receiver<bool>,
}

/// Gives each connection to the thread that has the fewest. Dropping it closes the listener.
pub(super) async fn accept(
    listener: Listener,
    door: Arc<Door>,
    workers: Arc<[Worker]>,
    draining: watch::Sender<bool>,
) {
    loop {
        let accepted = match listener.accept().await {
            Ok((stream, address)) => match door.enter(address) {
                Some(place) => stream.detach().map(|stream| (stream, place)),
                // Closed at once: there is no status before HTTP/2 is spoken.
                None => continue,
            },
            Err(error) => Err(error),
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                static REFUSED: Throttle = Throttle::each_second();
                if let Some(more) = REFUSED.admit() {
                    tracing::warn!(%error, more, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let arrival = Arrival { stream, place, draining: draining.subscribe() };
        if let Some(worker) = workers.iter().min_by_key(|worker| worker.open()) {
            worker.give(arrival);
        }
    }
}
