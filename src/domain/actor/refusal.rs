//! Why an actor may not do something.

use serde::{Deserialize, Serialize};

use super::Lack;
use crate::domain::ids::{MemberId, RoleId};

/// The rule that forbids it, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorRefusal {
    /// The tenant has no such member.
    NotFound {
        /// Who was named.
        actor: MemberId,
    },
    /// It is archived.
    Archived {
        /// Who acts.
        actor: MemberId,
    },
    /// It lacks the permission that the catalog asks for this kind of call.
    NotPermitted {
        /// Who acts.
        actor: MemberId,
        /// The permission.
        permission: String,
    },
    /// It would change itself.
    IsSubject {
        /// Who acts.
        actor: MemberId,
    },
    /// It is about owners, and the actor is none.
    OwnerRequired {
        /// Who acts.
        actor: MemberId,
        /// The owner's role.
        owner_role: RoleId,
    },
    /// It would change somebody who holds what it lacks.
    Outranked {
        /// Who acts.
        actor: MemberId,
        /// Who that is.
        by: Better,
        /// What it lacks.
        lack: Lack,
        /// It holds it in its own teams, and lacks it in others. Answers that were remembered before
        /// this was told do not have it.
        #[serde(default)]
        in_teams: bool,
    },
    /// It would give what it lacks.
    LacksGrant {
        /// Who acts.
        actor: MemberId,
        /// The role that gives it; none: a new one, or what everyone has.
        role: Option<RoleId>,
        /// What it lacks.
        lack: Lack,
        /// It holds it in its own teams, and lacks it in others.
        in_teams: bool,
    },
}

/// Who holds more than an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Better {
    /// This member.
    Member(MemberId),
    /// Those who hold this role.
    Role(RoleId),
}

impl ActorRefusal {
    /// Its name in the audit: the reason that the client is given.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ActorRefusal::NotFound { .. } => "ACTOR_NOT_FOUND",
            ActorRefusal::Archived { .. } => "ACTOR_ARCHIVED",
            ActorRefusal::NotPermitted { .. } => "ACTOR_NOT_PERMITTED",
            ActorRefusal::IsSubject { .. } => "ACTOR_IS_SUBJECT",
            ActorRefusal::OwnerRequired { .. } => "OWNER_REQUIRED",
            ActorRefusal::Outranked { .. } => "ACTOR_OUTRANKED",
            ActorRefusal::LacksGrant { .. } => "ACTOR_LACKS_GRANT",
        }
    }
}
