//! `CheckStream`: many questions on one stream, at the least cost.
//!
//! It is answered in front of the generated service. tonic would make Strings of every message, and
//! wake a task for each; here the body of the answer reads the body of the request when it is asked
//! for a frame, decides what is at hand right there, and gives all of it as one frame:
//!
//! - `frames` finds the messages in what comes.
//! - `answers` answers one message: at once what is at hand, the rest when the database has
//!   answered.
//! - `body` is the answer's body. Nobody asks it for more than the client reads, and it asks for no
//!   more than it answers, so each side is held up by the other and nothing piles up in between. A
//!   message counts among the bytes under way until its answers were taken, and so do these, and
//!   questions that wait for the database.

mod answers;
mod body;
mod frames;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use self::answers::Desk;
use self::body::Answers;
use self::frames::Frames;
use super::access::CHECK_STREAM;
use super::admission::InHand;
use super::edge::malformed;
use crate::service::ServiceError;
use crate::service::authentication::Proof;
use crate::service::caller::Caller;
use crate::service::decide::Decisions;
use crate::store::DecisionSource;

/// The streams of one process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct CheckStreams {
    draining: Arc<watch::Sender<bool>>,
}

impl CheckStreams {
    /// Ends all streams, and those that come, once what they have read is answered: the server goes
    /// away.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// In front of this service, which gets all other calls. Messages may have so many bytes.
    #[must_use]
    pub fn before<I, S>(
        &self,
        inner: I,
        decisions: Decisions<S>,
        message_bytes: usize,
    ) -> WithCheckStream<I, S> {
        WithCheckStream { inner, decisions, message_bytes, streams: self.clone() }
    }
}

/// A service that answers `CheckStream`, in front of one that answers the others.
#[derive(Debug)]
pub struct WithCheckStream<I, S> {
    inner: I,
    decisions: Decisions<S>,
    message_bytes: usize,
    streams: CheckStreams,
}

impl<I: Clone, S> Clone for WithCheckStream<I, S> {
    fn clone(&self) -> Self {
        WithCheckStream {
            inner: self.inner.clone(),
            decisions: self.decisions.clone(),
            message_bytes: self.message_bytes,
            streams: self.streams.clone(),
        }
    }
}

impl<I: NamedService, S> NamedService for WithCheckStream<I, S> {
    const NAME: &'static str = I::NAME;
}

impl<I, S> Service<Request<Body>> for WithCheckStream<I, S>
where
    I: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        >,
    S: DecisionSource,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != CHECK_STREAM {
            return self.inner.call(request);
        }
        let response = self.begin(request).unwrap_or_else(Status::into_http);
        Box::pin(std::future::ready(Ok(response)))
    }
}

impl<I, S: DecisionSource> WithCheckStream<I, S> {
    fn begin(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        /// How a message may be compressed: not at all, as everywhere in this server.
        const ENCODING: &str = "grpc-encoding";
        if let Some(encoding) = request.headers().get(ENCODING)
            && encoding != "identity"
        {
            let said = format!("Content is compressed with {encoding:?}, which isn't supported");
            return Err(malformed(Code::Unimplemented, &said));
        }
        let (mut parts, requests) = request.into_parts();
        let (caller, proof) = parts
            .extensions
            .remove::<Arc<Caller>>()
            .zip(parts.extensions.remove::<Proof>())
            .ok_or_else(|| {
                ServiceError::Internal("a CheckStream came without a proof".to_owned())
            })?;
        let answers = Answers::new(
            requests,
            Frames::new(self.message_bytes),
            Desk::new(self.decisions.clone(), caller, parts.extensions.remove::<InHand>()),
            proof,
            self.streams.draining.subscribe(),
        );
        let mut response = Response::new(Body::new(answers));
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }
}
