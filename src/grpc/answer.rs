//! How large an answer may be: what clients take unless they are told otherwise. Pages end before that,
//! and what has no pages is refused, in words that say what to ask instead.

use prost::Message;
use tonic::{Response, Status};

use super::pb::{self, ErrorReason};
use super::status::refuse;
use crate::service::page::MAX_ANSWER_BYTES;

/// Limit on the ids in an answer, in bytes; the rest is for all that it has besides.
const MAX_ID_BYTES: usize = MAX_ANSWER_BYTES - (64 << 10);

/// The answer to a question, unless it is too large.
pub(super) fn answer<M: Message>(message: M) -> Result<Response<M>, Status> {
    let bytes = message.encoded_len();
    if bytes > MAX_ANSWER_BYTES {
        return Err(too_large("The answer has", bytes, MAX_ANSWER_BYTES));
    }
    Ok(Response::new(message))
}

/// Refuses candidates whose ids may not fit into one answer, whichever of them it will name: it would
/// depend on what a member may see otherwise.
pub(super) fn may_be_named(resources: &[pb::Resource]) -> Result<(), Status> {
    // Each with its key and its length.
    let bytes: usize = resources.iter().map(|resource| resource.id.len() + 3).sum();
    if bytes > MAX_ID_BYTES {
        return Err(too_large("The ids of the resources have", bytes, MAX_ID_BYTES));
    }
    Ok(())
}

fn too_large(what: &str, bytes: usize, limit: usize) -> Status {
    refuse(
        ErrorReason::MessageTooLarge,
        &format!(
            "{what} {bytes} bytes, and may have {limit}: clients take no larger answers unless they \
             are told to. Ask less in one call: fewer items, fewer resources, a smaller page."
        ),
        &[("limit_bytes", limit.to_string())],
    )
}
