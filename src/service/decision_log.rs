//! The decision log: who was allowed what, and why, one entry for each decision that is sampled. It
//! never waits: entries go into a bounded queue, and what finds no place there is dropped and
//! counted. Whoever puts the server together takes them out and writes them.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::domain::Timestamp;
use crate::domain::catalog::Catalog;
use crate::domain::decision::Decision;
use crate::domain::ids::{MAX_ID_BYTES, MemberId, TenantId};
use crate::domain::resource::Resource;
use crate::store::State;

/// How many entries wait to be written; each takes up to about two kilobytes.
const QUEUE: usize = 8_192;
/// The most entries that are taken out at a time.
pub const BURST: usize = 1_024;
/// The most entries of one call, so that one large filter does not crowd out everybody else's.
const MAX_ENTRIES_PER_CALL: usize = 1_000;

/// Who asks, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'c> {
    /// The calling service.
    pub caller: &'c str,
    /// The method, as in the audit: `AuthzService/Check`.
    pub method: &'static str,
}

/// One decision.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was decided.
    pub at: Timestamp,
    /// The calling service.
    pub caller: String,
    /// The method.
    pub method: &'static str,
    /// Its place among the items of a batch or the candidates of a filter, from 0.
    pub item: Option<usize>,
    /// The tenant, as the caller named it.
    pub tenant: TenantId,
    /// The member.
    pub member: MemberId,
    /// The permission.
    pub permission: String,
    /// The caller's id for the resource, if it gave one.
    pub resource: Option<String>,
    /// What was decided, and why.
    pub decision: Decision,
    /// The catalog that it was decided by; none when there is no such tenant.
    pub catalog: Option<Arc<Catalog>>,
    /// The tenant's revision that it was decided at.
    pub revision: Option<u64>,
    /// Set when it was decided from what was held of a database that is gone: as of this time.
    pub stale_since: Option<Timestamp>,
}

/// What became of the entries since the start.
#[derive(Debug, Default)]
pub struct LogCounts {
    /// Written.
    pub written: AtomicU64,
    /// Dropped: they came faster than they could be written.
    pub full: AtomicU64,
    /// Dropped: writing failed.
    pub failed: AtomicU64,
}

/// Where decisions are recorded.
#[derive(Debug)]
pub struct DecisionLog {
    one_in: NonZeroU32,
    /// `None` only wakes whoever reads.
    queue: SyncSender<Option<Box<Entry>>>,
    closed: Arc<AtomicBool>,
    counts: Arc<LogCounts>,
}

/// The other end of a log.
#[derive(Debug)]
pub struct Entries {
    queue: Receiver<Option<Box<Entry>>>,
    closed: Arc<AtomicBool>,
    counts: Arc<LogCounts>,
}

impl DecisionLog {
    /// A log of one decision in so many, and where its entries come out.
    #[must_use]
    pub fn new(one_in: NonZeroU32) -> (Self, Entries) {
        let (sender, receiver) = sync_channel(QUEUE);
        let (closed, counts) = (Arc::default(), Arc::default());
        let entries =
            Entries { queue: receiver, closed: Arc::clone(&closed), counts: Arc::clone(&counts) };
        (DecisionLog { one_in, queue: sender, closed, counts }, entries)
    }

    /// Whether to record this decision. Chosen at random, so that no pattern of calls escapes it,
    /// and by each thread for itself.
    #[must_use]
    pub fn wants(&self) -> bool {
        let one_in = u64::from(self.one_in.get());
        one_in == 1 || ((random() >> 32) * one_in) >> 32 == 0
    }

    /// Whether a call that has recorded so many decisions may record one more: else the entries of a
    /// large one would drive out everybody's.
    pub(super) fn may_record(&self, recorded: &mut usize) -> bool {
        let may = *recorded < MAX_ENTRIES_PER_CALL;
        if may {
            *recorded += 1;
        } else {
            self.counts.full.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// Records a decision, if there is room.
    pub fn record(&self, entry: Entry) {
        if self.queue.try_send(Some(Box::new(entry))).is_err() {
            self.counts.full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// No more comes: whoever reads gets what is in the queue, then its end.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // When it is full, the reader is awake and looks at the flag before it waits again.
        self.queue.try_send(None).ok();
    }

    /// What became of the entries.
    #[must_use]
    pub fn counts(&self) -> &Arc<LogCounts> {
        &self.counts
    }
}

impl Entries {
    /// Waits for entries and takes up to [`BURST`] of them; none: no more will come.
    #[must_use]
    pub fn take(&self) -> Vec<Entry> {
        let mut taken = self.at_hand(None);
        while taken.is_empty() && !self.closed.load(Ordering::Acquire) {
            let Ok(first) = self.queue.recv() else { break };
            taken = self.at_hand(first);
        }
        taken
    }

    fn at_hand(&self, first: Option<Box<Entry>>) -> Vec<Entry> {
        let entries = first.into_iter().chain(self.queue.try_iter().flatten());
        entries.take(BURST).map(|entry| *entry).collect()
    }

    /// What became of the entries, to be counted by who writes them.
    #[must_use]
    pub fn counts(&self) -> &LogCounts {
        &self.counts
    }
}

/// The entries of one call. Without a log, nothing is recorded and nothing costs.
pub(super) struct CallLog<'c> {
    pub(super) log: Option<&'c DecisionLog>,
    pub(super) asker: Asker<'c>,
    pub(super) tenant: &'c TenantId,
    /// What it was decided at; none when there is no such tenant.
    pub(super) at: Option<(&'c Arc<Catalog>, &'c State, Option<Timestamp>)>,
    pub(super) recorded: usize,
}

impl CallLog<'_> {
    /// Records a decision, if it is one of those that are wanted.
    #[inline]
    pub(super) fn add(
        &mut self,
        item: Option<usize>,
        (member, permission, resource): (&MemberId, &str, Option<&Resource>),
        decision: &Decision,
    ) {
        if let Some(log) = self.log
            && log.wants()
        {
            self.record(log, item, (member, permission, resource), decision);
        }
    }

    #[cold]
    fn record(
        &mut self,
        log: &DecisionLog,
        item: Option<usize>,
        (member, permission, resource): (&MemberId, &str, Option<&Resource>),
        decision: &Decision,
    ) {
        if !log.may_record(&mut self.recorded) {
            return;
        }
        // Where there is no tenant, nobody looked at the permission, so it may be anything.
        let known = permission.get(..permission.floor_char_boundary(MAX_ID_BYTES));
        log.record(Entry {
            at: Timestamp::now(),
            caller: self.asker.caller.to_owned(),
            method: self.asker.method,
            item,
            tenant: self.tenant.clone(),
            member: member.clone(),
            permission: known.unwrap_or_default().to_owned(),
            resource: resource.map(|resource| resource.id.clone()).filter(|id| !id.is_empty()),
            decision: decision.clone(),
            catalog: self.at.map(|(catalog, _, _)| Arc::clone(catalog)),
            revision: self.at.map(|(_, state, _)| state.revision()),
            stale_since: self.at.and_then(|(_, _, stale_since)| stale_since),
        });
    }
}

/// Good enough to choose by, and nothing that threads share (xorshift64).
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut bits = state.get();
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        state.set(bits);
        bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::DecisionReason;

    fn log(one_in: u32) -> (DecisionLog, Entries) {
        DecisionLog::new(NonZeroU32::new(one_in).unwrap())
    }

    /// Records so many decisions as those of one call.
    fn decide(log: &DecisionLog, count: usize) {
        let tenant = TenantId::trusted("acme");
        let asker = Asker { caller: "chat", method: "AuthzService/FilterResources" };
        let mut call = CallLog { log: Some(log), asker, tenant: &tenant, at: None, recorded: 0 };
        let decision = Decision::denied(DecisionReason::TenantNotFound);
        for item in 0..count {
            let resource = Resource { id: item.to_string(), ..Resource::default() };
            let permission = "é".repeat(MAX_ID_BYTES);
            let what = (&MemberId::trusted("kim"), permission.as_str(), Some(&resource));
            call.add(Some(item), what, &decision);
        }
    }

    fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    #[test]
    fn about_one_in_so_many_is_wanted() {
        for one_in in [1, 2, 10, 1_000] {
            let (log, _entries) = log(one_in);
            let wanted = (0..1_000_000).filter(|_| log.wants()).count();
            let expected = 1_000_000 / one_in as usize;
            // Ten standard deviations and more.
            assert!(wanted.abs_diff(expected) <= expected / 2, "{wanted} of 1 in {one_in}");
        }
        assert!((0..1_000).all(|_| log(1).0.wants()));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (log, entries) = log(1);
        decide(&log, MAX_ENTRIES_PER_CALL + 7);
        assert_eq!(read(&log.counts.full), 7, "of one call");
        let taken = entries.take();
        assert_eq!(taken.len(), MAX_ENTRIES_PER_CALL);
        assert!(taken.iter().enumerate().all(|(place, entry)| entry.item == Some(place)));
        assert_eq!(taken[0].permission.len(), MAX_ID_BYTES);
        for _ in 0..QUEUE {
            decide(&log, 1);
        }
        decide(&log, 3);
        assert_eq!(read(&log.counts.full), 10, "of all calls");
        // Full, so nothing wakes the reader; it need not be woken.
        log.close();
        for _ in 0..QUEUE / BURST {
            assert_eq!(entries.take().len(), BURST);
        }
        assert!(entries.take().is_empty());
    }

    #[test]
    fn a_reader_that_waits_is_told_of_the_end() {
        let (log, entries) = log(1);
        let reader = std::thread::spawn(move || {
            let mut sizes = Vec::new();
            loop {
                let taken = entries.take().len();
                sizes.push(taken);
                if taken == 0 {
                    return sizes;
                }
            }
        });
        decide(&log, 1);
        log.close();
        assert_eq!(reader.join().unwrap(), [1, 0]);
    }
}
