//! The server of the admin port. Whoever reaches it can make it do little: one short answer a
//! connection, no body is read, and connections, their headers and their time are limited.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Metrics, Version};
use crate::domain::throttle::Throttle;
use crate::service::readiness::Readiness;

/// How many connections are served at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for the head of its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// What to wait after a connection could not be accepted, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What the admin port answers from.
#[derive(Debug)]
pub struct Admin {
    /// Whether this server should be sent requests.
    pub readiness: Readiness,
    /// What is measured.
    pub metrics: Metrics,
    /// What is running.
    pub version: Version,
}

/// What encrypts a connection; asked for each, because certificates change.
pub type AdminTls = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// A connection that fails is its client's affair.
async fn accepted(stream: TcpStream, tls: Option<AdminTls>, admin: &Admin) {
    match tls {
        None => connection(stream, admin).await.ok(),
        Some(tls) => match tls().accept(stream).await {
            Ok(stream) => connection(stream, admin).await.ok(),
            Err(_) => None,
        },
    };
}

async fn connection<S>(stream: S, admin: &Admin) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let answer = admin.answer(request.method(), request.uri().path());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        // Nobody keeps a place that it does not use, and no body has to be read for the next request.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Admin {
    /// Serves until it is dropped, which ends its connections too.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<AdminTls>) {
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // It is never closed.
            let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (admin, tls) = (Arc::clone(&self), tls.clone());
                    connections.spawn(async move {
                        tokio::time::timeout(CONNECTION_TIME, accepted(stream, tls, &admin))
                            .await
                            .ok();
                        drop(place);
                    });
                }
                Err(error) => {
                    static REFUSED: Throttle = Throttle::each_second();
                    if let Some(more) = REFUSED.admit() {
                        let said = "a connection to the admin port could not be accepted";
                        tracing::warn!(%error, more, "{said}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let answer = match path {
            "/livez" => Admin::alive,
            "/readyz" => Admin::ready,
            "/metrics" => Admin::measured,
            "/version" => Admin::version,
            _ => return text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        };
        if ![Method::GET, Method::HEAD].contains(method) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        answer(self)
    }

    /// Whoever can answer is alive. Nothing else counts: restarting does not mend a database.
    fn alive(&self) -> Response<Full<Bytes>> {
        text(StatusCode::OK, "alive\n")
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.readiness.obstacle() {
            None => match self.readiness.impairment() {
                None => text(StatusCode::OK, "ready\n"),
                Some(reason) => {
                    let body = format!("ready, but changes cannot be written: {reason}\n");
                    text(StatusCode::OK, body)
                }
            },
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }

    fn measured(&self) -> Response<Full<Bytes>> {
        match self.metrics.text() {
            Ok(metrics) => respond(StatusCode::OK, Metrics::CONTENT_TYPE, metrics),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
        }
    }

    fn version(&self) -> Response<Full<Bytes>> {
        match serde_json::to_string(&self.version) {
            Ok(version) => respond(StatusCode::OK, JSON, version + "\n"),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the version cannot be written\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, TEXT, body)
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
