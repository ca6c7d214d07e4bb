//! An event with all that proves it, as it is stored and exported, and what a chain begins and ends
//! with. Codes and digests are texts here: whoever edits a trail can write anything into them.

use serde::{Deserialize, Serialize};

/// One event of a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The tenant.
    pub tenant: String,
    /// Its place in the chain.
    pub number: i64,
    /// The tenant's revision.
    pub revision: i64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// The service that called.
    pub caller: String,
    /// The member on whose behalf.
    pub actor: Option<String>,
    /// The call.
    pub method: String,
    /// The caller's id for the request.
    pub request_id: Option<String>,
    /// What was before: JSON, to the byte as it was recorded.
    pub before: Option<String>,
    /// What was after.
    pub after: Option<String>,
    /// Why it was refused, if it was.
    pub refusal: Option<String>,
    /// What it was about: `role` or `member`, and the id.
    pub subjects: Vec<(String, String)>,
    /// Which key its link was made with.
    pub key_id: String,
    /// Its link.
    pub link: String,
    /// The salt of the digests of what there is now.
    pub salt: String,
    /// The digests that the link covers.
    pub covered: String,
    /// The digests of what there is now, if something was erased.
    pub digests: Option<String>,
    /// Who erased something, and proofs of it.
    pub rewrites: Option<String>,
    /// What this event erased from others.
    pub erased: Option<String>,
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many events there have been.
    pub number: i64,
    /// The key of the last link.
    pub key_id: String,
    /// The last link.
    pub link: String,
}

/// Where a chain begins whose older events were deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The tenant.
    pub tenant: String,
    /// The last event that was deleted.
    pub number: i64,
    /// Its link.
    pub link: String,
    /// The key of that link.
    pub link_key_id: String,
    /// The tenant's revision in that event.
    pub revision: i64,
    /// When it was deleted.
    pub at: i64,
    /// How many events were deleted so far.
    pub deleted: i64,
    /// The erasures to come that had rewritten what was deleted.
    pub pending: String,
    /// The key of the code.
    pub key_id: String,
    /// The code over all of this.
    pub mac: String,
}

/// The end of a chain at some time, to be kept somewhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// Which database.
    pub database: String,
    /// The tenant.
    pub tenant: String,
    /// How many events there had been.
    pub number: i64,
    /// The last link.
    pub link: String,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// The key of the code.
    pub key_id: String,
    /// The code over all of this.
    pub mac: String,
}
