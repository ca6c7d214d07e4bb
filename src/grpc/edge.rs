//! A layer over all services for the errors that never reach one: unknown methods, messages that
//! are too large or cannot be decoded, calls that take too long. tonic answers those by itself,
//! without details; here they get the `ErrorInfo` that every error carries.
//!
//! Time is limited here too: tonic's own limit lies outside of all layers, so nothing could be
//! added to its answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::inflate::{ACCEPTED, ENCODINGS};
use super::pb::ErrorReason;
use super::status::{internal, refuse, refuse_as};
use super::wording::shortened;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const TIMEOUT: &str = "grpc-timeout";

/// The largest head of a call, in bytes as HTTP/2 counts them: names, values, and 32 for each.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub struct EdgeLimits {
    /// The largest message that services decode, for the message of the refusal: the services
    /// themselves are told with `max_decoding_message_size`.
    pub message_bytes: usize,
    /// The longest time until an answer begins. A caller's own deadline counts when it is sooner.
    pub time: Duration,
}

/// When a call began that was waited for before it came here, in its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun(pub(super) Instant);

/// Puts an [`Edge`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct EdgeLayer {
    limits: EdgeLimits,
}

impl EdgeLayer {
    /// With these limits.
    #[must_use]
    pub fn new(limits: EdgeLimits) -> Self {
        EdgeLayer { limits }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Edge { inner, limits: self.limits }
    }
}

/// Limits the time of every call, and gives details to errors without.
#[derive(Debug, Clone)]
pub struct Edge<S> {
    inner: S,
    limits: EdgeLimits,
}

impl<S, B, R> Service<Request<B>> for Edge<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limits = self.limits;
        let head = head_bytes(request.headers()) + request.uri().path().len();
        if head > MAX_HEAD_BYTES {
            return Box::pin(async move { Ok(head_too_large(head).into_http()) });
        }
        let asked = deadline(request.headers());
        let time = asked.map_or(limits.time, |asked| asked.min(limits.time));
        let begun = request.extensions().get::<Begun>();
        let taken = begun.map_or(Duration::ZERO, |Begun(begun)| begun.elapsed());
        // The clock starts before the call, hence before tonic's own for the same deadline.
        let until = tokio::time::sleep(time.saturating_sub(taken));
        let answer = self.inner.call(request);
        Box::pin(async move {
            tokio::select! {
                // An answer that is there in time counts, even when time is up as well.
                biased;
                answer = answer => answer.map(|response| announced(mended(response, limits))),
                () = until => Ok(timed_out(time).into_http()),
            }
        })
    }
}

/// The response, which says how requests may be compressed: clients do that when they know of it.
fn announced<R>(mut response: Response<R>) -> Response<R> {
    response.headers_mut().insert(ACCEPTED, HeaderValue::from_static(ENCODINGS));
    response
}

/// The response; an error of tonic's own with details added.
fn mended<R>(mut response: Response<R>, limits: EdgeLimits) -> Response<R> {
    let headers = response.headers();
    // Statuses of streams and of answers stand in trailers, and are ours.
    if !headers.contains_key(STATUS) || headers.contains_key(DETAILS) {
        return response;
    }
    let Some(status) = Status::from_header_map(headers).and_then(|bare| explained(&bare, limits))
    else {
        return response;
    };
    let headers = response.headers_mut();
    headers.remove(STATUS);
    headers.remove(MESSAGE);
    // Our own texts are valid header values: messages are escaped, details are base64.
    if status.add_header(headers).is_ok() {
        response.extensions_mut().insert(status);
    }
    response
}

/// The same error in our words. None for what only other services (health, reflection) answer.
fn explained(bare: &Status, limits: EdgeLimits) -> Option<Status> {
    let said = bare.message();
    Some(match bare.code() {
        Code::Ok => return None,
        // Without a message it comes from the router, else from a service that knows the method
        // and not, say, the compression; the caller needs the code to see that.
        Code::Unimplemented if said.is_empty() => no_such_method(),
        Code::Unimplemented => malformed(Code::Unimplemented, said),
        Code::OutOfRange | Code::ResourceExhausted => too_large(limits.message_bytes),
        Code::Internal if is_about_the_message(said) => malformed(Code::InvalidArgument, said),
        Code::Internal => internal(said),
        // The connection broke while the message was read.
        Code::Unknown => malformed(Code::InvalidArgument, said),
        Code::Cancelled | Code::DeadlineExceeded => timed_out(limits.time),
        _ => return None,
    })
}

/// For a message of more bytes than this.
pub fn too_large(limit: usize) -> Status {
    refuse(
        ErrorReason::MessageTooLarge,
        &format!(
            "The message is larger than the {limit} bytes that this server takes. Split the request."
        ),
        &[("limit_bytes", limit.to_string())],
    )
}

/// Returns what headers take, as HTTP/2 counts them.
fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// For a call whose head is too large: it is held for as long as the call lasts, and nobody counts it.
fn head_too_large(bytes: usize) -> Status {
    refuse(
        ErrorReason::MessageTooLarge,
        &format!(
            "The headers of the call take {bytes} bytes, and this server takes {MAX_HEAD_BYTES}. Send \
             fewer or shorter ones: tokens and metadata, as a rule."
        ),
        &[("limit_bytes", MAX_HEAD_BYTES.to_string())],
    )
}

/// For a path that leads nowhere.
pub(super) fn no_such_method() -> Status {
    refuse(
        ErrorReason::MethodNotFound,
        "This server has no such method. Compare the client's version of the API with the \
         server's; reflection lists what there is.",
        &[],
    )
}

/// What tonic says when it cannot make a message out of what came.
fn is_about_the_message(said: &str) -> bool {
    const BEGINNINGS: [&str; 6] = [
        "failed to decode Protobuf message",
        "protocol error",
        "h2 protocol error",
        "Error decompressing",
        "Missing request message",
        "Unexpected EOF",
    ];
    BEGINNINGS.iter().any(|beginning| said.starts_with(beginning))
}

/// For a message that is none.
pub fn malformed(code: Code, said: &str) -> Status {
    let message = format!(
        "The message is not what the method takes. Compare the client's version of the API with \
         the server's. ({})",
        shortened(said, 200)
    );
    refuse_as(code, ErrorReason::MalformedMessage, &message)
}

/// For a call that took longer than it may.
pub fn timed_out(time: Duration) -> Status {
    let message = format!(
        "The call took longer than it may, {time:?}, and was given up. A write may have been made: \
         repeat it with the same request_id."
    );
    refuse(ErrorReason::TimedOut, &message, &[])
}

/// The caller's deadline, see <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
/// One that cannot be read is no deadline.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}
