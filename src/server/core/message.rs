//! What a client sends with a call: most of the time it is all there when the call is looked at, or
//! comes a moment later.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

type Read = Result<Frame<Bytes>, hyper::Error>;

/// A request's body, of which the beginning may have been read already.
pub(super) struct Message {
    /// What was read, in its order.
    read: [Option<Read>; 2],
    rest: Incoming,
    /// Whether it was read to its end.
    ended: bool,
}

impl Message {
    /// Of which nothing has been read.
    pub(super) fn of(body: Incoming) -> Self {
        Message { read: [None, None], rest: body, ended: false }
    }

    /// All of it, as soon as it is there; nothing when it comes in more than one piece, or breaks off.
    pub(super) fn poll_whole(&mut self, context: &mut Context<'_>) -> Poll<Option<&[u8]>> {
        while !self.ended && !self.rest.is_end_stream() {
            let place = match &mut self.read {
                [first @ None, None] => first,
                [Some(Ok(_)), second @ None] => second,
                _ => return Poll::Ready(None),
            };
            match ready!(Pin::new(&mut self.rest).poll_frame(context)) {
                Some(frame) => *place = Some(frame),
                None => self.ended = true,
            }
        }
        Poll::Ready(match &self.read {
            [Some(Ok(frame)), None] => frame.data_ref().map(AsRef::as_ref),
            _ => None,
        })
    }
}

impl Body for Message {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(frame) = self.read.iter_mut().find_map(Option::take) {
            return Poll::Ready(Some(frame));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.read.iter().all(Option::is_none) && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
