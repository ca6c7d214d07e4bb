//! What a call proved itself with, for calls that last: what holds when they begin may be taken away
//! while they go on.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Authenticator, Peer, Recognized};
use crate::service::caller::Caller;

/// The proof of one call. It holds a credential, so it shows nothing of itself.
#[derive(Clone)]
pub struct Proof {
    authenticator: Arc<Authenticator>,
    peer: Option<Arc<Peer>>,
    authorization: Option<Arc<[u8]>>,
    /// Whom it was found to be of the last time.
    recognized: Arc<Mutex<Recognized>>,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

impl Proof {
    /// Of a call that was found to be of this caller.
    #[must_use]
    pub fn new(
        authenticator: Arc<Authenticator>,
        peer: Option<Arc<Peer>>,
        authorization: Option<&[u8]>,
        recognized: Recognized,
    ) -> Self {
        let authorization = authorization.map(Arc::from);
        let recognized = Arc::new(Mutex::new(recognized));
        Proof { authenticator, peer, authorization, recognized }
    }

    /// Whether [`Proof::caller`] would give whom it gave the last time. It costs next to nothing.
    #[must_use]
    pub fn holds(&self) -> bool {
        let last = self.recognized.lock().unwrap_or_else(PoisonError::into_inner);
        last.holds(&self.authenticator)
    }

    /// The caller with the rights that it has by now; `None`: the proof does not hold any more, or is
    /// somebody else's.
    #[must_use]
    pub fn caller(&self) -> Option<Arc<Caller>> {
        let mut last = self.recognized.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.holds(&self.authenticator) {
            let found = self
                .authenticator
                .recognize(self.peer.as_deref(), self.authorization.as_deref())
                .ok()?;
            if found.caller.name != last.caller.name {
                return None;
            }
            *last = found;
        }
        Some(Arc::clone(&last.caller))
    }
}
