//! Answers of one connection that its client has not taken yet, wherever they wait: in the streams of
//! HTTP/2, in its buffers, in frames that are begun. Each is counted until the transport drops it.
//!
//! A little of every connection is counted nowhere else, so that an answer that is taken at once, as
//! nearly all are, touches nothing that other cores touch. What is beyond that is taken from the room
//! for bytes and from its caller's share of it, in pieces.

use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use tonic::Status;

use super::admission::{Limited, Room};
use crate::service::under_way::{Count, UnderWay};

/// What a connection may hold that is counted nowhere else, in bytes.
pub const FREE_BYTES: usize = 32 << 10;
/// How much is taken of the room at once.
const PIECE_BYTES: usize = 64 << 10;
/// What a call takes until its answer is taken, besides messages: a stream of HTTP/2, its task and its
/// headers. Measured: 2.6 KiB.
pub const CALL_BYTES: usize = 3 << 10;
/// What a frame takes besides its bytes.
const FRAME_BYTES: usize = 256;

/// Bytes that the answers of one connection hold.
#[derive(Debug)]
pub struct Unread {
    room: Arc<Limited>,
    held: AtomicUsize,
    /// How much of the room it has.
    taken: AtomicUsize,
    pieces: Mutex<Vec<Piece>>,
    /// How often there was no room since something was taken.
    failed: AtomicU32,
}

/// A part of the room, until it is dropped.
#[derive(Debug)]
struct Piece {
    room: Arc<Limited>,
    of_caller: Option<Count>,
    bytes: usize,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.room.remove(self.bytes, self.of_caller.as_ref());
    }
}

impl Unread {
    /// Of a connection that holds nothing yet.
    #[must_use]
    pub fn new(room: &Room) -> Arc<Self> {
        Arc::new(Unread {
            room: room.shared_bytes(),
            held: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            pieces: Mutex::default(),
            failed: AtomicU32::new(0),
        })
    }

    /// Counts a call of this caller that has an answer of so many bytes, until what is given is dropped.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn hold(
        self: &Arc<Self>,
        bytes: usize,
        caller: Option<&UnderWay>,
    ) -> Result<Holding, Status> {
        self.hold_or_miss(bytes, caller).map_err(|missing| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.room.refuse(missing, caller.map(|caller| &caller.bytes)).said_of_an_answer()
        })
    }

    /// Counts the same, and refuses nothing in the metrics: a call without room is refused elsewhere.
    #[inline]
    pub fn try_hold(self: &Arc<Self>, bytes: usize, caller: Option<&UnderWay>) -> Option<Holding> {
        self.hold_or_miss(bytes, caller).ok()
    }

    #[inline]
    fn hold_or_miss(
        self: &Arc<Self>,
        bytes: usize,
        caller: Option<&UnderWay>,
    ) -> Result<Holding, usize> {
        match self.add(bytes, caller) {
            Ok(()) => Ok(Holding { of: Arc::clone(self), bytes }),
            Err(missing) => {
                self.held.fetch_sub(bytes, Ordering::Relaxed);
                Err(missing)
            }
        }
    }

    /// The same where it must be, for it was done and cannot be taken back.
    pub fn hold_anyway(self: &Arc<Self>, bytes: usize, caller: Option<&UnderWay>) -> Holding {
        if self.add(bytes, caller).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        Holding { of: Arc::clone(self), bytes }
    }

    /// How often in a row there was no room, with nothing taken in between.
    #[must_use]
    pub fn failed_in_a_row(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Adds it in any case. An error tells how many bytes find no room.
    #[inline]
    fn add(&self, bytes: usize, caller: Option<&UnderWay>) -> Result<(), usize> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= FREE_BYTES + self.taken.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.take_piece(held, caller)
    }

    #[cold]
    fn take_piece(&self, held: usize, caller: Option<&UnderWay>) -> Result<(), usize> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = held.saturating_sub(FREE_BYTES + self.taken.load(Ordering::Relaxed));
        let of_caller = caller.map(|caller| &caller.bytes);
        // A whole piece, or where that does not fit any more, only what is needed.
        let mut sizes = [missing.next_multiple_of(PIECE_BYTES), missing].into_iter();
        let found = sizes.find(|bytes| self.room.try_add(*bytes, of_caller));
        let bytes = found.ok_or(missing)?;
        pieces.push(Piece { room: Arc::clone(&self.room), of_caller: of_caller.cloned(), bytes });
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    fn remove(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        if self.failed.load(Ordering::Relaxed) > 0 {
            self.failed.store(0, Ordering::Relaxed);
        }
        if self.taken.load(Ordering::Relaxed) > 0 {
            self.give_back(held);
        }
    }

    #[cold]
    fn give_back(&self, held: usize) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        // One piece more than is needed is kept while anything beyond the free part is held: it will
        // be needed again.
        let kept = if held > FREE_BYTES / 2 { held + PIECE_BYTES } else { 0 };
        while let Some(last) = pieces.last()
            && self.taken.load(Ordering::Relaxed) >= kept + last.bytes
        {
            self.taken.fetch_sub(last.bytes, Ordering::Relaxed);
            pieces.pop();
        }
    }
}

/// What one answer holds, until it is dropped.
#[derive(Debug)]
pub struct Holding {
    of: Arc<Unread>,
    bytes: usize,
}

impl Drop for Holding {
    #[inline]
    fn drop(&mut self) {
        self.of.remove(self.bytes);
    }
}

/// Bytes of an answer on their way to a client. They count until the transport has sent them.
#[derive(Debug, Default)]
pub struct Answer {
    bytes: Bytes,
    _holding: Option<Holding>,
}

impl Answer {
    /// These, which this holds.
    #[must_use]
    pub fn new(bytes: Bytes, holding: Holding) -> Self {
        Answer { bytes, _holding: Some(holding) }
    }

    /// These, which somebody else counts.
    #[must_use]
    pub fn uncounted(bytes: Bytes) -> Self {
        Answer { bytes, _holding: None }
    }
}

/// What a frame of so many bytes takes.
#[must_use]
pub fn of_frame(bytes: usize) -> usize {
    bytes + FRAME_BYTES
}

impl Buf for Answer {
    #[inline]
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(to)
    }

    /// Without a copy, as of bytes.
    #[inline]
    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.bytes.copy_to_bytes(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::admission::RoomLimits;

    fn room(bytes: usize, percent: usize) -> Room {
        Room::new(RoomLimits { calls: 1, bytes, message_bytes: 1, percent })
    }

    #[test]
    fn what_is_taken_at_once_touches_no_room() {
        let room = room(1 << 20, 100);
        let unread = Unread::new(&room);
        for _ in 0..1_000 {
            drop(unread.hold(CALL_BYTES, None).unwrap());
        }
        let held: Vec<_> = (0..10).map(|_| unread.hold(CALL_BYTES, None).unwrap()).collect();
        assert_eq!(room.bytes(), 0);
        drop(held);
        assert_eq!(unread.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_waits_is_taken_from_the_room_and_the_share_and_comes_back() {
        let (limit, caller) = (1 << 20, UnderWay::default());
        let room = room(limit, 50);
        let connections = [Unread::new(&room), Unread::new(&room)];
        let mut held = Vec::new();
        for unread in &connections {
            while let Ok(one) = unread.hold(CALL_BYTES, Some(&caller)) {
                held.push(one);
            }
        }
        let bytes = held.len() * CALL_BYTES;
        let share = limit / 2;
        // To the last answer that fits, and what each connection may have besides.
        let most = share + 2 * FREE_BYTES;
        assert!((most - 2 * CALL_BYTES..=most).contains(&bytes), "{bytes}, {most}");
        assert!(caller.bytes.get() <= share);
        assert_eq!(room.bytes(), caller.bytes.get() as u64);
        // Others have the rest.
        let other = Unread::new(&room);
        other.hold(200 << 10, Some(&UnderWay::default())).unwrap();
        assert_eq!(connections[1].failed_in_a_row(), 1);
        assert!(connections[1].hold(CALL_BYTES, Some(&caller)).is_err());
        assert_eq!(connections[1].failed_in_a_row(), 2);
        drop(connections[1].hold_anyway(CALL_BYTES, Some(&caller)));
        held.clear();
        assert_eq!(connections[1].failed_in_a_row(), 0);
        assert_eq!((room.bytes(), caller.bytes.get()), (0, 0));
    }
}
