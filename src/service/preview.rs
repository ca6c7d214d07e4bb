//! What a change of a role would do, before it is done: per permission, and per member.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::decide::Answer;
use super::error::ServiceError;
use super::members::check_roles;
use super::page::{Page, PageRequest, Pager};
use super::roles::{Roles, editable, etag, parse_grants, reassignment};
use super::tenants::in_use;
use super::who::{CompiledRoles, compiled_roles};
use crate::domain::catalog::Catalog;
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::impact::{PermissionDelta, member_impact};
use crate::domain::member::{Member, MemberStatus, Subject};
use crate::domain::refusal::{Problem, Refusal};
use crate::domain::role::{CompiledRole, CustomRole};
use crate::store::{MemberFilter, ReadTx, subject};

/// The most members of one assignment that can be looked at.
pub const MAX_ASSIGNED: usize = 1_000;
/// How many members are read at a time.
const CHUNK: u64 = 500;

/// A change that has not been made.
#[derive(Debug, Clone)]
pub enum RoleChange {
    /// New grants for a custom role.
    Update {
        /// The role.
        role: RoleId,
        /// The whole new list.
        grants: Vec<Grant>,
        /// Add what the grants require.
        expand_requirements: bool,
    },
    /// A custom role's deletion.
    Delete {
        /// The role.
        role: RoleId,
        /// Where its members would go.
        reassign_to: Option<RoleId>,
    },
    /// Other roles for some members.
    Assign {
        /// The members.
        members: Vec<MemberId>,
        /// What each would hold, instead of what it holds.
        roles: Vec<RoleId>,
    },
}

/// What a change would do to one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberImpact {
    /// The member.
    pub member: MemberId,
    /// What it would gain and lose; never empty.
    pub permissions: Vec<PermissionDelta>,
}

/// What a change would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// What the role gives and would give; of an assignment, each change that any member sees.
    pub permissions: Vec<PermissionDelta>,
    /// Active members who would gain something.
    pub gaining: u64,
    /// Active members who would lose something.
    pub losing: u64,
    /// Active members for whom something changes, in the order of their ids.
    pub members: Page<MemberImpact>,
    /// What it holds for: the role's etag, or the one member's.
    pub etag: Option<String>,
}

impl Roles {
    /// What a change would do. It is refused as the change itself would be.
    ///
    /// # Errors
    /// The change's guards, a bad page; the store fails.
    pub async fn preview(
        &self,
        tenant: &TenantId,
        change: &RoleChange,
        page: &PageRequest,
    ) -> Result<Answer<Preview>, ServiceError> {
        let about = format!("{change:?}");
        let pager = Pager::new(&self.seal, "PreviewRoleChange", &[tenant.as_str(), &about]);
        let (size, cursor) = pager.read(page)?;
        let after = cursor.map(|last| MemberId::trusted(&last));
        let tx = self.store.read().await?;
        let (record, catalog) = in_use(&self.store, &tx, tenant).await?;
        let roles = compiled_roles(&tx, tenant, &catalog).await?;
        let looking = Looking { tx: &tx, tenant, catalog: &catalog, roles };
        let (mut preview, more) = match change {
            RoleChange::Update { role, grants, expand_requirements } => {
                let role = editable(&tx, &catalog, tenant, role).await?;
                let grants = parse_grants(&catalog, grants, *expand_requirements)
                    .map_err(|violations| Refusal::Invalid(violations).within("update"))?;
                let compiled = CustomRole { grants, ..role.clone() }.compile(&catalog);
                let instead = Some((role.id.clone(), Arc::new(compiled)));
                looking.holders(&role, instead, after, size).await?
            }
            RoleChange::Delete { role, reassign_to } => {
                let role = editable(&tx, &catalog, tenant, role).await?;
                let target = reassignment(&tx, &catalog, tenant, &role, reassign_to.as_ref())
                    .await
                    .map_err(|error| error.within("deletion"))?;
                let instead = target.and_then(|target| {
                    let compiled = looking.roles.get(&target).cloned()?;
                    Some((target, compiled))
                });
                looking.holders(&role, instead, after, size).await?
            }
            RoleChange::Assign { members, roles } => {
                looking.assignment(members, roles, after, size).await?
            }
        };
        let last = preview.members.items.last().filter(|_| more);
        preview.members.next_token =
            last.map(|impact| pager.token(impact.member.as_str())).unwrap_or_default();
        let token = Some(self.tokens.issue(tenant, record.revision));
        Ok(Answer { value: preview, catalog: Some(catalog), token, stale_since: None })
    }
}

/// A role under the id it is held by.
type Held = (RoleId, Arc<CompiledRole>);

/// What a preview looks at.
struct Looking<'a> {
    tx: &'a ReadTx,
    tenant: &'a TenantId,
    catalog: &'a Catalog,
    roles: CompiledRoles,
}

impl Looking<'_> {
    /// The active holders of a role, if they held another one, or none, instead. Tells whether
    /// there are more members than fit the page.
    async fn holders(
        &self,
        role: &CustomRole,
        instead: Option<Held>,
        mut after: Option<MemberId>,
        size: usize,
    ) -> Result<(Preview, bool), ServiceError> {
        let own = self.roles.get(&role.id).cloned().unwrap_or_default();
        let alone = |held: Option<Held>| Subject {
            id: MemberId::trusted(""),
            status: MemberStatus::Active,
            teams: Arc::default(),
            roles: held.into_iter().collect(),
        };
        let permissions = member_impact(
            self.catalog,
            &alone(Some((role.id.clone(), own))),
            Some(&alone(instead.clone())),
        );
        let mut impacts = Impacts::new(self.catalog, |member: &Subject| {
            let kept = member.roles.iter().filter(|(id, _)| {
                *id != role.id && instead.as_ref().is_none_or(|(new, _)| id != new)
            });
            kept.cloned().chain(instead.clone()).collect()
        });
        let mut preview = Preview {
            permissions,
            gaining: 0,
            losing: 0,
            members: Page { items: Vec::new(), next_token: String::new() },
            etag: Some(etag(role.revision)),
        };
        if self.catalog.roles_per_member() == 1 {
            // All holders hold this role and nothing else: what is true of one is true of all.
            let active = self.tx.role_members(self.tenant, &role.id).await?.active;
            let any = |test: fn(&PermissionDelta) -> bool| preview.permissions.iter().any(test);
            preview.gaining = if any(PermissionDelta::gained) { active } else { 0 };
            preview.losing = if any(PermissionDelta::lost) { active } else { 0 };
            if preview.permissions.is_empty() {
                return Ok((preview, false));
            }
        } else {
            let mut last = None;
            while let Some(members) = self.holders_after(role, &mut last).await? {
                for member in members {
                    let deltas = impacts.of(&subject(self.tenant, member, &self.roles));
                    preview.gaining += u64::from(deltas.iter().any(PermissionDelta::gained));
                    preview.losing += u64::from(deltas.iter().any(PermissionDelta::lost));
                }
            }
        }
        while let Some(members) = self.holders_after(role, &mut after).await? {
            for member in members {
                let deltas = impacts.of(&subject(self.tenant, member.clone(), &self.roles));
                if deltas.is_empty() {
                    continue;
                }
                if preview.members.items.len() == size {
                    return Ok((preview, true));
                }
                let permissions = deltas.to_vec();
                preview.members.items.push(MemberImpact { member: member.id, permissions });
            }
        }
        Ok((preview, false))
    }

    /// The next active holders of a role; nothing when there are no more.
    async fn holders_after(
        &self,
        role: &CustomRole,
        last: &mut Option<MemberId>,
    ) -> Result<Option<Vec<Member>>, ServiceError> {
        let filter = MemberFilter {
            status: Some(MemberStatus::Active),
            any_role: Some(vec![role.id.clone()]),
            team: None,
        };
        let members = self.tx.members(self.tenant, &filter, last.as_ref(), CHUNK).await?;
        let Some(newest) = members.last() else { return Ok(None) };
        *last = Some(newest.id.clone());
        Ok(Some(members))
    }

    /// These members, if they held these roles.
    async fn assignment(
        &self,
        ids: &[MemberId],
        roles: &[RoleId],
        after: Option<MemberId>,
        size: usize,
    ) -> Result<(Preview, bool), ServiceError> {
        if ids.len() > MAX_ASSIGNED {
            let problem = Problem::TooManyItems { count: ids.len(), limit: MAX_ASSIGNED };
            return Err(Refusal::invalid("assignment.member_ids", problem).into());
        }
        let violations =
            check_roles(self.tx, self.catalog, self.tenant, "assignment.role_ids", roles).await?;
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations).into());
        }
        let ids: BTreeSet<MemberId> = ids.iter().cloned().collect();
        let wanted: Vec<MemberId> = ids.iter().cloned().collect();
        let members = self.tx.members_by_ids(self.tenant, &wanted).await?;
        let found: HashMap<&MemberId, &Member> =
            members.iter().map(|member| (&member.id, member)).collect();
        if let Some(unknown) = ids.iter().find(|id| !found.contains_key(id)) {
            return Err(Refusal::MemberNotFound(unknown.clone()).into());
        }
        self.owner_would_remain(&members, roles).await?;
        let held: Vec<Held> = roles
            .iter()
            .filter_map(|role| Some((role.clone(), self.roles.get(role).cloned()?)))
            .collect();
        let mut impacts = Impacts::new(self.catalog, |_: &Subject| held.clone());
        let mut preview = Preview {
            permissions: Vec::new(),
            gaining: 0,
            losing: 0,
            members: Page { items: Vec::new(), next_token: String::new() },
            etag: match members.as_slice() {
                [only] => Some(etag(only.revision)),
                _ => None,
            },
        };
        let mut more = false;
        for member in ids.iter().filter_map(|id| found.get(id)) {
            if member.status != MemberStatus::Active {
                continue;
            }
            let deltas = impacts.of(&subject(self.tenant, (*member).clone(), &self.roles));
            preview.gaining += u64::from(deltas.iter().any(PermissionDelta::gained));
            preview.losing += u64::from(deltas.iter().any(PermissionDelta::lost));
            for delta in deltas {
                if !preview.permissions.contains(delta) {
                    preview.permissions.push(delta.clone());
                }
            }
            let on_page = after.as_ref().is_none_or(|after| member.id > *after);
            if on_page && !deltas.is_empty() {
                if preview.members.items.len() == size {
                    more = true;
                } else {
                    let (member, permissions) = (member.id.clone(), deltas.to_vec());
                    preview.members.items.push(MemberImpact { member, permissions });
                }
            }
        }
        Ok((preview, more))
    }

    async fn owner_would_remain(
        &self,
        members: &[Member],
        roles: &[RoleId],
    ) -> Result<(), ServiceError> {
        let owner = self.catalog.owner();
        let active = self.tx.role_members(self.tenant, owner).await?.active;
        let leaving = members.iter().filter(|member| member.actively_holds(owner)).count() as u64;
        if leaving > 0 && leaving >= active && !roles.contains(owner) {
            let (tenant, owner_role) = (self.tenant.clone(), owner.clone());
            return Err(Refusal::LastOwner { tenant, owner_role }.into());
        }
        Ok(())
    }
}

/// What changes for members, worked out once for all who hold the same roles.
struct Impacts<'a, F> {
    catalog: &'a Catalog,
    roles_after: F,
    by_roles: HashMap<Vec<RoleId>, Vec<PermissionDelta>>,
}

impl<'a, F: Fn(&Subject) -> Vec<Held>> Impacts<'a, F> {
    fn new(catalog: &'a Catalog, roles_after: F) -> Self {
        Impacts { catalog, roles_after, by_roles: HashMap::new() }
    }

    fn of(&mut self, member: &Subject) -> &[PermissionDelta] {
        let held = member.roles.iter().map(|(role, _)| role.clone()).collect();
        self.by_roles.entry(held).or_insert_with(|| {
            let roles = (self.roles_after)(member);
            member_impact(self.catalog, member, Some(&Subject { roles, ..member.clone() }))
        })
    }
}
