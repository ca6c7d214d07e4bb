//! Every RPC, as callers with each capability meet it, in a tenant of theirs and in one that is not:
//! `matrix.txt` has what comes of it. A new RPC without a row fails, and so does one whose answer
//! about another's tenant differs in a single byte from the one about a tenant that nobody made.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::{Buf, BufMut};
use prost::Message;
use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::member_service_client::MemberServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::setup::{hash, tokened};
use crate::e2e::process::Server;

const GOLDEN: &str = include_str!("matrix.txt");
const OURS: &str = "ours-1";
/// As long as each other, so that one can be written over the other.
const THEIRS: &str = "them-1";
const NOBODYS: &str = "none-1";
const CAPABILITIES: [&str; 5] = ["check", "read", "watch", "act", "admin"];

/// Messages as bytes.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Bytes
    }

    fn decoder(&mut self) -> Self {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

/// The first message of an answer, or the error with its details.
type Answer = Result<Vec<u8>, (i32, String, Vec<u8>)>;

async fn call(channel: &Channel, path: &str, message: Vec<u8>, token: Option<&str>) -> Answer {
    let request = match token {
        Some(token) => tokened(token, message),
        None => Request::new(message),
    };
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let answer = async {
        // A single answer is a stream of one.
        let mut stream =
            client.server_streaming(request, path.parse().unwrap(), Bytes).await?.into_inner();
        Ok(stream.message().await?.unwrap_or_default())
    };
    answer.await.map_err(|status: Status| {
        (status.code() as i32, status.message().to_owned(), status.details().to_vec())
    })
}

fn word(answer: &Answer) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err((code, message, details)) => {
            let status = Status::with_details((*code).into(), message, details.clone().into());
            match status.get_details_error_info() {
                Some(info) if info.reason == "CALLER_UNAUTHENTICATED" => "?".to_owned(),
                Some(info) if info.reason == "CAPABILITY_MISSING" => "-".to_owned(),
                Some(info) => info.reason,
                None => format!("{code} without a reason"),
            }
        }
    }
}

/// The same with every `from` written over by `to`.
fn renamed(answer: Answer, from: &str, to: &str) -> Answer {
    let over = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        for start in 0..bytes.len().saturating_sub(from.len() - 1) {
            if bytes[start..].starts_with(from.as_bytes()) {
                bytes[start..start + from.len()].copy_from_slice(to.as_bytes());
            }
        }
        bytes
    };
    match answer {
        Ok(message) => Ok(over(message)),
        Err((code, message, details)) => Err((code, message.replace(from, to), over(details))),
    }
}

macro_rules! requests {
    ($tenant:ident: $($path:literal = $message:ident { $($field:ident: $value:expr),* $(,)? };)*) => {
        /// A sound request for each method. What changes something is a trial.
        fn requests(tenant: &str) -> BTreeMap<&'static str, Vec<u8>> {
            let $tenant = || tenant.to_owned();
            #[expect(clippy::needless_update, reason = "some messages have no other fields")]
            [$((
                $path,
                pb::$message { $($field: $value,)* ..Default::default() }.encode_to_vec(),
            )),*]
            .into()
        }
    };
}

fn kim() -> String {
    "kim".to_owned()
}

fn see() -> String {
    "chat.view".to_owned()
}

fn admin() -> String {
    "admin".to_owned()
}

requests! { tenant:
    "AuthzService/Check" = CheckRequest { tenant_id: tenant(), member_id: kim(), permission: see() };
    "AuthzService/BatchCheck" = BatchCheckRequest {
        tenant_id: tenant(),
        items: vec![pb::CheckItem { member_id: kim(), permission: see(), resource: None }],
    };
    "AuthzService/CheckStream" = CheckStreamRequest {
        tenant_id: tenant(),
        items: vec![pb::CheckStreamItem {
            correlation_id: 1, member_id: kim(), permission: see(), resource: None,
        }],
    };
    "AuthzService/FilterResources" = FilterResourcesRequest {
        tenant_id: tenant(), member_id: kim(), permission: see(),
        resources: vec![pb::Resource { id: "r".into(), ..Default::default() }],
    };
    "AuthzService/PlanFilter" = PlanFilterRequest {
        tenant_id: tenant(), member_id: kim(), permission: see(),
    };
    "AuthzService/ListEffectivePermissions" = ListEffectivePermissionsRequest {
        tenant_id: tenant(), member_id: kim(),
    };
    "AuthzService/ListAuthorizedMembers" = ListAuthorizedMembersRequest {
        tenant_id: tenant(), permission: see(),
    };
    "AuthzService/Explain" = ExplainRequest { tenant_id: tenant(), member_id: kim(), permission: see() };
    "AuthzService/Watch" = WatchRequest { tenant_ids: vec![tenant()] };
    "RoleService/ListPermissions" = ListPermissionsRequest { tenant_id: tenant() };
    "RoleService/GetRole" = GetRoleRequest { tenant_id: tenant(), role_id: admin() };
    "RoleService/ListRoles" = ListRolesRequest { tenant_id: tenant() };
    "RoleService/PreviewRoleChange" = PreviewRoleChangeRequest {
        tenant_id: tenant(),
        change: Some(pb::preview_role_change_request::Change::Assignment(
            pb::RoleAssignmentPreview { member_ids: vec![kim()], role_ids: vec![admin()] },
        )),
    };
    "RoleService/ListAuditEvents" = ListAuditEventsRequest { tenant_id: tenant() };
    "RoleService/CreateRole" = CreateRoleRequest {
        tenant_id: tenant(), name: "Night".into(), validate_only: true,
    };
    "RoleService/UpdateRole" = UpdateRoleRequest {
        tenant_id: tenant(), role_id: admin(), name: "Night".into(), validate_only: true,
        update_mask: Some(prost_types::FieldMask { paths: vec!["name".into()] }),
    };
    "RoleService/DeleteRole" = DeleteRoleRequest {
        tenant_id: tenant(), role_id: admin(), validate_only: true,
    };
    "RoleService/CloneRole" = CloneRoleRequest {
        tenant_id: tenant(), source_role_id: "user".into(), name: "Night".into(),
        validate_only: true,
    };
    "TenantService/CreateTenant" = CreateTenantRequest {
        tenant_id: tenant(), catalog_id: "qpien".into(), owner_member_id: "owner".into(),
        validate_only: true,
    };
    "TenantService/GetTenant" = GetTenantRequest { tenant_id: tenant() };
    "TenantService/ListTenants" = ListTenantsRequest {};
    "TenantService/ChangePlan" = ChangePlanRequest { tenant_id: tenant(), validate_only: true };
    "TenantService/MoveCatalog" = MoveCatalogRequest {
        tenant_id: tenant(), catalog_version: 1, validate_only: true,
    };
    "TenantService/DeleteTenant" = DeleteTenantRequest { tenant_id: tenant(), validate_only: true };
    "TenantService/UndeleteTenant" = UndeleteTenantRequest {
        tenant_id: tenant(), validate_only: true,
    };
    "TenantService/PurgeTenant" = PurgeTenantRequest { tenant_id: tenant(), validate_only: true };
    "MemberService/GetMember" = GetMemberRequest { tenant_id: tenant(), member_id: kim() };
    "MemberService/ListMembers" = ListMembersRequest { tenant_id: tenant() };
    "MemberService/CreateMember" = CreateMemberRequest {
        tenant_id: tenant(), member_id: "new".into(), validate_only: true,
    };
    "MemberService/UpdateMember" = UpdateMemberRequest {
        tenant_id: tenant(), member_id: kim(), team_ids: vec!["sales".into()], validate_only: true,
        update_mask: Some(prost_types::FieldMask { paths: vec!["team_ids".into()] }),
    };
    "MemberService/AssignRoles" = AssignRolesRequest {
        tenant_id: tenant(), member_id: kim(), role_ids: vec![admin()], validate_only: true,
    };
    "MemberService/ArchiveMember" = ArchiveMemberRequest {
        tenant_id: tenant(), member_id: kim(), validate_only: true,
    };
    "MemberService/RestoreMember" = RestoreMemberRequest {
        tenant_id: tenant(), member_id: kim(), validate_only: true,
    };
    "MemberService/DeleteMember" = DeleteMemberRequest {
        tenant_id: tenant(), member_id: kim(), validate_only: true,
    };
    "MemberService/BatchUpsertMembers" = BatchUpsertMembersRequest {
        tenant_id: tenant(), validate_only: true,
        members: vec![pb::MemberUpsert {
            member_id: "new".into(), keep_status: true, ..Default::default()
        }],
    };
}

fn methods() -> Vec<String> {
    let descriptors = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
    });
    methods.collect()
}

fn callers() -> String {
    let mut callers = String::new();
    let mut caller = |name: &str, capabilities: &str, more: &str| {
        let hash = hash(name);
        write!(
            callers,
            "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{hash}\"]\n\
             capabilities = [{capabilities}]\n{more}\n"
        )
        .unwrap();
    };
    for capability in CAPABILITIES {
        caller(capability, &format!("\"{capability}\""), &format!("tenants = [\"{OURS}\"]"));
    }
    caller("setup", "\"admin\", \"read\"", "");
    callers
}

/// A server on loopback without TLS, with two tenants.
async fn server() -> (tempfile::TempDir, Server, Channel) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("callers.toml"), callers()).unwrap();
    let arguments = [
        "serve",
        "--callers",
        "callers.toml",
        "--grpc-addr",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ];
    let server = Server::spawn(directory.path(), &arguments).unwrap();
    let channel = server.channel().await;
    for tenant in [OURS, THEIRS] {
        let request = pb::CreateTenantRequest {
            tenant_id: tenant.into(),
            catalog_id: "qpien".into(),
            owner_member_id: "owner".into(),
            ..Default::default()
        };
        let mut tenants = TenantServiceClient::new(channel.clone());
        tenants.create_tenant(tokened("setup", request)).await.unwrap();
        let request = pb::CreateMemberRequest {
            tenant_id: tenant.into(),
            member_id: kim(),
            role_ids: vec!["user".into()],
            ..Default::default()
        };
        let mut members = MemberServiceClient::new(channel.clone());
        members.create_member(tokened("setup", request)).await.unwrap();
    }
    (directory, server, channel)
}

#[tokio::test]
async fn every_method_as_every_caller_in_and_out_of_its_tenants() {
    let (_directory, _server, channel) = server().await;
    let (ours, theirs, nobodys) = (requests(OURS), requests(THEIRS), requests(NOBODYS));
    let mut matrix = String::from(
        "# Each method, as callers with no more than each capability meet it, in a tenant of theirs and out.\n\
         # ? CALLER_UNAUTHENTICATED; - CAPABILITY_MISSING; absent: as if nobody had made the tenant.\n",
    );
    for method in methods() {
        let path = format!("/rolegate.v1.{method}");
        let message = |requests: &BTreeMap<&str, Vec<u8>>| {
            let found = requests.get(method.as_str()).cloned();
            found.unwrap_or_else(|| panic!("{method} is not in the matrix"))
        };
        for (place, inside) in [("in", true), ("out", false)] {
            write!(matrix, "{method} {place}: none ").unwrap();
            let asked = if inside { message(&ours) } else { message(&theirs) };
            matrix.push_str(&word(&call(&channel, &path, asked.clone(), None).await));
            for capability in CAPABILITIES {
                let answer = call(&channel, &path, asked.clone(), Some(capability)).await;
                let said = word(&answer);
                // What each is told is told apart from what it is told of a tenant that is not there.
                let absent = call(&channel, &path, message(&nobodys), Some(capability)).await;
                // No two cursors are the same; what is delivered is looked at below.
                let cursors = method == "AuthzService/Watch" && answer.is_ok() && absent.is_ok();
                let absent = renamed(absent, NOBODYS, THEIRS);
                assert!(
                    inside || cursors || absent == answer,
                    "{method} as {capability} tells of another's tenant: {answer:?}, not {absent:?}"
                );
                let shown = match said.as_str() {
                    "ok" | "TENANT_NOT_FOUND"
                        if !inside && method != "TenantService/ListTenants" =>
                    {
                        "absent"
                    }
                    said => said,
                };
                write!(matrix, ", {capability} {shown}").unwrap();
            }
            matrix.push('\n');
        }
    }
    assert!(matrix == GOLDEN, "matrix.txt should be:\n{matrix}");
}

#[tokio::test]
async fn a_list_has_the_callers_own_tenants_only_and_its_pages_tell_of_no_others() {
    let (directory, server, channel) = server().await;
    let mut tenants = TenantServiceClient::new(channel.clone());
    let list = pb::ListTenantsRequest { page_size: 1, ..Default::default() };
    let own = tenants.list_tenants(tokened("read", list.clone())).await.unwrap().into_inner();
    let ids: Vec<_> = own.tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    assert_eq!((ids, own.next_page_token.as_str()), (vec![OURS], ""));
    let all = tenants.list_tenants(tokened("setup", list.clone())).await.unwrap().into_inner();
    assert_eq!((all.tenants[0].id.as_str(), all.next_page_token.is_empty()), (OURS, false));
    // Another's token leads through one's own tenants, of which there are no more.
    let next = pb::ListTenantsRequest { page_token: all.next_page_token, ..list };
    let moved = tenants.list_tenants(tokened("read", next)).await.unwrap().into_inner();
    assert!(moved.tenants.is_empty() && moved.next_page_token.is_empty());
    drop((directory, server));
}

#[tokio::test]
async fn a_watcher_hears_of_its_own_tenants_only() {
    let (_directory, _server, channel) = server().await;
    let named = |tenants: &[&str]| pb::WatchRequest {
        tenant_ids: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        cursor: String::new(),
    };
    let mut streams = Vec::new();
    for request in [named(&[]), named(&[OURS, THEIRS])] {
        let mut authz = AuthzServiceClient::new(channel.clone());
        let mut stream = authz.watch(tokened("watch", request)).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().unwrap().changes.is_empty());
        streams.push(stream);
    }
    for tenant in [THEIRS, OURS] {
        let request = pb::CreateMemberRequest {
            tenant_id: tenant.into(),
            member_id: "new".into(),
            ..Default::default()
        };
        let mut members = MemberServiceClient::new(channel.clone());
        members.create_member(tokened("setup", request)).await.unwrap();
    }
    for stream in &mut streams {
        let first = loop {
            let message = stream.message().await.unwrap().unwrap();
            if let Some(change) = message.changes.into_iter().next() {
                break change;
            }
        };
        assert_eq!(first.tenant_id, OURS);
    }
}

#[tokio::test]
async fn who_acts_for_members_only_must_name_one() {
    let (_directory, _server, channel) = server().await;
    let mut request = pb::CreateMemberRequest {
        tenant_id: OURS.into(),
        member_id: "new".into(),
        ..Default::default()
    };
    let mut members = MemberServiceClient::new(channel.clone());
    let alone = members.create_member(tokened("act", request.clone())).await.unwrap_err();
    let info = alone.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["capability"].as_str()),
        ("CAPABILITY_MISSING", "admin")
    );
    assert!(alone.message().contains("actor_id"), "{}", alone.message());
    request.actor_id = "owner".into();
    for (caller, missing) in [("act", false), ("admin", false), ("read", true)] {
        let said = members.create_member(tokened(caller, request.clone())).await;
        let reason = said.err().and_then(|status| status.get_details_error_info());
        let capability = reason.is_some_and(|info| info.reason == "CAPABILITY_MISSING");
        assert_eq!(capability, missing, "{caller}");
    }
    // What is wrong with the message is not even looked at.
    request.member_id = String::new();
    let said = members.create_member(tokened("check", request)).await.unwrap_err();
    assert_eq!(said.get_details_error_info().unwrap().reason, "CAPABILITY_MISSING");
}

#[tokio::test]
async fn a_stranger_gets_nothing_but_health() {
    let (_directory, _server, channel) = server().await;
    let of_unknown = word(&call(&channel, "/rolegate.v1.AuthzService/Chek", vec![], None).await);
    assert_eq!(of_unknown, "?");
    let known = call(&channel, "/rolegate.v1.AuthzService/Chek", vec![], Some("check")).await;
    assert_eq!(word(&known), "METHOD_NOT_FOUND");
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        assert_eq!(word(&call(&channel, &path, vec![], None).await), "?");
        // A message that asks for nothing is answered on the stream, which goes on.
        let known = word(&call(&channel, &path, vec![], Some("watch")).await);
        assert_eq!(known, "ok");
    }
    let health = call(&channel, "/grpc.health.v1.Health/Check", vec![], None).await;
    assert_eq!(word(&health), "ok");
}
