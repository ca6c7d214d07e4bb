//! Between the history's values and the API's messages.

use rolegate::grpc::pb;
use tonic::Status;

use super::record::{Answer, Committed, Op, Question, Verdict, Want};
use crate::e2e::process::Clients;
use crate::reference::model::{Grant, Resource};

/// The token, and the id of the role if one was made.
pub(crate) async fn write(
    clients: &mut Clients,
    tenant: &str,
    request_id: &str,
    number: usize,
    op: &Op,
) -> Result<(String, Option<String>), Status> {
    let (tenant_id, request_id) = (tenant.to_owned(), request_id.to_owned());
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let Clients { roles, tenants, members, .. } = clients;
    let token = match op.clone() {
        Op::CreateTenant => {
            let request = pb::CreateTenantRequest {
                tenant_id,
                catalog_id: "history".into(),
                catalog_version: 1,
                owner_member_id: "owner".into(),
                request_id,
                ..Default::default()
            };
            tenants.create_tenant(request).await?.into_inner().consistency_token
        }
        Op::DeleteTenant => {
            let request = pb::DeleteTenantRequest { tenant_id, request_id, ..Default::default() };
            tenants.delete_tenant(request).await?.into_inner().consistency_token
        }
        Op::UndeleteTenant => {
            let request = pb::UndeleteTenantRequest { tenant_id, request_id, ..Default::default() };
            tenants.undelete_tenant(request).await?.into_inner().consistency_token
        }
        Op::MoveCatalog => {
            let request = pb::MoveCatalogRequest {
                tenant_id,
                request_id,
                catalog_version: 2,
                accept_widening: true,
                ..Default::default()
            };
            tenants.move_catalog(request).await?.into_inner().consistency_token
        }
        Op::CreateMember { member: member_id, roles: role_ids, teams: team_ids } => {
            let request = pb::CreateMemberRequest {
                tenant_id,
                member_id,
                role_ids,
                team_ids,
                request_id,
                ..Default::default()
            };
            members.create_member(request).await?.into_inner().consistency_token
        }
        Op::DeleteMember(member_id) => {
            let request =
                pb::DeleteMemberRequest { tenant_id, member_id, request_id, ..Default::default() };
            members.delete_member(request).await?.into_inner().consistency_token
        }
        Op::SetTeams { member: member_id, teams: team_ids } => {
            let request = pb::UpdateMemberRequest {
                tenant_id,
                member_id,
                no_teams: team_ids.is_empty(),
                team_ids,
                update_mask: mask("team_ids"),
                request_id,
                ..Default::default()
            };
            members.update_member(request).await?.into_inner().consistency_token
        }
        Op::AssignRoles { member: member_id, roles: role_ids } => {
            let request = pb::AssignRolesRequest {
                tenant_id,
                member_id,
                no_roles: role_ids.is_empty(),
                role_ids,
                request_id,
                ..Default::default()
            };
            members.assign_roles(request).await?.into_inner().consistency_token
        }
        Op::Archive(member_id) => {
            let request =
                pb::ArchiveMemberRequest { tenant_id, member_id, request_id, ..Default::default() };
            members.archive_member(request).await?.into_inner().consistency_token
        }
        Op::Restore(member_id) => {
            let request =
                pb::RestoreMemberRequest { tenant_id, member_id, request_id, ..Default::default() };
            members.restore_member(request).await?.into_inner().consistency_token
        }
        Op::CreateRole { grants } => {
            let request = pb::CreateRoleRequest {
                tenant_id,
                name: format!("Role {number}"),
                grants: spoken(&grants),
                request_id,
                ..Default::default()
            };
            let made = roles.create_role(request).await?.into_inner();
            return Ok((made.consistency_token, made.role.map(|role| role.id)));
        }
        Op::UpdateRole { role: role_id, grants } => {
            let request = pb::UpdateRoleRequest {
                tenant_id,
                role_id,
                grants: spoken(&grants),
                no_grants: grants.is_empty(),
                update_mask: mask("grants"),
                request_id,
                ..Default::default()
            };
            roles.update_role(request).await?.into_inner().consistency_token
        }
        Op::DeleteRole { role: role_id, to: reassign_to_role_id } => {
            let request = pb::DeleteRoleRequest {
                tenant_id,
                role_id,
                reassign_to_role_id,
                request_id,
                ..Default::default()
            };
            roles.delete_role(request).await?.into_inner().consistency_token
        }
    };
    Ok((token, None))
}

/// The answer, and since when it is stale, in microseconds since 1970. One question goes by `Check`,
/// several by `BatchCheck`.
pub(crate) async fn ask(
    clients: &Clients,
    tenant: &str,
    want: &Want,
    questions: &[Question],
) -> Result<(Answer, Option<i128>), Status> {
    let mut authz = clients.authz.clone();
    let tenant_id = tenant.to_owned();
    let consistency = match want {
        Want::Latency => None,
        Want::Token(token) => {
            let tokens = pb::ConsistencyTokens { tokens: vec![token.clone()] };
            Some(pb::consistency::Requirement::AtLeastAsFresh(tokens))
        }
        Want::Full => Some(pb::consistency::Requirement::FullyConsistent(true)),
    };
    let consistency = consistency.map(|kind| pb::Consistency { requirement: Some(kind) });
    let (decisions, token, stale_since) = match questions {
        [Question { member, permission, resource }] => {
            let request = pb::CheckRequest {
                tenant_id,
                member_id: member.clone(),
                permission: permission.clone(),
                resource: resource.as_ref().map(spoken_resource),
                consistency,
            };
            let answer = authz.check(request).await?.into_inner();
            (vec![answer.decision.unwrap()], answer.consistency_token, answer.stale_since)
        }
        _ => {
            let item = |question: &Question| pb::CheckItem {
                member_id: question.member.clone(),
                permission: question.permission.clone(),
                resource: question.resource.as_ref().map(spoken_resource),
            };
            let items = questions.iter().map(item).collect();
            let request = pb::BatchCheckRequest { tenant_id, items, consistency };
            let answer = authz.batch_check(request).await?.into_inner();
            let decision = |result: pb::CheckItemResult| match result.result {
                Some(pb::check_item_result::Result::Decision(decision)) => decision,
                other => panic!("{other:?}"),
            };
            let decisions = answer.items.into_iter().map(decision).collect();
            (decisions, answer.consistency_token, answer.stale_since)
        }
    };
    let verdicts = decisions.into_iter().map(heard).collect();
    let since =
        stale_since.map(|at| i128::from(at.seconds) * 1_000_000 + i128::from(at.nanos) / 1_000);
    Ok((Answer { verdicts, token, stale_since: None }, since))
}

/// A tenant's audit trail.
pub(crate) async fn trail(clients: &Clients, tenant: &str) -> Vec<Committed> {
    let mut roles = clients.roles.clone();
    let (mut trail, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAuditEventsRequest {
            tenant_id: tenant.to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = roles.list_audit_events(request).await.unwrap().into_inner();
        let committed = |event: pb::AuditEvent| Committed {
            revision: event.revision,
            request_id: event.request_id,
            roles: event.role_ids,
        };
        trail.extend(page.events.into_iter().map(committed));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            // A deletion tells of the members that it moves in events before its own.
            trail.dedup_by(|part, whole| {
                (part.revision, &part.request_id) == (whole.revision, &whole.request_id)
            });
            return trail;
        }
    }
}

fn heard(decision: pb::Decision) -> Verdict {
    let reason = decision.reason().as_str_name();
    let scope = |scope: String| Some(scope).filter(|scope| !scope.is_empty());
    Verdict {
        allowed: decision.verdict() == pb::Verdict::Allowed,
        reason: reason.strip_prefix("DECISION_REASON_").unwrap_or(reason).to_owned(),
        decided_by: decision
            .decided_by
            .into_iter()
            .map(|by| (by.role_id, scope(by.scope)))
            .collect(),
    }
}

fn spoken(grants: &[Grant]) -> Vec<pb::Grant> {
    let grant = |grant: &Grant| pb::Grant {
        permission: grant.permission.clone(),
        scope: grant.scope.clone().unwrap_or_default(),
    };
    grants.iter().map(grant).collect()
}

fn spoken_resource(resource: &Resource) -> pb::Resource {
    let list = |ids: &Vec<String>| pb::IdList::from(ids.clone());
    pb::Resource {
        id: String::new(),
        assignees: resource.assignees.as_ref().map(list),
        teams: resource.teams.as_ref().map(list),
        creator_id: resource.creator.clone().map(Option::unwrap_or_default),
        participants: resource.participants.as_ref().map(list),
        public: resource.public,
    }
}
