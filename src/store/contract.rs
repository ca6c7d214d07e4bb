//! What the rest of the service relies on, whatever keeps the data.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, CatalogRef};
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::member::Subject;

/// Why the store could not do what it was asked. Never carries SQL, values or addresses for the
/// caller: those go to the log only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, is full, read-only or locked for too long, or its disk fails:
    /// a later try may succeed. The text is for the operator.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The tenant's audit trail goes on under another key than this program's, so the tenant cannot be
    /// changed by it: nothing was written. The text is for the operator.
    #[error("{0}")]
    AuditKeyMismatch(String),
    /// The database refused what this program should not have asked: a bug, that no retry helps
    /// against. The text is for the operator.
    #[error("the database refused a statement: {0}")]
    Internal(String),
    /// A row that cannot be understood: corruption, or a newer program wrote it.
    #[error("the database holds something that this program does not understand: {0}")]
    Corrupt(String),
    /// An id or a unique name was taken by a write that came first. Nothing was written; whoever
    /// looks again sees what is in the way.
    #[error("another write came first")]
    Conflict,
}

/// How fresh a decision must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// Whatever is at hand.
    #[default]
    MinimizeLatency,
    /// At least this revision of the tenant.
    AtLeast(u64),
    /// What the database says now.
    FullyConsistent,
}

/// A state of a tenant that answers are given at.
#[derive(Debug)]
pub struct State {
    epoch: u64,
    revision: u64,
    token: OnceLock<Box<str>>,
}

impl State {
    /// The state at this revision, in the epoch with this id.
    #[must_use]
    pub fn at(epoch: u64, revision: u64) -> Self {
        State { epoch, revision, token: OnceLock::new() }
    }

    /// The id of the epoch that the revision is of.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The tenant's revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The text that names the state to callers. Made once, for all answers that are given at it.
    pub fn token(&self, make: impl FnOnce() -> String) -> &str {
        self.token.get_or_init(|| make().into())
    }
}

/// One member of a tenant as decisions need it, at one state.
#[derive(Debug, Clone)]
pub struct MemberView {
    /// The catalog that it is decided by.
    pub catalog: Arc<Catalog>,
    /// The state that everything in here belongs to.
    pub state: Arc<State>,
    /// The member, if there is such a one.
    pub subject: Option<Arc<Subject>>,
    /// Set when the database is gone and this is what was held: as of this time.
    pub stale_since: Option<Timestamp>,
}

/// A tenant as decisions need it, at one state.
#[derive(Debug, Clone)]
pub struct TenantView {
    /// The catalog that it is decided by.
    pub catalog: Arc<Catalog>,
    /// The state that everything in here belongs to.
    pub state: Arc<State>,
    /// The members that were asked for and exist.
    pub members: HashMap<MemberId, Arc<Subject>>,
    /// Set when the database is gone and this is what was held: as of this time.
    pub stale_since: Option<Timestamp>,
}

/// Where decisions get what they need. Implemented by the database and, in front of it, by the
/// cache; both give the same answers.
pub trait DecisionSource: Send + Sync + 'static {
    /// The tenant and some of its members at one state; `None` when there is no such tenant in
    /// use.
    fn view(
        &self,
        tenant: &TenantId,
        members: &[MemberId],
        freshness: Freshness,
    ) -> impl Future<Output = Result<Option<TenantView>, StoreError>> + Send;

    /// Whether what is at hand may be decided from, now. To be asked before each message, not before
    /// each of its questions: it looks at the clock.
    fn is_current(&self) -> bool {
        false
    }

    /// One member without waiting for anything, if it is at hand and its state is at least this
    /// revision; for whoever was just told that it [is current](DecisionSource::is_current). An id
    /// is its bytes. Nothing says nothing: [`DecisionSource::view`] may still find it.
    fn at_hand(&self, tenant: &str, member: &[u8], at_least: u64) -> Option<Arc<MemberView>> {
        let _ = (tenant, member, at_least);
        None
    }
}

/// What a committed write touched: what followers must forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touched {
    /// These members.
    Members(Vec<MemberId>),
    /// These roles. A deletion with reassignment names both roles, and no member.
    Roles(Vec<RoleId>),
    /// Nothing that a decision depends on (a plan, say).
    Nothing,
    /// Everything: the tenant was made, deleted, restored or moved to another catalog version, or a
    /// member that must not be named any more was deleted.
    Tenant,
}

/// One committed change. Revisions of a tenant are dense: each change is one more than the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The tenant.
    pub tenant: TenantId,
    /// Its revision after the change.
    pub revision: u64,
    /// What it touched.
    pub touched: Touched,
}

/// Told of every change right after its commit, before the writer gets its answer. Two changes of
/// one tenant may be told in either order: what counts is their revisions.
pub trait ChangeListener: Send + Sync + 'static {
    /// The change is committed, in the epoch with this id.
    fn committed(&self, epoch: u64, change: &Change);
    /// A commit failed in a way that leaves open whether it happened: forget the tenant.
    fn uncertain(&self, tenant: &TenantId);
}

/// A catalog version as recorded in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCatalog {
    /// Id and version.
    pub reference: CatalogRef,
    /// Hash of the content, see [`Catalog::hash`].
    pub hash: String,
    /// Its TOML.
    pub source: String,
}
