//! From a listener to connections that are ready to speak gRPC. Each handshake is a task of its own,
//! with a time limit, so that a client that dawdles holds up nobody else.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::Connection;
use super::{Chain, Tls, peer};
use crate::server::limits::{Door, Place};

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How many may be under way; more connections wait to be accepted.
const MAX_HANDSHAKES: usize = 256;
/// How many connections wait for the server to take them.
const WAITING: usize = 64;
/// What to wait after a connection could not be accepted, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listener. Dropping what is given closes the listener.
pub(in crate::server) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    door: Arc<Door>,
) -> ReceiverStream<Result<Connection, Infallible>> {
    let (ready, connections) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        tokio::select! {
            () = ready.closed() => {}
            () = accept(&listener, tls, &door, &ready) => {}
        }
    });
    ReceiverStream::new(connections)
}

async fn accept(
    listener: &TcpListener,
    tls: Option<Arc<Tls>>,
    door: &Arc<Door>,
    ready: &mpsc::Sender<Result<Connection, Infallible>>,
) {
    let free = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        // It is never closed.
        let Ok(turn) = Arc::clone(&free).acquire_owned().await else { return };
        let (stream, place) = match listener.accept().await {
            Ok((stream, address)) => match door.enter(address.ip()) {
                Some(place) => (stream, place),
                // Closed at once: there is no status before HTTP/2 is spoken.
                None => continue,
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without it small answers would wait for more; a connection on which it fails is broken.
        stream.set_nodelay(true).ok();
        match &tls {
            None => {
                if ready.send(Ok(Connection::plain(stream, place))).await.is_err() {
                    return;
                }
            }
            Some(tls) => {
                let (tls, ready) = (Arc::clone(tls), ready.clone());
                tokio::spawn(async move {
                    if let Some(connection) = handshake(&tls, stream, place).await {
                        ready.send(Ok(connection)).await.ok();
                    }
                    drop(turn);
                });
            }
        }
    }
}

/// The connection once both sides have shown what they must, if they do in time.
async fn handshake(tls: &Tls, stream: TcpStream, place: Place) -> Option<Connection> {
    let material = tls.material();
    let counts = &tls.handshakes;
    let accepting = TlsAcceptor::from(Arc::clone(&material.grpc)).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE_TIME, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            counts.timed_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
    };
    counts.done.fetch_add(1, Ordering::Relaxed);
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let Some(own) = chain.first() else { return Some(Connection::tls(stream, place, None)) };
    let end = tls.admit(&material, &chain)?;
    Some(Connection::tls(stream, place, Some((peer(own), end))))
}
