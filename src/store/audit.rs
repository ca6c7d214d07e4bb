//! The audit trail: who did what through which caller, and what was before and after.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::{self, NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select,
    sea_query::{Alias, Expr, ExprTrait as _, Query},
};
use serde_json::Value;

use super::StoreError;
use super::chain::{Chain, Record};
use super::entity::{audit, audit_subject};
use super::listed::asked_for_each;
use super::read::{CHUNK, ReadTx};
use super::rows::{corrupt, count, from_json, stored, to_json};
use crate::domain::Timestamp;
use crate::domain::ids::{MemberId, RoleId, TenantId};

const ROLE: &str = "role";
pub(super) const MEMBER: &str = "member";

/// What is to be remembered of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// The service that called.
    pub caller: String,
    /// The member on whose behalf.
    pub actor: Option<MemberId>,
    /// The call, such as `CreateRole`.
    pub method: String,
    /// The caller's id for the request.
    pub request_id: Option<String>,
    /// The roles it was about. Read back in the order of their ids, each once.
    pub roles: Vec<RoleId>,
    /// The members it was about. Read back in the order of their ids, each once.
    pub members: Vec<MemberId>,
    /// What was before.
    pub before: Option<Value>,
    /// What was after.
    pub after: Option<Value>,
}

/// An entry of the trail.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Its place in the tenant's trail: 1, 2, 3 and so on.
    pub number: u64,
    /// The tenant's revision: the one that the call made, or the one that it was refused at.
    pub revision: u64,
    /// What was done.
    pub entry: AuditEntry,
    /// Why it was refused, if it was.
    pub refusal: Option<String>,
    /// About how many bytes it has.
    pub size: usize,
}

/// Which events are wanted; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Done by this member.
    pub actor: Option<MemberId>,
    /// About this role.
    pub role: Option<RoleId>,
    /// About this member.
    pub member: Option<MemberId>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl ReadTx {
    /// Audit events, newest first; those before this one if it is given.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit_events(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let about = filter.about();
        let rows = match about.split_first() {
            None => {
                let AuditFilter { actor, role: _, member: _, from, until } = filter;
                let rows = audit::Entity::find()
                    .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
                    .apply_if(before, |query, number| {
                        query.filter(audit::Column::Number.lt(stored(number)))
                    })
                    .apply_if(actor.as_ref(), |query, actor| {
                        query.filter(audit::COLUMN.actor.eq(actor.as_str()))
                    })
                    .apply_if(*from, |query, from| query.filter(audit::COLUMN.at.gte(from.0)))
                    .apply_if(*until, |query, until| query.filter(audit::COLUMN.at.lt(until.0)))
                    .order_by_desc(audit::COLUMN.number)
                    .limit(limit);
                rows.all(&self.tx).await?
            }
            Some((first, others)) => {
                self.events_about(tenant, filter, (first, others), before, limit).await?
            }
        };

        let mut subjects = HashMap::new();
        for rows in rows.chunks(CHUNK) {
            let found = audit_subject::Entity::find()
                .filter(audit_subject::COLUMN.audit_seq.is_in(rows.iter().map(|row| row.seq)))
                .order_by_asc(audit_subject::COLUMN.subject_id)
                .all(&self.tx)
                .await?;
            for subject in found {
                let (roles, members): &mut (Vec<_>, Vec<_>) =
                    subjects.entry(subject.audit_seq).or_default();
                match subject.kind.as_str() {
                    ROLE => roles.push(RoleId::trusted(&subject.subject_id)),
                    MEMBER => members.push(MemberId::trusted(&subject.subject_id)),
                    _ => {
                        let key = subject.audit_seq.to_string();
                        return Err(corrupt("audit_subjects.kind", &key));
                    }
                }
            }
        }
        rows.into_iter()
            .map(|row| {
                let (roles, members) = subjects.remove(&row.seq).unwrap_or_default();
                event(row, roles, members)
            })
            .collect()
    }
}

/// A kind of subject, and its id.
type Subject<'f> = (&'static str, &'f str);

impl AuditFilter {
    fn about(&self) -> Vec<Subject<'_>> {
        let role = self.role.as_ref().map(|role| (ROLE, role.as_str()));
        let member = self.member.as_ref().map(|member| (MEMBER, member.as_str()));
        role.into_iter().chain(member).collect()
    }

    /// Whether an event is wanted, as far as its own row tells.
    fn wants(&self, event: &audit::Model) -> bool {
        let AuditFilter { actor, role: _, member: _, from, until } = self;
        actor.as_ref().is_none_or(|actor| event.actor.as_deref() == Some(actor.as_str()))
            && from.is_none_or(|from| event.at >= from.0)
            && until.is_none_or(|until| event.at < until.0)
    }
}

impl ReadTx {
    /// The newest events about a subject, which is found by the index of subjects: rows are numbered
    /// in the order of the events of a tenant. More at a time where few are wanted.
    async fn events_about(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        (first, others): (&Subject<'_>, &[Subject<'_>]),
        before: Option<u64>,
        limit: u64,
    ) -> Result<Vec<audit::Model>, StoreError> {
        let mut end = match before {
            Some(number) => match self.row_of_event(tenant, number).await? {
                Some(row) => Some(row),
                // It was deleted for its age, and all before it.
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut found, mut chunk): (Vec<audit::Model>, _) = (Vec::new(), wanted.clamp(1, CHUNK));
        loop {
            let mut query = subject(tenant, *first)
                .apply_if(end, |query, end| query.filter(audit_subject::COLUMN.audit_seq.lt(end)))
                .order_by_desc(audit_subject::COLUMN.audit_seq)
                .limit(chunk as u64);
            for other in others {
                let row = (audit_subject::Entity, audit_subject::Column::AuditSeq);
                query = query.filter(also_about(*other, row));
            }
            let rows: Vec<i64> = query.into_tuple().all(&self.tx).await?;
            if let Some(last) = rows.last() {
                // By nothing else, as another index might be taken then.
                let events =
                    audit::Entity::find().filter(audit::COLUMN.seq.is_in(rows.iter().copied()));
                let mut events = events.all(&self.tx).await?;
                events.retain(|event| event.tenant_id == tenant.as_str() && filter.wants(event));
                events.sort_unstable_by_key(|event| std::cmp::Reverse(event.number));
                found.extend(events);
                end = Some(*last);
            }
            if found.len() >= wanted || rows.len() < chunk {
                found.truncate(wanted);
                return Ok(found);
            }
            chunk = (2 * chunk).min(CHUNK);
        }
    }

    async fn row_of_event(
        &self,
        tenant: &TenantId,
        number: u64,
    ) -> Result<Option<i64>, StoreError> {
        let row = audit::Entity::find()
            .select_only()
            .column(audit::Column::Seq)
            .filter(audit::COLUMN.tenant_id.eq(tenant.as_str()))
            .filter(audit::Column::Number.eq(stored(number)))
            .into_tuple()
            .one(&self.tx)
            .await?;
        Ok(row)
    }
}

/// The rows of the events that are about a role or a member.
fn subject(tenant: &TenantId, (kind, id): Subject<'_>) -> Select<audit_subject::Entity> {
    audit_subject::Entity::find()
        .select_only()
        .column(audit_subject::Column::AuditSeq)
        .filter(audit_subject::COLUMN.tenant_id.eq(tenant.as_str()))
        .filter(audit_subject::COLUMN.kind.eq(kind))
        .filter(audit_subject::COLUMN.subject_id.eq(id))
}

/// Whether the event of a row is about this, too.
fn also_about(
    (kind, id): Subject<'_>,
    row: (audit_subject::Entity, audit_subject::Column),
) -> Expr {
    let other = Alias::new("other");
    let of_other = |column: audit_subject::Column| Expr::col((other.clone(), column));
    let question = Query::select()
        .column((other.clone(), audit_subject::Column::Kind))
        .from_as(audit_subject::Entity, other.clone())
        .and_where(of_other(audit_subject::Column::AuditSeq).equals(row))
        .and_where(of_other(audit_subject::Column::Kind).eq(kind))
        .and_where(of_other(audit_subject::Column::SubjectId).eq(id))
        .take();
    asked_for_each(question).eq(kind)
}

fn event(
    row: audit::Model,
    roles: Vec<RoleId>,
    members: Vec<MemberId>,
) -> Result<AuditEvent, StoreError> {
    let key = row.seq.to_string();
    let size = [&row.before, &row.after].into_iter().flatten().map(String::len).sum::<usize>()
        + roles.iter().map(|role| role.as_str().len()).sum::<usize>()
        + members.iter().map(|member| member.as_str().len()).sum::<usize>();
    let json = |text: Option<String>, column| {
        text.map(|text| from_json::<Value>(&text, column, &key)).transpose()
    };
    Ok(AuditEvent {
        number: count(row.number.unwrap_or(-1), "audit.number", &key)?,
        revision: count(row.revision, "audit.revision", &key)?,
        refusal: row.refusal,
        size,
        entry: AuditEntry {
            at: Timestamp(row.at),
            caller: row.caller,
            actor: row.actor.as_deref().map(MemberId::trusted),
            method: row.method,
            request_id: row.request_id,
            roles,
            members,
            before: json(row.before, "audit.before")?,
            after: json(row.after, "audit.after")?,
        },
    })
}

/// Adds an entry to the trail, as the next event of the tenant's chain, which must be saved after the
/// last one.
pub(super) async fn append(
    chain: &mut Chain<'_>,
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    revision: u64,
    entry: AuditEntry,
    refusal: Option<&str>,
) -> Result<(), StoreError> {
    let AuditEntry { at, caller, actor, method, request_id, roles, members, before, after } = entry;
    let json =
        |value: Option<Value>, column| value.map(|value| to_json(&value, column)).transpose();
    let mut subjects: Vec<_> = (roles.iter().map(|role| (ROLE.to_owned(), role.to_string())))
        .chain(members.iter().map(|member| (MEMBER.to_owned(), member.to_string())))
        .collect();
    subjects.sort_unstable();
    subjects.dedup();
    let event = chain.seal(Record {
        tenant: tenant.to_string(),
        number: 0,
        revision: stored(revision),
        at: at.0,
        caller,
        actor: actor.map(|actor| actor.to_string()),
        method,
        request_id,
        before: json(before, "audit.before")?,
        after: json(after, "audit.after")?,
        refusal: refusal.map(str::to_owned),
        subjects,
        key_id: String::new(),
        link: String::new(),
        salt: String::new(),
        covered: String::new(),
        digests: None,
        rewrites: None,
        erased: None,
    });
    let subjects = event.subjects.clone();
    let number = event.number;
    let inserted = audit::Entity::insert(row(event, NotSet)).exec(connection).await;
    let seq = match inserted.map_err(StoreError::from) {
        Ok(inserted) => inserted.last_insert_id,
        // The number is taken: the head is behind the trail.
        Err(StoreError::Conflict) => {
            return Err(corrupt("audit_heads.number", &format!("{tenant} before {number}")));
        }
        Err(error) => return Err(error),
    };
    for subjects in subjects.chunks(CHUNK) {
        let rows = subjects.iter().map(|(kind, subject)| audit_subject::Model {
            audit_seq: seq,
            tenant_id: tenant.to_string(),
            kind: kind.clone(),
            subject_id: subject.clone(),
        });
        audit_subject::Entity::insert_many(rows.map(audit_subject::ActiveModel::from))
            .exec_without_returning(connection)
            .await?;
    }
    Ok(())
}

/// The row of an event, without what it is about.
pub(super) fn row(event: Record, seq: ActiveValue<i64>) -> audit::ActiveModel {
    let Record {
        tenant,
        number,
        revision,
        at,
        caller,
        actor,
        method,
        request_id,
        before,
        after,
        refusal,
        subjects: _,
        key_id,
        link,
        salt,
        covered,
        digests,
        rewrites,
        erased,
    } = event;
    audit::ActiveModel {
        seq,
        tenant_id: Set(tenant),
        revision: Set(revision),
        at: Set(at),
        caller: Set(caller),
        actor: Set(actor),
        method: Set(method),
        request_id: Set(request_id),
        before: Set(before),
        after: Set(after),
        refusal: Set(refusal),
        number: Set(Some(number)),
        key_id: Set(Some(key_id)),
        link: Set(Some(link)),
        salt: Set(Some(salt)),
        covered: Set(Some(covered)),
        digests: Set(digests),
        rewrites: Set(rewrites),
        erased: Set(erased),
    }
}
