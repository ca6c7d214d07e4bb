//! One connection, encrypted or not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::grpc::authenticate::PeerInfo;
use crate::service::authentication::Peer;

/// What gRPC is spoken over.
#[derive(Debug)]
pub(in crate::server) struct Connection {
    stream: Stream,
    peer: Option<Arc<Peer>>,
    /// Completes when the connection must end.
    end: Option<oneshot::Receiver<()>>,
    ended: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Connection { stream: Stream::Plain(stream), peer: None, end: None, ended: false }
    }

    /// With the peer that a certificate names, and what ends the connection with it.
    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        known: Option<(Peer, oneshot::Receiver<()>)>,
    ) -> Self {
        let (peer, end) = known.unzip();
        Connection {
            stream: Stream::Tls(Box::new(stream)),
            peer: peer.map(Arc::new),
            end,
            ended: false,
        }
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
            return Ok(());
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
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
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
