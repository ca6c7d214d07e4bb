//! Reading at one state: tenants and roles. Members are in [`super::members`], the audit trail in
//! [`super::audit`], answers to repeated requests in [`super::requests`].

use sea_orm::{EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::entity::{change, role, tenant};
use super::rows::{ACTIVE, PURGED, count, from_json, stored};
use super::transaction::Transaction;
use super::{Change, StoreError};
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::name::NameKey;
use crate::domain::role::CustomRole;
use crate::domain::tenant::Tenant;

/// How many values one statement names at most. SQLite takes 32,766 and PostgreSQL 65,535; the
/// widest row has ten columns.
pub(super) const CHUNK: usize = 1000;

/// A read transaction: everything it says is of one state. Dropping it ends it.
#[derive(Debug)]
pub struct ReadTx {
    /// The epoch that it reads in.
    pub(super) epoch: u64,
    pub(super) tx: Transaction,
}

impl ReadTx {
    /// The id of the epoch that what it reads is of.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The tenant, whatever its state.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find_by_id(tenant.as_str()).one(&self.tx).await?;
        row.map(Tenant::try_from).transpose()
    }

    /// Tenants in the order of their ids: those in use, and the deleted ones if wanted. Purged ones
    /// are gone.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: u64,
        include_deleted: bool,
    ) -> Result<Vec<Tenant>, StoreError> {
        let wanted = if include_deleted {
            tenant::COLUMN.state.ne(PURGED)
        } else {
            tenant::COLUMN.state.eq(ACTIVE)
        };
        let rows = tenant::Entity::find()
            .filter(wanted)
            .apply_if(after, |query, id| query.filter(tenant::COLUMN.id.gt(id.as_str())))
            .order_by_asc(tenant::COLUMN.id)
            .limit(limit)
            .all(&self.tx)
            .await?;
        rows.into_iter().map(Tenant::try_from).collect()
    }

    /// Those of these tenants that there are, in the order of their ids, with or without deleted
    /// ones. At most some hundreds at a time.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenants_among(
        &self,
        ids: &[&TenantId],
        include_deleted: bool,
    ) -> Result<Vec<Tenant>, StoreError> {
        // Not by the state, whose index might be taken instead.
        let rows = tenant::Entity::find()
            .filter(tenant::COLUMN.id.is_in(ids.iter().map(|id| id.as_str())))
            .order_by_asc(tenant::COLUMN.id)
            .all(&self.tx)
            .await?;
        let wanted = |row: &tenant::Model| match row.state.as_str() {
            ACTIVE => true,
            PURGED => false,
            _ => include_deleted,
        };
        rows.into_iter().filter(wanted).map(Tenant::try_from).collect()
    }

    /// A custom role.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn role(
        &self,
        tenant: &TenantId,
        role: &RoleId,
    ) -> Result<Option<CustomRole>, StoreError> {
        let row =
            role::Entity::find_by_id((tenant.to_string(), role.to_string())).one(&self.tx).await?;
        row.map(CustomRole::try_from).transpose()
    }

    /// Custom roles in the order of their ids, which is the order they were made in.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn roles(
        &self,
        tenant: &TenantId,
        after: Option<&RoleId>,
        limit: u64,
    ) -> Result<Vec<CustomRole>, StoreError> {
        let rows = role::Entity::find()
            .filter(role::COLUMN.tenant_id.eq(tenant.as_str()))
            .apply_if(after, |query, id| query.filter(role::COLUMN.id.gt(id.as_str())))
            .order_by_asc(role::COLUMN.id)
            .limit(limit)
            .all(&self.tx)
            .await?;
        rows.into_iter().map(CustomRole::try_from).collect()
    }

    /// Those of the named custom roles that exist.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn roles_by_ids(
        &self,
        tenant: &TenantId,
        ids: &[RoleId],
    ) -> Result<Vec<CustomRole>, StoreError> {
        let mut roles = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            let rows = role::Entity::find()
                .filter(role::COLUMN.tenant_id.eq(tenant.as_str()))
                .filter(role::COLUMN.id.is_in(ids.iter().map(RoleId::as_str)))
                .all(&self.tx)
                .await?;
            for row in rows {
                roles.push(CustomRole::try_from(row)?);
            }
        }
        Ok(roles)
    }

    /// The custom role of that name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn role_named(
        &self,
        tenant: &TenantId,
        name: &NameKey,
    ) -> Result<Option<CustomRole>, StoreError> {
        let row = role::Entity::find()
            .filter(role::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(role::COLUMN.name_key.eq(name.as_str()))
            .one(&self.tx)
            .await?;
        row.map(CustomRole::try_from).transpose()
    }

    /// How many custom roles there are.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn count_roles(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let roles = role::Entity::find().filter(role::COLUMN.tenant_id.eq(tenant.as_str()));
        Ok(roles.count(&self.tx).await?)
    }

    /// What changed after a revision, oldest first, as far back as changes are kept.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn changes(
        &self,
        tenant: &TenantId,
        after_revision: u64,
        limit: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let rows = change::Entity::find()
            .filter(change::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(change::COLUMN.revision.gt(stored(after_revision)))
            .order_by_asc(change::COLUMN.revision)
            .limit(limit)
            .all(&self.tx)
            .await?;
        rows.into_iter()
            .map(|row| {
                let key = row.seq.to_string();
                Ok(Change {
                    tenant: tenant.clone(),
                    revision: count(row.revision, "changes.revision", &key)?,
                    touched: from_json(&row.touched, "changes.touched", &key)?,
                })
            })
            .collect()
    }
}
