//! What goes into links, digests and codes, and how. Changing anything here makes every chain that
//! there is look broken: a new encoding gets a new version, and the old one stays.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::key::AuditKey;
use super::record::{Checkpoint, Record, SignedHead};

pub(crate) type Code = [u8; 32];

/// What the first event of a chain follows.
pub(super) const GENESIS: Code = [0; 32];

/// The fields whose values can be erased, in the order of their digests.
pub(super) const FIELDS: [&str; 5] = ["actor", "request_id", "before", "after", "subjects"];

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

pub(super) fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    // In one spelling only: another one would be an edit that nobody finds.
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let digits = text.as_bytes().chunks_exact(2);
    if !plain || !digits.remainder().is_empty() {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

/// Takes parts with their lengths, so that no two lists of parts give the same bytes.
struct Encoder(Hmac<Sha256>);

impl Encoder {
    fn new(key: &AuditKey, purpose: &str) -> Self {
        Encoder(key.mac()).text(purpose)
    }

    fn bytes(mut self, part: &[u8]) -> Self {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    fn number(self, part: i64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    /// Something that may be missing; empty is not missing.
    fn maybe(self, part: Option<&[u8]>) -> Self {
        match part {
            Some(part) => self.bytes(&[1]).bytes(part),
            None => self.bytes(&[0]),
        }
    }

    fn finish(self) -> Code {
        self.0.finalize().into_bytes().into()
    }
}

/// The digests of an event's personal values; `None` for what it does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests(pub(super) [Option<Code>; FIELDS.len()]);

impl Digests {
    pub(super) fn of(record: &Record, salt: &[u8; 16]) -> Self {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(salt) {
            *to = *from;
        }
        let salt = AuditKey::new(&key);
        let digest = |field: usize, value: &[u8]| {
            Encoder::new(&salt, "rolegate.audit.value.v1")
                .number(field as i64)
                .bytes(value)
                .finish()
        };
        let text = |field: usize, value: &Option<String>| {
            value.as_ref().map(|value| digest(field, value.as_bytes()))
        };
        let Record { actor, request_id, before, after, subjects, .. } = record;
        let mut sorted: Vec<_> = subjects.iter().collect();
        sorted.sort_unstable();
        let mut encoded = Vec::new();
        for part in sorted.into_iter().flat_map(|(kind, id)| [kind, id]) {
            encoded.extend((part.len() as u64).to_be_bytes());
            encoded.extend(part.as_bytes());
        }
        let subjects = (!encoded.is_empty()).then(|| digest(4, &encoded));
        Digests([text(0, actor), text(1, request_id), text(2, before), text(3, after), subjects])
    }

    /// The names of the fields in which these are not the same.
    pub(super) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let pairs = FIELDS.iter().zip(self.0.iter().zip(&other.0));
        pairs.filter(|(_, (one, other))| one != other).map(|(name, _)| *name).collect()
    }

    pub(super) fn write(&self) -> String {
        let digests = self
            .0
            .iter()
            .map(|digest| digest.as_ref().map_or_else(|| "-".to_owned(), |digest| to_hex(digest)));
        digests.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let read = |digest| match digest {
            "-" => Some(None),
            digest => from_hex(digest).map(Some),
        };
        let digests: Option<Vec<Option<Code>>> = text.split(' ').map(read).collect();
        digests?.try_into().ok().map(Digests)
    }
}

/// The link of an event whose personal values have these digests.
pub(super) fn link(key: &AuditKey, previous: &Code, record: &Record, covered: &Digests) -> Code {
    // Destructured, so that a field that is added is decided on here.
    let Record {
        tenant,
        number,
        revision,
        at,
        caller,
        method,
        refusal,
        erased,
        // In the digests.
        actor: _,
        request_id: _,
        before: _,
        after: _,
        subjects: _,
        covered: _,
        // Known by its result.
        key_id: _,
        link: _,
        // Replaced by erasures, and proven by `rewrites`.
        salt: _,
        digests: _,
        rewrites: _,
    } = record;
    let mut encoder = Encoder::new(key, "rolegate.audit.link.v1")
        .bytes(previous)
        .text(tenant)
        .number(*number)
        .number(*revision)
        .number(*at)
        .text(caller)
        .text(method)
        .maybe(refusal.as_ref().map(String::as_bytes))
        .maybe(erased.as_ref().map(String::as_bytes));
    for digest in &covered.0 {
        encoder = encoder.maybe(digest.as_ref().map(<[u8; 32]>::as_slice));
    }
    encoder.finish()
}

/// Says that an event was rewritten by an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rewrite {
    /// The number of the erasing event.
    pub(super) by: i64,
    /// The key of the code.
    pub(super) key_id: String,
    /// The digests that the event had before.
    pub(super) before: String,
    pub(super) mac: String,
}

/// Proves that the digests of event `number` went from the one to the other when event `by` rewrote
/// it. That the first were true is not said: they are proven by the rewriting before, or the link.
pub(super) fn rewrite(
    key: &AuditKey,
    tenant: &str,
    number: i64,
    by: i64,
    before: &str,
    after: &str,
) -> Code {
    Encoder::new(key, "rolegate.audit.rewrite.v2")
        .text(tenant)
        .number(number)
        .number(by)
        .text(before)
        .text(after)
        .finish()
}

/// A running digest over the events that an erasure rewrote, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) by: i64,
    pub(super) count: u64,
    pub(super) digest: String,
}

impl Running {
    pub(super) fn new(by: i64) -> Self {
        Running { by, count: 0, digest: to_hex(&GENESIS) }
    }

    pub(super) fn add(&mut self, number: i64, mac: &str) {
        use sha2::Digest as _;
        let mut hash = Sha256::new();
        hash.update(b"rolegate.audit.erased.v1");
        // Both of a fixed length, the one before as well.
        hash.update(self.digest.as_bytes());
        hash.update(number.to_be_bytes());
        hash.update(mac.as_bytes());
        self.digest = to_hex(&hash.finalize());
        self.count += 1;
    }

    /// As the erasing event has it.
    pub(super) fn total(&self) -> String {
        format!("{}:{}", self.count, self.digest)
    }
}

pub(super) fn checkpoint(key: &AuditKey, checkpoint: &Checkpoint) -> Code {
    let Checkpoint {
        tenant,
        number,
        link,
        link_key_id,
        revision,
        at,
        deleted,
        pending,
        key_id: _,
        mac: _,
    } = checkpoint;
    Encoder::new(key, "rolegate.audit.checkpoint.v1")
        .text(tenant)
        .number(*number)
        .text(link)
        .text(link_key_id)
        .number(*revision)
        .number(*at)
        .number(*deleted)
        .text(pending)
        .finish()
}

pub(super) fn head(key: &AuditKey, head: &SignedHead) -> Code {
    let SignedHead { database, tenant, number, link, at, key_id: _, mac: _ } = head;
    Encoder::new(key, "rolegate.audit.head.v1")
        .text(database)
        .text(tenant)
        .number(*number)
        .text(link)
        .number(*at)
        .finish()
}
