//! The database goes away under a running replica: what it holds it goes on deciding for the grace,
//! saying so; what must be fresh is refused at once; and it comes back by itself.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::process::{Clients, Server, output};
use crate::timing::limit;

const GRACE: Duration = Duration::from_secs(6);

fn check(member: &str, fully_consistent: bool) -> pb::CheckRequest {
    let requirement =
        fully_consistent.then_some(pb::consistency::Requirement::FullyConsistent(true));
    pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: member.into(),
        permission: "chat.view".into(),
        resource: None,
        consistency: requirement.map(|kind| pb::Consistency { requirement: Some(kind) }),
    }
}

/// The verdict, and whether it is marked as stale.
async fn ask(clients: &mut Clients, member: &str) -> Result<(bool, bool), Status> {
    let answer = clients.authz.check(check(member, false)).await?.into_inner();
    let allowed = answer.decision.unwrap().verdict() == pb::Verdict::Allowed;
    Ok((allowed, answer.stale_since.is_some()))
}

#[tokio::test]
async fn decisions_go_on_for_the_grace_and_come_back_with_the_database() {
    let Some(cluster) = crate::postgres::dedicated() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.create_database());
    let migrated = output(directory.path(), &["migrate", "--database-url", &url]);
    assert!(migrated.status.success());
    let grace = GRACE.as_secs().to_string();
    let arguments =
        ["--database-url", &url, "--outage-grace", &grace, "--max-staleness-ms", "1000"];
    let server = Server::start(directory.path(), &arguments);
    let mut clients = Clients::connect(&server).await;
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "held".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(request).await.unwrap();
    let request = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: "cold".into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    };
    clients.members.create_member(request.clone()).await.unwrap();
    // A first view may not be kept, when a change is being followed just then.
    for _ in 0..5 {
        assert!(ask(&mut clients, "held").await.unwrap().0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let gone = Instant::now();
    cluster.kill();
    // Marked as soon as the bound has passed, and never a wrong answer on the way.
    loop {
        let (allowed, stale) = ask(&mut clients, "held").await.unwrap();
        assert!(allowed);
        if stale {
            break;
        }
        assert!(gone.elapsed() < limit(Duration::from_secs(4)), "never marked as stale");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What is not held, what must be fresh, and what would be written: not at all, and at once.
    let asked = Instant::now();
    assert_eq!(ask(&mut clients, "cold").await.unwrap_err().code(), Code::Unavailable);
    let fresh = clients.authz.check(check("held", true)).await.unwrap_err();
    assert_eq!(fresh.code(), Code::Unavailable);
    let another = pb::CreateMemberRequest { member_id: "new".into(), ..request };
    let refused = clients.members.create_member(another.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(asked.elapsed() < limit(Duration::from_secs(1)), "{:?}", asked.elapsed());
    // After the grace nobody decides.
    while let Ok((allowed, _)) = ask(&mut clients, "held").await {
        assert!(allowed);
        assert!(gone.elapsed() < limit(GRACE + Duration::from_secs(3)), "it decides for too long");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(gone.elapsed() >= GRACE - Duration::from_secs(1), "{:?}", gone.elapsed());

    cluster.restart();
    let back = Instant::now();
    while ask(&mut clients, "cold").await.ok() != Some((true, false)) {
        assert!(back.elapsed() < limit(Duration::from_secs(10)), "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ask(&mut clients, "held").await.unwrap().0);
    clients.members.create_member(another).await.unwrap();
    assert_eq!(server.terminate().await, Some(0));
}
