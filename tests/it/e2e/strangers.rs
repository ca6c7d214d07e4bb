//! Clients without a credential: what they do costs callers nothing, and one probe always gets through.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::callers::setup::{PATIENCE, check, eventually, is_nobody, metric};
use super::limits::{PREFACE, frame, head, say};
use super::process::Server;
use super::rates::{CHECK, caller, start};
use super::shares::batch;

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const END_STREAM: u8 = 1;
const GOAWAY: u8 = 7;

/// A server with one caller.
fn with_caller(directory: &std::path::Path, more: &[&str]) -> Server {
    start(directory, &[caller("known", CHECK, "")], more)
}

/// Calls of a method that announce a message of `size` bytes each and send so much of it.
fn begun(path: &str, calls: u32, size: u32, sent: usize) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    for call in 0..calls {
        let stream = 2 * call + 1;
        bytes.extend(head(stream, path, &[]));
        let message = [&[0], &size.to_be_bytes()[..], &vec![0; sent]].concat();
        for part in message.chunks(16_000) {
            bytes.extend(frame(0, 0, stream, part));
        }
    }
    bytes
}

async fn probe(server: &Server) -> ServingStatus {
    let mut health = HealthClient::new(server.channel().await);
    let answer = health.check(HealthCheckRequest::default()).await;
    answer.expect("a probe that is one small call").into_inner().status()
}

#[tokio::test]
async fn what_strangers_send_takes_no_room_of_callers() {
    let directory = tempfile::tempdir().unwrap();
    let room = ["--max-message-kib", "64", "--max-calls-mib", "1", "--request-timeout", "600"];
    let server = with_caller(directory.path(), &room);
    let channel = server.channel().await;
    batch(&channel, "known").await.unwrap();
    // Every method, of health too: nearly all of a large message, and never its end.
    let methods = [
        HEALTH_CHECK,
        HEALTH_WATCH,
        "/rolegate.v1.AuthzService/Check",
        "/rolegate.v1.AuthzService/BatchCheck",
        "/rolegate.v1.AuthzService/CheckStream",
        "/rolegate.v1.AuthzService/Watch",
        "/rolegate.v1.RoleService/CreateRole",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/no.such.Service/Method",
    ];
    let mut held = Vec::new();
    for method in methods {
        for _ in 0..4 {
            let mut stream = say(&server, PREFACE).await;
            // What the server says first opens its window.
            stream.read_exact(&mut [0; 55]).await.unwrap();
            let calls = begun(method, 12, 60 << 10, 50 << 10);
            stream.write_all(&calls[PREFACE.len()..]).await.ok();
            held.push(stream);
        }
    }
    // All of it has come when the last of the refusals have been counted.
    let refused = "rolegate_rpcs_total{method=\"unknown\",code=\"UNAUTHENTICATED\"}";
    eventually("refusing", async || metric(&server, refused).await == Some(48.0)).await;
    let too_large =
        "rolegate_rpcs_total{method=\"grpc.health.v1.Health/Check\",code=\"RESOURCE_EXHAUSTED\"}";
    eventually("refusing", async || metric(&server, too_large).await == Some(48.0)).await;
    assert_eq!(metric(&server, "rolegate_calls_under_way_bytes ").await, Some(0.0));
    for _ in 0..10 {
        batch(&channel, "known").await.unwrap();
        check(&channel, Some("known")).await.unwrap();
    }
    drop(held);
}

#[tokio::test]
async fn a_small_probe_gets_through_beside_any_number_that_wait() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_caller(directory.path(), &["--request-timeout", "600"]);
    let mut held = Vec::new();
    // As many of each connection as it may have at once, and more of all than the server had room for
    // when all shared one.
    for _ in 0..8 {
        held.push(say(&server, &begun(HEALTH_CHECK, 64, 30, 3)).await);
        let watches = begun(HEALTH_WATCH, 64, 0, 0);
        held.push(say(&server, &watches).await);
    }
    for (method, code) in [("Check", "RESOURCE_EXHAUSTED"), ("Watch", "RESOURCE_EXHAUSTED")] {
        let line = format!(
            "rolegate_rpcs_total{{method=\"grpc.health.v1.Health/{method}\",code=\"{code}\"}}"
        );
        // 32 of each connection wait.
        let beyond = f64::from(8 * (64 - 32));
        eventually("refusing", async || metric(&server, &line).await == Some(beyond)).await;
    }
    let shed = "rolegate_calls_shed_total{what=\"probes\",of=\"connection\"}";
    assert_eq!(metric(&server, shed).await, Some(f64::from(16 * (64 - 32))));
    for _ in 0..10 {
        assert_eq!(probe(&server).await, ServingStatus::Serving);
    }
    // A watch, too, and one whose message comes late.
    let mut health = HealthClient::new(server.channel().await);
    let mut changes = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut late = say(&server, &[PREFACE, &head(1, HEALTH_CHECK, &[])].concat()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    late.write_all(&frame(0, END_STREAM, 1, &[0; 5])).await.unwrap();
    let mut said = Vec::new();
    let answer = async {
        while !said.windows(7).any(|window| window == [0, 0, 0, 0, 2, 8, 1]) {
            let mut some = [0; 512];
            let read = late.read(&mut some).await.unwrap();
            assert!(read > 0, "{said:?}");
            said.extend_from_slice(&some[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("no answer");
    drop(held);
}

/// Bounds what the transport keeps for calls of nobody, which no limit of bytes counts.
#[tokio::test]
async fn more_probes_at_once_than_anybody_needs_end_their_connection() {
    const SETTINGS: u8 = 4;
    let directory = tempfile::tempdir().unwrap();
    let server = with_caller(directory.path(), &["--request-timeout", "600"]);
    let crowded = "rolegate_connections_ended_total{reason=\"crowded\"}";
    let whole = |call: u32| {
        let stream = 2 * call + 1;
        [head(stream, HEALTH_CHECK, &[]), frame(0, END_STREAM, stream, &[0; 5])].concat()
    };
    let all: Vec<u8> = (0..250).flat_map(whole).collect();
    let mut streams = vec![
        say(&server, &[PREFACE, &all].concat()).await,
        say(&server, &begun(HEALTH_CHECK, 250, 30, 3)).await,
        say(&server, &begun(HEALTH_WATCH, 250, 0, 0)).await,
    ];
    for stream in &mut streams {
        to_the_end(stream).await;
    }
    // The same one after the other, whose answers are not taken (SETTINGS_INITIAL_WINDOW_SIZE 0).
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let mut stream = say(&server, &[&PREFACE[..24], &settings].concat()).await;
    for call in 0..250 {
        if stream.write_all(&whole(call)).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    to_the_end(&mut stream).await;
    eventually("ending", async || metric(&server, crowded).await == Some(4.0)).await;
    assert!(server.log_with("more calls at once than probes need").await.contains("crowded"));
    // Probes whose answers are taken go on for as long as they like, and callers may have many.
    let channel = server.channel().await;
    let mut health = HealthClient::new(channel.clone());
    for _ in 0..300 {
        health.check(HealthCheckRequest::default()).await.unwrap();
    }
    check(&channel, Some("known")).await.unwrap();
    let mut probes = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut health = health.clone();
        probes.spawn(async move { health.check(HealthCheckRequest::default()).await });
    }
    while let Some(answer) = probes.join_next().await {
        // More than 32 that wait for their message are refused, and nothing else happens.
        answer.unwrap().ok();
    }
    check(&channel, Some("known")).await.unwrap();
    assert_eq!(metric(&server, crowded).await, Some(4.0));
}

/// Reads to the end: what was said of going away.
async fn to_the_end(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    ended.expect("it goes on").ok();
    let mut rest = said.as_slice();
    while let Some((&[a, b, c, kind, ..], _)) = rest.split_first_chunk::<9>() {
        if kind == GOAWAY {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn a_connection_that_goes_on_with_calls_of_nobody_ends() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_caller(directory.path(), &["--request-timeout", "600"]);
    let channel = server.channel().await;
    check(&channel, Some("known")).await.unwrap();
    // Heads only: they are answered before anything else has come.
    for path in ["/rolegate.v1.AuthzService/Check", "/rolegate.v1.RoleService/CreateRole"] {
        let mut bytes = PREFACE.to_vec();
        for call in 0..120 {
            bytes.extend(head(2 * call + 1, path, &[("authorization", "Bearer of-nobody")]));
        }
        let mut stream = say(&server, &bytes).await;
        assert!(to_the_end(&mut stream).await, "{path}: it was not told to go");
    }
    let ended = "rolegate_connections_ended_total{reason=\"refused\"}";
    assert_eq!(metric(&server, ended).await, Some(2.0));
    let said = "a connection was ended: call after call on it was one of nobody known";
    assert!(server.log().contains(said));
    // Somebody in between begins the count anew, and so nobody is cut off who is only confused.
    for _ in 0..3 {
        for _ in 0..60 {
            is_nobody(check(&channel, Some("unknown")).await);
        }
        check(&channel, Some("known")).await.unwrap();
    }
    assert_eq!(metric(&server, ended).await, Some(2.0));
}

#[tokio::test]
async fn connections_of_strangers_make_room_for_those_of_callers() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_caller(directory.path(), &["--max-connections", "12"]);
    let before = server.channel().await;
    check(&before, Some("known")).await.unwrap();
    let mut silent = Vec::new();
    for begin in 0..20 {
        // Some begin and say no more, some ask about health, some are refused.
        let said = match begin % 4 {
            0 => Vec::new(),
            1 => PREFACE.to_vec(),
            2 => begun(HEALTH_WATCH, 1, 0, 0),
            _ => [PREFACE, &head(1, "/rolegate.v1.AuthzService/Check", &[])].concat(),
        };
        silent.push(say(&server, &said).await);
    }
    let displaced = "rolegate_connections_ended_total{reason=\"displaced\"}";
    eventually("making room", async || metric(&server, displaced).await == Some(9.0)).await;
    // As many callers as there may be connections.
    let mut callers = Vec::new();
    for _ in 0..11 {
        let channel = server.channel().await;
        check(&channel, Some("known")).await.unwrap();
        callers.push(channel);
    }
    check(&before, Some("known")).await.unwrap();
    for channel in &callers {
        check(channel, Some("known")).await.unwrap();
    }
    // None of these makes room.
    let refused = "rolegate_connections_refused_total{reason=\"limit\"}";
    assert_eq!(metric(&server, refused).await, Some(0.0));
    let mut one_more = say(&server, PREFACE).await;
    assert!(!to_the_end(&mut one_more).await);
    eventually("refusing", async || metric(&server, refused).await == Some(1.0)).await;
    check(&before, Some("known")).await.unwrap();
}
