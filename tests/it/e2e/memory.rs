//! What one caller can make a server hold, measured in the memory of the whole process and compared
//! with what it may: `--max-calls-mib`, of which one caller has its share.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use rolegate::grpc::pb;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::callers::setup::{PATIENCE, check, eventually, metric, token, tokened};
use super::limits::{PREFACE, frame, head, say};
use super::process::Server;
use super::rates::{CHECK, caller, start};

/// What the process has of memory, in bytes.
pub(super) fn resident(server: &Server) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", server.id())).unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Messages as their bytes.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn send(channel: &Channel, name: &str, method: &str, message: Bytes) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    let bearer = format!("Bearer {}", token(name));
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let path = format!("/rolegate.v1.{method}").parse().unwrap();
    let answer = grpc.unary(request, path, Raw).await;
    answer.map(|_| ()).expect_err("it was taken")
}

/// A field of a message, or of one in it.
fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(inner.len() as u64, &mut field);
    [field.as_slice(), inner].concat()
}

const ALL: &str = "\"check\", \"read\", \"admin\", \"watch\"";

#[tokio::test]
async fn lists_of_millions_are_refused_before_anything_is_made_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[caller("known", ALL, "")], &[]);
    let channel = server.channel().await;
    check(&channel, Some("known")).await.unwrap();
    let most = (8 << 20) - 100;
    let empty = |number: u8, bytes: usize| [number << 3 | 2, 0].repeat(bytes / 2);
    let cases = [
        ("MemberService/BatchUpsertMembers", empty(2, most), "members"),
        ("RoleService/CreateRole", empty(4, most), "grants"),
        ("RoleService/UpdateRole", field(6, &empty(1, most)), "update_mask.paths"),
        ("MemberService/AssignRoles", empty(3, most), "role_ids"),
        ("AuthzService/Watch", empty(1, most), "tenant_ids"),
        ("AuthzService/Check", field(4, &field(2, &empty(1, most))), "resource.assignees.ids"),
        (
            "AuthzService/BatchCheck",
            field(2, &field(3, &field(5, &empty(1, most)))),
            "items[0].resource.participants.ids",
        ),
        ("AuthzService/Explain", field(4, &field(3, &empty(1, most))), "resource.teams.ids"),
    ];
    let before = resident(&server);
    for (method, message, field) in cases {
        let status = send(&channel, "known", method, message.into()).await;
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        assert_eq!(
            (status.code(), reason),
            (Code::InvalidArgument, Some("TOO_MANY_ITEMS")),
            "{method}"
        );
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field, "{method}");
        // The message as it comes, as it is read, and what the allocator keeps.
        let grown = resident(&server).saturating_sub(before) >> 20;
        assert!(grown < 64, "{method}: {grown} MiB");
    }
}

#[tokio::test]
async fn what_messages_take_decoded_counts_in_the_room() {
    let directory = tempfile::tempdir().unwrap();
    let callers = [caller("greedy", CHECK, ""), caller("modest", CHECK, "")];
    let server = start(directory.path(), &callers, &["--max-calls-mib", "32"]);
    let channel = server.channel().await;
    for name in ["greedy", "modest"] {
        check(&channel, Some(name)).await.unwrap();
    }
    // 500 questions with 3,000 ids of one letter each, within all limits: 4.5 MB, and 100 MB decoded.
    let ids = field(1, b"x").repeat(1_000);
    let lists: Vec<u8> = [2, 3, 5].into_iter().flat_map(|number| field(number, &ids)).collect();
    let item = [field(1, b"kim"), field(2, b"chat.view"), field(3, &lists)].concat();
    let message = Bytes::from([field(1, b"acme"), field(2, &item).repeat(500)].concat());
    let before = resident(&server);
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (channel, message) = (server.channel().await, message.clone());
        flood.spawn(
            async move { send(&channel, "greedy", "AuthzService/BatchCheck", message).await },
        );
    }
    while let Some(status) = flood.join_next().await {
        let status = status.unwrap();
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "SERVER_OVERLOADED", "{status:?}");
        check(&channel, Some("modest")).await.unwrap();
    }
    let grown = resident(&server).saturating_sub(before) >> 20;
    assert!(grown < 32 + 64, "{grown} MiB");
}

/// Preface and settings of a client that takes no answers: its windows are and stay empty.
fn deaf() -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    [&PREFACE[..24], &frame(SETTINGS, 0, 0, &window)].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn bearer(name: &str) -> String {
    format!("Bearer {}", token(name))
}

async fn shed(server: &Server) -> f64 {
    let line = "rolegate_calls_shed_total{what=\"bytes\",of=\"caller\"}";
    metric(server, line).await.unwrap_or_default()
}

/// Waits until all that was sent has been answered or refused.
async fn settled(server: &Server) {
    let mut seen = None;
    loop {
        let now = (metric(server, "rolegate_calls_under_way_bytes ").await, shed(server).await);
        if seen.replace(now) == Some(now) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Reads what the server says, so that nothing but its windows holds it back.
fn listen(stream: TcpStream) -> tokio::net::tcp::OwnedWriteHalf {
    let (mut read, write) = stream.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    write
}

/// Two callers, of whom each has a share of so many MiB, and a tenant to ask about.
async fn two_callers(directory: &std::path::Path, share_mib: u64) -> (Server, Channel) {
    let callers = [caller("greedy", CHECK, ""), caller("modest", ALL, "")];
    let room = (2 * share_mib).to_string();
    let room = ["--max-calls-mib", &room, "--request-timeout", "600"];
    let server = start(directory, &callers, &room);
    let channel = server.channel().await;
    let tenant = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "kim".into(),
        ..Default::default()
    };
    let mut tenants = TenantServiceClient::new(channel.clone());
    tenants.create_tenant(tokened("modest", tenant)).await.unwrap();
    for name in ["greedy", "modest"] {
        check(&channel, Some(name)).await.unwrap();
    }
    (server, channel)
}

#[tokio::test]
async fn checks_that_are_answered_and_not_taken_are_within_the_share() {
    const CONNECTIONS: usize = 80;
    const ROUNDS: u32 = 10;
    const SHARE_MIB: u64 = 8;
    let directory = tempfile::tempdir().unwrap();
    let (server, channel) = two_callers(directory.path(), SHARE_MIB).await;
    let before = resident(&server);
    let bearer = bearer("greedy");
    let question = [field(1, b"acme"), field(2, b"kim"), field(3, b"chat.view")].concat();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(listen(say(&server, &deaf()).await));
    }
    let mut most = before;
    // In rounds: what is not begun yet is no answer.
    for round in 0..ROUNDS {
        for connection in &mut held {
            let mut calls = Vec::new();
            for call in round * 25..(round + 1) * 25 {
                let path = "/rolegate.v1.AuthzService/Check";
                calls.extend(head(2 * call + 1, path, &[("authorization", &bearer)]));
                calls.extend(frame(0, 1, 2 * call + 1, &framed(&question)));
            }
            // It may have been ended for what it leaves unread.
            connection.write_all(&calls).await.ok();
        }
        settled(&server).await;
        most = most.max(resident(&server));
    }
    eventually("shedding", async || shed(&server).await > 0.0).await;
    // The share, and what each connection has besides: 32 KiB of answers, and its buffers.
    let bound = SHARE_MIB + ((CONNECTIONS as u64 * 128) >> 10) + 12;
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < bound, "{grown} MiB, of {bound}");
    let under_way = metric(&server, "rolegate_calls_under_way_bytes ").await.unwrap();
    assert!(under_way > 2e6 && under_way <= f64::from(8 << 20), "{under_way}");
    check(&channel, Some("modest")).await.unwrap();
    // It comes back with the connections.
    drop(held);
    let room = async || metric(&server, "rolegate_calls_under_way_bytes ").await == Some(0.0);
    eventually("room", room).await;
    check(&channel, Some("greedy")).await.unwrap();
}

#[tokio::test]
async fn answers_of_streams_that_are_not_taken_are_within_the_share() {
    const STREAMS: u32 = 240;
    const SHARE_MIB: u64 = 16;
    const SETTINGS: u8 = 4;
    const ACK: u8 = 1;
    let directory = tempfile::tempdir().unwrap();
    let (server, channel) = two_callers(directory.path(), SHARE_MIB).await;
    let before = resident(&server);
    let bearer = bearer("greedy");
    // 7,000 questions: a message of 126 KB, with 500 KB of answers.
    let item = [field(1, b"kim"), field(2, b"chat.view")].concat();
    let message = framed(&[field(1, b"acme"), field(2, &item).repeat(7_000)].concat());
    let mut held = Vec::new();
    let mut most = before;
    for _ in 0..STREAMS {
        let path = "/rolegate.v1.AuthzService/CheckStream";
        let mut stream = say(&server, &deaf()).await;
        stream.read_exact(&mut [0; 55]).await.unwrap();
        // Only then is the server's own window as large as a message.
        let mut bytes = frame(SETTINGS, ACK, 0, &[]);
        bytes.extend(head(1, path, &[("authorization", &bearer)]));
        for part in message.chunks(16_000) {
            bytes.extend(frame(0, 0, 1, part));
        }
        stream.write_all(&bytes).await.unwrap();
        held.push(listen(stream));
        most = most.max(resident(&server));
    }
    eventually("shedding", async || shed(&server).await > 0.0).await;
    most = most.max(resident(&server));
    let under_way = metric(&server, "rolegate_calls_under_way_bytes ").await.unwrap();
    assert!(under_way <= f64::from(16 << 20), "{under_way}");
    // The share, and of each connection its windows and buffers.
    let bound = SHARE_MIB + ((u64::from(STREAMS) * 128) >> 10) + 12;
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < bound, "{grown} MiB, of {bound}");
    check(&channel, Some("modest")).await.unwrap();
    drop(held);
    let room = async || metric(&server, "rolegate_calls_under_way_bytes ").await == Some(0.0);
    eventually("room", room).await;
}
