//! What the random cases have come across: a property over cases that never do a thing says
//! nothing about it.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Counts what was seen.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    seen: Mutex<BTreeMap<String, usize>>,
}

impl Coverage {
    pub(super) fn saw(&self, what: &str) {
        let mut seen = self.seen.lock().unwrap();
        match seen.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                seen.insert(what.to_owned(), 1);
            }
        }
    }

    pub(super) fn saw_term(&self, term: &str) {
        self.saw(&format!("plan term {term}"));
    }

    /// Fails when any of these was never seen.
    pub(super) fn must_have_seen(&self, all: &[&str]) {
        let seen = self.seen.lock().unwrap();
        let unseen: Vec<_> = all.iter().filter(|what| !seen.contains_key(**what)).collect();
        assert!(unseen.is_empty(), "the cases never show {unseen:?}: {seen:#?}");
    }
}
