//! The signatures of JSON web tokens, checked by ring, which TLS uses too. Only such as whoever
//! checks them cannot make; nothing is ever signed.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as ring_signature, RsaParameters, VerificationAlgorithm};
use signature::{Error, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has the library check signatures with this module. The first call counts.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Only this module installs one, so there is none yet.
        PROVIDER.install_default().ok();
    });
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let rsa = |parameters| match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => Ok(Check::Rsa(
            parameters,
            ring_signature::RsaPublicKeyComponents { n: n.clone(), e: e.clone() },
        )),
        DecodingKeyKind::SecretOrDer(_) => Err(ErrorKind::InvalidKeyFormat),
    };
    let raw = |algorithm: &'static dyn VerificationAlgorithm| match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => {
            Ok(Check::Raw(ring_signature::UnparsedPublicKey::new(algorithm, bytes.clone())))
        }
        DecodingKeyKind::RsaModulusExponent { .. } => Err(ErrorKind::InvalidKeyFormat),
    };
    // A secret could be taken for a public key, and the other way round: the family must fit.
    if !key.family().algorithms().contains(algorithm) {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let check = match algorithm {
        Algorithm::RS256 => rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => raw(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => raw(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => raw(&ring_signature::ED25519),
        _ => Err(ErrorKind::UnsupportedAlgorithm),
    };
    Ok(Box::new(Checker { algorithm: *algorithm, check: check? }))
}

enum Check {
    Rsa(&'static RsaParameters, ring_signature::RsaPublicKeyComponents<Vec<u8>>),
    Raw(ring_signature::UnparsedPublicKey<Vec<u8>>),
}

struct Checker {
    algorithm: Algorithm,
    check: Check,
}

impl Verifier<Vec<u8>> for Checker {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        match &self.check {
            Check::Rsa(parameters, key) => key.verify(parameters, message, signature),
            Check::Raw(key) => key.verify(message, signature),
        }
        .map_err(|_| Error::new())
    }
}

impl JwtVerifier for Checker {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
