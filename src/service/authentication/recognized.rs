//! What a proof was found to prove, and how long that need not be looked at again: hashing a token or
//! verifying a signature costs more than the decision that is asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Authenticator;
use super::keys::KeyStore;
use crate::domain::Timestamp;
use crate::service::caller::Caller;

/// After this long a token is looked at again whatever it says, in case something was overlooked.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Whose proof it was. Good for the very same proof, as long as [`Recognized::holds`].
#[derive(Debug, Clone)]
pub struct Recognized {
    /// The caller.
    pub caller: Arc<Caller>,
    pub(super) generation: u64,
    /// Of a token that ends by itself.
    pub(super) token: Option<Lasting>,
}

/// What a signed token hangs on.
#[derive(Debug, Clone)]
pub(super) struct Lasting {
    until: Timestamp,
    keys: Arc<KeyStore>,
    /// Of the keys, from before they were looked at.
    version: u64,
}

impl Lasting {
    /// Of a token that ends then, signed by a key out of these.
    pub(super) fn new(end: Timestamp, keys: &Arc<KeyStore>, version: u64) -> Self {
        let until = end.min(Timestamp::now().plus(LONGEST));
        Lasting { until, keys: Arc::clone(keys), version }
    }
}

impl Recognized {
    /// Whether looking again would find the same: the callers were not reloaded, and a token has not
    /// ended nor may its issuer have taken back its key.
    #[must_use]
    pub fn holds(&self, authenticator: &Authenticator) -> bool {
        self.generation == authenticator.generation.load(Ordering::Acquire)
            && self.token.as_ref().is_none_or(|Lasting { until, keys, version }| {
                keys.version() == *version && Timestamp::now() < *until
            })
    }
}
