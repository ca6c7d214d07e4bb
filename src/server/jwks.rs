//! Asking an issuer's URL for its keys: one request at a time, bounded in size and time, without
//! redirects or proxies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::reload::{self, AllReloads};
use super::tls;
use crate::service::authentication::{KeySet, KeyStore, LEAST_INTERVAL, MAX_KEY_SET_BYTES};

/// How often the keys are asked for.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// When to ask again after a failure.
const RETRY: Duration = Duration::from_secs(15);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps the keys of an issuer up to date, until it is dropped.
pub(super) async fn keep_asking(
    store: Arc<KeyStore>,
    url: String,
    authorities: Option<PathBuf>,
    reloads: Arc<AllReloads>,
) {
    loop {
        let answer = match tokio::time::timeout(PATIENCE, ask(&url, authorities.as_deref())).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        let keys = answer
            .and_then(|bytes| KeySet::parse(&bytes).map_err(|why| format!("the answer {why}")));
        let failed = keys.is_err();
        let ended = keys.map(|keys| store.replace(keys));
        let ended = ended.map_err(|why| format!("{url}: {why}"));
        reloads.keys.ended("a key set", ended);
        store.asked();
        // However many unknown keys come, not at once again.
        tokio::time::sleep(LEAST_INTERVAL).await;
        let pause = if failed { RETRY } else { INTERVAL } - LEAST_INTERVAL;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = store.wanted() => {}
        }
    }
}

async fn ask(url: &str, authorities: Option<&Path>) -> Result<Bytes, String> {
    let url: Uri = url.parse().map_err(|_| "is no URL")?;
    let host = url.host().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = connect(name, port, secure).await?;
    if !secure {
        return get(&url, stream).await;
    }
    let connector = TlsConnector::from(Arc::new(client_config(authorities).await?));
    let name = ServerName::try_from(name.to_owned()).map_err(|_| "has no sound host name")?;
    let stream = connector.connect(name, stream).await;
    get(&url, stream.map_err(|error| format!("TLS: {error}"))?).await
}

async fn connect(name: &str, port: u16, secure: bool) -> Result<TcpStream, String> {
    let cannot = |error: std::io::Error| format!("cannot connect: {error}");
    let found = tokio::net::lookup_host((name, port)).await.map_err(cannot)?;
    // Without TLS the keys may only come from this machine, whatever a name leads to.
    let found: Vec<SocketAddr> =
        found.filter(|address| secure || address.ip().is_loopback()).collect();
    TcpStream::connect(found.as_slice()).await.map_err(cannot)
}

async fn client_config(authorities: Option<&Path>) -> Result<ClientConfig, String> {
    let pem = match authorities {
        Some(path) => Some(reload::read(path).await.map_err(|error| error.to_string())?),
        None => None,
    };
    tls::client_config(pem.as_deref(), "jwks_ca_file")
}

async fn get<S>(url: &Uri, stream: S) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("the request failed: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends with what it carries.
    let mut carrying = tokio::task::JoinSet::new();
    carrying.spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json, application/jwk-set+json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_KEY_SET_BYTES).collect().await;
    Ok(body.map_err(|_| "the answer is too large or broke off")?.to_bytes())
}
