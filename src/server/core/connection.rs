//! One connection, from its first byte to its end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::accept::Arrival;
use super::beginning::{Beginning, Protocol};
use super::calls::Calls;
use super::minder::{Activity, Minder, Orders};
use super::{Everything, Serving, signpost};
use crate::domain::throttle::Throttle;
use crate::server::limits::{Place, ServeLimits};
use crate::server::tls::{Handshaken, Tls};
use crate::service::authentication::Peer;

/// The largest header block that is read of a request, of which the api takes less
/// ([`MAX_HEAD_BYTES`](crate::grpc::edge::MAX_HEAD_BYTES)). What is beyond it costs its stream only, with
/// a status 431, up to seven frames of 16 KiB, or four times as much once unpacked. What is beyond that
/// ends its connection: h2 does not even read it.
const MAX_HEADER_BYTES: u32 = 64 << 10;
/// How long a connection may take to say that it is still there.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(10);
/// How many streams a client may have reset that were not looked at yet, before its connection ends.
const MAX_PENDING_RESETS: usize = 20;
/// How many streams the server may have had to reset for a client's faults, before its connection
/// ends. h2's own default, and no less: the rest of a request that was refused before it was read
/// counts too when it arrives after the refusal, and whoever lacks a capability may ask often.
const MAX_FAULTY_STREAMS: usize = 1_024;

/// What the connections of one thread are served with.
pub(super) struct Connections {
    http2: http2::Builder<TokioExecutor>,
    everything: Everything,
    elsewhere: Handle,
    tls: Option<Arc<Tls>>,
    limits: ServeLimits,
    patience: Duration,
}

impl Connections {
    /// What does not belong on this thread is done elsewhere.
    pub(super) fn new(serving: &Serving, elsewhere: Handle) -> Self {
        let Serving { everything, tls, limits, patience } = serving;
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection)
            .max_header_list_size(MAX_HEADER_BYTES)
            .keep_alive_interval(limits.keepalive)
            .keep_alive_timeout(KEEPALIVE_PATIENCE)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_FAULTY_STREAMS);
        Connections {
            http2,
            everything: everything(),
            elsewhere,
            tls: tls.clone(),
            limits: *limits,
            patience: *patience,
        }
    }

    /// Serves one until it ends.
    pub(super) async fn serve(&self, arrival: Arrival) {
        let Arrival { stream, place, mut draining } = arrival;
        let stream = match stream.attach() {
            Ok(stream) => stream,
            Err(error) => {
                static REFUSED: Throttle = Throttle::each_second();
                if let Some(more) = REFUSED.admit() {
                    tracing::warn!(%error, more, "a connection could not be served");
                }
                return;
            }
        };
        let place = Arc::new(place);
        let Some(tls) = &self.tls else {
            return self.speak(stream, place, draining, None).await;
        };
        let handshaken = tokio::select! {
            handshaken = tls.handshake(stream, place.turn()) => handshaken,
            _ = place.ending.asked() => return,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        if let Some(Handshaken { stream, peer }) = handshaken {
            self.speak(stream, place, draining, peer).await;
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        place: Arc<Place>,
        mut draining: watch::Receiver<bool>,
        peer: Option<(Peer, oneshot::Receiver<()>)>,
    ) {
        let mut stream = Beginning::new(stream, Arc::clone(&place.door));
        // Nothing was asked yet that could be waited for.
        let protocol = tokio::select! {
            protocol = stream.protocol() => protocol,
            _ = place.ending.asked() => return,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match protocol {
            Ok(Protocol::Http2) => {}
            Ok(Protocol::Http1) => {
                tokio::select! {
                    () = signpost::answer(stream, self.tls.is_some()) => {}
                    _ = place.ending.asked() => {}
                    _ = draining.wait_for(|draining| *draining) => {}
                }
                return;
            }
            Ok(Protocol::Unknown) => {
                tracing::debug!(
                    "a client speaks neither HTTP/2 nor HTTP/1; perhaps TLS where there is none"
                );
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "a connection did not begin");
                return;
            }
        }
        let (peer, revoked) = peer.unzip();
        let activity = Arc::new(Activity::default());
        let minder = Minder {
            age: scattered(self.limits.connection_age),
            idle: self.limits.connection_idle,
            patience: self.patience,
            draining,
            revoked,
            ending: Arc::clone(&place.ending),
            place: Arc::downgrade(&place),
            activity: Arc::clone(&activity),
        };
        let Orders { politely, mut now } = minder.start();
        let mut politely = Some(politely);
        let peer = peer.map(Arc::new);
        let calls = Calls::new(&self.everything, self.elsewhere.clone(), peer, &place, activity);
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(stream), calls));
        let ended = poll_fn(|context| {
            if let Some(asked) = &mut politely
                && Pin::new(asked).poll(context).is_ready()
            {
                politely = None;
                connection.as_mut().graceful_shutdown();
            }
            if Pin::new(&mut now).poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            connection.as_mut().poll(context)
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection failed");
        }
        drop(place);
    }
}

/// Somewhat longer or shorter, by up to a tenth: clients that came together must not all have to
/// come again together.
fn scattered(time: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u8;
    time.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
}
