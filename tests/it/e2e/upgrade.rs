//! A newer schema under running replicas of an older version: columns are added to each table, and
//! every kind of call goes on, on the connections that prepared its statements before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;

use super::fleet::{Fleet, migrate};
use super::process::{Clients, Server};

/// Within which a change must reach a replica that nobody writes through. Far more than it takes: what
/// counts is whether it arrives.
const PATIENCE: Duration = Duration::from_secs(30);

fn grants(permission: &str) -> Vec<pb::Grant> {
    vec![pb::Grant { permission: permission.into(), ..Default::default() }]
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![path.to_owned()] })
}

/// Calls a method that must succeed.
macro_rules! call {
    ($clients:ident.$service:ident.$method:ident { $message:ident, $($fields:tt)* }) => {{
        let request = pb::$message { $($fields)* ..Default::default() };
        match $clients.$service.$method(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => panic!("{}: {status:?}", stringify!($method)),
        }
    }};
}

/// One tenant's life, with every kind of statement that calls send.
async fn live(clients: &Clients, tenant: &str) {
    let mut clients = clients.clone();
    let id = || tenant.to_owned();
    call!(clients.tenants.create_tenant {
        CreateTenantRequest, tenant_id: id(), catalog_id: "qpien".into(),
        owner_member_id: "owner".into(), request_id: format!("create-{tenant}"),
    });
    let role = call!(clients.roles.create_role {
        CreateRoleRequest, tenant_id: id(), name: "Reporter".into(), grants: grants("report.view"),
    });
    let role = role.role.unwrap();
    call!(clients.members.create_member {
        CreateMemberRequest, tenant_id: id(), member_id: "kim".into(),
        role_ids: vec![role.id.clone()], team_ids: vec!["t".into()],
    });
    call!(clients.members.create_member {
        CreateMemberRequest, tenant_id: id(), member_id: "lee".into(),
        role_ids: vec![role.id.clone()],
    });
    let upserted = ["new", "kim"].map(|member| pb::MemberUpsert {
        member_id: member.into(),
        status: pb::MemberStatus::Active.into(),
        ..Default::default()
    });
    call!(clients.members.batch_upsert_members {
        BatchUpsertMembersRequest, tenant_id: id(), members: upserted.to_vec(),
    });
    for member in ["kim", "lee", "nobody"] {
        let answer = call!(clients.authz.check {
            CheckRequest, tenant_id: id(), member_id: member.into(), permission: "report.view".into(),
        });
        let allowed = answer.decision.unwrap().verdict() == pb::Verdict::Allowed;
        assert_eq!(allowed, member != "nobody", "{member} of {tenant}");
    }
    let fully = pb::consistency::Requirement::FullyConsistent(true);
    call!(clients.authz.check {
        CheckRequest, tenant_id: id(), member_id: "kim".into(), permission: "report.view".into(),
        consistency: Some(pb::Consistency { requirement: Some(fully) }),
    });
    call!(clients.authz.explain {
        ExplainRequest, tenant_id: id(), member_id: "kim".into(), permission: "report.view".into(),
    });
    call!(clients.authz.list_authorized_members {
        ListAuthorizedMembersRequest, tenant_id: id(), permission: "report.view".into(),
    });
    call!(clients.authz.list_effective_permissions {
        ListEffectivePermissionsRequest, tenant_id: id(), member_id: "lee".into(),
    });
    call!(clients.roles.get_role { GetRoleRequest, tenant_id: id(), role_id: role.id.clone(), });
    call!(clients.roles.list_roles { ListRolesRequest, tenant_id: id(), });
    call!(clients.roles.preview_role_change {
        PreviewRoleChangeRequest, tenant_id: id(),
        change: Some(pb::preview_role_change_request::Change::Update(
            pb::RoleUpdatePreview {
                role_id: role.id.clone(), grants: grants("chat.view"), ..Default::default()
            },
        )),
    });
    call!(clients.roles.update_role {
        UpdateRoleRequest, tenant_id: id(), role_id: role.id.clone(), grants: grants("chat.view"),
        update_mask: mask("grants"),
    });
    let clone = call!(clients.roles.clone_role {
        CloneRoleRequest, tenant_id: id(), source_role_id: role.id.clone(), name: "Another".into(),
    });
    call!(clients.members.list_members {
        ListMembersRequest, tenant_id: id(), role_id: role.id.clone(),
    });
    call!(clients.members.list_members { ListMembersRequest, tenant_id: id(), team_id: "t".into(), });
    call!(clients.members.update_member {
        UpdateMemberRequest, tenant_id: id(), member_id: "kim".into(), team_ids: vec!["u".into()],
        update_mask: mask("team_ids"),
    });
    for roles in [vec![clone.role.unwrap().id], vec![]] {
        call!(clients.members.assign_roles {
            AssignRolesRequest, tenant_id: id(), member_id: "kim".into(),
            no_roles: roles.is_empty(), role_ids: roles,
        });
    }
    call!(clients.members.archive_member {
        ArchiveMemberRequest, tenant_id: id(), member_id: "lee".into(),
    });
    call!(clients.members.restore_member {
        RestoreMemberRequest, tenant_id: id(), member_id: "lee".into(),
    });
    call!(clients.members.assign_roles {
        AssignRolesRequest, tenant_id: id(), member_id: "lee".into(), no_roles: true,
    });
    call!(clients.roles.delete_role {
        DeleteRoleRequest, tenant_id: id(), role_id: role.id.clone(),
        confirmation_text: role.deletion_confirmation_text.clone(),
    });
    call!(clients.members.delete_member {
        DeleteMemberRequest, tenant_id: id(), member_id: "lee".into(),
    });
    call!(clients.roles.list_audit_events {
        ListAuditEventsRequest, tenant_id: id(), member_id: "kim".into(),
    });
    call!(clients.tenants.get_tenant { GetTenantRequest, tenant_id: id(), });
    call!(clients.tenants.list_tenants { ListTenantsRequest, });
    call!(clients.tenants.delete_tenant { DeleteTenantRequest, tenant_id: id(), });
}

/// What one replica writes, the other one sees by following, and calls itself current.
async fn follows(writer: &Clients, reader: &Clients, may: bool) {
    let (mut writer, mut reader) = (writer.clone(), reader.clone());
    call!(writer.members.assign_roles {
        AssignRolesRequest, tenant_id: "stays".into(), member_id: "kim".into(),
        role_ids: if may { vec!["admin".into()] } else { vec![] }, no_roles: !may,
    });
    let start = Instant::now();
    loop {
        let answer = call!(reader.authz.check {
            CheckRequest, tenant_id: "stays".into(), member_id: "kim".into(),
            permission: "report.view".into(),
        });
        let allowed = answer.decision.unwrap().verdict() == pb::Verdict::Allowed;
        if allowed == may && answer.stale_since.is_none() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the replica does not follow any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tables of the schema, but for the one in which the migrator keeps its books.
async fn tables(admin: &mut sqlx::PgConnection) -> Vec<String> {
    let sql = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' \
               AND table_name <> 'seaql_migrations' ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(admin).await.unwrap()
}

async fn two_replicas(url: &str) -> Fleet {
    migrate(url, &[]);
    let fleet = Fleet::start(&[url, url], &[], &["--max-staleness-ms", "10000"]).await;
    let mut clients = fleet.clients[0].clone();
    call!(clients.tenants.create_tenant {
        CreateTenantRequest, tenant_id: "stays".into(), catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
    });
    call!(clients.members.create_member {
        CreateMemberRequest, tenant_id: "stays".into(), member_id: "kim".into(),
    });
    fleet
}

/// Writes and reads through both replicas until it is told to stop.
fn load(fleet: &Fleet, stop: &Arc<AtomicBool>) -> tokio::task::JoinSet<usize> {
    let mut load = tokio::task::JoinSet::new();
    for (number, clients) in fleet.clients.iter().enumerate() {
        let (clients, stop) = (clients.clone(), Arc::clone(stop));
        load.spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                Box::pin(live(&clients, &format!("load-{number}-{rounds}"))).await;
                rounds += 1;
            }
            rounds
        });
    }
    load
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_added_under_running_replicas() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let database = cluster.create_database();
    let url = cluster.url(&database);
    let fleet = two_replicas(&url).await;
    let (one, two) = (&fleet.clients[0], &fleet.clients[1]);
    let mut watch = {
        let mut clients = one.clone();
        let all = pb::WatchRequest { tenant_ids: vec!["stays".into()], ..Default::default() };
        clients.authz.watch(all).await.unwrap().into_inner()
    };
    follows(one, two, true).await;
    let stop = Arc::default();
    let load = load(&fleet, &stop);
    let mut admin = cluster.admin(&database).await;
    let tables = tables(&mut admin).await;
    assert!(tables.len() >= 13, "{tables:?}");
    let mut may = true;
    for (number, table) in tables.iter().enumerate() {
        let sql = format!("ALTER TABLE {table} ADD COLUMN zz text DEFAULT 'more'");
        crate::store::run(&mut admin, &sql).await;
        may = !may;
        follows(one, two, may).await;
        follows(two, one, !may).await;
        may = !may;
        for (replica, clients) in fleet.clients.iter().enumerate() {
            Box::pin(live(clients, &format!("after-{number}-{replica}"))).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = load.join_all().await;
    assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
    // Each change of the one tenant was told, in order.
    for _ in 0..2 * tables.len() {
        let told = tokio::time::timeout(PATIENCE, watch.message()).await;
        told.expect("the watch goes on").unwrap().expect("the watch has not ended");
    }

    // The schema says that it is newer, and that this version can live with it: the replica starts.
    cluster.sql(&database, "INSERT INTO seaql_migrations VALUES ('m9999_future', 0)");
    let again = Server::start(fleet.directory(), &["--database-url", &url]);
    assert!(again.log().contains("the schema is newer than this program"), "{}", again.log());
    let clients = Clients::connect(&again).await;
    Box::pin(live(&clients, "under-a-newer-schema")).await;
    follows(&clients, two, !may).await;
    follows(two, &clients, may).await;
}
