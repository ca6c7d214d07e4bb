//! Members: made, given roles and teams, archived, restored, deleted.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use super::acting::on_member;
use super::counts::WriteCounts;
use super::error::ServiceError;
use super::page::{Page, PageRequest, PageRoom, Pager};
use super::preview::{Previewed, split};
use super::refusals::RefusalCounts;
use super::roles::{check_etag, unknown_roles};
use super::seal::Seal;
use super::token::Tokens;
use super::told::{moved_roles, told};
use super::write::{Operation, Start, Trace, WriteContext, Writer, Written};
use crate::domain::actor::Duty;
use crate::domain::catalog::Catalog;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::{MAX_TEAMS, Member, MemberStatus};
use crate::domain::refusal::{Problem, Refusal, Violation};
use crate::store::{MemberFilter, ReadTx, SqlStore, Touched};

/// The use cases.
#[derive(Debug, Clone)]
pub struct Members {
    pub(super) store: SqlStore,
    pub(super) writer: Writer,
    seal: Seal,
}

impl Members {
    /// The use cases over this store.
    #[must_use]
    pub fn new(store: SqlStore, tokens: Tokens, seal: Seal) -> Self {
        Members { writer: Writer::new(store.clone(), tokens), store, seal }
    }

    /// How its mutations ended, since the start.
    #[must_use]
    pub fn write_counts(&self) -> &Arc<WriteCounts> {
        self.writer.counts()
    }

    /// What actors were refused, since the start.
    #[must_use]
    pub fn refusal_counts(&self) -> &Arc<RefusalCounts> {
        self.writer.refusals()
    }

    /// One member.
    ///
    /// # Errors
    /// No such tenant or member, or the store fails.
    pub async fn get(&self, tenant: &TenantId, id: &MemberId) -> Result<Member, ServiceError> {
        let tx = self.store.read().await?;
        super::tenants::in_use(&self.store, &tx, tenant).await?;
        let not_found = || Refusal::MemberNotFound(id.clone()).into();
        tx.member(tenant, id).await?.ok_or_else(not_found)
    }

    /// Members in the order of their ids; fewer than asked for where they have many teams.
    ///
    /// # Errors
    /// No such tenant, a bad page, or the store fails.
    pub async fn list(
        &self,
        tenant: &TenantId,
        filter: &MemberFilter,
        page: &PageRequest,
    ) -> Result<Page<Member>, ServiceError> {
        let status = match filter.status {
            None => "",
            Some(MemberStatus::Active) => "active",
            Some(MemberStatus::Archived) => "archived",
        };
        let role = filter.role.as_ref().map(RoleId::as_str).unwrap_or_default();
        let team = filter.team.as_ref().map(TeamId::as_str).unwrap_or_default();
        let query = [tenant.as_str(), status, role, team];
        let pager = Pager::new(&self.seal, "ListMembers", &query);
        let (size, cursor) = pager.read(page)?;
        let after = cursor.map(|last| MemberId::trusted(&last));
        let tx = self.store.read().await?;
        super::tenants::in_use(&self.store, &tx, tenant).await?;
        let mut items = tx.members(tenant, filter, after.as_ref(), size as u64 + 1).await?;
        let found = items.len();
        items.truncate(size);
        let mut room = PageRoom::new();
        let fitting = items.iter().take_while(|member| room.take(shown_bytes(member))).count();
        items.truncate(fitting);
        let last = items.last().filter(|_| fitting < found);
        let next_token = last.map(|member| pager.token(member.id.as_str())).unwrap_or_default();
        Ok(Page { items, next_token })
    }

    /// Makes a member.
    ///
    /// # Errors
    /// The id is taken, a role is unknown, too many roles or teams; the store fails.
    pub async fn create(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        id: &MemberId,
        roles: &[RoleId],
        teams: &[TeamId],
    ) -> Result<Written<Member>, ServiceError> {
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let attempt = || on_member(id, json!({ "roles": roles, "teams": teams }));
        let operation = operation.on_behalf(&catalog, Duty::Members, attempt).await?;
        let mut violations =
            check_roles(&operation.tx, &catalog, tenant, "role_ids", roles).await?;
        violations.extend(reserved("member_id", id));
        let teams = parse_teams("team_ids", teams);
        let teams = super::roles::collect(&mut violations, teams);
        let Some(teams) = teams.filter(|_| violations.is_empty()) else {
            return Err(Refusal::Invalid(violations).into());
        };
        if operation.tx.member(tenant, id).await?.is_some() {
            return Err(Refusal::MemberAlreadyExists(id.clone()).into());
        }
        let member = Member {
            id: id.clone(),
            status: MemberStatus::Active,
            roles: roles.to_vec(),
            teams,
            revision: operation.shown_revision(0),
            created_at: operation.now,
            updated_at: operation.now,
        };
        let operation = operation.may_change(None, Some(&member)).await?;
        operation.tx.put_members(std::slice::from_ref(&member)).await?;
        let trace = told(None, &member);
        operation.finish(member, Touched::Members(vec![id.clone()]), trace).await
    }

    /// Gives a member these teams instead of those it is in.
    ///
    /// # Errors
    /// No such member, too many teams, a stale etag; the store fails.
    pub async fn set_teams(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        id: &MemberId,
        teams: &[TeamId],
        etag: Option<&str>,
    ) -> Result<Written<Member>, ServiceError> {
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let attempt = || on_member(id, json!({ "teams": teams }));
        let operation = operation.on_behalf(&catalog, Duty::Members, attempt).await?;
        let before = existing(&operation, id, etag).await?;
        let teams = parse_teams("team_ids", teams).map_err(Refusal::Invalid)?;
        let after = Member { teams, ..before.clone() };
        change(operation, before, after).await
    }

    /// Gives a member these roles instead of those it holds.
    ///
    /// # Errors
    /// No such member, unknown or too many roles, the last owner, a stale etag; the store fails.
    pub async fn assign_roles(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        id: &MemberId,
        roles: &[RoleId],
        etag: Option<&str>,
    ) -> Result<Written<Member>, ServiceError> {
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let attempt = || on_member(id, json!({ "roles": roles }));
        let operation = operation.on_behalf(&catalog, Duty::Members, attempt).await?;
        let (etag, preview) = split(etag);
        let before = existing(&operation, id, etag).await?;
        let previewed = Previewed::Assign { members: [id].into(), roles: roles.iter().collect() };
        operation.preview_holds(preview, &catalog, Some(&previewed)).await?;
        let violations = check_roles(&operation.tx, &catalog, tenant, "role_ids", roles).await?;
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations).into());
        }
        let mut after = before.clone();
        after.set_roles(roles.to_vec());
        change(operation, before, after).await
    }

    /// Makes a member active or archived.
    ///
    /// # Errors
    /// No such member, the last owner, a stale etag; the store fails.
    pub async fn set_status(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        id: &MemberId,
        status: MemberStatus,
        etag: Option<&str>,
    ) -> Result<Written<Member>, ServiceError> {
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let duty = match status {
            MemberStatus::Active => Duty::Members,
            MemberStatus::Archived => Duty::Removal,
        };
        let attempt = || on_member(id, json!({ "status": status }));
        let operation = operation.on_behalf(&catalog, duty, attempt).await?;
        let before = existing(&operation, id, etag).await?;
        let after = Member { status, ..before.clone() };
        change(operation, before, after).await
    }

    /// Removes a member, and its id from what the audit keeps.
    ///
    /// # Errors
    /// No such member, the last owner, a stale etag; the store fails.
    pub async fn delete(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        id: &MemberId,
        etag: Option<&str>,
    ) -> Result<Written<()>, ServiceError> {
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let attempt = || Trace::default().member(id);
        let operation = operation.on_behalf(&catalog, Duty::Removal, attempt).await?;
        let before = existing(&operation, id, etag).await?;
        let operation = operation.may_change(Some(&before), None).await?;
        operation.tx.delete_members(std::slice::from_ref(id)).await?;
        owner_remains(&operation, &catalog).await?;
        // The audit tells of the member by the name that the rest of the trail has for it now.
        let pseudonym = operation.tx.erase_member(id).await?;
        let roles = moved_roles(Some(&before), None);
        let trace = Trace { roles, ..Trace::default() }.member(&pseudonym);
        // Changes are kept for a while, so this one cannot name the member.
        operation.finish((), Touched::Tenant, trace).await
    }
}

/// About what a member takes in an answer.
fn shown_bytes(member: &Member) -> usize {
    let roles = member.roles.iter().map(RoleId::as_str);
    let ids = roles.chain(member.teams.iter().map(TeamId::as_str));
    member.id.as_str().len() + ids.map(|id| id.len() + 3).sum::<usize>() + 64
}

async fn existing(
    operation: &Operation,
    id: &MemberId,
    etag: Option<&str>,
) -> Result<Member, ServiceError> {
    let member = operation.tx.member(operation.tenant_id(), id).await?;
    let member = member.ok_or_else(|| Refusal::MemberNotFound(id.clone()))?;
    check_etag(etag, member.revision)?;
    Ok(member)
}

/// Writes a changed member, unless it was so already.
async fn change(
    operation: Operation,
    before: Member,
    mut after: Member,
) -> Result<Written<Member>, ServiceError> {
    if after == before {
        return operation.unchanged(before).await;
    }
    let (_, catalog) = operation.tenant().await?;
    let operation = operation.may_change(Some(&before), Some(&after)).await?;
    after.revision = operation.shown_revision(before.revision);
    after.updated_at = operation.now;
    operation.tx.put_members(std::slice::from_ref(&after)).await?;
    owner_remains(&operation, &catalog).await?;
    let trace = told(Some(&before), &after);
    let touched = Touched::Members(vec![after.id.clone()]);
    operation.finish(after, touched, trace).await
}

/// The last active owner cannot be archived, demoted or deleted. Looks at the state after the
/// write, so that the order of a batch does not matter.
pub(super) async fn owner_remains(
    operation: &Operation,
    catalog: &Catalog,
) -> Result<(), ServiceError> {
    if operation.tx.role_members(operation.tenant_id(), catalog.owner()).await?.active > 0 {
        return Ok(());
    }
    let tenant = operation.tenant_id().clone();
    Err(Refusal::LastOwner { tenant, owner_role: catalog.owner().clone() }.into())
}

/// Everything that is wrong with a list of roles for one member.
pub(super) async fn check_roles(
    tx: &ReadTx,
    catalog: &Catalog,
    tenant: &TenantId,
    field: &str,
    roles: &[RoleId],
) -> Result<Vec<Violation>, ServiceError> {
    let limit = catalog.roles_per_member();
    if roles.len() > limit {
        let problem = Problem::TooManyRoles { count: roles.len(), limit };
        return Ok(vec![Violation::new(field, problem)]);
    }
    let unknown = unknown_roles(tx, catalog, tenant, roles).await?;
    Ok(list_roles_violations(field, roles, |role| !unknown.contains(role)))
}

/// Duplicates and unknown ones among a member's roles.
pub(super) fn list_roles_violations(
    field: &str,
    roles: &[RoleId],
    is_known: impl Fn(&RoleId) -> bool,
) -> Vec<Violation> {
    let mut seen = HashSet::new();
    let mut violations = Vec::new();
    for (index, role) in roles.iter().enumerate() {
        let path = format!("{field}[{index}]");
        if !seen.insert(role) {
            violations.push(Violation::new(path, Problem::Duplicate { id: role.to_string() }));
        } else if !is_known(role) {
            violations.push(Violation::new(path, Problem::UnknownRole { role: role.to_string() }));
        }
    }
    violations
}

/// What is wrong with the id of a new member whose form is right.
pub(super) fn reserved(field: &str, id: &MemberId) -> Option<Violation> {
    let why = "is an id that audit trails use for people who are no longer members, or for Rolegate \
               itself; choose one that begins otherwise";
    id.is_reserved().then(|| Violation::new(field, Problem::Invalid(why.to_owned())))
}

/// Teams sorted and each once, if there are not too many.
pub(super) fn parse_teams(field: &str, teams: &[TeamId]) -> Result<Vec<TeamId>, Vec<Violation>> {
    if teams.len() > MAX_TEAMS {
        let problem = Problem::TooManyItems { count: teams.len(), limit: MAX_TEAMS };
        return Err(vec![Violation::new(field, problem)]);
    }
    let mut teams = teams.to_vec();
    teams.sort_unstable();
    teams.dedup();
    Ok(teams)
}
