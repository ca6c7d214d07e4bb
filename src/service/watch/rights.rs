//! What the caller of a stream may see of it. Asked again while the stream lasts, for a token may be
//! taken out of the callers file, expire, or lose tenants meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{EndCause, RightsLost};
use crate::domain::ids::TenantId;
use crate::service::caller::Caller;

/// How long an answer counts.
const INTERVAL: Duration = Duration::from_secs(2);

/// The rights of one stream.
pub(super) struct Rights<A> {
    /// What the client wants to hear of; none: of every tenant.
    wanted: BTreeSet<TenantId>,
    ask: A,
    /// As it was when it was asked last; `None`: not yet.
    caller: Option<Arc<Caller>>,
    /// When to ask again.
    pub(super) due: Instant,
}

impl<A: Fn() -> Result<Arc<Caller>, RightsLost> + Send + Sync> Rights<A> {
    pub(super) fn new(wanted: BTreeSet<TenantId>, ask: A) -> Self {
        Rights { wanted, ask, caller: None, due: Instant::now() }
    }

    /// Asks again, if it is time to.
    pub(super) fn refresh(&mut self) -> Result<(), EndCause> {
        if Instant::now() >= self.due {
            self.caller = Some((self.ask)().map_err(EndCause::Revoked)?);
            self.due = Instant::now() + INTERVAL;
        }
        Ok(())
    }

    /// Whether the stream tells of this tenant.
    pub(super) fn include(&self, tenant: &TenantId) -> bool {
        (self.wanted.is_empty() || self.wanted.contains(tenant))
            && self.caller.as_ref().is_some_and(|caller| caller.sees(tenant))
    }
}
