//! Every refusal and every failure as a status.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::domain::actor::{ActorRefusal, Better, Lack, Missing};
use crate::domain::grant::{Choice, GrantProblem};
use crate::domain::ids::{MemberId, RoleId, TenantId};
use crate::domain::refusal::{CursorLoss, PreviewLoss, Problem, Refusal, Unit, Violation};
use crate::domain::relation::Relation;
use crate::grpc::pb::ErrorReason;
use crate::grpc::status::{DOMAIN, code};
use crate::grpc::{item_error, status, wording};
use crate::service::ServiceError;
use crate::service::allowance::{RateExceeded, RateLimit};
use crate::service::caller::Capability;
use crate::service::watch::{EndCause, RightsLost, WatchEnd};
use crate::store::StoreError;

/// Made by the layer over all services, or by the server itself.
const MADE_ELSEWHERE: [ErrorReason; 8] = [
    ErrorReason::Unspecified,
    ErrorReason::CallerUnauthenticated,
    ErrorReason::CapabilityMissing,
    ErrorReason::MalformedMessage,
    ErrorReason::MessageTooLarge,
    ErrorReason::MethodNotFound,
    ErrorReason::ServerOverloaded,
    ErrorReason::TimedOut,
];

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The places of these in the lists below; a new variant breaks the build here until it has one.
fn place_of_problem(problem: &Problem) -> usize {
    match problem {
        Problem::Required => 0,
        Problem::TooLong { unit: Unit::Bytes, .. } => 1,
        Problem::TooLong { unit: Unit::Characters, .. } => 2,
        Problem::Invalid(_) => 3,
        Problem::TooManyItems { .. } => 4,
        Problem::Duplicate { .. } => 5,
        Problem::FieldMask { .. } => 6,
        Problem::UnknownPermission { .. } => 7,
        Problem::UnknownRole { .. } => 8,
        Problem::TooManyRoles { .. } => 9,
        Problem::UnknownCatalog { .. } => 10,
        Problem::UnknownPlan { known, .. } => 11 + usize::from(known.is_empty()),
        Problem::PageToken => 13,
        Problem::ConsistencyTokenInvalid => 14,
        Problem::ConsistencyTokenForeign => 15,
        Problem::ConsistencyTokenOtherTenant => 16,
        Problem::Confirmation { .. } => 17,
        Problem::ReassignmentToItself => 18,
        Problem::CursorInvalid => 31,
        Problem::Grant(problem) => match problem {
            GrantProblem::UnknownPermission { .. } => 19,
            GrantProblem::UnknownScope { .. } => 20,
            GrantProblem::ScopeRequired { .. } => 21,
            GrantProblem::ScopeNotAllowed { follows, .. } => 22 + usize::from(follows.is_none()),
            GrantProblem::Duplicate { .. } => 24,
            GrantProblem::NeverGrantable { .. } => 25,
            GrantProblem::HeldByEveryone { .. } => 26,
            GrantProblem::RequirementMissing { choices, expandable, .. } => {
                match (choices.len(), expandable) {
                    (_, true) => 27,
                    (0, false) => 28,
                    (1, false) => 29,
                    (_, false) => 30,
                }
            }
        },
        Problem::ActorNotApplicable => 32,
    }
}

fn problems() -> Vec<Problem> {
    let permission = || "ticket.delete".to_owned();
    let missing = |choices: &[(&str, &[&str])], expandable| {
        let choice = |(permission, scopes): &(&str, &[&str])| Choice {
            permission: (*permission).to_owned(),
            scopes: texts(scopes),
        };
        Problem::Grant(GrantProblem::RequirementMissing {
            index: Some(0),
            permission: permission(),
            choices: choices.iter().map(choice).collect(),
            expandable,
        })
    };
    vec![
        Problem::Required,
        Problem::TooLong { length: 129, limit: 128, unit: Unit::Bytes },
        Problem::TooLong { length: 101, limit: 100, unit: Unit::Characters },
        Problem::Invalid("must not be negative".into()),
        Problem::TooManyItems { count: 10_001, limit: 10_000 },
        Problem::Duplicate { id: "kim".into() },
        Problem::FieldMask { allowed: texts(&["name", "description", "grants"]) },
        Problem::UnknownPermission { permission: "ticket.delte".into() },
        Problem::UnknownRole { role: "boss".into() },
        Problem::TooManyRoles { count: 2, limit: 1 },
        Problem::UnknownCatalog {
            catalog: "zendesk".into(),
            known: texts(&["oqupie@1", "qpien@1"]),
        },
        Problem::UnknownPlan { plan: "gold".into(), known: texts(&["free", "basic", "pro"]) },
        Problem::UnknownPlan { plan: "gold".into(), known: vec![] },
        Problem::PageToken,
        Problem::ConsistencyTokenInvalid,
        Problem::ConsistencyTokenForeign,
        Problem::ConsistencyTokenOtherTenant,
        Problem::Confirmation { expected: "delete Night shift".into() },
        Problem::ReassignmentToItself,
        Problem::Grant(GrantProblem::UnknownPermission {
            index: 0,
            permission: "ticket.delte".into(),
        }),
        Problem::Grant(GrantProblem::UnknownScope {
            index: 0,
            permission: "ticket.work".into(),
            scope: "own".into(),
            allowed: texts(&["group", "all"]),
        }),
        Problem::Grant(GrantProblem::ScopeRequired {
            index: 0,
            permission: "ticket.work".into(),
            allowed: texts(&["group", "all"]),
        }),
        Problem::Grant(GrantProblem::ScopeNotAllowed {
            index: 0,
            permission: permission(),
            follows: Some("ticket.work".into()),
        }),
        Problem::Grant(GrantProblem::ScopeNotAllowed {
            index: 0,
            permission: "chat.view".into(),
            follows: None,
        }),
        Problem::Grant(GrantProblem::Duplicate { index: 1, permission: permission() }),
        Problem::Grant(GrantProblem::NeverGrantable {
            index: 0,
            permission: "account.manage".into(),
        }),
        Problem::Grant(GrantProblem::HeldByEveryone {
            index: 0,
            permission: "customer.view".into(),
        }),
        missing(&[("ticket.work", &["group", "all"])], true),
        missing(&[], false),
        missing(&[("ticket.work", &[])], false),
        missing(&[("report.daily.view", &[]), ("ticket.work", &["all"])], false),
        Problem::CursorInvalid,
        Problem::ActorNotApplicable,
    ]
}

/// As [`place_of_problem`].
fn place_of_refusal(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Invalid(_) => 0,
        Refusal::TenantNotFound(_) => 1,
        Refusal::RoleNotFound(_) => 2,
        Refusal::MemberNotFound(_) => 3,
        Refusal::AnswerErased => 4,
        Refusal::TenantAlreadyExists(_) => 5,
        Refusal::MemberAlreadyExists(_) => 6,
        Refusal::RoleNameTaken { .. } => 7,
        Refusal::DefaultRoleImmutable(_) => 8,
        Refusal::RoleAssigned { .. } => 9,
        Refusal::ReassignmentRequired { .. } => 10,
        Refusal::ReassignmentNotSupported => 11,
        Refusal::LastOwner { .. } => 12,
        Refusal::CatalogNotNewer { .. } => 13,
        Refusal::CatalogWidensAccess { .. } => 14,
        Refusal::CatalogMoveBlocked { .. } => 15,
        Refusal::TenantNotDeleted(_) => 16,
        Refusal::TenantDeleted(_) => 17,
        Refusal::RequestIdReused { .. } => 18,
        Refusal::ConsistencyTokenAhead => 19,
        Refusal::EtagMismatch { .. } => 20,
        Refusal::PreviewOutdated(loss) => 21 + *loss as usize,
        Refusal::CustomRoleLimit { .. } => 26,
        Refusal::CursorExpired(loss) => 27 + *loss as usize,
        Refusal::WatchStreamLimit { per_caller, .. } => 31 + usize::from(*per_caller),
        Refusal::TenantNotAllowed(_) => 33,
        Refusal::Actor(refused) => 34 + place_of_actor_refusal(refused),
    }
}

/// As [`place_of_problem`], where there are several of one kind, each.
fn place_of_actor_refusal(refused: &ActorRefusal) -> usize {
    match refused {
        ActorRefusal::NotFound { .. } => 0,
        ActorRefusal::Archived { .. } => 1,
        ActorRefusal::NotPermitted { .. } => 2,
        ActorRefusal::IsSubject { .. } => 3,
        ActorRefusal::OwnerRequired { .. } => 4,
        ActorRefusal::Outranked { by: Better::Member(_), in_teams: false, .. } => 5,
        ActorRefusal::Outranked { by: Better::Role(_), in_teams: false, .. } => 6,
        ActorRefusal::LacksGrant { in_teams: false, .. } => 7,
        ActorRefusal::LacksGrant { in_teams: true, .. } => 8,
        ActorRefusal::Outranked { by: Better::Member(_), in_teams: true, .. } => 9,
        ActorRefusal::Outranked { by: Better::Role(_), in_teams: true, .. } => 10,
    }
}

fn lack(count: usize) -> Lack {
    let missing = |permission: &str, relations: &[Relation]| Missing {
        permission: permission.into(),
        relations: relations.iter().copied().collect(),
    };
    let missing = vec![
        missing("billing.manage", &[]),
        missing("conversation.view", &[Relation::Team, Relation::Pool]),
    ];
    Lack { missing, count }
}

fn refused_to_an_actor() -> Vec<ActorRefusal> {
    let actor = || MemberId::trusted("kim");
    let role = || RoleId::trusted("night-shift");
    vec![
        ActorRefusal::NotFound { actor: actor() },
        ActorRefusal::Archived { actor: actor() },
        ActorRefusal::NotPermitted { actor: actor(), permission: "settings.roles.manage".into() },
        ActorRefusal::IsSubject { actor: actor() },
        ActorRefusal::OwnerRequired { actor: actor(), owner_role: RoleId::trusted("owner") },
        ActorRefusal::Outranked {
            actor: actor(),
            by: Better::Member(MemberId::trusted("lee")),
            lack: lack(2),
            in_teams: false,
        },
        ActorRefusal::Outranked {
            actor: actor(),
            by: Better::Role(role()),
            lack: lack(3),
            in_teams: false,
        },
        ActorRefusal::LacksGrant { actor: actor(), role: None, lack: lack(7), in_teams: false },
        ActorRefusal::LacksGrant {
            actor: actor(),
            role: Some(role()),
            lack: lack(2),
            in_teams: true,
        },
        ActorRefusal::Outranked {
            actor: actor(),
            by: Better::Member(MemberId::trusted("lee")),
            lack: lack(2),
            in_teams: true,
        },
        ActorRefusal::Outranked {
            actor: actor(),
            by: Better::Role(role()),
            lack: lack(2),
            in_teams: true,
        },
    ]
}

fn refusals() -> Vec<Refusal> {
    let mut refusals = other_refusals();
    refusals.extend(refused_to_an_actor().into_iter().map(Refusal::Actor));
    refusals
}

fn other_refusals() -> Vec<Refusal> {
    let tenant = || TenantId::trusted("acme");
    let role = || RoleId::trusted("night-shift");
    vec![
        Refusal::Invalid(vec![
            Violation::new("name", Problem::Required),
            Violation::new("page_size", Problem::Invalid("must not be negative".into())),
        ]),
        Refusal::TenantNotFound(tenant()),
        Refusal::RoleNotFound(role()),
        Refusal::MemberNotFound(MemberId::trusted("kim")),
        Refusal::AnswerErased,
        Refusal::TenantAlreadyExists(tenant()),
        Refusal::MemberAlreadyExists(MemberId::trusted("kim")),
        Refusal::RoleNameTaken { name: "Night Shift".into(), role: role() },
        Refusal::DefaultRoleImmutable(RoleId::trusted("admin")),
        Refusal::RoleAssigned { role: role(), active_members: 1 },
        Refusal::ReassignmentRequired { role: role(), active_members: 3, archived_members: 1 },
        Refusal::ReassignmentNotSupported,
        Refusal::LastOwner { tenant: tenant(), owner_role: RoleId::trusted("owner") },
        Refusal::CatalogNotNewer { current: 2, requested: 1 },
        Refusal::CatalogWidensAccess { roles: texts(&["", "agent"]) },
        Refusal::CatalogMoveBlocked {
            detail: "3 members hold the role agent, which small@3 no longer has".into(),
        },
        Refusal::TenantNotDeleted(tenant()),
        Refusal::TenantDeleted(tenant()),
        Refusal::RequestIdReused { request_id: "r1".into() },
        Refusal::ConsistencyTokenAhead,
        Refusal::EtagMismatch { current: "7".into() },
        Refusal::PreviewOutdated(PreviewLoss::OtherChange),
        Refusal::PreviewOutdated(PreviewLoss::Catalog),
        Refusal::PreviewOutdated(PreviewLoss::Roles),
        Refusal::PreviewOutdated(PreviewLoss::Members),
        Refusal::PreviewOutdated(PreviewLoss::Unknown),
        Refusal::CustomRoleLimit { plan: "enterprise".into(), limit: 5, current: 5 },
        Refusal::CursorExpired(CursorLoss::Trimmed),
        Refusal::CursorExpired(CursorLoss::Restored),
        Refusal::CursorExpired(CursorLoss::Ahead),
        Refusal::CursorExpired(CursorLoss::FailedOver),
        Refusal::WatchStreamLimit { limit: 100, per_caller: false },
        Refusal::WatchStreamLimit { limit: 50, per_caller: true },
        Refusal::TenantNotAllowed(tenant()),
    ]
}

fn failures() -> Vec<ServiceError> {
    vec![
        StoreError::Conflict.into(),
        StoreError::Unavailable("secret: /var/lib/rolegate.db".into()).into(),
        StoreError::AuditKeyMismatch("secret: 0123456789abcdef".into()).into(),
        StoreError::Corrupt("secret: SELECT".into()).into(),
        StoreError::Internal("secret: SELECT".into()).into(),
        ServiceError::Internal("secret".into()),
    ]
}

fn statuses() -> Vec<Status> {
    let of_problem = |problem| Status::from(Refusal::invalid("grants[0]", problem));
    let refusals = refusals().into_iter().map(Status::from);
    let problems = problems().into_iter().map(of_problem);
    let failures = failures().into_iter().map(Status::from);
    let ends = watch_ends().map(Status::from).chain(stream_ends());
    let rates = rates().map(Status::from);
    refusals.chain(problems).chain(failures).chain(ends).chain(rates).collect()
}

fn rates() -> impl Iterator<Item = RateExceeded> {
    let exceeded = |per_second, burst, questions, retry_after| RateExceeded {
        caller: "chat".into(),
        limit: RateLimit::new(per_second, burst),
        questions,
        retry_after,
    };
    [
        exceeded(50_000, None, 10_000, Duration::from_micros(40_001)),
        exceeded(1, Some(20), 1, Duration::from_secs(1)),
    ]
    .into_iter()
}

fn stream_ends() -> [Status; 3] {
    [
        status::stream_draining(),
        status::stream_rights_lost(RightsLost::Proof),
        status::stream_rights_lost(RightsLost::Capability(Capability::Check)),
    ]
}

fn watch_ends() -> impl Iterator<Item = WatchEnd> {
    let end = |why| WatchEnd { why, cursor: "c".into() };
    [
        EndCause::Slow { patience: Duration::from_secs(10) },
        EndCause::Draining,
        EndCause::Database,
        EndCause::Expired(CursorLoss::Trimmed),
        EndCause::Revoked(RightsLost::Proof),
        EndCause::Revoked(RightsLost::Capability(Capability::Watch)),
        EndCause::Failed("secret: SELECT".into()),
    ]
    .into_iter()
    .map(end)
}

#[test]
fn every_variant_is_in_a_case() {
    let places: Vec<_> = problems().iter().map(place_of_problem).collect();
    assert_eq!(places, (0..places.len()).collect::<Vec<_>>());
    let places: Vec<_> = refusals().iter().map(place_of_refusal).collect();
    assert_eq!(places, (0..places.len()).collect::<Vec<_>>());
}

fn every_reason() -> impl Iterator<Item = ErrorReason> {
    (0..1_000).filter_map(|number| ErrorReason::try_from(number).ok())
}

#[test]
fn whatever_can_be_resumed_says_where() {
    for end in watch_ends() {
        let resumable = !matches!(end.why, EndCause::Expired(_) | EndCause::Failed(_));
        let status = Status::from(end);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("cursor").is_some_and(|c| c == "c"), resumable, "{status:?}");
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
    }
}

#[test]
fn every_reason_comes_up_with_its_code_and_details() {
    let mut seen: BTreeSet<&str> = MADE_ELSEWHERE.into_iter().map(wording::name).collect();
    for status in statuses() {
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, DOMAIN);
        let reason = every_reason().find(|reason| wording::name(*reason) == info.reason).unwrap();
        assert_eq!(status.code(), code(reason), "{}", info.reason);
        seen.insert(wording::name(reason));
        let has = (
            details.bad_request().is_some(),
            details.precondition_failure().is_some(),
            details.quota_failure().is_some(),
            details.retry_info().is_some(),
        );
        let expected = (
            status.code() == Code::InvalidArgument,
            status.code() == Code::FailedPrecondition,
            status.code() == Code::ResourceExhausted,
            status.code() == Code::Unavailable || reason == ErrorReason::RateLimited,
        );
        assert_eq!(has, expected, "{}", info.reason);
        for violation in details.precondition_failure().into_iter().flat_map(|f| &f.violations) {
            assert_eq!(violation.r#type, info.reason);
            assert!(!violation.subject.is_empty(), "{}", info.reason);
        }
    }
    let all: BTreeSet<&str> = every_reason().map(wording::name).collect();
    assert_eq!(seen, all);
}

#[test]
fn faults_tell_nothing_but_where_to_look() {
    for failure in failures() {
        let status = Status::from(failure);
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        if status.code() == Code::Internal {
            assert!(status.message().contains(&info.metadata["request"]));
        }
    }
}

/// The texts are read by people: whoever changes one sees it here as it reads.
#[test]
fn messages_read_as_they_should() {
    let mut rendered = String::new();
    for status in statuses() {
        if status.code() == Code::Internal {
            continue;
        }
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        writeln!(rendered, "{:?} {}", status.code(), info.reason).unwrap();
        writeln!(rendered, "  {}", status.message()).unwrap();
        let mut values: Vec<_> = info.metadata.iter().collect();
        values.sort();
        for (key, value) in values {
            writeln!(rendered, "  {key} = {value}").unwrap();
        }
    }
    let expected = include_str!("messages.txt");
    assert!(rendered == expected, "messages.txt should be:\n{rendered}");
}

#[test]
fn everything_wrong_is_told_at_once_and_once_in_the_metadata() {
    let missing = |index, permission: &str, required: &str, expandable| {
        let choices =
            vec![Choice { permission: required.into(), scopes: texts(&["group", "all"]) }];
        let permission = permission.to_owned();
        let index = Some(index);
        GrantProblem::RequirementMissing { index, permission, choices, expandable }
    };
    let mut violations = vec![Violation::new("name", Problem::Required)];
    violations.extend(Violation::of_grants(
        "grants",
        vec![
            missing(0, "a", "x", true),
            missing(1, "b", "x", true),
            missing(2, "c", "y", true),
            missing(3, "d", "z", false),
        ],
    ));
    let details = Status::from(Refusal::Invalid(violations)).get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["name", "grants[0]", "grants[1]", "grants[2]", "grants[3]"]);
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "FIELD_REQUIRED");
    let value = |key: &str| info.metadata[key].as_str();
    assert_eq!(value("reasons"), "FIELD_REQUIRED,REQUIREMENT_MISSING");
    assert_eq!(value("missing"), "x:group,all;y:group,all");
    assert_eq!(value("choices"), "z:group,all");
}

#[test]
fn whatever_is_refused_fits_into_the_headers_that_clients_take() {
    let long = "꿈".repeat(1_000);
    let grant = |index| {
        Problem::Grant(GrantProblem::RequirementMissing {
            index: Some(index),
            permission: format!("permission{index}"),
            choices: vec![Choice {
                permission: format!("required{index}"),
                scopes: texts(&["all"]),
            }],
            expandable: true,
        })
    };
    let refusals = [
        Refusal::invalid(long.as_str(), Problem::UnknownPermission { permission: long.clone() }),
        Refusal::invalid(
            "a",
            Problem::Grant(GrantProblem::UnknownScope {
                index: 0,
                permission: long.clone(),
                scope: long.clone(),
                allowed: vec!["x".repeat(100); 64],
            }),
        ),
        Refusal::Invalid(
            (0..4096)
                .map(|index| Violation::new(format!("grants[{index}]"), grant(index)))
                .collect(),
        ),
        Refusal::Invalid(vec![
            Violation::new(
                long.as_str(),
                Problem::Duplicate { id: long.clone() }
            );
            100
        ]),
        Refusal::CatalogWidensAccess { roles: vec!["x".repeat(128); 10_000] },
        Refusal::CatalogMoveBlocked { detail: long.clone() },
        Refusal::RoleNameTaken { name: long.clone(), role: RoleId::trusted(&long) },
        Refusal::LastOwner { tenant: TenantId::trusted(&long), owner_role: RoleId::trusted(&long) },
        Refusal::Actor(ActorRefusal::Outranked {
            actor: MemberId::trusted(&long),
            by: Better::Member(MemberId::trusted(&long)),
            lack: Lack {
                missing: vec![
                    Missing {
                        permission: "x".repeat(200),
                        relations: Relation::ALL.into_iter().collect()
                    };
                    5
                ],
                count: 4096,
            },
            in_teams: true,
        }),
    ];
    for refusal in refusals {
        let status = Status::from(refusal.clone());
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        // Counted as HTTP/2 does: names, values, and 32 bytes for each.
        let size: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size < 8 * 1024, "{size} bytes: {}", status.message());
        let item = item_error::of_refusal(&refusal);
        assert!(prost::Message::encoded_len(&item) < 4 * 1024, "{}", item.reason);
    }
}
