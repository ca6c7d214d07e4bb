//! Every RPC over a real socket, in the two stories that the product documents tell of stored roles
//! and members. Each step quotes its sentence where there is one. A check at the end compares what
//! was called with what the server's own descriptors list.

use std::collections::BTreeSet;

use prost::Message as _;
use rolegate::grpc::pb;

use super::process::{Clients, Server};

#[derive(Default)]
struct Called(BTreeSet<String>);

/// Calls a method, notes its name, and gives the answer.
macro_rules! call {
    ($called:expr, $clients:ident.$service:ident.$method:ident($request:expr)) => {{
        $called.0.insert(stringify!($method).to_owned());
        $clients.$service.$method($request).await.unwrap().into_inner()
    }};
}

/// `CreateRole` as the generated clients call it.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn grants(grants: &[(&str, &str)]) -> Vec<pb::Grant> {
    let grant = |(permission, scope): &(&str, &str)| pb::Grant {
        permission: text(permission),
        scope: text(scope),
    };
    grants.iter().map(grant).collect()
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: texts(paths) })
}

fn ids(ids: &[&str]) -> Option<pb::IdList> {
    Some(texts(ids).into())
}

#[tokio::test]
async fn every_rpc_does_its_part_of_the_two_stories() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let clients = Clients::connect(&server).await;
    let mut called = Called::default();
    oqupie(clients.clone(), &mut called).await;
    qpien(clients.clone(), &mut called).await;
    directory_sync(clients.clone(), &mut called).await;
    newer_catalog(&mut called).await;

    let descriptors = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let methods: BTreeSet<String> = descriptors
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .map(|method| snake(method.name()))
        .collect();
    assert!(methods.len() > 30, "{methods:?}");
    let missing: Vec<_> = methods.difference(&called.0).collect();
    assert!(missing.is_empty(), "called by no test: {missing:?}");
}

async fn verdict(
    clients: &mut Clients,
    called: &mut Called,
    member: &str,
    permission: &str,
    resource: Option<pb::Resource>,
) -> bool {
    let request = pb::CheckRequest {
        tenant_id: text("acme"),
        member_id: text(member),
        permission: text(permission),
        resource,
        consistency: None,
    };
    let answer = call!(called, clients.authz.check(request));
    assert!(!answer.consistency_token.is_empty());
    answer.decision.unwrap().verdict() == pb::Verdict::Allowed
}

async fn oqupie(mut clients: Clients, called: &mut Called) {
    // "The Account owner role is given to newly created account at first."
    let created = call!(
        called,
        clients.tenants.create_tenant(pb::CreateTenantRequest {
            tenant_id: text("acme"),
            catalog_id: text("oqupie"),
            plan: text("pro"),
            owner_member_id: text("owner"),
            ..Default::default()
        })
    );
    assert_eq!(created.owner.unwrap().role_ids, ["owner"]);
    assert!(verdict(&mut clients, called, "owner", "account.manage", None).await);

    // "If you are using an Enterprise Plan, you can create new roles."
    let changed = call!(
        called,
        clients.tenants.change_plan(pb::ChangePlanRequest {
            tenant_id: text("acme"),
            plan: text("enterprise"),
            etag: created.tenant.unwrap().etag,
            ..Default::default()
        })
    );
    assert_eq!(changed.custom_role_limit, Some(5));
    let read = call!(
        called,
        clients
            .tenants
            .get_tenant(pb::GetTenantRequest { tenant_id: text("acme"), show_deleted: false })
    );
    assert_eq!(read.tenant.unwrap().plan, "enterprise");
    let listed = call!(called, clients.tenants.list_tenants(pb::ListTenantsRequest::default()));
    assert_eq!(listed.tenants.len(), 1);
    let question = pb::CheckStreamRequest {
        tenant_id: text("acme"),
        items: vec![pb::CheckStreamItem {
            correlation_id: 42,
            member_id: text("owner"),
            permission: text("account.manage"),
            resource: None,
        }],
        consistency: None,
    };
    let asked = tokio_stream::iter([question.clone(), question]);
    let mut stream = call!(called, clients.authz.check_stream(asked));
    let mut answered = 0;
    while let Some(answer) = stream.message().await.unwrap() {
        assert!(answer.results.iter().all(|result| result.correlation_id == 42));
        answered += answer.results.len();
    }
    assert_eq!(answered, 2);
    let mut stream = call!(called, clients.authz.watch(pb::WatchRequest::default()));
    let begin = stream.message().await.unwrap().unwrap();
    assert!(begin.changes.is_empty() && !begin.cursor.is_empty());
    drop(stream);

    let tree = call!(
        called,
        clients.roles.list_permissions(pb::ListPermissionsRequest {
            tenant_id: text("acme"),
            language_code: text("en"),
        })
    );
    let management = tree.sections.iter().find(|section| section.id == "management").unwrap();
    assert!(management.sections.iter().any(|section| section.id == "connect"));

    // "Enter name and description of the role and select authority. ... New role will be added to
    // Manage Roles page."
    let role = call!(
        called,
        clients.roles.create_role(pb::CreateRoleRequest {
            tenant_id: text("acme"),
            name: text("Night shift"),
            description: text("While nobody else is there."),
            grants: grants(&[("ticket.work", "group"), ("ticket.delete", "")]),
            ..Default::default()
        })
    );
    let role = role.role.unwrap();
    let page = call!(
        called,
        clients.roles.list_roles(pb::ListRolesRequest {
            tenant_id: text("acme"),
            view: pb::RoleView::Full.into(),
            ..Default::default()
        })
    );
    let names: Vec<_> = page.roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["Account owner", "Admin", "Pro agent", "Agent", "Night shift"]);

    // "Select a member to grant a new role. ... Select a new role and click 'update'."
    call!(
        called,
        clients.members.create_member(pb::CreateMemberRequest {
            tenant_id: text("acme"),
            member_id: text("kim"),
            role_ids: texts(&["agent"]),
            team_ids: texts(&["billing"]),
            ..Default::default()
        })
    );
    let ours = || {
        Some(pb::Resource {
            id: text("t1"),
            assignees: ids(&[]),
            teams: ids(&["billing"]),
            ..Default::default()
        })
    };
    let anybodys = || {
        Some(pb::Resource {
            id: text("t2"),
            assignees: ids(&["x"]),
            teams: ids(&[]),
            ..Default::default()
        })
    };
    assert!(!verdict(&mut clients, called, "kim", "ticket.delete", ours()).await);
    let assigned = call!(
        called,
        clients.members.assign_roles(pb::AssignRolesRequest {
            tenant_id: text("acme"),
            member_id: text("kim"),
            role_ids: vec![role.id.clone()],
            ..Default::default()
        })
    );
    assert_eq!(assigned.member.unwrap().role_ids, std::slice::from_ref(&role.id));
    assert!(verdict(&mut clients, called, "kim", "ticket.delete", ours()).await);
    assert!(!verdict(&mut clients, called, "kim", "ticket.delete", anybodys()).await);

    let change = pb::RoleUpdatePreview {
        role_id: role.id.clone(),
        grants: grants(&[("ticket.work", "all")]),
        expand_requirements: false,
    };
    let preview = call!(
        called,
        clients.roles.preview_role_change(pb::PreviewRoleChangeRequest {
            tenant_id: text("acme"),
            change: Some(pb::preview_role_change_request::Change::Update(change)),
            ..Default::default()
        })
    );
    let deltas: Vec<_> = preview
        .permissions
        .iter()
        .map(|delta| (delta.permission.as_str(), delta.gained, delta.lost))
        .collect();
    assert_eq!(deltas, [("ticket.work", true, false), ("ticket.delete", false, true)]);
    assert_eq!((preview.gaining_member_count, preview.losing_member_count), (1, 1));
    assert_eq!(preview.members[0].member_id, "kim");

    // "Change contents in the detail page of roles and click save changes": members follow at once.
    let updated = call!(
        called,
        clients.roles.update_role(pb::UpdateRoleRequest {
            tenant_id: text("acme"),
            role_id: role.id.clone(),
            grants: grants(&[("ticket.work", "all")]),
            update_mask: mask(&["grants"]),
            etag: preview.etag,
            ..Default::default()
        })
    );
    assert_eq!(updated.role.unwrap().name, "Night shift");
    assert!(!verdict(&mut clients, called, "kim", "ticket.delete", ours()).await);
    assert!(verdict(&mut clients, called, "kim", "ticket.work", anybodys()).await);

    let cloned = call!(
        called,
        clients.roles.clone_role(pb::CloneRoleRequest {
            tenant_id: text("acme"),
            source_role_id: text("admin"),
            name: text("Nearly admin"),
            ..Default::default()
        })
    );
    // "'New Role' defined by the user cannot have access to 'Payments' and 'System'."
    let left_out: Vec<_> =
        cloned.left_out_grants.iter().map(|grant| grant.permission.as_str()).collect();
    assert_eq!(left_out, ["payment.manage", "system.manage"]);

    questions(&mut clients, called).await;

    // "Assign a new role to a member who is playing the role to be deleted": archived ones too.
    call!(
        called,
        clients.members.create_member(pb::CreateMemberRequest {
            tenant_id: text("acme"),
            member_id: text("gone"),
            role_ids: vec![role.id.clone()],
            ..Default::default()
        })
    );
    call!(
        called,
        clients.members.archive_member(pb::ArchiveMemberRequest {
            tenant_id: text("acme"),
            member_id: text("gone"),
            ..Default::default()
        })
    );
    let deleted = call!(
        called,
        clients.roles.delete_role(pb::DeleteRoleRequest {
            tenant_id: text("acme"),
            role_id: role.id.clone(),
            reassign_to_role_id: text("agent"),
            ..Default::default()
        })
    );
    assert_eq!((deleted.reassigned_active_members, deleted.reassigned_archived_members), (1, 1));
    assert!(verdict(&mut clients, called, "kim", "ticket.work", ours()).await);
    assert!(!verdict(&mut clients, called, "kim", "ticket.work", anybodys()).await);
    call!(
        called,
        clients.members.restore_member(pb::RestoreMemberRequest {
            tenant_id: text("acme"),
            member_id: text("gone"),
            ..Default::default()
        })
    );
    let restored = call!(
        called,
        clients
            .members
            .get_member(pb::GetMemberRequest { tenant_id: text("acme"), member_id: text("gone") })
    );
    assert_eq!(restored.member.unwrap().role_ids, ["agent"]);

    let events = call!(
        called,
        clients.roles.list_audit_events(pb::ListAuditEventsRequest {
            tenant_id: text("acme"),
            role_id: role.id,
            ..Default::default()
        })
    );
    let methods: Vec<_> = events.events.iter().map(|event| event.method.as_str()).collect();
    // Twice the deletion: itself, and before it the members that it moved.
    assert_eq!(
        methods,
        [
            "RoleService/DeleteRole",
            "RoleService/DeleteRole",
            "MemberService/CreateMember",
            "RoleService/UpdateRole",
            "MemberService/AssignRoles",
            "RoleService/CreateRole",
        ]
    );
    end_of_a_tenant(clients, called).await;
}

/// The same facts, asked in every way there is.
async fn questions(clients: &mut Clients, called: &mut Called) {
    let ticket = |id: &str, teams: &[&str]| pb::Resource {
        id: text(id),
        assignees: ids(&[]),
        teams: ids(teams),
        ..Default::default()
    };
    call!(
        called,
        clients.members.update_member(pb::UpdateMemberRequest {
            tenant_id: text("acme"),
            member_id: text("kim"),
            team_ids: texts(&["vip", "billing", "vip"]),
            update_mask: mask(&["team_ids"]),
            ..Default::default()
        })
    );
    call!(
        called,
        clients.members.create_member(pb::CreateMemberRequest {
            tenant_id: text("acme"),
            member_id: text("lee"),
            role_ids: texts(&["agent"]),
            team_ids: texts(&["vip"]),
            ..Default::default()
        })
    );
    let batch = call!(
        called,
        clients.authz.batch_check(pb::BatchCheckRequest {
            tenant_id: text("acme"),
            items: [
                ("lee", "ticket.work"),
                ("lee", "ticket.wrok"),
                ("nobody", "ticket.work"),
                ("", "x")
            ]
            .map(|(member, permission)| pb::CheckItem {
                member_id: text(member),
                permission: text(permission),
                resource: Some(ticket("t", &["vip"])),
            })
            .into(),
            consistency: None,
        })
    );
    use pb::check_item_result::Result as ItemResult;
    let shown: Vec<_> = batch
        .items
        .into_iter()
        .map(|item| match item.result.unwrap() {
            ItemResult::Decision(decision) => decision.reason().as_str_name().to_owned(),
            ItemResult::Error(error) => format!("{} {}", error.reason, error.field),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "DECISION_REASON_GRANTED_BY_ROLE",
            "UNKNOWN_PERMISSION items[1].permission",
            "DECISION_REASON_MEMBER_NOT_FOUND",
            "FIELD_REQUIRED items[3].member_id",
        ]
    );
    let filtered = call!(
        called,
        clients.authz.filter_resources(pb::FilterResourcesRequest {
            tenant_id: text("acme"),
            member_id: text("lee"),
            permission: text("ticket.work"),
            resources: vec![
                ticket("a", &["vip"]),
                ticket("b", &["billing"]),
                pb::Resource { id: text("c"), ..Default::default() },
            ],
            consistency: None,
        })
    );
    assert_eq!((filtered.allowed_ids, filtered.incomplete_ids), (texts(&["a"]), texts(&["c"])));
    assert_eq!(filtered.missing_attributes, ["assignees", "teams"]);
    let plan = call!(
        called,
        clients.authz.plan_filter(pb::PlanFilterRequest {
            tenant_id: text("acme"),
            member_id: text("kim"),
            permission: text("canned_response.work"),
            consistency: None,
        })
    );
    assert_eq!(plan.kind(), pb::PlanKind::Never);
    assert_eq!(plan.denied_reason(), pb::DecisionReason::PermissionNotGranted);
    let plan = call!(
        called,
        clients.authz.plan_filter(pb::PlanFilterRequest {
            tenant_id: text("acme"),
            member_id: text("lee"),
            permission: text("ticket.work"),
            consistency: None,
        })
    );
    let terms: Vec<_> =
        plan.terms.iter().map(|term| (term.relation(), term.team_ids.clone())).collect();
    let (assignee, team) = (pb::Relation::Assignee, pb::Relation::Team);
    assert_eq!(terms, [(assignee, vec![]), (team, texts(&["vip"]))]);
    let held = call!(
        called,
        clients.authz.list_effective_permissions(pb::ListEffectivePermissionsRequest {
            tenant_id: text("acme"),
            member_id: text("lee"),
            consistency: None,
        })
    );
    let work = held.permissions.iter().find(|held| held.permission == "ticket.work").unwrap();
    assert_eq!(work.scope, "group");
    // "If all 'View Report' is canceled, 'Report' menu does not show up."
    assert!(!held.visible_section_ids.contains(&text("report")));
    let who = call!(
        called,
        clients.authz.list_authorized_members(pb::ListAuthorizedMembersRequest {
            tenant_id: text("acme"),
            permission: text("ticket.work"),
            resource: Some(ticket("t", &["vip"])),
            ..Default::default()
        })
    );
    let members: Vec<_> = who.members.iter().map(|member| member.member_id.as_str()).collect();
    assert_eq!(members, ["kim", "lee", "owner"]);
    let why = call!(
        called,
        clients.authz.explain(pb::ExplainRequest {
            tenant_id: text("acme"),
            member_id: text("lee"),
            permission: text("ticket.work"),
            resource: Some(ticket("t", &["billing"])),
        })
    );
    assert_eq!(why.decision.unwrap().reason(), pb::DecisionReason::OutOfScope);
    assert!(!why.steps.is_empty());
    let nowhere = call!(
        called,
        clients.authz.check(pb::CheckRequest {
            tenant_id: text("nowhere"),
            member_id: text("lee"),
            permission: text("no.such.permission"),
            ..Default::default()
        })
    );
    assert_eq!(nowhere.decision.unwrap().reason(), pb::DecisionReason::TenantNotFound);
}

async fn end_of_a_tenant(mut clients: Clients, called: &mut Called) {
    let listed = call!(
        called,
        clients.members.list_members(pb::ListMembersRequest {
            tenant_id: text("acme"),
            role_id: text("agent"),
            team_id: text("vip"),
            ..Default::default()
        })
    );
    let members: Vec<_> = listed.members.iter().map(|member| member.id.as_str()).collect();
    assert_eq!(members, ["kim", "lee"]);
    call!(
        called,
        clients.members.delete_member(pb::DeleteMemberRequest {
            tenant_id: text("acme"),
            member_id: text("lee"),
            ..Default::default()
        })
    );
    let events = call!(
        called,
        clients.roles.list_audit_events(pb::ListAuditEventsRequest {
            tenant_id: text("acme"),
            ..Default::default()
        })
    );
    assert!(!format!("{events:?}").contains("\"lee\""), "the erased member's id is still there");

    call!(
        called,
        clients.tenants.delete_tenant(pb::DeleteTenantRequest {
            tenant_id: text("acme"),
            ..Default::default()
        })
    );
    let check = pb::CheckRequest {
        tenant_id: text("acme"),
        member_id: text("owner"),
        permission: text("ticket.work"),
        ..Default::default()
    };
    let denied = call!(called, clients.authz.check(check.clone()));
    assert_eq!(denied.decision.unwrap().reason(), pb::DecisionReason::TenantNotFound);
    call!(
        called,
        clients.tenants.undelete_tenant(pb::UndeleteTenantRequest {
            tenant_id: text("acme"),
            ..Default::default()
        })
    );
    let allowed = call!(called, clients.authz.check(check));
    assert_eq!(allowed.decision.unwrap().verdict(), pb::Verdict::Allowed);
    call!(
        called,
        clients.tenants.delete_tenant(pb::DeleteTenantRequest {
            tenant_id: text("acme"),
            ..Default::default()
        })
    );
    call!(
        called,
        clients
            .tenants
            .purge_tenant(pb::PurgeTenantRequest { tenant_id: text("acme"), ..Default::default() })
    );
    let left = call!(
        called,
        clients
            .tenants
            .list_tenants(pb::ListTenantsRequest { show_deleted: true, ..Default::default() })
    );
    assert!(left.tenants.is_empty());
}

async fn qpien(mut clients: Clients, called: &mut Called) {
    call!(
        called,
        clients.tenants.create_tenant(pb::CreateTenantRequest {
            tenant_id: text("acme"),
            catalog_id: text("qpien"),
            owner_member_id: text("owner"),
            ..Default::default()
        })
    );
    // "You can only view their details."
    let user = call!(
        called,
        clients.roles.get_role(pb::GetRoleRequest {
            tenant_id: text("acme"),
            role_id: text("limited_user"),
            ..Default::default()
        })
    );
    let user = user.role.unwrap();
    assert_eq!((user.name.as_str(), user.kind()), ("Limited User", pb::RoleKind::Default));
    assert!(user.grants.iter().any(|grant| grant.scope == "assigned"));

    // "Enter a Name and a brief Description ... check the boxes ... Save": what a box needs comes
    // with it if the caller wants that.
    let created = call!(
        called,
        clients.roles.create_role(pb::CreateRoleRequest {
            tenant_id: text("acme"),
            name: text("Helper"),
            grants: grants(&[("conversation.reply", "team")]),
            expand_requirements: true,
            ..Default::default()
        })
    );
    let added: Vec<_> = created
        .added_grants
        .iter()
        .map(|grant| (grant.permission.as_str(), grant.scope.as_str()))
        .collect();
    assert_eq!(added, [("chat.view", ""), ("conversation.view", "team")]);
    let role = created.role.unwrap();
    // "Changing its name, description, or toggle permissions on and off."
    let updated = call!(
        called,
        clients.roles.update_role(pb::UpdateRoleRequest {
            tenant_id: text("acme"),
            role_id: role.id.clone(),
            name: text("Helping hand"),
            description: text("Answers what the team gets."),
            update_mask: mask(&["name", "description"]),
            etag: role.etag,
            ..Default::default()
        })
    );
    let role = updated.role.unwrap();
    assert_eq!((role.name.as_str(), role.grants.len()), ("Helping hand", 3));

    // "You cannot delete a custom role if it is currently assigned to any active user."
    for member in ["kim", "old"] {
        call!(
            called,
            clients.members.create_member(pb::CreateMemberRequest {
                tenant_id: text("acme"),
                member_id: text(member),
                role_ids: vec![role.id.clone()],
                ..Default::default()
            })
        );
    }
    call!(
        called,
        clients.members.archive_member(pb::ArchiveMemberRequest {
            tenant_id: text("acme"),
            member_id: text("old"),
            ..Default::default()
        })
    );
    let delete = pb::DeleteRoleRequest {
        tenant_id: text("acme"),
        role_id: role.id.clone(),
        confirmation_text: role.deletion_confirmation_text.clone(),
        ..Default::default()
    };
    assert!(clients.roles.delete_role(delete.clone()).await.is_err());
    // "You must first reassign those users to a different role." Archived ones do not hold it back.
    call!(
        called,
        clients.members.assign_roles(pb::AssignRolesRequest {
            tenant_id: text("acme"),
            member_id: text("kim"),
            role_ids: texts(&["user"]),
            ..Default::default()
        })
    );
    let deleted = call!(called, clients.roles.delete_role(delete));
    assert_eq!(deleted.stripped_archived_members, 1);
    let restored = call!(
        called,
        clients.members.restore_member(pb::RestoreMemberRequest {
            tenant_id: text("acme"),
            member_id: text("old"),
            ..Default::default()
        })
    );
    assert!(restored.member.unwrap().role_ids.is_empty());
}

async fn directory_sync(mut clients: Clients, called: &mut Called) {
    let member = |id: &str, role: &str| pb::MemberUpsert {
        member_id: text(id),
        role_ids: ids(&[role]),
        keep_status: true,
        ..Default::default()
    };
    // An owner changes hands within one batch: what counts is the state after it.
    let swapped = call!(
        called,
        clients.members.batch_upsert_members(pb::BatchUpsertMembersRequest {
            tenant_id: text("acme"),
            members: vec![member("owner", "user"), member("kim", "owner"), member("new", "user")],
            ..Default::default()
        })
    );
    let outcomes: Vec<_> = swapped.results.iter().map(|result| result.outcome()).collect();
    use pb::UpsertOutcome as Outcome;
    assert_eq!(outcomes, [Outcome::Updated, Outcome::Updated, Outcome::Created]);
    // Item by item the others go on, and the last owner is kept.
    let synced = call!(
        called,
        clients.members.batch_upsert_members(pb::BatchUpsertMembersRequest {
            tenant_id: text("acme"),
            members: vec![member("new", "boss"), member("owner", "user"), member("newer", "user")],
            mode: pb::BatchMode::ItemByItem.into(),
            archive_absent: true,
            ..Default::default()
        })
    );
    let outcomes: Vec<_> = synced.results.iter().map(|result| result.outcome()).collect();
    assert_eq!(outcomes, [Outcome::Refused, Outcome::Unchanged, Outcome::Created]);
    assert_eq!(synced.results[0].error.as_ref().unwrap().field, "members[0].role_ids[0]");
    assert_eq!(synced.archived_member_ids, ["old"]);
    assert_eq!(synced.kept_owner_ids, ["kim"]);
}

async fn newer_catalog(called: &mut Called) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("qpien2.toml");
    let newer = rolegate::domain::catalog::shipped()[1]
        .replacen("version = 1", "version = 2", 1)
        .replace("\"contact.view\"", "\"people.view\"")
        .replace("id = \"people.view\"", "id = \"people.view\"\nrenamed_from = [\"contact.view\"]");
    std::fs::write(&file, newer).unwrap();
    let server = Server::start(directory.path(), &["--catalog", &file.display().to_string()]);
    let mut clients = Clients::connect(&server).await;
    call!(
        called,
        clients.tenants.create_tenant(pb::CreateTenantRequest {
            tenant_id: text("acme"),
            catalog_id: text("qpien"),
            catalog_version: 1,
            owner_member_id: text("owner"),
            ..Default::default()
        })
    );
    let role = call!(
        called,
        clients.roles.create_role(pb::CreateRoleRequest {
            tenant_id: text("acme"),
            name: text("Caller"),
            grants: grants(&[("contact.view", "")]),
            ..Default::default()
        })
    );
    // A renamed permission is no change: nothing widens, and the stored grant follows.
    let moved = call!(
        called,
        clients
            .tenants
            .move_catalog(pb::MoveCatalogRequest { tenant_id: text("acme"), ..Default::default() })
    );
    assert_eq!(moved.tenant.unwrap().catalog.unwrap().version, 2);
    assert!(moved.changes.is_empty(), "{:?}", moved.changes);
    let role = call!(
        called,
        clients.roles.get_role(pb::GetRoleRequest {
            tenant_id: text("acme"),
            role_id: role.role.unwrap().id,
            ..Default::default()
        })
    );
    let role = role.role.unwrap();
    assert_eq!(role.grants, grants(&[("people.view", "")]));
    assert!(role.inactive_grants.is_empty());
    assert!(verdict(&mut clients, called, "owner", "people.view", None).await);
}
