//! The chain that the audit trail of a tenant is, and why an edit of it is found.
//!
//! **Links.** The events of a tenant are numbered 1, 2, 3 and so on. Each has a link,
//!
//! ```text
//! link(n) = HMAC-SHA-256(key, encoding version, link(n - 1), event n)
//! ```
//!
//! where every part goes in with its length ([`code`]). Whoever lacks the key cannot make a link, so
//! an event that is changed, left out, put in or moved leaves a link that does not follow. Only the
//! end is not held by what comes after it: cutting it off leaves a chain that is whole. Each change has
//! a revision of the tenant, one more than the last, and revisions in the chain leave none out; so a
//! cut is found by the tenant's revision, and still after the chain went on from there. A restored
//! backup, which makes revisions jump, is an event of every chain. Whoever cuts the end off *and* sets
//! the tenant's revision back, or cuts off events that have no revision of their own (refusals, the
//! last events of one large change), is found by a head that was exported before ([`SignedHead`]) and
//! by nothing else.
//!
//! **Personal values** (actor, request id, subjects, before, after) are in the link as digests,
//! `HMAC(salt, field, value)`, with 122 random bits of salt for each event. The salt is stored beside
//! them. So a value can go and the link stays: the digests that the link covers remain in `covered`.
//!
//! **Erasing** a member rewrites values in old events. Each gets a new salt, so the old one is gone
//! with the value: the digest in `covered` is of a value and 122 bits that nobody knows, and says
//! nothing of an id however easily that could be guessed. The digests of what is there now are kept
//! in `digests`. Three things keep an edit from being passed off as an erasure:
//!
//! - the values are compared with the digests that they should have before they are rewritten; one
//!   that differs keeps its digest, which no value has under the new salt, so the edit stays found;
//! - a keyed code over tenant, event, the erasing event's number, the digests before and the new ones,
//!   in `rewrites`. The first goes on from what the link covers, each other from the one before, so
//!   digests that were edited only until the member was erased do not fit afterwards;
//! - the erasing event's own link covers how many events it rewrote, and a running digest over their
//!   numbers and codes in order (`erased`). So an event that says it was erased when it was not, and
//!   one that was put back to what it was before, do not fit the erasing event. This needs no memory
//!   of the erased events while a trail is read in order, only of the erasures to come.
//!
//! **Deleting** the oldest events (for their age, or all of them with their tenant) leaves a
//! checkpoint, authenticated with the key: the number and link to go on from, and the running digests
//! of erasures that had rewritten what went. It names nobody. What goes for its age is verified first,
//! and stays if anything is found, or if it is under a key that the program does not have. A tenant is
//! purged for its age only if the chain proves that it was deleted. A purge that somebody asks for
//! verifies nothing: what goes with it cannot be looked at any more.
//!
//! **Keys** follow one another; a key that was replaced is not used again ([`AuditKeys`]). A chain is
//! sound only if it ends with the current key, and no older key comes after a newer one. Nothing goes on
//! from an event under an older key but `rotate`, which verifies all of the chain first. So whoever
//! learns an old key after that can neither change what was before the newer one (its first link holds
//! all of it) nor add anything after. Whoever had it before could have made up the whole chain, which
//! only exported heads show.

mod append;
mod checkpoint;
pub(crate) mod code;
mod finding;
mod key;
mod open;
mod read;
mod record;
mod rotate;
mod verify;

pub(super) use append::{Chain, Erasures};
pub use finding::{Finding, Verified};
pub(super) use key::AuditKeys;
pub use key::{AuditKey, AuditKeyChoice, BadKey, Keyring};
pub(super) use open::{REVISIONS_LOST, adopt, announce_restore, register};
pub use read::TrailState;
pub(super) use read::{record, subjects_of};
pub use record::{Checkpoint, Head, Record, SignedHead};
pub use rotate::Rotated;
pub use verify::Verifier;
