//! A network between a program and its database server that can be broken on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the network is. For connections that are open, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Good,
    /// Everything arrives that much later, either way.
    Slow(Duration),
    /// Connections are reset, new ones as soon as they are made.
    Resets,
    /// The server's side of each connection is closed; what the program says is still taken.
    HalfCloses,
    /// Connections are made and stay open, and nothing gets through. What was on its way arrives
    /// when the network is good again.
    Swallows,
}

/// Listens on loopback, and connects through to a server. Ends when dropped.
pub(crate) struct Proxy {
    port: u16,
    /// Where new connections are led.
    server: Arc<AtomicU16>,
    network: watch::Sender<Network>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = watch::Sender::new(Network::Good);
        let state = network.subscribe();
        let server = Arc::new(AtomicU16::new(server));
        let leads_to = Arc::clone(&server);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = leads_to.load(Ordering::SeqCst);
                tokio::spawn(connection(client, server, state.clone()));
            }
        });
        Proxy { port, server, network, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Leads new connections to another server, as a virtual address does after a failover. Those
    /// that are open stay where they are.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
    }

    /// The same, and cuts those that are open.
    pub(crate) async fn switch_to(&self, server: u16) {
        self.lead_to(server);
        self.set(Network::Resets);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.set(Network::Good);
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

/// Ends early, or never forwards anything, as the network is.
async fn connection(mut client: TcpStream, server: u16, mut state: watch::Receiver<Network>) {
    state.wait_for(|network| *network != Network::Swallows).await.ok();
    let network = *state.borrow_and_update();
    match network {
        Network::Resets => return reset(&client),
        Network::HalfCloses => {
            client.shutdown().await.ok();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.ok();
            return;
        }
        Network::Good | Network::Slow(_) | Network::Swallows => {}
    }
    // While the server is down, that is what the client should see.
    let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)).await else {
        return reset(&client);
    };
    client.set_nodelay(true).ok();
    upstream.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    let to_server = pump(from_client, to_server, state.clone(), false);
    let to_client = pump(from_server, to_client, state, true);
    tokio::select! {
        () = to_server => {}
        () = to_client => {}
    }
}

fn reset(socket: &TcpStream) {
    socket.set_zero_linger().ok();
}

/// Forwards one direction until it ends.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Network>,
    towards_client: bool,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut network = *state.borrow_and_update();
        let read = tokio::select! {
            changed = state.changed() => match changed {
                Ok(()) => None,
                Err(_) => return,
            },
            read = from.read(&mut buffer), if network != Network::Swallows => Some(read),
        };
        if read.is_none() {
            network = *state.borrow();
        }
        match network {
            Network::Resets => {
                let client = if towards_client { to.as_ref() } else { from.as_ref() };
                return reset(client);
            }
            Network::HalfCloses if towards_client => {
                to.shutdown().await.ok();
                // The other direction goes on.
                return std::future::pending().await;
            }
            Network::Slow(delay) => tokio::time::sleep(delay).await,
            Network::Good | Network::HalfCloses | Network::Swallows => {}
        }
        match read {
            None => {}
            Some(Ok(count)) if count > 0 => {
                // What was read just before nothing gets through any more waits with the rest.
                state.wait_for(|network| *network != Network::Swallows).await.ok();
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            Some(_) => {
                to.shutdown().await.ok();
                return;
            }
        }
    }
}
