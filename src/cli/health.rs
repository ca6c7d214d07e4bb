//! `rolegate health`: what `/readyz` says, as an exit code. An image without a shell has no other
//! program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Failure;
use super::serve::{AdminAddr, AdminArgs};

/// The longest reason that is read.
const MAX_REASON_BYTES: usize = 4 << 10;

/// What `health` wants to know.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
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
        address: SocketAddr,
    ) -> Result<Option<(TlsConnector, ServerName<'static>)>, Failure> {
        let Some(file) = self.tls_ca else { return Ok(None) };
        let pem = files::read(&file)?;
        let config = client_config(Some(&pem), &file.display().to_string())?;
        let name = match self.tls_name {
            Some(name) => ServerName::try_from(name)
                .map_err(|_| "--tls-name is neither a DNS name nor an address")?,
            None => ServerName::from(address.ip()),
        };
        Ok(Some((TlsConnector::from(Arc::new(config)), name)))
    }
}

/// Works when the server is ready.
pub(super) async fn health(args: HealthArgs) -> Result<(), Failure> {
    let AdminAddr(Some(address)) = args.admin.admin_addr else {
        return Err("the server has no admin port to ask: --admin-addr is none".into());
    };
    let time = Duration::from_secs(args.timeout);
    let address = reachable(address);
    let tls = args.tls.connector(address)?;
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        match tls {
            None => ask(address, stream).await,
            Some((tls, name)) => ask(address, tls.connect(name, stream).await?).await,
        }
    };
    let (ready, said) = tokio::time::timeout(time, asking)
        .await
        .map_err(|_| format!("{address} did not answer within {time:?}"))?
        .map_err(|error| format!("{address} cannot be asked: {error}"))?;
    if ready { Ok(()) } else { Err(format!("not ready: {}", said.trim_end()).into()) }
}

/// A server that listens everywhere is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask<S>(address: SocketAddr, stream: S) -> Result<(bool, String), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/readyz")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let ready = response.status().is_success();
    let body = Limited::new(response.into_body(), MAX_REASON_BYTES).collect().await;
    connection.abort();
    let said = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((ready, String::from_utf8_lossy(&said).into_owned()))
}
