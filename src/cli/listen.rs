//! Where servers listen and are asked: `HOST:PORT`, `:PORT`, `unix:PATH`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use rolegate::http::{Listener, UnixSocket};
use tokio::net::{TcpListener, lookup_host};

/// Address as somebody types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListenAddr {
    /// An address and a port.
    Ip(SocketAddr),
    /// A name, to be looked up, and a port.
    Named(String, u16),
    /// A port on every address of the machine.
    Every(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            "not an address to listen on: HOST:PORT, such as 127.0.0.1:50051 or localhost:50051; \
             :PORT for every address of the machine; or unix:PATH"
                .to_owned()
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(unknown()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(unknown)?;
        let port = port.parse().map_err(|_| unknown())?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match host {
            "" => Ok(Self::Every(port)),
            name if name.bytes().all(is_name) => Ok(Self::Named(name.to_owned(), port)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Named(name, port) => write!(f, "{name}:{port}"),
            Self::Every(port) => write!(f, ":{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddr {
    /// Listens there, as this flag says.
    pub(super) async fn listen(&self, flag: &str) -> Result<Listener, String> {
        let listener = match self {
            Self::Ip(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Self::Named(name, port) => bind_name(name, *port).await,
            Self::Every(port) => bind_every(*port).await,
            Self::Unix(path) => UnixSocket::bind(path).await.map(Listener::Unix),
        };
        listener.map_err(|error| match (self, error.kind()) {
            (Self::Unix(_), io::ErrorKind::AddrInUse) => format!(
                "{self} is taken: a server answers there. Stop that one, or choose another path \
                 with {flag}"
            ),
            (Self::Unix(_), io::ErrorKind::AlreadyExists) => format!(
                "{self} is a file that is no socket, so it is left alone: choose another path with \
                 {flag}"
            ),
            (_, io::ErrorKind::AddrInUse) => format!(
                "{self} is taken, perhaps by another rolegate: stop that one, or choose another \
                 port with {flag}"
            ),
            _ => format!("cannot listen on {self} ({flag}): {error}"),
        })
    }

    /// Returns the addresses at which a server that listens there is asked: on loopback, if it listens
    /// everywhere. None of a Unix socket.
    pub(super) async fn reachable(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(match self {
            Self::Ip(address) => vec![local(*address)],
            Self::Named(name, port) => resolve(name, *port).await?,
            Self::Every(port) => {
                vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()]
            }
            Self::Unix(_) => Vec::new(),
        })
    }
}

/// Returns where a server on this machine is asked that listens there.
pub(super) fn local(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Returns the addresses of a name, those of IPv4 first, as clients try them.
async fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = lookup_host((name, port)).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

/// Listens on the first address of a name.
async fn bind_name(name: &str, port: u16) -> io::Result<Listener> {
    let found = resolve(name, port).await?;
    let Some(address) = found.first() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    };
    TcpListener::bind(address).await.map(Listener::Tcp)
}

/// Listens on every address, of IPv6 and IPv4 alike where the machine has both.
async fn bind_every(port: u16) -> io::Result<Listener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
    .map(Listener::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (text, address) in [
            ("127.0.0.1:50051", ListenAddr::Ip("127.0.0.1:50051".parse().unwrap())),
            ("[::1]:0", ListenAddr::Ip("[::1]:0".parse().unwrap())),
            ("localhost:50051", ListenAddr::Named("localhost".into(), 50051)),
            (":50051", ListenAddr::Every(50051)),
            ("unix:run/rolegate.sock", ListenAddr::Unix("run/rolegate.sock".into())),
            ("unix:/run/rolegate.sock", ListenAddr::Unix("/run/rolegate.sock".into())),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()), "{text}");
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("unix:///run/a".parse(), Ok(ListenAddr::Unix("/run/a".into())));
        for text in
            ["", "localhost", "unix:", "host:", "host:70000", "a:b:1", "http://x:1", "::1:1:x"]
        {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
    }
}
