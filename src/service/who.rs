//! Who may do something: the members for which a check would allow.

use super::decide::{Answer, known};
use super::error::ServiceError;
use super::held_roles::HeldRoles;
use super::page::{MAX_PAGE_SIZE, Page, PageRequest, PageRoom, Pager};
use super::roles::Roles;
use super::token::Consistency;
use crate::domain::candidates::Candidates;
use crate::domain::catalog::{Catalog, Grantable, Permission, PermissionIx};
use crate::domain::decision::DecidedBy;
use crate::domain::ids::{MemberId, TenantId};
use crate::domain::refusal::Refusal;
use crate::domain::resource::Resource;
use crate::store::{Freshness, ReadTx};

/// How many members one page looks at before it comes back with what it has.
pub(super) const MAX_SCANNED: usize = 5_000;
/// The most members that are read at a time.
pub(super) const MAX_CHUNK: usize = MAX_PAGE_SIZE + 1;

/// A member that may, and through which roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// The member.
    pub member: MemberId,
    /// The roles; empty when everyone may.
    pub decided_by: Vec<DecidedBy>,
}

impl Authorized {
    /// About what it takes in an answer.
    fn bytes(&self, catalog: &Catalog) -> usize {
        let scope = |scope| catalog.scope(scope).id.len();
        let role =
            |by: &DecidedBy| by.role.as_str().len() + by.scope.map(scope).unwrap_or_default() + 8;
        self.member.as_str().len() + self.decided_by.iter().map(role).sum::<usize>() + 8
    }
}

impl Roles {
    /// The active members for which a check would allow, in the order of their ids. A page can hold
    /// fewer than asked for while there are more.
    ///
    /// A page looks at those only who can be allowed, and at 5,000 of them at most: what it takes goes
    /// with its size, not with the number of members or of custom roles.
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
        let candidates = candidates(&tx, tenant, &catalog, permission, resource).await?;
        let mut roles = HeldRoles::new(&tx, tenant, &catalog);
        let (mut found, mut room) = (Vec::new(), PageRoom::new());
        let mut last = cursor.map(|id| MemberId::trusted(&id));
        let mut scanned = 0;
        // All on one page if all of them may; more at a time where few do.
        let mut chunk = size + 1;
        let more = 'scan: loop {
            let limit = chunk as u64;
            let members = tx.candidates(tenant, &candidates, last.as_ref(), limit).await?;
            let complete = members.len() < chunk;
            for subject in roles.subjects(members).await? {
                if found.len() == size {
                    break 'scan true;
                }
                let decision = subject.decide(&catalog, permission, resource);
                if decision.is_allowed() {
                    let shown =
                        Authorized { member: subject.id.clone(), decided_by: decision.decided_by };
                    if !room.take(shown.bytes(&catalog)) {
                        break 'scan true;
                    }
                    found.push(shown);
                }
                last = Some(subject.id);
                scanned += 1;
            }
            if complete {
                break false;
            }
            if scanned >= MAX_SCANNED {
                break true;
            }
            chunk = (2 * chunk).min(MAX_CHUNK);
        };
        let last = last.filter(|_| more);
        let next_token = last.map(|id| pager.token(id.as_str())).unwrap_or_default();
        Ok(Answer {
            value: Page { items: found, next_token },
            catalog: Some(catalog),
            token: Some(self.tokens.issue(tenant, tx.epoch(), record.revision)),
            stale_since: None,
        })
    }
}

/// Who can be allowed at all.
async fn candidates(
    tx: &ReadTx,
    tenant: &TenantId,
    catalog: &Catalog,
    permission: PermissionIx,
    resource: Option<&Resource>,
) -> Result<Candidates, ServiceError> {
    let Permission { id, grantable, .. } = catalog.permission(permission);
    let custom = match grantable {
        Grantable::Yes => tx.roles_naming(tenant, id).await?,
        Grantable::Base(_) | Grantable::Never => Some(Vec::new()),
    };
    let Some(custom) = custom else { return Ok(Candidates::Everybody) };
    let custom: Vec<_> = custom.into_iter().map(|role| (role.compile(catalog), role.id)).collect();
    let defaults = catalog.default_roles().iter().map(|role| (&role.id, &*role.compiled));
    let all = defaults.chain(custom.iter().map(|(compiled, id)| (id, compiled)));
    Ok(Candidates::of(catalog, permission, resource, all))
}
