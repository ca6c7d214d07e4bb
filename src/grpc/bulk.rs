//! `BatchCheck` and `FilterResources` from memory: where everything that a message asks about is at
//! hand at one state, it is answered from its bytes, without Strings. Every other message goes on as
//! it came, to the service behind, which has all the rules and all the texts.
//!
//! Here it is also counted what such a message asks of its caller's allowance, whoever answers it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt as _, Full};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tower::Service;

use super::access::{BATCH_CHECK, FILTER_RESOURCES};
use super::framing::{HEADER, begin, end, first, only};
use super::wire::{self, Asking, Told};
use crate::domain::decision::DecisionReason;
use crate::domain::refusal::Refusal;
use crate::domain::resource::Attributes;
use crate::service::at_hand::{AtHand, Made};
use crate::service::caller::Caller;
use crate::service::counts::Tally;
use crate::service::decide::{Decisions, MAX_BATCH};
use crate::service::decision_log::Asker;
use crate::service::page::MAX_ANSWER_BYTES;
use crate::store::DecisionSource;

/// What the result of an item usually takes, in bytes.
const USUAL_RESULT: usize = 40;

/// A service that answers such calls, in front of one that answers all.
#[derive(Debug)]
pub struct Bulk<I, S> {
    inner: I,
    desk: Desk<S>,
    message_bytes: usize,
}

impl<I, S: DecisionSource> Bulk<I, S> {
    /// In front of this service. Messages may have so many bytes.
    #[must_use]
    pub fn before(inner: I, decisions: Decisions<S>, message_bytes: usize) -> Self {
        Bulk { inner, desk: Desk(decisions), message_bytes }
    }
}

impl<I: Clone, S> Clone for Bulk<I, S> {
    fn clone(&self) -> Self {
        let Bulk { inner, desk: Desk(decisions), message_bytes } = self;
        Bulk { inner: inner.clone(), desk: Desk(decisions.clone()), message_bytes: *message_bytes }
    }
}

impl<I: NamedService, S> NamedService for Bulk<I, S> {
    const NAME: &'static str = I::NAME;
}

impl<I, S> Service<Request<Body>> for Bulk<I, S>
where
    I: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        > + Clone
        + Send
        + 'static,
    S: DecisionSource,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asking = match request.uri().path() {
            BATCH_CHECK => Asking::Items,
            FILTER_RESOURCES => Asking::Resources,
            _ => return self.inner.call(request),
        };
        let is_plain = !request.headers().contains_key("grpc-encoding");
        let Some(caller) = request.extensions().get::<Arc<Caller>>().cloned() else {
            return self.inner.call(request);
        };
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        let (desk, limit) = (Desk(self.desk.0.clone()), self.message_bytes);
        Box::pin(async move {
            let (parts, mut body) = request.into_parts();
            let came = Came::of(&mut body, HEADER + limit).await;
            if let Err(exceeded) = caller.spend(|| asking.count(first(&came.data))) {
                return Ok(Status::from(exceeded).into_http());
            }
            // Whoever else says so has taken the message apart before.
            if let Some(violation) = came.message().and_then(|message| asking.too_many(message)) {
                return Ok(Status::from(Refusal::Invalid(vec![violation])).into_http());
            }
            let answer = |message| match asking {
                Asking::Items => desk.batch(&caller, message),
                Asking::Resources => desk.filter(&caller, message),
            };
            if let Some(answer) = came.message().filter(|_| is_plain).and_then(answer) {
                return Ok(response(answer));
            }
            let again = Again { came: Some(came), rest: body };
            inner.call(Request::from_parts(parts, Body::new(again))).await
        })
    }
}

fn response(message: Bytes) -> Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let trailers = std::future::ready(Some(Ok(trailers)));
    let mut response = Response::new(Body::new(Full::new(message).with_trailers(trailers)));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What came of a body.
struct Came {
    data: Bytes,
    how: How,
}

enum How {
    /// All of it.
    Whole,
    /// As much as a message may be. There is more.
    Beginning,
    Broken(Status),
}

impl Came {
    async fn of(body: &mut Body, limit: usize) -> Self {
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        let how = loop {
            if first.len() + all.len() > limit {
                break How::Beginning;
            }
            match body.frame().await {
                None => break How::Whole,
                Some(Err(status)) => break How::Broken(status),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // One frame is taken as it is.
                    if first.is_empty() && all.is_empty() {
                        first = data;
                    } else {
                        all.extend_from_slice(&std::mem::take(&mut first));
                        all.extend_from_slice(&data);
                    }
                }
            }
        };
        Came { data: if all.is_empty() { first } else { all.freeze() }, how }
    }

    /// The one message that it is, uncompressed and whole.
    fn message(&self) -> Option<&[u8]> {
        only(&self.data).filter(|_| matches!(self.how, How::Whole))
    }
}

/// A body once more.
struct Again {
    came: Option<Came>,
    rest: Body,
}

impl HttpBody for Again {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(came) = &mut self.came {
            if !came.data.is_empty() {
                let data = std::mem::take(&mut came.data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match std::mem::replace(&mut came.how, How::Whole) {
                How::Whole => return Poll::Ready(None),
                How::Broken(status) => return Poll::Ready(Some(Err(status))),
                How::Beginning => self.came = None,
            }
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }
}

/// Whoever answers.
#[derive(Debug)]
struct Desk<S>(Decisions<S>);

impl<S: DecisionSource> Desk<S> {
    /// A `BatchCheckResponse` with what stands before it.
    fn batch(&self, caller: &Caller, message: &[u8]) -> Option<Bytes> {
        let wire::Batch { tenant, items, consistency } = wire::Batch::read(message)?;
        let at_hand = self.at_hand(caller, tenant, items.len(), consistency)?;
        let mut to = Vec::with_capacity(HEADER + items.len() * USUAL_RESULT);
        let start = begin(&mut to);
        let (mut tally, mut first) = (Tally::default(), None::<Made>);
        // Logged when all of the message was understood: else it is answered another way.
        let mut logged = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let question = wire::Question::read(item)?;
            let wire::Question { member, permission, resource } = &question;
            let answer = at_hand.check(member, permission, resource.as_ref())?;
            tally.add(answer.ruling.reason);
            wire::check_item_result(&mut to, Told::of(&answer));
            match &first {
                None => first = Some(answer.clone()),
                Some(first) if Arc::ptr_eq(&first.view.state, &answer.view.state) => {}
                Some(_) => return None,
            }
            if self.0.is_logged() {
                logged.push((number, question, answer));
            }
        }
        let Made { view, .. } = first?;
        wire::state_of_answer(&mut to, 2, self.0.token(tenant, &view), view.stale_since);
        if to.len() > HEADER + MAX_ANSWER_BYTES {
            return None;
        }
        end(&mut to, start);
        self.0.count(&tally);
        let asker = Asker { caller: &caller.name, method: "AuthzService/BatchCheck" };
        let mut recorded = 0;
        for (number, wire::Question { member, permission, resource }, answer) in &logged {
            let resource = resource.as_ref().map_or(&[][..], |resource| resource.id);
            let what = (tenant, *member, *permission, resource);
            self.0.log_at_hand(asker, (Some(*number), &mut recorded), what, answer);
        }
        Some(to.into())
    }

    /// A `FilterResourcesResponse` with what stands before it.
    fn filter(&self, caller: &Caller, message: &[u8]) -> Option<Bytes> {
        let wire::Filter { tenant, member, permission, resources, consistency } =
            wire::Filter::read(message)?;
        let at_hand = self.at_hand(caller, tenant, resources.len(), consistency)?;
        if self.0.is_logged() {
            return None;
        }
        // What may be too many ids for one answer is told so there.
        if message.len() > MAX_ANSWER_BYTES - (128 << 10) {
            return None;
        }
        let sieve = at_hand.sieve(member, permission)?;
        let mut to = Vec::with_capacity(message.len() / 4);
        let start = begin(&mut to);
        let (mut tally, mut incomplete) = (Tally::default(), Vec::new());
        let mut missing = Attributes::default();
        for resource in resources.iter() {
            let resource = wire::Resource::read(resource)?;
            if resource.id.is_empty() {
                return None;
            }
            let ruling = sieve.rule(&resource);
            tally.add(ruling.reason);
            if ruling.reason.allows() {
                wire::text(&mut to, 1, resource.id);
            } else if ruling.reason == DecisionReason::ResourceAttributeRequired {
                incomplete.push(resource.id);
                missing = missing.union(ruling.missing);
            }
        }
        incomplete.into_iter().for_each(|id| wire::text(&mut to, 2, id));
        missing.iter().for_each(|attribute| wire::text(&mut to, 3, attribute.name().as_bytes()));
        if let Some(reason) = sieve.denied {
            wire::denied_reason(&mut to, reason);
        }
        let view = &sieve.view;
        wire::state_of_answer(&mut to, 5, self.0.token(tenant, view), view.stale_since);
        end(&mut to, start);
        self.0.count(&tally);
        Some(to.into())
    }

    /// What is at hand of the tenant, if it may be answered from that.
    fn at_hand<'a>(
        &'a self,
        caller: &Caller,
        tenant: &'a str,
        count: usize,
        consistency: wire::Consistency<'_>,
    ) -> Option<AtHand<'a, S>> {
        if count > MAX_BATCH || !caller.sees_named(tenant) {
            return None;
        }
        self.0.at_hand(tenant, consistency.at_hand(&self.0, tenant)?)
    }
}
