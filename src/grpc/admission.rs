//! How much is under way at once, over all connections: calls, and the bytes of their messages while
//! these are read and answered. What is beyond it is refused at once: a queue would only make
//! everybody late, and hold memory meanwhile.
//!
//! It stands behind authentication, so that strangers take no place of callers, and so that one caller
//! takes its share at most. Health, which is all that strangers get, is answered before any of this.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::{BoxError, Layer, Service};

use super::access::{CHECK_STREAM, WATCH, lasts};
use super::inflate::{Account, Inflated, take_encoding};
use super::pb::ErrorReason;
use super::status::refuse;
use crate::service::caller::Caller;
use crate::service::under_way::{Count, UnderWay};

/// How many CheckStreams there may be. Each lasts as long as its client wants, so they have a room of
/// their own too; what they have in hand counts among the bytes.
const STREAMS: usize = 4_096;

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub struct RoomLimits {
    /// For so many calls.
    pub calls: usize,
    /// For so many bytes of their messages.
    pub bytes: usize,
    /// What the largest message takes, in bytes: each caller may send one.
    pub message_bytes: usize,
    /// One caller among others may have so many percent of each.
    pub percent: usize,
}

/// What there is room for.
#[derive(Debug)]
pub struct Room {
    calls: Limited,
    streams: Limited,
    bytes: Arc<Limited>,
}

/// So much of something, and how much of it is under way.
#[derive(Debug)]
pub(super) struct Limited {
    what: &'static str,
    limit: usize,
    /// How much one caller may have of it.
    share: usize,
    under_way: Count,
    refused: AtomicU64,
    /// Refused to one caller, that had its share.
    refused_to_one: AtomicU64,
}

impl Limited {
    fn new(what: &'static str, limit: usize, share: usize) -> Self {
        Limited {
            what,
            limit,
            share,
            under_way: Count::default(),
            refused: AtomicU64::new(0),
            refused_to_one: AtomicU64::new(0),
        }
    }

    /// So much more, where there is room for it, and `of_caller` has room in its share.
    pub(super) fn add(&self, more: usize, of_caller: Option<&Count>) -> Result<(), Full<'_>> {
        if self.try_add(more, of_caller) { Ok(()) } else { Err(self.refuse(more, of_caller)) }
    }

    /// The same where something less may do, so that nothing is said to be refused.
    pub(super) fn try_add(&self, more: usize, of_caller: Option<&Count>) -> bool {
        if of_caller.is_some_and(|count| !count.add(more, self.share)) {
            return false;
        }
        let added = self.under_way.add(more, self.limit);
        if let (false, Some(count)) = (added, of_caller) {
            count.remove(more);
        }
        added
    }

    /// Counts what found no room, and tells whose limit it met.
    pub(super) fn refuse(&self, more: usize, of_caller: Option<&Count>) -> Full<'_> {
        let is_of_caller = of_caller.is_some_and(|count| count.get() + more > self.share);
        let (limit, whose, refused) = if is_of_caller {
            (self.share, Whose::Caller, &self.refused_to_one)
        } else {
            (self.limit, Whose::Server, &self.refused)
        };
        refused.fetch_add(1, Ordering::Relaxed);
        Full { of: self, limit, whose }
    }

    pub(super) fn remove(&self, less: usize, of_caller: Option<&Count>) {
        self.under_way.remove(less);
        if let Some(count) = of_caller {
            count.remove(less);
        }
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// Of all together.
    Server,
    /// Of one caller among others.
    Caller,
    /// Of one address.
    Address,
    /// Of one connection.
    Connection,
}

/// What is said where there is no room for a call.
#[must_use]
pub fn overloaded(what: &'static str, limit: usize, whose: Whose) -> Status {
    refused(what, limit, whose, NOT_BEGUN)
}

const NOT_BEGUN: &str = "so this call was not begun. Try again";
const NO_ANSWER: &str =
    "so its answer finds no room until others are read. Read them, and try again";

/// There is no room.
pub(super) struct Full<'a> {
    of: &'a Limited,
    limit: usize,
    whose: Whose,
}

impl Full<'_> {
    /// What is said of it to who wanted to begin something, or to go on with it.
    fn said(&self, goes_on: bool) -> Status {
        self.so(if goes_on {
            "so this stream ends. What was answered on it stands; ask the rest again"
        } else {
            NOT_BEGUN
        })
    }

    /// The same of a call that would have an answer.
    pub(super) fn said_of_an_answer(&self) -> Status {
        self.so(NO_ANSWER)
    }

    fn so(&self, so: &str) -> Status {
        let Full { of: Limited { what, .. }, limit, whose } = self;
        refused(what, *limit, *whose, so)
    }
}

fn refused(what: &'static str, limit: usize, whose: Whose, so: &str) -> Status {
    let (whose, who) = match whose {
        Whose::Server => ("server", "The server has as much under way as it takes"),
        Whose::Caller => ("caller", "This caller has as much under way as one caller may have"),
        Whose::Address => ("address", "This address has as much under way as one address may have"),
        Whose::Connection => {
            ("connection", "This connection has as much under way as one connection may have")
        }
    };
    let message = format!("{who} ({limit} {what}), {so} in a second, or on another replica.");
    let metadata =
        [("what", what.to_owned()), ("limit", limit.to_string()), ("of", whose.to_owned())];
    refuse(ErrorReason::ServerOverloaded, &message, &metadata)
}

impl Room {
    /// Within these limits.
    #[must_use]
    pub fn new(limits: RoomLimits) -> Self {
        let RoomLimits { calls, bytes, message_bytes, percent } = limits;
        let share = |limit: usize| limit.saturating_mul(percent) / 100;
        Room {
            calls: Limited::new("calls", calls, share(calls).max(1)),
            streams: Limited::new("streams", STREAMS, share(STREAMS).max(1)),
            bytes: Arc::new(Limited::new("bytes", bytes, share(bytes).max(message_bytes))),
        }
    }

    /// How often something was refused: what, whose limit that was, and how often.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = [&self.calls, &self.streams, &*self.bytes];
        all.into_iter().flat_map(|one| {
            let of_server = one.refused.load(Ordering::Relaxed);
            let of_caller = one.refused_to_one.load(Ordering::Relaxed);
            [(one.what, "server", of_server), (one.what, "caller", of_caller)]
        })
    }

    /// The bytes of messages under way.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.under_way.get() as u64
    }

    /// The room for bytes, for what is not held by calls.
    pub(super) fn shared_bytes(&self) -> Arc<Limited> {
        Arc::clone(&self.bytes)
    }

    /// A place for a call of this caller; none for a Watch, which has a limit of its own.
    fn enter(
        self: &Arc<Self>,
        path: &str,
        caller: Option<&UnderWay>,
    ) -> Result<Option<Place>, Status> {
        let (kind, of_caller) = match path {
            WATCH => return Ok(None),
            CHECK_STREAM => (Kind::Stream, caller.map(|caller| &caller.streams)),
            _ => (Kind::Call, caller.map(|caller| &caller.calls)),
        };
        self.kind(kind).add(1, of_caller).map_err(|full| full.said(false))?;
        Ok(Some(Place { room: Arc::clone(self), kind, of_caller: of_caller.cloned() }))
    }

    fn kind(&self, kind: Kind) -> &Limited {
        match kind {
            Kind::Call => &self.calls,
            Kind::Stream => &self.streams,
        }
    }
}

/// What takes a place.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Call,
    Stream,
}

/// The place of one call.
#[derive(Debug)]
struct Place {
    room: Arc<Room>,
    kind: Kind,
    of_caller: Option<Count>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.kind(self.kind).remove(1, self.of_caller.as_ref());
    }
}

/// Puts an [`Admission`] around a service.
#[derive(Debug, Clone)]
pub struct AdmissionLayer {
    room: Arc<Room>,
    message_bytes: usize,
}

impl AdmissionLayer {
    /// Into this room. Compressed messages are unpacked to so many bytes at most.
    #[must_use]
    pub fn new(room: Arc<Room>, message_bytes: usize) -> Self {
        AdmissionLayer { room, message_bytes }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, room: Arc::clone(&self.room), message_bytes: self.message_bytes }
    }
}

/// Lets in what there is room for.
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    room: Arc<Room>,
    message_bytes: usize,
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
        let is_packed = match take_encoding(request.headers_mut()) {
            Ok(is_packed) => is_packed,
            Err(status) => return Admitted::Refused(Box::new(status)),
        };
        let path = request.uri().path();
        let is_endless = lasts(path);
        let caller = request.extensions().get::<Arc<Caller>>();
        let caller = caller.and_then(|caller| caller.under_way.as_ref());
        match self.room.enter(path, caller) {
            Ok(place) => {
                let used = Arc::new(Used {
                    room: Arc::clone(&self.room.bytes),
                    of_caller: caller.map(|caller| caller.bytes.clone()),
                    lasts: is_endless,
                    bytes: 0.into(),
                });
                let counted = Arc::clone(&used);
                if is_endless {
                    request.extensions_mut().insert(InHand(Arc::clone(&used)));
                }
                let request = request.map(|inner| {
                    let counted = Counted { inner, used: counted };
                    if is_packed {
                        let used = Arc::clone(&counted.used);
                        Body::new(Inflated::new(counted, used, self.message_bytes))
                    } else {
                        Body::new(counted)
                    }
                });
                let inner = self.inner.call(request);
                Admitted::Called { inner, held: Some(Hold { _place: place, used }) }
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
                let decoding = Decoding::of(held.as_ref());
                let answer = Pin::new(inner).poll(context);
                drop(decoding);
                let answer = ready!(answer);
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

thread_local! {
    /// What the call that this thread works on has of the room. A decoder sees nothing but bytes, so it
    /// finds the call here.
    static CALL: RefCell<Option<Arc<Used>>> = const { RefCell::new(None) };
}

/// What is decoded on this thread belongs to one call, until it is dropped.
struct Decoding;

impl Decoding {
    fn of(hold: Option<&Hold>) -> Self {
        CALL.set(hold.map(|hold| Arc::clone(&hold.used)));
        Decoding
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        CALL.set(None);
    }
}

/// So many bytes are held by the call that is worked on, until it ends, because its message is to be
/// decoded. Nothing where there is no such call, as with a client.
pub(super) fn hold_decoded(bytes: usize) -> Result<(), Status> {
    match CALL.with_borrow(Clone::clone) {
        Some(used) => used.take(bytes),
        None => Ok(()),
    }
}

/// A call's part of the room, until its answer is gone.
#[derive(Debug)]
pub struct Hold {
    _place: Option<Place>,
    used: Arc<Used>,
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
    room: Arc<Limited>,
    of_caller: Option<Count>,
    lasts: bool,
    bytes: AtomicUsize,
}

impl Used {
    /// What finds no room is not counted: it is dropped with the refusal.
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let added = self.room.add(bytes, self.of_caller.as_ref());
        added.map_err(|full| full.said(self.lasts))?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.room.remove(bytes, self.of_caller.as_ref());
    }
}

/// What a call that lasts has of the room for bytes. Other calls have all their bytes in hand until
/// they end; this one says what it is done with.
#[derive(Debug, Clone)]
pub struct InHand(Arc<Used>);

impl InHand {
    /// So many bytes more are held, because of what was read.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Status> {
        self.0.take(bytes)
    }

    /// The same until what is given is dropped.
    pub(super) fn hold_for_now(&self, bytes: usize) -> Result<HeldForNow, Status> {
        self.hold(bytes)?;
        Ok(HeldForNow { room: self.clone(), bytes })
    }

    /// So many of the bytes that were read are not held any more.
    pub(super) fn done_with(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.0.give_back(bytes);
    }
}

/// Bytes that a call that lasts holds for a while.
#[derive(Debug)]
pub(super) struct HeldForNow {
    room: InHand,
    bytes: usize,
}

impl Drop for HeldForNow {
    fn drop(&mut self) {
        self.room.done_with(self.bytes);
    }
}

impl Account for Arc<Used> {
    fn hold(&self, bytes: usize) -> Result<(), Status> {
        self.take(bytes)
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back(bytes);
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.give_back(self.bytes.load(Ordering::Relaxed));
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
