//! A caller that asks more than it may, on every way to ask.
//!
//! The clock is the real one, so limits earn so little that a slow machine does not matter: messages
//! are larger than what is earned while a test runs.

use std::time::{Duration, Instant};

use prost::Message as _;
use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::role_service_client::RoleServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::callers::setup::{check, eventually, hash, metric, token, tokened};
use super::limits::{PREFACE, frame, head, say};
use super::process::Server;

/// A caller with this token and more of its own.
pub(super) fn caller(name: &str, capabilities: &str, more: &str) -> String {
    format!(
        "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [{capabilities}]\n{more}\n",
        hash(name)
    )
}

pub(super) const CHECK: &str = "\"check\"";

pub(super) fn start(directory: &std::path::Path, callers: &[String], more: &[&str]) -> Server {
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
    // One who is there, and one who is not.
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

/// Calls until one is refused, which is when as many were not as the limit says.
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

/// A server with a tenant, and a caller that is limited beside one that is not.
struct Desk {
    server: Server,
    channel: Channel,
    _directory: tempfile::TempDir,
}

impl Desk {
    /// The limited one, `slow`, has this capability and may ask one question a second, and so many at
    /// once.
    async fn new(capability: &str, burst: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let limit = format!("questions_per_second = 1\nburst = {burst}");
        let callers =
            [caller("fast", "\"admin\", \"check\"", ""), caller("slow", capability, &limit)];
        let server = start(directory.path(), &callers, &[]);
        let channel = server.channel().await;
        acme(&channel, "fast").await;
        Desk { server, channel, _directory: directory }
    }

    /// At the end: so many questions were refused, and whoever has no limit asks what it wants.
    async fn refused(&self, questions: u32) {
        let refused = |caller| format!("rolegate_rate_limited_total{{caller=\"{caller}\"}}");
        assert_eq!(metric(&self.server, &refused("slow")).await, Some(questions.into()));
        for _ in 0..300 {
            check(&self.channel, Some("fast")).await.unwrap();
        }
        batch(&self.channel, "fast", 5_000).await.unwrap();
        filter(&self.channel, "fast", 5_000).await.unwrap();
        assert_eq!(metric(&self.server, &refused("fast")).await, None);
        let log = self.server.log();
        let said = log.lines().filter(|line| line.contains("a caller asks more than it may"));
        assert_eq!(said.filter(|line| line.contains("\"slow\"")).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn checks_end_at_the_limit_and_go_on_when_it_was_said() {
    let desk = Desk::new(CHECK, 20).await;
    let check = async || check(&desk.channel, Some("slow")).await;
    let later = limited(&until_refused(20, check).await, "slow", 1);
    assert!(later <= Duration::from_secs(1), "{later:?}");
    tokio::time::sleep(later).await;
    check().await.unwrap();
    desk.refused(1).await;
}

/// Checks that come as a whole each, so that they are answered at once where they can be: first one by
/// itself, then many. Each is counted once.
async fn in_one_piece(member: impl Fn(u32) -> String) {
    const CALLS: u32 = 60;
    let desk = Desk::new(CHECK, 20).await;
    let bearer = format!("Bearer {}", token("slow"));
    let call = |number: u32| {
        let request = pb::CheckRequest {
            tenant_id: "acme".into(),
            member_id: member(number),
            permission: "chat.view".into(),
            ..Default::default()
        };
        let message = request.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = [&[0], &length[..], &message].concat();
        let stream = 2 * number + 1;
        let path = "/rolegate.v1.AuthzService/Check";
        let head = head(stream, path, &[("authorization", &bearer)]);
        [head, frame(0, 1, stream, &message)].concat()
    };
    let ended = async |code| {
        let method = "method=\"rolegate.v1.AuthzService/Check\"";
        let line = format!("rolegate_rpcs_total{{{method},code=\"{code}\"}}");
        metric(&desk.server, &line).await.unwrap_or_default() as u64
    };
    let begun = Instant::now();
    let mut raw = say(&desk.server, &[PREFACE, &call(0)].concat()).await;
    eventually("an answer", async || ended("OK").await == 1).await;
    raw.write_all(&(1..CALLS).flat_map(call).collect::<Vec<_>>()).await.unwrap();
    eventually("all answers", async || {
        ended("OK").await + ended("RESOURCE_EXHAUSTED").await == u64::from(CALLS)
    })
    .await;
    let (passed, earned) = (ended("OK").await, begun.elapsed().as_secs() + 1);
    assert!((20..=20 + earned).contains(&passed), "{passed} of 20");
    desk.refused(CALLS - u32::try_from(passed).unwrap()).await;
}

#[tokio::test]
async fn checks_at_hand_end_at_the_limit() {
    in_one_piece(|_| "olivia".into()).await;
}

#[tokio::test]
async fn checks_that_ask_the_database_end_at_the_limit() {
    // Each about somebody whom nobody has asked about.
    in_one_piece(|number| format!("m{number}")).await;
}

#[tokio::test]
async fn every_other_call_is_a_question_and_health_is_none() {
    let desk = Desk::new("\"read\"", 20).await;
    let request = pb::ListPermissionsRequest { tenant_id: "acme".into(), ..Default::default() };
    let list = async || {
        let mut roles = RoleServiceClient::new(desk.channel.clone());
        roles.list_permissions(tokened("slow", request.clone())).await.map(drop)
    };
    limited(&until_refused(20, list).await, "slow", 1);
    for _ in 0..40 {
        let probe = tokened("slow", HealthCheckRequest::default());
        HealthClient::new(desk.channel.clone()).check(probe).await.unwrap();
    }
    desk.refused(1).await;
}

/// Messages of many questions, each counted once, whether they ask the database or are at hand.
async fn many_at_once<F: AsyncFn(&Channel, &str, usize) -> Result<(), Status>>(ask: F) {
    let desk = Desk::new(CHECK, 100).await;
    ask(&desk.channel, "slow", 60).await.unwrap();
    ask(&desk.channel, "slow", 30).await.unwrap();
    let later = limited(&ask(&desk.channel, "slow", 60).await.unwrap_err(), "slow", 60);
    assert!(later > Duration::from_secs(20) && later <= Duration::from_secs(50), "{later:?}");
    // What was refused cost nothing.
    ask(&desk.channel, "slow", 10).await.unwrap();
    desk.refused(60).await;
}

#[tokio::test]
async fn batches_end_at_the_limit_by_their_items() {
    many_at_once(batch).await;
}

#[tokio::test]
async fn filters_end_at_the_limit_by_their_candidates() {
    many_at_once(filter).await;
}

#[tokio::test]
async fn a_stream_goes_on_after_what_was_beyond_the_limit() {
    let desk = Desk::new(CHECK, 100).await;
    let (ask, receiver) = mpsc::channel(10);
    let mut client = AuthzServiceClient::new(desk.channel.clone());
    // One for the call, then the items.
    let request = tokened("slow", ReceiverStream::new(receiver));
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
    let refusal = answers.message().await.unwrap().unwrap().refusal.expect("no refusal");
    assert_eq!(refusal.correlation_ids, (0..60).collect::<Vec<_>>());
    let error = refusal.error.unwrap();
    assert_eq!((error.reason.as_str(), error.field.as_str()), ("RATE_LIMITED", ""));
    assert!(error.metadata["retry_after_ms"].parse::<u64>().unwrap() > 20_000);
    ask.send(streamed(9)).await.unwrap();
    let response = answers.message().await.unwrap().unwrap();
    assert_eq!((response.results.len(), response.refusal), (9, None));
    desk.refused(60).await;
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
