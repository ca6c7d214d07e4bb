//! What is at hand: questions decided from memory, without waiting and without allocating. What is not
//! at hand, or not certain, is left to [`Decisions`]' other methods, which decide the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::counts::Tally;
use super::decide::Decisions;
use super::decision_log::{Asker, Entry};
use super::sieve::Sieve;
use crate::domain::Timestamp;
use crate::domain::catalog::PermissionIx;
use crate::domain::decision::{Decision, DecisionReason, Ruling};
use crate::domain::ids::{MemberId, TenantId};
use crate::domain::resource::Described;
use crate::store::{DecisionSource, Freshness, MemberView, TenantView};

/// What is at hand of one tenant, for one message: it was current when this was made.
#[derive(Debug)]
pub struct AtHand<'a, S> {
    source: &'a S,
    tenant: &'a str,
    at_least: u64,
}

/// A question that was decided, with the state that it was decided at.
#[derive(Debug, Clone)]
pub struct Made {
    /// The member, the catalog, and the state.
    pub view: Arc<MemberView>,
    /// What was asked about.
    pub permission: PermissionIx,
    /// The answer.
    pub ruling: Ruling,
}

impl<S: DecisionSource> AtHand<'_, S> {
    /// One question: the very decision of [`Decisions::check`]. Ids are their bytes. Nothing says
    /// nothing: that one may still answer, or refuse. Not counted: see [`Decisions::count`].
    pub fn check<R: Described>(
        &self,
        member: &[u8],
        permission: &[u8],
        resource: Option<&R>,
    ) -> Option<Made> {
        let view = self.member(member)?;
        let permission = view.catalog.find_bytes(permission)?;
        let ruling = match view.subject.as_deref() {
            Some(subject) => subject.rule(&view.catalog, permission, resource),
            None => Ruling::denied(DecisionReason::MemberNotFound),
        };
        Some(Made { view, permission, ruling })
    }

    /// One member and one permission, for [`Decisions::filter`] of many resources. What it decides is
    /// neither counted nor logged.
    #[must_use]
    pub fn sieve(&self, member: &[u8], permission: &[u8]) -> Option<Sieve> {
        let view = self.member(member)?;
        let permission = view.catalog.find_bytes(permission)?;
        Some(Sieve::new(view, permission))
    }

    pub(super) fn member(&self, member: &[u8]) -> Option<Arc<MemberView>> {
        self.source.at_hand(self.tenant, member, self.at_least)
    }

    /// All of them, if they are of one state.
    pub(super) fn members(&self, members: &[MemberId]) -> Option<TenantView> {
        let mut views = members.iter().map(|member| self.member(member.as_str().as_bytes()));
        let first = views.next()??;
        let mut found = HashMap::with_capacity(members.len());
        for view in std::iter::once(Some(Arc::clone(&first))).chain(views) {
            let view = view?;
            if !Arc::ptr_eq(&view.state, &first.state) {
                return None;
            }
            found.extend(view.subject.clone().map(|subject| (subject.id.clone(), subject)));
        }
        let MemberView { catalog, state, subject: _, stale_since } = MemberView::clone(&first);
        Some(TenantView { catalog, state, members: found, stale_since })
    }
}

impl Made {
    /// The decision, with all that a person may want to know of it.
    fn decision(&self) -> Decision {
        match self.view.subject.as_deref() {
            Some(subject) => subject.told(self.permission, self.ruling),
            None => Decision::denied(self.ruling.reason),
        }
    }
}

impl<S: DecisionSource> Decisions<S> {
    /// What is at hand of a tenant, to be asked at once. Nothing where nothing at hand is fresh enough.
    #[must_use]
    pub fn at_hand<'a>(&'a self, tenant: &'a str, freshness: Freshness) -> Option<AtHand<'a, S>> {
        let at_least = match freshness {
            Freshness::MinimizeLatency => 0,
            Freshness::AtLeast(revision) => revision,
            Freshness::FullyConsistent => return None,
        };
        let source = &*self.source;
        source.is_current().then_some(AtHand { source, tenant, at_least })
    }

    /// Records a decision that was made at hand, if it is one of those that are wanted. `recorded` is
    /// how many of its call were, `resource` the caller's id for it, if it gave one.
    #[inline]
    pub fn log_at_hand(
        &self,
        asker: Asker<'_>,
        (item, recorded): (Option<usize>, &mut usize),
        (tenant, member, permission, resource): (&str, &[u8], &[u8], &[u8]),
        made: &Made,
    ) {
        if let Some(log) = self.log.as_deref()
            && log.wants()
            && log.may_record(recorded)
        {
            let text = |bytes| String::from_utf8_lossy(bytes);
            log.record(Entry {
                at: Timestamp::now(),
                caller: asker.caller.to_owned(),
                method: asker.method,
                item,
                tenant: TenantId::trusted(tenant),
                member: MemberId::trusted(&text(member)),
                permission: text(permission).into_owned(),
                resource: Some(text(resource).into_owned()).filter(|id| !id.is_empty()),
                decision: made.decision(),
                catalog: Some(Arc::clone(&made.view.catalog)),
                revision: Some(made.view.state.revision()),
                stale_since: made.view.stale_since,
            });
        }
    }

    /// Whether any decisions are recorded.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// Counts a decision that is answered with.
    pub fn count_one(&self, answered: DecisionReason) {
        self.counts.add(answered, 1);
    }

    /// The same of many.
    pub fn count(&self, answered: &Tally) {
        self.counts.add_tally(answered);
    }
}
