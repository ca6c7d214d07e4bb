//! What has to be done from time to time: purging deleted tenants, forgetting answers and changes
//! that nobody needs any more, and audit events that were kept long enough.

use std::time::Duration;

use crate::domain::Timestamp;
use crate::service::tenants::Tenants;
use crate::service::{ServiceError, WriteContext};
use crate::store::SqlStore;

const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long `changes` are kept for followers.
const CHANGES_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Runs until it is dropped.
pub(super) async fn run(store: SqlStore, tenants: Tenants, audit_retention: Option<Duration>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = once(&store, &tenants, audit_retention).await {
            tracing::warn!(%error, "housekeeping failed; it is tried again");
        }
        // Also when the rest fails: it may be for want of the room that this gives back.
        if let Err(error) = store.checkpoint().await {
            tracing::warn!(%error, "the write-ahead log could not be tidied; it is tried again");
        }
    }
}

async fn once(
    store: &SqlStore,
    tenants: &Tenants,
    audit_retention: Option<Duration>,
) -> Result<(), ServiceError> {
    let now = Timestamp::now();
    for tenant in store.purgeable(now).await? {
        let context = WriteContext {
            caller: "rolegate".to_owned(),
            actor: None,
            method: "housekeeping/purge",
            request: None,
            validate_only: false,
        };
        match tenants.purge_if_due(context, &tenant).await {
            Ok(true) => tracing::info!(%tenant, "purged"),
            // The log says why.
            Ok(false) => {}
            // Somebody brought it back in the meantime.
            Err(ServiceError::Refused(refusal)) => tracing::debug!(%tenant, ?refusal, "not purged"),
            Err(error) => return Err(error),
        }
    }
    let answers = store.forget_expired_requests(now).await?;
    let changes = store.trim_changes(now.minus(CHANGES_KEPT)).await?;
    let audit = match audit_retention {
        Some(kept) => store.trim_audit(now.minus(kept)).await?,
        None => 0,
    };
    tracing::debug!(answers, changes, audit, "housekeeping");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::CatalogRef;
    use crate::domain::ids::TenantId;
    use crate::domain::tenant::{Tenant, TenantState};
    use crate::service::seal::Seal;
    use crate::service::token::Tokens;
    use crate::store::{AuditEntry, AuditFilter, OpenOptions, Touched};

    #[tokio::test]
    async fn audit_events_are_kept_as_long_as_was_asked_for() {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        let (tokens, seal) = (Tokens::new(store.identity()), Seal::new([1; 32]));
        let tenants = Tenants::new(store.clone(), tokens, seal);
        let tenant = TenantId::trusted("acme");
        let row = Tenant {
            id: tenant.clone(),
            catalog: CatalogRef { id: "c".into(), version: 1 },
            plan: None,
            state: TenantState::Active,
            revision: 1,
            own_revision: 1,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            purge_at: None,
        };
        for days in [400, 20, 0] {
            let entry = AuditEntry {
                at: Timestamp::now().minus(DAY * days),
                caller: "c".into(),
                actor: None,
                method: "m".into(),
                request_id: None,
                roles: vec![],
                members: vec![],
                before: None,
                after: None,
            };
            let tx = store.write(&tenant).await.unwrap();
            tx.put_tenant(&row).await.unwrap();
            tx.commit(Touched::Nothing, entry).await.unwrap();
        }
        let kept = async || {
            let tx = store.read().await.unwrap();
            tx.audit_events(&tenant, &AuditFilter::default(), None, 9).await.unwrap().len()
        };
        for (retention, left) in [(None, 3), (Some(DAY * 365), 2), (Some(DAY), 1)] {
            once(&store, &tenants, retention).await.unwrap();
            assert_eq!(kept().await, left, "{retention:?}");
        }
        // Marked as deleted by somebody who did not delete it.
        let tx = store.write(&tenant).await.unwrap();
        let purge_at = Some(Timestamp(1));
        tx.put_tenant(&Tenant { state: TenantState::Deleted, purge_at, ..row }).await.unwrap();
        tx.commit_unchanged().await.unwrap();
        once(&store, &tenants, None).await.unwrap();
        assert_eq!(kept().await, 1, "not purged");
    }
}
