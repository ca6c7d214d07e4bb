//! What happened, as seen from outside: every operation with its times and its answer. Times are
//! microseconds since the run began, taken by one clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::reference::model::{Grant, Resource};

/// A write that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    CreateTenant,
    DeleteTenant,
    UndeleteTenant,
    /// To the second version.
    MoveCatalog,
    CreateMember {
        member: String,
        roles: Vec<String>,
        teams: Vec<String>,
    },
    DeleteMember(String),
    SetTeams {
        member: String,
        teams: Vec<String>,
    },
    AssignRoles {
        member: String,
        roles: Vec<String>,
    },
    Archive(String),
    Restore(String),
    /// Its id is made by the service: the audit trail has it.
    CreateRole {
        grants: Vec<Grant>,
    },
    UpdateRole {
        role: String,
        grants: Vec<Grant>,
    },
    DeleteRole {
        role: String,
        to: String,
    },
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Acknowledged.
    Done { token: String },
    /// Refused: nothing may have changed.
    Refused(String),
    /// It failed, or its answer was lost: it may have been made.
    Unknown(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) tenant: String,
    pub(crate) replica: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Of this write alone; a retry has the same.
    pub(crate) request_id: String,
    pub(crate) op: Op,
    pub(crate) ending: Ending,
}

/// How fresh an answer was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    Latency,
    Token(String),
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) member: String,
    pub(crate) permission: String,
    pub(crate) resource: Option<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
    pub(crate) decided_by: BTreeSet<(String, Option<String>)>,
}

/// The answers to all questions of one call.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) verdicts: Vec<Verdict>,
    /// Empty: there is no such tenant.
    pub(crate) token: String,
    pub(crate) stale_since: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) tenant: String,
    pub(crate) replica: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) want: Want,
    pub(crate) questions: Vec<Question>,
    /// Or the code of the failure.
    pub(crate) answer: Result<Answer, String>,
}

/// A committed write, as the tenant's audit trail tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) revision: u64,
    pub(crate) request_id: String,
    pub(crate) roles: Vec<String>,
}

/// One run.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// How long a committed write may go unseen where no token asks for it, in microseconds.
    pub(crate) bound: u64,
    /// Whether the database failed on purpose: then operations may fail, and answers be stale.
    pub(crate) faults: bool,
    pub(crate) writes: Vec<Write>,
    pub(crate) checks: Vec<Check>,
    /// By tenant, read when all was over.
    pub(crate) trail: BTreeMap<String, Vec<Committed>>,
}
