//! Certificates, keys and client authorities, from PEM files to what a handshake takes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and what leads to its authority.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authorities of the certificates by which callers prove themselves.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// All of them, in the order in which [`Material::of`] takes their contents.
    pub(in crate::server) fn paths(&self) -> Vec<PathBuf> {
        let required = [&self.certificate, &self.key];
        required.into_iter().chain(&self.client_ca).cloned().collect()
    }
}

/// What a handshake takes.
pub(super) struct Material {
    /// For gRPC: client certificates are asked for, if there are authorities for them.
    pub(super) grpc: Arc<ServerConfig>,
    /// For health and metrics: nobody is asked who they are.
    pub(super) admin: Arc<ServerConfig>,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Material {
    /// Makes sense of the files' contents. Messages name what is wrong and quote nothing: there is a
    /// key among the files.
    pub(super) fn of(contents: &[Vec<u8>]) -> Result<Self, String> {
        let [certificate, key, rest @ ..] = contents else {
            return Err("a certificate and a key are needed".to_owned());
        };
        let chain = certificates(certificate, "the certificate file")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| "the key file has no private key in PEM that can be read")?;
        let provider = Arc::new(ring::default_provider());
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())
        };
        let unfit = |error| format!("the certificate and the key do not go together: {error}");
        let mut admin = builder()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        admin.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (verifier, grpc) = match rest.first() {
            None => (None, builder()?.with_no_client_auth()),
            Some(authorities) => {
                let verifier = client_verifier(authorities, &provider)?;
                let grpc = builder()?.with_client_cert_verifier(Arc::clone(&verifier));
                (Some(verifier), grpc)
            }
        };
        let mut grpc = grpc.with_single_cert(chain, key).map_err(unfit)?;
        // HTTP/1 is not served, but told so in words.
        grpc.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if verifier.is_some() {
            // A resumed session would bring back a certificate without looking at it again.
            grpc.session_storage = Arc::new(NoServerSessionStorage {});
            grpc.send_tls13_tickets = 0;
        }
        Ok(Material { grpc: Arc::new(grpc), admin: Arc::new(admin), verifier })
    }
}

/// Certificates are asked for and not required: health takes none, and a caller may prove itself
/// otherwise. One that is given must hold.
fn client_verifier(
    pem: &[u8],
    provider: &Arc<tokio_rustls::rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem, "the client authority file")? {
        roots.add(authority).map_err(|error| {
            format!("the client authority file has a certificate of no use: {error}")
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| format!("the client authorities cannot be used: {error}"))
}

/// All certificates of a PEM file; at least one.
pub(super) fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| format!("{what} is not sound PEM"))?;
    if all.is_empty() { Err(format!("{what} has no certificate")) } else { Ok(all) }
}
