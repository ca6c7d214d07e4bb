//! The roles that members hold, read when a member holds one that was not met before.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::error::ServiceError;
use crate::domain::catalog::Catalog;
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::member::{Member, Subject};
use crate::domain::role::CompiledRole;
use crate::store::{ReadTx, compiled_roles, subject};

/// Some roles of a tenant, ready for decisions.
pub(super) struct HeldRoles<'a> {
    tx: &'a ReadTx,
    tenant: &'a TenantId,
    catalog: &'a Catalog,
    met: HashMap<RoleId, Arc<CompiledRole>>,
}

impl<'a> HeldRoles<'a> {
    /// None so far.
    pub(super) fn new(tx: &'a ReadTx, tenant: &'a TenantId, catalog: &'a Catalog) -> Self {
        HeldRoles { tx, tenant, catalog, met: HashMap::new() }
    }

    /// Makes sure of these.
    pub(super) async fn meet<'r>(
        &mut self,
        roles: impl IntoIterator<Item = &'r RoleId>,
    ) -> Result<(), ServiceError> {
        let unmet = roles.into_iter().filter(|role| !self.met.contains_key(*role));
        let unmet: BTreeSet<RoleId> = unmet.cloned().collect();
        self.met.extend(compiled_roles(self.tx, self.tenant, self.catalog, unmet).await?);
        Ok(())
    }

    /// One that was met, unless it is nowhere.
    pub(super) fn get(&self, role: &RoleId) -> Option<Arc<CompiledRole>> {
        self.met.get(role).cloned()
    }

    /// Members with their roles.
    pub(super) async fn subjects(
        &mut self,
        members: Vec<Member>,
    ) -> Result<Vec<Subject>, ServiceError> {
        self.meet(members.iter().flat_map(|member| &member.roles)).await?;
        Ok(members.into_iter().map(|member| subject(self.tenant, member, &self.met)).collect())
    }
}
