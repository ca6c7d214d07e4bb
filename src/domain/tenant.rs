//! Tenants: one customer of the platform each.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::catalog::CatalogRef;
use super::ids::TenantId;

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// In use.
    Active,
    /// Deleted: everybody is denied; its data is kept until it is purged.
    Deleted,
    /// Its data is gone. Only the id and the revision remain, so that a tenant made anew under
    /// that id does not repeat revisions that old tokens name.
    Purged,
}

/// A tenant as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Given by the caller.
    pub id: TenantId,
    /// The catalog, at the version it is decided by.
    pub catalog: CatalogRef,
    /// The plan; none where the catalog has no plans.
    pub plan: Option<String>,
    /// Where it is in its life.
    pub state: TenantState,
    /// Grows by one with every committed change in it.
    pub revision: u64,
    /// The revision that last changed the tenant itself; also its etag.
    pub own_revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the tenant itself was last changed.
    pub updated_at: Timestamp,
    /// When its data may be purged, once deleted.
    pub purge_at: Option<Timestamp>,
}
