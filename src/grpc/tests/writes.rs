//! What writes do, and what trials of them answer.

use super::super::pb::member_service_server::MemberService;
use super::super::pb::role_service_server::RoleService;
use super::super::pb::tenant_service_server::TenantService;
use super::{Apis, of_caller, pb, tenant};

async fn create(apis: &Apis, member: &str) {
    let request = pb::CreateMemberRequest {
        tenant_id: "t".into(),
        member_id: member.into(),
        ..Default::default()
    };
    apis.members.create_member(of_caller(request)).await.unwrap();
}

#[tokio::test]
async fn an_item_that_cannot_be_read_archives_nobody_that_it_may_mean() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    create(&apis, "kim").await;
    create(&apis, "lee").await;
    let item = |id: &str, status: i32| pb::MemberUpsert {
        member_id: id.into(),
        status,
        keep_status: status == 0,
        ..Default::default()
    };
    let sync = async |members: Vec<pb::MemberUpsert>| {
        let request = pb::BatchUpsertMembersRequest {
            tenant_id: "t".into(),
            members,
            mode: pb::BatchMode::ItemByItem.into(),
            archive_absent: true,
            ..Default::default()
        };
        apis.members.batch_upsert_members(of_caller(request)).await.unwrap().into_inner()
    };
    let answer = sync(vec![item("owner", 0), item("kim", 0), item("l\nee", 0)]).await;
    assert_eq!(answer.archived_member_ids, Vec::<String>::new());
    assert!(answer.absent_not_archived);
    // Its status cannot be read, but it names kim.
    let answer = sync(vec![item("owner", 0), item("kim", 7)]).await;
    assert_eq!(answer.archived_member_ids, ["lee"]);
    assert!(!answer.absent_not_archived);
}

#[tokio::test]
async fn a_trial_answers_with_the_etag_that_is() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    let draft = |name: &str, validate_only| pb::CreateRoleRequest {
        tenant_id: "t".into(),
        name: name.into(),
        validate_only,
        ..Default::default()
    };
    let role = async |request| {
        let answer = apis.roles.create_role(of_caller(request)).await.unwrap();
        answer.into_inner().role.unwrap()
    };
    assert_eq!(role(draft("Night", true)).await.etag, "");
    let made = role(draft("Night", false)).await;
    let edit = pb::UpdateRoleRequest {
        tenant_id: "t".into(),
        role_id: made.id.clone(),
        name: "Day".into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["name".into()] }),
        validate_only: true,
        ..Default::default()
    };
    let tried = apis.roles.update_role(of_caller(edit)).await.unwrap().into_inner();
    assert_eq!(tried.role.unwrap().etag, made.etag);

    let member = pb::CreateMemberRequest {
        tenant_id: "t".into(),
        member_id: "kim".into(),
        validate_only: true,
        ..Default::default()
    };
    let tried = apis.members.create_member(of_caller(member)).await.unwrap().into_inner();
    assert_eq!(tried.member.unwrap().etag, "");
    create(&apis, "kim").await;
    let get = pb::GetMemberRequest { tenant_id: "t".into(), member_id: "kim".into() };
    let kim = apis.members.get_member(of_caller(get)).await.unwrap().into_inner().member.unwrap();
    let archive = pb::ArchiveMemberRequest {
        tenant_id: "t".into(),
        member_id: "kim".into(),
        validate_only: true,
        ..Default::default()
    };
    let tried = apis.members.archive_member(of_caller(archive)).await.unwrap().into_inner();
    assert_eq!(tried.member.unwrap().etag, kim.etag);

    let get = pb::GetTenantRequest { tenant_id: "t".into(), show_deleted: false };
    let now = apis.tenants.get_tenant(of_caller(get)).await.unwrap().into_inner().tenant.unwrap();
    let delete = pb::DeleteTenantRequest {
        tenant_id: "t".into(),
        validate_only: true,
        ..Default::default()
    };
    let tried = apis.tenants.delete_tenant(of_caller(delete)).await.unwrap().into_inner();
    assert_eq!(tried.tenant.unwrap().etag, now.etag);
}

#[tokio::test]
async fn the_audit_says_where_members_went_and_who_owns() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "oqupie").await;
    let role =
        pb::CreateRoleRequest { tenant_id: "t".into(), name: "Night".into(), ..Default::default() };
    let made = apis.roles.create_role(of_caller(role)).await.unwrap().into_inner();
    let id = made.role.unwrap().id;
    let member = pb::CreateMemberRequest {
        tenant_id: "t".into(),
        member_id: "kim".into(),
        role_ids: vec![id.clone()],
        ..Default::default()
    };
    apis.members.create_member(of_caller(member)).await.unwrap();
    let delete = pb::DeleteRoleRequest {
        tenant_id: "t".into(),
        role_id: id,
        reassign_to_role_id: "agent".into(),
        ..Default::default()
    };
    apis.roles.delete_role(of_caller(delete)).await.unwrap();
    let list = pb::ListAuditEventsRequest { tenant_id: "t".into(), ..Default::default() };
    let events = apis.roles.list_audit_events(of_caller(list)).await.unwrap().into_inner().events;
    let after = |event: Option<&pb::AuditEvent>| -> serde_json::Value {
        serde_json::from_str(&event.unwrap().after_json).unwrap()
    };
    assert_eq!(
        after(events.first()),
        serde_json::json!({ "reassigned_to": "agent", "active_members": 1, "archived_members": 0 })
    );
    let created = after(events.last());
    assert_eq!(created["owner"]["id"], "owner");
    assert_eq!(created["tenant"]["plan"], "enterprise");
}
