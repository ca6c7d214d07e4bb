//! Etags of previews: which change was previewed, and at which state.
//!
//! A change that carries the etag of its preview is made only where that preview would say the same
//! now. What it says depends on the catalog, on the roles involved, and on the members who hold them.
//! All of these carry the tenant's revision that last changed them, so nothing has to be kept for a
//! preview: what it was computed from is as it was exactly when none of it has a revision later than
//! the preview's, and when as many members hold the role as did. A member who no longer holds it would
//! be missed by the first alone; whoever came, or changed roles, teams or status, has a later revision.
//! What else happens in the tenant meanwhile refuses nothing.
//!
//! It costs nothing where no such etag is sent; where one is, going once along the role's holders, as
//! the change itself and the first page of its preview do.
//!
//! Layout, before the seal: version (1 byte), restore epoch (8), revision (8), catalog version (4),
//! holders (8), the first 16 bytes of a SHA-256 over the change. The tenant is what it is sealed for.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::domain::catalog::Catalog;
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::refusal::{PreviewLoss, Refusal};
use crate::domain::tenant::Tenant;
use crate::service::ServiceError;
use crate::service::token::Tokens;
use crate::store::ReadTx;

/// Tells them from the etags of roles and members, which are numbers.
const PREFIX: &str = "preview.";
const VERSION: u8 = 1;
const PURPOSE: &[u8] = b"preview-etag";

/// A change of which there may be a preview, as it would be made.
#[derive(Debug, Clone)]
pub(in crate::service) enum Previewed<'a> {
    /// These grants for a custom role.
    Update { role: &'a RoleId, grants: &'a [Grant] },
    /// A custom role's deletion.
    Delete { role: &'a RoleId, reassign_to: Option<&'a RoleId> },
    /// Just these roles for each of these members.
    Assign { members: BTreeSet<&'a MemberId>, roles: BTreeSet<&'a RoleId> },
}

impl Previewed<'_> {
    fn digest(&self) -> [u8; 16] {
        let mut parts: Vec<&str> = Vec::new();
        match self {
            Previewed::Update { role, grants } => {
                parts.extend(["update", role.as_str()]);
                let grants: BTreeSet<&Grant> = grants.iter().collect();
                for Grant { permission, scope } in grants {
                    parts.extend([permission, scope.as_deref().unwrap_or_default()]);
                }
            }
            Previewed::Delete { role, reassign_to } => {
                parts.extend(["delete", role.as_str()]);
                parts.extend(reassign_to.map(RoleId::as_str));
            }
            Previewed::Assign { members, roles } => {
                parts.push("assign");
                parts.extend(roles.iter().map(|role| role.as_str()));
                // No id is empty.
                parts.push("");
                parts.extend(members.iter().map(|member| member.as_str()));
            }
        }
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(digest.finalize()) {
            *to = from;
        }
        short
    }
}

/// Contents of an etag.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    epoch: u64,
    revision: u64,
    catalog: u32,
    holders: u64,
    change: [u8; 16],
}

impl Parts {
    fn seal(&self, tokens: &Tokens, tenant: &TenantId) -> String {
        let Parts { epoch, revision, catalog, holders, change } = self;
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&epoch.to_be_bytes());
        bytes.extend_from_slice(&revision.to_be_bytes());
        bytes.extend_from_slice(&catalog.to_be_bytes());
        bytes.extend_from_slice(&holders.to_be_bytes());
        bytes.extend_from_slice(change);
        let sealed = tokens.seal().close(&[PURPOSE, tenant.as_str().as_bytes()], &bytes);
        format!("{PREFIX}{sealed}")
    }

    fn open(tokens: &Tokens, tenant: &TenantId, text: &str) -> Option<Self> {
        let sealed = text.strip_prefix(PREFIX)?;
        let bytes = tokens.seal().open(&[PURPOSE, tenant.as_str().as_bytes()], sealed)?;
        let (version, rest) = bytes.split_first()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (revision, rest) = rest.split_first_chunk()?;
        let (catalog, rest) = rest.split_first_chunk()?;
        let (holders, rest) = rest.split_first_chunk()?;
        let (change, rest) = rest.split_first_chunk()?;
        (*version == VERSION && rest.is_empty()).then(|| Parts {
            epoch: u64::from_be_bytes(*epoch),
            revision: u64::from_be_bytes(*revision),
            catalog: u32::from_be_bytes(*catalog),
            holders: u64::from_be_bytes(*holders),
            change: *change,
        })
    }
}

/// The etag of a preview of this change, computed at the transaction's state.
pub(super) async fn of_preview(
    tx: &ReadTx,
    tokens: &Tokens,
    tenant: &Tenant,
    change: &Previewed<'_>,
) -> Result<String, ServiceError> {
    let holders = match change {
        Previewed::Update { role, .. } | Previewed::Delete { role, .. } => {
            tx.count_holders(&tenant.id, role).await?
        }
        Previewed::Assign { members, .. } => members.len() as u64,
    };
    let parts = Parts {
        epoch: tokens.epoch(),
        revision: tenant.revision,
        catalog: tenant.catalog.version,
        holders,
        change: change.digest(),
    };
    Ok(parts.seal(tokens, &tenant.id))
}

/// Tells an etag of the thing that is to be changed from one of a preview.
pub(in crate::service) fn split(given: Option<&str>) -> (Option<&str>, Option<&str>) {
    given.map_or((None, None), |text| match text.starts_with(PREFIX) {
        true => (None, Some(text)),
        false => (Some(text), None),
    })
}

/// Refuses where the etag's preview no longer holds. `change` is the one that is to be made, if there
/// can be a preview of it.
pub(in crate::service) async fn holds(
    tx: &ReadTx,
    tokens: &Tokens,
    (tenant, catalog): (&Tenant, &Catalog),
    etag: &str,
    change: Option<&Previewed<'_>>,
) -> Result<(), ServiceError> {
    let lost = |loss| Err(Refusal::PreviewOutdated(loss).into());
    let Some(parts) = Parts::open(tokens, &tenant.id, etag) else {
        return lost(PreviewLoss::Unknown);
    };
    // A revision that the tenant has not come to is of another history.
    if parts.epoch != tokens.epoch() || parts.revision > tenant.revision {
        return lost(PreviewLoss::Unknown);
    }
    let Some(change) = change.filter(|change| change.digest() == parts.change) else {
        return lost(PreviewLoss::OtherChange);
    };
    if parts.catalog != tenant.catalog.version {
        return lost(PreviewLoss::Catalog);
    }
    let now = Comparison { tx, tenant: &tenant.id, catalog, since: parts.revision };
    match change {
        Previewed::Update { role, .. } => now.holders(role, None, parts.holders).await,
        Previewed::Delete { role, reassign_to } => {
            now.holders(role, *reassign_to, parts.holders).await
        }
        Previewed::Assign { members, roles } => now.members(members, roles).await,
    }
}

/// Comparison of the transaction's state with that of a preview.
struct Comparison<'a> {
    tx: &'a ReadTx,
    tenant: &'a TenantId,
    catalog: &'a Catalog,
    since: u64,
}

impl Comparison<'_> {
    async fn holders(
        &self,
        role: &RoleId,
        target: Option<&RoleId>,
        holders: u64,
    ) -> Result<(), ServiceError> {
        let mut roles: BTreeSet<RoleId> = target.into_iter().chain([role]).cloned().collect();
        if self.catalog.roles_per_member() > 1 {
            roles.extend(self.tx.roles_held_with(self.tenant, role, None).await?);
        }
        self.roles(roles).await?;
        if self.tx.holders_as_of(self.tenant, role, self.since).await? == Some(holders) {
            return Ok(());
        }
        Err(Refusal::PreviewOutdated(PreviewLoss::Members).into())
    }

    async fn members(
        &self,
        members: &BTreeSet<&MemberId>,
        given: &BTreeSet<&RoleId>,
    ) -> Result<(), ServiceError> {
        let ids: Vec<MemberId> = members.iter().map(|id| (*id).clone()).collect();
        let found = self.tx.members_by_ids(self.tenant, &ids).await?;
        let since = self.since;
        if found.len() != ids.len() || found.iter().any(|member| member.revision > since) {
            return Err(Refusal::PreviewOutdated(PreviewLoss::Members).into());
        }
        let held = found.iter().flat_map(|member| &member.roles);
        self.roles(held.chain(given.iter().copied()).cloned().collect()).await
    }

    /// Default roles change with the catalog only.
    async fn roles(&self, roles: BTreeSet<RoleId>) -> Result<(), ServiceError> {
        let custom = |role: &RoleId| self.catalog.default_role(role.as_str()).is_none();
        let custom: Vec<RoleId> = roles.into_iter().filter(custom).collect();
        let found = self.tx.roles_by_ids(self.tenant, &custom).await?;
        if found.iter().any(|role| role.revision > self.since) {
            return Err(Refusal::PreviewOutdated(PreviewLoss::Roles).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DatabaseIdentity, History};

    fn tokens(epoch: u64) -> Tokens {
        Tokens::new(&DatabaseIdentity {
            database_id: uuid::Uuid::from_u128(1),
            epoch,
            history: History::default(),
            signing_key: [9; 32],
        })
    }

    #[test]
    fn an_etag_is_of_its_tenant_and_says_what_it_was_made_of() {
        let tenant = TenantId::trusted("a");
        let parts = Parts { epoch: 1, revision: 7, catalog: 2, holders: 100_000, change: [5; 16] };
        let text = parts.seal(&tokens(1), &tenant);
        assert_eq!(split(Some(&text)), (None, Some(text.as_str())));
        assert_eq!(split(Some("7")), (Some("7"), None));
        assert_eq!(split(None), (None, None));
        assert_eq!(Parts::open(&tokens(1), &tenant, &text), Some(parts));
        assert_eq!(Parts::open(&tokens(1), &TenantId::trusted("b"), &text), None);
        assert_eq!(Parts::open(&tokens(1), &tenant, "preview."), None);
        assert_eq!(Parts::open(&tokens(1), &tenant, "7"), None);
    }

    #[test]
    fn changes_are_told_apart_and_the_order_does_not_matter() {
        let (a, b) = (RoleId::trusted("a"), RoleId::trusted("b"));
        let (kim, lee) = (MemberId::trusted("kim"), MemberId::trusted("lee"));
        let grant = |permission: &str, scope: Option<&str>| Grant {
            permission: permission.to_owned(),
            scope: scope.map(str::to_owned),
        };
        let (one, two) = (grant("x", None), grant("y", Some("all")));
        let (there, back) = ([one.clone(), two.clone()], [two, one.clone()]);
        let fewer = [one];
        let update = |grants| Previewed::Update { role: &a, grants }.digest();
        assert_eq!(update(&there), update(&back));
        let assign = |members: &[&MemberId], roles: &[&RoleId]| {
            let ids = |ids: &[&MemberId]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
            let (members, roles) = (ids(members), roles.to_vec());
            Previewed::Assign {
                members: members.iter().collect(),
                roles: roles.into_iter().collect(),
            }
            .digest()
        };
        assert_eq!(assign(&[&kim, &lee], &[&a, &b]), assign(&[&lee, &kim], &[&b, &a]));
        let digests = [
            update(&there),
            update(&fewer),
            update(&[]),
            Previewed::Update { role: &b, grants: &fewer }.digest(),
            Previewed::Delete { role: &a, reassign_to: None }.digest(),
            Previewed::Delete { role: &a, reassign_to: Some(&b) }.digest(),
            Previewed::Delete { role: &b, reassign_to: Some(&a) }.digest(),
            assign(&[&kim], &[&a]),
            assign(&[&kim], &[]),
            assign(&[&kim, &lee], &[&a]),
            assign(&[&kim], &[&a, &b]),
        ];
        assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), digests.len());
    }
}
