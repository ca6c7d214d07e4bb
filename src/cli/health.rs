//! `rolegate health`: what `/readyz` says, as an exit code. An image without a shell has no other
//! program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Failure;
use super::serve::{AdminAddr, AdminArgs};

/// The longest reason that is read.
const MAX_REASON_BYTES: usize = 4 << 10;

/// What `health` wants to know.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// How long to wait for an answer, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Works when the server is ready.
pub(super) async fn health(args: HealthArgs) -> Result<(), Failure> {
    let AdminAddr(Some(address)) = args.admin.admin_addr else {
        return Err("the server has no admin port to ask: --admin-addr is none".into());
    };
    let time = Duration::from_secs(args.timeout);
    let (ready, said) = tokio::time::timeout(time, ask(reachable(address)))
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

async fn ask(address: SocketAddr) -> Result<(bool, String), Failure> {
    let stream = TcpStream::connect(address).await?;
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
