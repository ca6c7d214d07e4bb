//! What a client sends with a call: most of the time it is all there when the call is looked at.

use std::pin::Pin;
use std::task::{Context, Poll};

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
    pub(super) fn whole(body: Incoming) -> Self {
        Message { read: [None, None], rest: body, ended: false }
    }

    /// What is there of it, if that is little.
    pub(super) fn of(body: Incoming, context: &mut Context<'_>) -> Self {
        let mut message = Self::whole(body);
        let Message { read, rest, ended } = &mut message;
        for place in read {
            if !*ended && !rest.is_end_stream() {
                match Pin::new(&mut *rest).poll_frame(context) {
                    Poll::Ready(Some(frame)) => *place = Some(frame),
                    Poll::Ready(None) => *ended = true,
                    Poll::Pending => break,
                }
            }
        }
        message
    }

    /// All of it, if it is there and came in one piece.
    pub(super) fn complete(&self) -> Option<&[u8]> {
        match &self.read {
            [Some(Ok(frame)), None] if self.ended || self.rest.is_end_stream() => {
                frame.data_ref().map(AsRef::as_ref)
            }
            _ => None,
        }
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
