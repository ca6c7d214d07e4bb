//! What decisions need, straight from the database.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{DecisionSource, Freshness, ReadTx, SqlStore, State, StoreError, TenantView};
use crate::domain::catalog::Catalog;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::{Member, Subject};
use crate::domain::role::CompiledRole;
use crate::domain::tenant::{Tenant, TenantState};
use crate::domain::throttle::Throttle;

/// Something as it was at a revision of its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// What was read.
    pub value: T,
    /// The tenant's revision in the same transaction; 0 when there is no such tenant.
    pub revision: u64,
    /// The id of the epoch that it is of.
    pub epoch: u64,
}

impl DecisionSource for SqlStore {
    /// Always fresh enough: an acknowledged write is in the database.
    async fn view(
        &self,
        tenant: &TenantId,
        members: &[MemberId],
        _: Freshness,
    ) -> Result<Option<TenantView>, StoreError> {
        let tx = self.read().await?;
        let Some(row) = tx.tenant(tenant).await?.filter(in_use) else { return Ok(None) };
        let catalog = self.catalog_within(&tx, &row.catalog).await?;
        let members = tx.members_by_ids(tenant, members).await?;
        let roles: BTreeSet<_> = members.iter().flat_map(|member| &member.roles).cloned().collect();
        let compiled = compiled_roles(&tx, tenant, &catalog, roles).await?;
        let members = members
            .into_iter()
            .map(|member| (member.id.clone(), Arc::new(subject(tenant, member, &compiled))))
            .collect();
        let state = Arc::new(State::at(tx.epoch(), row.revision));
        Ok(Some(TenantView { catalog, state, members, stale_since: None }))
    }
}

impl SqlStore {
    /// The catalog that a tenant is decided by; none when it is not in use.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn load_tenant(
        &self,
        tenant: &TenantId,
    ) -> Result<Seen<Option<Arc<Catalog>>>, StoreError> {
        let tx = self.read().await?;
        let row = tx.tenant(tenant).await?;
        let revision = row.as_ref().map_or(0, |tenant| tenant.revision);
        let value = match row.filter(in_use) {
            Some(tenant) => Some(self.catalog_within(&tx, &tenant.catalog).await?),
            None => None,
        };
        Ok(Seen { value, revision, epoch: tx.epoch() })
    }

    /// Those of these members that exist.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn load_members(
        &self,
        tenant: &TenantId,
        members: &[MemberId],
    ) -> Result<Seen<Vec<Member>>, StoreError> {
        let tx = self.read().await?;
        let revision = tx.tenant(tenant).await?.map_or(0, |tenant| tenant.revision);
        let value = tx.members_by_ids(tenant, members).await?;
        Ok(Seen { value, revision, epoch: tx.epoch() })
    }

    /// Those of these roles that exist, default or custom, compiled for this catalog.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn load_roles(
        &self,
        tenant: &TenantId,
        catalog: &Catalog,
        roles: &BTreeSet<RoleId>,
    ) -> Result<Seen<HashMap<RoleId, Arc<CompiledRole>>>, StoreError> {
        let tx = self.read().await?;
        let revision = tx.tenant(tenant).await?.map_or(0, |tenant| tenant.revision);
        let value = compiled_roles(&tx, tenant, catalog, roles.clone()).await?;
        Ok(Seen { value, revision, epoch: tx.epoch() })
    }
}

fn in_use(tenant: &Tenant) -> bool {
    tenant.state == TenantState::Active
}

/// Those of these roles that exist, default or custom, compiled for this catalog.
///
/// # Errors
/// [`StoreError`]
pub async fn compiled_roles(
    tx: &ReadTx,
    tenant: &TenantId,
    catalog: &Catalog,
    roles: BTreeSet<RoleId>,
) -> Result<HashMap<RoleId, Arc<CompiledRole>>, StoreError> {
    let mut compiled = HashMap::with_capacity(roles.len());
    let mut custom = Vec::new();
    for id in roles {
        match catalog.default_role(id.as_str()) {
            Some(role) => {
                compiled.insert(id, Arc::clone(&role.compiled));
            }
            None => custom.push(id),
        }
    }
    for role in tx.roles_by_ids(tenant, &custom).await? {
        let ready = Arc::new(role.compile(catalog));
        compiled.insert(role.id, ready);
    }
    Ok(compiled)
}

/// A member with its compiled roles. A role that is nowhere gives nothing.
#[must_use]
pub fn subject(
    tenant: &TenantId,
    member: Member,
    compiled: &HashMap<RoleId, Arc<CompiledRole>>,
) -> Subject {
    let mut roles = Vec::with_capacity(member.roles.len());
    for role in member.roles {
        match compiled.get(&role) {
            Some(found) => roles.push((role, Arc::clone(found))),
            None => {
                static NOWHERE: Throttle = Throttle::each_second();
                if let Some(more) = NOWHERE.admit() {
                    tracing::warn!(%tenant, %role, more, "a member holds a role that is nowhere");
                }
            }
        }
    }
    Subject { id: member.id, status: member.status, teams: member.teams.into(), roles }
}
