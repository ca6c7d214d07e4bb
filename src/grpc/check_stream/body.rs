//! The body of an answer: reads questions when it is asked for answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::{Code, Status};

use super::answers::Desk;
use super::frames::{Frames, size};
use crate::grpc::access::still;
use crate::grpc::admission::HeldForNow;
use crate::grpc::edge::malformed;
use crate::grpc::status;
use crate::service::authentication::Proof;
use crate::service::caller::Capability;
use crate::store::DecisionSource;

/// From how many bytes of answers on nothing more is read for a frame.
const FRAME_BYTES: usize = 64 << 10;
/// The largest frame. The transport keeps one that nobody counts beyond what its client takes.
const MAX_FRAME_BYTES: usize = 2 * FRAME_BYTES;
/// The most that a stream keeps free for answers that may never come.
const KEPT_BYTES: usize = 8 << 10;
/// From how many waiting questions on nothing more is read; one message may go beyond it.
const MAX_WAITING: usize = 1_000;
/// The most messages that are answered without letting others have the thread.
const MAX_MESSAGES: usize = 256;
/// How long the caller's rights count on a stream that nothing comes on until they are looked at
/// again.
const INTERVAL: Duration = Duration::from_secs(2);

/// The answers of one stream.
pub(super) struct Answers<S> {
    requests: Body,
    frames: Frames,
    desk: Desk<S>,
    proof: Proof,
    /// How many bytes of answers were counted.
    held: usize,
    /// What goes on aside: questions that wait for the database, and one that waits for what may end
    /// the stream from outside.
    aside: JoinSet<Event>,
    /// How many messages wait for the database.
    messages: usize,
    /// How many questions of theirs.
    questions: usize,
    /// Answers as they are made.
    written: Vec<u8>,
    /// Of answers that are too many for one frame, what was not in one yet.
    rest: Bytes,
    /// What these take until the last of them is in a frame.
    rest_bytes: usize,
    /// How many bytes of messages have their answers in these, or in the last frame.
    answered: usize,
    state: State,
    draining: watch::Receiver<bool>,
}

enum State {
    Reading,
    /// Nothing more is read. When what waits is answered, the stream ends so.
    Finishing(Status),
    /// At once, so.
    Ending(Status),
    Ended,
}

enum Event {
    Answered(Late),
    Draining,
    /// It is time to look at the caller's rights.
    Due,
}

/// Answers that had to wait.
struct Late {
    written: Vec<u8>,
    questions: usize,
    /// What their message took.
    bytes: usize,
    /// What they took while they waited.
    _held: Option<HeldForNow>,
}

impl<S: DecisionSource> Answers<S> {
    pub(super) fn new(
        requests: Body,
        frames: Frames,
        desk: Desk<S>,
        proof: Proof,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let mut aside = JoinSet::new();
        aside.spawn(outside(draining.clone()));
        Answers {
            requests,
            frames,
            desk,
            proof,
            held: 0,
            aside,
            messages: 0,
            questions: 0,
            written: Vec::new(),
            rest: Bytes::new(),
            rest_bytes: 0,
            answered: 0,
            state: State::Reading,
            draining,
        }
    }

    /// Takes what came of what goes on aside.
    fn collect(&mut self, context: &mut Context<'_>) {
        while self.written.len() < FRAME_BYTES {
            let Poll::Ready(Some(event)) = self.aside.poll_join_next(context) else { return };
            match event {
                Ok(Event::Answered(Late { written, questions, bytes, _held })) => {
                    self.messages -= 1;
                    self.questions -= questions;
                    self.answered += bytes;
                    self.written.extend_from_slice(&written);
                }
                Ok(Event::Draining) => {
                    if matches!(self.state, State::Reading) {
                        self.state = State::Finishing(status::stream_draining());
                    }
                    self.aside.spawn(due());
                }
                Ok(Event::Due) => {
                    self.look_again();
                    if *self.draining.borrow() {
                        self.aside.spawn(due());
                    } else {
                        self.aside.spawn(outside(self.draining.clone()));
                    }
                }
                Err(error) => return self.end_at_once(status::internal(&error.to_string())),
            }
        }
    }

    /// At the caller's rights.
    fn look_again(&mut self) {
        match still(&self.proof, Capability::Check) {
            Ok(caller) => self.desk.caller = caller,
            Err(lost) => self.end_at_once(status::stream_rights_lost(lost)),
        }
    }

    fn end_at_once(&mut self, status: Status) {
        self.written.clear();
        // Aborted, and not asked how they ended.
        self.aside = JoinSet::new();
        self.state = State::Ending(status);
    }

    /// Reads and answers; how many messages.
    fn read(&mut self, context: &mut Context<'_>, most: usize) -> usize {
        let mut messages = 0;
        while matches!(self.state, State::Reading)
            && messages < most
            && self.written.len() < FRAME_BYTES
            && self.questions < MAX_WAITING
        {
            match self.frames.take() {
                Ok(Some(message)) => {
                    messages += 1;
                    self.answer(&message);
                }
                Ok(None) => match Pin::new(&mut self.requests).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            self.frames.add(data);
                        }
                    }
                    Poll::Ready(Some(Err(status))) => self.state = State::Finishing(status),
                    Poll::Ready(None) => self.state = State::Finishing(self.closed()),
                    Poll::Pending => break,
                },
                Err(status) => self.state = State::Finishing(status),
            }
        }
        messages
    }

    fn answer(&mut self, message: &Bytes) {
        let bytes = size(message);
        match self.desk.answer(message, &mut self.written) {
            Ok(None) => self.answered += bytes,
            Ok(Some(later)) => {
                let held = self.desk.room.as_ref().map(|room| room.hold_for_now(later.bytes()));
                let _held = match held.transpose() {
                    Ok(held) => held,
                    Err(status) => return self.end_at_once(status),
                };
                let questions = later.len();
                self.messages += 1;
                self.questions += questions;
                self.aside.spawn(async move {
                    Event::Answered(Late { written: later.answer().await, questions, bytes, _held })
                });
            }
            Err(status) => self.state = State::Finishing(status),
        }
    }

    /// What the client gets when it half-closes.
    fn closed(&self) -> Status {
        if self.frames.is_empty() {
            return Status::ok("");
        }
        malformed(Code::InvalidArgument, "the stream was closed in the middle of a message")
    }

    /// What was answered is not held any more.
    fn done_with_answered(&mut self) {
        let bytes = std::mem::take(&mut self.answered);
        if let Some(room) = &self.desk.room {
            room.done_with(bytes);
        }
    }

    /// Counts what the answers take that are not in a frame yet. Without room for them the stream ends.
    fn count_answers(&mut self) {
        let Some(room) = &self.desk.room else { return };
        // A little is kept for the next answers anyway.
        let takes = |bytes: usize| if bytes > KEPT_BYTES { bytes } else { 0 };
        let held = takes(self.written.capacity()) + self.rest_bytes;
        let before = std::mem::replace(&mut self.held, held);
        if held <= before {
            room.done_with(before - held);
        } else if let Err(status) = room.hold(held - before) {
            self.held = before;
            self.rest = Bytes::new();
            self.end_at_once(status);
        }
    }

    /// The next piece of answers that are too many for one frame.
    fn piece(&mut self) -> Option<Bytes> {
        let length = self.rest.len().min(MAX_FRAME_BYTES);
        // A copy: whoever held a part of them would hold them all.
        let piece = (length > 0).then(|| Bytes::copy_from_slice(&self.rest.split_to(length)));
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.rest_bytes = 0;
        }
        piece
    }

    /// The trailers, if it is time for them.
    fn end(&mut self) -> Option<HeaderMap> {
        let status = match std::mem::replace(&mut self.state, State::Ended) {
            State::Finishing(status) if self.messages == 0 => status,
            State::Ending(status) => status,
            goes_on => {
                self.state = goes_on;
                return None;
            }
        };
        let mut trailers = HeaderMap::new();
        // Our own texts are valid header values.
        status.add_header(&mut trailers).ok();
        Some(trailers)
    }
}

impl<S: DecisionSource> HttpBody for Answers<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if matches!(this.state, State::Ended) {
            return Poll::Ready(None);
        }
        if let Some(piece) = this.piece() {
            this.count_answers();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        // Whoever asks for more has taken what there was.
        this.done_with_answered();
        if matches!(this.state, State::Reading) && !this.proof.holds() {
            this.look_again();
        }
        let mut most = MAX_MESSAGES;
        loop {
            this.collect(context);
            let read = this.read(context, most);
            most -= read;
            this.count_answers();
            if !this.written.is_empty() {
                // The next answers will be about as long, unless none come.
                let next = Vec::with_capacity(this.written.len().min(KEPT_BYTES));
                let written = std::mem::replace(&mut this.written, next);
                let bytes = written.capacity();
                let mut frame = Bytes::from(written);
                if frame.len() > MAX_FRAME_BYTES {
                    (this.rest, this.rest_bytes) = (frame, bytes);
                    frame = this.piece().unwrap_or_default();
                }
                // From here on the transport counts it.
                this.count_answers();
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            // What asked nothing has no answer to be taken.
            this.done_with_answered();
            if let Some(trailers) = this.end() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if most == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if read == 0 {
                return Poll::Pending;
            }
            // Whatever was put aside has to be listened to.
        }
    }
}

/// Until the server goes away, or it is time to look at the caller's rights.
async fn outside(mut draining: watch::Receiver<bool>) -> Event {
    tokio::select! {
        // An error: whoever could tell is gone, and with it the server.
        _ = draining.wait_for(|draining| *draining) => Event::Draining,
        due = due() => due,
    }
}

async fn due() -> Event {
    tokio::time::sleep(INTERVAL).await;
    Event::Due
}
