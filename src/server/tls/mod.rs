//! TLS: what handshakes take, which can change while connections go on, and the connections whose
//! callers proved themselves by a certificate, which end when it does not hold any more.

mod client;
mod files;
mod handshake;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

pub use client::client_config;
pub use files::TlsFiles;
pub(super) use handshake::Handshaken;

use self::files::Material;
use crate::service::authentication::{Peer, San};

type Chain = Arc<[CertificateDer<'static>]>;

/// How handshakes ended, since the start.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
}

/// A connection with a client certificate. Dropping it ends the connection.
struct Live {
    chain: Chain,
    open: oneshot::Sender<()>,
}

/// The TLS side of the listeners.
pub(super) struct Tls {
    material: RwLock<Arc<Material>>,
    live: Mutex<Vec<Live>>,
    pub(super) handshakes: Handshakes,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// From the contents of [`TlsFiles::paths`].
    pub(super) fn new(contents: &[Vec<u8>]) -> Result<Self, String> {
        let material = RwLock::new(Arc::new(Material::of(contents)?));
        Ok(Tls { material, live: Mutex::default(), handshakes: Handshakes::default() })
    }

    /// Takes other contents from now on. What they do not vouch for any more ends.
    pub(super) fn replace(&self, contents: &[Vec<u8>]) -> Result<(), String> {
        let material = Arc::new(Material::of(contents)?);
        *self.material.write().unwrap_or_else(PoisonError::into_inner) = material;
        self.look_again();
        Ok(())
    }

    /// For one connection to the admin port.
    pub(super) fn admin_acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.material().admin))
    }

    /// Ends the connections whose certificate does not hold now: its authority was taken away, or
    /// its time is over.
    pub(super) fn look_again(&self) {
        // Whoever comes meanwhile looks by itself at what counts then.
        let live = std::mem::take(&mut *self.live());
        let material = self.material();
        let (kept, ended): (Vec<_>, Vec<_>) = live
            .into_iter()
            .filter(|live| !live.open.is_closed())
            .partition(|live| holds(&material, &live.chain));
        if !ended.is_empty() {
            let connections = ended.len();
            tracing::warn!(connections, "ended: their client certificates do not hold any more");
        }
        self.live().extend(kept);
    }

    /// Notes a connection that was made with this material. It ends when what is given is dropped
    /// or says so; `None`: it must end at once.
    fn admit(&self, used: &Arc<Material>, chain: &Chain) -> Option<oneshot::Receiver<()>> {
        let (open, end) = oneshot::channel();
        self.live().push(Live { chain: Arc::clone(chain), open });
        // In this order: another material from here on finds the connection in the list.
        let now = self.material();
        (Arc::ptr_eq(used, &now) || holds(&now, chain)).then_some(end)
    }

    fn material(&self) -> Arc<Material> {
        Arc::clone(&self.material.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Vec<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds(material: &Material, chain: &Chain) -> bool {
    match (&material.verifier, chain.split_first()) {
        (Some(verifier), Some((own, rest))) => {
            verifier.verify_client_cert(own, rest, UnixTime::now()).is_ok()
        }
        _ => false,
    }
}

/// Whom a verified certificate names.
fn peer(certificate: &CertificateDer<'_>) -> Peer {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Peer::default();
    };
    let uris = certificate.valid_uri_names().map(|uri| San::Uri(uri.to_owned()));
    let names = certificate.valid_dns_names().map(San::dns);
    Peer { sans: uris.chain(names).collect() }
}
