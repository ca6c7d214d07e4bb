//! What every mutation has in common: one transaction on a locked tenant, idempotency by request
//! id, trial runs, one change, one audit entry, one token.
//!
//! A use case begins an [`Operation`], checks its guards against what the transaction sees, writes,
//! and finishes. Dropping the operation on the way leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::acting::Acting;
use super::counts::{WriteCounts, WriteEnding, WriteOutcome};
use super::error::ServiceError;
use super::preview::{Previewed, holds};
use super::refusals::{Attempt, RefusalCounts};
use super::token::Tokens;
use crate::domain::Timestamp;
use crate::domain::catalog::Catalog;
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::refusal::Refusal;
use crate::domain::tenant::{Tenant, TenantState};
use crate::store::{AuditEntry, RequestKey, Response, SqlStore, Touched, WriteTx};

/// How long a request id is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A request id with a digest of the request that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// As the caller gave it.
    pub id: String,
    /// SHA-256, in hex, of the request without the id.
    pub payload: String,
}

/// Who writes, and how.
#[derive(Debug, Clone)]
pub struct WriteContext {
    /// The calling service.
    pub caller: String,
    /// The member on whose behalf it calls; none: it answers for the write itself.
    pub actor: Option<MemberId>,
    /// Such as `RoleService/UpdateRole`.
    pub method: &'static str,
    /// For retries.
    pub request: Option<RequestId>,
    /// Do everything but the writing.
    pub validate_only: bool,
}

/// What a mutation gives, with the token of the state after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// What was written.
    pub value: T,
    /// None when nothing was written, because it was a trial.
    pub token: Option<String>,
}

/// What the audit keeps of a change.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub(super) roles: Vec<RoleId>,
    pub(super) members: Vec<MemberId>,
    pub(super) before: Option<serde_json::Value>,
    pub(super) after: Option<serde_json::Value>,
}

impl Trace {
    /// What was and what is, of something that serializes.
    pub(super) fn of<T: Serialize>(before: Option<&T>, after: Option<&T>) -> Self {
        let json = |value: Option<&T>| value.and_then(|value| serde_json::to_value(value).ok());
        Trace { before: json(before), after: json(after), ..Trace::default() }
    }

    pub(super) fn role(mut self, role: &RoleId) -> Self {
        self.roles.push(role.clone());
        self
    }

    pub(super) fn member(mut self, member: &MemberId) -> Self {
        self.members.push(member.clone());
        self
    }
}

/// Begins and finishes mutations.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    store: SqlStore,
    tokens: Tokens,
    counts: Arc<WriteCounts>,
    refusals: Arc<RefusalCounts>,
}

/// What a mutation begins with.
pub(super) enum Start<T> {
    /// The same request was answered before; this was the answer.
    Replay(Written<T>),
    /// It is new.
    Fresh(Box<Operation>),
}

/// A mutation under way.
pub(super) struct Operation {
    pub(super) tx: WriteTx,
    pub(super) now: Timestamp,
    /// The actor, once it was admitted.
    pub(super) acting: Option<Acting>,
    context: WriteContext,
    tenant: TenantId,
    tokens: Tokens,
    store: SqlStore,
    refusals: Arc<RefusalCounts>,
    ending: WriteEnding,
}

/// Common part of the audit events of a mutation.
struct ToldBy {
    at: Timestamp,
    caller: String,
    actor: Option<MemberId>,
    method: &'static str,
    request_id: Option<String>,
}

impl ToldBy {
    fn entry(&self, trace: Trace) -> AuditEntry {
        let Trace { roles, members, before, after } = trace;
        AuditEntry {
            at: self.at,
            caller: self.caller.clone(),
            actor: self.actor.clone(),
            method: self.method.to_owned(),
            request_id: self.request_id.clone(),
            roles,
            members,
            before,
            after,
        }
    }
}

/// What is remembered of an answer.
#[derive(serde::Serialize, serde::Deserialize)]
struct Remembered<T> {
    revision: u64,
    value: T,
}

impl Writer {
    pub(super) fn new(store: SqlStore, tokens: Tokens) -> Self {
        Writer { store, tokens, counts: Arc::default(), refusals: Arc::default() }
    }

    /// How its mutations ended.
    pub(super) fn counts(&self) -> &Arc<WriteCounts> {
        &self.counts
    }

    /// What actors were refused.
    pub(super) fn refusals(&self) -> &Arc<RefusalCounts> {
        &self.refusals
    }

    /// Locks the tenant, and looks whether this request was answered before.
    pub(super) async fn begin<T: DeserializeOwned>(
        &self,
        context: WriteContext,
        tenant: &TenantId,
    ) -> Result<Start<T>, ServiceError> {
        let ending = WriteEnding::new(&self.counts);
        // Boxed, as the end is: what is awaited between them would be too large for a stack else.
        let tx = Box::pin(self.store.write(tenant)).await?;
        let now = Timestamp::now();
        let mut operation = Operation {
            tx,
            now,
            acting: None,
            context,
            tenant: tenant.clone(),
            tokens: self.tokens.clone(),
            store: self.store.clone(),
            refusals: Arc::clone(&self.refusals),
            ending,
        };
        if let (Some(request), Some(key)) = (&operation.context.request, operation.request_key())
            && let Some(earlier) = operation.tx.remembered(&key, now).await?
        {
            if earlier.payload_hash != request.payload {
                return Err(Refusal::RequestIdReused { request_id: request.id.clone() }.into());
            }
            let response = match earlier.response {
                Response::Kept(response) => response,
                Response::Erased => return Err(Refusal::AnswerErased.into()),
                Response::Purged => return Err(Refusal::TenantNotFound(tenant.clone()).into()),
            };
            let answer: Remembered<T> = serde_json::from_str(&response)
                .map_err(|error| ServiceError::Internal(format!("remembered answer: {error}")))?;
            operation.ending.is(WriteOutcome::Replayed);
            return Ok(Start::Replay(Written {
                value: answer.value,
                token: Some(self.tokens.issue(tenant, operation.tx.epoch(), answer.revision)),
            }));
        }
        Ok(Start::Fresh(Box::new(operation)))
    }
}

impl Operation {
    /// The tenant, which must be in use, with its catalog.
    pub(super) async fn tenant(&self) -> Result<(Tenant, Arc<Catalog>), ServiceError> {
        match self.tx.tenant() {
            Some(tenant) if tenant.state == TenantState::Active => {
                let catalog = self.store.catalog(&tenant.catalog).await?;
                Ok((tenant.clone(), catalog))
            }
            // Whoever may write may know that it can be brought back.
            Some(tenant) if tenant.state == TenantState::Deleted => {
                Err(Refusal::TenantDeleted(self.tenant.clone()).into())
            }
            _ => Err(Refusal::TenantNotFound(self.tenant.clone()).into()),
        }
    }

    /// Refuses where an etag of a preview was given that does not hold for this change.
    pub(super) async fn preview_holds(
        &self,
        etag: Option<&str>,
        catalog: &Catalog,
        change: Option<&Previewed<'_>>,
    ) -> Result<(), ServiceError> {
        match (etag, self.tx.tenant()) {
            (Some(etag), Some(tenant)) => {
                holds(&self.tx, &self.tokens, (tenant, catalog), etag, change).await
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing is to be written.
    pub(super) fn is_trial(&self) -> bool {
        self.context.validate_only
    }

    /// The revision that the answer shows of something that is written, from the one that it had;
    /// 0: it is new. A trial keeps that one: the revision that a write would give is going to be
    /// another writer's, whose change the etag would then match.
    pub(super) fn shown_revision(&self, before: u64) -> u64 {
        if self.is_trial() { before } else { self.tx.next_revision() }
    }

    /// The tenant that is locked.
    pub(super) fn tenant_id(&self) -> &TenantId {
        &self.tenant
    }

    /// The member on whose behalf it is made.
    pub(super) fn actor_id(&self) -> Option<&MemberId> {
        self.context.actor.as_ref()
    }

    /// What the actor tries, to be recorded should it be refused.
    pub(super) fn attempt(&self, actor: &MemberId, trace: Trace) -> Attempt {
        Attempt {
            store: self.store.clone(),
            counts: Arc::clone(&self.refusals),
            tenant: self.tenant.clone(),
            caller: self.context.caller.clone(),
            actor: actor.clone(),
            method: self.context.method,
            request_id: self.context.request.as_ref().map(|request| request.id.clone()),
            at: self.now,
            is_trial: self.context.validate_only,
            trace,
        }
    }

    /// Ends it without a commit.
    pub(super) fn end(mut self, outcome: WriteOutcome) {
        self.ending.is(outcome);
    }

    fn request_key(&self) -> Option<RequestKey> {
        self.context.request.as_ref().map(|request| RequestKey {
            caller: self.context.caller.clone(),
            tenant: self.tenant.clone(),
            method: self.context.method.to_owned(),
            request_id: request.id.clone(),
        })
    }

    /// Commits what was written, remembers the answer, and gives it its token. A trial is rolled
    /// back instead.
    pub(super) async fn finish<T: Serialize>(
        self,
        value: T,
        touched: Touched,
        trace: Trace,
    ) -> Result<Written<T>, ServiceError> {
        Box::pin(self.finish_in_parts(value, touched, std::iter::once(trace))).await
    }

    /// The same for a change that is too much for one audit event.
    pub(super) async fn finish_in_parts<T: Serialize>(
        mut self,
        value: T,
        touched: Touched,
        traces: impl Iterator<Item = Trace> + Send,
    ) -> Result<Written<T>, ServiceError> {
        if self.context.validate_only {
            self.ending.is(WriteOutcome::Trial);
            return Ok(Written { value, token: None });
        }
        let revision = self.tx.next_revision();
        let value = self.remember(revision, value).await?;
        let told_by = self.told_by();
        let entries = traces.map(|trace| told_by.entry(trace));
        self.ending.is(WriteOutcome::Failed);
        let epoch = self.tx.epoch();
        let revision = self.tx.commit_in_parts(touched, self.now, entries).await?;
        self.ending.is(WriteOutcome::Committed);
        let ToldBy { method, caller, .. } = &told_by;
        tracing::info!(tenant = %self.tenant, revision, method, %caller, "changed");
        Ok(Written { value, token: Some(self.tokens.issue(&self.tenant, epoch, revision)) })
    }

    /// Tells of a part of the change before it is made; the rest is told when it is finished.
    pub(super) async fn tell(
        &self,
        traces: impl Iterator<Item = Trace> + Send,
    ) -> Result<(), ServiceError> {
        let told_by = self.told_by();
        Ok(self.tx.tell(traces.map(|trace| told_by.entry(trace))).await?)
    }

    fn told_by(&self) -> ToldBy {
        ToldBy {
            at: self.now,
            caller: self.context.caller.clone(),
            actor: self.context.actor.clone(),
            method: self.context.method,
            request_id: self.context.request.as_ref().map(|request| request.id.clone()),
        }
    }

    /// Answers without having changed anything: things were so already. The request id is
    /// remembered all the same, so that a late retry does not do then what was not needed now.
    pub(super) async fn unchanged<T: Serialize>(
        mut self,
        value: T,
    ) -> Result<Written<T>, ServiceError> {
        let revision = self.tx.tenant().map(|tenant| tenant.revision);
        let Some(revision) = revision.filter(|_| !self.context.validate_only) else {
            self.ending.is(WriteOutcome::Trial);
            return Ok(Written { value, token: None });
        };
        let value = self.remember(revision, value).await?;
        self.ending.is(WriteOutcome::Failed);
        let epoch = self.tx.epoch();
        self.tx.commit_unchanged().await?;
        self.ending.is(WriteOutcome::Unchanged);
        Ok(Written { value, token: Some(self.tokens.issue(&self.tenant, epoch, revision)) })
    }

    async fn remember<T: Serialize>(&self, revision: u64, value: T) -> Result<T, ServiceError> {
        let (Some(request), Some(key)) = (&self.context.request, self.request_key()) else {
            return Ok(value);
        };
        let answer = Remembered { revision, value };
        let text = serde_json::to_string(&answer)
            .map_err(|error| ServiceError::Internal(format!("remembering an answer: {error}")))?;
        let expires = self.now.plus(REMEMBERED_FOR);
        self.tx.remember(&key, &request.payload, &text, self.now, expires).await?;
        Ok(answer.value)
    }
}
