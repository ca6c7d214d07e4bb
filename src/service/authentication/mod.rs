//! Finding out who calls: by the names in a verified client certificate, a bearer token, or a JSON
//! web token, as the callers file says.
//!
//! Whoever calls is told no more than that it could not be told who it is. Which part of a proof was
//! wrong is for the operator: in the log, now and then, and in the metrics.

mod file;
mod issuers;
mod jwt;
mod keys;
mod peer;
mod proof;
mod recognized;
mod refusals;
mod signatures;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use file::{CallersFile, KeySource};
pub use keys::{KEPT, KeySet, KeyStore, LEAST_INTERVAL, MAX_KEY_SET_BYTES};
pub use peer::{Peer, San};
pub use proof::Proof;
pub use recognized::Recognized;
pub use refusals::Refusals;

use self::file::{CallerEntry, JwtProof, ProviderEntry, TokenHash};
use self::jwt::{JwtProblem, Provider};
use self::recognized::Lasting;
use super::allowance::{Allowance, RateLimit};
use super::caller::Caller;

/// The longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 16 << 10;

/// Why nobody was recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven(Why);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    Certain(&'static str),
    UnknownKey(Arc<KeyStore>),
}

impl Unproven {
    const fn because(why: &'static str) -> Self {
        Unproven(Why::Certain(why))
    }

    /// A word for it, out of few.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Why::Certain(why) => why,
            Why::UnknownKey(_) => "jwt_unknown_key",
        }
    }

    /// Whether nothing that could still be asked would change it.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        matches!(self.0, Why::Certain(_))
    }

    /// Whether trying again could end otherwise, after asking the issuer for its keys, which this
    /// does.
    pub async fn could_change(&self) -> bool {
        match &self.0 {
            Why::Certain(_) => false,
            Why::UnknownKey(keys) => keys.ask_again().await,
        }
    }
}

impl From<JwtProblem> for Unproven {
    fn from(problem: JwtProblem) -> Self {
        match problem {
            JwtProblem::Bad(why) => Unproven::because(why),
            JwtProblem::UnknownKey(keys) => Unproven(Why::UnknownKey(keys)),
        }
    }
}

/// Recognizes callers. Clones of one `Arc` of it share what a reload brings.
#[derive(Debug)]
pub struct Authenticator {
    known: RwLock<Arc<Known>>,
    /// How often `known` was replaced. Counted up after each time.
    generation: AtomicU64,
    refusals: Refusals,
}

impl Authenticator {
    /// Takes everybody for the caller of development mode, with this limit for all of them together.
    #[must_use]
    pub fn development(limit: Option<RateLimit>) -> Self {
        let allowance = limit.map(|limit| Arc::new(Allowance::new(limit)));
        Self::of(Known::Everybody(Arc::new(Caller { allowance, ..Caller::development() })))
    }

    /// Knows the callers of a file. The keys of its issuers have to be brought, see
    /// [`Authenticator::key_stores`].
    #[must_use]
    pub fn new(file: CallersFile) -> Self {
        let stores = file.key_stores(&[]);
        Self::of(Known::Listed(Listed::new(file, &stores, &[])))
    }

    fn of(known: Known) -> Self {
        Authenticator {
            known: RwLock::new(Arc::new(known)),
            generation: AtomicU64::new(0),
            refusals: Refusals::default(),
        }
    }

    /// Knows the callers of this file from now on, with the keys of its
    /// [`CallersFile::key_stores`]. What a caller has asked already goes on counting.
    pub fn replace(&self, file: CallersFile, stores: &[Arc<KeyStore>]) {
        let known = Arc::new(Known::Listed(Listed::new(file, stores, self.known().callers())));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The keys of every issuer, to be kept up to date.
    #[must_use]
    pub fn key_stores(&self) -> Vec<Arc<KeyStore>> {
        match &*self.known() {
            Known::Everybody(_) => Vec::new(),
            Known::Listed(listed) => {
                listed.providers.iter().map(|provider| Arc::clone(&provider.keys)).collect()
            }
        }
    }

    /// Every caller that has a limit.
    #[must_use]
    pub fn limited(&self) -> Vec<Arc<Caller>> {
        let known = self.known();
        known.callers().iter().filter(|caller| caller.allowance.is_some()).cloned().collect()
    }

    /// Who was not recognized, and why.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Who calls, from the peer of the connection and every `authorization` header of the request.
    /// All proofs that are given must hold and be of one caller, except that a certificate which is
    /// nobody's counts as none: meshes give every workload one.
    ///
    /// # Errors
    /// Nobody that is known, or not certainly.
    pub fn authenticate<'h>(
        &self,
        peer: Option<&Peer>,
        authorization: impl IntoIterator<Item = &'h [u8]>,
    ) -> Result<Arc<Caller>, Unproven> {
        self.recognize(peer, authorization).map(|recognized| recognized.caller)
    }

    /// The same, with what it takes to recognize the caller again by the same proof.
    ///
    /// # Errors
    /// As for [`Authenticator::authenticate`].
    pub fn recognize<'h>(
        &self,
        peer: Option<&Peer>,
        authorization: impl IntoIterator<Item = &'h [u8]>,
    ) -> Result<Recognized, Unproven> {
        // Before it is looked who is known: a reload in between is seen as one.
        let generation = self.generation.load(Ordering::Acquire);
        let (caller, token) = match &*self.known() {
            Known::Everybody(caller) => (Arc::clone(caller), None),
            Known::Listed(listed) => listed.authenticate(peer, authorization.into_iter())?,
        };
        Ok(Recognized { caller, generation, token })
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
enum Known {
    Everybody(Arc<Caller>),
    Listed(Listed),
}

impl Known {
    fn callers(&self) -> &[Arc<Caller>] {
        match self {
            Known::Everybody(caller) => std::slice::from_ref(caller),
            Known::Listed(listed) => &listed.callers,
        }
    }
}

/// A callers file, arranged for looking things up in it.
struct Listed {
    callers: Vec<Arc<Caller>>,
    sans: HashMap<San, Arc<Caller>>,
    tokens: Vec<(TokenHash, Arc<Caller>)>,
    providers: Vec<Provider>,
    jwts: Vec<(JwtProof, Arc<Caller>)>,
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listed")
    }
}

impl Listed {
    /// `before` are those that were known until now.
    fn new(file: CallersFile, stores: &[Arc<KeyStore>], before: &[Arc<Caller>]) -> Self {
        let same = |name: &str| before.iter().find(|caller| caller.name == name);
        let allowance =
            |name: &str, limit| match same(name).and_then(|caller| caller.allowance.as_ref()) {
                Some(allowance) => allowance.under(limit),
                None => Arc::new(Allowance::new(limit)),
            };
        let provider = |entry: ProviderEntry| {
            let ProviderEntry { name, issuer, audience, algorithms, keys, leeway } = entry;
            let same = stores.iter().find(|store| *store.source() == keys);
            let keys = same.cloned().unwrap_or_else(|| Arc::new(KeyStore::new(keys)));
            Provider { name, issuer, audience, algorithms, leeway, keys }
        };
        let mut listed = Listed {
            callers: Vec::new(),
            sans: HashMap::new(),
            tokens: Vec::new(),
            providers: file.providers.into_iter().map(provider).collect(),
            jwts: Vec::new(),
        };
        for CallerEntry { caller, limit, sans, tokens, jwts } in file.callers {
            let allowance = limit.map(|limit| allowance(&caller.name, limit));
            let under_way = same(&caller.name).and_then(|caller| caller.under_way.clone());
            let under_way = Some(under_way.unwrap_or_default());
            let caller = Arc::new(Caller { allowance, under_way, ..caller });
            listed.callers.push(Arc::clone(&caller));
            listed.sans.extend(sans.into_iter().map(|san| (san, Arc::clone(&caller))));
            listed.tokens.extend(tokens.into_iter().map(|hash| (hash, Arc::clone(&caller))));
            listed.jwts.extend(jwts.into_iter().map(|proof| (proof, Arc::clone(&caller))));
        }
        listed
    }

    fn authenticate<'h>(
        &self,
        peer: Option<&Peer>,
        mut authorization: impl Iterator<Item = &'h [u8]>,
    ) -> Result<(Arc<Caller>, Option<Lasting>), Unproven> {
        let certified = self.by_certificate(peer)?;
        let Some(header) = authorization.next() else {
            let certified = certified.ok_or(Unproven::because(match peer {
                Some(peer) if !peer.sans.is_empty() => "certificate_of_nobody",
                _ => "no_credential",
            }));
            return Ok((certified?, None));
        };
        if authorization.next().is_some() {
            return Err(Unproven::because("two_credentials"));
        }
        let (bearer, token) = self.by_bearer(header)?;
        match certified {
            Some(certified) if certified.name != bearer.name => {
                Err(Unproven::because("proofs_disagree"))
            }
            _ => Ok((bearer, token)),
        }
    }

    fn by_certificate(&self, peer: Option<&Peer>) -> Result<Option<Arc<Caller>>, Unproven> {
        let mut found: Option<&Arc<Caller>> = None;
        for caller in peer.iter().flat_map(|peer| &peer.sans).filter_map(|san| self.sans.get(san)) {
            match found {
                Some(other) if other.name != caller.name => {
                    return Err(Unproven::because("certificate_of_several"));
                }
                _ => found = Some(caller),
            }
        }
        Ok(found.cloned())
    }

    fn by_bearer(&self, header: &[u8]) -> Result<(Arc<Caller>, Option<Lasting>), Unproven> {
        if header.len() > MAX_CREDENTIAL_BYTES {
            return Err(Unproven::because("credential_too_long"));
        }
        let not_bearer = Unproven::because("not_bearer");
        let text = std::str::from_utf8(header).map_err(|_| not_bearer.clone())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(|| not_bearer.clone())?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(not_bearer);
        }
        let token = token.trim_matches(' ');
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(not_bearer);
        }
        match self.by_token(token) {
            Some(caller) => Ok((caller, None)),
            None if jwt::looks_like(token) && !self.providers.is_empty() => self.by_jwt(token),
            None => Err(Unproven::because("unknown_token")),
        }
    }

    /// Every hash is compared, each in the same time whatever is in it, so that time tells nothing.
    fn by_token(&self, token: &str) -> Option<Arc<Caller>> {
        let hash: TokenHash = Sha256::digest(token).into();
        let mut found = None;
        for (known, caller) in &self.tokens {
            if bool::from(known.ct_eq(&hash)) {
                found = Some(caller);
            }
        }
        found.cloned()
    }

    fn by_jwt(&self, token: &str) -> Result<(Arc<Caller>, Option<Lasting>), Unproven> {
        let (provider, claims, lasting) = jwt::verify(&self.providers, token)?;
        let is = |claim: &str, wanted: &str| match claims.get(claim) {
            Some(serde_json::Value::String(text)) => text == wanted,
            Some(serde_json::Value::Array(several)) if claim != "sub" => {
                several.iter().any(|one| one.as_str() == Some(wanted))
            }
            _ => false,
        };
        let matches = |proof: &JwtProof| {
            proof.provider == provider.name
                && proof.subject.as_deref().is_none_or(|subject| is("sub", subject))
                && proof.claims.iter().all(|(claim, wanted)| is(claim, wanted))
        };
        let mut found: Option<&Arc<Caller>> = None;
        for (_, caller) in self.jwts.iter().filter(|(proof, _)| matches(proof)) {
            match found {
                Some(other) if other.name != caller.name => {
                    return Err(Unproven::because("jwt_of_several"));
                }
                _ => found = Some(caller),
            }
        }
        let found = found.cloned().ok_or(Unproven::because("jwt_of_nobody"))?;
        Ok((found, Some(lasting)))
    }
}
