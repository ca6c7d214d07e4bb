//! Clients that have not proved to be a caller: what they may hold, and how their connections end.
//! Nothing of it is taken from what callers have.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tonic::Status;

use crate::grpc::admission::{Whose, overloaded};
use crate::service::under_way::Count;

/// Probes that wait, for their messages or for changes to tell: of one connection, of one address, of
/// all. The first of each connection is counted with neither of the last two, so that one probe
/// always has its place, whatever others do.
const PROBES_PER_CONNECTION: usize = 32;
const PROBES_PER_ADDRESS: usize = 512;
const PROBES: usize = 8_192;
/// Calls in a row that may be refused because nobody known made them, until their connection ends.
pub(super) const MAX_REFUSED: u32 = 100;
/// How often the end of such connections is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connection is ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its place is wanted, and no caller has called on it.
    Displaced,
    /// Call after call on it was refused as one of nobody.
    Refused,
    /// Its client does not take its answers, and there is no room for more of them.
    Unread,
    /// More calls at once than probes need, on a connection on which no caller has called.
    Crowded,
}

impl Why {
    /// All of them, in the order of declaration.
    pub(super) const ALL: [Why; 4] = [Why::Displaced, Why::Refused, Why::Unread, Why::Crowded];

    /// Its name for operators.
    pub(super) fn name(self) -> &'static str {
        match self {
            Why::Displaced => "displaced",
            Why::Refused => "refused",
            Why::Unread => "unread",
            Why::Crowded => "crowded",
        }
    }

    fn said(self) -> &'static str {
        match self {
            Why::Displaced => "a connection of no known caller made room for another",
            Why::Refused => "a connection was ended: call after call on it was one of nobody known",
            Why::Unread => "a connection was ended: its client does not read its answers",
            Why::Crowded => {
                "a connection of no known caller was ended: it had more calls at once than probes need"
            }
        }
    }
}

/// How many connections were ended, by the reason. Told to the log now and then.
#[derive(Debug, Default)]
pub(super) struct Ends {
    counts: [AtomicU64; Why::ALL.len()],
    log: [Mutex<Unlogged>; Why::ALL.len()],
}

#[derive(Debug, Default)]
struct Unlogged {
    last: Option<Instant>,
    others: u64,
}

impl Ends {
    pub(super) fn get(&self, why: Why) -> u64 {
        self.counts.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn add(&self, why: Why) {
        let (Some(count), Some(log)) = (self.counts.get(why as usize), self.log.get(why as usize))
        else {
            return;
        };
        count.fetch_add(1, Ordering::Relaxed);
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.last.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            log.others += 1;
            return;
        }
        log.last = Some(Instant::now());
        let others = std::mem::take(&mut log.others);
        drop(log);
        tracing::warn!(reason = why.name(), others, "{}", why.said());
    }
}

/// Asks one connection to end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    why: Mutex<Option<Why>>,
    asked: Notify,
    ends: Arc<Ends>,
}

impl Ending {
    /// Counted here when it is asked.
    pub(super) fn new(ends: &Arc<Ends>) -> Arc<Self> {
        Arc::new(Ending { ends: Arc::clone(ends), ..Ending::default() })
    }

    /// Asks it, the first time; `false`: it was asked before.
    pub(super) fn ask(&self, why: Why) -> bool {
        let mut asked = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some() {
            return false;
        }
        *asked = Some(why);
        drop(asked);
        self.ends.add(why);
        self.asked.notify_one();
        true
    }

    /// Whether it was asked already.
    pub(super) fn reason(&self) -> Option<Why> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when it was asked. For one listener.
    pub(super) async fn asked(&self) -> Why {
        loop {
            if let Some(why) = self.reason() {
                return why;
            }
            self.asked.notified().await;
        }
    }
}

/// How often a probe found no place.
#[derive(Debug, Default)]
pub(super) struct ProbeRefusals {
    pub(super) of_connection: AtomicU64,
    pub(super) of_address: AtomicU64,
    pub(super) of_server: AtomicU64,
}

/// The probes of one connection that wait, and calls of nobody that wait for an issuer's keys.
#[derive(Debug)]
pub(super) struct Probes {
    of_connection: AtomicUsize,
    of_address: Count,
    of_server: Count,
    refused: Arc<ProbeRefusals>,
}

impl Probes {
    /// Of a connection from an address that has so many, on a server that has so many.
    pub(super) fn new(
        of_address: Count,
        of_server: Count,
        refused: Arc<ProbeRefusals>,
    ) -> Arc<Self> {
        Arc::new(Probes { of_connection: AtomicUsize::new(0), of_address, of_server, refused })
    }

    /// A place for one more.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Probing, Status> {
        let refused = |count: &AtomicU64, limit, whose| {
            count.fetch_add(1, Ordering::Relaxed);
            overloaded("probes", limit, whose)
        };
        let before = self.of_connection.fetch_add(1, Ordering::Relaxed);
        // Gives the place back, whatever comes now.
        let mut place = Probing { probes: Arc::clone(self), shared: false };
        if before >= PROBES_PER_CONNECTION {
            let count = &self.refused.of_connection;
            return Err(refused(count, PROBES_PER_CONNECTION, Whose::Connection));
        }
        if before > 0 {
            if !self.of_address.add(1, PROBES_PER_ADDRESS) {
                let count = &self.refused.of_address;
                return Err(refused(count, PROBES_PER_ADDRESS, Whose::Address));
            }
            if !self.of_server.add(1, PROBES) {
                self.of_address.remove(1);
                return Err(refused(&self.refused.of_server, PROBES, Whose::Server));
            }
            place.shared = true;
        }
        Ok(place)
    }
}

/// The place of one probe, until it is dropped.
#[derive(Debug)]
pub(super) struct Probing {
    probes: Arc<Probes>,
    /// Whether it counts with those of its address and of the server.
    shared: bool,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.probes.of_connection.fetch_sub(1, Ordering::Relaxed);
        if self.shared {
            self.probes.of_address.remove(1);
            self.probes.of_server.remove(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_probe_of_a_connection_has_its_place_whatever_others_do() {
        let (server, refused) = (Count::default(), Arc::new(ProbeRefusals::default()));
        let connection =
            |address: &Count| Probes::new(address.clone(), server.clone(), Arc::clone(&refused));
        let mut held = Vec::new();
        let mut fill = |probes: &Arc<Probes>| {
            let before = held.len();
            while let Ok(place) = probes.enter() {
                held.push(place);
            }
            held.len() - before
        };
        let address = Count::default();
        assert_eq!(fill(&connection(&address)), PROBES_PER_CONNECTION);
        assert_eq!(refused.of_connection.load(Ordering::Relaxed), 1);
        // One of each connection is not counted with its address.
        let mut taken = PROBES_PER_CONNECTION - 1;
        while taken < PROBES_PER_ADDRESS {
            taken += fill(&connection(&address)) - 1;
        }
        assert_eq!(taken, PROBES_PER_ADDRESS);
        assert_eq!(fill(&connection(&address)), 1);
        let mut address = Count::default();
        while server.get() < PROBES {
            if fill(&connection(&address)) == 1 {
                address = Count::default();
            }
        }
        assert_eq!(fill(&connection(&Count::default())), 1, "of an address that nobody else is at");
        assert!(refused.of_server.load(Ordering::Relaxed) > 0);
        held.clear();
        assert_eq!((server.get(), address.get()), (0, 0));
    }

    #[tokio::test]
    async fn a_connection_is_asked_to_end_once() {
        let ends = Arc::new(Ends::default());
        let ending = Ending::new(&ends);
        assert!(ending.ask(Why::Refused));
        assert!(!ending.ask(Why::Displaced));
        assert_eq!(ending.asked().await, Why::Refused);
        assert_eq!(Why::ALL.map(|why| ends.get(why)), [0, 1, 0, 0]);
        for (place, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place);
        }
    }
}
