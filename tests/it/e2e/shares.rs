//! A caller that takes all it can get leaves room for the others.

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Channel;

use super::callers::setup::{check, eventually, metric, token, tokened};
use super::limits::{dribbling_with, overloaded_of, say};
use super::process::Server;
use super::rates::{CHECK, caller, start};

/// A server with two callers, of whom `greedy` has begun a call on each of so many connections, has
/// sent so many bytes of its message and sends no more.
async fn beside(
    directory: &std::path::Path,
    more: &[&str],
    (calls, sent): (u32, usize),
) -> (Server, Vec<TcpStream>) {
    let callers = ["greedy", "modest"].map(|name| caller(name, CHECK, ""));
    let server = start(directory, &callers, &[more, &["--request-timeout", "600"]].concat());
    let bearer = format!("Bearer {}", token("greedy"));
    let begun = dribbling_with(1, 60 << 10, sent, &[("authorization", &bearer)]);
    let mut held = Vec::new();
    for _ in 0..calls {
        held.push(say(&server, &begun).await);
    }
    (server, held)
}

async fn shed(server: &Server, what: &str, of: &str) -> Option<f64> {
    let line = format!("rolegate_calls_shed_total{{what=\"{what}\",of=\"{of}\"}}");
    metric(server, &line).await
}

/// A call that begins with its message, and needs room.
pub(super) async fn batch(channel: &Channel, name: &str) -> Result<(), Status> {
    let item = pb::CheckItem {
        member_id: "kim".into(),
        permission: "chat.view".into(),
        ..Default::default()
    };
    let request = pb::BatchCheckRequest {
        tenant_id: "acme".into(),
        items: vec![item; 100],
        ..Default::default()
    };
    let answer = AuthzServiceClient::new(channel.clone()).batch_check(tokened(name, request)).await;
    match answer {
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        answer => answer.map(drop),
    }
}

#[tokio::test]
async fn one_caller_takes_its_share_of_the_places() {
    let directory = tempfile::tempdir().unwrap();
    let (server, held) = beside(directory.path(), &["--max-calls", "8"], (6, 1)).await;
    eventually("shedding", async || shed(&server, "calls", "caller").await == Some(2.0)).await;
    let channel = server.channel().await;
    overloaded_of(&batch(&channel, "greedy").await.unwrap_err(), "calls", "caller");
    for _ in 0..10 {
        batch(&channel, "modest").await.unwrap();
        check(&channel, Some("modest")).await.unwrap();
    }
    assert_eq!(shed(&server, "calls", "server").await, Some(0.0));
    // A new file changes nothing of what is under way.
    let callers = ["greedy", "modest"].map(|name| caller(name, "\"check\", \"read\"", ""));
    std::fs::write(directory.path().join("callers.toml"), callers.concat()).unwrap();
    let reloads = "rolegate_reloads_total{what=\"callers\",outcome=\"done\"}";
    eventually("the new file", async || metric(&server, reloads).await >= Some(1.0)).await;
    overloaded_of(&batch(&channel, "greedy").await.unwrap_err(), "calls", "caller");
    // Room comes back with what ends.
    drop(held);
    eventually("room", async || batch(&channel, "greedy").await.is_ok()).await;
}

#[tokio::test]
async fn one_caller_takes_its_share_of_the_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let room = ["--max-calls-mib", "1", "--max-message-kib", "64", "--max-share-per-caller", "25"];
    let (server, held) = beside(directory.path(), &room, (5, 50 << 10)).await;
    let under_way = "rolegate_calls_under_way_bytes ";
    let most = async || metric(&server, under_way).await >= Some(f64::from(200 << 10));
    eventually("what is begun", most).await;
    let channel = server.channel().await;
    overloaded_of(&batch(&channel, "greedy").await.unwrap_err(), "bytes", "caller");
    for _ in 0..10 {
        batch(&channel, "modest").await.unwrap();
    }
    assert!(metric(&server, under_way).await.unwrap() <= f64::from(256 << 10));
    drop(held);
    eventually("room", async || metric(&server, under_way).await == Some(0.0)).await;
    batch(&channel, "greedy").await.unwrap();
}
