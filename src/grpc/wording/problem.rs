//! What can be wrong with a field.

use super::{CHOICES, MISSING, Said, all_of, counted, either, listed, quoted};
use crate::domain::grant::{Choice, GrantProblem};
use crate::domain::refusal::{Problem, Unit};
use crate::grpc::pb::ErrorReason;

/// What is said of a field with this problem.
pub(in crate::grpc) fn problem(problem: &Problem) -> Said {
    match problem {
        Problem::Required => Said::new(ErrorReason::FieldRequired, "This field must be set."),
        Problem::TooLong { length, limit, unit } => {
            let unit = match unit {
                Unit::Bytes => "byte",
                Unit::Characters => "character",
            };
            let message = format!(
                "This text has {}; at most {limit} are allowed.",
                counted(*length as u64, unit)
            );
            Said::new(ErrorReason::FieldTooLong, message)
                .with("limit", limit)
                .with("length", length)
        }
        Problem::Invalid(what) => {
            Said::new(ErrorReason::FieldInvalid, format!("This value {what}."))
        }
        Problem::TooManyItems { count, limit } => {
            let message = format!("This list has {count} entries; at most {limit} are allowed.");
            Said::new(ErrorReason::TooManyItems, message).with("limit", limit).with("count", count)
        }
        Problem::Duplicate { id } => {
            let message = format!("{} stands here for the second time; name it once.", quoted(id));
            Said::new(ErrorReason::DuplicateItem, message).with("id", id)
        }
        Problem::FieldMask { allowed } => {
            let message = format!(
                "The mask must name at least one field, and only fields that can be changed: {}.",
                either(allowed)
            );
            Said::new(ErrorReason::FieldMaskInvalid, message).with("allowed", listed(allowed))
        }
        Problem::UnknownPermission { permission } => unknown_permission(permission),
        Problem::Grant(problem) => grant_problem(problem),
        Problem::UnknownRole { role } => {
            let message = format!(
                "The tenant has no role {}; ListRoles shows those that it has.",
                quoted(role)
            );
            Said::new(ErrorReason::UnknownRole, message).with("role", role)
        }
        Problem::TooManyRoles { count, limit } => {
            let message = format!(
                "The tenant's catalog allows a member {}; this list has {count}.",
                counted(*limit as u64, "role")
            );
            Said::new(ErrorReason::TooManyRoles, message).with("limit", limit).with("count", count)
        }
        Problem::UnknownCatalog { catalog, known } => {
            let message =
                format!("The server has no catalog {}; it has {}.", quoted(catalog), all_of(known));
            Said::new(ErrorReason::UnknownCatalog, message)
                .with("catalog", catalog)
                .with("known", listed(known))
        }
        Problem::UnknownPlan { plan, known } if known.is_empty() => {
            let message = "The tenant's catalog has no plans; leave this field empty.";
            Said::new(ErrorReason::UnknownPlan, message).with("plan", plan).with("known", "")
        }
        Problem::UnknownPlan { plan, known } => {
            let message =
                format!("The catalog has no plan {}; it has {}.", quoted(plan), all_of(known));
            Said::new(ErrorReason::UnknownPlan, message)
                .with("plan", plan)
                .with("known", listed(known))
        }
        Problem::PageToken => Said::new(
            ErrorReason::PageTokenInvalid,
            "This is not a page token of this query. Send it as the answer before carried it, with \
             every other parameter unchanged, or start again without it.",
        ),
        Problem::ConsistencyTokenInvalid => Said::new(
            ErrorReason::ConsistencyTokenInvalid,
            "This is not a consistency token of this service: it is garbled, cut or forged, or was \
             made by another database. Send tokens exactly as answers carry them.",
        ),
        Problem::ConsistencyTokenForeign => Said::new(
            ErrorReason::ConsistencyTokenForeign,
            "This consistency token is another database's, or from before a backup was restored or \
             the database failed over to another server. Forget the tokens that you hold, and ask again without them.",
        ),
        Problem::ConsistencyTokenOtherTenant => Said::new(
            ErrorReason::ConsistencyTokenOtherTenant,
            "None of these consistency tokens is this tenant's. Add one that an answer about this \
             tenant carried, or leave the consistency unset.",
        ),
        Problem::CursorInvalid => Said::new(
            ErrorReason::CursorInvalid,
            "This is not a cursor of this database: it is garbled, cut or forged, or was made by \
             another database. Send cursors exactly as responses carry them, or leave this empty to \
             begin now.",
        ),
        Problem::Confirmation { expected } => {
            let message = format!(
                "To confirm the deletion, send exactly this text, which GetRole shows: {}.",
                quoted(expected)
            );
            Said::new(ErrorReason::ConfirmationMismatch, message).with("expected", expected)
        }
        Problem::ReassignmentToItself => Said::new(
            ErrorReason::ReassignmentToItself,
            "The members of a role that is being deleted cannot be given that same role; name \
             another one.",
        ),
        Problem::ActorNotApplicable => Said::new(
            ErrorReason::ActorNotApplicable,
            "Tenants are made, moved and deleted by the platform, never on behalf of a member. Leave \
             this field empty; the caller answers for the change itself.",
        ),
    }
}

fn unknown_permission(permission: &str) -> Said {
    let message = format!(
        "The tenant's catalog has no permission {}; ListPermissions shows those that it has.",
        quoted(permission)
    );
    Said::new(ErrorReason::UnknownPermission, message).with("permission", permission)
}

fn grant_problem(problem: &GrantProblem) -> Said {
    match problem {
        GrantProblem::UnknownPermission { index: _, permission } => unknown_permission(permission),
        GrantProblem::UnknownScope { index: _, permission, scope, allowed } => {
            let message = format!(
                "{permission} has no scope {}; it can be granted at {}.",
                quoted(scope),
                either(allowed)
            );
            Said::new(ErrorReason::UnknownScope, message)
                .with("permission", permission)
                .with("scope", scope)
                .with("allowed", listed(allowed))
        }
        GrantProblem::ScopeRequired { index: _, permission, allowed } => {
            let message = format!("{permission} needs a scope: {}.", either(allowed));
            Said::new(ErrorReason::ScopeRequired, message)
                .with("permission", permission)
                .with("allowed", listed(allowed))
        }
        GrantProblem::ScopeNotAllowed { index: _, permission, follows } => {
            let message = match follows {
                Some(leader) => format!(
                    "{permission} has no scope of its own: it reaches as far as {leader} in the \
                     same role. Leave the scope empty."
                ),
                None => format!("{permission} has no scopes; leave the scope empty."),
            };
            Said::new(ErrorReason::ScopeNotAllowed, message).with("permission", permission)
        }
        GrantProblem::Duplicate { index: _, permission } => {
            let message = format!("{permission} stands in the list already; grant it once.");
            Said::new(ErrorReason::DuplicateGrant, message).with("permission", permission)
        }
        GrantProblem::NeverGrantable { index: _, permission } => {
            let message = format!(
                "No custom role may hold {permission}, only default roles do; leave it out."
            );
            Said::new(ErrorReason::PermissionNeverGrantable, message).with("permission", permission)
        }
        GrantProblem::HeldByEveryone { index: _, permission } => {
            let message =
                format!("Every active member has {permission} without any role; leave it out.");
            Said::new(ErrorReason::PermissionHeldByEveryone, message).with("permission", permission)
        }
        GrantProblem::RequirementMissing { index: _, permission, choices, expandable } => {
            requirement_missing(permission, choices, *expandable)
        }
    }
}

fn requirement_missing(permission: &str, choices: &[Choice], expandable: bool) -> Said {
    let message = match choices {
        [] => format!(
            "{permission} requires what no custom role can be granted as widely; narrow it, or \
             leave it out."
        ),
        [only] if expandable => format!(
            "{permission} requires {only}. Grant it, or set expand_requirements to have it granted."
        ),
        [only] => format!("{permission} requires {only}; grant it."),
        several => format!("{permission} requires {}; grant one of them.", either(several)),
    };
    let said = Said::new(ErrorReason::RequirementMissing, message).with("permission", permission);
    let choices: Vec<String> = choices.iter().map(for_programs).collect();
    match (choices.is_empty(), expandable) {
        (true, _) => said,
        (false, true) => said.with(MISSING, choices.join("|")),
        (false, false) => said.with(CHOICES, choices.join("|")),
    }
}

/// `ticket.work` or `ticket.work:group,all`.
fn for_programs(Choice { permission, scopes }: &Choice) -> String {
    if scopes.is_empty() {
        permission.clone()
    } else {
        format!("{permission}:{}", scopes.join(","))
    }
}
