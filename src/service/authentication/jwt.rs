//! JSON web tokens: the claims of one that holds, and why another does not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Header, Validation, dangerous};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::KeyStore;
use super::recognized::Lasting;
use super::signatures;
use crate::domain::Timestamp;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// What a provider may sign with: whoever checks these cannot make them.
pub(super) const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// Whether keys may be had from there: nobody on the way may choose them.
pub(super) fn check_url(url: &str) -> Result<(), &'static str> {
    let Ok(url) = url.parse::<http::Uri>() else { return Err("is no URL") };
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err("must be a whole URL, such as \"https://idp.example.org/keys\"");
    };
    if authority.as_str().contains('@') {
        return Err("must not hold a user or a password");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if here => Ok(()),
        "http" => Err("must be https, except on loopback: whoever is on the way could sign tokens"),
        _ => Err("must be https"),
    }
}

/// Why a token does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JwtProblem {
    /// For one reason or another; a word for metrics, and the log.
    Bad(&'static str),
    /// The issuer's keys, as far as they are known, do not have the one that it names.
    UnknownKey(Arc<KeyStore>),
}

/// An issuer, with its keys.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) leeway: Duration,
    pub(super) keys: Arc<KeyStore>,
}

/// What a token says of itself. Not believed until its signature was checked.
#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

/// Whether a bearer token looks like one of these rather than like one of ours.
pub(super) fn looks_like(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The provider that a token says it is from, its claims, and how long they hold, if all of it does.
pub(super) fn verify<'p>(
    providers: &'p [Provider],
    token: &str,
) -> Result<(&'p Provider, Map<String, Value>, Lasting), JwtProblem> {
    let bad = JwtProblem::Bad;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(bad("jwt_too_long"));
    }
    // Unknown algorithms, `none` among them, are not even read.
    let header = jsonwebtoken::decode_header(token).map_err(|_| bad("jwt_malformed"))?;
    if header.crit.is_some() {
        return Err(bad("jwt_critical_header"));
    }
    let said: Unverified =
        dangerous::insecure_decode_claims(token).map_err(|_| bad("jwt_malformed"))?;
    let provider = providers.iter().find(|provider| provider.issuer == said.iss);
    let provider = provider.ok_or(bad("jwt_issuer"))?;
    if !provider.algorithms.contains(&header.alg) {
        return Err(bad("jwt_algorithm"));
    }
    // Before a key is looked for: other keys in between are seen as others.
    let version = provider.keys.version();
    let claims = provider.claims(token, &header)?;
    let lasting = Lasting::new(provider.end(&claims), &provider.keys, version);
    Ok((provider, claims, lasting))
}

impl Provider {
    /// When a token of these claims ends, leeway included; at once if they do not say it in a way that
    /// is understood here.
    fn end(&self, claims: &Map<String, Value>) -> Timestamp {
        let seconds = claims.get("exp").and_then(Value::as_f64).unwrap_or_default().max(0.0);
        let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Timestamp(0).plus(since).plus(self.leeway)
    }

    fn claims(&self, token: &str, header: &Header) -> Result<Map<String, Value>, JwtProblem> {
        signatures::install();
        let keys = self.keys.find(header.kid.as_deref(), header.alg);
        if keys.is_empty() {
            return Err(JwtProblem::UnknownKey(Arc::clone(&self.keys)));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut failure = JwtProblem::Bad("jwt_signature");
        for key in keys {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => failure = problem(&error),
            }
        }
        Err(failure)
    }
}

fn problem(error: &Error) -> JwtProblem {
    JwtProblem::Bad(match error.kind() {
        ErrorKind::InvalidSignature => "jwt_signature",
        ErrorKind::ExpiredSignature => "jwt_expired",
        ErrorKind::ImmatureSignature => "jwt_not_yet_valid",
        ErrorKind::InvalidAudience => "jwt_audience",
        ErrorKind::InvalidIssuer => "jwt_issuer",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => "jwt_claims",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => "jwt_algorithm",
        _ => "jwt_malformed",
    })
}
