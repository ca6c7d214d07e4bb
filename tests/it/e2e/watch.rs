//! Watch over real sockets: from one replica to another, through an outage, and to the server's end.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::process::{Clients, Server, output};
use crate::timing::limit;

async fn watch(clients: &Clients, cursor: &str) -> Streaming<pb::WatchResponse> {
    let request = pb::WatchRequest { tenant_ids: vec!["acme".into()], cursor: cursor.into() };
    clients.authz.clone().watch(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<pb::WatchResponse>) -> Result<pb::WatchResponse, Status> {
    let message = timeout(Duration::from_secs(60), stream.message()).await.expect("silence");
    message.map(|message| message.expect("an end without a status"))
}

/// The end, when it comes.
async fn end(stream: &mut Streaming<pb::WatchResponse>) -> Status {
    loop {
        if let Err(status) = next(stream).await {
            return status;
        }
    }
}

#[track_caller]
fn cursor_of(status: &Status, reason: &str) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (Code::Unavailable, reason));
    assert!(status.get_details_retry_info().is_some());
    info.metadata["cursor"].clone()
}

async fn create_tenant(clients: &mut Clients, tenant: &str) {
    let request = pb::CreateTenantRequest {
        tenant_id: tenant.into(),
        catalog_id: "qpien".into(),
        owner_member_id: "owner".into(),
        ..Default::default()
    };
    clients.tenants.create_tenant(request).await.unwrap();
}

async fn create_member(clients: &mut Clients, tenant: &str, member: &str) -> String {
    let request = pb::CreateMemberRequest {
        tenant_id: tenant.into(),
        member_id: member.into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    };
    clients.members.create_member(request).await.unwrap().into_inner().consistency_token
}

/// The member that each change is about, and its token.
fn told(response: &pb::WatchResponse) -> Vec<(String, String)> {
    let one = |change: &pb::TenantChange| {
        assert_eq!(change.tenant_id, "acme");
        assert!(change.time.is_some());
        let Some(pb::tenant_change::Touched::Members(touched)) = &change.touched else {
            panic!("{change:?}");
        };
        let [member] = touched.member_ids.as_slice() else { panic!("{change:?}") };
        (member.clone(), change.consistency_token.clone())
    };
    response.changes.iter().map(one).collect()
}

fn migrate(directory: &std::path::Path, url: &str) {
    let migrated = output(directory, &["migrate", "--database-url", url]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
}

#[tokio::test]
async fn a_watcher_goes_on_at_another_replica_and_sees_every_write_once() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.create_database());
    migrate(directory.path(), &url);
    let start =
        || Server::start(directory.path(), &["--database-url", &url, "--watch-heartbeat", "1"]);
    let (first, second) = (start(), start());
    let (mut one, mut two) = (Clients::connect(&first).await, Clients::connect(&second).await);
    create_tenant(&mut one, "acme").await;
    create_tenant(&mut one, "other").await;
    let mut stream = watch(&one, "").await;
    assert!(next(&mut stream).await.unwrap().changes.is_empty());
    // The making of the tenant may still be told.
    let begun = create_member(&mut two, "acme", "begin").await;
    let mut cursor = loop {
        let response = next(&mut stream).await.unwrap();
        if response.changes.last().is_some_and(|change| change.consistency_token == begun) {
            break response.cursor;
        }
    };

    let (mut written, mut seen) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let member = format!("m{round:02}");
        let writer = if round % 2 == 0 { &mut one } else { &mut two };
        written.push((member.clone(), create_member(writer, "acme", &member).await));
        create_member(&mut two, "other", &member).await;
        // Not read to the end: what was not read comes again, and nothing else does.
        if round < 5 {
            let response = next(&mut stream).await.unwrap();
            cursor.clone_from(&response.cursor);
            seen.extend(told(&response));
        }
    }
    first.kill();
    drop(stream);
    for round in 10..20 {
        let member = format!("m{round:02}");
        written.push((member.clone(), create_member(&mut two, "acme", &member).await));
    }
    let mut stream = watch(&two, &cursor).await;
    while seen.len() < written.len() {
        let response = next(&mut stream).await.unwrap();
        cursor.clone_from(&response.cursor);
        seen.extend(told(&response));
    }
    assert_eq!(seen, written);
    // Then only heartbeats, whose cursors get on.
    for _ in 0..2 {
        let response = next(&mut stream).await.unwrap();
        assert!(response.changes.is_empty(), "{response:?}");
    }
    assert_eq!(second.terminate().await, Some(0));
}

#[tokio::test]
async fn draining_does_not_wait_for_streams() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--drain-timeout", "60"]);
    let mut clients = Clients::connect(&server).await;
    create_tenant(&mut clients, "acme").await;
    let mut stream = watch(&clients, "").await;
    next(&mut stream).await.unwrap();
    create_member(&mut clients, "acme", "kim").await;
    let response = next(&mut stream).await.unwrap();
    assert_eq!(told(&response).len(), 1);
    let told_to_end = Instant::now();
    let (code, status) = tokio::join!(server.terminate(), async {
        let status = end(&mut stream).await;
        drop((stream, clients));
        status
    });
    assert_eq!(code, Some(0));
    assert!(told_to_end.elapsed() < limit(Duration::from_secs(10)), "{:?}", told_to_end.elapsed());
    let cursor = cursor_of(&status, "SERVER_DRAINING");

    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    let mut stream = watch(&clients, &cursor).await;
    assert!(next(&mut stream).await.unwrap().changes.is_empty());
    create_member(&mut clients, "acme", "lou").await;
    let changed = told(&next(&mut stream).await.unwrap());
    assert_eq!(changed[0].0, "lou");
}

#[tokio::test]
async fn a_stream_outlives_a_short_outage_and_not_a_long_one() {
    let Some(cluster) = crate::postgres::dedicated() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.create_database());
    migrate(directory.path(), &url);
    let more = ["--database-url", &url, "--watch-heartbeat", "1", "--outage-grace", "12"];
    let server = Server::start(directory.path(), &more);
    let mut clients = Clients::connect(&server).await;
    create_tenant(&mut clients, "acme").await;
    let mut stream = watch(&clients, "").await;
    next(&mut stream).await.unwrap();
    create_member(&mut clients, "acme", "before").await;
    while told(&next(&mut stream).await.unwrap()).is_empty() {}

    cluster.kill();
    // One heartbeat may be on its way; then it is quiet, and open.
    let until = Instant::now() + Duration::from_millis(2_500);
    let mut heartbeats = 0;
    while let Ok(message) = tokio::time::timeout_at(until, stream.message()).await {
        assert!(message.unwrap().unwrap().changes.is_empty());
        heartbeats += 1;
    }
    assert!(heartbeats <= 1, "{heartbeats} heartbeats without a database");
    cluster.restart();
    let back = Instant::now();
    let request = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: "after".into(),
        ..Default::default()
    };
    while clients.members.create_member(request.clone()).await.is_err() {
        assert!(back.elapsed() < limit(Duration::from_secs(20)), "writes do not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let changed = loop {
        let response = next(&mut stream).await.unwrap();
        if !response.changes.is_empty() {
            break told(&response);
        }
    };
    assert_eq!(changed[0].0, "after");

    let gone = Instant::now();
    cluster.kill();
    let cursor = cursor_of(&end(&mut stream).await, "DATABASE_UNAVAILABLE");
    assert!(gone.elapsed() >= Duration::from_secs(11), "{:?}", gone.elapsed());
    cluster.restart();
    let back = Instant::now();
    loop {
        let request = pb::WatchRequest { tenant_ids: vec![], cursor: cursor.clone() };
        match clients.authz.watch(request).await {
            Ok(_) => break,
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
        assert!(back.elapsed() < limit(Duration::from_secs(20)), "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.terminate().await, Some(0));
}
