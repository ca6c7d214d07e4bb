//! What a guard says.

use super::{MAX_FIELD_BYTES, Said, all_of, counted, listed, problem, quoted, shortened, watch};
use crate::domain::refusal::{PreviewLoss, Refusal};
use crate::grpc::pb::ErrorReason;

/// What is said of a refusal; of several violations, the first.
pub(in crate::grpc) fn refusal(refusal: &Refusal) -> Said {
    match refusal {
        Refusal::Invalid(violations) => match violations.first() {
            Some(violation) => problem(&violation.problem),
            None => Said::new(ErrorReason::FieldInvalid, "The request is not valid."),
        },
        Refusal::TenantNotFound(tenant) => {
            let message = format!(
                "There is no tenant {} in use that this caller may see.",
                quoted(tenant.as_given())
            );
            Said::new(ErrorReason::TenantNotFound, message).with("tenant", tenant.as_given())
        }
        Refusal::RoleNotFound(role) => {
            let message = format!(
                "The tenant has no role {}; ListRoles shows those that it has.",
                quoted(role.as_str())
            );
            Said::new(ErrorReason::RoleNotFound, message).with("role", role)
        }
        Refusal::MemberNotFound(member) => {
            let message = format!(
                "The tenant has no member {}; ids are compared byte by byte.",
                quoted(member.as_str())
            );
            Said::new(ErrorReason::MemberNotFound, message).with("member", member)
        }
        Refusal::AnswerErased => Said::new(
            ErrorReason::MemberNotFound,
            "This request was answered before, and the answer told of a member that was deleted \
             since. Nothing was done now; take a new request_id for a new request.",
        ),
        Refusal::TenantAlreadyExists(tenant) => {
            let message = format!(
                "There is a tenant {} already, possibly a deleted one that was not purged yet.",
                quoted(tenant.as_str())
            );
            Said::new(ErrorReason::TenantAlreadyExists, message).with("tenant", tenant)
        }
        Refusal::TenantNotAllowed(tenant) => {
            let message = format!(
                "This caller may not make a tenant {}: its entry in the callers file lists the \
                 tenants that it is for, and this is none of them. Have it added there, or use \
                 another id.",
                quoted(tenant.as_given())
            );
            Said::new(ErrorReason::TenantNotAllowed, message).with("tenant", tenant.as_given())
        }
        Refusal::MemberAlreadyExists(member) => {
            let message = format!(
                "The tenant has a member {} already, possibly an archived one: restore or change \
                 it instead.",
                quoted(member.as_str())
            );
            Said::new(ErrorReason::MemberAlreadyExists, message).with("member", member)
        }
        Refusal::RoleNameTaken { name, role } => {
            let message = format!(
                "The role {} has a name that is equal to {} or looks like it: case, width, runs of \
                 blanks, characters that are not shown and letters of other scripts that look the \
                 same make no difference. Choose another name.",
                quoted(role.as_str()),
                quoted(name)
            );
            Said::new(ErrorReason::RoleNameTaken, message).with("name", name).with("role", role)
        }
        Refusal::DefaultRoleImmutable(role) => {
            let message = format!(
                "{} is a default role, which nobody can change or delete. Clone it and change the \
                 clone.",
                quoted(role.as_str())
            );
            Said::new(ErrorReason::DefaultRoleImmutable, message).with("role", role)
        }
        Refusal::RoleAssigned { role, active_members } => {
            let message = format!(
                "{} the role {}. Give them another role first; ListMembers with this role_id shows \
                 them.",
                holding(*active_members, "active member"),
                quoted(role.as_str())
            );
            Said::new(ErrorReason::RoleAssigned, message)
                .with("role", role)
                .with("active_members", active_members)
        }
        Refusal::ReassignmentRequired { role, active_members, archived_members } => {
            let message = format!(
                "Name in reassign_to_role_id the role that the members of {} are to get: it has {} \
                 and {}. It must be named even when there are none.",
                quoted(role.as_str()),
                counted(*active_members, "active member"),
                counted(*archived_members, "archived member")
            );
            Said::new(ErrorReason::ReassignmentRequired, message)
                .with("role", role)
                .with("active_members", active_members)
                .with("archived_members", archived_members)
        }
        Refusal::ReassignmentNotSupported => Said::new(
            ErrorReason::ReassignmentNotSupported,
            "In this tenant's catalog a role can only be deleted when no active member holds it. \
             Give them other roles first, and leave reassign_to_role_id empty.",
        ),
        Refusal::LastOwner { tenant, owner_role } => {
            let message = format!(
                "The tenant {} would be left without an active owner. Make another member an owner \
                 first: give it the role {}.",
                quoted(tenant.as_str()),
                quoted(owner_role.as_str())
            );
            Said::new(ErrorReason::LastOwner, message)
                .with("tenant", tenant)
                .with("owner_role", owner_role)
        }
        Refusal::CatalogNotNewer { current, requested } => {
            let message = format!(
                "The tenant is on version {current} of its catalog and can only move to a newer \
                 one; {requested} was asked for."
            );
            Said::new(ErrorReason::CatalogNotNewer, message)
                .with("current", current)
                .with("requested", requested)
        }
        Refusal::CatalogWidensAccess { roles } => catalog_widens_access(roles),
        Refusal::CatalogMoveBlocked { detail } => {
            let message = format!("The tenant cannot move to that version: {detail}.");
            Said::new(ErrorReason::CatalogMoveBlocked, message).with("detail", detail)
        }
        Refusal::TenantNotDeleted(tenant) => {
            let message = format!(
                "The tenant {} is in use. Only a deleted tenant can be brought back or purged.",
                quoted(tenant.as_str())
            );
            Said::new(ErrorReason::TenantNotDeleted, message).with("tenant", tenant)
        }
        Refusal::TenantDeleted(tenant) => {
            let message = format!(
                "The tenant {} is deleted. Bring it back with UndeleteTenant first.",
                quoted(tenant.as_str())
            );
            Said::new(ErrorReason::TenantDeleted, message).with("tenant", tenant)
        }
        Refusal::RequestIdReused { request_id } => {
            let message = format!(
                "The request_id {} was used for another request within the last day. A retry must \
                 be the same request in every field; for a new request take a new id.",
                quoted(request_id)
            );
            Said::new(ErrorReason::RequestIdReused, message).with("request_id", request_id)
        }
        Refusal::ConsistencyTokenAhead => Said::new(
            ErrorReason::ConsistencyTokenAhead,
            "The consistency token names a state that the database does not have: it seems to have \
             been restored from a backup without being told. Ask the operator to run `rolegate \
             migrate --after-restore`, and forget the tokens that you hold.",
        ),
        Refusal::EtagMismatch { current } => {
            let message = format!(
                "The etag is not the current one, {}: there was a change since it was read. Read \
                 again, look whether your change still makes sense, and retry with the new etag.",
                quoted(current)
            );
            Said::new(ErrorReason::EtagMismatch, message).with("current", current)
        }
        Refusal::PreviewOutdated(loss) => {
            let what = match loss {
                PreviewLoss::OtherChange => "The etag is of a preview of another change than this",
                PreviewLoss::Catalog => {
                    "The tenant has moved to another catalog version since this was previewed"
                }
                PreviewLoss::Roles => "A role that the preview depends on has changed since",
                PreviewLoss::Members => {
                    "Members that the preview is about have changed since: who holds the role, or \
                     the roles, the teams or the status of one of them"
                }
                PreviewLoss::Unknown => {
                    "The etag is neither a current one nor that of a preview of this tenant"
                }
            };
            let message = format!(
                "{what}. Preview the change again, decide on what that shows, and send its etag."
            );
            Said::new(ErrorReason::EtagMismatch, message).with("changed", loss.name())
        }
        Refusal::CustomRoleLimit { plan, limit, current } => {
            let allowed = counted(u64::from(*limit), "custom role");
            let message = if plan.is_empty() {
                format!("A tenant may have {allowed} and this one has {current}. Delete one.")
            } else {
                format!(
                    "The plan {} allows {allowed} and the tenant has {current}. Delete one, or \
                     move the tenant to a plan that allows more.",
                    quoted(plan)
                )
            };
            Said::new(ErrorReason::CustomRoleLimit, message)
                .with("plan", plan)
                .with("limit", limit)
                .with("current", current)
        }
        Refusal::CursorExpired(loss) => watch::cursor_expired(*loss),
        Refusal::WatchStreamLimit { limit, per_caller } => {
            let (what, who, flag) = if *per_caller {
                ("caller", "This caller", "--max-watch-streams-per-caller")
            } else {
                ("server", "This server", "--max-watch-streams")
            };
            let message = format!(
                "{who} has {} open and may have no more. Close one, watch through another replica, \
                 or have {flag} raised.",
                counted(*limit as u64, "Watch stream")
            );
            Said::new(ErrorReason::WatchStreamLimit, message).with("limit", limit).with("of", what)
        }
        Refusal::Actor(refused) => super::actor::refusal(refused),
    }
}

/// What a failed precondition is about, such as `role/night-shift`.
pub(in crate::grpc) fn precondition_subject(refusal: &Refusal) -> String {
    let subject = match refusal {
        Refusal::DefaultRoleImmutable(role)
        | Refusal::RoleAssigned { role, .. }
        | Refusal::ReassignmentRequired { role, .. } => format!("role/{role}"),
        Refusal::LastOwner { tenant, .. }
        | Refusal::TenantNotDeleted(tenant)
        | Refusal::TenantDeleted(tenant) => format!("tenant/{tenant}"),
        Refusal::CatalogNotNewer { .. }
        | Refusal::CatalogWidensAccess { .. }
        | Refusal::CatalogMoveBlocked { .. } => "catalog".to_owned(),
        Refusal::ReassignmentNotSupported => "reassign_to_role_id".to_owned(),
        Refusal::RequestIdReused { .. } => "request_id".to_owned(),
        Refusal::ConsistencyTokenAhead => "consistency".to_owned(),
        Refusal::Invalid(_)
        | Refusal::TenantNotFound(_)
        | Refusal::RoleNotFound(_)
        | Refusal::MemberNotFound(_)
        | Refusal::AnswerErased
        | Refusal::TenantAlreadyExists(_)
        | Refusal::TenantNotAllowed(_)
        | Refusal::MemberAlreadyExists(_)
        | Refusal::RoleNameTaken { .. }
        | Refusal::EtagMismatch { .. }
        | Refusal::PreviewOutdated(_)
        | Refusal::CustomRoleLimit { .. }
        | Refusal::CursorExpired(_)
        | Refusal::WatchStreamLimit { .. }
        | Refusal::Actor(_) => String::new(),
    };
    shortened(&subject, MAX_FIELD_BYTES)
}

fn holding(count: u64, thing: &str) -> String {
    let verb = if count == 1 { "holds" } else { "hold" };
    format!("{} {verb}", counted(count, thing))
}

fn catalog_widens_access(roles: &[String]) -> Said {
    let who = |role: &String| match role.as_str() {
        "" => "every active member".to_owned(),
        role => format!("the role {role}"),
    };
    let gaining: Vec<String> = roles.iter().map(who).collect();
    let message = format!(
        "With that version more would be allowed to {}. Look at the changes with validate_only, and \
         set accept_widening with that catalog_version if they are wanted.",
        all_of(&gaining)
    );
    Said::new(ErrorReason::CatalogWidensAccess, message).with("roles", listed(roles))
}
