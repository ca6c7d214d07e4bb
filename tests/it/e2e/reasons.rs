//! Every refusal that a client can meet: its status, its reason, its field, and that it changed
//! nothing. A coverage check at the end fails when a reason of `error_reason.proto` is in no case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use rolegate::grpc::pb::{self, ErrorReason};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::process::{Clients, Server};

/// Reasons that need a broken database, a lost one, or a race, and are shown where those are.
const ELSEWHERE: [ErrorReason; 13] = [
    ErrorReason::Unspecified,
    // Development mode knows one caller, who may do anything: see callers/matrix.rs.
    ErrorReason::CallerUnauthenticated,
    ErrorReason::CapabilityMissing,
    ErrorReason::TenantNotAllowed,
    ErrorReason::Internal,
    ErrorReason::DatabaseUnavailable,
    // See audit.rs.
    ErrorReason::AuditKeyMismatch,
    ErrorReason::TimedOut,
    ErrorReason::ConcurrentChange,
    ErrorReason::ServerDraining,
    ErrorReason::WatchTooSlow,
    // See limits.rs.
    ErrorReason::ServerOverloaded,
    // See rates.rs.
    ErrorReason::RateLimited,
];

#[derive(Default)]
struct Seen(BTreeSet<String>);

fn name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

impl Seen {
    /// Asserts a refusal, and gives back the metadata of its `ErrorInfo`.
    #[track_caller]
    fn refused<T: Debug>(
        &mut self,
        result: Result<Response<T>, Status>,
        code: Code,
        reason: ErrorReason,
        field: &str,
    ) -> BTreeMap<String, String> {
        let status = result.expect_err("it was not refused");
        assert_eq!(status.code(), code, "{status:?}");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.domain, "rolegate");
        assert_eq!(info.reason, name(reason), "{}", status.message());
        assert!(!status.message().is_empty());
        if !field.is_empty() {
            let violations = status.get_details_bad_request().expect("a BadRequest");
            let fields: Vec<_> =
                violations.field_violations.iter().map(|violation| &violation.field).collect();
            assert!(fields.iter().any(|found| *found == field), "{field} is not in {fields:?}");
        }
        self.0.insert(info.reason.clone());
        info.metadata.into_iter().collect()
    }

    fn invalid<T: Debug>(
        &mut self,
        result: Result<Response<T>, Status>,
        reason: ErrorReason,
        field: &str,
    ) -> BTreeMap<String, String> {
        self.refused(result, Code::InvalidArgument, reason, field)
    }
}

fn grant(permission: &str, scope: &str) -> pb::Grant {
    pb::Grant { permission: permission.into(), scope: scope.into() }
}

fn create_role(tenant: &str, name: &str, grants: &[pb::Grant]) -> pb::CreateRoleRequest {
    pb::CreateRoleRequest {
        tenant_id: tenant.into(),
        name: name.into(),
        grants: grants.to_vec(),
        ..Default::default()
    }
}

fn create_tenant(tenant: &str, catalog: &str, plan: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        tenant_id: tenant.into(),
        catalog_id: catalog.into(),
        plan: plan.into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    }
}

fn create_member(tenant: &str, member: &str, roles: &[&str]) -> pb::CreateMemberRequest {
    pb::CreateMemberRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        role_ids: roles.iter().map(|role| (*role).into()).collect(),
        ..Default::default()
    }
}

fn check(tenant: &str, member: &str, permission: &str) -> pb::CheckRequest {
    pb::CheckRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        permission: permission.into(),
        ..Default::default()
    }
}

fn at_least(tokens: &[&str]) -> Option<pb::Consistency> {
    let tokens = tokens.iter().map(|token| (*token).into()).collect();
    let requirement =
        pb::consistency::Requirement::AtLeastAsFresh(pb::ConsistencyTokens { tokens });
    Some(pb::Consistency { requirement: Some(requirement) })
}

/// Everything that can be read of a tenant: what a refusal must leave as it was.
async fn snapshot(clients: &Clients, tenant: &str) -> String {
    let mut clients = clients.clone();
    let roles = clients
        .roles
        .list_roles(pb::ListRolesRequest {
            tenant_id: tenant.into(),
            view: pb::RoleView::Full as i32,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let members = clients
        .members
        .list_members(pb::ListMembersRequest { tenant_id: tenant.into(), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    let audit = clients
        .roles
        .list_audit_events(pb::ListAuditEventsRequest {
            tenant_id: tenant.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let tenant = clients
        .tenants
        .get_tenant(pb::GetTenantRequest { tenant_id: tenant.into(), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    // Page tokens are left out: they are only there when there is a next page.
    format!("{roles:?}\n{members:?}\n{audit:?}\n{tenant:?}")
}

#[tokio::test]
async fn every_refusal_names_its_reason_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let mut seen = Seen::default();
    for (tenant, catalog, plan) in [("oq", "oqupie", "enterprise"), ("qp", "qpien", "")] {
        clients.tenants.create_tenant(create_tenant(tenant, catalog, plan)).await.unwrap();
    }
    let role = clients
        .roles
        .create_role(create_role("qp", "Greeter", &[grant("chat.view", "")]))
        .await
        .unwrap()
        .into_inner()
        .role
        .unwrap();
    clients.members.create_member(create_member("qp", "kim", &[&role.id])).await.unwrap();
    clients.members.create_member(create_member("oq", "kim", &["agent"])).await.unwrap();
    let before = (snapshot(&clients, "oq").await, snapshot(&clients, "qp").await);

    ids_and_names(&mut clients, &mut seen).await;
    grants(&mut clients, &mut seen, &role.id).await;
    roles(&mut clients, &mut seen, &role).await;
    members(&mut clients, &mut seen).await;
    tenants(&mut clients, &mut seen).await;
    tokens_and_pages(&mut clients, &mut seen).await;
    calls(&server, &mut clients, &mut seen).await;
    assert_eq!(before, (snapshot(&clients, "oq").await, snapshot(&clients, "qp").await));

    limits_and_deletion(&mut clients, &mut seen).await;
    actors(&mut clients, &mut seen).await;
    request_ids(&mut clients, &mut seen).await;
    newer_catalog(&mut seen).await;
    lost_data(&mut seen).await;
    watches(&mut seen).await;

    let all: BTreeSet<String> = (0..200)
        .filter_map(|number| ErrorReason::try_from(number).ok())
        .filter(|reason| !ELSEWHERE.contains(reason))
        .map(|reason| name(reason).to_owned())
        .collect();
    let missing: Vec<_> = all.difference(&seen.0).collect();
    assert!(missing.is_empty(), "reasons in no case: {missing:?}");
}

async fn ids_and_names(clients: &mut Clients, seen: &mut Seen) {
    let long = "x".repeat(129);
    for (tenant, reason) in [
        ("", ErrorReason::FieldRequired),
        (long.as_str(), ErrorReason::FieldTooLong),
        ("a\u{7}b", ErrorReason::FieldInvalid),
    ] {
        let request = check(tenant, "kim", "chat.view");
        seen.invalid(clients.authz.check(request).await, reason, "tenant_id");
        let request = create_tenant(tenant, "qpien", "");
        seen.invalid(clients.tenants.create_tenant(request).await, reason, "tenant_id");
        let request = create_member("qp", tenant, &[]);
        seen.invalid(clients.members.create_member(request).await, reason, "member_id");
    }
    let long = "x".repeat(101);
    for (name, reason) in [
        ("", ErrorReason::FieldRequired),
        (" \u{3000} ", ErrorReason::FieldRequired),
        (long.as_str(), ErrorReason::FieldTooLong),
        ("a\u{202e}b", ErrorReason::FieldInvalid),
    ] {
        let request = create_role("qp", name, &[]);
        seen.invalid(clients.roles.create_role(request).await, reason, "name");
    }
    // All that is wrong, at once.
    let mut request = create_role("qp", "", &[grant("chat.vew", ""), grant("contact.view", "all")]);
    request.description = "x".repeat(1001);
    let status = clients.roles.create_role(request).await.unwrap_err();
    let fields: Vec<_> = status
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, ["name", "description", "grants[0].permission", "grants[1].scope"]);

    let taken = Code::AlreadyExists;
    for name in ["greeter", " GREETER ", "Ｇｒｅｅｔｅｒ", "limited user"] {
        let request = create_role("qp", name, &[]);
        let result = clients.roles.create_role(request).await;
        seen.refused(result, taken, ErrorReason::RoleNameTaken, "");
    }
    let result = clients.tenants.create_tenant(create_tenant("qp", "qpien", "")).await;
    seen.refused(result, taken, ErrorReason::TenantAlreadyExists, "");
    let result = clients.members.create_member(create_member("qp", "kim", &[])).await;
    seen.refused(result, taken, ErrorReason::MemberAlreadyExists, "");
}

async fn grants(clients: &mut Clients, seen: &mut Seen, role: &str) {
    use ErrorReason as R;
    let cases: [(&[pb::Grant], R, &str); 8] = [
        (&[grant("conversation.vew", "all")], R::UnknownPermission, "grants[0].permission"),
        (&[grant("conversation.view", "own")], R::UnknownScope, "grants[0].scope"),
        (&[grant("conversation.view", "")], R::ScopeRequired, "grants[0].scope"),
        (&[grant("chat.view", "all")], R::ScopeNotAllowed, "grants[0].scope"),
        (
            &[
                grant("chat.view", ""),
                grant("conversation.view", "all"),
                grant("conversation.view", "team"),
            ],
            R::DuplicateGrant,
            "grants[2].permission",
        ),
        (&[grant("account.manage", "")], R::PermissionNeverGrantable, "grants[0].permission"),
        (&[grant("conversation.view", "all")], R::RequirementMissing, "grants[0]"),
        (
            &[
                grant("chat.view", ""),
                grant("conversation.view", "assigned"),
                grant("conversation.reply", "team"),
            ],
            R::RequirementMissing,
            "grants[2]",
        ),
    ];
    for (grants, reason, field) in cases {
        let result = clients.roles.create_role(create_role("qp", "New", grants)).await;
        seen.invalid(result, reason, field);
        let update = pb::UpdateRoleRequest {
            tenant_id: "qp".into(),
            role_id: role.into(),
            grants: grants.to_vec(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["grants".into()] }),
            ..Default::default()
        };
        seen.invalid(clients.roles.update_role(update).await, reason, field);
    }
    let base = [grant("customer.view", "")];
    let result = clients.roles.create_role(create_role("oq", "New", &base)).await;
    seen.invalid(result, R::PermissionHeldByEveryone, "grants[0].permission");
    let never = [grant("payment.manage", ""), grant("system.manage", "")];
    let result = clients.roles.create_role(create_role("oq", "New", &never)).await;
    seen.invalid(result, R::PermissionNeverGrantable, "grants[1].permission");
    // Every missing one is listed, the indirect ones too.
    let deep = [grant("brand.delete", ""), grant("report.export", "")];
    let result = clients.roles.create_role(create_role("oq", "New", &deep)).await;
    let metadata = seen.invalid(result, R::RequirementMissing, "grants[0]");
    let listed = format!("{metadata:?}");
    for missing in ["brand.manage", "management.execute", "report.daily.view"] {
        assert!(listed.contains(missing), "{missing} is not in {listed}");
    }
    // An any-of is never chosen for the caller.
    let mut request = create_role("oq", "New", &deep);
    request.expand_requirements = true;
    let result = clients.roles.create_role(request).await;
    seen.invalid(result, R::RequirementMissing, "grants[1]");
}

async fn roles(clients: &mut Clients, seen: &mut Seen, role: &pb::Role) {
    use ErrorReason as R;
    let update = |role: &str, etag: &str, paths: &[&str]| pb::UpdateRoleRequest {
        tenant_id: "qp".into(),
        role_id: role.into(),
        name: "Renamed".into(),
        etag: etag.into(),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).into()).collect(),
        }),
        ..Default::default()
    };
    for paths in [&[][..], &["id"], &["name", "etag"], &["*"]] {
        let result = clients.roles.update_role(update(&role.id, "", paths)).await;
        seen.invalid(result, R::FieldMaskInvalid, "update_mask");
    }
    let failed = Code::FailedPrecondition;
    let result = clients.roles.update_role(update("owner", "", &["name"])).await;
    seen.refused(result, failed, R::DefaultRoleImmutable, "");
    let result = clients.roles.update_role(update("nobody", "", &["name"])).await;
    seen.refused(result, Code::NotFound, R::RoleNotFound, "");
    let result = clients.roles.update_role(update(&role.id, "0", &["name"])).await;
    let metadata = seen.refused(result, Code::Aborted, R::EtagMismatch, "");
    assert_eq!(metadata.get("current"), Some(&role.etag));

    let delete = |role: &str, to: &str, text: &str| pb::DeleteRoleRequest {
        tenant_id: "qp".into(),
        role_id: role.into(),
        reassign_to_role_id: to.into(),
        confirmation_text: text.into(),
        ..Default::default()
    };
    let result = clients.roles.delete_role(delete("admin", "", "")).await;
    seen.refused(result, failed, R::DefaultRoleImmutable, "");
    let confirmation = role.deletion_confirmation_text.as_str();
    let result = clients.roles.delete_role(delete(&role.id, "", confirmation)).await;
    let metadata = seen.refused(result, failed, R::RoleAssigned, "");
    assert_eq!(metadata.get("active_members").map(String::as_str), Some("1"));
    let result = clients.roles.delete_role(delete(&role.id, "user", confirmation)).await;
    seen.refused(result, failed, R::ReassignmentNotSupported, "");
    let result = clients.roles.get_role(pb::GetRoleRequest {
        tenant_id: "nowhere".into(),
        role_id: role.id.clone(),
        ..Default::default()
    });
    seen.refused(result.await, Code::NotFound, R::TenantNotFound, "");
}

async fn members(clients: &mut Clients, seen: &mut Seen) {
    use ErrorReason as R;
    let assign = |member: &str, roles: &[&str]| pb::AssignRolesRequest {
        tenant_id: "qp".into(),
        member_id: member.into(),
        role_ids: roles.iter().map(|role| (*role).into()).collect(),
        ..Default::default()
    };
    let result = clients.members.assign_roles(assign("kim", &["boss"])).await;
    seen.invalid(result, R::UnknownRole, "role_ids[0]");
    let result = clients.members.assign_roles(assign("kim", &["user", "admin"])).await;
    seen.invalid(result, R::TooManyRoles, "role_ids");
    let result = clients.members.assign_roles(assign("ghost", &["user"])).await;
    seen.refused(result, Code::NotFound, R::MemberNotFound, "");
    let mut teams = create_member("qp", "new", &[]);
    teams.team_ids = (0..201).map(|team| format!("t{team}")).collect();
    let result = clients.members.create_member(teams).await;
    seen.invalid(result, R::TooManyItems, "team_ids");

    // The last owner: demoted, archived, deleted, and by a batch.
    let failed = Code::FailedPrecondition;
    let (tenant_id, member_id) = ("qp".to_owned(), "owner".to_owned());
    let result = clients.members.assign_roles(assign("owner", &["admin"])).await;
    seen.refused(result, failed, R::LastOwner, "");
    let archive = pb::ArchiveMemberRequest {
        tenant_id: tenant_id.clone(),
        member_id: member_id.clone(),
        ..Default::default()
    };
    seen.refused(clients.members.archive_member(archive).await, failed, R::LastOwner, "");
    let delete = pb::DeleteMemberRequest { tenant_id, member_id, ..Default::default() };
    seen.refused(clients.members.delete_member(delete).await, failed, R::LastOwner, "");
    let upsert = |members: Vec<pb::MemberUpsert>| pb::BatchUpsertMembersRequest {
        tenant_id: "qp".into(),
        members,
        ..Default::default()
    };
    let archived = |member: &str| pb::MemberUpsert {
        member_id: member.into(),
        status: pb::MemberStatus::Archived as i32,
        ..Default::default()
    };
    let result = clients.members.batch_upsert_members(upsert(vec![archived("owner")])).await;
    seen.refused(result, failed, R::LastOwner, "");
    let mut absent = upsert(vec![archived("kim")]);
    absent.archive_absent = true;
    let result = clients.members.batch_upsert_members(absent).await;
    seen.refused(result, failed, R::LastOwner, "");
    let twice = upsert(vec![archived("kim"), archived("kim")]);
    let result = clients.members.batch_upsert_members(twice).await;
    seen.invalid(result, R::DuplicateItem, "members[1].member_id");
    let many = (0..10_001).map(|member| archived(&format!("m{member}"))).collect();
    let result = clients.members.batch_upsert_members(upsert(many)).await;
    seen.invalid(result, R::TooManyItems, "members");
}

async fn tenants(clients: &mut Clients, seen: &mut Seen) {
    use ErrorReason as R;
    let result = clients.tenants.create_tenant(create_tenant("new", "zendesk", "")).await;
    seen.invalid(result, R::UnknownCatalog, "catalog_id");
    let mut version = create_tenant("new", "qpien", "");
    version.catalog_version = 7;
    let result = clients.tenants.create_tenant(version).await;
    seen.invalid(result, R::UnknownCatalog, "catalog_version");
    let result = clients.tenants.create_tenant(create_tenant("new", "oqupie", "gold")).await;
    seen.invalid(result, R::UnknownPlan, "plan");
    let result = clients.tenants.create_tenant(create_tenant("new", "oqupie", "")).await;
    seen.invalid(result, R::FieldRequired, "plan");
    let result = clients.tenants.create_tenant(create_tenant("new", "qpien", "pro")).await;
    seen.invalid(result, R::UnknownPlan, "plan");
    let failed = Code::FailedPrecondition;
    let purge = pb::PurgeTenantRequest { tenant_id: "qp".into(), ..Default::default() };
    let result = clients.tenants.purge_tenant(purge).await;
    seen.refused(result, failed, R::TenantNotDeleted, "");
    let newest = pb::MoveCatalogRequest { tenant_id: "qp".into(), ..Default::default() };
    let result = clients.tenants.move_catalog(newest).await;
    seen.refused(result, failed, R::CatalogNotNewer, "");
}

async fn tokens_and_pages(clients: &mut Clients, seen: &mut Seen) {
    use ErrorReason as R;
    let answer = clients.authz.check(check("qp", "kim", "chat.view")).await.unwrap().into_inner();
    let token = answer.consistency_token;
    let forged = format!("{}A", &token[..token.len() - 1]);
    let forged = if forged == token { format!("{}B", &token[..token.len() - 1]) } else { forged };
    let path = "consistency.at_least_as_fresh.tokens";
    for (tokens, reason, field) in [
        (vec![forged.as_str()], R::ConsistencyTokenInvalid, format!("{path}[0]")),
        (vec![&token, &token[..20]], R::ConsistencyTokenInvalid, format!("{path}[1]")),
        (vec![""], R::ConsistencyTokenInvalid, format!("{path}[0]")),
        (vec![], R::FieldRequired, path.to_owned()),
    ] {
        let mut request = check("qp", "kim", "chat.view");
        request.consistency = at_least(&tokens);
        seen.invalid(clients.authz.check(request).await, reason, &field);
    }
    let mut other = check("oq", "kim", "ticket.work");
    other.consistency = at_least(&[&token]);
    seen.invalid(clients.authz.check(other).await, R::ConsistencyTokenOtherTenant, path);

    let list = |tenant: &str, size: i32, token: &str| pb::ListMembersRequest {
        tenant_id: tenant.into(),
        page_size: size,
        page_token: token.into(),
        ..Default::default()
    };
    let result = clients.members.list_members(list("qp", -1, "")).await;
    seen.invalid(result, R::FieldInvalid, "page_size");
    let first = clients.members.list_members(list("qp", 1, "")).await.unwrap().into_inner();
    assert_eq!(first.members.len(), 1);
    let next = first.next_page_token;
    clients.members.list_members(list("qp", 1, &next)).await.unwrap();
    let mut filtered = list("qp", 1, &next);
    filtered.team_id = "sales".into();
    for request in [filtered, list("oq", 1, &next), list("qp", 1, &next[1..]), list("qp", 1, "?")] {
        let result = clients.members.list_members(request).await;
        seen.invalid(result, R::PageTokenInvalid, "page_token");
    }
}

async fn calls(server: &Server, clients: &mut Clients, seen: &mut Seen) {
    use ErrorReason as R;
    let result = clients.authz.check(check("qp", "kim", "chat.vew")).await;
    seen.invalid(result, R::UnknownPermission, "permission");
    let mut plan = create_tenant("another", "qpien", "");
    plan.actor_id = "owner".into();
    let result = clients.tenants.create_tenant(plan).await;
    seen.invalid(result, R::ActorNotApplicable, "actor_id");
    let batch = pb::BatchCheckRequest {
        tenant_id: "qp".into(),
        items: vec![pb::CheckItem::default(); 10_001],
        ..Default::default()
    };
    seen.invalid(clients.authz.batch_check(batch).await, R::TooManyItems, "items");
    let mut huge = check("qp", "kim", "chat.view");
    huge.permission = "x".repeat(9 << 20);
    let result = clients.authz.check(huge).await;
    seen.refused(result, Code::ResourceExhausted, R::MessageTooLarge, "");

    let mut raw = tonic::client::Grpc::new(server.channel().await);
    for (path, code, reason) in [
        ("/rolegate.v1.RoleService/Nope", Code::Unimplemented, R::MethodNotFound),
        ("/rolegate.v2.RoleService/GetRole", Code::Unimplemented, R::MethodNotFound),
        ("/rolegate.v1.AuthzService/Check", Code::InvalidArgument, R::MalformedMessage),
    ] {
        raw.ready().await.unwrap();
        // A bool where a text should be.
        let message = pb::GetTenantRequest { tenant_id: "qp".into(), show_deleted: true };
        let codec = tonic_prost::ProstCodec::<pb::GetTenantRequest, pb::CheckResponse>::default();
        let result = raw.unary(tonic::Request::new(message), path.parse().unwrap(), codec).await;
        seen.refused(result, code, reason, "");
    }
}

/// What members may not do who act for themselves.
async fn actors(clients: &mut Clients, seen: &mut Seen) {
    use ErrorReason as R;
    clients.tenants.create_tenant(create_tenant("acts", "qpien", "")).await.unwrap();
    for (id, role) in [("admin", "admin"), ("user", "user"), ("gone", "admin")] {
        clients.members.create_member(create_member("acts", id, &[role])).await.unwrap();
    }
    let archive = pb::ArchiveMemberRequest {
        tenant_id: "acts".into(),
        member_id: "gone".into(),
        ..Default::default()
    };
    clients.members.archive_member(archive).await.unwrap();
    let webhooks = [grant("settings.webhooks.manage", "")];
    let role = clients.roles.create_role(create_role("acts", "Webhooks", &webhooks)).await;
    let role = role.unwrap().into_inner().role.unwrap().id;
    clients.members.create_member(create_member("acts", "better", &[&role])).await.unwrap();

    let assign = |actor: &str, member: &str, role: &str| pb::AssignRolesRequest {
        tenant_id: "acts".into(),
        actor_id: actor.into(),
        member_id: member.into(),
        role_ids: vec![role.into()],
        ..Default::default()
    };
    let denied = Code::PermissionDenied;
    for (actor, member, assigned, reason, value) in [
        ("nobody", "user", "user", R::ActorNotFound, ("actor", "nobody")),
        ("gone", "user", "user", R::ActorArchived, ("actor", "gone")),
        ("user", "nobody", "user", R::ActorNotPermitted, ("permission", "settings.users.manage")),
        ("admin", "admin", "user", R::ActorIsSubject, ("actor", "admin")),
        ("admin", "user", "owner", R::OwnerRequired, ("owner_role", "owner")),
        ("admin", "better", "user", R::ActorOutranked, ("missing", "settings.webhooks.manage")),
        ("admin", "user", &role, R::ActorLacksGrant, ("missing", "settings.webhooks.manage")),
    ] {
        let result = clients.members.assign_roles(assign(actor, member, assigned)).await;
        let metadata = seen.refused(result, denied, reason, "");
        assert_eq!(metadata.get(value.0).map(String::as_str), Some(value.1), "{metadata:?}");
        assert_eq!(metadata.get("actor").map(String::as_str), Some(actor));
    }
    clients.members.assign_roles(assign("owner", "user", &role)).await.unwrap();
}

/// The plan's limit, races for the last place, and deletion as OQUPIE has it.
async fn limits_and_deletion(clients: &mut Clients, seen: &mut Seen) {
    use ErrorReason as R;
    clients.tenants.create_tenant(create_tenant("pro", "oqupie", "pro")).await.unwrap();
    let result = clients.roles.create_role(create_role("pro", "First", &[])).await;
    let metadata = seen.refused(result, Code::ResourceExhausted, R::CustomRoleLimit, "");
    assert_eq!(metadata.get("limit").map(String::as_str), Some("0"));

    let mut ids = Vec::new();
    for name in ["One", "Two", "Three", "Four"] {
        let created = clients.roles.create_role(create_role("oq", name, &[])).await.unwrap();
        ids.push(created.into_inner().role.unwrap().id);
    }
    let racers = (0..8).map(|number| {
        let mut clients = clients.clone();
        tokio::spawn(async move {
            clients.roles.create_role(create_role("oq", &format!("Racer {number}"), &[])).await
        })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            refused => {
                seen.refused(refused, Code::ResourceExhausted, R::CustomRoleLimit, "");
            }
        }
    }
    assert_eq!(won, 1, "exactly one gets the fifth place");

    let delete = |role: &str, to: &str| pb::DeleteRoleRequest {
        tenant_id: "oq".into(),
        role_id: role.into(),
        reassign_to_role_id: to.into(),
        ..Default::default()
    };
    let role = ids.first().unwrap();
    let result = clients.roles.delete_role(delete(role, "")).await;
    seen.refused(result, Code::FailedPrecondition, R::ReassignmentRequired, "");
    let result = clients.roles.delete_role(delete(role, role)).await;
    seen.invalid(result, R::ReassignmentToItself, "reassign_to_role_id");
    let result = clients.roles.delete_role(delete(role, "nobody")).await;
    seen.invalid(result, R::UnknownRole, "reassign_to_role_id");
    clients.roles.delete_role(delete(role, "agent")).await.unwrap();

    // QPIEN's confirmation: to the letter, also in case; blanks at its ends do not count.
    let role = clients
        .roles
        .create_role(create_role("qp", "Short lived", &[]))
        .await
        .unwrap()
        .into_inner()
        .role
        .unwrap();
    let text = role.deletion_confirmation_text;
    assert!(!text.is_empty());
    for typed in ["", &text.to_uppercase(), &format!("{text}s"), &text.replace(' ', "")] {
        let request = pb::DeleteRoleRequest {
            tenant_id: "qp".into(),
            role_id: role.id.clone(),
            confirmation_text: typed.into(),
            ..Default::default()
        };
        let result = clients.roles.delete_role(request).await;
        let metadata = seen.invalid(result, R::ConfirmationMismatch, "confirmation_text");
        assert_eq!(metadata.get("expected"), Some(&text));
    }
    let request = pb::DeleteRoleRequest {
        tenant_id: "qp".into(),
        role_id: role.id,
        confirmation_text: format!(" {text} "),
        ..Default::default()
    };
    clients.roles.delete_role(request).await.unwrap();
    let delete = pb::DeleteTenantRequest { tenant_id: "pro".into(), ..Default::default() };
    clients.tenants.delete_tenant(delete).await.unwrap();
    let plan = pb::ChangePlanRequest {
        tenant_id: "pro".into(),
        plan: "enterprise".into(),
        ..Default::default()
    };
    let result = clients.tenants.change_plan(plan).await;
    seen.refused(result, Code::FailedPrecondition, R::TenantDeleted, "");
}

async fn request_ids(clients: &mut Clients, seen: &mut Seen) {
    let mut request = create_role("qp", "Remembered", &[]);
    request.request_id = "r1".into();
    let first = clients.roles.create_role(request.clone()).await.unwrap().into_inner();
    let again = clients.roles.create_role(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    request.description = "something else".into();
    let result = clients.roles.create_role(request).await;
    let failed = Code::FailedPrecondition;
    seen.refused(result, failed, ErrorReason::RequestIdReused, "");
    // Refusals are not remembered.
    let mut request = create_role("qp", "Remembered", &[]);
    request.request_id = "r2".into();
    let result = clients.roles.create_role(request.clone()).await;
    seen.refused(result, Code::AlreadyExists, ErrorReason::RoleNameTaken, "");
    request.name = "Another".into();
    clients.roles.create_role(request).await.unwrap();
}

/// A newer version that gives agents more, and one that takes a held role away.
async fn newer_catalog(seen: &mut Seen) {
    let directory = tempfile::tempdir().unwrap();
    let small = |version: u32, more: &str| {
        format!(
            r#"
id = "small"
version = {version}
title = "Small"
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
[[permission]]
id = "settings.look"
section = "settings"
title = "Look"
[[role]]
id = "owner"
title = "Owner"
everything = true
{more}"#
        )
    };
    let agent = |grants: &str| {
        format!("[[role]]\nid = \"agent\"\ntitle = \"Agent\"\ngrants = [{grants}]\n")
    };
    // Chiefs may more than agents. In the last version the two are one role.
    let chief = |renamed_from: &str| {
        format!(
            "[[role]]\nid = \"chief\"\ntitle = \"Chief\"\nrenamed_from = [{renamed_from}]\n\
             grants = [\"settings.look\", \"settings.roles\"]\n"
        )
    };
    let mut arguments = Vec::new();
    for (version, more) in [
        (1, chief("") + &agent("\"settings.look\"")),
        (2, chief("") + &agent("\"settings.look\", \"settings.roles\"")),
        (3, chief("")),
        (4, chief("\"agent\"")),
    ] {
        let file = directory.path().join(format!("small{version}.toml"));
        std::fs::write(&file, small(version, &more)).unwrap();
        arguments.extend(["--catalog".to_owned(), file.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(directory.path(), &arguments);
    let mut clients = Clients::connect(&server).await;
    let mut request = create_tenant("t", "small", "");
    request.catalog_version = 1;
    clients.tenants.create_tenant(request).await.unwrap();
    clients.members.create_member(create_member("t", "kim", &["agent"])).await.unwrap();
    let verdict = async |clients: &mut Clients| {
        let answer = clients.authz.check(check("t", "kim", "settings.roles")).await.unwrap();
        answer.into_inner().decision.unwrap().verdict()
    };
    assert_eq!(verdict(&mut clients).await, pb::Verdict::Denied);
    let move_to = |version, accept| pb::MoveCatalogRequest {
        tenant_id: "t".into(),
        catalog_version: version,
        accept_widening: accept,
        ..Default::default()
    };
    let failed = Code::FailedPrecondition;
    let result = clients.tenants.move_catalog(move_to(2, false)).await;
    let metadata = seen.refused(result, failed, ErrorReason::CatalogWidensAccess, "");
    assert_eq!(metadata.get("roles").map(String::as_str), Some("agent"));
    let result = clients.tenants.move_catalog(move_to(4, false)).await;
    let metadata = seen.refused(result, failed, ErrorReason::CatalogWidensAccess, "");
    assert_eq!(metadata.get("roles").map(String::as_str), Some("chief"));
    let mut trial = move_to(2, false);
    trial.validate_only = true;
    let shown = clients.tenants.move_catalog(trial).await.unwrap().into_inner();
    assert_eq!(shown.changes.len(), 1);
    assert!(shown.changes[0].permissions[0].gained);
    assert_eq!(verdict(&mut clients).await, pb::Verdict::Denied);
    clients.tenants.move_catalog(move_to(2, true)).await.unwrap();
    assert_eq!(verdict(&mut clients).await, pb::Verdict::Allowed);
    let result = clients.tenants.move_catalog(move_to(3, true)).await;
    seen.refused(result, failed, ErrorReason::CatalogMoveBlocked, "");
}

/// A token of a state that was lost with the file, and one of another database.
async fn lost_data(seen: &mut Seen) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rolegate.db");
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    clients.tenants.create_tenant(create_tenant("t", "qpien", "")).await.unwrap();
    drop(clients);
    assert_eq!(server.terminate().await, Some(0));
    let copy = std::fs::read(&file).unwrap();

    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let created = clients.members.create_member(create_member("t", "kim", &[])).await.unwrap();
    let token = created.into_inner().consistency_token;
    let watch = pb::WatchRequest::default();
    let mut stream = clients.authz.watch(watch).await.unwrap().into_inner();
    let cursor = stream.message().await.unwrap().unwrap().cursor;
    drop(stream);
    drop(clients);
    assert_eq!(server.terminate().await, Some(0));
    std::fs::write(&file, copy).unwrap();

    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let mut request = check("t", "kim", "chat.view");
    request.consistency = at_least(&[&token]);
    let result = clients.authz.check(request.clone()).await;
    let failed = Code::FailedPrecondition;
    seen.refused(result, failed, ErrorReason::ConsistencyTokenAhead, "");
    let watch = pb::WatchRequest { tenant_ids: vec![], cursor };
    let result = clients.authz.watch(watch).await;
    let values = seen.refused(result, Code::OutOfRange, ErrorReason::CursorExpired, "");
    assert_eq!(values["cause"], "ahead");
    drop(clients);
    assert_eq!(server.terminate().await, Some(0));

    // The same database in a later epoch, as after `migrate --after-restore`.
    let url = format!("sqlite://{}", file.display());
    let store =
        rolegate::store::SqlStore::open(&rolegate::store::OpenOptions::new(url)).await.unwrap();
    let identity = store.identity().clone();
    store.close().await;
    let later = rolegate::store::DatabaseIdentity { epoch: identity.epoch + 1, ..identity };
    let tenant = rolegate::domain::ids::TenantId::trusted("t");
    let foreign =
        rolegate::service::token::Tokens::new(&later).issue(&tenant, later.epoch().id(), 1);
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    request.consistency = at_least(&[&foreign]);
    let result = clients.authz.check(request).await;
    let path = "consistency.at_least_as_fresh.tokens[0]";
    seen.invalid(result, ErrorReason::ConsistencyTokenForeign, path);
}

async fn watches(seen: &mut Seen) {
    use ErrorReason as R;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--max-watch-streams", "1"]);
    let mut clients = Clients::connect(&server).await;
    let watch = |tenants: Vec<String>, cursor: &str| pb::WatchRequest {
        tenant_ids: tenants,
        cursor: cursor.into(),
    };
    let result = clients.authz.watch(watch(vec![], "no cursor")).await;
    seen.invalid(result, R::CursorInvalid, "cursor");
    let result = clients.authz.watch(watch(vec!["a".into(), String::new()], "")).await;
    seen.invalid(result, R::FieldRequired, "tenant_ids[1]");
    let many = (0..1_001).map(|tenant| tenant.to_string()).collect();
    let result = clients.authz.watch(watch(many, "")).await;
    seen.invalid(result, R::TooManyItems, "tenant_ids");
    let mut open = clients.authz.watch(watch(vec![], "")).await.unwrap().into_inner();
    open.message().await.unwrap().unwrap();
    let result = clients.authz.watch(watch(vec![], "")).await;
    let values = seen.refused(result, Code::ResourceExhausted, R::WatchStreamLimit, "");
    assert_eq!(values["limit"], "1");
}
