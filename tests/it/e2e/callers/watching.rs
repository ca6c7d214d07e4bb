//! A Watch ends, or tells less, when what it began with is taken away from its caller.

use std::time::Duration;

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::jwt::{self, Signer};
use super::setup::{PATIENCE, Place, eventually, hash, tokened};

fn caller(name: &str, token: &str, rest: &str) -> String {
    format!("[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{}\"]\n{rest}\n", hash(token))
}

fn file(watchers: &[(&str, &str)]) -> String {
    let admin = caller("admin", "admin", "capabilities = [\"admin\"]");
    watchers.iter().fold(admin, |file, (name, rest)| file + &caller(name, name, rest))
}

async fn watch(channel: &Channel, token: &str) -> Streaming<pb::WatchResponse> {
    let request = tokened(token, pb::WatchRequest::default());
    let mut stream =
        AuthzServiceClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().changes.is_empty());
    stream
}

async fn make(channel: &Channel, tenant: &str) {
    let request = pb::CreateTenantRequest {
        tenant_id: tenant.into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olivia".into(),
        ..Default::default()
    };
    TenantServiceClient::new(channel.clone())
        .create_tenant(tokened("admin", request))
        .await
        .unwrap();
}

/// The end, within seconds of the reload.
async fn end(stream: &mut Streaming<pb::WatchResponse>) -> Status {
    let end = async {
        loop {
            if let Err(status) = stream.message().await.map(|message| message.unwrap()) {
                return status;
            }
        }
    };
    timeout(Duration::from_secs(60), end).await.expect("it goes on")
}

#[track_caller]
fn ended(status: &Status, code: Code, reason: &str) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason));
    info.metadata["cursor"].clone()
}

#[tokio::test]
async fn a_watch_does_not_outlive_the_rights_of_its_caller() {
    const WATCH: &str = "capabilities = [\"watch\"]";
    let bound = |tenants: &str| format!("{WATCH}\ntenants = [{tenants}]");
    let place = Place::new(&file(&[
        ("removed", WATCH),
        ("demoted", WATCH),
        ("narrowed", &bound("\"a\", \"b\"")),
        ("kept", WATCH),
    ]));
    let server = place.start(&["--watch-heartbeat", "1"]);
    let channel = place.connect(&server, None).await.unwrap();
    let mut removed = watch(&channel, "removed").await;
    let mut demoted = watch(&channel, "demoted").await;
    let mut narrowed = watch(&channel, "narrowed").await;
    let mut kept = watch(&channel, "kept").await;

    place.write(
        "callers.toml",
        &file(&[
            ("demoted", "capabilities = [\"check\"]"),
            ("narrowed", &bound("\"b\"")),
            ("kept", WATCH),
        ]),
    );
    let cursor = ended(&end(&mut removed).await, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    ended(&end(&mut demoted).await, Code::PermissionDenied, "CAPABILITY_MISSING");
    // Both have been asked again after the reload by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    make(&channel, "a").await;
    make(&channel, "b").await;
    let told = async |stream: &mut Streaming<pb::WatchResponse>| -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        while told.last().is_none_or(|last| last != "b") {
            let message = timeout(PATIENCE, stream.message()).await.expect("silence");
            told.extend(message.unwrap().unwrap().changes.into_iter().map(|c| c.tenant_id));
        }
        told.dedup();
        told
    };
    assert_eq!(told(&mut narrowed).await, ["b"]);
    assert_eq!(told(&mut kept).await, ["a", "b"]);

    // With another proof it goes on where it ended.
    let request = pb::WatchRequest { cursor, ..Default::default() };
    let mut resumed = AuthzServiceClient::new(channel.clone())
        .watch(tokened("kept", request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told(&mut resumed).await, ["a", "b"]);
    let revoked = "rolegate_watch_ends_total{reason=\"revoked\"}";
    assert_eq!(super::setup::metric(&server, revoked).await, Some(2.0));
}

/// A token that nobody takes away, but whose time is over.
#[tokio::test]
async fn a_watch_ends_with_its_token_and_goes_on_with_the_next() {
    let signer = Signer::new("key");
    let place = Place::new(&jwt::callers("jwks_file = \"keys.json\"", "watch"));
    place.write("keys.json", &signer.keys());
    let server = place.start(&["--watch-heartbeat", "1"]);
    let channel = place.connect(&server, None).await.unwrap();
    let mut stream = watch(&channel, &signer.token(Duration::from_secs(3))).await;
    // Until it does, it goes on.
    let beat = timeout(PATIENCE, stream.message()).await.expect("silence");
    assert!(beat.unwrap().unwrap().changes.is_empty());
    let status = end(&mut stream).await;
    let cursor = ended(&status, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    assert!(status.message().contains("expired"), "{}", status.message());
    let request = pb::WatchRequest { cursor, ..Default::default() };
    let next = tokened(&signer.token(super::setup::DAY), request);
    AuthzServiceClient::new(channel.clone()).watch(next).await.unwrap();
}

#[tokio::test]
async fn no_caller_takes_the_places_of_all() {
    const WATCH: &str = "capabilities = [\"watch\"]";
    let place = Place::new(&file(&[("greedy", WATCH), ("modest", WATCH)]));
    let limits = ["--max-watch-streams", "3", "--max-watch-streams-per-caller", "2"];
    let server = place.start(&limits);
    let channel = place.connect(&server, None).await.unwrap();
    let refused = async |token: &str| {
        let request = tokened(token, pb::WatchRequest::default());
        let status = AuthzServiceClient::new(channel.clone()).watch(request).await.unwrap_err();
        let info = status.get_details_error_info().unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(info.reason, "WATCH_STREAM_LIMIT");
        (info.metadata["of"].clone(), info.metadata["limit"].clone())
    };
    let first = watch(&channel, "greedy").await;
    let _second = watch(&channel, "greedy").await;
    assert_eq!(refused("greedy").await, ("caller".into(), "2".into()));
    let _third = watch(&channel, "modest").await;
    assert_eq!(refused("modest").await, ("server".into(), "3".into()));
    drop(first);
    let left = "rolegate_watch_ends_total{reason=\"left\"}";
    eventually("the end", async || super::setup::metric(&server, left).await == Some(1.0)).await;
    watch(&channel, "greedy").await;
}
