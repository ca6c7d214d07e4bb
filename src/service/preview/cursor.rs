//! What a page of a preview leaves to the next one, in its token.

use crate::domain::ids::MemberId;

/// Where a page ends and the next one goes on, and what need not be counted again as long as the
/// tenant stays at its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) revision: u64,
    pub(super) gaining: u64,
    pub(super) losing: u64,
    /// The etag of the first page, for all of them: what was shown there must hold as well.
    pub(super) etag: String,
    pub(super) last: MemberId,
}

impl Cursor {
    pub(super) fn text(&self) -> String {
        let Cursor { revision, gaining, losing, etag, last } = self;
        format!("{revision}:{gaining}:{losing}:{etag}:{last}")
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ':');
        let mut number = || parts.next()?.parse().ok();
        let (revision, gaining, losing) = (number()?, number()?, number()?);
        let etag = parts.next()?.to_owned();
        Some(Cursor { revision, gaining, losing, etag, last: MemberId::trusted(parts.next()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        for id in ["alice", "1:2:3:x", ":", "a b"] {
            let last = MemberId::trusted(id);
            let etag = "preview.x".to_owned();
            let cursor = Cursor { revision: 7, gaining: 100_000, losing: 0, etag, last };
            assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }
        for text in ["", "alice", "1:2:3", "1:2:3:x", "a:2:3:e:x"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
