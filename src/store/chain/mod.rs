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
//! end is not held by what comes after it: cutting it off leaves a chain that is whole, which only a
//! head that was exported before tells from the true one ([`SignedHead`]).
//!
//! **Personal values** (actor, request id, subjects, before, after) are in the link as digests,
//! `HMAC(salt, field, value)`, with 122 random bits of salt for each event. The salt is stored beside
//! them. So a value can go and the link stays: the digests that the link covers remain in `covered`.
//!
//! **Erasing** a member rewrites values in old events. Each gets a new salt, so the old one is gone
//! with the value: the digest in `covered` is of a value and 122 bits that nobody knows, and says
//! nothing of an id however easily that could be guessed. The digests of what is there now are kept
//! in `digests`. Two things keep an edit from being passed off as an erasure:
//!
//! - a keyed code over tenant, event, the erasing event's number and the new digests, in `rewrites`;
//! - the erasing event's own link covers how many events it rewrote, and a running digest over their
//!   numbers and codes in order (`erased`). So an event that says it was erased when it was not, and
//!   one that was put back to what it was before, do not fit the erasing event. This needs no memory
//!   of the erased events while a trail is read in order, only of the erasures to come.
//!
//! **Deleting** the oldest events (for their age, or all of them with their tenant) leaves a
//! checkpoint, authenticated with the key: the number and link to go on from, and the running digests
//! of erasures that had rewritten what went. It names nobody.
//!
//! **Keys** follow one another; a key that was replaced is not used again ([`AuditKeys`]). A chain is
//! sound only if it ends with the current key, and no older key comes after a newer one. So whoever
//! learns an old key can neither change what was before the newer one (its first link holds all of
//! it) nor add anything after.

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
pub(super) use open::{adopt, register};
pub use read::TrailState;
pub(super) use read::{record, subjects_of};
pub use record::{Checkpoint, Head, Record, SignedHead};
pub use rotate::Rotated;
pub use verify::Verifier;
