//! Decisions: one question, many at once, lists, query plans and menus, all from one view of the
//! tenant at one state.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::counts::DecisionCounts;
use super::decision_log::{Asker, CallLog, DecisionLog};
use super::error::ServiceError;
use super::sieve::{Sieve, hopeless};
use super::token::{Consistency, Tokens};
use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, PermissionIx, SectionIx};
use crate::domain::decision::{Decision, DecisionReason};
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::Subject;
use crate::domain::plan::QueryPlan;
use crate::domain::refusal::{Problem, Refusal, Violation};
use crate::domain::relation::RelationSet;
use crate::domain::resource::{Attribute, Attributes, Resource};
use crate::store::{DecisionSource, Freshness, MemberView, StoreError, TenantView};

/// The most questions, or candidate resources, in one call.
pub const MAX_BATCH: usize = 10_000;

/// May this member do this (to this resource)?
#[derive(Debug, Clone)]
pub struct Question {
    /// Who wants to do it.
    pub member: MemberId,
    /// What.
    pub permission: String,
    /// To what.
    pub resource: Option<Resource>,
}

impl Question {
    fn parts(&self) -> (&MemberId, &str, Option<&Resource>) {
        (&self.member, &self.permission, self.resource.as_ref())
    }
}

/// An answer with the state that it was decided at.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// The catalog that it was decided by; none when there is no such tenant.
    pub catalog: Option<Arc<Catalog>>,
    /// Names the state; none when there is no such tenant.
    pub token: Option<String>,
    /// Set when the database is gone and this was decided from what was held: as of this time.
    pub stale_since: Option<Timestamp>,
}

/// Which of the candidates a member may act on.
#[derive(Debug, Clone, Default)]
pub struct Filtered {
    /// The ids of those allowed, in the order of the candidates.
    pub allowed: Vec<String>,
    /// The ids of those denied for want of an attribute.
    pub incomplete: Vec<String>,
    /// The attributes that were wanting.
    pub missing: Vec<Attribute>,
    /// Why none can be allowed, whatever they are.
    pub denied: Option<DecisionReason>,
}

/// A query plan, and why it is `never` if it is.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: QueryPlan,
    /// With [`QueryPlan::Never`].
    pub denied: Option<DecisionReason>,
}

/// All that a member may do.
#[derive(Debug, Clone, Default)]
pub struct Effective {
    /// What it is granted, in the catalog's order.
    pub permissions: Vec<(PermissionIx, RelationSet)>,
    /// The sections that its menus show.
    pub sections: Vec<SectionIx>,
    /// Its roles.
    pub roles: Vec<RoleId>,
    /// Why there is nothing at all.
    pub denied: Option<DecisionReason>,
}

/// Answers questions from a source: the cache in front of the database, or the database.
#[derive(Debug)]
pub struct Decisions<S> {
    pub(super) source: Arc<S>,
    tokens: Tokens,
    pub(super) counts: Arc<DecisionCounts>,
    pub(super) log: Option<Arc<DecisionLog>>,
    /// Where to wait for the source: connections to a database belong to the runtime they were made
    /// on, and calls come from several.
    loads_on: Option<Handle>,
}

/// Clones share the source, which need not be one that can be cloned.
impl<S> Clone for Decisions<S> {
    fn clone(&self) -> Self {
        Decisions {
            source: Arc::clone(&self.source),
            tokens: self.tokens.clone(),
            counts: Arc::clone(&self.counts),
            log: self.log.clone(),
            loads_on: self.loads_on.clone(),
        }
    }
}

impl<S: DecisionSource> Decisions<S> {
    /// Decides from this source. What is not at hand is waited for on the runtime that this is called
    /// in, if any.
    #[must_use]
    pub fn new(source: Arc<S>, tokens: Tokens) -> Self {
        let loads_on = Handle::try_current().ok();
        Decisions { source, tokens, counts: Arc::default(), log: None, loads_on }
    }

    /// Records decisions in this log from now on.
    #[must_use]
    pub fn logged(self, log: Arc<DecisionLog>) -> Self {
        Decisions { log: Some(log), ..self }
    }

    /// What was decided since the start: each check, each item of a batch, each candidate of a
    /// filter. Plans and menus are no decisions.
    #[must_use]
    pub fn counts(&self) -> &Arc<DecisionCounts> {
        &self.counts
    }

    /// One question.
    ///
    /// # Errors
    /// An unknown permission or a bad token is refused; a failing store is no answer.
    pub async fn check(
        &self,
        asker: Asker<'_>,
        tenant: &TenantId,
        question: &Question,
        consistency: &Consistency,
    ) -> Result<Answer<Decision>, ServiceError> {
        let Some(view) = self.one(tenant, &question.member, consistency).await? else {
            self.counts.add(DecisionReason::TenantNotFound, 1);
            let decision = Decision::denied(DecisionReason::TenantNotFound);
            self.log(asker, tenant, None).add(None, question.parts(), &decision);
            return Ok(no_tenant(decision));
        };
        let decision = decide(&view.catalog, view.subject.as_deref(), question)
            .map_err(|problem| Refusal::invalid("permission", problem))?;
        self.counts.add(decision.reason, 1);
        self.log(asker, tenant, Some(&view)).add(None, question.parts(), &decision);
        Ok(self.answer(tenant, &view, decision))
    }

    /// How fresh an answer about this tenant must be.
    ///
    /// # Errors
    /// A bad token is refused.
    pub fn freshness(
        &self,
        tenant: &TenantId,
        consistency: &Consistency,
    ) -> Result<Freshness, ServiceError> {
        self.tokens.freshness(tenant, consistency)
    }

    /// The token that names a view's state. The tenant is the view's.
    #[must_use]
    pub fn token<'v>(&self, tenant: &str, view: &'v MemberView) -> &'v str {
        let state = &view.state;
        let make =
            || self.tokens.issue(&TenantId::trusted(tenant), state.epoch(), state.revision());
        state.token(make)
    }

    /// Many questions at one state. Items keep their order and fail one by one: those that could
    /// not even be read come in as violations and go out as such.
    ///
    /// # Errors
    /// As for [`Decisions::check`], and too many items, refuse the whole call.
    pub async fn check_batch(
        &self,
        asker: Asker<'_>,
        tenant: &TenantId,
        questions: Vec<Result<Question, Violation>>,
        consistency: &Consistency,
    ) -> Result<Answer<Vec<Result<Decision, Violation>>>, ServiceError> {
        self.check_numbered(asker, tenant, questions.into_iter().enumerate().collect(), consistency)
            .await
    }

    /// The same for some of a request's items, each with its number among all of them.
    ///
    /// # Errors
    /// As for [`Decisions::check_batch`].
    pub async fn check_numbered(
        &self,
        asker: Asker<'_>,
        tenant: &TenantId,
        questions: Vec<(usize, Result<Question, Violation>)>,
        consistency: &Consistency,
    ) -> Result<Answer<Vec<Result<Decision, Violation>>>, ServiceError> {
        bounded("items", questions.len())?;
        let sound = || questions.iter().flat_map(|(_, question)| question);
        let distinct: HashSet<&MemberId> = sound().map(|question| &question.member).collect();
        let members: Vec<MemberId> = distinct.into_iter().cloned().collect();
        let Some(view) = self.many(tenant, &members, consistency).await? else {
            let mut log = self.log(asker, tenant, None);
            self.counts.add(DecisionReason::TenantNotFound, sound().count());
            let denied = |(number, item): (usize, Result<Question, Violation>)| {
                let question = item?;
                let decision = Decision::denied(DecisionReason::TenantNotFound);
                log.add(Some(number), question.parts(), &decision);
                Ok(decision)
            };
            return Ok(no_tenant(questions.into_iter().map(denied).collect()));
        };
        let TenantView { catalog, state, members, stale_since } = view;
        let view = MemberView { catalog, state, subject: None, stale_since };
        let mut log = self.log(asker, tenant, Some(&view));
        let decisions = questions.into_iter().map(|(number, item)| {
            let question = item?;
            let subject = members.get(&question.member).map(Arc::as_ref);
            let decision = decide(&view.catalog, subject, &question).map_err(|problem| {
                Violation::new(format!("items[{number}].permission"), problem)
            })?;
            log.add(Some(number), question.parts(), &decision);
            Ok(decision)
        });
        let decisions: Vec<Result<Decision, Violation>> = decisions.collect();
        self.counts.add_all(decisions.iter().flatten().map(|decision| decision.reason));
        Ok(self.answer(tenant, &view, decisions))
    }

    /// Which of these may the member act on? Exactly those that [`Decisions::check`] allows.
    ///
    /// # Errors
    /// As for [`Decisions::check_batch`].
    pub async fn filter(
        &self,
        asker: Asker<'_>,
        tenant: &TenantId,
        member: &MemberId,
        permission: &str,
        resources: &[Resource],
        consistency: &Consistency,
    ) -> Result<Answer<Filtered>, ServiceError> {
        bounded("resources", resources.len())?;
        let Some(view) = self.one(tenant, member, consistency).await? else {
            let reason = DecisionReason::TenantNotFound;
            self.counts.add(reason, resources.len());
            let mut log = self.log(asker, tenant, None);
            if log.log.is_some() {
                let decision = Decision::denied(reason);
                for (index, resource) in resources.iter().enumerate() {
                    log.add(Some(index), (member, permission, Some(resource)), &decision);
                }
            }
            return Ok(no_tenant(Filtered { denied: Some(reason), ..Filtered::default() }));
        };
        let sieve = Sieve::new(Arc::clone(&view), known(&view.catalog, permission)?);
        let mut log = self.log(asker, tenant, Some(&view));
        let mut filtered = Filtered { denied: sieve.denied, ..Filtered::default() };
        let mut missing = Attributes::default();
        let reasons = resources.iter().enumerate().map(|(index, resource)| {
            let ruling = sieve.rule(resource);
            // Of each candidate: who misses one in a list asks why.
            if log.log.is_some() {
                let what = (member, permission, Some(resource));
                log.add(Some(index), what, &sieve.told(ruling));
            }
            if ruling.reason.allows() {
                filtered.allowed.push(resource.id.clone());
            } else if ruling.reason == DecisionReason::ResourceAttributeRequired {
                filtered.incomplete.push(resource.id.clone());
                missing = missing.union(ruling.missing);
            }
            ruling.reason
        });
        self.counts.add_all(reasons);
        filtered.missing = missing.iter().collect();
        Ok(self.answer(tenant, &view, filtered))
    }

    /// The conditions under which [`Decisions::check`] allows, for the caller's own query.
    ///
    /// # Errors
    /// As for [`Decisions::check`].
    pub async fn plan(
        &self,
        tenant: &TenantId,
        member: &MemberId,
        permission: &str,
        consistency: &Consistency,
    ) -> Result<Answer<Planned>, ServiceError> {
        let never = |reason| Planned { plan: QueryPlan::Never, denied: Some(reason) };
        let Some(view) = self.one(tenant, member, consistency).await? else {
            return Ok(no_tenant(never(DecisionReason::TenantNotFound)));
        };
        let permission = known(&view.catalog, permission)?;
        let planned = match (hopeless(&view), view.subject.as_deref()) {
            (None, Some(subject)) => {
                let plan = QueryPlan::of(subject, &view.catalog, permission);
                let denied = (plan == QueryPlan::Never).then(|| {
                    if subject.granted(&view.catalog, permission).is_empty() {
                        DecisionReason::PermissionNotGranted
                    } else {
                        DecisionReason::OutOfScope
                    }
                });
                Planned { plan, denied }
            }
            (reason, _) => never(reason.unwrap_or(DecisionReason::MemberNotFound)),
        };
        Ok(self.answer(tenant, &view, planned))
    }

    /// All that a member may do, and what its menus show.
    ///
    /// # Errors
    /// As for [`Decisions::check`].
    pub async fn effective(
        &self,
        tenant: &TenantId,
        member: &MemberId,
        consistency: &Consistency,
    ) -> Result<Answer<Effective>, ServiceError> {
        let Some(view) = self.one(tenant, member, consistency).await? else {
            let denied = Some(DecisionReason::TenantNotFound);
            return Ok(no_tenant(Effective { denied, ..Effective::default() }));
        };
        let effective = match view.subject.as_deref() {
            Some(subject) => Effective {
                permissions: subject.effective(&view.catalog).collect(),
                sections: subject.visible_sections(&view.catalog),
                roles: subject.roles.iter().map(|(role, _)| role.clone()).collect(),
                denied: hopeless(&view),
            },
            None => Effective { denied: hopeless(&view), ..Effective::default() },
        };
        Ok(self.answer(tenant, &view, effective))
    }

    /// One member: at hand if it is fresh enough there.
    async fn one(
        &self,
        tenant: &TenantId,
        member: &MemberId,
        consistency: &Consistency,
    ) -> Result<Option<Arc<MemberView>>, ServiceError> {
        let freshness = self.tokens.freshness(tenant, consistency)?;
        let at_hand = self.at_hand(tenant.as_str(), freshness);
        if let Some(view) = at_hand.and_then(|tenant| tenant.member(member.as_str().as_bytes())) {
            return Ok(Some(view));
        }
        let view = self.view(tenant, std::slice::from_ref(member), freshness).await?;
        Ok(view.map(|TenantView { catalog, state, mut members, stale_since }| {
            let subject = members.remove(member);
            Arc::new(MemberView { catalog, state, subject, stale_since })
        }))
    }

    /// Many members at one state: at hand if all of them are, at the same.
    async fn many(
        &self,
        tenant: &TenantId,
        members: &[MemberId],
        consistency: &Consistency,
    ) -> Result<Option<TenantView>, ServiceError> {
        let freshness = self.tokens.freshness(tenant, consistency)?;
        let at_hand = self.at_hand(tenant.as_str(), freshness);
        match at_hand.and_then(|tenant| tenant.members(members)) {
            Some(view) => Ok(Some(view)),
            None => self.view(tenant, members, freshness).await,
        }
    }

    async fn view(
        &self,
        tenant: &TenantId,
        members: &[MemberId],
        freshness: Freshness,
    ) -> Result<Option<TenantView>, ServiceError> {
        let (source, tenant) = (Arc::clone(&self.source), tenant.clone());
        let members = members.to_vec();
        let load = async move { source.view(&tenant, &members, freshness).await };
        let view = match &self.loads_on {
            Some(runtime) => elsewhere(runtime, load).await?,
            None => load.await?,
        };
        if let (Some(view), Freshness::AtLeast(wanted)) = (&view, freshness)
            && view.state.revision() < wanted
        {
            return Err(Refusal::ConsistencyTokenAhead.into());
        }
        Ok(view)
    }

    /// The log of one call.
    fn log<'c>(
        &'c self,
        asker: Asker<'c>,
        tenant: &'c TenantId,
        view: Option<&'c MemberView>,
    ) -> CallLog<'c> {
        let at = view.map(|view| (&view.catalog, &*view.state, view.stale_since));
        CallLog { log: self.log.as_deref(), asker, tenant, at, recorded: 0 }
    }

    fn answer<T>(&self, tenant: &TenantId, view: &MemberView, value: T) -> Answer<T> {
        Answer {
            value,
            catalog: Some(Arc::clone(&view.catalog)),
            token: Some(self.token(tenant.as_str(), view).to_owned()),
            stale_since: view.stale_since,
        }
    }
}

/// Waits for what a runtime does, and ends it when nobody waits any more.
async fn elsewhere<T: Send + 'static>(
    runtime: &Handle,
    load: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, ServiceError> {
    let mut task = AbortOnDrop(runtime.spawn(load));
    let loaded = (&mut task.0).await;
    Ok(loaded
        .map_err(|error| ServiceError::Internal(format!("a load ended by itself: {error}")))??)
}

/// A task that ends when it is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn no_tenant<T>(value: T) -> Answer<T> {
    Answer { value, catalog: None, token: None, stale_since: None }
}

/// The permission's index, or a refusal: asking about one that does not exist is a bug.
pub(super) fn known(catalog: &Catalog, permission: &str) -> Result<PermissionIx, Refusal> {
    find(catalog, permission).map_err(|problem| Refusal::invalid("permission", problem))
}

fn find(catalog: &Catalog, permission: &str) -> Result<PermissionIx, Problem> {
    let unknown = || Problem::UnknownPermission { permission: permission.to_owned() };
    catalog.find(permission).ok_or_else(unknown)
}

fn decide(
    catalog: &Catalog,
    subject: Option<&Subject>,
    question: &Question,
) -> Result<Decision, Problem> {
    let permission = find(catalog, &question.permission)?;
    Ok(match subject {
        Some(subject) => subject.decide(catalog, permission, question.resource.as_ref()),
        None => Decision::denied(DecisionReason::MemberNotFound),
    })
}

fn bounded(field: &str, count: usize) -> Result<(), Refusal> {
    if count > MAX_BATCH {
        let problem = Problem::TooManyItems { count, limit: MAX_BATCH };
        return Err(Refusal::invalid(field, problem));
    }
    Ok(())
}
