//! A server that warms up says that it is ready afterwards.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::service::readiness::Readiness;
use crate::service::warm_up::WarmUp;
use crate::store::{Cached, SqlStore};

/// Lets the server be ready: at once if there is nothing to warm up. Otherwise it is served meanwhile,
/// for whoever does not ask whether it is ready.
pub(super) fn ready_when_warm(
    warm_up: WarmUp,
    cache_bytes: u64,
    store: &SqlStore,
    cache: &Arc<Cached>,
    readiness: &Readiness,
) -> Option<JoinHandle<()>> {
    if warm_up.tenants == 0 {
        readiness.started();
        return None;
    }
    let (store, cache, readiness) = (store.clone(), Arc::clone(cache), readiness.clone());
    let warm = Warm(readiness);
    Some(tokio::spawn(async move {
        warm_up.run(&store, &cache, cache_bytes).await;
        drop(warm);
    }))
}

/// A server is ready when this goes, also when what was to warm it up has failed in a way that nobody
/// thought of.
struct Warm(Readiness);

impl Drop for Warm {
    fn drop(&mut self) {
        self.0.started();
    }
}
