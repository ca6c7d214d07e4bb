//! The server of the admin port. Whoever reaches it can make it do little: one short answer a
//! connection, no body is read, and connections, their headers and their time are limited.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Format, Listener, Metrics, Socket, Version};
use crate::domain::throttle::Throttle;
use crate::service::readiness::Readiness;

/// How many connections are served at a time. One more ends the oldest of those that have not sent
/// their request yet: who sends half a request would keep probes out otherwise, and have the process
/// restarted by that.
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
async fn accepted(stream: Socket, tls: Option<AdminTls>, admin: &Admin, asked: &AtomicBool) {
    match tls {
        None => connection(stream, admin, asked).await.ok(),
        Some(tls) => match tls().accept(stream).await {
            Ok(stream) => connection(stream, admin, asked).await.ok(),
            Err(_) => None,
        },
    };
}

async fn connection<S>(stream: S, admin: &Admin, asked: &AtomicBool) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let answer = admin.answer(request.method(), request.uri().path(), request.headers());
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

/// Connections that are served, the oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<Open>,
}

struct Open {
    task: AbortHandle,
    /// Whether its request is there as a whole. What is left then takes no time but the network's.
    asked: Arc<AtomicBool>,
}

impl Connections {
    /// Waits until there is room for one more, which costs a half-sent request its connection.
    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.open.retain(|open| !open.task.is_finished());
            if self.open.len() < MAX_CONNECTIONS {
                return;
            }
            let half_sent = self.open.iter().position(|open| !open.asked.load(Ordering::Relaxed));
            match half_sent.and_then(|oldest| self.open.remove(oldest)) {
                Some(oldest) => oldest.task.abort(),
                None => drop(self.tasks.join_next().await),
            }
        }
    }

    fn serve(&mut self, stream: Socket, tls: Option<AdminTls>, admin: Arc<Admin>) {
        let asked = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&asked);
        let task = self.tasks.spawn(async move {
            let serving = accepted(stream, tls, &admin, &noted);
            tokio::time::timeout(CONNECTION_TIME, serving).await.ok();
        });
        self.open.push_back(Open { task, asked });
    }
}

impl Admin {
    /// Serves until it is dropped, which ends its connections too.
    pub async fn serve(self: Arc<Self>, listener: Listener, tls: Option<AdminTls>) {
        let mut connections = Connections::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.make_room().await;
                    connections.serve(stream, tls.clone(), Arc::clone(&self));
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

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let answer: &dyn Fn() -> Response<Full<Bytes>> = match path {
            "/livez" => &|| self.alive(),
            "/readyz" => &|| self.ready(),
            "/metrics" => &|| self.measured(headers),
            "/version" => &|| self.version(),
            _ => return text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        };
        if ![Method::GET, Method::HEAD].contains(method) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        answer()
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

    /// In OpenMetrics, unless the client takes the older text format only.
    fn measured(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let format = Format::asked_for(headers.get_all(ACCEPT));
        match self.metrics.text(format) {
            Ok(metrics) => respond(StatusCode::OK, format.content_type(), metrics),
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
