//! A caller that asks more than it may, on every way to ask.
//!
//! The clock is the real one, so limits earn so little that a slow machine does not matter: messages
//! are larger than what is earned while a test runs.

use std::time::{Duration, Instant};

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::role_service_client::RoleServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::callers::setup::{check, eventually, hash, metric, tokened};
use super::process::Server;

/// A caller with this token and more of its own.
fn caller(name: &str, capabilities: &str, more: &str) -> String {
    format!(
        "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [{capabilities}]\n{more}\n",
        hash(name)
    )
}

const CHECK: &str = "\"check\"";

fn start(directory: &std::path::Path, callers: &[String], more: &[&str]) -> Server {
    std::fs::write(directory.join("callers.toml"), callers.concat()).unwrap();
    let arguments = ["serve", "--callers", "callers.toml", "--grpc-addr", "127.0.0.1:0"];
    let ports = ["--log-format", "json", "--admin-addr", "127.0.0.1:0"];
    Server::spawn(directory, &[&arguments[..], &ports, more].concat()).unwrap()
}

async fn acme(channel: &Channel, admin: &str) {
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olivia".into(),
        ..Default::default()
    };
    TenantServiceClient::new(channel.clone()).create_tenant(tokened(admin, request)).await.unwrap();
}

/// How the caller was refused: how many questions, and when they would pass.
#[track_caller]
fn limited(status: &Status, caller: &str, questions: u64) -> Duration {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(info.metadata["caller"], caller);
    assert_eq!(info.metadata["questions"], questions.to_string());
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, format!("caller/{caller}"));
    let later = details.retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(info.metadata["retry_after_ms"], later.as_millis().to_string());
    later
}

fn item(number: usize) -> pb::CheckItem {
    // Some that are cached once they were asked, and some that never are.
    let member_id = ["olivia", "kim"][number % 2].into();
    pb::CheckItem { member_id, permission: "chat.view".into(), resource: None }
}

async fn batch(channel: &Channel, caller: &str, questions: usize) -> Result<(), Status> {
    let request = pb::BatchCheckRequest {
        tenant_id: "acme".into(),
        items: (0..questions).map(item).collect(),
        consistency: None,
    };
    AuthzServiceClient::new(channel.clone()).batch_check(tokened(caller, request)).await.map(drop)
}

async fn filter(channel: &Channel, caller: &str, questions: usize) -> Result<(), Status> {
    let resource = |number| pb::Resource { id: format!("r{number}"), ..Default::default() };
    let request = pb::FilterResourcesRequest {
        tenant_id: "acme".into(),
        member_id: "olivia".into(),
        permission: "conversation.view".into(),
        resources: (0..questions).map(resource).collect(),
        consistency: None,
    };
    let mut client = AuthzServiceClient::new(channel.clone());
    client.filter_resources(tokened(caller, request)).await.map(drop)
}

fn streamed(questions: usize) -> pb::CheckStreamRequest {
    let question = |number| {
        let pb::CheckItem { member_id, permission, resource } = item(number);
        let correlation_id = number as u64;
        pb::CheckStreamItem { correlation_id, member_id, permission, resource }
    };
    pb::CheckStreamRequest {
        tenant_id: "acme".into(),
        items: (0..questions).map(question).collect(),
        consistency: None,
    }
}

/// Calls until one is refused: how many were not, and that it was about as many as the limit says.
async fn until_refused<F: AsyncFnMut() -> Result<(), Status>>(burst: u64, mut call: F) -> Status {
    let begun = Instant::now();
    let mut passed = 0;
    loop {
        if let Err(status) = call().await {
            let earned = begun.elapsed().as_secs() + 1;
            assert!((burst..=burst + earned).contains(&passed), "{passed} of {burst}");
            return status;
        }
        passed += 1;
        assert!(passed < 10 * burst, "no limit");
    }
}

#[tokio::test]
async fn each_way_of_asking_ends_at_the_limit_and_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let limit = "questions_per_second = 1\nburst = 100";
    let few = "questions_per_second = 1\nburst = 20";
    let server = start(
        directory.path(),
        &[
            caller("admin", "\"admin\", \"check\"", ""),
            caller("checks", CHECK, few),
            caller("reads", "\"read\"", few),
            caller("batches", CHECK, limit),
            caller("filters", CHECK, limit),
            caller("streams", CHECK, limit),
        ],
        &[],
    );
    let channel = server.channel().await;
    acme(&channel, "admin").await;

    // One by one: the first asks the database, the others are at hand.
    let status = until_refused(20, async || check(&channel, Some("checks")).await).await;
    let later = limited(&status, "checks", 1);
    assert!(later <= Duration::from_secs(1), "{later:?}");
    tokio::time::sleep(later).await;
    check(&channel, Some("checks")).await.unwrap();

    // Every other call is one question, and health is none.
    let mut roles = RoleServiceClient::new(channel.clone());
    let request = pb::ListPermissionsRequest { tenant_id: "acme".into(), ..Default::default() };
    let list = async || roles.list_permissions(tokened("reads", request.clone())).await.map(drop);
    limited(&until_refused(20, list).await, "reads", 1);
    for _ in 0..40 {
        let probe = tokened("reads", HealthCheckRequest::default());
        HealthClient::new(channel.clone()).check(probe).await.unwrap();
    }

    // By their items, once each, whether they have to ask the database or are at hand.
    for questions in [60, 30] {
        batch(&channel, "batches", questions).await.unwrap();
        filter(&channel, "filters", questions).await.unwrap();
    }
    let later = limited(&batch(&channel, "batches", 60).await.unwrap_err(), "batches", 60);
    assert!(later > Duration::from_secs(20) && later <= Duration::from_secs(50), "{later:?}");
    limited(&filter(&channel, "filters", 60).await.unwrap_err(), "filters", 60);
    // What was refused cost nothing.
    batch(&channel, "batches", 9).await.unwrap();
    filter(&channel, "filters", 9).await.unwrap();

    let (ask, receiver) = mpsc::channel(10);
    let mut client = AuthzServiceClient::new(channel.clone());
    let request = tokened("streams", ReceiverStream::new(receiver));
    let mut answers = client.check_stream(request).await.unwrap().into_inner();
    for questions in [60, 30] {
        ask.send(streamed(questions)).await.unwrap();
        let mut answered = 0;
        while answered < questions {
            let response = answers.message().await.unwrap().unwrap();
            assert_eq!(response.refusal, None);
            answered += response.results.len();
        }
    }
    ask.send(streamed(60)).await.unwrap();
    let refusal = answers.message().await.unwrap().unwrap().refusal.unwrap();
    assert_eq!(refusal.correlation_ids, (0..60).collect::<Vec<_>>());
    let error = refusal.error.unwrap();
    assert_eq!((error.reason.as_str(), error.field.as_str()), ("RATE_LIMITED", ""));
    assert!(error.metadata["retry_after_ms"].parse::<u64>().unwrap() > 20_000);
    ask.send(streamed(8)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 8);

    // All the while, whoever has no limit asks what it wants.
    for _ in 0..300 {
        check(&channel, Some("admin")).await.unwrap();
    }
    batch(&channel, "admin", 5_000).await.unwrap();

    for (caller, refused) in [("checks", 1.0), ("batches", 60.0), ("streams", 60.0)] {
        let line = format!("rolegate_rate_limited_total{{caller=\"{caller}\"}}");
        assert_eq!(metric(&server, &line).await, Some(refused), "{caller}");
    }
    let line = "rolegate_rate_limited_total{caller=\"admin\"}";
    assert_eq!(metric(&server, line).await, None);
    let log = server.log();
    let said = log.lines().filter(|line| line.contains("a caller asks more than it may"));
    assert_eq!(said.filter(|line| line.contains("\"batches\"")).count(), 1, "{log}");
}

#[tokio::test]
async fn the_flag_is_for_whom_the_file_does_not_limit_and_a_reload_counts() {
    let directory = tempfile::tempdir().unwrap();
    let flag = ["--max-questions-per-second-per-caller", "1"];
    let callers = |own: &str| [caller("chat", CHECK, own), caller("desk", CHECK, "")];
    let server = start(directory.path(), &callers("questions_per_second = 1000000"), &flag);
    let channel = server.channel().await;
    batch(&channel, "desk", 50).await.unwrap();
    limited(&batch(&channel, "desk", 1).await.unwrap_err(), "desk", 1);
    batch(&channel, "chat", 10_000).await.unwrap();
    batch(&channel, "chat", 10_000).await.unwrap();
    std::fs::write(directory.path().join("callers.toml"), callers("").concat()).unwrap();
    eventually("a lower limit", async || batch(&channel, "chat", 50).await.is_err()).await;
    // It was not forgotten what this one has asked.
    limited(&batch(&channel, "desk", 20).await.unwrap_err(), "desk", 20);
}

#[tokio::test]
async fn everybody_is_one_caller_in_development() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--max-questions-per-second-per-caller", "1"]);
    let channels = [server.channel().await, server.channel().await];
    let mut turns = channels.iter().cycle();
    let status = until_refused(1, async || check(turns.next().unwrap(), None).await).await;
    limited(&status, "dev", 1);
}
