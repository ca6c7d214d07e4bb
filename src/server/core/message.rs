//! What a client sends with a call: most of the time it is all there when the call is looked at, or
//! comes a moment later. It breaks off when the client gives the call up, or is gone: then nobody is
//! left to be answered, so nothing more is told of it. hyper drops such a call right after it has
//! waited, and a call that is dropped counts as cancelled.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A request's body, of which the beginning may have been read already.
pub(super) struct Message {
    /// What was read, in its order.
    read: [Option<Frame<Bytes>>; 2],
    rest: Incoming,
    /// Whether it was read to its end.
    ended: bool,
}

impl Message {
    /// Of which nothing has been read.
    pub(super) fn of(body: Incoming) -> Self {
        Message { read: [None, None], rest: body, ended: false }
    }

    /// All of it, as soon as it is there; nothing when it comes in more than one piece.
    pub(super) fn poll_whole(&mut self, context: &mut Context<'_>) -> Poll<Option<&[u8]>> {
        while !self.ended && !self.rest.is_end_stream() {
            let place = match &mut self.read {
                [first @ None, None] => first,
                [Some(_), second @ None] => second,
                _ => return Poll::Ready(None),
            };
            match ready!(poll_next(&mut self.rest, context)) {
                Some(frame) => *place = Some(frame),
                None => self.ended = true,
            }
        }
        Poll::Ready(match &self.read {
            [Some(frame), None] => frame.data_ref().map(AsRef::as_ref),
            _ => None,
        })
    }
}

/// The next piece; never, when it breaks off.
fn poll_next(body: &mut Incoming, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
    match ready!(Pin::new(body).poll_frame(context)) {
        Some(Ok(frame)) => Poll::Ready(Some(frame)),
        Some(Err(_)) => Poll::Pending,
        None => Poll::Ready(None),
    }
}

impl Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(frame) = self.read.iter_mut().find_map(Option::take) {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        poll_next(&mut self.rest, context).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.read.iter().all(Option::is_none) && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
