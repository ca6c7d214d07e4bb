//! What connections and calls may take, and who is let in to a listener.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::grpc::admission::RoomLimits;
use crate::service::allowance::RateLimit;

/// What stands before a message on its way, at most, in bytes.
const FRAMING: usize = 1 << 10;
/// How many TLS handshakes may be under way: they are worked on by the threads that answer calls.
const HANDSHAKES: usize = 256;
/// How many of them of one address, or one /64 of IPv6: else whoever begins many and says nothing
/// would take the turns of all others.
const HANDSHAKES_PER_ADDRESS: usize = 32;

/// What connections and calls may take. The command line documents each.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections.
    pub connections: usize,
    /// Connections of one address; of one /64 of IPv6.
    pub connections_per_address: usize,
    /// Calls under way on one connection.
    pub streams_per_connection: u32,
    /// Calls under way, on all connections.
    pub calls: usize,
    /// What messages under way may take together, in bytes; at least one of them.
    pub bytes: usize,
    /// How much of the calls and bytes, and of the streams of questions, one caller may have among
    /// others, in percent.
    pub share_per_caller: usize,
    /// When a connection is asked to end.
    pub connection_age: Duration,
    /// How long a connection may be without a call before it is asked to end; `None`: for good.
    pub connection_idle: Option<Duration>,
    /// Questions a second of each caller that has no limit in the callers file; `None`: without end.
    pub questions_per_second: Option<u32>,
    /// How long after a silence a connection is asked whether it is still there.
    pub keepalive: Duration,
}

impl ServeLimits {
    /// What a caller may ask that has no limit in the callers file.
    pub(super) fn rate(&self) -> Option<RateLimit> {
        self.questions_per_second.map(|per_second| RateLimit::new(per_second, None))
    }

    /// What is under way at once, of messages of up to so many bytes.
    pub(super) fn room(&self, message_bytes: usize) -> RoomLimits {
        let ServeLimits { calls, bytes, share_per_caller: percent, .. } = *self;
        let message_bytes = message_bytes.saturating_add(FRAMING);
        RoomLimits { calls, bytes: bytes.max(message_bytes), message_bytes, percent }
    }
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            connections: 2_000,
            connections_per_address: 500,
            streams_per_connection: 256,
            calls: 2_048,
            bytes: 512 << 20,
            share_per_caller: 50,
            connection_age: Duration::from_secs(30 * 60),
            connection_idle: Some(Duration::from_secs(15 * 60)),
            questions_per_second: None,
            keepalive: Duration::from_secs(30),
        }
    }
}

/// The connections to the gRPC port.
#[derive(Debug)]
pub(super) struct Door {
    limit: usize,
    limit_per_address: usize,
    inside: Mutex<Inside>,
    handshakes: Arc<Semaphore>,
    pub(super) too_many: AtomicU64,
    pub(super) too_many_of_address: AtomicU64,
    /// Of connections that never began to speak HTTP/2.
    pub(super) silent: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, Here>,
}

/// Of one address.
#[derive(Debug)]
struct Here {
    connections: usize,
    handshakes: Arc<Semaphore>,
}

impl Default for Here {
    fn default() -> Self {
        Here { connections: 0, handshakes: Arc::new(Semaphore::new(HANDSHAKES_PER_ADDRESS)) }
    }
}

impl Door {
    pub(super) fn new(limits: &ServeLimits) -> Arc<Self> {
        Arc::new(Door {
            limit: limits.connections,
            limit_per_address: limits.connections_per_address,
            inside: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            too_many: AtomicU64::new(0),
            too_many_of_address: AtomicU64::new(0),
            silent: AtomicU64::new(0),
        })
    }

    /// How many connections there are.
    pub(super) fn open(&self) -> u64 {
        self.inside().all as u64
    }

    /// A place for a connection from there, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut inside = self.inside();
        if inside.all >= self.limit {
            self.too_many.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let here = inside.by_address.entry(network).or_default();
        if here.connections >= self.limit_per_address {
            self.too_many_of_address.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        here.connections += 1;
        let handshakes = Arc::clone(&here.handshakes);
        inside.all += 1;
        drop(inside);
        Some(Place { door: Arc::clone(self), network, handshakes })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) door: Arc<Door>,
    network: IpAddr,
    /// Of its address.
    handshakes: Arc<Semaphore>,
}

impl Place {
    /// A turn for its handshake, when there is one.
    pub(super) async fn turn(&self) -> Turn {
        // First one of its address, so that nobody waits for its others with a turn of all. Neither
        // semaphore is ever closed.
        let mut turn = Vec::with_capacity(2);
        for turns in [&self.handshakes, &self.door.handshakes] {
            turn.extend(Arc::clone(turns).acquire_owned().await);
        }
        Turn { _turn: turn }
    }
}

/// A handshake's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: Vec<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside();
        inside.all = inside.all.saturating_sub(1);
        let left = inside.by_address.get_mut(&self.network).map(|here| {
            here.connections = here.connections.saturating_sub(1);
            here.connections
        });
        if left == Some(0) {
            inside.by_address.remove(&self.network);
        }
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_network_and_come_back() {
        let limits =
            ServeLimits { connections: 3, connections_per_address: 2, ..ServeLimits::default() };
        let door = Door::new(&limits);
        let enter = |ip: &str| door.enter(ip.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::ffff:2").unwrap();
        assert!(enter("2001:db8::3").is_none());
        let third = enter("2001:db8:0:1::1").unwrap();
        assert!(enter("10.0.0.1").is_none(), "all are taken");
        drop(third);
        drop(first);
        let _fourth = enter("10.0.0.1").unwrap();
        assert!(enter("2001:db8::3").is_some());
        assert_eq!(door.open(), 2);
        assert_eq!(door.too_many.load(Ordering::Relaxed), 1);
        assert_eq!(door.too_many_of_address.load(Ordering::Relaxed), 1);
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1");
    }

    #[tokio::test]
    async fn handshakes_take_turns_of_their_address_and_of_all() {
        let door = Door::new(&ServeLimits::default());
        let enter = |ip: &str| door.enter(ip.parse().unwrap()).unwrap();
        let at_once =
            async |place: &Place| tokio::time::timeout(Duration::ZERO, place.turn()).await;
        let (mut places, mut turns) = (Vec::new(), Vec::new());
        for host in 0..HANDSHAKES_PER_ADDRESS {
            let place = enter(&format!("2001:db8::{host:x}"));
            turns.push(at_once(&place).await.unwrap());
            places.push(place);
        }
        let one_more = enter("2001:db8::1");
        assert!(at_once(&one_more).await.is_err());
        let other = enter("2001:db8:0:1::1");
        assert!(at_once(&other).await.is_ok());
        turns.pop();
        assert!(at_once(&one_more).await.is_ok());
        // Several addresses together have no more than all.
        for network in 2..20 {
            for _ in 0..HANDSHAKES_PER_ADDRESS {
                let place = enter(&format!("2001:db8:0:{network:x}::1"));
                turns.extend(at_once(&place).await);
                places.push(place);
            }
        }
        assert_eq!(turns.len(), HANDSHAKES);
        assert!(at_once(&other).await.is_err());
        turns.clear();
        assert!(at_once(&other).await.is_ok());
    }
}
