//! Keys that the trail is chained with.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The fewest bytes that a key file may have: 32 random bytes in hex are 64.
const MIN_BYTES: usize = 32;
const BLOCK_BYTES: usize = 64;

/// A key of the audit trail.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditKey {
    /// As HMAC takes it: filled up to a block.
    block: [u8; BLOCK_BYTES],
    id: String,
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key itself is a secret.
        write!(f, "AuditKey({})", self.id)
    }
}

/// A key that is too easy to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has {0} bytes, and an audit key needs at least {MIN_BYTES}: \
     `openssl rand -hex 32` makes a good one"
)]
pub struct BadKey(usize);

impl AuditKey {
    /// From what a key file holds. A line break at its end does not count.
    ///
    /// # Errors
    /// [`BadKey`]
    pub fn from_file(content: &[u8]) -> Result<Self, BadKey> {
        let content = content.trim_ascii_end();
        if content.len() < MIN_BYTES {
            return Err(BadKey(content.len()));
        }
        let mut hash = Sha256::new();
        hash.update(b"rolegate audit key");
        hash.update(content);
        Ok(Self::new(&hash.finalize().into()))
    }

    pub(in crate::store) fn new(key: &[u8; 32]) -> Self {
        let mut block = [0; BLOCK_BYTES];
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        let mut key = AuditKey { block, id: String::new() };
        let mut mac = key.mac();
        mac.update(b"rolegate.audit.key-id.v1");
        let code = mac.finalize().into_bytes();
        key.id = code.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        key
    }

    /// What it is called. Says nothing of the key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        <Hmac<Sha256> as KeyInit>::new(&self.block.into())
    }
}

/// The keys that a trail may have been chained with.
#[derive(Debug, Clone)]
pub struct Keyring(Vec<AuditKey>);

impl Keyring {
    /// The current key, and those before it, newest first.
    #[must_use]
    pub fn new(current: AuditKey, older: impl IntoIterator<Item = AuditKey>) -> Self {
        Keyring(std::iter::once(current).chain(older).collect())
    }

    /// The key of that id with its age: 0 for the current one.
    pub(super) fn find(&self, id: &str) -> Option<(usize, &AuditKey)> {
        self.0.iter().enumerate().find(|(_, key)| key.id == id)
    }

    /// The current one.
    #[must_use]
    pub fn current(&self) -> Option<&AuditKey> {
        self.0.first()
    }
}

/// Which key a store chains its events with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AuditKeyChoice {
    /// The one that was made with the database.
    #[default]
    Database,
    /// This one, which must be the current one, unless nothing is chained yet.
    Given(AuditKey),
    /// This one, which takes over from the current one: for `rolegate audit rotate`, and nothing else.
    Successor {
        /// The new key.
        key: AuditKey,
        /// The ids of keys that whoever wants it has, of which one must be the current one's, so that
        /// a file that was named by mistake takes nothing over. `None`: the current key is lost.
        of: Option<Vec<String>>,
        /// The same for the key that was made with the database.
        of_database: bool,
    },
    /// None: nothing is going to be written to the trail.
    None,
}

/// The keys of an open database.
#[derive(Debug, Clone)]
pub(in crate::store) struct AuditKeys {
    /// What new events are chained with.
    pub(super) own: Option<AuditKey>,
    /// The one that was made with the database.
    pub(super) database: AuditKey,
    /// The ids of the keys that were in use when the database was opened, oldest first; the own one
    /// is the last. A chain that goes on under another has a newer key than this program.
    pub(super) known: Vec<String>,
}
