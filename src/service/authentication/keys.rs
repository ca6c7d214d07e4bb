//! The keys that an issuer signs with, as a JWK set says, and how fresh they are.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::watch;

use super::file::KeySource;

/// The largest key set that is read, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 256 << 10;
/// The most keys of a set.
const MAX_KEYS: usize = 100;
/// How many keys of the same id are tried.
const MAX_TRIED: usize = 4;
/// How long keys from a URL count when it cannot be asked any more.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often an unknown key can make a URL be asked.
pub const LEAST_INTERVAL: Duration = Duration::from_secs(10);
/// How long a request waits for that.
const PATIENCE: Duration = Duration::from_secs(3);

struct Key {
    id: Option<String>,
    algorithm: Option<KeyAlgorithm>,
    key: DecodingKey,
}

/// The usable keys of a JWK set: public ones, for signatures.
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set.
    ///
    /// # Errors
    /// It is none, it is too large, or it has no key that could be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        #[derive(serde::Deserialize)]
        struct Entries {
            keys: Vec<serde_json::Value>,
        }
        if bytes.len() > MAX_KEY_SET_BYTES {
            return Err("is larger than 256 KiB");
        }
        let entries: Entries = serde_json::from_slice(bytes).map_err(|_| "is no JWK set")?;
        if entries.keys.len() > MAX_KEYS {
            return Err("has more than 100 keys");
        }
        // Kinds of keys that are not known are other people's.
        let keys = entries.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let JwkSet { keys } = JwkSet { keys: keys.collect() };
        let keys: Vec<Key> = keys.iter().filter_map(usable).collect();
        if keys.is_empty() { Err("has no public key for signatures") } else { Ok(KeySet(keys)) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, which no set that was read has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that a token means. One that names no key means the only one that fits.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        let fits = |key: &&Key| {
            key.key.family().algorithms().contains(&algorithm)
                && key.algorithm.is_none_or(|own| own == algorithm.into())
        };
        let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        let found = self.0.iter().filter(fits).filter(named).map(|key| key.key.clone());
        let found: Vec<_> = found.take(MAX_TRIED).collect();
        if id.is_none() && found.len() > 1 { Vec::new() } else { found }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet of {}", self.0.len())
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let public = matches!(
        jwk.algorithm,
        AlgorithmParameters::RSA(_)
            | AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKeyPair(_)
    );
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !public || !for_signatures {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm: jwk.common.key_algorithm, key })
}

#[derive(Debug)]
struct Held {
    set: KeySet,
    /// When a URL last gave it; never too old from a file.
    fetched: Option<Instant>,
}

/// An issuer's keys as they are known now. Whoever keeps them up to date gives them to
/// [`KeyStore::replace`].
#[derive(Debug)]
pub struct KeyStore {
    source: KeySource,
    held: RwLock<Option<Held>>,
    /// How often `held` was replaced. Counted up after each time.
    version: AtomicU64,
    /// How often the source was asked, and when the last time ended.
    asked: watch::Sender<(u64, Option<Instant>)>,
    wanted: tokio::sync::Notify,
}

impl PartialEq for KeyStore {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for KeyStore {}

impl KeyStore {
    pub(super) fn new(source: KeySource) -> Self {
        KeyStore {
            source,
            held: RwLock::default(),
            version: AtomicU64::new(0),
            asked: watch::Sender::new((0, None)),
            wanted: tokio::sync::Notify::new(),
        }
    }

    /// Where the keys are.
    #[must_use]
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Takes over what the source says now.
    pub fn replace(&self, set: KeySet) {
        let fetched = matches!(self.source, KeySource::Url(..)).then(Instant::now);
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Held { set, fetched });
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Another one when the keys are others.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Says that the source was asked, whatever came of it.
    pub fn asked(&self) {
        self.asked.send_modify(|(count, at)| {
            *count += 1;
            *at = Some(Instant::now());
        });
    }

    /// Completes when a token names a key that is not known.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Has the source asked again for the sake of an unknown key, and waits for that; not at once if
    /// it was asked a moment ago. Whether there may be other keys now.
    pub(super) async fn ask_again(&self) -> bool {
        let mut asked = self.asked.subscribe();
        let recently = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < LEAST_INTERVAL);
        let (_, last) = *asked.borrow_and_update();
        if matches!(self.source, KeySource::File(_)) || recently(last) {
            return false;
        }
        self.wanted.notify_one();
        matches!(tokio::time::timeout(PATIENCE, asked.changed()).await, Ok(Ok(())))
    }

    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        self.find_at(id, algorithm, Instant::now())
    }

    fn find_at(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Vec<DecodingKey> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let current = held
            .as_ref()
            .filter(|held| held.fetched.is_none_or(|at| now.saturating_duration_since(at) <= KEPT));
        current.map(|held| held.set.find(id, algorithm)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = r#"{"keys": [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig",
         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "b", "use": "enc",
         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "what", "kid": "c"}]}"#;

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let set = KeySet::parse(SET.as_bytes()).unwrap();
        assert_eq!(set.len(), 1);
        for (id, algorithm, found) in [
            (Some("a"), Algorithm::EdDSA, 1),
            (None, Algorithm::EdDSA, 1),
            (Some("b"), Algorithm::EdDSA, 0),
            (Some("secret"), Algorithm::HS256, 0),
            (Some("a"), Algorithm::HS256, 0),
            (Some("a"), Algorithm::ES256, 0),
        ] {
            assert_eq!(set.find(id, algorithm).len(), found, "{id:?} {algorithm:?}");
        }
        for bad in ["", "{}", "[]", r#"{"keys": []}"#, &SET.replace("sig", "enc")] {
            assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(KeySet::parse(&vec![b' '; MAX_KEY_SET_BYTES + 1]).is_err());
    }

    #[test]
    fn keys_of_a_silent_url_count_for_a_while_and_those_of_a_file_for_good() {
        for (source, in_the_end) in [
            (KeySource::Url("https://idp.example/keys".into(), None), 0),
            (KeySource::File("keys.json".into()), 1),
        ] {
            let store = KeyStore::new(source);
            let found =
                |later| store.find_at(Some("a"), Algorithm::EdDSA, Instant::now() + later).len();
            assert_eq!(found(Duration::ZERO), 0);
            store.replace(KeySet::parse(SET.as_bytes()).unwrap());
            assert_eq!(found(KEPT - Duration::from_secs(60)), 1);
            assert_eq!(found(KEPT + Duration::from_secs(60)), in_the_end);
        }
    }
}
