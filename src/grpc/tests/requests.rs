//! Every method: who may call it, what it misses in an empty message, and what else is particular.

use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{Apis, of_caller, reason, tenant, violations};
use crate::grpc::pb;
use crate::grpc::pb::authz_service_server::AuthzService;
use crate::grpc::pb::member_service_server::MemberService;
use crate::grpc::pb::role_service_server::RoleService;
use crate::grpc::pb::tenant_service_server::TenantService;

/// The refusals of every method for an empty message, by the method's name.
macro_rules! refusals {
    ($apis:ident, $request:path) => {
        refusals! { @ $apis, $request;
            authz: check CheckRequest, batch_check BatchCheckRequest,
                filter_resources FilterResourcesRequest, plan_filter PlanFilterRequest,
                list_effective_permissions ListEffectivePermissionsRequest,
                list_authorized_members ListAuthorizedMembersRequest, explain ExplainRequest;
            roles: list_permissions ListPermissionsRequest, create_role CreateRoleRequest,
                get_role GetRoleRequest, list_roles ListRolesRequest,
                update_role UpdateRoleRequest, delete_role DeleteRoleRequest,
                clone_role CloneRoleRequest, preview_role_change PreviewRoleChangeRequest,
                list_audit_events ListAuditEventsRequest;
            tenants: create_tenant CreateTenantRequest, get_tenant GetTenantRequest,
                change_plan ChangePlanRequest, move_catalog MoveCatalogRequest,
                delete_tenant DeleteTenantRequest, undelete_tenant UndeleteTenantRequest,
                purge_tenant PurgeTenantRequest;
            members: create_member CreateMemberRequest, get_member GetMemberRequest,
                list_members ListMembersRequest, update_member UpdateMemberRequest,
                assign_roles AssignRolesRequest, archive_member ArchiveMemberRequest,
                restore_member RestoreMemberRequest, delete_member DeleteMemberRequest,
                batch_upsert_members BatchUpsertMembersRequest;
        }
    };
    (@ $apis:ident, $request:path; $($api:ident: $($method:ident $message:ident),*;)*) => {
        vec![$($((
            stringify!($method),
            $apis.$api.$method($request(pb::$message::default())).await.unwrap_err(),
        )),*),*]
    };
}

#[tokio::test]
async fn nobody_is_answered_without_a_caller() {
    let apis = Apis::new().await;
    let mut all: Vec<(&str, Status)> = refusals!(apis, Request::new);
    let request = Request::new(pb::ListTenantsRequest::default());
    all.push(("list_tenants", apis.tenants.list_tenants(request).await.unwrap_err()));
    let request = Request::new(pb::WatchRequest::default());
    all.push(("watch", apis.authz.watch(request).await.unwrap_err()));
    for (method, status) in all {
        assert_eq!(status.code(), Code::Internal, "{method}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "INTERNAL", "{method}");
    }
}

#[tokio::test]
async fn every_method_names_the_fields_that_it_misses() {
    let apis = Apis::new().await;
    let expected: &[(&str, &[&str])] = &[
        ("check", &["tenant_id", "member_id", "permission"]),
        ("batch_check", &["tenant_id"]),
        ("filter_resources", &["tenant_id", "member_id", "permission"]),
        ("plan_filter", &["tenant_id", "member_id", "permission"]),
        ("list_effective_permissions", &["tenant_id", "member_id"]),
        ("list_authorized_members", &["tenant_id", "permission"]),
        ("explain", &["tenant_id", "member_id", "permission"]),
        ("list_permissions", &["tenant_id"]),
        ("create_role", &["tenant_id"]),
        ("get_role", &["tenant_id", "role_id"]),
        ("list_roles", &["tenant_id"]),
        ("update_role", &["tenant_id", "role_id", "update_mask"]),
        ("delete_role", &["tenant_id", "role_id"]),
        ("clone_role", &["tenant_id", "source_role_id"]),
        ("preview_role_change", &["tenant_id", "change"]),
        ("list_audit_events", &["tenant_id"]),
        ("create_tenant", &["tenant_id", "catalog_id", "owner_member_id"]),
        ("get_tenant", &["tenant_id"]),
        ("change_plan", &["tenant_id"]),
        ("move_catalog", &["tenant_id"]),
        ("delete_tenant", &["tenant_id"]),
        ("undelete_tenant", &["tenant_id"]),
        ("purge_tenant", &["tenant_id"]),
        ("create_member", &["tenant_id", "member_id"]),
        ("get_member", &["tenant_id", "member_id"]),
        ("list_members", &["tenant_id"]),
        ("update_member", &["tenant_id", "member_id", "team_ids", "update_mask"]),
        ("assign_roles", &["tenant_id", "member_id", "role_ids"]),
        ("archive_member", &["tenant_id", "member_id"]),
        ("restore_member", &["tenant_id", "member_id"]),
        ("delete_member", &["tenant_id", "member_id"]),
        ("batch_upsert_members", &["tenant_id"]),
    ];
    let found = refusals!(apis, of_caller);
    assert_eq!(found.len(), expected.len());
    for ((method, status), (expected_method, fields)) in found.into_iter().zip(expected) {
        assert_eq!(method, *expected_method);
        let details = status.get_details_bad_request().unwrap();
        let named: Vec<_> = details.field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, *fields, "{method}");
    }
}

#[tokio::test]
async fn an_actor_is_an_id_and_no_tenant_is_changed_on_behalf_of_one() {
    let apis = Apis::new().await;
    let actor_id = "kim".to_owned();
    let tenant_id = "t".to_owned();
    let empty = String::new;
    for (given, expected) in [
        ("x".repeat(129), vec!["actor_id FIELD_TOO_LONG"]),
        ("kim\n".to_owned(), vec!["actor_id FIELD_INVALID"]),
    ] {
        let request = pb::CreateRoleRequest {
            tenant_id: tenant_id.clone(),
            actor_id: given,
            ..Default::default()
        };
        assert_eq!(violations(apis.roles.create_role(of_caller(request)).await), expected);
    }
    macro_rules! refused {
        ($($method:ident $message:ident),*) => {
            $({
                let actor_id = actor_id.clone();
                let request = pb::$message { actor_id, ..Default::default() };
                let violations = violations(apis.tenants.$method(of_caller(request)).await);
                let name = stringify!($method);
                assert_eq!(violations[0], "actor_id ACTOR_NOT_APPLICABLE", "{name}");
                assert!(violations[1..].iter().all(|one| one.ends_with("FIELD_REQUIRED")));
            })*
        };
    }
    refused!(
        create_tenant CreateTenantRequest, change_plan ChangePlanRequest,
        move_catalog MoveCatalogRequest, delete_tenant DeleteTenantRequest,
        undelete_tenant UndeleteTenantRequest, purge_tenant PurgeTenantRequest
    );
    let request = pb::CreateRoleRequest { tenant_id, actor_id: empty(), ..Default::default() };
    let refused = reason(apis.roles.create_role(of_caller(request)).await);
    assert_eq!(refused, "TENANT_NOT_FOUND", "the caller by itself");
    // The audit is only searched for one.
    tenant(&apis, "t", "qpien").await;
    let request =
        pb::ListAuditEventsRequest { tenant_id: "t".into(), actor_id, ..Default::default() };
    let found = apis.roles.list_audit_events(of_caller(request)).await.unwrap().into_inner();
    assert!(found.events.is_empty());
}

#[tokio::test]
async fn a_request_id_stands_for_all_of_its_request() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    let request = |request_id: &str, description: &str| pb::CreateRoleRequest {
        tenant_id: "t".into(),
        name: "Night shift".into(),
        description: description.into(),
        request_id: request_id.into(),
        ..Default::default()
    };
    let first = apis.roles.create_role(of_caller(request("r", ""))).await.unwrap().into_inner();
    let again = apis.roles.create_role(of_caller(request("r", ""))).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = apis.roles.create_role(of_caller(request("r", "other"))).await;
    assert_eq!(reason(other), "REQUEST_ID_REUSED");
    let trial = pb::CreateRoleRequest { validate_only: true, ..request("r", "") };
    assert_eq!(reason(apis.roles.create_role(of_caller(trial)).await), "REQUEST_ID_REUSED");
    for (id, reason) in [("x".repeat(129), "FIELD_TOO_LONG"), ("a\nb".into(), "FIELD_INVALID")] {
        let found = violations(apis.roles.create_role(of_caller(request(&id, ""))).await);
        assert_eq!(found, [format!("request_id {reason}")]);
    }
}

#[tokio::test]
async fn items_of_a_batch_fail_one_by_one() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    let item = |member: &str, permission: &str| pb::CheckItem {
        member_id: member.into(),
        permission: permission.into(),
        resource: None,
    };
    let mut incomplete = item("owner", "chat.view");
    incomplete.resource = Some(pb::Resource {
        teams: Some(vec!["t".into(), String::new()].into()),
        ..Default::default()
    });
    let items = vec![
        item("owner", "chat.view"),
        item("", "chat.view"),
        item("owner", ""),
        item("owner", "chat.vew"),
        incomplete,
        item("nobody", "chat.view"),
    ];
    let request = pb::BatchCheckRequest { tenant_id: "t".into(), items, consistency: None };
    let answer = apis.authz.batch_check(of_caller(request)).await.unwrap().into_inner();
    use pb::check_item_result::Result as ItemResult;
    let seen: Vec<String> = answer
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            ItemResult::Decision(decision) => decision.reason().as_str_name().to_owned(),
            ItemResult::Error(error) => format!("{} {}", error.field, error.reason),
        })
        .collect();
    assert_eq!(
        seen,
        [
            "DECISION_REASON_GRANTED_BY_ROLE",
            "items[1].member_id FIELD_REQUIRED",
            "items[2].permission FIELD_REQUIRED",
            "items[3].permission UNKNOWN_PERMISSION",
            "items[4].resource.teams.ids[1] FIELD_REQUIRED",
            "DECISION_REASON_MEMBER_NOT_FOUND",
        ]
    );
    let items = vec![pb::CheckItem::default(); 10_001];
    let request = pb::BatchCheckRequest { tenant_id: "t".into(), items, consistency: None };
    let found = violations(apis.authz.batch_check(of_caller(request)).await);
    assert_eq!(found, ["items TOO_MANY_ITEMS"]);
}

#[tokio::test]
async fn members_of_a_batch_fail_one_by_one_or_all_at_once() {
    let apis = Apis::new().await;
    tenant(&apis, "t", "qpien").await;
    let member = |id: &str, roles: &[&str]| pb::MemberUpsert {
        member_id: id.into(),
        role_ids: Some(roles.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>().into()),
        keep_status: true,
        ..Default::default()
    };
    let mut strange = member("kim", &[]);
    (strange.status, strange.keep_status) = (7, false);
    let members = vec![
        member("lee", &["user"]),
        member("", &["a\nb"]),
        strange,
        member("owner", &["user"]),
        member("lee", &[]),
    ];
    let request = |mode: pb::BatchMode| pb::BatchUpsertMembersRequest {
        tenant_id: "t".into(),
        members: members.clone(),
        mode: mode.into(),
        ..Default::default()
    };
    let found = violations(
        apis.members.batch_upsert_members(of_caller(request(pb::BatchMode::AllOrNothing))).await,
    );
    assert_eq!(
        found,
        [
            "members[1].member_id FIELD_REQUIRED",
            "members[1].role_ids.ids[0] FIELD_INVALID",
            "members[2].status FIELD_INVALID",
            "members[4].member_id DUPLICATE_ITEM",
        ]
    );
    let answer =
        apis.members.batch_upsert_members(of_caller(request(pb::BatchMode::ItemByItem))).await;
    let results = answer.unwrap().into_inner().results;
    let seen: Vec<(String, String, String)> = results
        .into_iter()
        .map(|result| {
            let outcome = result.outcome().as_str_name().replace("UPSERT_OUTCOME_", "");
            let error = result.error.unwrap_or_default();
            (result.member_id, outcome, format!("{} {}", error.field, error.reason))
        })
        .collect();
    let expected = [
        ("lee", "CREATED", " "),
        ("", "REFUSED", "members[1].member_id FIELD_REQUIRED"),
        ("kim", "REFUSED", "members[2].status FIELD_INVALID"),
        ("owner", "REFUSED", " LAST_OWNER"),
        ("lee", "REFUSED", "members[4].member_id DUPLICATE_ITEM"),
    ];
    let expected: Vec<_> =
        expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).into();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn fields_inside_a_request_are_named_by_their_paths() {
    let apis = Apis::new().await;
    tenant(&apis, "qp", "qpien").await;
    tenant(&apis, "oq", "oqupie").await;
    let create = |tenant: &str, grants: Vec<pb::Grant>| pb::CreateRoleRequest {
        tenant_id: tenant.into(),
        name: "Night shift".into(),
        grants,
        ..Default::default()
    };
    let grant =
        |permission: &str| pb::Grant { permission: permission.into(), scope: String::new() };
    let found =
        apis.roles.create_role(of_caller(create("qp", vec![grant("chat.view"), grant("")])));
    assert_eq!(violations(found.await), ["grants[1].permission FIELD_REQUIRED"]);

    let resources = vec![
        pb::Resource { id: "1".into(), ..Default::default() },
        pb::Resource::default(),
        pb::Resource { creator_id: Some("a\nb".into()), ..Default::default() },
    ];
    let request = pb::FilterResourcesRequest {
        tenant_id: "qp".into(),
        member_id: "owner".into(),
        permission: "conversation.view".into(),
        resources,
        consistency: None,
    };
    let found = violations(apis.authz.filter_resources(of_caller(request)).await);
    assert_eq!(found, ["resources[1].id FIELD_REQUIRED", "resources[2].creator_id FIELD_INVALID"]);

    use pb::preview_role_change_request::Change;
    let preview = |tenant: &str, change| pb::PreviewRoleChangeRequest {
        tenant_id: tenant.into(),
        change: Some(change),
        ..Default::default()
    };
    let mut roles = Vec::new();
    for tenant in ["qp", "oq"] {
        let created = apis.roles.create_role(of_caller(create(tenant, vec![]))).await.unwrap();
        roles.push(created.into_inner().role.unwrap().id);
    }
    let update = |grants| {
        let update =
            pb::RoleUpdatePreview { role_id: roles[0].clone(), grants, expand_requirements: false };
        preview("qp", Change::Update(update))
    };
    let deletion = |target: &str| {
        let (role_id, reassign_to_role_id) = (roles[1].clone(), target.to_owned());
        preview("oq", Change::Deletion(pb::RoleDeletionPreview { role_id, reassign_to_role_id }))
    };
    let assignment = |members: &[&str], roles: &[&str]| {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let (member_ids, role_ids) = (ids(members), ids(roles));
        preview("qp", Change::Assignment(pb::RoleAssignmentPreview { member_ids, role_ids }))
    };
    for (request, expected) in [
        (update(vec![grant("")]), "update.grants[0].permission FIELD_REQUIRED"),
        (update(vec![grant("chat.vew")]), "update.grants[0].permission UNKNOWN_PERMISSION"),
        (deletion("a\nb"), "deletion.reassign_to_role_id FIELD_INVALID"),
        (deletion("nobody"), "deletion.reassign_to_role_id UNKNOWN_ROLE"),
        (assignment(&["kim", ""], &[]), "assignment.member_ids[1] FIELD_REQUIRED"),
        (assignment(&["owner"], &["nobody"]), "assignment.role_ids[0] UNKNOWN_ROLE"),
        (assignment(&["x"; 1_001], &[]), "assignment.member_ids TOO_MANY_ITEMS"),
    ] {
        let found = violations(apis.roles.preview_role_change(of_caller(request)).await);
        assert_eq!(found, [expected]);
    }
}
