//! What has to be done from time to time: purging deleted tenants, forgetting answers and changes
//! that nobody needs any more.

use std::time::Duration;

use crate::domain::Timestamp;
use crate::service::tenants::Tenants;
use crate::service::{ServiceError, WriteContext};
use crate::store::SqlStore;

const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long `changes` are kept for followers.
const CHANGES_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Runs until it is dropped.
pub(super) async fn run(store: SqlStore, tenants: Tenants) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = once(&store, &tenants).await {
            tracing::warn!(%error, "housekeeping failed; it is tried again");
        }
    }
}

async fn once(store: &SqlStore, tenants: &Tenants) -> Result<(), ServiceError> {
    let now = Timestamp::now();
    for tenant in store.purgeable(now).await? {
        let context = WriteContext {
            caller: "rolegate".to_owned(),
            method: "housekeeping/purge",
            request: None,
            validate_only: false,
        };
        match tenants.purge(context, &tenant).await {
            Ok(_) => tracing::info!(%tenant, "purged"),
            // Somebody brought it back in the meantime.
            Err(ServiceError::Refused(refusal)) => tracing::debug!(%tenant, ?refusal, "not purged"),
            Err(error) => return Err(error),
        }
    }
    let answers = store.forget_expired_requests(now).await?;
    let changes = store.trim_changes(now.minus(CHANGES_KEPT)).await?;
    tracing::debug!(answers, changes, "housekeeping");
    Ok(())
}
