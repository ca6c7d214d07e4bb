//! How much is under way at once, over all connections: calls, and the bytes of their messages while
//! these are read and answered. What is beyond it is refused at once: a queue would only make
//! everybody late, and hold memory meanwhile.
//!
//! It stands behind authentication, so that strangers take no place of callers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::{BoxError, Layer, Service};

use super::access::{CHECK_STREAM, WATCH, lasts};
use super::pb::ErrorReason;
use super::status::refuse;

/// How many health probes there may be, streams of them included. They need no credential, so they
/// have a room of their own.
const PROBES: usize = 1_000;
const HEALTH: &str = "/grpc.health.v1.Health/";
/// How many CheckStreams there may be. Each lasts as long as its client wants, so they have a room of
/// their own too; what they have in hand counts among the bytes.
const STREAMS: usize = 4_096;

/// What there is room for.
#[derive(Debug)]
pub struct Room {
    calls: Limited,
    probes: Limited,
    streams: Limited,
    bytes: Arc<MessageBytes>,
}

#[derive(Debug)]
struct Limited {
    limit: usize,
    free: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Limited {
    fn new(limit: usize) -> Self {
        Limited { limit, free: Arc::new(Semaphore::new(limit)), refused: AtomicU64::new(0) }
    }
}

/// Bytes of messages.
#[derive(Debug)]
struct MessageBytes {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

impl Room {
    /// For so many calls, and so many bytes of their messages.
    #[must_use]
    pub fn new(calls: usize, bytes: usize) -> Self {
        let bytes =
            MessageBytes { limit: bytes, used: AtomicUsize::new(0), refused: AtomicU64::new(0) };
        Room {
            calls: Limited::new(calls),
            probes: Limited::new(PROBES),
            streams: Limited::new(STREAMS),
            bytes: Arc::new(bytes),
        }
    }

    /// How many calls were refused, by what there was no room for.
    #[must_use]
    pub fn refused(&self) -> [(&'static str, u64); 4] {
        [
            ("calls", self.calls.refused.load(Ordering::Relaxed)),
            ("probes", self.probes.refused.load(Ordering::Relaxed)),
            ("streams", self.streams.refused.load(Ordering::Relaxed)),
            ("bytes", self.bytes.refused.load(Ordering::Relaxed)),
        ]
    }

    /// The bytes of messages under way.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.used.load(Ordering::Relaxed) as u64
    }

    /// A place for a call; none for a Watch, which has a limit of its own.
    fn enter(&self, path: &str) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let (what, room) = match path {
            WATCH => return Ok(None),
            CHECK_STREAM => ("streams", &self.streams),
            _ if path.starts_with(HEALTH) => ("probes", &self.probes),
            _ => ("calls", &self.calls),
        };
        Arc::clone(&room.free).try_acquire_owned().map(Some).map_err(|_| {
            room.refused.fetch_add(1, Ordering::Relaxed);
            overloaded(what, room.limit)
        })
    }
}

fn overloaded(what: &'static str, limit: usize) -> Status {
    let message = format!(
        "The server has as much under way as it takes ({limit} {what}), so this call was not begun. \
         Try again in a second, or on another replica."
    );
    let metadata = [("what", what.to_owned()), ("limit", limit.to_string())];
    refuse(ErrorReason::ServerOverloaded, &message, &metadata)
}

/// Puts an [`Admission`] around a service.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    room: Arc<Room>,
}

impl AdmissionLayer {
    /// Into this room.
    #[must_use]
    pub fn new(room: Arc<Room>) -> Self {
        AdmissionLayer { room }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, room: Arc::clone(&self.room) }
    }
}

/// Lets in what there is room for.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    room: Arc<Room>,
}

impl<S, B, R> Service<Request<B>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Future: Unpin,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    R: Default,
{
    type Response = Response<Held<R>>;
    type Error = S::Error;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let is_endless = lasts(path);
        match self.room.enter(path) {
            Ok(place) => {
                let used = Arc::new(Used { room: Arc::clone(&self.room.bytes), bytes: 0.into() });
                let counted = Arc::clone(&used);
                if is_endless {
                    request.extensions_mut().insert(InHand(Arc::clone(&used)));
                }
                let request = request.map(|inner| Body::new(Counted { inner, used: counted }));
                let inner = self.inner.call(request);
                Admitted::Called { inner, held: Some(Hold { _place: place, _used: used }) }
            }
            Err(status) => Admitted::Refused(Box::new(status)),
        }
    }
}

/// An answer to a call that was let in, or not.
pub enum Admitted<F> {
    /// By the service.
    Called {
        /// What it does.
        inner: F,
        /// The call's part of the room.
        held: Option<Hold>,
    },
    /// By this layer.
    Refused(Box<Status>),
}

impl<F, R, E> Future for Admitted<F>
where
    F: Future<Output = Result<Response<R>, E>> + Unpin,
    R: Default,
{
    type Output = Result<Response<Held<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Admitted::Called { inner, held } => {
                let answer = ready!(Pin::new(inner).poll(context));
                let hold = held.take();
                Poll::Ready(
                    answer.map(|response| response.map(|inner| Held { inner, _hold: hold })),
                )
            }
            Admitted::Refused(status) => {
                let status = std::mem::replace(&mut **status, Status::ok(""));
                Poll::Ready(Ok(status.into_http()))
            }
        }
    }
}

/// A call's part of the room, until its answer is gone.
#[derive(Debug)]
pub struct Hold {
    _place: Option<OwnedSemaphorePermit>,
    _used: Arc<Used>,
}

/// The body of an answer, which keeps its call's place: what its client does not read is held too.
#[derive(Debug, Default)]
pub struct Held<R> {
    inner: R,
    _hold: Option<Hold>,
}

impl<R: HttpBody + Unpin> HttpBody for Held<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What one call has of the bytes.
#[derive(Debug)]
struct Used {
    room: Arc<MessageBytes>,
    bytes: AtomicUsize,
}

impl Used {
    /// What finds no room is not counted: it is dropped with the refusal.
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let MessageBytes { used, limit, refused, .. } = &*self.room;
        let fits = |used: usize| used.checked_add(bytes).filter(|used| used <= limit);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            refused.fetch_add(1, Ordering::Relaxed);
            return Err(overloaded("bytes", *limit));
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// What a call that lasts has of the room for bytes. Other calls have all their bytes in hand until
/// they end; this one says what it is done with.
#[derive(Debug, Clone)]
pub struct InHand(Arc<Used>);

impl InHand {
    /// So many of the bytes that were read are not held any more.
    pub(super) fn done_with(&self, bytes: usize) {
        let Used { room, bytes: held } = &*self.0;
        held.fetch_sub(bytes, Ordering::Relaxed);
        room.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The body of a request, counted as it comes.
struct Counted<B> {
    inner: B,
    used: Arc<Used>,
}

impl<B> HttpBody for Counted<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            self.used.take(frame.data_ref().map_or(0, Buf::remaining))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
