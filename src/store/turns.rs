//! Writers of one tenant wait for each other here, before they take a connection: the server would
//! make them wait all the same, but with a connection each, until there are none left for the other
//! tenants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::StoreError;
use crate::domain::ids::TenantId;

/// How many tenants may be remembered before those that nobody waits for are forgotten.
const TIDY_AT: usize = 1024;

/// Held by whoever has its turn.
pub(super) type Turn = OwnedMutexGuard<()>;

/// Who is writing.
#[derive(Debug, Default)]
pub(super) struct Turns {
    tenants: Mutex<HashMap<TenantId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits for the turn, in the order of asking, but no longer than this.
    pub(super) async fn wait(
        &self,
        tenant: &TenantId,
        limit: Duration,
    ) -> Result<Turn, StoreError> {
        let queue = self.queue(tenant);
        tokio::time::timeout(limit, queue.lock_owned()).await.map_err(|_| {
            StoreError::Unavailable(format!(
                "other writes of the same tenant took more than {} s",
                limit.as_secs_f32()
            ))
        })
    }

    fn queue(&self, tenant: &TenantId) -> Arc<tokio::sync::Mutex<()>> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = tenants.get(tenant).and_then(Weak::upgrade) {
            return queue;
        }
        if tenants.len() >= TIDY_AT {
            tenants.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::default();
        tenants.insert(tenant.clone(), Arc::downgrade(&queue));
        queue
    }
}
