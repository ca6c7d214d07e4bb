//! What the three example clients share: the connection, short ways to say things in the API's
//! messages, and a story that is told and checked at the same time.

#![allow(dead_code, reason = "no example needs all of it")]
#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::collections::HashMap;
use std::process::ExitCode;

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::member_service_client::MemberServiceClient;
use rolegate::grpc::pb::role_service_client::RoleServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;
use tonic::{Response, Status};
use tonic_types::StatusExt;

/// What an example ends with when something is wrong with the call rather than with the story.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How an example ends: with a sentence for whoever ran it, and a code for a script.
pub(crate) fn end(told: Result<(), Failure>) -> ExitCode {
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The four services over one connection. A client is cheap to clone and to share.
#[derive(Clone)]
pub(crate) struct Rolegate {
    pub(crate) authz: AuthzServiceClient<Channel>,
    pub(crate) roles: RoleServiceClient<Channel>,
    pub(crate) tenants: TenantServiceClient<Channel>,
    pub(crate) members: MemberServiceClient<Channel>,
}

/// Connects to `ROLEGATE_ADDR`, or to where `rolegate serve` listens by default.
pub(crate) async fn connect() -> Result<Rolegate, Failure> {
    let address =
        std::env::var("ROLEGATE_ADDR").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let endpoint = Channel::from_shared(address.clone())?;
    let channel = endpoint.connect().await.map_err(|error| {
        format!(
            "nothing answers at {address} ({error}).\n\
             Start a server first: cargo run --release -- serve --dev --demo"
        )
    })?;
    Ok(Rolegate {
        authz: AuthzServiceClient::new(channel.clone()),
        roles: RoleServiceClient::new(channel.clone()),
        tenants: TenantServiceClient::new(channel.clone()),
        members: MemberServiceClient::new(channel),
    })
}

/// Names of roles by their ids: custom roles have ids that nobody remembers.
pub(crate) struct RoleNames(HashMap<String, String>);

impl RoleNames {
    pub(crate) async fn of(rolegate: &mut Rolegate, tenant: &str) -> Result<Self, Failure> {
        let request = pb::ListRolesRequest {
            tenant_id: tenant.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let roles = rolegate.roles.list_roles(request).await?.into_inner().roles;
        Ok(RoleNames(roles.into_iter().map(|role| (role.id, role.name)).collect()))
    }

    pub(crate) fn get(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }
}

/// A list that is said, also when there is none: unset would mean "not said".
pub(crate) fn said<S: AsRef<str>>(ids: &[S]) -> Option<pb::IdList> {
    Some(strings(ids).into())
}

/// Owned texts, as messages want them.
pub(crate) fn strings<S: AsRef<str>>(ids: &[S]) -> Vec<String> {
    ids.iter().map(|id| id.as_ref().to_owned()).collect()
}

/// `permission` or `permission at scope`, as a grant.
pub(crate) fn grant(text: &str) -> pb::Grant {
    let (permission, scope) = text.split_once(" at ").unwrap_or((text, ""));
    pb::Grant { permission: permission.to_owned(), scope: scope.to_owned() }
}

/// Several grants.
pub(crate) fn grants(texts: &[&str]) -> Vec<pb::Grant> {
    texts.iter().copied().map(grant).collect()
}

/// Grants for people, as [`grant`] reads them.
pub(crate) fn show_grants(grants: &[pb::Grant]) -> String {
    let show = |pb::Grant { permission, scope }: &pb::Grant| match scope.as_str() {
        "" => permission.clone(),
        scope => format!("{permission} at {scope}"),
    };
    grants.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// A decision for people: `allowed (Agent at group)`, `denied: OUT_OF_SCOPE (Agent at group)`.
pub(crate) fn show_decision(decision: &pb::Decision, names: &RoleNames) -> String {
    let deciding = |by: &pb::DecidingGrant| match by.scope.as_str() {
        "" => names.get(&by.role_id),
        scope => format!("{} at {scope}", names.get(&by.role_id)),
    };
    let by: Vec<String> = decision.decided_by.iter().map(deciding).collect();
    let mut text = match decision.verdict() {
        pb::Verdict::Allowed => "allowed".to_owned(),
        pb::Verdict::Denied => format!("denied: {}", show_reason(decision.reason())),
        pb::Verdict::Unspecified => "no verdict".to_owned(),
    };
    if !decision.missing_attributes.is_empty() {
        text += &format!(", say {}", decision.missing_attributes.join(" and "));
    } else if !by.is_empty() {
        text += &format!(" ({})", by.join(", "));
    } else if decision.reason() == pb::DecisionReason::GrantedToEveryone {
        text += " (everyone is)";
    }
    text
}

/// A reason's name without its prefix.
pub(crate) fn show_reason(reason: pb::DecisionReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("DECISION_REASON_").unwrap_or(name)
}

/// Tells what happens, line by line, and remembers each line that came out otherwise than the
/// story has it. The examples double as tests: such a story ends with a failure.
#[derive(Default)]
pub(crate) struct Story {
    lines: usize,
    wrong: usize,
}

impl Story {
    /// A heading.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n{title}\n{}", "-".repeat(title.chars().count()));
    }

    /// A line that explains the next ones.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        println!("{}", format!("  {}", text.as_ref()).trim_end());
    }

    /// What is done, what came of it, and whether it is what the story has.
    pub(crate) fn tell(&mut self, action: &str, outcome: &str, as_told: bool) {
        self.lines += 1;
        let mark = if as_told { ' ' } else { '!' };
        println!("{}", format!("{mark} {action:<64} {outcome}").trim_end());
        if !as_told {
            self.wrong += 1;
            println!("!   ^ the story has this otherwise");
        }
    }

    /// A call that must be refused, with this reason. Gives the error for a closer look.
    pub(crate) fn refused<T>(
        &mut self,
        action: &str,
        answer: Result<Response<T>, Status>,
        reason: &str,
    ) -> Option<Status> {
        let Err(status) = answer else {
            self.tell(action, &format!("done, but should be refused: {reason}"), false);
            return None;
        };
        let details = status.get_error_details();
        let given = details.error_info().map_or("no reason", |info| info.reason.as_str());
        let outcome = format!("refused: {given} ({:?})", status.code());
        self.tell(action, &outcome, given == reason);
        Some(status)
    }

    /// Whether all went as told.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.wrong {
            0 => {
                println!("\nAll {} answers are as the story has them.", self.lines);
                Ok(())
            }
            wrong => Err(format!("{wrong} of {} answers are not as told", self.lines).into()),
        }
    }
}
