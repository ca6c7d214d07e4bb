//! What connections and calls may take, and who is let in to a listener.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::strangers::{Ending, Ends, ProbeRefusals, Probes, Why};
use crate::grpc::admission::RoomLimits;
use crate::service::allowance::RateLimit;
use crate::service::under_way::Count;

/// What stands before a message on its way, at most, in bytes.
const FRAMING: usize = 1 << 10;
/// How many TLS handshakes may be under way: they are worked on by the threads that answer calls.
const HANDSHAKES: usize = 256;
/// How many of them of one address, or one /64 of IPv6: else whoever begins many and says nothing
/// would take the turns of all others.
const HANDSHAKES_PER_ADDRESS: usize = 32;
/// How many connections may be there besides those that have a place, because they were asked to make
/// room and have not gone yet.
const MAX_DISPLACED: usize = 64;

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
    /// Of all connections.
    probes: Count,
    pub(super) too_many: AtomicU64,
    pub(super) too_many_of_address: AtomicU64,
    /// Of connections that never began to speak HTTP/2.
    pub(super) silent: AtomicU64,
    /// Of connections that began to speak something else.
    pub(super) not_http2: AtomicU64,
    pub(super) ends: Arc<Ends>,
    pub(super) probes_refused: Arc<ProbeRefusals>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Without those that were asked to make room.
    all: usize,
    /// How many of these there still are.
    displaced: usize,
    by_address: HashMap<IpAddr, Here>,
    /// Counts connections, so that older ones have lower numbers.
    next: u64,
}

/// Of one address.
#[derive(Debug)]
struct Here {
    connections: usize,
    handshakes: Arc<Semaphore>,
    probes: Count,
    /// Those on which no caller has called, the oldest first.
    strangers: BTreeMap<u64, Arc<Ending>>,
}

impl Default for Here {
    fn default() -> Self {
        Here {
            connections: 0,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_PER_ADDRESS)),
            probes: Count::default(),
            strangers: BTreeMap::new(),
        }
    }
}

impl Inside {
    /// Ends the oldest connection of no caller from this address, and makes its place free; `false`:
    /// there is none.
    fn displace(&mut self, network: IpAddr) -> bool {
        if self.displaced >= MAX_DISPLACED {
            return false;
        }
        let Some(here) = self.by_address.get_mut(&network) else { return false };
        while let Some((_, ending)) = here.strangers.pop_first() {
            if ending.ask(Why::Displaced) {
                here.connections = here.connections.saturating_sub(1);
                self.all = self.all.saturating_sub(1);
                self.displaced += 1;
                return true;
            }
        }
        false
    }

    /// The address that has the most connections of no caller.
    fn strangest(&self) -> Option<IpAddr> {
        let most = self.by_address.iter().max_by_key(|(_, here)| here.strangers.len());
        most.map(|(network, _)| *network)
    }
}

impl Door {
    pub(super) fn new(limits: &ServeLimits) -> Arc<Self> {
        Arc::new(Door {
            limit: limits.connections,
            limit_per_address: limits.connections_per_address,
            inside: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            probes: Count::default(),
            too_many: AtomicU64::new(0),
            too_many_of_address: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            not_http2: AtomicU64::new(0),
            ends: Arc::default(),
            probes_refused: Arc::default(),
        })
    }

    /// How many connections there are.
    pub(super) fn open(&self) -> u64 {
        let inside = self.inside();
        (inside.all + inside.displaced) as u64
    }

    /// A place for a connection from there, if there is one. Where all are taken, one that no caller
    /// has called on makes room: else whoever opens many and proves nothing would keep callers out.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut inside = self.inside();
        let here = inside.by_address.get(&network).map_or(0, |here| here.connections);
        if here >= self.limit_per_address && !inside.displace(network) {
            self.too_many_of_address.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if inside.all >= self.limit {
            // From where there are the most of them.
            let displaced = inside.strangest().is_some_and(|network| inside.displace(network));
            if !displaced {
                self.too_many.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        inside.all += 1;
        inside.next += 1;
        let number = inside.next;
        let ending = Ending::new(&self.ends);
        let here = inside.by_address.entry(network).or_default();
        here.connections += 1;
        here.strangers.insert(number, Arc::clone(&ending));
        let handshakes = Arc::clone(&here.handshakes);
        let of_address = here.probes.clone();
        drop(inside);
        let refused = Arc::clone(&self.probes_refused);
        let probes = Probes::new(of_address, self.probes.clone(), refused);
        Some(Place { door: Arc::clone(self), network, number, handshakes, ending, probes })
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
    number: u64,
    /// Of its address.
    handshakes: Arc<Semaphore>,
    /// Ends the connection before its time.
    pub(super) ending: Arc<Ending>,
    pub(super) probes: Arc<Probes>,
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

    /// Whether no caller has called on it.
    pub(super) fn is_of_nobody(&self) -> bool {
        let inside = self.door.inside();
        let here = inside.by_address.get(&self.network);
        here.is_some_and(|here| here.strangers.contains_key(&self.number))
    }

    /// A caller has called on it: from now on it makes room for nobody.
    pub(super) fn is_of_a_caller(&self) {
        let mut inside = self.door.inside();
        if let Some(here) = inside.by_address.get_mut(&self.network) {
            here.strangers.remove(&self.number);
        }
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
        if self.ending.reason() == Some(Why::Displaced) {
            // It does not count any more where it came from.
            inside.displaced = inside.displaced.saturating_sub(1);
        } else {
            inside.all = inside.all.saturating_sub(1);
            if let Some(here) = inside.by_address.get_mut(&self.network) {
                here.connections = here.connections.saturating_sub(1);
                here.strangers.remove(&self.number);
            }
        }
        let is_left = |here: &Here| here.connections == 0;
        if inside.by_address.get(&self.network).is_some_and(is_left) {
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
        let enter = |ip: &str| {
            let place = door.enter(ip.parse().unwrap());
            place.inspect(Place::is_of_a_caller)
        };
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

    #[test]
    fn strangers_make_room_and_callers_do_not() {
        let limits =
            ServeLimits { connections: 4, connections_per_address: 3, ..ServeLimits::default() };
        let door = Door::new(&limits);
        let enter = |ip: &str| door.enter(ip.parse().unwrap());
        let asked = |place: &Place| place.ending.reason() == Some(Why::Displaced);
        let caller = enter("10.0.0.1").unwrap();
        caller.is_of_a_caller();
        let strangers = ["10.0.0.1", "10.0.0.1", "10.0.0.2"].map(|ip| enter(ip).unwrap());
        // All of this address are taken: its oldest that no caller has called on goes.
        let third = enter("10.0.0.1").unwrap();
        third.is_of_a_caller();
        assert_eq!(strangers.each_ref().map(asked), [true, false, false]);
        // All are taken: one goes from where the most are.
        let elsewhere = enter("10.0.0.3").unwrap();
        assert!(asked(&strangers[1]) != asked(&strangers[2]));
        elsewhere.is_of_a_caller();
        let last = enter("10.0.0.3").unwrap();
        last.is_of_a_caller();
        assert!(strangers.iter().all(asked));
        assert!(enter("10.0.0.4").is_none(), "callers only");
        assert_eq!(door.too_many.load(Ordering::Relaxed), 1);
        assert_eq!((door.open(), door.ends.get(Why::Displaced)), (7, 3));
        drop(strangers);
        assert_eq!(door.open(), 4);
        assert!(![&caller, &third, &elsewhere, &last].into_iter().any(asked));
        drop((caller, third, elsewhere, last));
        assert_eq!(door.open(), 0);
        assert!(door.inside().by_address.is_empty());
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
