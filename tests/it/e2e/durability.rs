//! An acknowledged write is there after a restart and after a kill in the middle of writing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolegate::grpc::pb;

use super::process::{Clients, Server};

async fn new_tenant(clients: &mut Clients, tenant: &str) -> String {
    let request = pb::CreateTenantRequest {
        tenant_id: tenant.into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(request).await.unwrap().into_inner().consistency_token
}

#[tokio::test]
async fn a_restart_reads_back_what_was_written_and_honours_old_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    new_tenant(&mut clients, "acme").await;
    let role = clients
        .roles
        .create_role(pb::CreateRoleRequest {
            tenant_id: "acme".into(),
            name: "Reporter".into(),
            grants: vec![pb::Grant { permission: "report.view".into(), scope: String::new() }],
            request_id: "once".into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let role_id = role.role.as_ref().unwrap().id.clone();
    let token = clients
        .members
        .create_member(pb::CreateMemberRequest {
            tenant_id: "acme".into(),
            member_id: "kim".into(),
            role_ids: vec![role_id.clone()],
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .consistency_token;
    assert_eq!(server.terminate().await, Some(0));

    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let consistency = pb::Consistency {
        requirement: Some(pb::consistency::Requirement::AtLeastAsFresh(pb::ConsistencyTokens {
            tokens: vec![token],
        })),
    };
    let check = |permission: &str| pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: "kim".into(),
        permission: permission.into(),
        resource: None,
        consistency: Some(consistency.clone()),
    };
    for (permission, verdict) in
        [("report.view", pb::Verdict::Allowed), ("report.export", pb::Verdict::Denied)]
    {
        let answer = clients.authz.check(check(permission)).await.unwrap().into_inner();
        assert_eq!(answer.decision.unwrap().verdict(), verdict, "{permission}");
    }
    // The very answer of before the restart, token and all.
    let again = clients
        .roles
        .create_role(pb::CreateRoleRequest {
            tenant_id: "acme".into(),
            name: "Reporter".into(),
            grants: vec![pb::Grant { permission: "report.view".into(), scope: String::new() }],
            request_id: "once".into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, role);
}

/// Eight writers, a SIGKILL somewhere among them, three times over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let acknowledged: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    for round in 0..3 {
        let server = Server::start(directory.path(), &[]);
        let mut clients = Clients::connect(&server).await;
        if round == 0 {
            new_tenant(&mut clients, "acme").await;
        }
        let before = acknowledged.lock().unwrap().len();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (mut clients, acknowledged) = (clients.clone(), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    for number in 0.. {
                        let member_id = format!("m-{round}-{writer}-{number}");
                        let team = format!("team-{number}");
                        let request = pb::CreateMemberRequest {
                            tenant_id: "acme".into(),
                            member_id: member_id.clone(),
                            role_ids: vec!["user".into()],
                            team_ids: vec![team.clone()],
                            ..Default::default()
                        };
                        // The first failure is the kill.
                        let Ok(_) = clients.members.create_member(request).await else { return };
                        acknowledged.lock().unwrap().insert(member_id, team);
                    }
                })
            })
            .collect();
        while acknowledged.lock().unwrap().len() < before + 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
    }

    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 120);
    for (member_id, team) in acknowledged {
        let request =
            pb::GetMemberRequest { tenant_id: "acme".into(), member_id: member_id.clone() };
        let member = clients.members.get_member(request).await.unwrap().into_inner().member;
        let member = member.unwrap();
        assert_eq!((member.role_ids, member.team_ids), (vec!["user".to_owned()], vec![team]));
    }
}
