//! The one place where a refusal or a failure becomes a status.
//!
//! Every status carries one `ErrorInfo`, whose reason is a value of `ErrorReason`. What a client is
//! told and what the operator is told are different texts: the client never sees SQL, paths or
//! anything else of a fault of ours, only the id under which the log has it.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt};
use uuid::Uuid;

use super::pb::ErrorReason;
use super::wording::{self, CHOICES, MISSING, Said, field, name, precondition_subject};
use crate::domain::refusal::{Refusal, Violation};
use crate::domain::throttle::Throttle;
use crate::service::ServiceError;
use crate::service::allowance::RateExceeded;
use crate::service::watch::{EndCause, RightsLost, WatchEnd};
use crate::store::StoreError;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "rolegate";

/// When to try again after a failure that passes.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many bytes of violations a status carries. Details travel in a header, and clients refuse
/// headers of more than 8 KiB or 16 KiB. Whoever mends these sees the others next.
const MAX_VIOLATION_BYTES: usize = 2_000;

/// The code that goes with a reason: one for each, always the same.
#[must_use]
pub fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::FieldRequired
        | ErrorReason::FieldTooLong
        | ErrorReason::FieldInvalid
        | ErrorReason::TooManyItems
        | ErrorReason::DuplicateItem
        | ErrorReason::FieldMaskInvalid
        | ErrorReason::UnknownPermission
        | ErrorReason::UnknownScope
        | ErrorReason::ScopeRequired
        | ErrorReason::ScopeNotAllowed
        | ErrorReason::DuplicateGrant
        | ErrorReason::PermissionNeverGrantable
        | ErrorReason::PermissionHeldByEveryone
        | ErrorReason::RequirementMissing
        | ErrorReason::UnknownRole
        | ErrorReason::TooManyRoles
        | ErrorReason::UnknownCatalog
        | ErrorReason::UnknownPlan
        | ErrorReason::PageTokenInvalid
        | ErrorReason::ConsistencyTokenInvalid
        | ErrorReason::ConsistencyTokenForeign
        | ErrorReason::ConsistencyTokenOtherTenant
        | ErrorReason::ConfirmationMismatch
        | ErrorReason::ReassignmentToItself
        | ErrorReason::CursorInvalid
        | ErrorReason::ActorNotApplicable
        | ErrorReason::MalformedMessage => Code::InvalidArgument,
        ErrorReason::TenantNotFound | ErrorReason::RoleNotFound | ErrorReason::MemberNotFound => {
            Code::NotFound
        }
        ErrorReason::TenantAlreadyExists
        | ErrorReason::MemberAlreadyExists
        | ErrorReason::RoleNameTaken => Code::AlreadyExists,
        ErrorReason::DefaultRoleImmutable
        | ErrorReason::RoleAssigned
        | ErrorReason::ReassignmentRequired
        | ErrorReason::ReassignmentNotSupported
        | ErrorReason::LastOwner
        | ErrorReason::CatalogNotNewer
        | ErrorReason::CatalogWidensAccess
        | ErrorReason::CatalogMoveBlocked
        | ErrorReason::TenantNotDeleted
        | ErrorReason::TenantDeleted
        | ErrorReason::RequestIdReused
        | ErrorReason::ConsistencyTokenAhead => Code::FailedPrecondition,
        ErrorReason::EtagMismatch | ErrorReason::ConcurrentChange | ErrorReason::WatchTooSlow => {
            Code::Aborted
        }
        ErrorReason::CustomRoleLimit
        | ErrorReason::MessageTooLarge
        | ErrorReason::ServerOverloaded
        | ErrorReason::RateLimited
        | ErrorReason::WatchStreamLimit => Code::ResourceExhausted,
        ErrorReason::CursorExpired => Code::OutOfRange,
        ErrorReason::ActorNotFound
        | ErrorReason::ActorArchived
        | ErrorReason::ActorNotPermitted
        | ErrorReason::ActorIsSubject
        | ErrorReason::OwnerRequired
        | ErrorReason::ActorOutranked
        | ErrorReason::ActorLacksGrant => Code::PermissionDenied,
        ErrorReason::MethodNotFound => Code::Unimplemented,
        ErrorReason::CallerUnauthenticated => Code::Unauthenticated,
        ErrorReason::CapabilityMissing | ErrorReason::TenantNotAllowed => Code::PermissionDenied,
        ErrorReason::TimedOut => Code::DeadlineExceeded,
        ErrorReason::DatabaseUnavailable
        | ErrorReason::AuditKeyMismatch
        | ErrorReason::ServerDraining => Code::Unavailable,
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}

/// A status for what no use case knows of: the transport, or the server itself.
#[must_use]
pub fn refuse(reason: ErrorReason, message: &str, metadata: &[(&'static str, String)]) -> Status {
    let said = Said::new(reason, message);
    of(metadata.iter().fold(said, |said, (key, value)| said.with(key, value)))
}

/// The same where the protocol asks for another code than the reason's own.
pub(super) fn refuse_as(code: Code, reason: ErrorReason, message: &str) -> Status {
    with_details(code, Said::new(reason, message), ErrorDetails::new())
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refusal) => refusal.into(),
            ServiceError::Store(StoreError::Unavailable(detail)) => {
                static REFUSED: Throttle = Throttle::each_second();
                if let Some(more) = REFUSED.admit() {
                    tracing::warn!(
                        detail,
                        more,
                        "a call was refused: the database is not available"
                    );
                }
                of(Said::new(
                    ErrorReason::DatabaseUnavailable,
                    "The database does not answer, so this call has no answer. Try again in a second. A \
                     write may have been made all the same: repeat it with its request_id.",
                ))
            }
            ServiceError::Store(StoreError::AuditKeyMismatch(detail)) => {
                tracing::warn!(detail, "the audit key does not fit");
                of(Said::new(
                    ErrorReason::AuditKeyMismatch,
                    "The tenant's audit trail goes on under another key than this server has, so the \
                     tenant cannot be changed here, and nothing was written. Its operator has to give \
                     the server that key, or to finish the change of keys; try again then.",
                ))
            }
            ServiceError::Store(StoreError::Conflict) => of(Said::new(
                ErrorReason::ConcurrentChange,
                "Another write came first and nothing was written. Read again and retry.",
            )),
            ServiceError::Store(StoreError::Corrupt(detail) | StoreError::Internal(detail))
            | ServiceError::Internal(detail) => internal(&detail),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Invalid(violations) => match violations.first() {
                Some(first) => invalid(first, violations),
                None => internal("a request was refused as invalid without a violation"),
            },
            other => {
                let said = wording::refusal(other);
                let mut details = ErrorDetails::new();
                match code(said.reason) {
                    Code::FailedPrecondition => {
                        details.set_precondition_failure([PreconditionViolation::new(
                            name(said.reason),
                            precondition_subject(other),
                            &said.message,
                        )]);
                    }
                    Code::ResourceExhausted => {
                        let about = said.metadata.first();
                        let about = about.map(|(key, value)| format!("{key}/{value}"));
                        details.set_quota_failure([QuotaViolation::new(
                            about.unwrap_or_default(),
                            &said.message,
                        )]);
                    }
                    _ => {}
                }
                with_details(code(said.reason), said, details)
            }
        }
    }
}

impl From<RateExceeded> for Status {
    fn from(exceeded: RateExceeded) -> Self {
        let said = wording::rate_limited(&exceeded);
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(wording::retry_after(&exceeded)));
        let subject = format!("caller/{}", exceeded.caller);
        details.set_quota_failure([QuotaViolation::new(subject, &said.message)]);
        with_details(code(said.reason), said, details)
    }
}

/// The end of a CheckStream whose server goes away.
pub(super) fn stream_draining() -> Status {
    of(wording::stream_draining())
}

/// The end of a CheckStream whose caller lost its rights.
pub(super) fn stream_rights_lost(lost: RightsLost) -> Status {
    of(wording::stream_rights_lost(lost))
}

impl From<WatchEnd> for Status {
    fn from(WatchEnd { why, cursor }: WatchEnd) -> Self {
        match why {
            EndCause::Slow { patience } => of(wording::too_slow(patience, &cursor)),
            EndCause::Draining => of(wording::draining(&cursor)),
            EndCause::Database => of(wording::database_gone(&cursor)),
            EndCause::Expired(loss) => Refusal::CursorExpired(loss).into(),
            EndCause::Revoked(lost) => of(wording::rights_lost(lost, &cursor)),
            EndCause::Failed(detail) => internal(&detail),
        }
    }
}

/// Every violation at once; the first one gives the reason.
fn invalid(first: &Violation, violations: &[Violation]) -> Status {
    let mut said = wording::problem(&first.problem);
    said.message = format!("{}: {}", field(first), said.message);
    if violations.len() > 1 {
        said.message.push_str(" More is wrong: see the field violations.");
    }
    let mut reasons = Distinct::default();
    // Where requirements are missing, every violation adds to these: see `error_reason.proto`.
    let (mut missing, mut choices) = (Distinct::default(), Distinct::default());
    let mut shown = Vec::new();
    let mut bytes = 0;
    for violation in violations {
        let Said { reason, message, metadata } = wording::problem(&violation.problem);
        reasons.add(name(reason));
        for (key, value) in &metadata {
            match *key {
                MISSING => missing.add(value),
                CHOICES => choices.add(value),
                _ => {}
            }
        }
        let field = field(violation);
        bytes += field.len() + message.len() + name(reason).len();
        if bytes <= MAX_VIOLATION_BYTES || shown.is_empty() {
            let mut violation = FieldViolation::new(field, message);
            violation.reason = name(reason).to_owned();
            shown.push(violation);
        }
    }
    said = said.with("reasons", reasons.joined(","));
    for (key, values) in [(MISSING, missing), (CHOICES, choices)] {
        if !values.0.is_empty() {
            said = said.with(key, values.joined(";"));
        }
    }
    let mut details = ErrorDetails::new();
    details.set_bad_request(shown);
    with_details(code(said.reason), said, details)
}

/// Texts in the order in which they first came, each once.
#[derive(Default)]
struct Distinct(Vec<String>);

impl Distinct {
    fn add(&mut self, text: &str) {
        if !self.0.iter().any(|known| known == text) {
            self.0.push(text.to_owned());
        }
    }

    fn joined(&self, separator: &str) -> String {
        self.0.join(separator)
    }
}

/// A fault of ours: the log has the details, the client an id to find them by.
pub(crate) fn internal(detail: &str) -> Status {
    let request = Uuid::new_v4();
    // Each can be asked for by its id; a client that repeats one for ever must not fill the disk.
    static FAULTS: Throttle = Throttle::new(20, Duration::from_secs(1));
    if let Some(more) = FAULTS.admit() {
        tracing::error!(%request, detail, more, "internal fault");
    }
    let message = format!(
        "A fault of the service; nothing is wrong with the request. Its log has the details under \
         {request}."
    );
    of(Said::new(ErrorReason::Internal, message).with("request", request))
}

fn of(said: Said) -> Status {
    with_details(code(said.reason), said, ErrorDetails::new())
}

fn with_details(code: Code, said: Said, mut details: ErrorDetails) -> Status {
    let Said { reason, message, metadata } = said;
    let metadata: std::collections::HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    details.set_error_info(name(reason), DOMAIN, metadata);
    if code == Code::Unavailable || reason == ErrorReason::ServerOverloaded {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code, message, details)
}
