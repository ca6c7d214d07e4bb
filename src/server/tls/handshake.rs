//! A handshake, with a time limit, so that a client that dawdles holds up nobody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Chain, Tls, peer};
use crate::http::Socket;
use crate::service::authentication::Peer;

/// How long a handshake may take.
const TIME: Duration = Duration::from_secs(10);

/// A connection on which both sides have shown what they must.
pub(in crate::server) struct Handshaken {
    pub(in crate::server) stream: TlsStream<Socket>,
    /// Whom the client's certificate names, and what ends the connection with it.
    pub(in crate::server) peer: Option<(Peer, oneshot::Receiver<()>)>,
}

impl Tls {
    /// The connection, if both sides show what they must, and in time, waiting for its turn included.
    pub(in crate::server) async fn handshake<T>(
        &self,
        stream: Socket,
        turn: impl Future<Output = T>,
    ) -> Option<Handshaken> {
        let material = self.material();
        let counts = &self.handshakes;
        let accepting = async {
            let turn = turn.await;
            let accepted = TlsAcceptor::from(Arc::clone(&material.grpc)).accept(stream).await;
            drop(turn);
            accepted
        };
        let stream = match tokio::time::timeout(TIME, accepting).await {
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
        let chain: Chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let Some(own) = chain.first() else { return Some(Handshaken { stream, peer: None }) };
        let end = self.admit(&material, &chain)?;
        Some(Handshaken { peer: Some((peer(own), end)), stream })
    }
}
