//! What was changed, by whom, newest first.

use super::error::ServiceError;
use super::page::{Page, PageRequest, Pager};
use super::roles::Roles;
use crate::domain::ids::TenantId;
use crate::store::{AuditEvent, AuditFilter};

impl Roles {
    /// One page of a tenant's audit events.
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
        let before = cursor.and_then(|cursor| cursor.parse().ok());
        let tx = self.store.read().await?;
        super::tenants::in_use(&self.store, &tx, tenant).await?;
        let mut items = tx.audit_events(tenant, filter, before, size as u64 + 1).await?;
        let more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| more);
        let next_token = last.map(|event| pager.token(&event.seq.to_string())).unwrap_or_default();
        Ok(Page { items, next_token })
    }
}
