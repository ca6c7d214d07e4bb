//! No answer is larger than what clients take who were not told otherwise: all of these are such
//! clients, over a real socket.

use std::fmt::Write as _;

use rolegate::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::process::{Clients, Server};

/// What clients take.
const MOST: usize = 4 << 20;
/// Limit on the ids in it.
const MOST_OF_IDS: usize = MOST - (64 << 10);
const TENANT: &str = "acme";

async fn start(directory: &std::path::Path, catalog: &str, more: &[&str]) -> (Server, Clients) {
    let server = Server::start(directory, more);
    let clients = Clients::connect(&server).await;
    let tenant = pb::CreateTenantRequest {
        tenant_id: TENANT.into(),
        catalog_id: catalog.into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.clone().create_tenant(tenant).await.unwrap();
    (server, clients)
}

fn filter(count: usize, permission: &str) -> pb::FilterResourcesRequest {
    let id = |number| format!("{number:0>512}");
    let resource = |number| pb::Resource { id: id(number), ..Default::default() };
    pb::FilterResourcesRequest {
        tenant_id: TENANT.into(),
        member_id: "owner".into(),
        permission: permission.into(),
        resources: (0..count).map(resource).collect(),
        consistency: None,
    }
}

#[track_caller]
fn beyond(status: &Status, says: &str, limit: usize) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    let (code, reason) = (status.code(), info.reason.as_str());
    assert_eq!((code, reason), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{status:?}");
    assert_eq!(info.metadata["limit_bytes"], limit.to_string());
    assert!(status.message().contains(says), "{status:?}");
}

#[tokio::test]
async fn ids_that_fit_into_no_answer_are_refused_and_all_others_come() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, mut clients) = start(directory.path(), "qpien", &[]).await;
    let permission = "conversation.view";
    let refused = clients.authz.filter_resources(filter(10_000, permission)).await.unwrap_err();
    beyond(&refused, "fewer resources", MOST_OF_IDS);
    // Whatever the member may see: it does not depend on that.
    let nobody =
        pb::FilterResourcesRequest { member_id: "nobody".into(), ..filter(10_000, permission) };
    let refused = clients.authz.filter_resources(nobody).await.unwrap_err();
    beyond(&refused, "5150000 bytes, and may have 4128768", MOST_OF_IDS);
    // Once from the database, and once from memory.
    for _ in 0..2 {
        let found = clients.authz.filter_resources(filter(8_000, permission)).await.unwrap();
        assert_eq!(found.into_inner().allowed_ids.len(), 8_000);
    }
}

#[tokio::test]
async fn what_is_wrong_with_ten_thousand_items_fits_into_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, mut clients) = start(directory.path(), "qpien", &[]).await;
    let item = |number| pb::CheckItem {
        member_id: "owner".into(),
        permission: format!("no.such.{}{number}", "permission".repeat(20)),
        resource: None,
    };
    let batch = pb::BatchCheckRequest {
        tenant_id: TENANT.into(),
        items: (0..10_000).map(item).collect(),
        consistency: None,
    };
    let answer = clients.authz.batch_check(batch).await.unwrap().into_inner();
    assert_eq!(answer.items.len(), 10_000);
    for (number, item) in answer.items.iter().enumerate() {
        let Some(pb::check_item_result::Result::Error(error)) = &item.result else {
            panic!("{item:?}")
        };
        assert_eq!(error.reason, "UNKNOWN_PERMISSION");
        assert_eq!(error.field, format!("items[{number}].permission"));
        assert!(number > 0 || !error.message.is_empty());
    }
    let item =
        |number| pb::MemberUpsert { member_id: format!("{number:0>600}"), ..Default::default() };
    let batch = pb::BatchUpsertMembersRequest {
        tenant_id: TENANT.into(),
        members: (0..10_000).map(item).collect(),
        mode: pb::BatchMode::ItemByItem.into(),
        ..Default::default()
    };
    let answer = clients.members.batch_upsert_members(batch).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 10_000);
    for (number, result) in answer.results.iter().enumerate() {
        assert!(result.member_id.len() <= 128, "{result:?}");
        let error = result.error.as_ref().unwrap();
        assert_eq!(error.reason, "FIELD_TOO_LONG");
        assert_eq!(error.field, format!("members[{number}].member_id"));
    }
}

#[tokio::test]
async fn a_page_of_members_ends_before_it_is_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, mut clients) = start(directory.path(), "qpien", &[]).await;
    let teams: Vec<_> = (0..200).map(|number| format!("{number:0>128}")).collect();
    for number in 0..170 {
        let member = pb::CreateMemberRequest {
            tenant_id: TENANT.into(),
            member_id: format!("member-{number:0>3}"),
            team_ids: teams.clone(),
            ..Default::default()
        };
        clients.members.create_member(member).await.unwrap();
    }
    let (mut ids, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let list = pb::ListMembersRequest {
            tenant_id: TENANT.into(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = clients.members.list_members(list).await.unwrap().into_inner();
        ids.extend(page.members.into_iter().map(|member| member.id));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids.len(), 171);
    assert!(ids.is_sorted() && pages > 1, "{pages}");
}

/// A catalog with so many permissions that ten roles with all of them are too much.
fn wide() -> String {
    let mut catalog = r#"
id = "wide"
version = 1
title = "Wide"
owner_role = "owner"
[deletion]
policy = "reassign"
[administration]
roles = "settings.roles"
members = "settings.roles"
[[section]]
id = "settings"
title = "Settings"
[[permission]]
id = "settings.roles"
section = "settings"
title = "Roles"
[[role]]
id = "owner"
title = "Owner"
everything = true
[[role]]
id = "guest"
title = "Guest"
grants = ["settings.roles"]
"#
    .to_owned();
    for number in 0..4_000 {
        let id = permission(number);
        write!(catalog, "[[permission]]\nid = \"{id}\"\nsection = \"settings\"\ntitle = \"x\"\n")
            .unwrap();
    }
    catalog
}

fn permission(number: usize) -> String {
    format!("settings.{}_{number:0>4}", "x".repeat(100))
}

#[tokio::test]
async fn pages_of_roles_and_of_impacts_end_before_they_are_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wide.toml");
    std::fs::write(&file, wide()).unwrap();
    let file = file.display().to_string();
    let (_server, mut clients) = start(directory.path(), "wide", &["--catalog", &file]).await;
    let grant = |number| pb::Grant { permission: permission(number), scope: String::new() };
    let mut role_id = String::new();
    for number in 0..10 {
        let role = pb::CreateRoleRequest {
            tenant_id: TENANT.into(),
            name: format!("Role {number}"),
            grants: (0..4_000).map(grant).collect(),
            ..Default::default()
        };
        role_id = clients.roles.create_role(role).await.unwrap().into_inner().role.unwrap().id;
        let member = pb::CreateMemberRequest {
            tenant_id: TENANT.into(),
            member_id: format!("member-{number}"),
            role_ids: vec![role_id.clone()],
            ..Default::default()
        };
        clients.members.create_member(member).await.unwrap();
    }
    let get = pb::GetRoleRequest { tenant_id: TENANT.into(), role_id, ..Default::default() };
    let role = clients.roles.get_role(get).await.unwrap().into_inner().role.unwrap();
    assert_eq!(role.grants.len(), 4_000);

    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let list = pb::ListRolesRequest {
            tenant_id: TENANT.into(),
            view: pb::RoleView::Full.into(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = clients.roles.list_roles(list).await.unwrap().into_inner();
        names.extend(page.roles.into_iter().map(|role| role.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 12, "{names:?}");

    let (mut members, mut page_token) = (Vec::new(), String::new());
    loop {
        let assignment = pb::RoleAssignmentPreview {
            member_ids: (0..10).map(|number| format!("member-{number}")).collect(),
            role_ids: vec!["guest".into()],
        };
        let preview = pb::PreviewRoleChangeRequest {
            tenant_id: TENANT.into(),
            change: Some(pb::preview_role_change_request::Change::Assignment(assignment)),
            page_size: 1_000,
            page_token,
        };
        let page = clients.roles.preview_role_change(preview).await.unwrap().into_inner();
        assert_eq!(page.losing_member_count, 10);
        members.extend(page.members.into_iter().map(|impact| impact.member_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(members.len(), 10);
    assert!(members.is_sorted());
}
