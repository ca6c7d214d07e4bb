//! Filling the cache before a server says that it is ready, so that what it is sent first need not
//! wait for the database.
//!
//! It asks the cache for views, as decisions do: what it leaves there is followed and forgotten like
//! everything else.

use std::time::{Duration, Instant};

use crate::domain::ids::MemberId;
use crate::store::{Cached, DecisionSource as _, Freshness, SqlStore, StoreError};

/// The most members that are asked for at a time.
const PAGE: u64 = 1_000;
/// What a member may take in the cache, about; where the cache is small, pages are, too.
const MEMBER_BYTES: u64 = 1 << 10;

/// How much to warm up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// How many tenants, those with the most active members first. 0: nothing.
    pub tenants: u32,
    /// How long it may take.
    pub timeout: Duration,
}

/// What was put into the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Tenants of which something is there.
    pub tenants: u64,
    /// Their members.
    pub members: u64,
}

impl WarmUp {
    /// Fills half of the cache, which has so many bytes, says how far that went, and is done in any case: without
    /// it, the server only is slower at first.
    pub async fn run(self, store: &SqlStore, cache: &Cached, cache_bytes: u64) -> Warmed {
        let (start, mut warmed) = (Instant::now(), Warmed::default());
        let filling = self.fill(store, cache, cache_bytes, &mut warmed);
        let ended = tokio::time::timeout(self.timeout, filling).await;
        let Warmed { tenants, members } = warmed;
        let took_ms = start.elapsed().as_millis();
        match ended {
            Ok(Ok(())) => tracing::info!(tenants, members, took_ms, "warmed up"),
            Ok(Err(error)) => {
                tracing::warn!(tenants, members, took_ms, %error, "warmed up in part: it failed");
            }
            Err(_) => tracing::warn!(
                tenants,
                members,
                took_ms,
                "warmed up in part: it took longer than --warm-up-timeout"
            ),
        }
        warmed
    }

    async fn fill(
        self,
        store: &SqlStore,
        cache: &Cached,
        cache_bytes: u64,
        warmed: &mut Warmed,
    ) -> Result<(), StoreError> {
        let page = (cache_bytes / 16 / MEMBER_BYTES).clamp(1, PAGE);
        let busiest = store.read().await?.busiest_tenants(self.tenants.into()).await?;
        for tenant in &busiest {
            let mut last: Option<MemberId> = None;
            // The other half is for whatever is asked for.
            while !cache.is_half_full() {
                let members = store.read().await?;
                let members = members.active_members(tenant, last.as_ref(), page).await?;
                let Some(newest) = members.last() else { break };
                let view = cache.view(tenant, &members, Freshness::MinimizeLatency).await?;
                // It may have been deleted in between.
                let Some(view) = view else { break };
                warmed.tenants += u64::from(last.is_none());
                warmed.members += view.members.len() as u64;
                last = Some(newest.clone());
            }
        }
        Ok(())
    }
}
