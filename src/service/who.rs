//! Who may do something: the members for which a check would allow.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::decide::{Answer, known};
use super::error::ServiceError;
use super::page::{Page, PageRequest, Pager};
use super::roles::Roles;
use super::token::Consistency;
use crate::domain::catalog::{Catalog, PermissionIx};
use crate::domain::decision::DecidedBy;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::MemberStatus;
use crate::domain::refusal::Refusal;
use crate::domain::resource::Resource;
use crate::domain::role::CompiledRole;
use crate::store::{Freshness, MemberFilter, ReadTx, subject};

/// How many members one page looks at before it comes back with what it has.
const MAX_SCANNED: usize = 5_000;
/// How many members are read at a time.
const CHUNK: u64 = 500;

/// The roles of a tenant, ready for decisions.
pub(super) type CompiledRoles = HashMap<RoleId, Arc<CompiledRole>>;

/// A member that may, and through which roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// The member.
    pub member: MemberId,
    /// The roles; empty when everyone may.
    pub decided_by: Vec<DecidedBy>,
}

impl Roles {
    /// The active members for which a check would allow, in the order of their ids. A page can hold
    /// fewer than asked for while there are more.
    ///
    /// # Errors
    /// No such tenant, an unknown permission, a bad page or token; the store fails.
    pub async fn authorized_members(
        &self,
        tenant: &TenantId,
        permission: &str,
        resource: Option<&Resource>,
        page: &PageRequest,
        consistency: &Consistency,
    ) -> Result<Answer<Page<Authorized>>, ServiceError> {
        let about = format!("{resource:?}");
        let query = [tenant.as_str(), permission, about.as_str()];
        let pager = Pager::new(&self.seal, "ListAuthorizedMembers", &query);
        let (size, cursor) = pager.read(page)?;
        let freshness = self.tokens.freshness(tenant, consistency)?;
        let tx = self.store.read().await?;
        let (record, catalog) = super::tenants::in_use(&self.store, &tx, tenant).await?;
        if matches!(freshness, Freshness::AtLeast(wanted) if record.revision < wanted) {
            return Err(Refusal::ConsistencyTokenAhead.into());
        }
        let permission = known(&catalog, permission)?;
        let roles = compiled_roles(&tx, tenant, &catalog).await?;
        let filter = MemberFilter {
            status: Some(MemberStatus::Active),
            any_role: roles_that_matter(&catalog, &roles, permission),
            team: None,
        };
        let mut found = Vec::new();
        let mut last = cursor.map(|id| MemberId::trusted(&id));
        let mut scanned = 0;
        let more = 'scan: loop {
            let members = tx.members(tenant, &filter, last.as_ref(), CHUNK).await?;
            let complete = (members.len() as u64) < CHUNK;
            for member in members {
                if found.len() == size {
                    break 'scan true;
                }
                last = Some(member.id.clone());
                scanned += 1;
                let subject = subject(tenant, member, &roles);
                let decision = subject.decide(&catalog, permission, resource);
                if decision.is_allowed() {
                    found.push(Authorized { member: subject.id, decided_by: decision.decided_by });
                }
            }
            if complete {
                break false;
            }
            if scanned >= MAX_SCANNED {
                break true;
            }
        };
        let last = last.filter(|_| more);
        let next_token = last.map(|id| pager.token(id.as_str())).unwrap_or_default();
        Ok(Answer {
            value: Page { items: found, next_token },
            catalog: Some(catalog),
            token: Some(self.tokens.issue(tenant, record.revision)),
            stale_since: None,
        })
    }
}

/// Every role of the tenant, default and custom.
pub(super) async fn compiled_roles(
    tx: &ReadTx,
    tenant: &TenantId,
    catalog: &Catalog,
) -> Result<CompiledRoles, ServiceError> {
    let mut roles: CompiledRoles = catalog
        .default_roles()
        .iter()
        .map(|role| (role.id.clone(), Arc::clone(&role.compiled)))
        .collect();
    for role in tx.roles(tenant, None, u64::from(u32::MAX)).await? {
        roles.insert(role.id.clone(), Arc::new(role.compile(catalog)));
    }
    Ok(roles)
}

/// Only their holders can be allowed; none: anybody can.
fn roles_that_matter(
    catalog: &Catalog,
    roles: &CompiledRoles,
    permission: PermissionIx,
) -> Option<Vec<RoleId>> {
    if !catalog.base(permission).is_empty() {
        return None;
    }
    let granting: BTreeSet<&RoleId> = roles
        .iter()
        .filter(|(_, role)| !role.reach(permission).relations.is_empty())
        .map(|(id, _)| id)
        .collect();
    Some(granting.into_iter().cloned().collect())
}
