//! What is wrong with one item of a batch, in the words that a whole call would be refused with.

use super::pb::ItemError;
use super::wording::{self, Said, name};
use crate::domain::refusal::{Refusal, Violation};

pub(super) fn of_violation(violation: &Violation) -> ItemError {
    item_error(wording::field(violation), wording::problem(&violation.problem))
}

/// Of several violations the first one: an item has room for one, and what comes next shows when
/// that is mended.
pub(super) fn of_refusal(refusal: &Refusal) -> ItemError {
    match refusal {
        Refusal::Invalid(violations) => violations.first().map(of_violation).unwrap_or_default(),
        other => item_error(String::new(), wording::refusal(other)),
    }
}

fn item_error(field: String, said: Said) -> ItemError {
    let Said { reason, message, metadata } = said;
    ItemError {
        reason: name(reason).to_owned(),
        message,
        field,
        metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}
