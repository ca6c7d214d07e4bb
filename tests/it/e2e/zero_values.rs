//! Zero values neither widen nor destroy: see `docs/reference/zero-values.md`, whose table is held to
//! the descriptors here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use rolegate::grpc::pb;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::process::{Clients, Server};

const TABLE: &str = include_str!("../../../docs/reference/zero-values.md");

/// Every field of every message that can be in a request, as `Message.field`.
fn fields() -> BTreeSet<String> {
    fn visit(
        name: &str,
        messages: &BTreeMap<String, &DescriptorProto>,
        fields: &mut BTreeSet<String>,
    ) {
        let Some(message) = messages.get(name) else { return };
        for field in &message.field {
            let is_new = fields.insert(format!("{}.{}", message.name(), field.name()));
            if is_new && field.r#type() == Type::Message {
                visit(field.type_name(), messages, fields);
            }
        }
    }
    let descriptors = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let ours = || descriptors.file.iter().filter(|file| file.package() == "rolegate.v1");
    let messages = ours().flat_map(|file| &file.message_type);
    let messages: BTreeMap<_, _> =
        messages.map(|message| (format!(".rolegate.v1.{}", message.name()), message)).collect();
    let mut fields = BTreeSet::new();
    for method in ours().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        visit(method.input_type(), &messages, &mut fields);
    }
    fields
}

#[test]
fn every_field_of_every_request_is_decided_in_the_table() {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<&str> = rows.map(|row| row.split_once('`').unwrap().0).collect();
    let table: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(rows.len(), table.len(), "a field stands in the table twice");
    let fields = fields();
    let everywhere = |field: &str| format!("*.{}", field.split_once('.').unwrap().1);
    let undecided: Vec<_> = fields
        .iter()
        .filter(|field| !table.contains(field.as_str()))
        .filter(|field| !table.contains(everywhere(field).as_str()))
        .collect();
    let page = "docs/reference/zero-values.md";
    assert!(undecided.is_empty(), "say in {page} what unset means of {undecided:?}");
    let is_field = |row: &&&str| match row.strip_prefix("*.") {
        Some(name) => fields.iter().any(|field| field.split_once('.').unwrap().1 == name),
        None => fields.contains(**row),
    };
    let stale: Vec<_> = table.iter().filter(|row| !is_field(row)).collect();
    assert!(stale.is_empty(), "there is no such field: {stale:?}");
}

/// Refused for this field, with a text that says what to send.
#[track_caller]
fn refused<T: Debug>(answer: Result<Response<T>, Status>, field: &str, send: &str) {
    let status = answer.expect_err(field);
    assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "FIELD_INVALID", "{field}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let [violation] = &violations[..] else { panic!("{field}: {violations:?}") };
    assert_eq!(violation.field, field);
    assert!(violation.description.contains(send), "{field}: {}", violation.description);
}

fn mask(field: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![field.into()] })
}

const TENANT: &str = "demo-qpien";

#[tokio::test]
async fn what_would_take_everything_is_refused_until_it_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--demo"]);
    let Clients { mut roles, mut members, .. } = Clients::connect(&server).await;
    let made = roles
        .create_role(pb::CreateRoleRequest {
            tenant_id: TENANT.into(),
            name: "Greeter".into(),
            grants: vec![pb::Grant { permission: "chat.view".into(), scope: String::new() }],
            ..Default::default()
        })
        .await
        .unwrap();
    let role = made.into_inner().role.unwrap();
    let get = pb::GetMemberRequest { tenant_id: TENANT.into(), member_id: "ula".into() };
    let before = members.get_member(get.clone()).await.unwrap().into_inner().member.unwrap();

    let update = pb::UpdateRoleRequest {
        tenant_id: TENANT.into(),
        role_id: role.id.clone(),
        update_mask: mask("grants"),
        ..Default::default()
    };
    let grants = role.grants.clone();
    let both = pb::UpdateRoleRequest { grants, no_grants: true, ..update.clone() };
    refused(roles.update_role(update.clone()).await, "grants", "\"no_grants\": true");
    refused(roles.update_role(both).await, "no_grants", "unset");
    let teams = pb::UpdateMemberRequest {
        tenant_id: TENANT.into(),
        member_id: "ula".into(),
        update_mask: mask("team_ids"),
        ..Default::default()
    };
    let team_ids = vec!["chat".into()];
    let both = pb::UpdateMemberRequest { team_ids, no_teams: true, ..teams.clone() };
    refused(members.update_member(teams.clone()).await, "team_ids", "\"no_teams\": true");
    refused(members.update_member(both).await, "no_teams", "unset");
    let assign = pb::AssignRolesRequest {
        tenant_id: TENANT.into(),
        member_id: "ula".into(),
        ..Default::default()
    };
    let role_ids = vec!["user".into()];
    let both = pb::AssignRolesRequest { role_ids, no_roles: true, ..assign.clone() };
    refused(members.assign_roles(assign.clone()).await, "role_ids", "\"no_roles\": true");
    refused(members.assign_roles(both).await, "no_roles", "unset");

    let after = members.get_member(get.clone()).await.unwrap().into_inner().member.unwrap();
    assert_eq!(after, before);
    let get_role = pb::GetRoleRequest {
        tenant_id: TENANT.into(),
        role_id: role.id.clone(),
        ..Default::default()
    };
    let kept = roles.get_role(get_role.clone()).await.unwrap().into_inner().role.unwrap();
    assert_eq!((kept.grants, kept.etag), (role.grants, role.etag));

    // Said out loud it is done.
    roles.update_role(pb::UpdateRoleRequest { no_grants: true, ..update }).await.unwrap();
    members.update_member(pb::UpdateMemberRequest { no_teams: true, ..teams }).await.unwrap();
    members.assign_roles(pb::AssignRolesRequest { no_roles: true, ..assign }).await.unwrap();
    let after = members.get_member(get).await.unwrap().into_inner().member.unwrap();
    assert_eq!((after.role_ids, after.team_ids), (vec![], vec![]));
    let kept = roles.get_role(get_role).await.unwrap().into_inner().role.unwrap();
    assert_eq!(kept.grants, []);
}

#[tokio::test]
async fn a_batch_that_lost_a_status_or_its_members_archives_and_keeps_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--demo"]);
    let Clients { mut members, .. } = Clients::connect(&server).await;
    let list = pb::ListMembersRequest { tenant_id: TENANT.into(), ..Default::default() };
    let before = members.list_members(list.clone()).await.unwrap().into_inner().members;
    let batch = |members| pb::BatchUpsertMembersRequest {
        tenant_id: TENANT.into(),
        members,
        ..Default::default()
    };
    let nobody = pb::BatchUpsertMembersRequest { archive_absent: true, ..batch(vec![]) };
    refused(members.batch_upsert_members(nobody).await, "members", "leave archive_absent unset");
    let ula = pb::MemberUpsert { member_id: "ula".into(), ..Default::default() };
    let lost = members.batch_upsert_members(batch(vec![ula.clone()])).await;
    refused(lost, "members[0].status", "MEMBER_STATUS_ARCHIVED");
    let status = pb::MemberStatus::Archived.into();
    let both = pb::MemberUpsert { status, keep_status: true, ..ula.clone() };
    let both = members.batch_upsert_members(batch(vec![both])).await;
    refused(both, "members[0].keep_status", "unset");
    let after = members.list_members(list).await.unwrap().into_inner().members;
    assert_eq!(after, before);

    let kept = pb::MemberUpsert { keep_status: true, ..ula };
    let kept = members.batch_upsert_members(batch(vec![kept])).await.unwrap().into_inner();
    assert_eq!(kept.results[0].outcome(), pb::UpsertOutcome::Unchanged);
    // Nobody is named, and nobody is to be archived.
    members.batch_upsert_members(batch(vec![])).await.unwrap();
}

#[tokio::test]
async fn freshness_and_widening_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--demo"]);
    let Clients { mut authz, mut tenants, .. } = Clients::connect(&server).await;
    let check = |consistency| pb::CheckRequest {
        tenant_id: TENANT.into(),
        member_id: "ula".into(),
        permission: "chat.view".into(),
        resource: None,
        consistency,
    };
    let lost = || Some(pb::Consistency { requirement: None });
    // From the second on it is at hand.
    for _ in 0..3 {
        refused(authz.check(check(lost())).await, "consistency", "leave consistency unset");
        authz.check(check(None)).await.unwrap();
    }
    let widest = pb::MoveCatalogRequest {
        tenant_id: TENANT.into(),
        accept_widening: true,
        ..Default::default()
    };
    refused(tenants.move_catalog(widest).await, "catalog_version", "must name the version");
}
