//! One connection with its calls under way.

use std::collections::VecDeque;

use super::frames::{
    self, AnswerHeaders, FIRST_WINDOW, FRAME_HEAD, LARGEST_FRAME, RequestHeaders, Said, flag, kind,
};
use super::wire::{Input, Wire};
use super::{Calls, Target};
use rolegate_bench::Failure;

/// Windows are opened again when so much has come.
const LOW_WINDOW: u32 = 1 << 30;
/// What gRPC puts before a message: whether it is compressed, and its length.
pub(super) const MESSAGE_HEAD: usize = 5;

/// A question that was asked and has not been answered.
pub(super) struct Asked {
    pub(super) question: usize,
    /// When it should have been asked, in nanoseconds since the load began.
    pub(super) due: u64,
}

/// A stream of HTTP/2: one call.
struct Stream {
    id: u32,
    /// One of a unary call; on a stream of calls as many as are under way, oldest first.
    asked: VecDeque<Asked>,
    /// What may be sent.
    window: i64,
    unsent: VecDeque<u8>,
    /// What has come of answers that are not complete.
    input: Vec<u8>,
    received: u32,
}

/// See the module.
pub(super) struct Connection {
    pub(super) wire: Wire,
    headers: RequestHeaders,
    answers: AnswerHeaders,
    calls: Calls,
    out: Vec<u8>,
    input: Input,
    streams: Vec<Stream>,
    idle: Vec<Stream>,
    next_id: u32,
    window: i64,
    first_window: i64,
    received: u32,
    begun: bool,
}

/// An answer: what was asked, and the message, with its gRPC head.
pub(super) type OnAnswer<'a> = &'a mut dyn FnMut(Asked, &[u8]) -> Result<(), Failure>;

impl Connection {
    pub(super) fn new(target: &Target<'_>) -> Result<Self, Failure> {
        let wire = Wire::connect(target.address, target.tls.as_ref())?;
        let authority = target.address.to_string();
        let mut out = Vec::new();
        frames::hello(&mut out);
        Ok(Connection {
            wire,
            headers: RequestHeaders::new(
                target.path,
                &authority,
                target.tls.is_some(),
                target.token,
            ),
            answers: AnswerHeaders::new(),
            calls: target.calls,
            out,
            input: Input::new(),
            streams: Vec::new(),
            idle: Vec::new(),
            next_id: 1,
            window: i64::from(FIRST_WINDOW),
            first_window: i64::from(FIRST_WINDOW),
            received: 0,
            begun: false,
        })
    }

    /// How many questions are under way.
    pub(super) fn under_way(&self) -> usize {
        self.streams.iter().map(|stream| stream.asked.len()).sum()
    }

    /// Asks: a call of its own, or one more message of the only call.
    pub(super) fn ask(&mut self, asked: Asked, message: &[u8]) {
        if self.calls == Calls::Unary || self.streams.is_empty() {
            self.open();
        }
        let Some(stream) = self.streams.last_mut() else { return };
        stream.asked.push_back(asked);
        let fits = message.len() <= LARGEST_FRAME
            && self.window.min(stream.window) >= message.len() as i64;
        if fits && stream.unsent.is_empty() {
            let end = if self.calls == Calls::Unary { flag::END_STREAM } else { 0 };
            frames::head(&mut self.out, message.len(), kind::DATA, end, stream.id);
            self.out.extend_from_slice(message);
            self.window -= message.len() as i64;
            stream.window -= message.len() as i64;
        } else {
            stream.unsent.extend(message);
            self.pump();
        }
    }

    fn open(&mut self) {
        let id = self.next_id;
        self.next_id += 2;
        let block = if self.begun { &self.headers.later } else { &self.headers.first };
        self.begun = true;
        frames::head(&mut self.out, block.len(), kind::HEADERS, flag::END_HEADERS, id);
        self.out.extend_from_slice(block);
        let window = self.first_window;
        self.streams.push(match self.idle.pop() {
            Some(used) => Stream { id, window, received: 0, ..used },
            None => Stream {
                id,
                window,
                asked: VecDeque::new(),
                unsent: VecDeque::new(),
                input: Vec::new(),
                received: 0,
            },
        });
    }

    /// Sends what windows allow of what waits for them.
    fn pump(&mut self) {
        for stream in &mut self.streams {
            while !stream.unsent.is_empty() {
                let allowed = self.window.min(stream.window).clamp(0, LARGEST_FRAME as i64);
                let length = stream.unsent.len().min(allowed as usize);
                if length == 0 {
                    break;
                }
                let last = self.calls == Calls::Unary && length == stream.unsent.len();
                let end = if last { flag::END_STREAM } else { 0 };
                frames::head(&mut self.out, length, kind::DATA, end, stream.id);
                self.out.extend(stream.unsent.drain(..length));
                self.window -= length as i64;
                stream.window -= length as i64;
            }
        }
    }

    /// Sends what is written so far, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() { Ok(()) } else { self.wire.send(&mut self.out) }
    }

    /// Takes what has come, until nothing more does.
    pub(super) fn receive(&mut self, on_answer: OnAnswer<'_>) -> Result<(), Failure> {
        loop {
            let all = self.wire.receive(&mut self.input)?;
            self.take_frames(on_answer)?;
            if all {
                return Ok(());
            }
        }
    }

    fn take_frames(&mut self, on_answer: OnAnswer<'_>) -> Result<(), Failure> {
        // Out of `self` while frames are looked at where they lie.
        let mut input = std::mem::replace(&mut self.input, Input::none());
        while let [a, b, c, kind, flags, stream @ ..] = input.rest() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(payload) = stream.get(4..4 + length) else { break };
            let id = [stream[0] & 0x7f, stream[1], stream[2], stream[3]];
            self.frame(*kind, *flags, u32::from_be_bytes(id), payload, on_answer)?;
            input.take(FRAME_HEAD + length);
        }
        self.input = input;
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        on_answer: OnAnswer<'_>,
    ) -> Result<(), Failure> {
        match kind {
            kind::DATA | kind::HEADERS if flags & flag::PADDED_OR_PRIORITY != 0 => {
                Err("a padded frame".into())
            }
            kind::DATA => self.data(id, payload, on_answer),
            kind::HEADERS => {
                if flags & flag::END_HEADERS == 0 {
                    return Err("headers in several frames".into());
                }
                let said = self.answers.read(payload)?;
                match (said, flags & flag::END_STREAM != 0) {
                    (Said::Begins, false) => Ok(()),
                    (Said::Done, true) => self.done(id),
                    _ => Err("a call that ended without a status".into()),
                }
            }
            kind::SETTINGS if flags & flag::ACK == 0 => {
                self.settings(payload);
                Ok(())
            }
            kind::PING if flags & flag::ACK == 0 => {
                frames::head(&mut self.out, payload.len(), kind::PING, flag::ACK, 0);
                self.out.extend_from_slice(payload);
                Ok(())
            }
            kind::WINDOW_UPDATE => {
                let more = payload.try_into().map_or(0, u32::from_be_bytes);
                match self.streams.iter_mut().find(|stream| stream.id == id) {
                    Some(stream) => stream.window += i64::from(more),
                    None if id == 0 => self.window += i64::from(more),
                    None => {}
                }
                self.pump();
                Ok(())
            }
            kind::RST_STREAM => Err(format!("the server reset a call: {payload:?}").into()),
            kind::GOAWAY => Err(format!("the server says goodbye: {payload:?}").into()),
            _ => Ok(()),
        }
    }

    fn settings(&mut self, payload: &[u8]) {
        const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
        for setting in payload.chunks_exact(6) {
            let (name, value) = setting.split_at(2);
            if name == INITIAL_WINDOW_SIZE {
                let value = i64::from(value.try_into().map_or(0, u32::from_be_bytes));
                let more = value - self.first_window;
                self.streams.iter_mut().for_each(|stream| stream.window += more);
                self.first_window = value;
            }
        }
        frames::head(&mut self.out, 0, kind::SETTINGS, flag::ACK, 0);
        self.pump();
    }

    fn data(&mut self, id: u32, payload: &[u8], on_answer: OnAnswer<'_>) -> Result<(), Failure> {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return Err("an answer that nobody waits for".into());
        };
        let bytes = payload.len() as u32;
        for (received, id) in [(&mut self.received, 0), (&mut stream.received, id)] {
            *received += bytes;
            if *received >= LOW_WINDOW {
                frames::window_update(&mut self.out, id, *received);
                *received = 0;
            }
        }
        let whole = stream.input.is_empty() && message(payload) == Some(payload.len());
        if whole {
            let asked = stream.asked.pop_front().ok_or("more answers than questions")?;
            return on_answer(asked, payload);
        }
        stream.input.extend_from_slice(payload);
        let mut taken = 0;
        while let Some(length) = message(&stream.input[taken..]) {
            let asked = stream.asked.pop_front().ok_or("more answers than questions")?;
            on_answer(asked, &stream.input[taken..taken + length])?;
            taken += length;
        }
        stream.input.drain(..taken);
        Ok(())
    }

    fn done(&mut self, id: u32) -> Result<(), Failure> {
        let place = self.streams.iter().position(|stream| stream.id == id);
        let stream = self.streams.remove(place.ok_or("an end that nobody waits for")?);
        if !stream.asked.is_empty() || !stream.input.is_empty() {
            return Err("a call ended without its answer".into());
        }
        self.idle.push(stream);
        Ok(())
    }
}

/// The length of the message that these bytes begin with, if it is all there.
fn message(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..MESSAGE_HEAD)?.try_into().map_or(0, u32::from_be_bytes);
    let whole = MESSAGE_HEAD + length as usize;
    (bytes.len() >= whole).then_some(whole)
}
