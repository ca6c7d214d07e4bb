//! How gRPC frames a message: a flag, a length of four bytes, the message. See
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

/// Whether it is compressed, and its length, stand before every message.
pub const HEADER: usize = 1 + 4;

/// The one message that these bytes are, if it is whole and not compressed.
pub(super) fn only(bytes: &[u8]) -> Option<&[u8]> {
    let (header, message) = bytes.split_first_chunk::<HEADER>()?;
    let [0, length @ ..] = *header else { return None };
    (u32::from_be_bytes(length) as usize == message.len()).then_some(message)
}

/// The message that these bytes begin with, as far as it is there.
pub(super) fn first(bytes: &[u8]) -> &[u8] {
    let Some(([_, length @ ..], rest)) = bytes.split_first_chunk::<HEADER>() else { return &[] };
    rest.get(..u32::from_be_bytes(*length) as usize).unwrap_or(rest)
}

/// Writes a message with what stands before it.
pub(super) fn framed(to: &mut Vec<u8>, message: impl FnOnce(&mut Vec<u8>)) {
    let start = begin(to);
    message(to);
    end(to, start);
}

/// Begins a message: where it stands.
pub(super) fn begin(to: &mut Vec<u8>) -> usize {
    let start = to.len();
    to.extend_from_slice(&[0; HEADER]);
    start
}

/// Ends the message that begins there.
pub(super) fn end(to: &mut [u8], start: usize) {
    // What is answered is far below 4 GiB: questions are bounded.
    let length = u32::try_from(to.len() - start - HEADER).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = to.get_mut(start + 1..start + HEADER) {
        place.copy_from_slice(&length);
    }
}
