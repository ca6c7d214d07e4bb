//! Why a request is refused: one type for every guard, with the values that a client needs to do
//! something about it. How it becomes a status is the API's business.

use serde::{Deserialize, Serialize};

use super::actor::ActorRefusal;
use super::grant::GrantProblem;
use super::ids::{MemberId, RoleId, TenantId};

/// Something wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Path of the field, such as `grants[3].scope`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What a length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Of UTF-8.
    Bytes,
    /// Unicode scalar values.
    Characters,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Problem {
    /// It must be set.
    Required,
    /// It is too long.
    TooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
        /// What is counted.
        unit: Unit,
    },
    /// Its value cannot be; the text says what can.
    Invalid(String),
    /// The list has too many entries.
    TooManyItems {
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The same id stands in the list already.
    Duplicate {
        /// The id.
        id: String,
    },
    /// The field mask is empty or names what cannot be changed.
    FieldMask {
        /// The paths that can be named.
        allowed: Vec<String>,
    },
    /// The catalog has no such permission (outside a list of grants).
    UnknownPermission {
        /// As it was given.
        permission: String,
    },
    /// Something about a grant.
    Grant(GrantProblem),
    /// No such role in the tenant.
    UnknownRole {
        /// As it was given.
        role: String,
    },
    /// More roles than a member may hold.
    TooManyRoles {
        /// How many it has.
        count: usize,
        /// How many the catalog allows.
        limit: usize,
    },
    /// No such catalog, or version of it.
    UnknownCatalog {
        /// As it was given.
        catalog: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The catalog has no such plan.
    UnknownPlan {
        /// As it was given.
        plan: String,
        /// What there is; empty: the catalog has no plans.
        known: Vec<String>,
    },
    /// Not a page token of this query.
    PageToken,
    /// Garbled, cut or forged.
    ConsistencyTokenInvalid,
    /// Another database's, or of an older epoch.
    ConsistencyTokenForeign,
    /// Of other tenants only.
    ConsistencyTokenOtherTenant,
    /// Not a cursor of a Watch on this database.
    CursorInvalid,
    /// Not the text that must be sent back.
    Confirmation {
        /// The text.
        expected: String,
    },
    /// The role being deleted.
    ReassignmentToItself,
    /// No member can do this: it is the platform's business.
    ActorNotApplicable,
}

impl Violation {
    /// A violation of a field.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: Problem) -> Self {
        Violation { field: field.into(), problem }
    }
}

/// Why a Watch cannot go on from a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorLoss {
    /// Changes behind it have been deleted, being old.
    Trimmed,
    /// A backup was restored since: what came before is another history.
    Restored,
    /// The database has not come that far: it was restored without being told.
    Ahead,
    /// Another server became the primary since, or one was promoted: what came before may be another
    /// history.
    FailedOver,
}

impl CursorLoss {
    /// Every kind, in the order of declaration.
    pub const ALL: [CursorLoss; 4] =
        [CursorLoss::Trimmed, CursorLoss::Restored, CursorLoss::Ahead, CursorLoss::FailedOver];

    /// A stable name, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CursorLoss::Trimmed => "trimmed",
            CursorLoss::Restored => "restored",
            CursorLoss::FailedOver => "failed_over",
            CursorLoss::Ahead => "ahead",
        }
    }
}

/// Why a request is refused. A refused request has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The request by itself is wrong: every violation at once, never empty.
    Invalid(Vec<Violation>),
    /// No such tenant, or not for this caller.
    TenantNotFound(TenantId),
    /// No such role in the tenant.
    RoleNotFound(RoleId),
    /// No such member in the tenant.
    MemberNotFound(MemberId),
    /// The id is taken.
    TenantAlreadyExists(TenantId),
    /// The caller is not for this tenant, so it may not make it.
    TenantNotAllowed(TenantId),
    /// The id is taken.
    MemberAlreadyExists(MemberId),
    /// The answer to a repeated request told of a member that was deleted since. Names nobody.
    AnswerErased,
    /// Another role has an equal name; `role` is that role.
    RoleNameTaken {
        /// The name as given.
        name: String,
        /// Who has it.
        role: RoleId,
    },
    /// Default roles cannot be changed.
    DefaultRoleImmutable(RoleId),
    /// Active members hold it.
    RoleAssigned {
        /// The role.
        role: RoleId,
        /// How many.
        active_members: u64,
    },
    /// The catalog asks where the role's members go.
    ReassignmentRequired {
        /// The role.
        role: RoleId,
        /// Active members who hold it.
        active_members: u64,
        /// Archived members who hold it.
        archived_members: u64,
    },
    /// The catalog knows no reassignment.
    ReassignmentNotSupported,
    /// No active owner would be left.
    LastOwner {
        /// The tenant.
        tenant: TenantId,
        /// The owner's role.
        owner_role: RoleId,
    },
    /// Not newer than what the tenant is on.
    CatalogNotNewer {
        /// The tenant's version.
        current: u32,
        /// The version asked for.
        requested: u32,
    },
    /// Roles would gain something, and the caller has not said that it has seen that.
    CatalogWidensAccess {
        /// Those roles' ids; an empty id stands for what everyone has.
        roles: Vec<String>,
    },
    /// Something of the tenant has no place in the newer version.
    CatalogMoveBlocked {
        /// What, and what to do.
        detail: String,
    },
    /// Only a deleted tenant can be brought back or purged.
    TenantNotDeleted(TenantId),
    /// It must be brought back first.
    TenantDeleted(TenantId),
    /// The request id stands for another request.
    RequestIdReused {
        /// The id.
        request_id: String,
    },
    /// The database is behind a token that it has signed itself.
    ConsistencyTokenAhead,
    /// Not as the caller last read it.
    EtagMismatch {
        /// The current one.
        current: String,
    },
    /// The preview whose etag was sent no longer holds.
    PreviewOutdated(PreviewLoss),
    /// The plan is used up.
    CustomRoleLimit {
        /// The plan.
        plan: String,
        /// How many it allows.
        limit: u32,
        /// How many there are.
        current: u64,
    },
    /// A Watch cannot go on from its cursor.
    CursorExpired(CursorLoss),
    /// As many clients watch as the server allows.
    WatchStreamLimit {
        /// How many that is.
        limit: usize,
        /// Whether they are all of one caller, who may have no more.
        per_caller: bool,
    },
    /// The member on whose behalf it was asked may not do it.
    Actor(ActorRefusal),
}

/// Reason why a preview does not hold for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PreviewLoss {
    /// Another change was previewed.
    OtherChange,
    /// The tenant has moved to another catalog version.
    Catalog,
    /// A role that decides what is gained and lost has changed.
    Roles,
    /// Other members hold the role, or one of them has other roles, teams or another status.
    Members,
    /// Another database, tenant or history made it, or it is no preview's at all.
    Unknown,
}

impl PreviewLoss {
    /// Name, as clients are given it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PreviewLoss::OtherChange => "change",
            PreviewLoss::Catalog => "catalog",
            PreviewLoss::Roles => "roles",
            PreviewLoss::Members => "members",
            PreviewLoss::Unknown => "unknown",
        }
    }
}

impl Refusal {
    /// The same of fields that stand in a part of the request.
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        let Refusal::Invalid(mut violations) = self else { return self };
        for violation in &mut violations {
            violation.field = format!("{part}.{}", violation.field);
        }
        Refusal::Invalid(violations)
    }

    /// A refusal for one field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, problem: Problem) -> Self {
        Refusal::Invalid(vec![Violation::new(field, problem)])
    }
}

impl Violation {
    /// What is wrong with a list of grants under the given field.
    #[must_use]
    pub fn of_grants(field: &str, problems: Vec<GrantProblem>) -> Vec<Violation> {
        let violation = |problem: GrantProblem| {
            let path = match &problem {
                GrantProblem::UnknownPermission { index, .. }
                | GrantProblem::Duplicate { index, .. }
                | GrantProblem::NeverGrantable { index, .. }
                | GrantProblem::HeldByEveryone { index, .. } => {
                    format!("{field}[{index}].permission")
                }
                GrantProblem::UnknownScope { index, .. }
                | GrantProblem::ScopeRequired { index, .. }
                | GrantProblem::ScopeNotAllowed { index, .. } => format!("{field}[{index}].scope"),
                GrantProblem::RequirementMissing { index: Some(index), .. } => {
                    format!("{field}[{index}]")
                }
                GrantProblem::RequirementMissing { index: None, .. } => field.to_owned(),
            };
            Violation::new(path, Problem::Grant(problem))
        };
        problems.into_iter().map(violation).collect()
    }
}
