//! Paging: page sizes within bounds, and page tokens that cannot be forged or moved to another
//! query.

use super::error::ServiceError;
use super::seal::Seal;
use crate::domain::refusal::{Problem, Refusal};

/// What a page holds when the caller does not say.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The most that a page holds; more is asked for in vain, not refused (AIP-158).
pub const MAX_PAGE_SIZE: usize = 1000;

/// The largest answer, in bytes: what clients of gRPC take unless they are told otherwise.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;
/// About the most bytes on one page. One item is always on it, and takes less than the rest.
const PAGE_BYTES: usize = 2 << 20;

/// Room for the items of one page.
#[derive(Debug)]
pub(super) struct PageRoom {
    left: usize,
    is_empty: bool,
}

impl PageRoom {
    pub(super) fn new() -> Self {
        PageRoom { left: PAGE_BYTES, is_empty: true }
    }

    /// Takes room for one more item of so many bytes; `false`: it belongs on the next page.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || self.is_empty;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.is_empty = false;
        }
        fits
    }
}

/// Which page a caller wants.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// As given: 0 for the default.
    pub size: i32,
    /// From the answer before; empty for the first page.
    pub token: String,
}

/// One page of a listing.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// For the next one; empty: this is the last.
    pub next_token: String,
}

/// Makes and reads the page tokens of one query: of a method with all its parameters but the page.
#[derive(Debug)]
pub struct Pager<'a> {
    seal: &'a Seal,
    query: Vec<&'a [u8]>,
}

impl<'a> Pager<'a> {
    /// The pages of this query.
    #[must_use]
    pub fn new(seal: &'a Seal, method: &'a str, parameters: &[&'a str]) -> Self {
        let mut query = vec![b"page-token".as_slice(), method.as_bytes()];
        query.extend(parameters.iter().map(|parameter| parameter.as_bytes()));
        Pager { seal, query }
    }

    /// How many to give, and the cursor to go on from.
    ///
    /// # Errors
    /// A refusal for a negative size and for a token of another query.
    pub fn read(&self, page: &PageRequest) -> Result<(usize, Option<String>), ServiceError> {
        let size = match usize::try_from(page.size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(size) => size.min(MAX_PAGE_SIZE),
            Err(_) => {
                let problem = Problem::Invalid("must not be negative".to_owned());
                return Err(Refusal::invalid("page_size", problem).into());
            }
        };
        if page.token.is_empty() {
            return Ok((size, None));
        }
        let cursor = self
            .seal
            .open(&self.query, &page.token)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Refusal::invalid("page_token", Problem::PageToken))?;
        Ok((size, Some(cursor)))
    }

    /// The token of the page that begins after this cursor.
    #[must_use]
    pub fn token(&self, cursor: &str) -> String {
        self.seal.close(&self.query, cursor.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_query() {
        let seal = Seal::new([1; 32]);
        let pager = Pager::new(&seal, "ListRoles", &["t1", ""]);
        let page = PageRequest { size: 0, token: pager.token("cursor") };
        assert_eq!(pager.read(&page).unwrap(), (100, Some("cursor".to_owned())));
        for other in [
            Pager::new(&seal, "ListRoles", &["t2", ""]),
            Pager::new(&seal, "ListMembers", &["t1", ""]),
            Pager::new(&seal, "ListRoles", &["t1"]),
            Pager::new(&seal, "ListRoles", &["", "t1"]),
        ] {
            assert!(other.read(&page).is_err());
        }
    }

    #[test]
    fn a_page_has_one_item_and_more_as_long_as_they_fit() {
        let mut room = PageRoom::new();
        assert!(room.take(PAGE_BYTES + 1));
        assert!(!room.take(1));
        let mut room = PageRoom::new();
        assert!(room.take(PAGE_BYTES - 1) && room.take(1) && !room.take(1));
    }

    #[test]
    fn sizes() {
        let seal = Seal::new([1; 32]);
        let pager = Pager::new(&seal, "ListRoles", &[]);
        for (asked, given) in [(0, Some(100)), (1, Some(1)), (5000, Some(1000)), (-1, None)] {
            let page = PageRequest { size: asked, token: String::new() };
            assert_eq!(pager.read(&page).ok().map(|(size, _)| size), given, "{asked}");
        }
    }
}
