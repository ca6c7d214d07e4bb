//! `rolegate health`: what `/readyz` says, as an exit code. An image without a shell has no other
//! program to ask with.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rolegate::files;
use rolegate::server::client_config;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Failure;
use super::listen::{ListenAddr, local};
use super::serve::AdminAddr;

/// The longest reason that is read.
const MAX_REASON_BYTES: usize = 4 << 10;

/// What `health` wants to know.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Where the server answers health checks, as `serve` was given it: HOST:PORT, :PORT or unix:PATH.
    #[arg(
        long,
        env = "ROLEGATE_ADMIN_ADDR",
        value_name = "ADDR",
        default_value = "127.0.0.1:50052"
    )]
    admin_addr: AdminAddr,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// How long to wait for an answer, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// How to ask a server that serves health over TLS.
#[derive(Debug, Args)]
struct ClientTlsArgs {
    /// Ask over TLS, as `serve --admin-tls` takes it, and trust these authorities, in PEM.
    #[arg(long, env = "ROLEGATE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name that the server's certificate must have, if it is not the address that is asked.
    #[arg(long, env = "ROLEGATE_TLS_NAME", value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
}

impl ClientTlsArgs {
    /// What encrypts, and whom the certificate must name; none without TLS.
    fn connector(
        self,
        address: &ListenAddr,
    ) -> Result<Option<(TlsConnector, ServerName<'static>)>, Failure> {
        let Some(file) = self.tls_ca else { return Ok(None) };
        let pem = files::read(&file)?;
        let config = client_config(Some(&pem), &file.display().to_string())?;
        let name = match self.tls_name {
            Some(name) => ServerName::try_from(name)
                .map_err(|_| "--tls-name is neither a DNS name nor an address")?,
            None => match address {
                ListenAddr::Ip(address) => ServerName::from(local(*address).ip()),
                ListenAddr::Named(name, _) => ServerName::try_from(name.clone())
                    .map_err(|_| "the host of --admin-addr is no DNS name: give --tls-name")?,
                ListenAddr::Every(_) => ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST)),
                ListenAddr::Unix(_) => {
                    return Err("over a Unix socket, --tls-ca needs --tls-name".into());
                }
            },
        };
        Ok(Some((TlsConnector::from(Arc::new(config)), name)))
    }
}

/// Works when the server is ready.
pub(super) async fn health(args: HealthArgs) -> Result<(), Failure> {
    let AdminAddr(Some(address)) = args.admin_addr else {
        return Err("the server has no admin port to ask: --admin-addr is none".into());
    };
    let time = Duration::from_secs(args.timeout);
    let tls = args.tls.connector(&address)?;
    let asking = async {
        if let ListenAddr::Unix(path) = &address {
            return over(tls, UnixStream::connect(path).await?).await;
        }
        let addresses = address.reachable().await?;
        over(tls, TcpStream::connect(&*addresses).await?).await
    };
    let (ready, said) = tokio::time::timeout(time, asking)
        .await
        .map_err(|_| format!("{address} did not answer within {time:?}"))?
        .map_err(|error| format!("{address} cannot be asked: {error}"))?;
    if ready { Ok(()) } else { Err(format!("not ready: {}", said.trim_end()).into()) }
}

/// Asks over this connection, encrypted if it is to be.
async fn over<S>(
    tls: Option<(TlsConnector, ServerName<'static>)>,
    stream: S,
) -> Result<(bool, String), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tls {
        None => ask(stream).await,
        Some((tls, name)) => ask(tls.connect(name, stream).await?).await,
    }
}

async fn ask<S>(stream: S) -> Result<(bool, String), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request =
        Request::get("/readyz").header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let ready = response.status().is_success();
    let body = Limited::new(response.into_body(), MAX_REASON_BYTES).collect().await;
    connection.abort();
    let said = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((ready, String::from_utf8_lossy(&said).into_owned()))
}
