//! What a client may take: connections, streams, time, bytes. Every test keeps a well-behaved client
//! beside the others, who is answered all the while.

use std::time::Duration;

use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::callers::setup::{PATIENCE, check, eventually, metric};
use super::process::Server;

const BATCH_CHECK: &str = "/rolegate.v1.AuthzService/BatchCheck";

fn start(directory: &std::path::Path, more: &[&str]) -> Server {
    let arguments = [&["--admin-addr", "127.0.0.1:0"], more].concat();
    Server::start(directory, &arguments)
}

/// What it has of memory, in MiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a call without its message.
fn headers(stream: u32) -> Vec<u8> {
    head(stream, BATCH_CHECK, &[])
}

/// The same of any method, with more headers.
pub(super) fn head(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let named = |(name, value): &(&str, &str)| [vec![0x00], text(name), text(value)].concat();
    let block = [
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("localhost"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        named(&("te", "trailers")),
        more.iter().flat_map(named).collect(),
    ];
    frame(1, 4, stream, &block.concat())
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(super) async fn say(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    // Who is not let in may be told so while it writes.
    stream.write_all(bytes).await.ok();
    stream
}

/// So many calls that have sent so much of a message of `size` bytes, and send no more.
fn dribbling(calls: u32, size: u32, sent: usize) -> Vec<u8> {
    dribbling_with(calls, size, sent, &[])
}

/// The same with more headers.
pub(super) fn dribbling_with(calls: u32, size: u32, sent: usize, more: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    for call in 0..calls {
        let stream = 2 * call + 1;
        bytes.extend(head(stream, BATCH_CHECK, more));
        let begun = [&[0], &size.to_be_bytes()[..], &vec![0; sent]].concat();
        for part in begun.chunks(16_000) {
            bytes.extend(frame(0, 0, stream, part));
        }
    }
    bytes
}

#[track_caller]
fn overloaded(status: &Status, what: &str) {
    overloaded_of(status, what, "server");
}

/// Whose limit it was, besides.
#[track_caller]
pub(super) fn overloaded_of(status: &Status, what: &str, of: &str) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (Code::ResourceExhausted, "SERVER_OVERLOADED")
    );
    assert_eq!((info.metadata["what"].as_str(), info.metadata["of"].as_str()), (what, of));
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test]
async fn slow_clients_are_given_up_and_hold_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let more = ["--keepalive", "2", "--request-timeout", "3"];
    let server =
        start(directory.path(), &[&more[..], &["--max-connections-per-address", "150"]].concat());
    let good = server.channel().await;
    check(&good, None).await.unwrap();
    let before = resident(&server);
    let mut slow = Vec::new();
    let half_a_head = [PREFACE, &headers(1)[..20]].concat();
    for _ in 0..60 {
        slow.push(say(&server, &PREFACE[..10]).await);
        check(&good, None).await.unwrap();
    }
    for _ in 0..40 {
        slow.push(say(&server, &half_a_head).await);
    }
    for _ in 0..20 {
        slow.push(say(&server, &dribbling(50, 1 << 20, 1)).await);
    }
    for _ in 0..40 {
        slow.push(say(&server, b"").await);
    }
    // Those that came last have the places of the first, which no caller has called on.
    let displaced = "rolegate_connections_ended_total{reason=\"displaced\"}";
    eventually("making room", async || metric(&server, displaced).await == Some(11.0)).await;
    check(&good, None).await.unwrap();
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 64, "{grown} MiB for slow clients");

    let timed_out = "rolegate_rpcs_total{method=\"rolegate.v1.AuthzService/BatchCheck\",code=\"DEADLINE_EXCEEDED\"}";
    eventually("giving up calls", async || metric(&server, timed_out).await == Some(1_000.0)).await;
    check(&good, None).await.unwrap();
    let open = "rolegate_connections ";
    eventually("giving up connections", async || {
        check(&good, None).await.unwrap();
        metric(&server, open).await == Some(1.0)
    })
    .await;
    let silent = "rolegate_connections_refused_total{reason=\"silent\"}";
    assert_eq!(metric(&server, silent).await, Some(89.0));
    drop(slow);
}

#[tokio::test]
async fn calls_beyond_the_room_are_refused_and_probes_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--max-calls", "8", "--request-timeout", "3"]);
    let good = server.channel().await;
    check(&good, None).await.unwrap();
    let _held = say(&server, &dribbling(10, 1 << 20, 1)).await;
    let shed = "rolegate_calls_shed_total{what=\"calls\",of=\"server\"}";
    eventually("shedding", async || metric(&server, shed).await == Some(2.0)).await;
    overloaded(&check(&good, None).await.unwrap_err(), "calls");
    HealthClient::new(good.clone()).check(HealthCheckRequest::default()).await.unwrap();
    // They run out of time.
    eventually("room", async || check(&good, None).await.is_ok()).await;
}

#[tokio::test]
async fn messages_beyond_the_room_are_refused_and_leave_it_empty() {
    let directory = tempfile::tempdir().unwrap();
    let more = ["--max-message-kib", "64", "--max-calls-mib", "1", "--request-timeout", "3"];
    let server = start(directory.path(), &more);
    let good = server.channel().await;
    check(&good, None).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = say(&server, PREFACE).await;
        // What the server says first opens its window.
        stream.read_exact(&mut [0; 55]).await.unwrap();
        let calls = dribbling(10, 60 << 10, 50 << 10);
        stream.write_all(&calls[PREFACE.len()..]).await.unwrap();
        held.push(stream);
    }
    let shed = "rolegate_calls_shed_total{what=\"bytes\",of=\"server\"}";
    let is_some = async || metric(&server, shed).await.is_some_and(|count| count >= 1.0);
    eventually("shedding", is_some).await;
    let under_way = "rolegate_calls_under_way_bytes ";
    assert!(metric(&server, under_way).await.unwrap() <= f64::from(1 << 20));
    eventually("room", async || metric(&server, under_way).await == Some(0.0)).await;
    check(&good, None).await.unwrap();
}

async fn huge(channel: Channel, bytes: usize) -> Status {
    // One field that is refused once it was read.
    let request = pb::BatchCheckRequest { tenant_id: "x".repeat(bytes), ..Default::default() };
    let mut client = AuthzServiceClient::new(channel).max_encoding_message_size(bytes + (1 << 10));
    client.batch_check(request).await.expect_err("it was taken")
}

#[tokio::test]
async fn a_flood_of_huge_messages_is_refused_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--max-calls-mib", "32"]);
    let good = server.channel().await;
    check(&good, None).await.unwrap();
    let before = resident(&server);
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        let channel = endpoint.timeout(PATIENCE).connect().await.unwrap();
        for _ in 0..4 {
            flood.spawn(huge(channel.clone(), (8 << 20) - 100));
            flood.spawn(huge(channel.clone(), (8 << 20) + 100));
        }
    }
    let mut most = before;
    while !flood.is_empty() {
        check_or_shed(&good).await;
        most = most.max(resident(&server));
        while let Some(status) = flood.try_join_next() {
            let status = status.unwrap();
            let reason = status.get_details_error_info().map(|info| info.reason);
            match (status.code(), reason.as_deref()) {
                (Code::InvalidArgument, Some("FIELD_TOO_LONG" | "FIELD_INVALID"))
                | (Code::ResourceExhausted, Some("MESSAGE_TOO_LARGE" | "SERVER_OVERLOADED")) => {}
                _ => panic!("{status:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 32 MiB as they come, the same as messages, and what buffers and the allocator keep.
    assert!(most - before < 192, "{before} MiB, then {most} MiB");
    check(&good, None).await.unwrap();
    assert_eq!(metric(&server, "rolegate_calls_under_way_bytes ").await, Some(0.0));
}

/// An answer, either way, and at once.
async fn check_or_shed(channel: &Channel) {
    if let Err(status) = check(channel, None).await {
        overloaded(&status, "bytes");
    }
}

#[tokio::test]
async fn whoever_resets_stream_after_stream_is_disconnected() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    let good = server.channel().await;
    let mut bytes = PREFACE.to_vec();
    for call in 0..2_000_u32 {
        bytes.extend(headers(2 * call + 1));
        bytes.extend(frame(3, 0, 2 * call + 1, &8_u32.to_be_bytes()));
    }
    let mut stream = say(&server, &bytes).await;
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "it goes on");
    check(&good, None).await.unwrap();
}

/// Whether the client itself gave up a call that no server has seen.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        // hyper's words for a call that was still in its queue; the type is not to be had here.
        if error.to_string() == "operation was canceled" {
            return true;
        }
        source = error.source();
    }
    false
}

#[tokio::test]
async fn a_connection_of_age_is_asked_to_end_and_no_call_fails() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--max-connection-age", "1", "--request-timeout", "2"]);
    let mut raw = say(&server, PREFACE).await;
    let good = server.channel().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(4);
    let mut answered = 0;
    while tokio::time::Instant::now() < until {
        match check(&good, None).await {
            Ok(()) => answered += 1,
            // Its connection was asked to end before the client had sent it: nothing that a server
            // could mend, and safe to try again.
            Err(status) if never_sent(&status) => {}
            Err(status) => panic!("{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = "rolegate_rpcs_total{method=\"rolegate.v1.AuthzService/Check\",code=\"OK\"}";
    assert_eq!(metric(&server, ended).await, Some(f64::from(answered)));
    for code in ["CANCELLED", "UNAVAILABLE", "UNKNOWN", "INTERNAL"] {
        let ended = ended.replace("OK", code);
        assert!(metric(&server, &ended).await.is_none_or(|count| count == 0.0), "{code}");
    }
    let mut said = Vec::new();
    raw.read_to_end(&mut said).await.ok();
    // A GOAWAY without a fault, then the end, for this one does not go.
    let away = [7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(said.windows(away.len()).any(|window| window == away), "{said:?}");
}

#[tokio::test]
async fn a_connection_without_a_call_is_asked_to_end_and_one_with_a_stream_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--max-connection-idle", "2", "--request-timeout", "1"]);
    let mut raw = say(&server, PREFACE).await;
    let watching = server.channel().await;
    let mut stream = HealthClient::new(watching.clone())
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    let mut said = Vec::new();
    tokio::time::timeout(PATIENCE, raw.read_to_end(&mut said)).await.expect("still open").ok();
    let away = [7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(said.windows(away.len()).any(|window| window == away), "{said:?}");
    // It has been open for as long, with a stream that says nothing. Had it been asked to end, its
    // next call would go over another.
    check(&watching, None).await.unwrap();
    assert_eq!(metric(&server, "rolegate_connections ").await, Some(1.0));
    drop(stream);
}
