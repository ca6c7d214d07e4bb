//! What was changed, by whom, newest first.

use super::error::ServiceError;
use super::page::{Page, PageRequest, Pager};
use super::roles::Roles;
use crate::domain::ids::TenantId;
use crate::store::{AuditEvent, AuditFilter};

/// About the most bytes on one page, however many events that are; one event is always on it.
const PAGE_BYTES: usize = 1 << 20;

/// How many events are read at a time.
const AT_ONCE: usize = 32;

impl Roles {
    /// One page of a tenant's audit events: fewer than asked for where they are large.
    ///
    /// # Errors
    /// No such tenant, a bad page, or the store fails.
    pub async fn audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEvent>, ServiceError> {
        let about = format!("{filter:?}");
        let pager = Pager::new(&self.seal, "ListAuditEvents", &[tenant.as_str(), &about]);
        let (size, cursor) = pager.read(page)?;
        let mut before = cursor.and_then(|cursor| cursor.parse().ok());
        let tx = self.store.read().await?;
        super::tenants::in_use(&self.store, &tx, tenant).await?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        let more = 'full: loop {
            let rest = (size + 1).saturating_sub(items.len());
            let found = tx.audit_events(tenant, filter, before, rest.min(AT_ONCE) as u64).await?;
            let complete = found.len() < rest.min(AT_ONCE);
            for event in found {
                bytes += event.size;
                if items.len() == size || (bytes > PAGE_BYTES && !items.is_empty()) {
                    break 'full true;
                }
                before = Some(event.number);
                items.push(event);
            }
            if complete {
                break false;
            }
        };
        let last = items.last().filter(|_| more);
        let next_token =
            last.map(|event| pager.token(&event.number.to_string())).unwrap_or_default();
        Ok(Page { items, next_token })
    }
}
