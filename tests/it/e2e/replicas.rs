//! Several processes on one database: a write through one is seen by the others, at once with its
//! token, and within the stated bound without.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;

use super::process::{Clients, Server, output};
use crate::timing::limit;

/// The default of `--max-staleness-ms`, and room for a busy machine to ask and answer.
const BOUND: Duration = Duration::from_millis(2_000 + 500);
const ROUNDS: usize = 12;

fn check(token: Option<String>) -> pb::CheckRequest {
    let at_least = |token| {
        let tokens = pb::ConsistencyTokens { tokens: vec![token] };
        let requirement = Some(pb::consistency::Requirement::AtLeastAsFresh(tokens));
        pb::Consistency { requirement }
    };
    pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: "kim".into(),
        permission: "report.view".into(),
        resource: None,
        consistency: token.map(at_least),
    }
}

/// Asks until an answer is not marked as stale, as one may be on a machine that is busy. Gives back
/// when that answer was asked for.
async fn asked(clients: &mut Clients, token: Option<String>) -> (Instant, bool) {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = clients.authz.check(check(token.clone())).await.unwrap().into_inner();
        if answer.stale_since.is_none() {
            return (asked, answer.decision.unwrap().verdict() == pb::Verdict::Allowed);
        }
        assert!(begun.elapsed() < limit(BOUND), "every answer is marked as stale");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn allowed(clients: &mut Clients, token: Option<String>) -> bool {
    asked(clients, token).await.1
}

/// Flips what the member may do in every way that reaches followers differently.
async fn write(clients: &mut Clients, role: &pb::Role, round: usize, allow: bool) -> String {
    if round % 4 < 2 {
        let request = pb::AssignRolesRequest {
            tenant_id: "acme".into(),
            member_id: "kim".into(),
            role_ids: if allow { vec![role.id.clone()] } else { vec![] },
            no_roles: !allow,
            ..Default::default()
        };
        clients.members.assign_roles(request).await.unwrap().into_inner().consistency_token
    } else {
        let grant =
            |permission: &str| pb::Grant { permission: permission.into(), ..Default::default() };
        let request = pb::UpdateRoleRequest {
            tenant_id: "acme".into(),
            role_id: role.id.clone(),
            grants: if allow { vec![grant("report.view")] } else { vec![grant("chat.view")] },
            update_mask: Some(prost_types::FieldMask { paths: vec!["grants".into()] }),
            ..Default::default()
        };
        clients.roles.update_role(request).await.unwrap().into_inner().consistency_token
    }
}

async fn replicas_agree(servers: Vec<Server>) {
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(Clients::connect(server).await);
    }
    let first = &mut clients[0];
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    first.tenants.create_tenant(request).await.unwrap();
    let request = pb::CreateRoleRequest {
        tenant_id: "acme".into(),
        name: "Reporter".into(),
        grants: vec![pb::Grant { permission: "report.view".into(), ..Default::default() }],
        ..Default::default()
    };
    let role = first.roles.create_role(request).await.unwrap().into_inner().role.unwrap();
    let request = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: "kim".into(),
        role_ids: vec![role.id.clone()],
        ..Default::default()
    };
    first.members.create_member(request).await.unwrap();

    let mut delays = Vec::new();
    let mut may = true;
    for round in 0..ROUNDS {
        // Everybody has it cached.
        for replica in &mut clients {
            let deadline = Instant::now() + limit(BOUND);
            while allowed(replica, None).await != may {
                assert!(Instant::now() < deadline, "round {round}: it never came");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let (writer, reader) = (round % clients.len(), (round + 1) % clients.len());
        // Taken away and given back, by assignment and by an edit of the role in turn.
        may = round % 2 == 1;
        let token = write(&mut clients[writer], &role, round, may).await;
        let committed = Instant::now();
        if round % 3 == 0 {
            // With the token: at once, on whatever replica.
            assert_eq!(allowed(&mut clients[reader], Some(token)).await, may, "round {round}");
        }
        loop {
            // Whether it may be wrong depends on when it was asked.
            let (asked, says) = asked(&mut clients[reader], None).await;
            if says == may {
                break;
            }
            let asked = asked.duration_since(committed);
            assert!(asked <= BOUND, "round {round}: not seen within {BOUND:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        delays.push(committed.elapsed());
    }
    delays.sort_unstable();
    println!("from commit to visible on another replica: {delays:?}");
}

#[tokio::test]
async fn two_processes_on_one_file_see_each_others_writes() {
    let directory = tempfile::tempdir().unwrap();
    let servers = (0..2).map(|_| Server::start(directory.path(), &[])).collect();
    replicas_agree(servers).await;
}

#[tokio::test]
async fn three_replicas_on_one_postgresql_see_each_others_writes() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.create_database());
    let migrated = output(directory.path(), &["migrate", "--database-url", &url]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let start = |_| Server::start(directory.path(), &["--database-url", &url]);
    replicas_agree((0..3).map(start).collect()).await;
}
