//! A client that says nothing: HTTP/2 itself has no limit for how long that may take, and asks nobody
//! whether he is still there before he has begun.

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
/// The preface and the head of the settings that follow it.
const BYTES: usize = 24 + 9;

/// A stream that fails when its client does not begin in time.
#[derive(Debug)]
pub(super) struct Beginning<S> {
    stream: S,
    /// Until it has begun.
    missing: Option<Missing>,
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
        Beginning { stream, missing: Some(Missing { bytes: BYTES, until, door }) }
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

impl<S: AsyncRead + Unpin> AsyncRead for Beginning<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
