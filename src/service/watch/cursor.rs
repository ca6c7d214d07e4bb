//! Cursors: opaque texts that name a position in the order of changes, in one epoch of one database.

use crate::domain::refusal::{CursorLoss, Refusal};
use crate::service::error::ServiceError;
use crate::service::seal::Seal;
use crate::store::{ChangePosition, DatabaseIdentity, Epoch, OrderedChanges};

const VERSION: u8 = 2;
const PURPOSE: &[u8] = b"watch-cursor";

/// How far a watcher has come: every change up to here was delivered, or is none of its business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) epoch: Epoch,
    pub(super) position: ChangePosition,
}

impl Cursor {
    /// That what was read from behind this cursor is all there is.
    pub(super) fn accept(self, page: &OrderedChanges) -> Result<(), CursorLoss> {
        if page.epoch.number != self.epoch.number {
            Err(CursorLoss::Restored)
        } else if page.epoch.history != self.epoch.history {
            Err(CursorLoss::FailedOver)
        } else if !page.gap {
            Ok(())
        } else if self.position > page.next {
            Err(CursorLoss::Ahead)
        } else {
            Err(CursorLoss::Trimmed)
        }
    }
}

impl From<CursorLoss> for ServiceError {
    fn from(loss: CursorLoss) -> Self {
        Refusal::CursorExpired(loss).into()
    }
}

/// Makes and reads the cursors of one database. Positions are hidden: they would tell a caller of
/// one tenant how busy all others are.
#[derive(Debug, Clone)]
pub(super) struct Cursors {
    seal: Seal,
    database: [u8; 16],
}

impl Cursors {
    pub(super) fn new(identity: &DatabaseIdentity) -> Self {
        let seal = Seal::new(identity.signing_key);
        Cursors { seal, database: *identity.database_id.as_bytes() }
    }

    pub(super) fn write(&self, cursor: Cursor) -> String {
        let Cursor { epoch, position: ChangePosition { tx, seq } } = cursor;
        let mut bytes = [0; 29];
        // Nobody restores that often; were it so, the cursor would be refused.
        let restores = u32::try_from(epoch.number).unwrap_or(u32::MAX).to_be_bytes();
        let numbers = [epoch.history, tx, seq].into_iter().flat_map(u64::to_be_bytes);
        let all = std::iter::once(VERSION).chain(restores).chain(numbers);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        self.seal.hide(&[PURPOSE, &self.database], bytes)
    }

    pub(super) fn read(&self, text: &str) -> Option<Cursor> {
        let bytes: [u8; 29] = self.seal.reveal(&[PURPOSE, &self.database], text)?;
        let (version, rest) = bytes.split_first()?;
        let (restores, rest) = rest.split_first_chunk()?;
        let (history, rest) = rest.split_first_chunk()?;
        let (tx, rest) = rest.split_first_chunk()?;
        let (seq, _) = rest.split_first_chunk()?;
        let [history, tx, seq] = [history, tx, seq].map(|bytes| u64::from_be_bytes(*bytes));
        let epoch = Epoch { number: u32::from_be_bytes(*restores).into(), history };
        (*version == VERSION).then_some(Cursor { epoch, position: ChangePosition { tx, seq } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::History;

    fn epoch(number: u64, history: u64) -> Epoch {
        Epoch { number, history }
    }

    fn cursors(database: u128) -> Cursors {
        Cursors::new(&DatabaseIdentity {
            database_id: uuid::Uuid::from_u128(database),
            epoch: 1,
            history: History::default(),
            signing_key: [9; 32],
        })
    }

    #[test]
    fn a_cursor_is_read_by_its_own_database_only() {
        let position = ChangePosition { tx: u64::MAX, seq: 7 };
        let cursor = Cursor { epoch: epoch(3, u64::MAX), position };
        let text = cursors(1).write(cursor);
        assert_eq!(cursors(1).read(&text), Some(cursor));
        assert_eq!(cursors(2).read(&text), None);
        assert_eq!(cursors(1).read(&text[1..]), None);
        assert_eq!(cursors(1).read(""), None);
    }

    #[test]
    fn what_is_missing_behind_a_cursor_has_a_cause() {
        let at = |seq| ChangePosition { tx: 0, seq };
        let page = |number, gap, next| OrderedChanges {
            changes: vec![],
            next: at(next),
            more: false,
            gap,
            epoch: epoch(number, 7),
        };
        let cursor = Cursor { epoch: epoch(2, 7), position: at(5) };
        assert_eq!(cursor.accept(&page(2, false, 9)), Ok(()));
        assert_eq!(cursor.accept(&page(2, true, 9)), Err(CursorLoss::Trimmed));
        assert_eq!(cursor.accept(&page(2, true, 4)), Err(CursorLoss::Ahead));
        assert_eq!(cursor.accept(&page(3, true, 4)), Err(CursorLoss::Restored));
        assert_eq!(cursor.accept(&page(3, false, 9)), Err(CursorLoss::Restored));
        let before = Cursor { epoch: epoch(2, 6), position: at(5) };
        assert_eq!(before.accept(&page(2, false, 9)), Err(CursorLoss::FailedOver));
        assert_eq!(before.accept(&page(3, false, 9)), Err(CursorLoss::Restored));
    }
}
