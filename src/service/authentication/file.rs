//! The callers file: who may call, how each proves itself, and what it may do. TOML; every mistake
//! is found, with its line. What a value holds is never repeated where it could be a secret that
//! was pasted into the wrong place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::issuers::provider;
use super::jwt::Algorithm;
use super::keys::KeyStore;
use super::peer::San;
use crate::domain::document::{self, Fields, FileProblems, Problems, Word, did_you_mean};
use crate::domain::ids::{MAX_ID_BYTES, TenantId};
use crate::service::allowance::RateLimit;
use crate::service::caller::{Caller, Capabilities, Capability};

/// The most callers in a file.
const MAX_CALLERS: usize = 1_000;
/// The most issuers in a file.
const MAX_PROVIDERS: usize = 20;
/// Names that the program writes into the audit itself.
const RESERVED: [&str; 3] = ["dev", "demo", "rolegate"];

/// The SHA-256 of a bearer token.
pub(super) type TokenHash = [u8; 32];

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// In a file; relative to the callers file.
    File(String),
    /// Behind a URL, and the file with the authorities that vouch for the server there, if they are
    /// not those of the system.
    Url(String, Option<String>),
}

/// An issuer of JSON web tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProviderEntry {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) keys: KeySource,
    pub(super) leeway: Duration,
}

/// Which tokens of an issuer are a caller's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JwtProof {
    pub(super) provider: String,
    pub(super) subject: Option<String>,
    pub(super) claims: BTreeMap<String, String>,
}

/// One caller with its proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallerEntry {
    /// Without an allowance and what is under way: those come of the limit, and of what was before.
    pub(super) caller: Caller,
    /// How much it may ask; `None`: the file does not say.
    pub(super) limit: Option<RateLimit>,
    pub(super) sans: Vec<San>,
    pub(super) tokens: Vec<TokenHash>,
    pub(super) jwts: Vec<JwtProof>,
}

/// A callers file that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallersFile {
    pub(super) callers: Vec<CallerEntry>,
    pub(super) providers: Vec<ProviderEntry>,
}

impl CallersFile {
    /// Reads a file and checks it as a whole.
    ///
    /// # Errors
    /// Every mistake in it, each with its place. A text that is no TOML is not looked at further.
    pub fn parse(source: &str) -> Result<Self, FileProblems> {
        let problems = Problems::new(source);
        let Some(document) = document::read(source, &problems) else {
            return Err(problems.into_problems());
        };
        let root = Fields::new("the callers file", 0, document.get_ref(), &problems);
        let mut seen = Seen::new(&problems);
        let providers = root.tables("jwt", MAX_PROVIDERS);
        let providers: Vec<_> =
            providers.into_iter().filter_map(|fields| provider(fields, &mut seen)).collect();
        let callers = root.tables("caller", MAX_CALLERS);
        if callers.is_empty() {
            problems.report(0, "there is no [[caller]], so nobody could call");
        }
        let callers: Vec<_> =
            callers.into_iter().filter_map(|fields| caller(fields, &mut seen)).collect();
        root.finish();
        if problems.is_empty() {
            Ok(CallersFile { callers, providers })
        } else {
            Err(problems.into_problems())
        }
    }

    /// A place for the keys of each source, with those of `held` that are still wanted.
    #[must_use]
    pub fn key_stores(&self, held: &[Arc<KeyStore>]) -> Vec<Arc<KeyStore>> {
        let mut stores: Vec<Arc<KeyStore>> = Vec::new();
        for ProviderEntry { keys, .. } in &self.providers {
            let same = |store: &&Arc<KeyStore>| store.source() == keys;
            if stores.iter().find(same).is_none() {
                let store = held.iter().find(same).cloned();
                stores.push(store.unwrap_or_else(|| Arc::new(KeyStore::new(keys.clone()))));
            }
        }
        stores
    }

    /// The same with a limit for those that have none of their own.
    #[must_use]
    pub fn limited(mut self, limit: Option<RateLimit>) -> Self {
        for entry in &mut self.callers {
            entry.limit = entry.limit.or(limit);
        }
        self
    }

    /// How many callers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.callers.len()
    }

    /// Whether there are none, which no file that was read can have.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Whether a caller proves itself by a certificate.
    #[must_use]
    pub fn takes_certificates(&self) -> bool {
        self.callers.iter().any(|entry| !entry.sans.is_empty())
    }
}

/// What must stand in the file once only, and the line where it does.
pub(super) struct Seen<'p, 's> {
    problems: &'p Problems<'s>,
    callers: HashMap<String, usize>,
    pub(super) providers: HashMap<String, usize>,
    pub(super) issuers: HashMap<String, usize>,
    sans: HashMap<San, usize>,
    tokens: HashMap<TokenHash, usize>,
    jwts: BTreeMap<JwtProof, usize>,
}

impl<'p, 's> Seen<'p, 's> {
    fn new(problems: &'p Problems<'s>) -> Self {
        Seen {
            problems,
            callers: HashMap::new(),
            providers: HashMap::new(),
            issuers: HashMap::new(),
            sans: HashMap::new(),
            tokens: HashMap::new(),
            jwts: BTreeMap::new(),
        }
    }

    /// Reports a second one.
    pub(super) fn again(&self, at: usize, what: &str, first: Option<usize>) {
        if let Some(first) = first {
            let line = self.problems.line(first);
            self.problems.report(at, format!("{what} stands in line {line} already"));
        }
    }
}

fn caller(fields: Fields<'_>, seen: &mut Seen<'_, '_>) -> Option<CallerEntry> {
    let name = fields.required_word("name");
    let fields = fields.named("caller", name.as_ref());
    if let Some(name) = &name {
        caller_name(&fields, name);
        let first = seen.callers.insert(name.text.clone(), name.at);
        seen.again(name.at, &format!("the name {name}"), first);
    }
    let mut sans = Vec::new();
    for word in fields.words("mtls").unwrap_or_default() {
        match San::parse(&word.text) {
            Ok(san) => {
                let first = seen.sans.insert(san.clone(), word.at);
                seen.again(word.at, &word.to_string(), first);
                sans.push(san);
            }
            Err(why) => fields.report(word.at, format!("mtls of {}: {word} {why}", fields.what())),
        }
    }
    let mut tokens = Vec::new();
    for word in fields.words("token_sha256").unwrap_or_default() {
        // Not quoted: it may be the token itself.
        match token_hash(&word.text) {
            Ok(hash) => {
                let first = seen.tokens.insert(hash, word.at);
                seen.again(word.at, "this token_sha256", first);
                tokens.push(hash);
            }
            Err(why) => {
                fields.report(word.at, format!("token_sha256 of {} {why}", fields.what()));
            }
        }
    }
    let jwts: Vec<_> = fields
        .tables("jwt", MAX_CALLERS)
        .into_iter()
        .filter_map(|proof| jwt_proof(proof, seen))
        .collect();
    let proofs = ["mtls", "token_sha256", "jwt"]
        .iter()
        .any(|key| fields.list(key).is_some_and(|entries| !entries.is_empty()));
    if !proofs {
        let message =
            format!("{} cannot prove who it is: give it mtls, token_sha256 or jwt", fields.what());
        fields.report(fields.at(), message);
    }
    let capabilities = fields.required_words("capabilities");
    let capabilities = capabilities.map(|words| capability_set(&fields, &words));
    let tenants = fields.words("tenants").map(|words| tenant_set(&fields, &words));
    let limit = rate_limit(&fields);
    fields.finish();
    let caller = Caller {
        name: name?.text,
        capabilities: capabilities?,
        tenants,
        allowance: None,
        under_way: None,
    };
    Some(CallerEntry { caller, limit, sans, tokens, jwts })
}

fn rate_limit(fields: &Fields<'_>) -> Option<RateLimit> {
    let number = |key| fields.number(key, 1..=RateLimit::MAX);
    let (per_second, burst) = (number("questions_per_second"), number("burst"));
    if let Some(burst) =
        fields.get("burst").filter(|_| fields.get("questions_per_second").is_none())
    {
        let message = format!("burst of {} only goes with questions_per_second", fields.what());
        fields.report(burst.at, message);
    }
    per_second.map(|per_second| RateLimit::new(per_second, burst))
}

fn caller_name(fields: &Fields<'_>, name: &Word) {
    let word = name.text.split(' ').next().unwrap_or_default();
    if RESERVED.contains(&name.text.as_str()) || word.eq_ignore_ascii_case("rolegate") {
        fields
            .report(name.at, format!("the name {name} stands for the program itself in the audit"));
    } else if let Err(why) = TenantId::parse(&name.text) {
        // The same rules as for ids: it stands beside them in the audit and in logs.
        fields.report(name.at, format!("the name of a caller {why}"));
    }
}

fn capability_set(fields: &Fields<'_>, words: &[Word]) -> Capabilities {
    if words.is_empty() {
        let message = format!("capabilities of {} names none", fields.what());
        fields.report(fields.at(), message);
    }
    let named = |word: &Word| {
        let found = Capability::named(&word.text);
        if found.is_none() {
            let known = Capability::ALL.map(Capability::name);
            let hint = did_you_mean(&word.text, known);
            let message = format!(
                "capabilities of {} may be {}, not {word}{hint}",
                fields.what(),
                known.join(", ")
            );
            fields.report(word.at, message);
        }
        found
    };
    words.iter().filter_map(named).collect()
}

fn tenant_set(fields: &Fields<'_>, words: &[Word]) -> BTreeSet<TenantId> {
    let mut tenants = BTreeSet::new();
    for word in words {
        match TenantId::parse(&word.text) {
            Ok(tenant) => {
                if !tenants.insert(tenant) {
                    let message = format!("tenants of {} lists {word} twice", fields.what());
                    fields.report(word.at, message);
                }
            }
            Err(why) => {
                fields.report(word.at, format!("an id in tenants of {} {why}", fields.what()))
            }
        }
    }
    tenants
}

fn jwt_proof(fields: Fields<'_>, seen: &mut Seen<'_, '_>) -> Option<JwtProof> {
    let provider = fields.required_word("provider");
    let fields = fields.named("a jwt of provider", provider.as_ref());
    let subject = fields.word("subject");
    if let Some(subject) = &subject {
        nonempty(&fields, "subject", subject);
    }
    let mut claims = BTreeMap::new();
    if let Some(table) = fields.table("claims") {
        for (claim, value) in table.entries() {
            if ["iss", "aud", "exp", "nbf", "iat", "sub"].contains(&claim.text.as_str()) {
                let message = format!("{claim} is checked by itself; it is no claim to choose by");
                fields.report(claim.at, message);
            }
            if let Some(value) = table.as_word(&value) {
                claims.insert(claim.text, value.text);
            }
        }
    }
    if subject.is_none() && claims.is_empty() {
        let message =
            format!("{} needs a subject or claims: else every token of it would do", fields.what());
        fields.report(fields.at(), message);
    }
    let at = fields.at();
    fields.finish();
    let provider = provider?;
    if !seen.providers.contains_key(&provider.text) {
        let hint = did_you_mean(&provider.text, seen.providers.keys().map(String::as_str));
        seen.problems
            .report(provider.at, format!("there is no [[jwt]] of the name {provider}{hint}"));
    }
    let subject = subject.map(|word| word.text);
    let proof = JwtProof { provider: provider.text, subject, claims };
    let first = seen.jwts.insert(proof.clone(), at);
    seen.again(at, "a jwt of the same provider, subject and claims", first);
    Some(proof)
}

pub(super) fn required(fields: &Fields<'_>, key: &'static str) -> Option<Word> {
    let word = fields.required_word(key)?;
    nonempty(fields, key, &word);
    Some(word)
}

pub(super) fn nonempty(fields: &Fields<'_>, key: &str, word: &Word) {
    if word.text.trim().is_empty() || word.text.chars().any(char::is_control) {
        fields.report(
            word.at,
            format!("{key} of {} is empty or has control characters", fields.what()),
        );
    } else if word.text.len() > 8 * MAX_ID_BYTES {
        fields.report(word.at, format!("{key} of {} is too long", fields.what()));
    }
}

fn token_hash(text: &str) -> Result<TokenHash, &'static str> {
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(
            "must be the SHA-256 of the token in 64 hexadecimal digits, never the token itself; \
             `rolegate token new` gives both",
        );
    }
    if text.eq_ignore_ascii_case(NOTHING) {
        return Err("is the SHA-256 of nothing at all");
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    Ok(hash)
}
