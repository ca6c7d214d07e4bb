//! One administrator's day, through a real server: what she may do, what she is refused, and what
//! the audit says of it.

use std::fmt::Debug;

use rolegate::grpc::pb;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::process::{Clients, Server};

#[track_caller]
fn refused<T: Debug>(result: Result<Response<T>, Status>) -> String {
    let status = result.expect_err("it was not refused");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    status.get_details_error_info().unwrap().reason
}

fn grants(written: &[(&str, &str)]) -> Vec<pb::Grant> {
    let grant = |(permission, scope): &(&str, &str)| pb::Grant {
        permission: (*permission).into(),
        scope: (*scope).into(),
    };
    written.iter().map(grant).collect()
}

fn create_role(actor: &str, name: &str, written: &[(&str, &str)]) -> pb::CreateRoleRequest {
    pb::CreateRoleRequest {
        tenant_id: "acme".into(),
        name: name.into(),
        grants: grants(written),
        actor_id: actor.into(),
        ..Default::default()
    }
}

fn create_member(actor: &str, id: &str, role: &str) -> pb::CreateMemberRequest {
    pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: id.into(),
        role_ids: vec![role.into()],
        actor_id: actor.into(),
        ..Default::default()
    }
}

fn assign(actor: &str, id: &str, role: &str) -> pb::AssignRolesRequest {
    pb::AssignRolesRequest {
        tenant_id: "acme".into(),
        member_id: id.into(),
        role_ids: vec![role.into()],
        actor_id: actor.into(),
        ..Default::default()
    }
}

async fn events(clients: &mut Clients, actor: &str) -> Vec<pb::AuditEvent> {
    let request = pb::ListAuditEventsRequest {
        tenant_id: "acme".into(),
        actor_id: actor.into(),
        ..Default::default()
    };
    let mut events = clients.roles.list_audit_events(request).await.unwrap().into_inner().events;
    events.reverse();
    events
}

#[tokio::test]
async fn an_administrator_acts_within_what_she_holds() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let tenant = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olga".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(tenant).await.unwrap();
    // The platform makes the first administrator, the owner the one who watches webhooks.
    clients.members.create_member(create_member("", "ann", "admin")).await.unwrap();
    let hooks = create_role("olga", "Hooks", &[("settings.webhooks.manage", "")]);
    let hooks = clients.roles.create_role(hooks).await.unwrap().into_inner().role.unwrap();
    clients.members.create_member(create_member("olga", "hank", &hooks.id)).await.unwrap();

    // What she holds, she gives.
    let night = [("chat.view", ""), ("conversation.view", "team")];
    let night = clients.roles.create_role(create_role("ann", "Night", &night)).await.unwrap();
    let night = night.into_inner().role.unwrap();
    clients.members.create_member(create_member("ann", "kim", &night.id)).await.unwrap();

    // What she lacks, she neither gives nor takes.
    let wanted = create_role("ann", "Mine", &[("settings.webhooks.manage", "")]);
    assert_eq!(refused(clients.roles.create_role(wanted).await), "ACTOR_LACKS_GRANT");
    let status = clients.members.assign_roles(assign("ann", "kim", &hooks.id)).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "ACTOR_LACKS_GRANT");
    assert_eq!(info.metadata["missing"], "settings.webhooks.manage");
    assert_eq!(info.metadata["role"], hooks.id);
    let demote = assign("ann", "hank", &night.id);
    assert_eq!(refused(clients.members.assign_roles(demote).await), "ACTOR_OUTRANKED");
    let promote = assign("ann", "ann", "owner");
    assert_eq!(refused(clients.members.assign_roles(promote).await), "ACTOR_IS_SUBJECT");
    let promote = assign("ann", "kim", "owner");
    assert_eq!(refused(clients.members.assign_roles(promote).await), "OWNER_REQUIRED");
    // Who administers nothing learns nothing.
    let nothing = assign("kim", "nobody-at-all", "no-such-role");
    assert_eq!(refused(clients.members.assign_roles(nothing).await), "ACTOR_NOT_PERMITTED");
    // A trial says what the write would, and is not recorded.
    let mut trial = assign("ann", "kim", "owner");
    trial.validate_only = true;
    assert_eq!(refused(clients.members.assign_roles(trial).await), "OWNER_REQUIRED");

    let done: Vec<(String, String)> = events(&mut clients, "ann")
        .await
        .into_iter()
        .map(|event| (event.method, event.refusal))
        .collect();
    let done: Vec<(&str, &str)> =
        done.iter().map(|(method, refusal)| (method.as_str(), refusal.as_str())).collect();
    assert_eq!(
        done,
        [
            ("RoleService/CreateRole", ""),
            ("MemberService/CreateMember", ""),
            ("RoleService/CreateRole", "ACTOR_LACKS_GRANT"),
            ("MemberService/AssignRoles", "ACTOR_LACKS_GRANT"),
            ("MemberService/AssignRoles", "ACTOR_OUTRANKED"),
            ("MemberService/AssignRoles", "ACTOR_IS_SUBJECT"),
            ("MemberService/AssignRoles", "OWNER_REQUIRED"),
        ]
    );
    let of_kim = events(&mut clients, "kim").await;
    let [tried] = of_kim.as_slice() else { panic!("{of_kim:?}") };
    assert_eq!((tried.refusal.as_str(), tried.caller.as_str()), ("ACTOR_NOT_PERMITTED", "dev"));
    assert!(tried.member_ids.is_empty(), "whoever is no member is not named: {tried:?}");
    assert_eq!(tried.after_json, r#"{"roles":["no-such-role"]}"#);
    assert_eq!(tried.revision, 6, "the one that it was refused at");

    // Erased, she is no actor in the trail either, and does not come back into it.
    let delete = pb::DeleteMemberRequest {
        tenant_id: "acme".into(),
        member_id: "ann".into(),
        actor_id: "olga".into(),
        ..Default::default()
    };
    clients.members.delete_member(delete).await.unwrap();
    let late = assign("ann", "kim", "owner");
    assert_eq!(refused(clients.members.assign_roles(late).await), "ACTOR_NOT_FOUND");
    assert_eq!(events(&mut clients, "ann").await, []);
    let all = format!("{:?}", events(&mut clients, "").await);
    assert!(!all.contains("\"ann\""), "{all}");
}

/// Two plain members who make noise do not keep what an administrator tries out of the trail.
#[tokio::test]
async fn refused_attempts_are_not_crowded_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let tenant = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(tenant).await.unwrap();
    for (id, role) in [("loud", "user"), ("shrill", "user"), ("boss", "admin")] {
        clients.members.create_member(create_member("", id, role)).await.unwrap();
    }
    for loud in ["loud", "shrill"] {
        for _ in 0..55 {
            refused(clients.members.create_member(create_member(loud, "kim", "user")).await);
        }
    }
    let reason = refused(clients.members.assign_roles(assign("boss", "loud", "owner")).await);
    let tried = events(&mut clients, "boss").await;
    assert_eq!(tried.len(), 1, "{tried:?}");
    assert_eq!(tried[0].refusal, reason);
    assert!(server.log().contains("\"actor\":\"boss\""), "the log does not say who tried it");
}
