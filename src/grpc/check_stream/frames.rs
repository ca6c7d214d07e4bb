//! The messages of a body, as they come.

use bytes::{Buf, Bytes, BytesMut};
use tonic::{Code, Status};

use crate::grpc::edge::{malformed, too_large};
use crate::grpc::framing::HEADER;

/// What came of a body and was not taken yet.
#[derive(Debug)]
pub(super) struct Frames {
    /// Whole messages, then perhaps the beginning of one.
    current: Bytes,
    /// The beginning of a message that goes on in what comes next. Not both at a time.
    partial: BytesMut,
    /// The largest message.
    limit: usize,
}

impl Frames {
    /// For messages of at most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Frames { current: Bytes::new(), partial: BytesMut::new(), limit }
    }

    /// More of the body. Everything that was whole has been taken before.
    pub(super) fn add(&mut self, data: Bytes) {
        if self.partial.is_empty() && self.current.is_empty() {
            self.current = data;
        } else {
            self.partial.extend_from_slice(&std::mem::take(&mut self.current));
            self.partial.extend_from_slice(&data);
        }
    }

    /// Whether the body may end here.
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.partial.is_empty()
    }

    /// Copies the beginning of a message: as long as it is a part of what was read, it keeps all that
    /// was read with it, which nobody counts.
    fn keep_partial(&mut self) {
        if !self.current.is_empty() {
            self.partial.extend_from_slice(&std::mem::take(&mut self.current));
        }
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// The message is too large, or compressed, or none.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let is_partial = !self.partial.is_empty();
        let have = if is_partial { &self.partial[..] } else { &self.current[..] };
        let Some((header, rest)) = have.split_first_chunk::<HEADER>() else {
            self.keep_partial();
            return Ok(None);
        };
        let [flag, length @ ..] = *header;
        if flag != 0 {
            return Err(malformed(Code::InvalidArgument, "messages must not be compressed"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > self.limit {
            return Err(too_large(self.limit));
        }
        if rest.len() < length {
            self.keep_partial();
            return Ok(None);
        }
        if is_partial {
            self.current = self.partial.split().freeze();
        }
        self.current.advance(HEADER);
        Ok(Some(self.current.split_to(length)))
    }
}

/// How many bytes of a body a message took.
pub(super) fn size(message: &Bytes) -> usize {
    HEADER + message.len()
}
