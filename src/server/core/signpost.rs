//! The answer to a client of HTTP/1: one line of text that says what this port speaks. It costs little
//! and takes little time, whatever the client does.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http::Request;
use http::header::HOST;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::grpc::not_grpc::NotGrpc;

/// How long a client may take for the head of its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long the connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// What is read of a request beyond its head, in bytes.
const MAX_REST_BYTES: u64 = 64 << 10;
/// How long a client may go on sending once it was answered.
const REST_TIME: Duration = Duration::from_secs(1);

/// Answers one request, and ends the connection.
pub(super) async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, is_encrypted: bool) {
    let answered = tokio::time::timeout(CONNECTION_TIME, one(stream, is_encrypted)).await;
    if let Ok(Err(error)) = answered {
        tracing::debug!(%error, "a request over HTTP/1 was not answered");
    }
}

async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    is_encrypted: bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let response = NotGrpc::Version.response(host, is_encrypted).map(Full::new);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let stream = connection.without_shutdown().await?.io.into_inner();
    tokio::time::timeout(REST_TIME, end(stream)).await.unwrap_or(Ok(()))?;
    Ok(())
}

/// Ends a connection on which the client may still be sending. Closed at once, it would be reset, and
/// the client told of that instead of the answer.
async fn end(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_REST_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
