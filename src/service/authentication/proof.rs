//! What a call proved itself with, for calls that last: what holds when they begin may be taken away
//! while they go on.

use std::sync::Arc;

use super::{Authenticator, Peer};
use crate::service::caller::Caller;

/// The proof of one call. It holds a credential, so it shows nothing of itself.
#[derive(Clone)]
pub struct Proof {
    authenticator: Arc<Authenticator>,
    peer: Option<Arc<Peer>>,
    authorization: Option<Arc<[u8]>>,
    /// Whom it was of when the call began.
    caller: Arc<Caller>,
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
        caller: Arc<Caller>,
    ) -> Self {
        Proof { authenticator, peer, authorization: authorization.map(Arc::from), caller }
    }

    /// The caller with the rights that it has by now; `None`: the proof does not hold any more, or is
    /// somebody else's.
    #[must_use]
    pub fn caller(&self) -> Option<Arc<Caller>> {
        let found = self
            .authenticator
            .authenticate(self.peer.as_deref(), self.authorization.as_deref())
            .ok()?;
        (found.name == self.caller.name).then_some(found)
    }
}
