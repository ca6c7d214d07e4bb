//! What is said to a member who may not administer that.

use super::{Said, all_of, quoted};
use crate::domain::actor::{ActorRefusal, Better, Lack};
use crate::domain::ids::MemberId;
use crate::grpc::pb::ErrorReason;

/// What is said of a refusal to an actor.
pub(super) fn refusal(refused: &ActorRefusal) -> Said {
    match refused {
        ActorRefusal::NotFound { actor } => {
            let message = format!(
                "The tenant has no member {} to act on behalf of; ids are compared byte by byte.",
                quoted(actor.as_str())
            );
            of(ErrorReason::ActorNotFound, actor, message)
        }
        ActorRefusal::Archived { actor } => {
            let message = format!(
                "The member {} is archived and may do nothing until somebody restores it.",
                quoted(actor.as_str())
            );
            of(ErrorReason::ActorArchived, actor, message)
        }
        ActorRefusal::NotPermitted { actor, permission } => {
            let message = format!(
                "The member {} lacks {permission}, which this takes. Have somebody do it who holds \
                 it.",
                quoted(actor.as_str())
            );
            of(ErrorReason::ActorNotPermitted, actor, message).with("permission", permission)
        }
        ActorRefusal::IsSubject { actor } => {
            let message = format!(
                "The member {} cannot change its own roles, teams or status, nor delete a role that \
                 it holds. Have another administrator do it.",
                quoted(actor.as_str())
            );
            of(ErrorReason::ActorIsSubject, actor, message)
        }
        ActorRefusal::OwnerRequired { actor, owner_role } => {
            let message = format!(
                "Only an owner makes, changes, archives, restores or deletes an owner, and the \
                 member {} does not hold the role {}. Have an owner do it.",
                quoted(actor.as_str()),
                quoted(owner_role.as_str())
            );
            of(ErrorReason::OwnerRequired, actor, message).with("owner_role", owner_role)
        }
        ActorRefusal::Outranked { actor: outranked, by, lack, in_teams } => {
            let (who, holding, key, id) = match by {
                Better::Member(member) => ("the member", "it holds", "member", member.as_str()),
                Better::Role(role) => ("the role", "its holders hold", "role", role.as_str()),
            };
            let actor = quoted(outranked.as_str());
            let (lacking_it, cure) = if *in_teams {
                (
                    format!(", in teams that {actor} is not in"),
                    "is in those teams too, or who holds it for everything",
                )
            } else {
                (format!(" what {actor} lacks"), "holds all of it")
            };
            let message = format!(
                "The member {actor} cannot change {who} {}, nor take anything from it: \
                 {holding}{lacking_it}, {}. Have somebody do it who {cure}.",
                quoted(id),
                spelled_out(lack)
            );
            lacking(of(ErrorReason::ActorOutranked, outranked, message), lack)
                .with(key, id)
                .with("in_teams", in_teams)
        }
        ActorRefusal::LacksGrant { actor, role, lack, in_teams } => {
            let role = role.as_ref().map(|role| role.as_str()).unwrap_or_default();
            let message = if *in_teams {
                format!(
                    "The member {} would give what it holds in its own teams only to members of \
                     other teams: {}. Have somebody do it who is in those teams too, or who holds \
                     it for everything.",
                    quoted(actor.as_str()),
                    spelled_out(lack)
                )
            } else {
                format!(
                    "The member {} cannot give what it does not hold: {}. Leave that out, or have \
                     somebody do it who holds it.",
                    quoted(actor.as_str()),
                    spelled_out(lack)
                )
            };
            lacking(of(ErrorReason::ActorLacksGrant, actor, message), lack)
                .with("role", role)
                .with("in_teams", in_teams)
        }
    }
}

fn of(reason: ErrorReason, actor: &MemberId, message: String) -> Said {
    Said::new(reason, message).with("actor", actor)
}

fn lacking(said: Said, lack: &Lack) -> Said {
    let missing: Vec<String> = lack.missing.iter().map(ToString::to_string).collect();
    said.with("missing", missing.join(";")).with("missing_count", lack.count)
}

/// "billing.manage, ticket.work (team or unassigned) and 3 others".
fn spelled_out(lack: &Lack) -> String {
    let missing = lack.missing.iter().map(|missing| {
        let relations: Vec<&str> =
            missing.relations.iter().map(|relation| relation.name()).collect();
        match relations.as_slice() {
            [] => missing.permission.clone(),
            relations => format!("{} ({})", missing.permission, super::either(relations)),
        }
    });
    let mut missing: Vec<String> = missing.collect();
    match lack.count.saturating_sub(missing.len()) {
        0 => {}
        1 => missing.push("1 more permission".to_owned()),
        more => missing.push(format!("{more} more permissions")),
    }
    all_of(&missing)
}
