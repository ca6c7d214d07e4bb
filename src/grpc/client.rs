//! Who a connection's client proved to be. A proof is looked at once, and not again as long as what
//! it was found to prove holds: hashing a token or verifying a signature costs more than most answers.
//!
//! Only what was recognized is remembered. Each connection remembers for itself, so no two of them
//! ever wait for each other, and nobody gains by what somebody else has proven.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::service::authentication::{Authenticator, Peer, Recognized, Unproven};

/// How many proofs a connection remembers: a proxy may bring the calls of several callers.
const REMEMBERED: usize = 4;

/// The other end of a connection. Its calls have it, in an `Arc`, in their extensions.
#[derive(Default)]
pub struct Client {
    peer: Option<Arc<Peer>>,
    /// The newest first.
    proofs: Mutex<Vec<Remembered>>,
    /// Calls of nobody that is known since the last one of a caller.
    refused: AtomicU32,
}

/// A proof, and whose it was found to be.
struct Remembered {
    authorization: Option<HeaderValue>,
    recognized: Recognized,
}

/// It holds credentials, so it shows nothing of them.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// That the transport found to be this peer.
    #[must_use]
    pub fn new(peer: Option<Arc<Peer>>) -> Self {
        Client { peer, ..Client::default() }
    }

    /// What its certificate says, if it has one.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        self.peer.as_ref()
    }

    /// What follows for the caller of a call with these headers, if its proof is a remembered one that
    /// holds. It must not take long: the client's other calls wait for it.
    pub fn remembered<R>(
        &self,
        authenticator: &Authenticator,
        headers: &HeaderMap,
        then: impl FnOnce(&Recognized) -> R,
    ) -> Option<R> {
        let authorization = single(headers)?;
        let proofs = self.proofs();
        let known = proofs.iter().find(|known| {
            is_same(known.authorization.as_ref(), authorization)
                && known.recognized.holds(authenticator)
        })?;
        self.refused.store(0, Ordering::Relaxed);
        Some(then(&known.recognized))
    }

    /// Who makes a call with these headers. The proof is looked at unless it is a remembered one that
    /// holds.
    ///
    /// # Errors
    /// As for [`Authenticator::recognize`].
    pub fn recognize(
        &self,
        authenticator: &Authenticator,
        headers: &HeaderMap,
    ) -> Result<Recognized, Unproven> {
        if let Some(known) = self.remembered(authenticator, headers, Recognized::clone) {
            return Ok(known);
        }
        // Nothing is locked meanwhile: it may take long.
        let all = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let recognized = authenticator.recognize(self.peer.as_deref(), all)?;
        self.refused.store(0, Ordering::Relaxed);
        if let Some(authorization) = single(headers) {
            let mut proofs = self.proofs();
            proofs.retain(|known| known.recognized.holds(authenticator));
            proofs.truncate(REMEMBERED - 1);
            let authorization = authorization.cloned();
            proofs.insert(0, Remembered { authorization, recognized: recognized.clone() });
        }
        Ok(recognized)
    }

    /// Counts a call that was refused because nobody known made it: how many that were in a row.
    pub fn count_refused(&self) -> u32 {
        self.refused.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// How many calls in a row were refused, as far as calls of callers had to be looked at in between.
    #[must_use]
    pub fn refused_in_a_row(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    #[inline]
    fn proofs(&self) -> MutexGuard<'_, Vec<Remembered>> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call proves itself with besides its connection, if anything; none where there are several,
/// which is no proof.
#[inline]
fn single(headers: &HeaderMap) -> Option<Option<&HeaderValue>> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (authorization, None) = (given.next(), given.next()) else { return None };
    Some(authorization)
}

/// Whether two proofs are the same. Where a client says "the same as before", as HTTP/2 lets it,
/// they are the very same bytes. Others are compared in a time that tells nothing of them.
#[inline]
fn is_same(known: Option<&HeaderValue>, given: Option<&HeaderValue>) -> bool {
    match (known.map(HeaderValue::as_bytes), given.map(HeaderValue::as_bytes)) {
        (None, None) => true,
        (Some(known), Some(given)) => {
            std::ptr::eq(known, given) || bool::from(subtle::ConstantTimeEq::ct_eq(known, given))
        }
        _ => false,
    }
}
