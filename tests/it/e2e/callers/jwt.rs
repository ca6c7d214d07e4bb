//! An issuer of JSON web tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// One key of an issuer, with its id.
pub(super) struct Signer {
    id: &'static str,
    key: EcdsaKeyPair,
    chance: SystemRandom,
}

impl Signer {
    pub(super) fn new(id: &'static str) -> Self {
        let chance = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &chance).unwrap();
        Signer { id, key, chance }
    }

    /// The JWK set that has its public key.
    pub(super) fn keys(&self) -> String {
        let point = self.key.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(&point[1..33]), text(&point[33..65]));
        let key = json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": x, "y": y});
        json!({"keys": [key]}).to_string()
    }

    /// A token of the subject `desk` for so long.
    pub(super) fn token(&self, time: Duration) -> String {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
        let claims =
            json!({"iss": "idp", "aud": "rolegate", "sub": "desk", "exp": until.as_secs()});
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": self.id});
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&self.chance, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A callers file with the caller `desk`, whose tokens are of an issuer with these keys.
pub(super) fn callers(keys: &str, capability: &str) -> String {
    format!(
        "[[jwt]]\nname = \"idp\"\nissuer = \"idp\"\naudience = \"rolegate\"\n\
         algorithms = [\"ES256\"]\nleeway_seconds = 0\n{keys}\n\
         [[caller]]\nname = \"desk\"\njwt = [{{ provider = \"idp\", subject = \"desk\" }}]\n\
         capabilities = [\"{capability}\"]\n"
    )
}
