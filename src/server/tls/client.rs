//! The client's side of TLS: for asking an issuer for its keys, and a server for its health.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::files::certificates;

/// A client that trusts the authorities in this PEM, called `what` in messages; without one, those
/// of the system. It shows no certificate.
///
/// # Errors
/// The PEM has no authority that is of use. The text is for the operator.
pub fn client_config(authorities: Option<&[u8]>, what: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for authority in certificates(pem, what)? {
                roots.add(authority).map_err(|error| format!("{what}: {error}"))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
