//! The first bytes of a connection: whether they come in time, and whether they are HTTP/2. HTTP/2
//! itself has no limit for how long that may take, and asks nobody whether he is still there before he
//! has begun; and a server of it speaks first, which no client of another protocol understands.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::server::limits::Door;

/// How long a client may take to begin.
const TIME: Duration = Duration::from_secs(10);
/// The first bytes of every client of HTTP/2.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The preface and the head of the settings that follow it.
const BYTES: usize = PREFACE.len() + 9;

/// Protocol that a client speaks, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2.
    Http2,
    /// Letters, as HTTP/1 begins with.
    Http1,
    /// None that could be answered, such as TLS where none is expected.
    Unknown,
}

/// A stream that fails when its client does not begin in time.
#[derive(Debug)]
pub(super) struct Beginning<S> {
    stream: S,
    /// Until it has begun.
    missing: Option<Missing>,
    /// First bytes, to be read once more.
    again: Vec<u8>,
}

#[derive(Debug)]
struct Missing {
    bytes: usize,
    until: Pin<Box<Sleep>>,
    door: Arc<Door>,
}

impl<S> Beginning<S> {
    /// The door counts those who do not.
    pub(super) fn new(stream: S, door: Arc<Door>) -> Self {
        let until = Box::pin(tokio::time::sleep(TIME));
        let missing = Some(Missing { bytes: BYTES, until, door });
        Beginning { stream, missing, again: Vec::new() }
    }

    fn begin(&mut self, context: &mut Context<'_>, read: usize) -> io::Result<()> {
        let Some(missing) = &mut self.missing else { return Ok(()) };
        missing.bytes = missing.bytes.saturating_sub(read);
        if missing.bytes == 0 {
            self.missing = None;
        } else if missing.until.as_mut().poll(context).is_ready() {
            missing.door.silent.fetch_add(1, Ordering::Relaxed);
            self.missing = None;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not begin HTTP/2 in time"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Beginning<S> {
    /// Reads until it is certain what the client speaks. What was read is read once more by whoever
    /// reads next.
    pub(super) async fn protocol(&mut self) -> io::Result<Protocol> {
        let mut first = [0; PREFACE.len()];
        let mut buffer = ReadBuf::new(&mut first);
        let protocol = loop {
            let before = buffer.filled().len();
            poll_fn(|context| Pin::new(&mut *self).poll_read(context, &mut buffer)).await?;
            match buffer.filled() {
                read if read.len() == before => return Err(io::ErrorKind::UnexpectedEof.into()),
                read if read == PREFACE => break Protocol::Http2,
                read if PREFACE.starts_with(read) => {}
                read => {
                    // Other limits count for these, or none is needed.
                    let door = self.missing.take().map(|missing| missing.door);
                    if let Some(door) = door {
                        door.not_http2.fetch_add(1, Ordering::Relaxed);
                    }
                    let is_text = read.first().is_some_and(u8::is_ascii_alphabetic);
                    break if is_text { Protocol::Http1 } else { Protocol::Unknown };
                }
            }
        };
        self.again = buffer.filled().to_vec();
        Ok(protocol)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Beginning<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.again.is_empty() {
            let length = self.again.len().min(buffer.remaining());
            buffer.put_slice(self.again.drain(..length).as_slice());
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.begin(context, buffer.filled().len() - before)?;
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beginning<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
