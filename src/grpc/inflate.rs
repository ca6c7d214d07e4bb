//! Compressed requests. A message that is compressed with gzip is unpacked here, in front of everything
//! that reads messages, so that nothing behind has to know of it.
//!
//! What is unpacked counts among the bytes under way as it grows, and no more than a message may have is
//! unpacked: what would become gigabytes is refused after that, in the memory of one message.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};
use tonic::{Code, Status};
use tower::BoxError;

use super::edge::{malformed, too_large};
use super::framing::HEADER;

/// How the messages of a call are compressed.
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How they may be.
pub(super) const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// What this server takes.
pub(super) const ENCODINGS: &str = "identity,gzip";
/// How much is unpacked at a time.
const STEP: usize = 16 << 10;

/// Takes the encoding of a call's messages from its headers: whether they may be compressed.
///
/// # Errors
/// The encoding is none that this server takes.
pub(super) fn take_encoding(headers: &mut HeaderMap) -> Result<bool, Status> {
    match headers.remove(ENCODING) {
        None => Ok(false),
        Some(encoding) if encoding == "identity" => Ok(false),
        Some(encoding) if encoding == "gzip" => Ok(true),
        Some(encoding) => {
            let said = format!(
                "Content is compressed with {encoding:?}, which isn't supported; {ENCODINGS} are"
            );
            Err(malformed(Code::Unimplemented, &said))
        }
    }
}

/// Account of the bytes that a call has under way.
pub(super) trait Account {
    /// Counts so many more.
    fn hold(&self, bytes: usize) -> Result<(), Status>;
    /// Counts so many less.
    fn release(&self, bytes: usize);
}

/// The body of a request with its messages unpacked. What comes packed is on the account already.
pub(super) struct Inflated<B, A> {
    packed: B,
    account: A,
    /// The largest message.
    limit: usize,
    /// Of a message that is not there as a whole.
    read: BytesMut,
}

impl<B, A: Account> Inflated<B, A> {
    pub(super) fn new(packed: B, account: A, limit: usize) -> Self {
        Inflated { packed, account, limit, read: BytesMut::new() }
    }

    /// Returns what is there as a whole, unpacked.
    fn unpacked(&mut self) -> Result<Bytes, Status> {
        let mut all = BytesMut::new();
        while let Some((&[flag, ref length @ ..], rest)) = self.read.split_first_chunk::<HEADER>() {
            let length = u32::from_be_bytes(*length) as usize;
            // Of both: what is packed has to be held until it is there.
            if length > self.limit {
                return Err(too_large(self.limit));
            }
            let Some(message) = rest.get(..length) else { break };
            if flag == 1 {
                let message = self.inflate(message)?;
                self.account.release(length);
                let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
                all.extend_from_slice(&[0]);
                all.extend_from_slice(&length.to_be_bytes());
                all.extend_from_slice(&message);
            } else {
                all.extend_from_slice(self.read.get(..HEADER + length).unwrap_or_default());
            }
            self.read.advance(HEADER + length);
        }
        Ok(all.freeze())
    }

    fn inflate(&self, packed: &[u8]) -> Result<Vec<u8>, Status> {
        let mut reader = MultiGzDecoder::new(packed);
        let mut message = Vec::new();
        let mut step = [0; STEP];
        loop {
            let read = reader.read(&mut step).map_err(|error| {
                let said = format!("Error decompressing: {error}");
                malformed(Code::InvalidArgument, &said)
            })?;
            let Some(read) = step.get(..read).filter(|read| !read.is_empty()) else {
                return Ok(message);
            };
            if message.len() + read.len() > self.limit {
                return Err(too_large(self.limit));
            }
            self.account.hold(read.len())?;
            message.extend_from_slice(read);
        }
    }
}

impl<B, A> Body for Inflated<B, A>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
    A: Account + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match ready!(Pin::new(&mut self.packed).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.read.extend_from_slice(&data);
                        let unpacked = self.unpacked()?;
                        if !unpacked.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(unpacked))));
                        }
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // A part of a message: who reads it says what is wrong with it.
                None if !self.read.is_empty() => {
                    let rest = self.read.split().freeze();
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMIT: usize = 1 << 20;

    #[derive(Default)]
    struct Counted {
        now: Cell<usize>,
        most: Cell<usize>,
    }

    impl Account for &Counted {
        fn hold(&self, bytes: usize) -> Result<(), Status> {
            self.now.set(self.now.get() + bytes);
            self.most.set(self.most.get().max(self.now.get()));
            Ok(())
        }

        fn release(&self, bytes: usize) {
            self.now.set(self.now.get() - bytes);
        }
    }

    /// Gives these pieces, counted as they come.
    struct Pieces<'a>(Vec<Bytes>, &'a Counted);

    impl Body for Pieces<'_> {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let piece = (!self.0.is_empty()).then(|| self.0.remove(0));
            self.1.hold(piece.as_ref().map_or(0, Bytes::len)).unwrap();
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
    }

    fn packed(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).unwrap();
        framed(1, &encoder.finish().unwrap())
    }

    /// What is read of this, in pieces of so many bytes.
    fn read(sent: &[u8], size: usize, counted: &Counted) -> Result<Vec<u8>, Status> {
        let pieces = sent.chunks(size).map(Bytes::copy_from_slice).collect();
        let mut body = Inflated::new(Pieces(pieces, counted), counted, LIMIT);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => all.extend_from_slice(&frame.into_data().unwrap()),
                Poll::Ready(Some(Err(error))) => return Err(*error.downcast().unwrap()),
                Poll::Ready(None) => return Ok(all),
                Poll::Pending => panic!("nothing is waited for"),
            }
        }
    }

    #[test]
    fn messages_come_out_as_they_were_and_count_as_they_are() {
        let long = "a long message ".repeat(10_000).into_bytes();
        let sent = [packed(b"one"), framed(0, b"plain"), packed(&long), packed(b"")].concat();
        let expected =
            [framed(0, b"one"), framed(0, b"plain"), framed(0, &long), framed(0, b"")].concat();
        for size in [1, 7, 1_000, sent.len()] {
            let counted = Counted::default();
            assert_eq!(read(&sent, size, &counted).unwrap(), expected, "{size}");
            assert_eq!(counted.now.get(), expected.len(), "{size}");
        }
        // What is broken off is left to who reads it.
        let counted = Counted::default();
        assert_eq!(read(&sent[..4], 4, &counted).unwrap(), sent[..4]);
    }

    #[test]
    fn a_bomb_is_refused_within_the_memory_of_a_message() {
        let bomb = framed(1, &packed(&vec![0; LIMIT])[HEADER..].repeat(64));
        assert!(bomb.len() < LIMIT / 8);
        for (sent, what) in [(bomb, "a bomb"), (framed(1, &vec![0; LIMIT + 1]), "packed already")] {
            let counted = Counted::default();
            let status = read(&sent, 16_000, &counted).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{what}");
            assert!(counted.most.get() <= 2 * LIMIT, "{what}: {}", counted.most.get());
        }
        let exactly = packed(&vec![7; LIMIT]);
        assert_eq!(read(&exactly, 16_000, &Counted::default()).unwrap().len(), HEADER + LIMIT);
    }

    #[test]
    fn what_is_no_gzip_is_told_as_that() {
        for sent in [framed(1, b"not gzip"), framed(1, b"")] {
            let status = read(&sent, 100, &Counted::default()).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains("Error decompressing"), "{status:?}");
        }
    }

    #[test]
    fn encodings_are_taken_or_refused() {
        let take = |encoding: &str| {
            let mut headers = HeaderMap::from_iter([(ENCODING, encoding.parse().unwrap())]);
            let taken = take_encoding(&mut headers);
            assert!(headers.is_empty());
            taken.map_err(|status| status.code())
        };
        assert_eq!(take("identity"), Ok(false));
        assert_eq!(take("gzip"), Ok(true));
        assert_eq!(take("deflate"), Err(Code::Unimplemented));
        assert!(!take_encoding(&mut HeaderMap::new()).unwrap());
    }
}
