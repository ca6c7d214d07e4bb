//! Proofs that hold, and those that must not.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::issuers::LEEWAY_SECONDS;
use super::*;

/// The modulus of the RSA key beside this file.
const MODULUS: &str = "xTOCp61Yelt3eJB6h_QJwkcOLFUxZ_cxciERjVTZO4EZ9UkeKFRA7FY690jUMmxHS60tCjPHs0IZGmfssAryhqMnHm6OyaJabtTvW-hnZFdMQ3bxsnlczPA4eQsz-mXUd6Z0kiRVjKuEblOjEwM_szZ0OfJCVhvVr7K5FAS8wBzg5es4YYfms3bdAxD934gdNC2BGyS7d_eFbPSDmcN_qyvE1_YslVagVxhZWoTqwmiVP7kojjHyewm9p-YmXOHNBaphCO0g41tnMRpphPEhwFtXbUrHV42WNculrJlBXNrPKR4kVsnzP37wu90-e_YNkesqQK7-6R7OqBouD6L18w";

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn callers(text: &str) -> Authenticator {
    Authenticator::new(CallersFile::parse(text).unwrap_or_else(|problems| panic!("{problems}")))
}

fn peer(sans: &[San]) -> Peer {
    Peer { sans: sans.to_vec() }
}

fn uri(text: &str) -> San {
    San::Uri(text.to_owned())
}

/// Who it is, or why it is nobody.
fn asked(
    known: &Authenticator,
    peer: Option<&Peer>,
    headers: &[&str],
) -> Result<String, &'static str> {
    let caller = known.authenticate(peer, headers.iter().map(|header| header.as_bytes()));
    caller.map(|caller| caller.name.clone()).map_err(|why| why.name())
}

#[test]
fn a_bearer_token_is_taken_whole_or_not_at_all() {
    let token = "rolegate_one-good-token";
    let known = callers(&format!(
        "[[caller]]\nname = \"chat\"\ntoken_sha256 = [\"{}\", \"{}\"]\ncapabilities = [\"check\"]\n\
         [[caller]]\nname = \"other\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"read\"]\n",
        hash(token),
        hash("a.b.c").to_uppercase(),
        hash("another"),
    ));
    let bearer = |token: &str| format!("Bearer {token}");
    for (headers, expected) in [
        (vec![bearer(token)], Ok("chat")),
        (vec![bearer("a.b.c")], Ok("chat")),
        (vec![bearer("another")], Ok("other")),
        (vec![format!("bEARER {token}")], Ok("chat")),
        (vec![format!("Bearer   {token} ")], Ok("chat")),
        (vec![], Err("no_credential")),
        (vec![String::new()], Err("not_bearer")),
        (vec![token.to_owned()], Err("not_bearer")),
        (vec!["Bearer".to_owned()], Err("not_bearer")),
        (vec!["Bearer    ".to_owned()], Err("not_bearer")),
        (vec![format!("Basic {token}")], Err("not_bearer")),
        (vec![format!("Bearer\t{token}")], Err("not_bearer")),
        (vec![format!("Bearer {token} {token}")], Err("not_bearer")),
        (vec![format!("Bearer {token},Bearer {token}")], Err("not_bearer")),
        (vec![bearer(&token[..token.len() - 1])], Err("unknown_token")),
        (vec![bearer(&format!("{token}x"))], Err("unknown_token")),
        (vec![bearer(&token.to_uppercase())], Err("unknown_token")),
        // What the file holds is of no use to whoever reads it.
        (vec![bearer(&hash(token))], Err("unknown_token")),
        (vec![bearer("a.b.d")], Err("unknown_token")),
        (vec![bearer(token), bearer(token)], Err("two_credentials")),
        (vec![bearer(token), bearer("another")], Err("two_credentials")),
        (vec![bearer(&"x".repeat(20_000))], Err("credential_too_long")),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(asked(&known, None, &headers), expected.map(str::to_owned), "{headers:?}");
    }
    let not_utf8 = known.authenticate(None, [b"Bearer \xff".as_slice()]);
    assert_eq!(not_utf8.unwrap_err().name(), "not_bearer");
}

#[test]
fn a_certificate_is_its_names_and_all_proofs_are_of_one_caller() {
    let known = callers(&format!(
        "[[caller]]\nname = \"chat\"\nmtls = [\"spiffe://a/chat\", \"dns:Chat.internal\"]\n\
         token_sha256 = [\"{}\"]\ncapabilities = [\"check\"]\n\
         [[caller]]\nname = \"admin\"\nmtls = [\"spiffe://a/admin\"]\ncapabilities = [\"admin\"]\n",
        hash("t")
    ));
    let token = ["Bearer t"].as_slice();
    let (chat, admin, nobody) =
        (uri("spiffe://a/chat"), uri("spiffe://a/admin"), uri("spiffe://a/x"));
    for (sans, headers, expected) in [
        (vec![chat.clone()], [].as_slice(), Ok("chat")),
        (vec![San::dns("CHAT.internal")], &[], Ok("chat")),
        (vec![chat.clone(), San::dns("chat.internal"), nobody.clone()], &[], Ok("chat")),
        (vec![admin.clone()], &[], Ok("admin")),
        (vec![uri("spiffe://A/chat")], &[], Err("certificate_of_nobody")),
        (vec![uri("dns:chat.internal")], &[], Err("certificate_of_nobody")),
        (vec![San::dns("*.internal")], &[], Err("certificate_of_nobody")),
        (vec![], &[], Err("no_credential")),
        (vec![chat.clone(), admin.clone()], &[], Err("certificate_of_several")),
        (vec![chat.clone(), admin.clone()], token, Err("certificate_of_several")),
        (vec![chat.clone()], token, Ok("chat")),
        (vec![nobody.clone()], token, Ok("chat")),
        (vec![admin.clone()], token, Err("proofs_disagree")),
        // A proof that does not hold is not made up for by another.
        (vec![chat.clone()], &["Bearer wrong"], Err("unknown_token")),
    ] {
        let peer = peer(&sans);
        assert_eq!(asked(&known, Some(&peer), headers), expected.map(str::to_owned), "{sans:?}");
    }
}

/// An issuer that can sign in several ways.
struct Issuer {
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    chance: SystemRandom,
}

impl Issuer {
    fn new() -> Self {
        let chance = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &chance).unwrap();
        let rsa = RsaKeyPair::from_pkcs8(include_bytes!("rsa-key-for-tests.der")).unwrap();
        Issuer { ec, rsa, chance }
    }

    fn keys(&self, ec: &str, rsa: &str) -> KeySet {
        let point = self.ec.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let set = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": ec, "alg": "ES256",
             "x": text(&point[1..33]), "y": text(&point[33..65])},
            {"kty": "RSA", "kid": rsa, "n": MODULUS, "e": "AQAB"},
        ]});
        KeySet::parse(set.to_string().as_bytes()).unwrap()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let message = signed.as_bytes();
        let rsa = |how: &'static dyn ring::signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(how, &self.chance, message, &mut signature).unwrap();
            signature
        };
        let signature = match header["alg"].as_str() {
            Some("ES256") => self.ec.sign(&self.chance, message).unwrap().as_ref().to_vec(),
            Some("RS256") => rsa(&RSA_PKCS1_SHA256),
            Some("PS256") => rsa(&RSA_PSS_SHA256),
            // The public key taken for a secret.
            Some("HS256") => {
                let modulus = URL_SAFE_NO_PAD.decode(MODULUS).unwrap();
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &modulus);
                ring::hmac::sign(&key, message).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

const ISSUERS: &str = r#"
[[jwt]]
name = "corp"
issuer = "https://idp.example"
audience = "rolegate"
algorithms = ["ES256", "RS256", "PS256"]
jwks_file = "corp.json"

[[jwt]]
name = "partner"
issuer = "https://partner.example"
audience = "rolegate"
algorithms = ["ES256"]
jwks_file = "partner.json"

[[caller]]
name = "chat"
jwt = [{ provider = "corp", subject = "chat" }]
capabilities = ["check"]

[[caller]]
name = "reports"
jwt = [{ provider = "corp", claims = { azp = "reports", groups = "staff" } }]
capabilities = ["read"]

[[caller]]
name = "both"
jwt = [{ provider = "corp", subject = "reports", claims = { azp = "reports" } }]
capabilities = ["read"]

[[caller]]
name = "partner"
jwt = [{ provider = "partner", subject = "chat" }]
capabilities = ["check"]
"#;

/// Knows the issuers above, whose keys are "ec" and "rsa", and "partner-ec" of another pair.
fn with_issuers() -> (Authenticator, Issuer, Issuer) {
    let known = callers(ISSUERS);
    let (corp, partner) = (Issuer::new(), Issuer::new());
    let stores = known.key_stores();
    stores[0].replace(corp.keys("ec", "rsa"));
    stores[1].replace(partner.keys("partner-ec", "partner-rsa"));
    (known, corp, partner)
}

fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://idp.example", "aud": "rolegate", "sub": "chat",
        "exp": seconds_from_now(300), "iat": seconds_from_now(-1),
    });
    for (claim, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value.clone();
        }
    }
    claims
}

#[test]
fn a_json_web_token_holds_only_if_all_of_it_does() {
    let (known, corp, partner) = with_issuers();
    let ec = json!({"alg": "ES256", "kid": "ec", "typ": "JWT"});
    let rsa = |algorithm: &str| json!({"alg": algorithm, "kid": "rsa"});
    let other = json!({"alg": "ES256", "kid": "partner-ec"});
    let soon = seconds_from_now(20);
    let mut cases: Vec<(&str, String, Result<&str, &str>)> = Vec::new();
    let mut by_corp = |what, header: &Value, changes: Value, expected| {
        cases.push((what, corp.token(header, &claims(&changes)), expected));
    };
    by_corp("sound, ES256", &ec, json!({}), Ok("chat"));
    by_corp("sound, RS256", &rsa("RS256"), json!({}), Ok("chat"));
    by_corp("sound, PS256", &rsa("PS256"), json!({}), Ok("chat"));
    by_corp("no kid, one key that fits", &json!({"alg": "RS256"}), json!({}), Ok("chat"));
    by_corp("one of several audiences", &ec, json!({"aud": ["x", "rolegate"]}), Ok("chat"));
    by_corp("expired within the leeway", &ec, json!({"exp": seconds_from_now(-20)}), Ok("chat"));
    by_corp("valid soon, within the leeway", &ec, json!({"nbf": soon}), Ok("chat"));
    let staff = json!({"sub": "x", "azp": "reports", "groups": ["a", "staff"]});
    by_corp("by claims", &ec, staff, Ok("reports"));
    let both = json!({"sub": "reports", "azp": "reports", "groups": "staff"});
    by_corp("of two callers", &ec, both, Err("jwt_of_several"));
    by_corp("of nobody", &ec, json!({"sub": "chatter"}), Err("jwt_of_nobody"));
    by_corp("no subject", &ec, json!({"sub": null}), Err("jwt_of_nobody"));
    by_corp("subject in a list", &ec, json!({"sub": ["chat"]}), Err("jwt_malformed"));
    let part = json!({"sub": "x", "azp": "reports"});
    by_corp("some of the claims", &ec, part, Err("jwt_of_nobody"));
    by_corp("alg none", &json!({"alg": "none", "kid": "ec"}), json!({}), Err("jwt_malformed"));
    by_corp("alg None", &json!({"alg": "None"}), json!({}), Err("jwt_malformed"));
    by_corp("no alg", &json!({"kid": "ec"}), json!({}), Err("jwt_malformed"));
    by_corp("HS256 with the public key", &rsa("HS256"), json!({}), Err("jwt_algorithm"));
    by_corp("not pinned", &rsa("RS512"), json!({}), Err("jwt_algorithm"));
    let mixed = json!({"alg": "RS256", "kid": "ec"});
    by_corp("a key of another kind", &mixed, json!({}), Err("jwt_unknown_key"));
    let unknown = json!({"alg": "ES256", "kid": "ec2"});
    by_corp("unknown kid", &unknown, json!({}), Err("jwt_unknown_key"));
    by_corp("kid of another issuer", &other, json!({}), Err("jwt_unknown_key"));
    let critical = json!({"alg": "ES256", "kid": "ec", "crit": ["x"], "x": 1});
    by_corp("critical header", &critical, json!({}), Err("jwt_critical_header"));
    by_corp("wrong audience", &ec, json!({"aud": "other"}), Err("jwt_audience"));
    by_corp("audience that begins alike", &ec, json!({"aud": "rolegate2"}), Err("jwt_audience"));
    by_corp("no audience", &ec, json!({"aud": null}), Err("jwt_claims"));
    by_corp("empty audiences", &ec, json!({"aud": []}), Err("jwt_audience"));
    by_corp("unknown issuer", &ec, json!({"iss": "https://idp.example/"}), Err("jwt_issuer"));
    by_corp("issuer in a list", &ec, json!({"iss": ["https://idp.example"]}), Err("jwt_malformed"));
    by_corp("no issuer", &ec, json!({"iss": null}), Err("jwt_malformed"));
    by_corp("expired", &ec, json!({"exp": seconds_from_now(-40)}), Err("jwt_expired"));
    by_corp("no expiry", &ec, json!({"exp": null}), Err("jwt_claims"));
    by_corp("expiry in words", &ec, json!({"exp": "tomorrow"}), Err("jwt_claims"));
    by_corp("not yet valid", &ec, json!({"nbf": seconds_from_now(40)}), Err("jwt_not_yet_valid"));
    by_corp("nbf in words", &ec, json!({"nbf": "later"}), Err("jwt_claims"));
    by_corp("oversized", &ec, json!({"x": "x".repeat(8_000)}), Err("jwt_too_long"));
    let foreign = json!({"iss": "https://partner.example"});
    by_corp("another issuer's name", &ec, foreign.clone(), Err("jwt_unknown_key"));
    by_corp("another issuer's key id", &other, foreign.clone(), Err("jwt_signature"));
    cases.push(("the partner's own", partner.token(&other, &claims(&foreign)), Ok("partner")));
    cases.push((
        "the partner's key",
        partner.token(&ec, &claims(&json!({}))),
        Err("jwt_signature"),
    ));
    let sound = corp.token(&ec, &claims(&json!({})));
    let parts: Vec<&str> = sound.split('.').collect();
    let swapped = corp.token(&ec, &claims(&json!({"sub": "other"})));
    let swapped_payload = swapped.split('.').nth(1).unwrap();
    for (what, token, why) in [
        (
            "another payload",
            format!("{}.{swapped_payload}.{}", parts[0], parts[2]),
            "jwt_signature",
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "jwt_signature"),
        ("a cut signature", sound[..sound.len() - 6].to_owned(), "jwt_signature"),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "unknown_token"),
        ("four parts", format!("{sound}.x"), "unknown_token"),
        ("nothing in them", "..".to_owned(), "jwt_malformed"),
        ("garbage", "a.b.c".to_owned(), "jwt_malformed"),
    ] {
        cases.push((what, token, Err(why)));
    }
    for (what, token, expected) in cases {
        let said = asked(&known, None, &[&format!("Bearer {token}")]);
        assert_eq!(said, expected.map(str::to_owned), "{what}");
    }
}

#[test]
fn other_keys_count_as_soon_as_they_are_there() {
    let (known, corp, partner) = with_issuers();
    let token = |issuer: &Issuer, kid: &str| {
        let header = json!({"alg": "ES256", "kid": kid});
        format!("Bearer {}", issuer.token(&header, &claims(&json!({}))))
    };
    let [old, new] = [token(&corp, "ec"), token(&partner, "ec2")];
    assert_eq!(asked(&known, None, &[&old]), Ok("chat".into()));
    assert_eq!(asked(&known, None, &[&new]), Err("jwt_unknown_key"));
    known.key_stores()[0].replace(partner.keys("ec2", "rsa2"));
    assert_eq!(asked(&known, None, &[&old]), Err("jwt_unknown_key"));
    assert_eq!(asked(&known, None, &[&new]), Ok("chat".into()));
    // Another callers file with the same source of keys does not have to wait for them.
    let file = CallersFile::parse(&ISSUERS.replace("\"chat\"", "\"talk\"")).unwrap();
    let stores = file.key_stores(&known.key_stores());
    known.replace(file, &stores);
    assert_eq!(asked(&known, None, &[&new]), Err("jwt_of_nobody"));
}

#[test]
fn what_was_recognized_holds_no_longer_than_its_proof() {
    let (known, corp, _) = with_issuers();
    let bearer = |changes: &Value| {
        let header = json!({"alg": "ES256", "kid": "ec"});
        format!("Bearer {}", corp.token(&header, &claims(changes)))
    };
    let recognize = |bearer: &str| known.recognize(None, [bearer.as_bytes()]).unwrap();
    let lasting = recognize(&bearer(&json!({})));
    let ending =
        recognize(&bearer(&json!({"exp": seconds_from_now(2 - i64::from(LEEWAY_SECONDS))})));
    assert!(lasting.holds(&known) && ending.holds(&known));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ending.holds(&known) {
        assert!(std::time::Instant::now() < until, "a token holds beyond its end");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(lasting.holds(&known));
    // The same keys again, but who knows.
    known.key_stores()[0].replace(corp.keys("ec", "rsa"));
    assert!(!lasting.holds(&known));
    let lasting = recognize(&bearer(&json!({})));
    assert!(lasting.holds(&known));
    let file = CallersFile::parse(ISSUERS).unwrap();
    let stores = file.key_stores(&known.key_stores());
    known.replace(file, &stores);
    assert!(!lasting.holds(&known));
}

#[test]
fn a_reload_changes_limits_and_fills_no_bucket() {
    let file = |more: &str, limit| {
        let text = format!(
            "[[caller]]\nname = \"chat\"\ncapabilities = [\"check\"]\ntoken_sha256 = [\"{}\"]\n{more}",
            hash("t")
        );
        CallersFile::parse(&text).unwrap().limited(limit)
    };
    let own = "questions_per_second = 1\nburst = 3\n";
    let known = Authenticator::new(file(own, None));
    let chat = || known.authenticate(None, [b"Bearer t".as_slice()]).unwrap();
    assert!(chat().spend(|| 100).is_ok());
    let exceeded = chat().spend(|| 2).unwrap_err();
    assert_eq!((exceeded.caller.as_str(), exceeded.questions), ("chat", 2));
    assert_eq!(exceeded.limit, RateLimit::new(1, Some(3)));
    // The same limit, whatever else changed, and whatever others have.
    known.replace(file(&format!("{own}tenants = [\"a\"]\n"), Some(RateLimit::new(9, None))), &[]);
    assert!(chat().tenants.is_some());
    assert!(!chat().may_ask());
    // None of its own: that of all, and no new burst.
    known.replace(file("", Some(RateLimit::new(2, Some(500)))), &[]);
    let exceeded = chat().spend(|| 450).unwrap_err();
    assert_eq!(exceeded.limit, RateLimit::new(2, Some(500)));
    assert_eq!(known.limited()[0].allowance.as_ref().unwrap().refused(), 452);
    known.replace(file("", None), &[]);
    assert!(chat().may_ask() && chat().spend(|| panic!("counted in vain")).is_ok());
    assert!(known.limited().is_empty());
    let everybody = Authenticator::development(Some(RateLimit::new(1, None)));
    let dev = everybody.authenticate(None, []).unwrap();
    assert!(dev.may_ask() && !dev.may_ask());
}

#[tokio::test]
async fn an_unknown_key_asks_the_issuer_again_but_not_all_the_time() {
    let url = ISSUERS.replace("jwks_file = \"corp.json\"", "jwks_url = \"http://127.0.0.1:1/\"");
    let known = Arc::new(callers(&url));
    let corp = Issuer::new();
    let header = json!({"alg": "ES256", "kid": "ec"});
    let bearer = format!("Bearer {}", corp.token(&header, &claims(&json!({}))));
    let ask = || known.authenticate(None, [bearer.as_bytes()]);
    let store = Arc::clone(&known.key_stores()[0]);
    let keys = corp.keys("ec", "rsa");
    let answering = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            store.wanted().await;
            store.replace(keys);
            store.asked();
        }
    });
    assert!(ask().unwrap_err().could_change().await);
    assert_eq!(ask().unwrap().name, "chat");
    answering.await.unwrap();
    // It was asked just now.
    store.replace(Issuer::new().keys("other", "rsa"));
    assert!(!ask().unwrap_err().could_change().await);
}

#[test]
fn every_mistake_of_a_callers_file_is_found_and_no_secret_is_repeated() {
    let text = r#"
[[jwt]]
name = "corp"
issuer = "https://idp"
audience = ""
algorithms = ["RS256", "HS256", "none"]
jwks_url = "http://idp.example/keys"
leeway_seconds = 301

[[jwt]]
name = "corp"
issuer = "https://idp"
audience = "x"
algorithms = []
jwks_file = "a.json"
jwks_url = "https://user:secret@idp.example/keys"

[[caller]]
name = "chat"
mtls = ["spiffe://a/chat", "chat.internal", "dns:*.internal"]
token_sha256 = ["rolegate_hunter2"]
capabilities = ["check", "raed"]
tenants = ["a", "a", ""]
burst = 100
colour = "red"

[[caller]]
name = "chat"
mtls = ["spiffe://a/chat"]
jwt = [{ provider = "crop", subject = "x" }, { provider = "corp" }, { provider = "corp", claims = { iss = "x" } }]
capabilities = []
questions_per_second = 0

[[caller]]
name = "rolegate"
capabilities = ["check"]
"#;
    let problems = CallersFile::parse(text).unwrap_err().to_string();
    let expected = [
        "line 5: audience of jwt \"corp\" is empty or has control characters",
        "line 6: algorithms of jwt \"corp\" may be RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
         ES384, EdDSA, not \"HS256\" (whoever checks such a token could also make one)",
        "line 6: algorithms of jwt \"corp\" may be RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
         ES384, EdDSA, not \"none\" (such a token is signed by nobody)",
        "line 7: jwks_url of jwt \"corp\" must be https, except on loopback: whoever is on the way \
         could sign tokens",
        "line 8: leeway_seconds of jwt \"corp\" must be between 0 and 300, not 301",
        "line 10: algorithms of jwt \"corp\" names none",
        "line 11: the name \"corp\" stands in line 3 already",
        "line 12: the issuer \"https://idp\" stands in line 4 already",
        "line 16: jwt \"corp\" has both jwks_file and jwks_url",
        "line 20: mtls of caller \"chat\": \"chat.internal\" is neither a URI such as \
         \"spiffe://example.org/chat\" nor \"dns:\" and a name",
        "line 20: mtls of caller \"chat\": \"dns:*.internal\" has a wildcard, which would let in \
         whoever gets such a certificate",
        "line 21: token_sha256 of caller \"chat\" must be the SHA-256 of the token in 64 hexadecimal \
         digits, never the token itself; `rolegate token new` gives both",
        "line 22: capabilities of caller \"chat\" may be check, read, admin, watch, act, not \
         \"raed\"; did you mean \"read\"?",
        "line 23: tenants of caller \"chat\" lists \"a\" twice",
        "line 23: an id in tenants of caller \"chat\" must not be empty",
        "line 24: burst of caller \"chat\" only goes with questions_per_second",
        "line 25: unknown key \"colour\" in caller \"chat\"",
        "line 27: capabilities of caller \"chat\" names none",
        "line 28: the name \"chat\" stands in line 19 already",
        "line 29: \"spiffe://a/chat\" stands in line 20 already",
        "line 30: there is no [[jwt]] of the name \"crop\"; did you mean \"corp\"?",
        "line 30: a jwt of provider \"corp\" needs a subject or claims: else every token of it would \
         do",
        "line 30: \"iss\" is checked by itself; it is no claim to choose by",
        "line 32: questions_per_second of caller \"chat\" must be between 1 and 100000000, not 0",
        "line 34: caller \"rolegate\" cannot prove who it is: give it mtls, token_sha256 or jwt",
        "line 35: the name \"rolegate\" stands for the program itself in the audit",
    ];
    assert_eq!(problems, expected.join("\n"));
    for secret in ["hunter2", "secret@"] {
        assert!(!problems.contains(secret));
    }
    for (text, problem) in [
        ("", "line 1: there is no [[caller]], so nobody could call"),
        ("caller = 1", "line 1: caller of the callers file must be a list, not an integer"),
        ("[[caller]\n", "line 1: not valid TOML"),
    ] {
        let problems = CallersFile::parse(text).unwrap_err().to_string();
        assert!(problems.starts_with(problem), "{problems}");
    }
}

#[test]
fn nothing_that_proves_anything_is_shown_in_debug_output() {
    let (known, _, _) = with_issuers();
    let shown = format!("{known:?}");
    assert!(!shown.contains(&MODULUS[..20]) && !shown.contains("idp.example"), "{shown}");
}
