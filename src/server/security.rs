//! Who may call and who could listen in: what must be right before the first connection is taken,
//! and what changes while the server runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Config;
use super::callers::CallersWatch;
use super::reload::{self, AllReloads, Contents, Watched};
use super::tls::Tls;
use crate::http::{Address, AdminTls};
use crate::service::authentication::Authenticator;

/// How often certificates of open connections are looked at, for their time may be over.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(60);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// Without caller authentication only this machine may reach it.
    #[error(
        "--dev serves without any authentication, so it only listens on loopback, and {0} is not: \
         use localhost, 127.0.0.1, [::1] or unix:PATH, or --callers instead of --dev"
    )]
    NotLoopback(Address),
    /// Nobody could be told from anybody.
    #[error(
        "nobody could call: name the callers in a file (--callers FILE), or start with --dev, which \
         authenticates nobody and serves this machine only"
    )]
    NoCallers,
    /// Development mode would let in whoever the file keeps out.
    #[error(
        "--dev lets everybody in, so a --callers file would mean nothing: leave one of them out"
    )]
    DevWithCallers,
    /// Whoever is on the way could read credentials and answers.
    #[error(
        "without TLS, credentials could be read on the way to {0}: give --tls-cert and --tls-key, or \
         listen on loopback. If something before this server does TLS, say --insecure-plaintext"
    )]
    Plaintext(Address),
    /// Two flags that say the opposite.
    #[error("--insecure-plaintext means no TLS, and --tls-cert means TLS: leave one of them out")]
    PlaintextWithTls,
    /// What it would be made of is missing.
    #[error("--admin-tls needs --tls-cert and --tls-key")]
    AdminTlsWithoutTls,
    /// The callers file, or a key set that it names, cannot be used.
    #[error("{0}")]
    Callers(String),
    /// The certificates cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// What stands between the network and the services.
pub(super) struct Security {
    tls: Option<(Watched, Arc<Tls>)>,
    callers: Option<CallersWatch>,
    authenticator: Arc<Authenticator>,
    reloads: Arc<AllReloads>,
}

impl Security {
    /// For a server that listens there. Everything that is wrong is found here.
    pub(super) async fn start(config: &Config, address: &Address) -> Result<Self, SecurityError> {
        let here = address.is_loopback();
        match (&config.callers, config.dev) {
            (None, false) => return Err(SecurityError::NoCallers),
            (Some(_), true) => return Err(SecurityError::DevWithCallers),
            (None, true) if !here => return Err(SecurityError::NotLoopback(address.clone())),
            _ => {}
        }
        match &config.tls {
            None if config.admin_tls => return Err(SecurityError::AdminTlsWithoutTls),
            None if !here && !config.insecure_plaintext => {
                return Err(SecurityError::Plaintext(address.clone()));
            }
            Some(_) if config.insecure_plaintext => return Err(SecurityError::PlaintextWithTls),
            _ => {}
        }
        let tls = match &config.tls {
            None => None,
            Some(files) => {
                let (watched, contents) = Watched::new(files.paths()).await;
                let tls = tls_of(contents, Tls::new);
                Some((watched, Arc::new(tls.map_err(SecurityError::Tls)?)))
            }
        };
        let reloads = Arc::new(AllReloads::default());
        if tls.is_some() {
            reloads.certificates.looked();
        }
        let callers = match &config.callers {
            None => None,
            Some(path) => {
                let watch =
                    CallersWatch::start(path, config.limits.rate(), Arc::clone(&reloads)).await;
                Some(watch.map_err(SecurityError::Callers)?)
            }
        };
        let authenticator = match &callers {
            Some(callers) => callers.authenticator(),
            None => Arc::new(Authenticator::development(config.limits.rate())),
        };
        if config.dev {
            tracing::warn!("development mode: whoever reaches {address} may do anything");
        }
        if config.insecure_plaintext {
            tracing::warn!(
                "--insecure-plaintext: credentials travel readable to {address}. Something before \
                 this server must do TLS, and nobody else must reach this port"
            );
        }
        let asked_for = config.tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        if !asked_for && callers.as_ref().is_some_and(CallersWatch::takes_certificates) {
            tracing::warn!(
                "the callers file has callers with mtls, who cannot prove themselves: without \
                 --tls-client-ca no client certificate is asked for"
            );
        }
        Ok(Security { tls, callers, authenticator, reloads })
    }

    pub(super) fn authenticator(&self) -> Arc<Authenticator> {
        Arc::clone(&self.authenticator)
    }

    pub(super) fn reloads(&self) -> Arc<AllReloads> {
        Arc::clone(&self.reloads)
    }

    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.as_ref().map(|(_, tls)| Arc::clone(tls))
    }

    /// For the admin port, if it is to have it.
    pub(super) fn admin_tls(&self, config: &Config) -> Option<AdminTls> {
        let tls = self.tls().filter(|_| config.admin_tls)?;
        Some(Arc::new(move || tls.admin_acceptor()))
    }

    /// Looks after the files until it is dropped.
    pub(super) async fn keep_up_to_date(mut self) {
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(reload::INTERVAL).await;
            if let Some((files, tls)) = &mut self.tls {
                if let Some(contents) = files.changed().await {
                    let ended = tls_of(contents, |contents| tls.replace(contents));
                    self.reloads.certificates.ended("the certificates", ended);
                }
                if files.could_be_read() {
                    self.reloads.certificates.looked();
                }
                if looked.elapsed() >= CERTIFICATES_INTERVAL {
                    looked = Instant::now();
                    tls.look_again();
                }
            }
            if let Some(callers) = &mut self.callers {
                callers.look().await;
            }
        }
    }
}

/// Makes something of the files' contents, where they could be read.
fn tls_of<T>(
    contents: Contents,
    make: impl FnOnce(&[Vec<u8>]) -> Result<T, String>,
) -> Result<T, String> {
    make(&contents.map_err(|error| error.to_string())?)
}
