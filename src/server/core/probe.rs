//! A call of the health service: of nobody in particular, so it is read and answered apart from the
//! calls of callers, within little memory of its own. One that is whole when it comes takes no place
//! at all, and is answered at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};

use super::calls::CallBody;
use super::message::Message;
use super::minder::{Activity, OpenCall};
use crate::grpc::edge::{deadline, malformed, timed_out, too_large};
use crate::grpc::framing::HEADER;
use crate::grpc::health::{self, Health, HealthChanges, MAX_MESSAGE_BYTES, Question};
use crate::grpc::hot::HotBody;
use crate::grpc::meter::CallUnderWay;
use crate::grpc::unread::Answer;
use crate::server::strangers::{Probes, Probing};

/// A call until its answer begins.
pub(super) struct Probe {
    is_watch: bool,
    message: Message,
    /// What came of the message.
    read: Vec<u8>,
    /// From when on it waits.
    waiting: Option<Waiting>,
    time: Duration,
    health: Health,
    probes: Arc<Probes>,
    /// Until it is answered.
    call: Option<CallUnderWay>,
    activity: Arc<Activity>,
}

struct Waiting {
    place: Probing,
    until: Pin<Box<Sleep>>,
}

/// Whether a call of this path is one.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, health::CHECK | health::WATCH)
}

impl Probe {
    /// Of this connection's probes. Its message may take this long to come.
    pub(super) fn new(
        request: Request<Message>,
        (health, probes): (&Health, &Arc<Probes>),
        time: Duration,
        call: CallUnderWay,
        activity: &Arc<Activity>,
    ) -> Self {
        // Of its head nothing is kept.
        let (Parts { uri, headers, .. }, message) = request.into_parts();
        Probe {
            is_watch: uri.path() == health::WATCH,
            message,
            read: Vec::new(),
            waiting: None,
            time: deadline(&headers).map_or(time, |deadline| deadline.min(time)),
            health: health.clone(),
            probes: Arc::clone(probes),
            call: Some(call),
            activity: Arc::clone(activity),
        }
    }

    /// The answer, as soon as it can be given.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Response<CallBody>> {
        let asked = match self.poll_message(context) {
            Poll::Ready(read) => read,
            Poll::Pending => match ready!(self.poll_late(context)) {
                Ok(never) => match never {},
                Err(status) => Err(status),
            },
        };
        let answer = asked.and_then(|()| self.answer());
        Poll::Ready(answer.unwrap_or_else(|status| self.refuse(status)))
    }

    /// Reads until the question is whole.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        loop {
            match Question::of(&self.read) {
                Question::Whole(_) => return Poll::Ready(Ok(())),
                Question::Refused if self.read.first() == Some(&0) => {
                    return Poll::Ready(Err(too_large(MAX_MESSAGE_BYTES)));
                }
                Question::Refused => {
                    let said = "a question about health must not be compressed";
                    return Poll::Ready(Err(malformed(Code::Unimplemented, said)));
                }
                Question::Partial => {}
            }
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.message).poll_frame(context)) else {
                let said = "the message ended before it was whole";
                return Poll::Ready(Err(malformed(Code::InvalidArgument, said)));
            };
            if let Some(data) = frame.data_ref() {
                // Copied: a few bytes would keep all that was read with them. More than the largest
                // question is found to be so by its length.
                let room = (HEADER + MAX_MESSAGE_BYTES).saturating_sub(self.read.len());
                self.read.extend_from_slice(data.get(..room).unwrap_or(data));
            }
        }
    }

    /// Waits, where there is a place for that and as long as it may.
    fn poll_late(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<std::convert::Infallible, Status>> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => {
                let place = match self.probes.enter() {
                    Ok(place) => place,
                    Err(status) => return Poll::Ready(Err(status)),
                };
                none.insert(Waiting { place, until: Box::pin(sleep(self.time)) })
            }
        };
        waiting.until.as_mut().poll(context).map(|()| Err(timed_out(self.time)))
    }

    fn answer(&mut self) -> Result<Response<CallBody>, Status> {
        let Question::Whole(message) = Question::of(&self.read) else {
            // It was found to be whole.
            return Err(malformed(Code::InvalidArgument, ""));
        };
        if !self.is_watch {
            let answer = HotBody::of(Answer::uncounted(self.health.check(message)?));
            self.call.take().into_iter().for_each(CallUnderWay::succeeded);
            let sent = self.activity.answer_probe();
            return Ok(answer.map(|body| CallBody::Probe { body, _sent: sent }));
        }
        let changes = self.health.watch(message)?;
        let place = match self.waiting.take() {
            Some(Waiting { place, .. }) => place,
            None => self.probes.enter()?,
        };
        let mut call = self.call.take();
        call.iter_mut().for_each(CallUnderWay::goes_on);
        let body = WatchBody { changes, _place: place, _call: call, _open: self.activity.open() };
        let mut response = Response::new(CallBody::Watch(body));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        Ok(response)
    }

    fn refuse(&mut self, status: Status) -> Response<CallBody> {
        self.call.take().into_iter().for_each(|call| call.refused(status.code()));
        status.into_http()
    }
}

/// The answers to a `Watch` of health.
pub(super) struct WatchBody {
    changes: HealthChanges,
    _place: Probing,
    /// It ends when its client has enough of it.
    _call: Option<CallUnderWay>,
    _open: OpenCall,
}

impl WatchBody {
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Answer>, Status>>> {
        self.changes
            .poll_next(context)
            .map(|answer| Some(Ok(Frame::data(Answer::uncounted(answer)))))
    }
}
