//! What is wrong with one item of a batch, in the words that a whole call would be refused with.

use prost::Message as _;
use tonic::Status;
use tonic_types::StatusExt;

use super::pb::ItemError;
use super::wording::{self, Said, name};
use crate::domain::refusal::{Refusal, Violation};
use crate::service::ServiceError;
use crate::service::allowance::RateExceeded;

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

/// Of questions beyond what their caller may ask.
pub(super) fn of_rate(exceeded: &RateExceeded) -> ItemError {
    item_error(String::new(), wording::rate_limited(exceeded))
}

/// Of an error that may also be none of the caller's faults.
pub(super) fn of_error(error: ServiceError) -> ItemError {
    if let ServiceError::Refused(refusal) = &error {
        return of_refusal(refusal);
    }
    let status = Status::from(error);
    let info = status.get_details_error_info();
    let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
    let message = status.message().to_owned();
    ItemError { reason, message, field: String::new(), metadata: metadata.into_iter().collect() }
}

/// Room for what is said of items that are refused, so that many of them fit into one answer.
#[derive(Debug)]
pub(super) struct ErrorRoom(usize);

impl ErrorRoom {
    /// For so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        ErrorRoom(bytes)
    }

    /// Keeps of an error what there is room for: its reason and its field, if not all of it.
    pub(super) fn fit(&mut self, error: ItemError) -> ItemError {
        let bytes = error.encoded_len();
        if let Some(left) = self.0.checked_sub(bytes) {
            self.0 = left;
            return error;
        }
        let ItemError { reason, field, .. } = error;
        ItemError { reason, field, ..ItemError::default() }
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
