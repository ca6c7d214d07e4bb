//! Syncing a directory: up to 10,000 members made and changed in one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::acting::{Acting, bounded};
use super::error::ServiceError;
use super::members::{Members, list_roles_violations, owner_remains, parse_teams, reserved};
use super::preview::Previewed;
use super::refusals::Attempt;
use super::roles::{collect, unknown_roles};
use super::told::told_in_parts;
use super::write::{Operation, Start, Trace, WriteContext, Written};
use crate::domain::actor::{ActorRefusal, Duty, Measures};
use crate::domain::catalog::Catalog;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::{Member, MemberStatus};
use crate::domain::refusal::{Problem, Refusal, Violation};
use crate::store::{MemberFilter, Touched};

/// The most members in one batch.
pub const MAX_BATCH: usize = 10_000;

/// The most absent members that one batch archives: all of them are named in its answer.
const MAX_ABSENT: usize = 10_000;

/// Changes that name more members than this say "everything" instead: forgetting a tenant costs a
/// follower less than forgetting thousands of members one by one.
const MAX_NAMED: usize = 1_000;

/// How a batch fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMode {
    /// One refused item refuses the batch; the last-owner guard looks at the state after all items.
    AllOrNothing,
    /// Items are taken in order, each by itself.
    ItemByItem,
}

/// One member of a batch. `None` is left alone; a new member gets no role, no team, active.
#[derive(Debug, Clone)]
pub struct Upsert {
    /// The member.
    pub id: MemberId,
    /// Its roles.
    pub roles: Option<Vec<RoleId>>,
    /// Its teams.
    pub teams: Option<Vec<TeamId>>,
    /// Active or archived.
    pub status: Option<MemberStatus>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemOutcome {
    /// A new member.
    Created,
    /// A changed member.
    Updated,
    /// It was so already.
    Unchanged,
    /// Refused; the others went on without it.
    Refused(Refusal),
}

/// What a batch did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// In the order of the request; the id as given, also where it could not be read.
    pub items: Vec<(String, ItemOutcome)>,
    /// Active members that the batch did not name, and that were archived for it, sorted.
    pub archived: Vec<MemberId>,
    /// Those that were kept, because no active owner would be left, sorted.
    pub kept_owners: Vec<MemberId>,
    /// Those that were kept, because the actor may not archive them, sorted.
    #[serde(default)]
    pub kept_from_actor: Vec<MemberId>,
    /// Nobody was archived for being absent, because an item does not say which member it names.
    #[serde(default)]
    pub absent_unknown: bool,
}

/// One batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The members; those that could not be read come with what is wrong and the id as given.
    pub items: Vec<Result<Upsert, (String, Vec<Violation>)>>,
    /// How it fails.
    pub mode: BatchMode,
    /// Archive the active members that it does not name.
    pub archive_absent: bool,
    /// Only if all is as it was previewed: an assignment of the same roles to each, and nothing else.
    pub etag: Option<String>,
}

impl Batch {
    /// The assignment that it comes to, if it is one that can be previewed.
    fn assignment(&self) -> Option<Previewed<'_>> {
        let (mut members, mut roles) = (BTreeSet::new(), None);
        for item in &self.items {
            let Ok(Upsert { id, roles: Some(given), teams: None, status: None }) = item else {
                return None;
            };
            let given: BTreeSet<&RoleId> = given.iter().collect();
            if *roles.get_or_insert_with(|| given.clone()) != given {
                return None;
            }
            members.insert(id);
        }
        let roles = roles.filter(|_| !self.archive_absent)?;
        Some(Previewed::Assign { members, roles })
    }
}

impl Members {
    /// Makes and changes members, all in one transaction and one change.
    ///
    /// # Errors
    /// Too many items; in all-or-nothing mode every item's problem, or the last owner; the store
    /// fails.
    pub async fn upsert(
        &self,
        context: WriteContext,
        tenant: &TenantId,
        batch: Batch,
    ) -> Result<Written<BatchResult>, ServiceError> {
        let count = batch.items.len();
        if count > MAX_BATCH {
            let problem = Problem::TooManyItems { count, limit: MAX_BATCH };
            return Err(Refusal::invalid("members", problem).into());
        }
        let operation = match self.writer.begin(context, tenant).await? {
            Start::Replay(written) => return Ok(written),
            Start::Fresh(operation) => *operation,
        };
        let (_, catalog) = operation.tenant().await?;
        let (mode, archive_absent) = (batch.mode, batch.archive_absent);
        let mut operation =
            operation.on_behalf(&catalog, Duty::Members, || attempt(&batch)).await?;
        if let Some(acting) = operation.acting.as_ref().filter(|_| archive_absent) {
            let judged = acting.actor.may(&catalog, Duty::Removal);
            operation = operation.judged(judged).await?;
        }
        if batch.etag.is_some() {
            let (etag, change) = (batch.etag.as_deref(), batch.assignment());
            operation.preview_holds(etag, &catalog, change.as_ref()).await?;
        }
        let sync = Sync::prepare(&operation, &catalog, &batch).await?;
        let mut changes = sync.apply(batch.items);
        if mode == BatchMode::AllOrNothing {
            match changes.refuse_if_any_refused() {
                Err(Refusal::Actor(refusal)) => operation = operation.judged(Err(refusal)).await?,
                judged => judged?,
            }
        }
        let absent = if archive_absent && changes.unnamed {
            // Anyone who seems absent may be the one whose id could not be read.
            changes.result.absent_unknown = true;
            Vec::new()
        } else if archive_absent {
            absent_members(&operation, tenant, &changes.named).await?
        } else {
            Vec::new()
        };
        let (absent, kept) = archivable(&operation, absent).await?;
        if let Some((_, refusal)) = kept.first().filter(|_| mode == BatchMode::AllOrNothing) {
            operation = operation.judged(Err(refusal.clone())).await?;
        }
        changes.archive(absent, catalog.owner(), mode);
        let Changes { before, mut after, mut result, .. } = changes;
        let refused = refused_to_actor(&operation, &result, &kept);
        result.kept_from_actor = kept.into_iter().map(|(member, _)| member).collect();
        if after.is_empty() {
            let written = operation.unchanged(result).await?;
            return Ok(recorded(written, refused).await);
        }
        for member in &mut after {
            member.revision = operation.tx.next_revision();
            member.updated_at = operation.now;
        }
        operation.tx.put_members(&after).await?;
        owner_remains(&operation, &catalog).await?;
        let ids: Vec<MemberId> = after.iter().map(|member| member.id.clone()).collect();
        let touched = if ids.len() > MAX_NAMED { Touched::Tenant } else { Touched::Members(ids) };
        let traces = told_in_parts(before, after);
        let written = operation.finish_in_parts(result, touched, traces).await?;
        Ok(recorded(written, refused).await)
    }
}

/// What is tried with a batch.
fn attempt(batch: &Batch) -> Trace {
    let (members, archive_absent) = (batch.items.len(), batch.archive_absent);
    let after = serde_json::json!({ "items": members, "archive_absent": archive_absent });
    let members = batch.items.iter().flatten().map(|item| item.id.clone()).collect();
    Trace { members, after: Some(after), ..Trace::default() }
}

/// Which of the absent members the actor may archive; and the others, each with why not.
async fn archivable(
    operation: &Operation,
    absent: Vec<Member>,
) -> Result<(Vec<Member>, Vec<(MemberId, ActorRefusal)>), ServiceError> {
    let Some(acting) = &operation.acting else { return Ok((absent, Vec::new())) };
    let roles = absent.iter().flat_map(|member| &member.roles);
    let measured = operation.measured(acting, roles).await?;
    let (mut archivable, mut kept) = (Vec::new(), Vec::new());
    for member in absent {
        let after = Member { status: MemberStatus::Archived, ..member.clone() };
        match acting.may_change(Some(&member), Some(&after), &measured) {
            Ok(()) => archivable.push(member),
            Err(refusal) => kept.push((member.id, refusal)),
        }
    }
    Ok((archivable, kept))
}

/// What the actor was refused of a batch whose other items went on: one attempt at all of it, with
/// the first reason.
fn refused_to_actor(
    operation: &Operation,
    result: &BatchResult,
    kept: &[(MemberId, ActorRefusal)],
) -> Option<(Attempt, ActorRefusal)> {
    let acting = operation.acting.as_ref()?;
    let of_items = result.items.iter().filter_map(|(id, outcome)| match outcome {
        ItemOutcome::Refused(Refusal::Actor(refusal)) => Some((MemberId::trusted(id), refusal)),
        _ => None,
    });
    let of_absent = kept.iter().map(|(id, refusal)| (id.clone(), refusal));
    let refused: Vec<(MemberId, &ActorRefusal)> = of_items.chain(of_absent).collect();
    let (_, first) = *refused.first()?;
    let first = first.clone();
    let after = serde_json::json!({ "items": result.items.len(), "refused": refused.len() });
    let members = refused.into_iter().map(|(id, _)| id).collect();
    let trace = bounded(Trace { members, after: Some(after), ..Trace::default() });
    Some((Attempt { trace, ..acting.attempt.clone() }, first))
}

async fn recorded<T>(written: T, refused: Option<(Attempt, ActorRefusal)>) -> T {
    if let Some((attempt, refusal)) = refused {
        attempt.record(&refusal).await;
    }
    written
}

/// What is known before the first item is looked at.
struct Sync<'a> {
    tenant: TenantId,
    existing: HashMap<MemberId, Member>,
    unknown_roles: HashSet<RoleId>,
    roles_per_member: usize,
    owner: RoleId,
    active_owners: u64,
    guard_each: bool,
    new_member: Member,
    acting: Option<(&'a Acting, Measures)>,
}

impl<'a> Sync<'a> {
    async fn prepare(
        operation: &'a Operation,
        catalog: &Catalog,
        batch: &Batch,
    ) -> Result<Self, ServiceError> {
        let tenant = operation.tenant_id();
        let items = || batch.items.iter().flatten();
        let ids: Vec<MemberId> = items().map(|item| item.id.clone()).collect();
        // A list that is too long is refused unread, so that a batch looks up no more roles than
        // its members may hold.
        let limit = catalog.roles_per_member();
        let roles: BTreeSet<RoleId> = items()
            .filter_map(|item| item.roles.as_ref())
            .filter(|roles| roles.len() <= limit)
            .flatten()
            .cloned()
            .collect();
        let roles: Vec<RoleId> = roles.into_iter().collect();
        let existing = operation.tx.members_by_ids(tenant, &ids).await?;
        let acting = match &operation.acting {
            Some(acting) => {
                let held = existing.iter().flat_map(|member| &member.roles);
                Some((acting, operation.measured(acting, held.chain(&roles)).await?))
            }
            None => None,
        };
        let owner = catalog.owner().clone();
        Ok(Sync {
            acting,
            tenant: tenant.clone(),
            existing: existing.into_iter().map(|member| (member.id.clone(), member)).collect(),
            unknown_roles: unknown_roles(&operation.tx, catalog, tenant, &roles)
                .await?
                .into_iter()
                .collect(),
            roles_per_member: limit,
            active_owners: operation.tx.role_members(tenant, &owner).await?.active,
            owner,
            guard_each: batch.mode == BatchMode::ItemByItem,
            new_member: Member {
                id: MemberId::trusted(""),
                status: MemberStatus::Active,
                roles: Vec::new(),
                teams: Vec::new(),
                revision: 0,
                created_at: operation.now,
                updated_at: operation.now,
            },
        })
    }

    fn apply(self, items: Vec<Result<Upsert, (String, Vec<Violation>)>>) -> Changes {
        let mut changes = Changes {
            named: HashSet::new(),
            unnamed: false,
            before: Vec::new(),
            after: Vec::new(),
            active_owners: self.active_owners,
            result: BatchResult {
                items: Vec::with_capacity(items.len()),
                archived: Vec::new(),
                kept_owners: Vec::new(),
                kept_from_actor: Vec::new(),
                absent_unknown: false,
            },
        };
        for (index, item) in items.into_iter().enumerate() {
            let (id, outcome) = match item {
                Ok(item) => (item.id.to_string(), self.apply_one(index, item, &mut changes)),
                Err((id, violations)) => {
                    // Whatever else is wrong with it, it names its member.
                    match MemberId::parse(&id) {
                        Ok(member) => _ = changes.named.insert(member),
                        Err(_) => changes.unnamed = true,
                    }
                    (id, Err(Refusal::Invalid(violations)))
                }
            };
            changes.result.items.push((id, outcome.unwrap_or_else(ItemOutcome::Refused)));
        }
        changes
    }

    fn apply_one(
        &self,
        index: usize,
        item: Upsert,
        changes: &mut Changes,
    ) -> Result<ItemOutcome, Refusal> {
        if !changes.named.insert(item.id.clone()) {
            let problem = Problem::Duplicate { id: item.id.to_string() };
            return Err(Refusal::invalid(format!("members[{index}].member_id"), problem));
        }
        let before = self.existing.get(&item.id);
        let mut after = match before {
            Some(member) => member.clone(),
            None => Member { id: item.id.clone(), ..self.new_member.clone() },
        };
        let mut violations = Vec::new();
        if before.is_none() {
            violations.extend(reserved(&format!("members[{index}].member_id"), &item.id));
        }
        if let Some(roles) = item.roles {
            violations.extend(self.role_violations(&format!("members[{index}].role_ids"), &roles));
            after.set_roles(roles);
        }
        if let Some(teams) = item.teams {
            let teams = parse_teams(&format!("members[{index}].team_ids"), &teams);
            after.teams = collect(&mut violations, teams).unwrap_or_default();
        }
        if let Some(status) = item.status {
            after.status = status;
        }
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        if before == Some(&after) {
            return Ok(ItemOutcome::Unchanged);
        }
        if let Some((acting, measured)) = &self.acting {
            acting.may_change(before, Some(&after), measured).map_err(Refusal::Actor)?;
        }
        let was_owner = before.is_some_and(|member| member.actively_holds(&self.owner));
        let is_owner = after.actively_holds(&self.owner);
        let owners = changes.active_owners + u64::from(is_owner) - u64::from(was_owner);
        if self.guard_each && owners == 0 {
            return Err(Refusal::LastOwner {
                tenant: self.tenant.clone(),
                owner_role: self.owner.clone(),
            });
        }
        changes.active_owners = owners;
        changes.before.extend(before.cloned());
        changes.after.push(after);
        Ok(if before.is_some() { ItemOutcome::Updated } else { ItemOutcome::Created })
    }

    fn role_violations(&self, field: &str, roles: &[RoleId]) -> Vec<Violation> {
        let limit = self.roles_per_member;
        if roles.len() > limit {
            let problem = Problem::TooManyRoles { count: roles.len(), limit };
            return vec![Violation::new(field, problem)];
        }
        list_roles_violations(field, roles, |role| !self.unknown_roles.contains(role))
    }
}

/// What the items come to.
struct Changes {
    named: HashSet<MemberId>,
    /// Whether an item's id could not be read.
    unnamed: bool,
    before: Vec<Member>,
    after: Vec<Member>,
    active_owners: u64,
    result: BatchResult,
}

impl Changes {
    /// Everything that is wrong with any item, at once.
    fn refuse_if_any_refused(&mut self) -> Result<(), Refusal> {
        let mut violations = Vec::new();
        for (_, outcome) in &mut self.result.items {
            match outcome {
                ItemOutcome::Refused(Refusal::Invalid(found)) => violations.append(found),
                ItemOutcome::Refused(other) => return Err(other.clone()),
                ItemOutcome::Created | ItemOutcome::Updated | ItemOutcome::Unchanged => {}
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Refusal::Invalid(violations)) }
    }

    /// Archives members that the batch did not name. Item by item, owners among them are kept when
    /// no other active owner is left.
    fn archive(&mut self, absent: Vec<Member>, owner: &RoleId, mode: BatchMode) {
        let leaving = absent.iter().filter(|member| member.actively_holds(owner)).count() as u64;
        let keep_owners = mode == BatchMode::ItemByItem && leaving >= self.active_owners;
        for member in absent {
            if keep_owners && member.actively_holds(owner) {
                self.result.kept_owners.push(member.id);
                continue;
            }
            self.result.archived.push(member.id.clone());
            self.after.push(Member { status: MemberStatus::Archived, ..member.clone() });
            self.before.push(member);
        }
    }
}

/// The active members that are not named, in the order of their ids.
async fn absent_members(
    operation: &Operation,
    tenant: &TenantId,
    named: &HashSet<MemberId>,
) -> Result<Vec<Member>, ServiceError> {
    const PAGE: u64 = 1_000;
    let filter = MemberFilter { status: Some(MemberStatus::Active), ..MemberFilter::default() };
    let mut absent = Vec::new();
    let mut last: Option<MemberId> = None;
    loop {
        let page = operation.tx.members(tenant, &filter, last.as_ref(), PAGE).await?;
        let complete = (page.len() as u64) < PAGE;
        last = page.last().map(|member| member.id.clone()).or(last);
        absent.extend(page.into_iter().filter(|member| !named.contains(&member.id)));
        if absent.len() > MAX_ABSENT {
            let problem = Problem::Invalid(format!(
                "would archive more than {MAX_ABSENT} members, and one batch archives no more. If that \
                 is meant, archive them first, by items with the status ARCHIVED"
            ));
            return Err(Refusal::invalid("archive_absent", problem).into());
        }
        if complete {
            return Ok(absent);
        }
    }
}
