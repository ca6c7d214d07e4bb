//! A disk that is full for a while loses nothing that was acknowledged afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rolegate::grpc::pb;
use tempfile::TempDir;
use tonic::Code;

use super::http::page;
use super::process::{Clients, Server};

/// A small file system of its own, where this user may mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(directory));
        }
        eprintln!("SKIPPED: a tmpfs cannot be mounted here, so no disk can be made full");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no byte free.
    fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.path().join("ballast")).unwrap();
        for piece in [vec![0; 4096], vec![0; 1]] {
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

async fn create(clients: &mut Clients, id: &str) -> Result<String, tonic::Status> {
    let request = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: id.into(),
        role_ids: vec!["user".into()],
        // So large that some page is new.
        team_ids: (0..60).map(|team| format!("{id}-team-{team}")).collect(),
        ..Default::default()
    };
    Ok(clients.members.create_member(request).await?.into_inner().consistency_token)
}

/// Creates a member, which must be there, and its token good.
async fn is_kept(clients: &mut Clients, id: &str) {
    let token = create(clients, id).await.unwrap_or_else(|status| panic!("{id}: {status:?}"));
    let request = pb::GetMemberRequest { tenant_id: "acme".into(), member_id: id.into() };
    clients.members.get_member(request).await.unwrap_or_else(|status| panic!("{id}: {status:?}"));
    let tokens = pb::ConsistencyTokens { tokens: vec![token] };
    let request = pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: id.into(),
        permission: "chat.view".into(),
        resource: None,
        consistency: Some(pb::Consistency {
            requirement: Some(pb::consistency::Requirement::AtLeastAsFresh(tokens)),
        }),
    };
    let answer = clients.authz.check(request).await.unwrap().into_inner();
    assert_eq!(answer.decision.unwrap().verdict(), pb::Verdict::Allowed, "{id}");
}

/// What `/readyz` says, once it says that: it is told by the next look at the database.
async fn readiness_that(server: &Server, fits: impl Fn(&str) -> bool) -> String {
    let address = server.admin.as_ref().unwrap();
    let mut body = String::new();
    for _ in 0..600 {
        body = page(address, "/readyz").await;
        if fits(&body) {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("/readyz says {body:?}");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_after_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let server = Server::start(disk.path(), &["--admin-addr", "127.0.0.1:0"]);
    let mut clients = Clients::connect(&server).await;
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(request).await.unwrap();
    is_kept(&mut clients, "before").await;

    disk.fill();
    // Some room is left in pages that are there already.
    let mut number = 0;
    let refused = loop {
        number += 1;
        assert!(number < 100, "the disk does not become full");
        if let Err(status) = create(&mut clients, &format!("full-{number}")).await {
            break status;
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    // Told as what it is, and decisions go on.
    let full = "the disk of the database file is full";
    assert!(server.log().contains(full), "{}", server.log());
    let body = readiness_that(&server, |body| body.contains(full)).await;
    assert!(body.starts_with("ready, but changes cannot be written: "), "{body}");
    disk.make_room();
    is_kept(&mut clients, "one").await;
    readiness_that(&server, |body| body == "ready\n").await;
    is_kept(&mut clients, "two").await;

    // Both end in a rollback.
    let refused = clients
        .members
        .delete_member(pb::DeleteMemberRequest {
            tenant_id: "acme".into(),
            member_id: "owner".into(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    is_kept(&mut clients, "three").await;
    let trial = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: "trial".into(),
        role_ids: vec!["user".into()],
        validate_only: true,
        ..Default::default()
    };
    clients.members.create_member(trial).await.unwrap();
    is_kept(&mut clients, "four").await;

    // And again.
    assert_eq!(server.terminate().await, Some(0));
    let server = Server::start(disk.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    for id in ["before", "one", "two", "three", "four"] {
        let request = pb::GetMemberRequest { tenant_id: "acme".into(), member_id: id.into() };
        clients.members.get_member(request).await.unwrap_or_else(|lost| panic!("{id}: {lost:?}"));
    }
    drop(server);
}
