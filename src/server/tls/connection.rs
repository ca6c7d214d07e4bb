//! One connection, encrypted or not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::grpc::authenticate::PeerInfo;
use crate::server::limits::Place;
use crate::service::authentication::Peer;

/// What gRPC is spoken over.
#[derive(Debug)]
pub(in crate::server) struct Connection {
    stream: Stream,
    peer: Option<Arc<Peer>>,
    /// Completes when the connection must end.
    end: Option<oneshot::Receiver<()>>,
    ended: bool,
    /// Until it has begun to speak HTTP/2: how much it has yet to say, and until when.
    beginning: Option<(usize, Pin<Box<Sleep>>)>,
    /// When it ends, whatever its client does.
    lifetime: Pin<Box<Sleep>>,
    place: Place,
}

/// How long a client may take to begin. HTTP/2 itself has no such limit, and asks nobody whether he
/// is still there before.
const BEGINNING: Duration = Duration::from_secs(10);
/// The preface and the head of the settings that follow it.
const BEGINNING_BYTES: usize = 24 + 9;

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, place: Place) -> Self {
        Self::new(Stream::Plain(stream), place, None, None)
    }

    /// With the peer that a certificate names, and what ends the connection with it.
    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        place: Place,
        known: Option<(Peer, oneshot::Receiver<()>)>,
    ) -> Self {
        let (peer, end) = known.unzip();
        Self::new(Stream::Tls(Box::new(stream)), place, peer.map(Arc::new), end)
    }

    fn new(
        stream: Stream,
        place: Place,
        peer: Option<Arc<Peer>>,
        end: Option<oneshot::Receiver<()>>,
    ) -> Self {
        let beginning = Some((BEGINNING_BYTES, Box::pin(tokio::time::sleep(BEGINNING))));
        let lifetime = Box::pin(tokio::time::sleep(place.door.lifetime));
        Connection { stream, peer, end, ended: false, beginning, lifetime, place }
    }

    /// An error once a client has taken too long to begin. `read`: what it has said just now.
    fn begin(&mut self, context: &mut Context<'_>, read: usize) -> io::Result<()> {
        let Some((missing, until)) = &mut self.beginning else { return Ok(()) };
        *missing = missing.saturating_sub(read);
        if *missing == 0 {
            self.beginning = None;
        } else if until.as_mut().poll(context).is_ready() {
            self.place.door.silent.fetch_add(1, Ordering::Relaxed);
            self.beginning = None;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not begin HTTP/2 in time"));
        }
        Ok(())
    }

    /// An error once the connection must end. HTTP/2 always waits for something to read, so it
    /// hears of it at once.
    fn go_on(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.ended
            && let Some(end) = &mut self.end
        {
            self.ended = Pin::new(end).poll(context).is_ready();
        }
        if !self.ended {
            return match self.lifetime.as_mut().poll(context) {
                Poll::Pending => Ok(()),
                Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "it is too old")),
            };
        }
        let why = "the client's certificate does not hold any more";
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo(self.peer.clone())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.go_on(context)?;
        let before = buffer.filled().len();
        let poll = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        self.begin(context, buffer.filled().len() - before)?;
        poll
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
