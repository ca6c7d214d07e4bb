//! What a change of a role would do, before it is done: per permission, and per member.

mod cursor;
mod etag;
mod impacts;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cursor::Cursor;
pub(super) use etag::{Previewed, holds, split};
use impacts::{Held, Impacts, holding};

use super::decide::Answer;
use super::error::ServiceError;
use super::held_roles::HeldRoles;
use super::members::check_roles;
use super::page::{Page, PageRequest, PageRoom, Pager};
use super::roles::{Roles, editable, parse_grants, reassignment};
use super::tenants::in_use;
use super::who::{MAX_CHUNK, MAX_SCANNED};
use crate::domain::catalog::Catalog;
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::impact::{Extent, PermissionDelta, member_impact};
use crate::domain::member::{Member, MemberStatus, Subject};
use crate::domain::refusal::{Problem, Refusal};
use crate::domain::role::CustomRole;
use crate::store::{MemberFilter, ReadTx};

/// The most members of one assignment that can be looked at.
pub const MAX_ASSIGNED: usize = 1_000;

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

impl MemberImpact {
    /// About what it takes in an answer.
    fn bytes(&self) -> usize {
        /// Relations, flags, keys and lengths.
        const REST: usize = 48;
        let scope = |extent: &Extent| extent.scope.as_ref().map_or(0, String::len);
        let delta = |delta: &PermissionDelta| {
            delta.permission.len() + scope(&delta.old) + scope(&delta.new) + REST
        };
        self.member.as_str().len() + self.permissions.iter().map(delta).sum::<usize>() + 8
    }
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
    /// Holds as long as what this was computed from is as it was; the same on all pages.
    pub etag: String,
}

impl Roles {
    /// What a change would do. It is refused as the change itself would be.
    ///
    /// How many members gain and lose is counted over all holders of the role, in one statement: that
    /// goes with their number, and is done for the first page, and again for a later one if the tenant
    /// changed in between. All else goes with the page, for which at most 5,000 members are looked at:
    /// it can hold fewer than asked for while there are more.
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
        let bad_token = || Refusal::invalid("page_token", Problem::PageToken);
        let cursor = cursor.map(|text| Cursor::parse(&text).ok_or_else(bad_token)).transpose()?;
        let tx = self.store.read().await?;
        let (record, catalog) = in_use(&self.store, &tx, tenant).await?;
        let roles = HeldRoles::new(&tx, tenant, &catalog);
        let counted = cursor.as_ref().filter(|cursor| cursor.revision == record.revision);
        let counted = counted.map(|cursor| (cursor.gaining, cursor.losing));
        let (first, after) = cursor.map(|cursor| (cursor.etag, cursor.last)).unzip();
        let etag = async |change: Previewed<'_>| match first {
            Some(etag) => Ok(etag),
            None => etag::of_preview(&tx, &self.tokens, &record, &change).await,
        };
        let mut looking = Looking { tx: &tx, tenant, catalog: &catalog, roles, counted, size };
        let (mut preview, last, etag) = match change {
            RoleChange::Update { role, grants, expand_requirements } => {
                let role = editable(&tx, &catalog, tenant, role).await?;
                let grants = parse_grants(&catalog, grants, *expand_requirements)
                    .map_err(|violations| Refusal::Invalid(violations).within("update"))?;
                let etag = etag(Previewed::Update { role: &role.id, grants: &grants }).await?;
                let compiled = CustomRole { grants, ..role.clone() }.compile(&catalog);
                let instead = Some((role.id.clone(), Arc::new(compiled)));
                let (preview, last) = looking.holders(&role, instead, after).await?;
                (preview, last, etag)
            }
            RoleChange::Delete { role, reassign_to } => {
                let role = editable(&tx, &catalog, tenant, role).await?;
                let target = reassignment(&tx, &catalog, tenant, &role, reassign_to.as_ref())
                    .await
                    .map_err(|error| error.within("deletion"))?;
                let reassign_to = target.as_ref();
                let etag = etag(Previewed::Delete { role: &role.id, reassign_to }).await?;
                looking.roles.meet(&target).await?;
                let instead = target.and_then(|target| {
                    let compiled = looking.roles.get(&target)?;
                    Some((target, compiled))
                });
                let (preview, last) = looking.holders(&role, instead, after).await?;
                (preview, last, etag)
            }
            RoleChange::Assign { members, roles } => {
                let (preview, last) = looking.assignment(members, roles, after).await?;
                let (members, roles) = (members.iter().collect(), roles.iter().collect());
                (preview, last, etag(Previewed::Assign { members, roles }).await?)
            }
        };
        preview.etag.clone_from(&etag);
        if let Some(last) = last {
            let Preview { gaining, losing, .. } = preview;
            let cursor = Cursor { revision: record.revision, gaining, losing, etag, last };
            preview.members.next_token = pager.token(&cursor.text());
        }
        let token = Some(self.tokens.issue(tenant, tx.epoch(), record.revision));
        Ok(Answer { value: preview, catalog: Some(catalog), token, stale_since: None })
    }
}

/// A preview, and where the next page goes on, if there are more members than fit on this one.
type Looked = (Preview, Option<MemberId>);

/// What a preview looks at.
struct Looking<'a> {
    tx: &'a ReadTx,
    tenant: &'a TenantId,
    catalog: &'a Catalog,
    roles: HeldRoles<'a>,
    /// How many gain and lose, if a page before knew.
    counted: Option<(u64, u64)>,
    size: usize,
}

impl Looking<'_> {
    /// The active holders of a role, if they held another one, or none, instead.
    async fn holders(
        &mut self,
        role: &CustomRole,
        instead: Option<Held>,
        mut after: Option<MemberId>,
    ) -> Result<Looked, ServiceError> {
        let catalog = self.catalog;
        let own = (role.id.clone(), Arc::new(role.compile(catalog)));
        let permissions = member_impact(
            catalog,
            &holding(vec![own]),
            Some(&holding(instead.iter().cloned().collect())),
        );
        let mut impacts = Impacts::new(catalog, |member: &Subject| {
            let kept = member.roles.iter().filter(|(id, _)| {
                *id != role.id && instead.as_ref().is_none_or(|(new, _)| id != new)
            });
            kept.cloned().chain(instead.clone()).collect()
        });
        let (gaining, losing) = match self.counted {
            Some(counted) => counted,
            None => self.count(role, &mut impacts).await?,
        };
        let mut preview = Preview {
            permissions,
            gaining,
            losing,
            members: Page { items: Vec::new(), next_token: String::new() },
            etag: String::new(),
        };
        if gaining == 0 && losing == 0 {
            return Ok((preview, None));
        }
        let filter = MemberFilter {
            status: Some(MemberStatus::Active),
            role: Some(role.id.clone()),
            team: None,
        };
        let (mut scanned, mut chunk, mut room) = (0, self.size + 1, PageRoom::new());
        loop {
            let members =
                self.tx.members(self.tenant, &filter, after.as_ref(), chunk as u64).await?;
            let complete = members.len() < chunk;
            scanned += members.len();
            for member in self.roles.subjects(members).await? {
                let permissions = impacts.of(&member).to_vec();
                if !permissions.is_empty() {
                    let impact = MemberImpact { member: member.id.clone(), permissions };
                    if preview.members.items.len() == self.size || !room.take(impact.bytes()) {
                        return Ok((preview, after));
                    }
                    preview.members.items.push(impact);
                }
                after = Some(member.id);
            }
            if complete {
                return Ok((preview, None));
            }
            if scanned >= MAX_SCANNED {
                return Ok((preview, after));
            }
            chunk = (2 * chunk).min(MAX_CHUNK);
        }
    }

    /// How many active holders of a role gain and lose something. Those who hold the same roles are
    /// alike, so it takes how many there are of each kind.
    async fn count<F: Fn(&Subject) -> Vec<Held>>(
        &mut self,
        role: &CustomRole,
        impacts: &mut Impacts<'_, F>,
    ) -> Result<(u64, u64), ServiceError> {
        let sets = self.tx.role_sets(self.tenant, &role.id).await?;
        self.roles.meet(sets.iter().flat_map(|(roles, _)| roles)).await?;
        let (mut gaining, mut losing) = (0, 0);
        for (roles, members) in sets {
            let held = roles.into_iter().filter_map(|id| Some((id.clone(), self.roles.get(&id)?)));
            let deltas = impacts.of(&holding(held.collect()));
            gaining += if deltas.iter().any(PermissionDelta::gained) { members } else { 0 };
            losing += if deltas.iter().any(PermissionDelta::lost) { members } else { 0 };
        }
        Ok((gaining, losing))
    }

    /// These members, if they held these roles.
    async fn assignment(
        &mut self,
        ids: &[MemberId],
        roles: &[RoleId],
        after: Option<MemberId>,
    ) -> Result<Looked, ServiceError> {
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
        let mut members = self.tx.members_by_ids(self.tenant, &wanted).await?;
        members.sort_by(|one, two| one.id.cmp(&two.id));
        let found: HashSet<&MemberId> = members.iter().map(|member| &member.id).collect();
        if let Some(unknown) = ids.iter().find(|id| !found.contains(id)) {
            return Err(Refusal::MemberNotFound(unknown.clone()).into());
        }
        self.owner_would_remain(&members, roles).await?;
        self.roles.meet(roles).await?;
        let held: Vec<Held> =
            roles.iter().filter_map(|role| Some((role.clone(), self.roles.get(role)?))).collect();
        let mut impacts = Impacts::new(self.catalog, |_: &Subject| held.clone());
        let mut preview = Preview {
            permissions: Vec::new(),
            gaining: 0,
            losing: 0,
            members: Page { items: Vec::new(), next_token: String::new() },
            etag: String::new(),
        };
        let (mut more, mut room) = (false, PageRoom::new());
        members.retain(|member| member.status == MemberStatus::Active);
        for member in self.roles.subjects(members).await? {
            let deltas = impacts.of(&member);
            preview.gaining += u64::from(deltas.iter().any(PermissionDelta::gained));
            preview.losing += u64::from(deltas.iter().any(PermissionDelta::lost));
            for delta in deltas {
                if !preview.permissions.contains(delta) {
                    preview.permissions.push(delta.clone());
                }
            }
            let on_page = after.as_ref().is_none_or(|after| member.id > *after);
            if on_page && !deltas.is_empty() {
                let impact = MemberImpact { member: member.id, permissions: deltas.to_vec() };
                more |= preview.members.items.len() == self.size || !room.take(impact.bytes());
                if !more {
                    preview.members.items.push(impact);
                }
            }
        }
        let last = preview.members.items.last().filter(|_| more);
        let last = last.map(|impact| impact.member.clone());
        Ok((preview, last))
    }

    async fn owner_would_remain(
        &self,
        members: &[Member],
        roles: &[RoleId],
    ) -> Result<(), ServiceError> {
        let owner = self.catalog.owner();
        let active = self.tx.count_active_with_role(self.tenant, owner).await?;
        let leaving = members.iter().filter(|member| member.actively_holds(owner)).count() as u64;
        if leaving > 0 && leaving >= active && !roles.contains(owner) {
            let (tenant, owner_role) = (self.tenant.clone(), owner.clone());
            return Err(Refusal::LastOwner { tenant, owner_role }.into());
        }
        Ok(())
    }
}
