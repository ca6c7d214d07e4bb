//! `Check` without a detour: what is at hand is decided from the bytes of the message, and answered
//! with bytes, by the thread that read them.
//!
//! It answers only where it is certain of everything: a caller that this connection remembers, who
//! may ask; a message that `wire` understands; a tenant that the caller sees; a decision
//! that is at hand; a caller that may ask as much. Whatever else comes, the first call of a connection
//! too, is not judged here but left to the [`api`](super::api), with all its rules and texts. So there
//! is one place that refuses, and this one can only agree with it.
//!
//! No time need be found for such a call: it is over before another one begins. Of room it takes what
//! its connection has for answers that are not taken yet.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::client::Client;
use super::framing::{begin, end, only};
use super::meter::{CallUnderWay, MethodCounts};
use super::unread::{Answer, CALL_BYTES, Unread};
use super::wire;
use crate::grpc::api::Shared;
use crate::service::authentication::{Authenticator, Recognized};
use crate::service::caller::{Caller, Capability};
use crate::service::decide::Decisions;
use crate::service::decision_log::Asker;
use crate::store::DecisionSource;

/// The method that this is about.
pub const CHECK: &str = "/rolegate.v1.AuthzService/Check";
/// A message that is compressed says so here.
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What an answer usually takes.
const USUAL_ANSWER: usize = 192;

/// Answers the checks of one connection.
#[derive(Debug)]
pub struct HotChecks<S> {
    decisions: Decisions<S>,
    authenticator: Arc<Authenticator>,
    counts: Arc<MethodCounts>,
    client: Arc<Client>,
    unread: Arc<Unread>,
}

impl<S: DecisionSource> HotChecks<S> {
    /// Of this client.
    pub fn new(decisions: Decisions<S>, shared: &Shared, client: Arc<Client>) -> Self {
        HotChecks {
            decisions,
            authenticator: Arc::clone(&shared.authenticator),
            counts: Arc::clone(shared.rpcs.method(CHECK)),
            client,
            unread: Unread::new(&shared.room),
        }
    }

    /// What of the connection's answers waits to be taken.
    #[must_use]
    pub fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    /// The answer to a `Check` of these headers and this message, prefix included, as the bytes of a
    /// message.
    pub fn answer(&self, headers: &HeaderMap, message: &[u8]) -> Option<Answer> {
        if headers.contains_key(ENCODING) {
            return None;
        }
        let check = wire::Check::read(only(message)?)?;
        let decide = |recognized: &Recognized| self.decide(&recognized.caller, &check);
        self.client.remembered(&self.authenticator, headers, decide)?
    }

    fn decide(&self, caller: &Caller, check: &wire::Check<'_>) -> Option<Answer> {
        if !caller.capabilities.include(Capability::Check) || !caller.sees_named(check.tenant) {
            return None;
        }
        let wire::Check { tenant, question, consistency } = check;
        let freshness = consistency.at_hand(&self.decisions, tenant)?;
        let wire::Question { member, permission, resource } = *question;
        let at_hand = self.decisions.at_hand(tenant, freshness)?;
        let made = at_hand.check(member, permission, resource.as_ref())?;
        // Who does not read his answers goes to where that is told.
        let bytes = CALL_BYTES + USUAL_ANSWER;
        let holding = self.unread.try_hold(bytes, caller.under_way.as_ref())?;
        // Only now: what is left to the api counts there.
        if !caller.may_ask() {
            return None;
        }
        self.decisions.count_one(made.ruling.reason);
        let asker = Asker { caller: &caller.name, method: "AuthzService/Check" };
        let named = resource.as_ref().map_or(&[][..], |resource| resource.id);
        self.decisions.log_at_hand(
            asker,
            (None, &mut 0),
            (tenant, member, permission, named),
            &made,
        );

        let mut answer = Vec::with_capacity(USUAL_ANSWER);
        let start = begin(&mut answer);
        let token = self.decisions.token(tenant, &made.view);
        wire::check_response(&mut answer, wire::Told::of(&made), token, made.view.stale_since);
        end(&mut answer, start);
        Some(Answer::new(answer.into(), holding))
    }

    /// Counts a call that was answered, all at once.
    pub fn answered(&self, took: Duration) {
        self.counts.succeeded(took);
    }

    /// A call that began then and has to be waited for, so that it counts from now on.
    pub fn under_way(&self, begun: Instant) -> CallUnderWay {
        CallUnderWay::begun(&self.counts, begun)
    }
}

/// An answer that is there as a whole.
#[derive(Debug)]
pub enum HotBody {
    /// To be sent.
    Message(Answer),
    /// And that all went well.
    Trailers,
    /// Nothing more.
    Sent,
}

impl HotBody {
    /// The response that has this message.
    #[must_use]
    #[inline]
    pub fn of(message: Answer) -> Response<Self> {
        let mut response = Response::new(HotBody::Message(message));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        response
    }
}

impl Body for HotBody {
    type Data = Answer;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Answer>, tonic::Status>>> {
        match std::mem::replace(&mut *self, HotBody::Sent) {
            HotBody::Message(message) => {
                *self = HotBody::Trailers;
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
            HotBody::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(STATUS, HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            HotBody::Sent => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, HotBody::Sent)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
