//! The demo: two tenants to try things on, one for each shipped catalog, made once.
//!
//! It goes through the use cases like any caller, so it is guarded, audited and cached like all
//! else. The examples and the README count on these names.

use std::collections::HashMap;

use super::{ServeError, Services};
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use crate::domain::member::MemberStatus;
use crate::domain::refusal::Refusal;
use crate::service::roles::RoleDraft;
use crate::service::tenants::NewTenant;
use crate::service::upsert::{Batch, BatchMode, Upsert};
use crate::service::{ServiceError, WriteContext};

/// Logs a first call to the demo, to be pasted into a shell.
pub(super) fn show_first_check(address: &str) {
    // grpcurl has a flag of its own for these.
    if address.starts_with("unix:") {
        return;
    }
    tracing::info!(
        "try it: grpcurl -plaintext -d '{{\"tenant_id\": \"demo-oqupie\", \"member_id\": \"alice\", \
         \"permission\": \"ticket.work\", \"resource\": {{\"assignees\": {{\"none\": true}}, \"teams\": \
         {{\"ids\": [\"billing\"]}}}}}}' {address} rolegate.v1.AuthzService/Check"
    );
}

struct DemoTenant {
    id: &'static str,
    catalog: &'static str,
    plan: Option<&'static str>,
    owner: &'static str,
    roles: &'static [DemoRole],
    members: &'static [DemoMember],
}

struct DemoRole {
    name: &'static str,
    description: &'static str,
    /// `permission` or `permission at scope`.
    grants: &'static [&'static str],
}

/// Id, a default role's id or a custom role's name (empty: none), teams, whether active.
type DemoMember = (&'static str, &'static str, &'static [&'static str], bool);

const TENANTS: [DemoTenant; 2] = [
    DemoTenant {
        id: "demo-oqupie",
        catalog: "oqupie",
        plan: Some("enterprise"),
        owner: "olivia",
        roles: &[
            DemoRole {
                name: "Night shift",
                description: "Works on every ticket while nobody else is there.",
                grants: &[
                    "ticket.work at all",
                    "ticket.block",
                    "customer.edit",
                    "canned_response.work at own",
                    "canned_response.edit",
                ],
            },
            DemoRole {
                name: "Report reader",
                description: "Sees the reports and takes them along.",
                grants: &[
                    "dashboard.admin.view",
                    "report.overview.view",
                    "report.daily.view",
                    "report.export",
                ],
            },
            DemoRole {
                name: "Knowledge editor",
                description: "Keeps everybody's articles in order.",
                grants: &[
                    "knowledge_base.work at all",
                    "knowledge_base.edit",
                    "knowledge_base.delete",
                    "canned_response.work at all",
                    "canned_response.edit",
                ],
            },
        ],
        members: &[
            ("adam", "admin", &[], true),
            ("paula", "pro_agent", &["technical"], true),
            ("alice", "agent", &["billing"], true),
            ("bob", "agent", &["technical"], true),
            ("carol", "agent", &["billing", "vip"], true),
            ("dan", "agent", &[], true),
            ("nina", "Night shift", &["technical"], true),
            ("rita", "Report reader", &[], true),
            ("eddy", "Knowledge editor", &["vip"], true),
            ("arthur", "agent", &["billing"], false),
            ("nora", "", &["billing"], true),
        ],
    },
    DemoTenant {
        id: "demo-qpien",
        catalog: "qpien",
        plan: None,
        owner: "owen",
        roles: &[
            DemoRole {
                name: "Team lead",
                description: "Everything about the team's conversations, and the reports.",
                grants: &[
                    "chat.view",
                    "dashboard.view",
                    "conversation.view at team_only",
                    "conversation.reply at team_only",
                    "conversation.assign at team_only",
                    "conversation.delete at team_only",
                    "report.view",
                ],
            },
            DemoRole {
                name: "Triage",
                description: "Hands out what nobody has taken yet.",
                grants: &[
                    "chat.view",
                    "conversation.view at unassigned",
                    "conversation.assign at unassigned",
                ],
            },
            DemoRole {
                name: "Observer",
                description: "Reads along where invited.",
                grants: &["chat.view", "conversation.view at participating"],
            },
        ],
        members: &[
            ("anna", "admin", &[], true),
            ("ula", "user", &["sales"], true),
            ("uwe", "user", &["support"], true),
            ("una", "user", &[], true),
            ("lena", "limited_user", &["sales"], true),
            ("leo", "limited_user", &["support"], true),
            ("tina", "Team lead", &["support"], true),
            ("toby", "Triage", &[], true),
            ("pat", "Observer", &[], true),
            ("zoe", "user", &["sales"], false),
            ("nick", "", &["sales"], true),
        ],
    },
];

/// Makes the demo tenants that are not there.
pub(super) async fn fill(services: &Services) -> Result<(), ServeError> {
    for tenant in &TENANTS {
        match make(services, tenant).await {
            Ok(()) => tracing::info!(tenant = tenant.id, "the demo tenant is ready"),
            Err(error) => return Err(ServeError::Demo(format!("{}: {error}", tenant.id))),
        }
    }
    Ok(())
}

async fn make(services: &Services, demo: &DemoTenant) -> Result<(), ServiceError> {
    let tenant = TenantId::trusted(demo.id);
    let context = || WriteContext {
        caller: "demo".to_owned(),
        actor: None,
        method: "demo",
        request: None,
        validate_only: false,
    };
    let new = NewTenant {
        catalog: demo.catalog.to_owned(),
        version: None,
        plan: demo.plan.map(str::to_owned),
        owner: MemberId::trusted(demo.owner),
        owner_teams: Vec::new(),
    };
    match services.tenants.create(context(), &tenant, &new).await {
        Ok(_) => {}
        // Made by an earlier start; whatever was done to it since stays.
        Err(ServiceError::Refused(Refusal::TenantAlreadyExists(_))) => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut custom = HashMap::new();
    for role in demo.roles {
        let draft = RoleDraft {
            name: role.name.to_owned(),
            description: role.description.to_owned(),
            grants: role.grants.iter().map(|grant| parse(grant)).collect(),
            expand_requirements: false,
        };
        let written = services.roles.create(context(), &tenant, &draft).await?;
        custom.insert(role.name, written.value.role.id);
    }
    let upsert = |(id, role, teams, active): &DemoMember| Upsert {
        id: MemberId::trusted(id),
        roles: (!role.is_empty())
            .then(|| vec![custom.get(role).cloned().unwrap_or_else(|| RoleId::trusted(role))]),
        teams: Some(teams.iter().map(|team| TeamId::trusted(team)).collect()),
        status: Some(if *active { MemberStatus::Active } else { MemberStatus::Archived }),
    };
    let batch = Batch {
        items: demo.members.iter().map(upsert).map(Ok).collect(),
        mode: BatchMode::AllOrNothing,
        archive_absent: false,
        etag: None,
    };
    services.members.upsert(context(), &tenant, batch).await?;
    Ok(())
}

fn parse(grant: &str) -> Grant {
    match grant.split_once(" at ") {
        Some((permission, scope)) => {
            Grant { permission: permission.to_owned(), scope: Some(scope.to_owned()) }
        }
        None => Grant { permission: grant.to_owned(), scope: None },
    }
}
