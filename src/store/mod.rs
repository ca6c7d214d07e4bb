//! Where tenants, roles and members are kept: the contract, and its SeaORM implementation.
//!
//! The only place that knows tables and transactions. A [`ReadTx`] sees one state; a [`WriteTx`]
//! is one change of one tenant, and everything that a `ReadTx` can read can be read in it too.

mod audit;
mod bounded;
mod busiest;
mod cache;
mod candidates;
mod catalogs;
mod chain;
mod cold;
mod contract;
mod entity;
mod erase;
mod error;
mod facts;
mod follow;
mod history;
mod holders;
mod housekeeping;
mod listed;
mod meaning;
mod members;
mod open;
mod reach;
mod read;
mod renewal;
mod requests;
mod role_counts;
mod rows;
mod source;
mod sql;
mod transaction;
mod turns;
mod wake;
mod write;

pub use audit::{AuditEntry, AuditEvent, AuditFilter};
pub use cache::{CacheStats, Cached, FollowLimits, Following, Moment, Standing};
pub use catalogs::RecordOutcome;
pub use chain::{
    AuditKey, AuditKeyChoice, BadKey, Checkpoint, Finding, Head, Keyring, Record, Rotated,
    SignedHead, TrailState, Verified, Verifier,
};
pub use contract::*;
pub use error::OpenError;
pub use facts::{PoolStats, newest_schema};
pub use follow::{
    BadPosition, ChangePosition, FollowCursor, Followed, OrderedChanges, SequencedChange,
};
pub use history::{Epoch, EpochCounts, History, NewEpoch, Unfit};
pub use members::MemberFilter;
pub use open::{DatabaseIdentity, OpenOptions};
pub use read::ReadTx;
pub use requests::{Remembered, RequestKey, Response};
pub use role_counts::{RoleCount, RoleMembers};
pub use source::{Seen, compiled_roles, subject};
pub use sql::SqlStore;
pub use wake::Wakeups;
pub use write::WriteTx;
