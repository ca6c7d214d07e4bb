//! A Watch ends, or tells less, when what it began with is taken away from its caller.

use std::time::Duration;

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::setup::{PATIENCE, Place, hash, tokened};

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
    timeout(Duration::from_secs(10), end).await.expect("it goes on")
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
