//! The members that are cached.
//!
//! Not moka, unlike tenants and roles: it keeps some 260 bytes of its own for an entry (two counted
//! allocations, the policy's queue, the places in its map), three times what there is to keep of a
//! member; 100,000 members would take more than the 32 MiB that they may. So this is a table of sets,
//! as a processor's cache is one: a hash says in which set a member is, a set is a short list under a
//! lock of its own, and what is too much for a set goes, in the order in which it came, except what
//! was asked for since (a second chance). Whoever asks about many once drives out nobody who is in
//! use.
//!
//! There are so many sets that two cores seldom want the same one at a time, and each holds an equal
//! part of the bound.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::held::Held;
use super::interner::allocated;
use super::{Entry, Key};
use crate::domain::ids::MemberId;

/// What a set takes at most, in bytes: some forty members.
const SET: usize = 4 << 10;

/// What a slot takes, in bytes.
const PLACE: usize = allocated(size_of::<Slot>());

/// How many places a set gets at a time.
const GROWTH: usize = 2;

/// Ids up to this many bytes have a place in their slot; a UUID has 36.
const SHORT: usize = 38;

/// All that is cached of members.
#[derive(Debug)]
pub(super) struct Members {
    hasher: RandomState,
    sets: Box<[Mutex<Set>]>,
    /// What the slots of one set may take, in bytes.
    of_set: usize,
    /// What all sets take.
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Set {
    /// In the order in which they came, or got their second chance.
    slots: Vec<Slot>,
    /// What the slots point to.
    beside: usize,
}

#[derive(Debug)]
struct Slot {
    incarnation: u64,
    id: Text,
    entry: Entry<Arc<Held>>,
    /// Asked for since it came or got its second chance.
    used: bool,
}

/// An id, without an allocation of its own as long as it is short.
#[derive(Debug)]
enum Text {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

impl Members {
    /// Of at most about this many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let sets = (bytes as usize).div_ceil(SET).max(1);
        Members {
            hasher: RandomState::default(),
            sets: std::iter::repeat_with(Mutex::default).take(sets).collect(),
            of_set: (bytes as usize / sets).saturating_sub(size_of::<Mutex<Set>>()),
            bytes: AtomicU64::new((sets * size_of::<Mutex<Set>>()) as u64),
        }
    }

    /// What is cached, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What it may be.
    pub(super) fn limit(&self) -> u64 {
        (self.sets.len() * (self.of_set + size_of::<Mutex<Set>>())) as u64
    }

    /// What is known of the member.
    pub(super) fn get(&self, key: &Key<MemberId>) -> Option<Entry<Arc<Held>>> {
        let mut set = self.set(key)?;
        let slot = set.slots.iter_mut().find(|slot| slot.is_of(key))?;
        slot.used = true;
        Some(slot.entry.clone())
    }

    /// Takes the place of what was known of the member. What is too much for a set is not kept.
    pub(super) fn insert(&self, key: &Key<MemberId>, entry: Entry<Arc<Held>>) {
        self.change(key, |set| {
            set.remove(key);
            let id = Text::of(key.id.as_str());
            let slot = Slot { incarnation: key.incarnation, id, entry, used: false };
            set.add(slot, self.of_set);
        });
    }

    /// Nothing is known of the member from now on.
    pub(super) fn remove(&self, key: &Key<MemberId>) {
        self.change(key, |set| set.remove(key));
    }

    fn change(&self, key: &Key<MemberId>, change: impl FnOnce(&mut Set)) {
        let Some(mut set) = self.set(key) else { return };
        let before = set.bytes() as u64;
        change(&mut set);
        let after = set.bytes() as u64;
        self.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    fn set(&self, key: &Key<MemberId>) -> Option<MutexGuard<'_, Set>> {
        let hash = self.hasher.hash_one(key);
        let set = self.sets.get((hash % self.sets.len() as u64) as usize)?;
        // A panic under the lock leaves a whole list behind.
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Set {
    fn bytes(&self) -> usize {
        self.slots.capacity() * PLACE + self.beside
    }

    fn remove(&mut self, key: &Key<MemberId>) {
        if let Some(place) = self.slots.iter().position(|slot| slot.is_of(key)) {
            let slot = self.slots.remove(place);
            self.beside -= slot.beside();
        }
    }

    fn add(&mut self, slot: Slot, most: usize) {
        let wanted = PLACE + slot.beside();
        if wanted > most {
            return;
        }
        while self.slots.len() * PLACE + self.beside + wanted > most {
            // The oldest; there is one, or there were room.
            let mut oldest = self.slots.remove(0);
            if std::mem::take(&mut oldest.used) {
                self.slots.push(oldest);
            } else {
                self.beside -= oldest.beside();
            }
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(GROWTH);
        } else if self.bytes() + wanted > most + GROWTH * PLACE {
            // The places of many with short ids, of whom fewer with long ones are left.
            self.slots.shrink_to(self.slots.len() + 1);
        }
        self.beside += slot.beside();
        self.slots.push(slot);
    }
}

impl Slot {
    fn is_of(&self, key: &Key<MemberId>) -> bool {
        self.incarnation == key.incarnation && self.id.is(key.id.as_str())
    }

    /// What it points to and nobody else counts.
    fn beside(&self) -> usize {
        let id = match &self.id {
            Text::Short { .. } => 0,
            Text::Long(id) => allocated(id.len()),
        };
        id + self.entry.value.as_ref().map(|held| allocated(held.alone)).unwrap_or_default()
    }
}

impl Text {
    fn of(id: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..id.len()), u8::try_from(id.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(id.as_bytes());
                Text::Short { length, bytes }
            }
            _ => Text::Long(id.into()),
        }
    }

    fn is(&self, id: &str) -> bool {
        match self {
            Text::Short { length, bytes } => {
                bytes.get(..usize::from(*length)) == Some(id.as_bytes())
            }
            Text::Long(text) => **text == *id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(incarnation: u64, id: &str) -> Key<MemberId> {
        Key { incarnation, id: MemberId::trusted(id) }
    }

    /// That there is no such member, as of this revision.
    fn seen(seen_at: u64) -> Entry<Arc<Held>> {
        Entry { value: None, seen_at }
    }

    fn revision(members: &Members, key: &Key<MemberId>) -> Option<u64> {
        members.get(key).map(|entry| entry.seen_at)
    }

    #[test]
    fn a_member_is_found_under_its_tenant_and_its_whole_id() {
        // One set, so that all of them meet.
        let members = Members::new(SET as u64);
        let ids =
            ["kim", "kin", "ki", &"x".repeat(SHORT), &"x".repeat(SHORT + 1), &"x".repeat(128)];
        for (number, id) in ids.iter().enumerate() {
            members.insert(&key(1, id), seen(number as u64));
            members.insert(&key(2, id), seen(100 + number as u64));
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(revision(&members, &key(1, id)), Some(number as u64), "{id}");
            assert_eq!(revision(&members, &key(2, id)), Some(100 + number as u64), "{id}");
            assert_eq!(revision(&members, &key(3, id)), None, "{id}");
        }
        members.insert(&key(1, "kim"), seen(50));
        assert_eq!(revision(&members, &key(1, "kim")), Some(50));
        members.remove(&key(1, "kim"));
        assert_eq!(revision(&members, &key(1, "kim")), None);
        assert_eq!(revision(&members, &key(2, "kim")), Some(100));
    }

    #[test]
    fn it_holds_its_bound_and_tells_what_it_takes() {
        const BOUND: u64 = 64 << 10;
        let members = Members::new(BOUND);
        let nothing = members.bytes();
        let ids: Vec<_> =
            (0..10_000).map(|n| key(1, &format!("{n}-{}", "x".repeat(n % 90)))).collect();
        for id in &ids {
            members.insert(id, seen(1));
            assert!(members.bytes() <= BOUND + BOUND / 8, "{}", members.bytes());
        }
        let kept = ids.iter().filter(|id| members.get(id).is_some()).count();
        assert!(kept > 300, "{kept}");
        // Places in a list stay, as they do in memory.
        for id in &ids {
            members.remove(id);
        }
        let places: usize =
            members.sets.iter().map(|set| set.lock().unwrap().slots.capacity()).sum();
        assert_eq!(members.bytes(), nothing + (places * PLACE) as u64);
    }

    #[test]
    fn places_that_are_not_needed_any_more_are_given_back() {
        const BOUND: u64 = 64 << 10;
        let members = Members::new(BOUND);
        // Many of whom little is kept, then few of whom much is.
        for length in [0, 128 - 5] {
            for number in 0..2_000 {
                let id = key(1, &format!("{number:05}{}", "x".repeat(length)));
                members.insert(&id, seen(1));
                assert!(members.bytes() <= BOUND + BOUND / 8, "{} of {length}", members.bytes());
            }
        }
    }

    #[test]
    fn who_is_asked_for_stays_while_others_pass() {
        let members = Members::new(SET as u64);
        members.insert(&key(1, "kim"), seen(1));
        members.insert(&key(1, "lee"), seen(1));
        for number in 0..1_000 {
            members.insert(&key(1, &format!("{number}")), seen(1));
            assert!(members.get(&key(1, "kim")).is_some(), "{number}");
        }
        assert!(members.get(&key(1, "lee")).is_none());
    }
}
