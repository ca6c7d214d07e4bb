//! One member and one permission, ready to be asked about many resources: what they have in common is
//! looked up once.

use std::sync::Arc;

use crate::domain::catalog::PermissionIx;
use crate::domain::decision::{Decision, DecisionReason, Ruling};
use crate::domain::member::MemberStatus;
use crate::domain::resource::Described;
use crate::store::MemberView;

/// Decides about any resource as a check would.
#[derive(Debug, Clone)]
pub struct Sieve {
    /// The member, the catalog, and the state.
    pub view: Arc<MemberView>,
    permission: PermissionIx,
    /// Why none can be allowed, whatever they are.
    pub denied: Option<DecisionReason>,
}

impl Sieve {
    /// For this permission of the view's catalog.
    pub(super) fn new(view: Arc<MemberView>, permission: PermissionIx) -> Self {
        let denied = hopeless(&view).or_else(|| {
            let subject = view.subject.as_deref()?;
            let granted = subject.granted(&view.catalog, permission);
            granted.is_empty().then_some(DecisionReason::PermissionNotGranted)
        });
        Sieve { view, permission, denied }
    }

    /// The decision about one resource.
    pub fn rule<R: Described>(&self, resource: &R) -> Ruling {
        match (self.denied, self.view.subject.as_deref()) {
            (None, Some(subject)) => {
                subject.rule(&self.view.catalog, self.permission, Some(resource))
            }
            (denied, _) => Ruling::denied(denied.unwrap_or(DecisionReason::MemberNotFound)),
        }
    }

    /// The same, told in full.
    pub(super) fn told(&self, ruling: Ruling) -> Decision {
        match self.view.subject.as_deref() {
            Some(subject) => subject.told(self.permission, ruling),
            None => Decision::denied(ruling.reason),
        }
    }
}

/// Why a member is denied everything, if it is.
pub(super) fn hopeless(view: &MemberView) -> Option<DecisionReason> {
    match view.subject.as_deref().map(|subject| subject.status) {
        None => Some(DecisionReason::MemberNotFound),
        Some(MemberStatus::Archived) => Some(DecisionReason::MemberArchived),
        Some(MemberStatus::Active) => None,
    }
}
