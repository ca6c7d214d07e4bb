//! CheckStream over real sockets: many questions under way, clients that do not read, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use rolegate::grpc::pb;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use super::callers::setup::{Place, eventually, hash, metric, tokened};
use super::process::{Clients, Server};
use crate::timing::limit;

const PATIENCE: Duration = Duration::from_secs(90);

/// Both ends of a stream.
struct Stream {
    questions: mpsc::Sender<pb::CheckStreamRequest>,
    answers: Streaming<pb::CheckStreamResponse>,
}

async fn open(clients: &Clients, token: Option<&str>) -> Stream {
    let (questions, receiver) = mpsc::channel(10_000);
    let questioning = ReceiverStream::new(receiver);
    let request = match token {
        Some(token) => tokened(token, questioning),
        None => Request::new(questioning),
    };
    let answers = clients.authz.clone().check_stream(request).await.unwrap().into_inner();
    Stream { questions, answers }
}

fn question(id: u64, member: &str) -> pb::CheckStreamRequest {
    let item = pb::CheckStreamItem {
        correlation_id: id,
        member_id: member.into(),
        permission: "chat.view".into(),
        resource: None,
    };
    pb::CheckStreamRequest { tenant_id: "acme".into(), items: vec![item], consistency: None }
}

impl Stream {
    async fn ask(&self, request: pb::CheckStreamRequest) {
        self.questions.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<pb::CheckStreamResponse>, Status> {
        timeout(PATIENCE, self.answers.message()).await.expect("silence")
    }

    /// The reason for one member.
    async fn reason(&mut self, id: u64, member: &str) -> pb::DecisionReason {
        self.ask(question(id, member)).await;
        let response = self.next().await.unwrap().unwrap();
        let [result] = &response.results[..] else { panic!("{response:?}") };
        assert_eq!(result.correlation_id, id);
        reason(result)
    }

    /// The end, which the server makes.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await.map(|message| message.expect("no status")) {
                return status;
            }
        }
    }
}

#[track_caller]
fn reason(result: &pb::CheckStreamResult) -> pb::DecisionReason {
    match result.result.as_ref().unwrap() {
        pb::check_stream_result::Result::Decision(decision) => decision.reason(),
        pb::check_stream_result::Result::Error(error) => panic!("{error:?}"),
    }
}

#[track_caller]
fn ended(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason));
}

/// A tenant with one owner, `olivia`.
fn acme() -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olivia".into(),
        ..Default::default()
    }
}

async fn create(clients: &mut Clients, member: &str) {
    let request = pb::CreateMemberRequest {
        tenant_id: "acme".into(),
        member_id: member.into(),
        role_ids: vec!["user".into()],
        ..Default::default()
    };
    clients.members.create_member(request).await.unwrap();
}

/// The count of these.
const ALLOWED: &str = "rolegate_decisions_total{outcome=\"allowed\",reason=\"granted_by_role\"}";
const GRANTED: pb::DecisionReason = pb::DecisionReason::GrantedByRole;

#[tokio::test]
async fn many_questions_are_under_way_and_each_is_answered_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--admin-addr", "127.0.0.1:0"]);
    let mut clients = Clients::connect(&server).await;
    clients.tenants.create_tenant(acme()).await.unwrap();
    let stream = open(&clients, None).await;
    for id in 0..5_000 {
        // Every tenth asks the database.
        let mut question = question(id, if id % 3 == 0 { "olivia" } else { "nobody" });
        if id % 10 == 0 {
            let requirement = Some(pb::consistency::Requirement::FullyConsistent(true));
            question.consistency = Some(pb::Consistency { requirement });
        }
        stream.ask(question).await;
    }
    let Stream { questions, mut answers } = stream;
    drop(questions);
    let mut told = BTreeMap::new();
    while let Some(response) = timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
        assert!(!response.consistency_token.is_empty());
        for result in &response.results {
            assert!(told.insert(result.correlation_id, reason(result)).is_none());
        }
    }
    assert_eq!(told.len(), 5_000);
    for (id, reason) in told {
        let nobody = pb::DecisionReason::MemberNotFound;
        assert_eq!(reason, if id % 3 == 0 { GRANTED } else { nobody }, "{id}");
    }
    // Each is counted, and the stream is one call.
    assert_eq!(metric(&server, ALLOWED).await, Some(1_667.0));
    let calls = "rolegate_rpcs_total{method=\"rolegate.v1.AuthzService/CheckStream\",code=\"OK\"}";
    assert_eq!(metric(&server, calls).await, Some(1.0));
    assert_eq!(metric(&server, "rolegate_calls_under_way_bytes ").await, Some(0.0));
}

/// What a long stream has asked does not count for as long as it is open.
#[tokio::test]
async fn a_stream_may_send_more_than_there_is_room_for_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let more = ["--admin-addr", "127.0.0.1:0", "--max-calls-mib", "8", "--max-message-kib", "512"];
    let server = Server::start(directory.path(), &more);
    let mut clients = Clients::connect(&server).await;
    clients.tenants.create_tenant(acme()).await.unwrap();
    let mut stream = open(&clients, None).await;
    // Of more than 8 MiB together.
    for round in 0..100 {
        let items = (0..2_000).map(|id| question(round * 2_000 + id, "olivia").items.remove(0));
        let request = pb::CheckStreamRequest { items: items.collect(), ..question(0, "") };
        assert!(request.encoded_len() > 40_000);
        stream.ask(request.clone()).await;
        stream.ask(request).await;
        let mut answered = 0;
        while answered < 4_000 {
            answered += stream.next().await.unwrap().unwrap().results.len();
        }
    }
    assert_eq!(metric(&server, "rolegate_calls_under_way_bytes ").await, Some(0.0));
}

#[tokio::test]
async fn what_was_taken_away_is_denied_to_the_next_question() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut clients = Clients::connect(&server).await;
    clients.tenants.create_tenant(acme()).await.unwrap();
    create(&mut clients, "kim").await;
    let mut stream = open(&clients, None).await;
    for round in 0..20 {
        assert_eq!(stream.reason(round, "kim").await, GRANTED);
        let archive = pb::ArchiveMemberRequest {
            tenant_id: "acme".into(),
            member_id: "kim".into(),
            ..Default::default()
        };
        clients.members.archive_member(archive).await.unwrap();
        assert_eq!(stream.reason(round, "kim").await, pb::DecisionReason::MemberArchived);
        let restore = pb::RestoreMemberRequest {
            tenant_id: "acme".into(),
            member_id: "kim".into(),
            ..Default::default()
        };
        clients.members.restore_member(restore).await.unwrap();
    }
}

/// What it has of memory, in MiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// A client that lets as little come as it may.
async fn narrow(server: &Server) -> Clients {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let endpoint =
        endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    clients(endpoint.connect().await.unwrap())
}

fn clients(channel: Channel) -> Clients {
    Clients {
        authz: pb::authz_service_client::AuthzServiceClient::new(channel.clone()),
        roles: pb::role_service_client::RoleServiceClient::new(channel.clone()),
        tenants: pb::tenant_service_client::TenantServiceClient::new(channel.clone()),
        members: pb::member_service_client::MemberServiceClient::new(channel),
    }
}

#[tokio::test]
async fn who_only_writes_is_held_up_and_costs_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--admin-addr", "127.0.0.1:0"]);
    let mut clients = Clients::connect(&server).await;
    clients.tenants.create_tenant(acme()).await.unwrap();
    open(&clients, None).await.reason(1, "olivia").await;
    let before = resident(&server);
    let mut silent = Vec::new();
    for number in 0..20 {
        let stream = open(&narrow(&server).await, None).await;
        // A megabyte or so of questions, ten times as much of answers.
        let mut accepted = 0;
        while accepted < 2_000 {
            let items = (0..20).map(|id| question(id, "olivia").items.remove(0));
            let request = pb::CheckStreamRequest { items: items.collect(), ..question(0, "") };
            let sent = stream.questions.send(request);
            if timeout(Duration::from_millis(200), sent).await.is_err() {
                break;
            }
            accepted += 1;
        }
        silent.push((number, stream));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // h2 keeps at most a frame beyond what the windows let through.
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 48, "{grown} MiB for 20 clients that do not read");
    let decided = metric(&server, ALLOWED).await.unwrap();
    assert!(decided < 200_000.0, "{decided} of 800,000 questions decided for nobody");
    // Who reads gets on meanwhile, and so do they once they read.
    assert_eq!(open(&clients, None).await.reason(1, "olivia").await, GRANTED);
    let (_, Stream { questions, mut answers }) = silent.remove(0);
    drop(questions);
    let mut results = 0;
    while let Some(response) = timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
        results += response.results.len();
    }
    assert_eq!(results, 40_000);
}

#[tokio::test]
async fn draining_ends_streams_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--drain-timeout", "60"]);
    let mut clients = Clients::connect(&server).await;
    clients.tenants.create_tenant(acme()).await.unwrap();
    let mut stream = open(&clients, None).await;
    assert_eq!(stream.reason(1, "olivia").await, GRANTED);
    let told_to_end = Instant::now();
    let (code, status) = tokio::join!(server.terminate(), async {
        let status = stream.end().await;
        drop((stream, clients));
        status
    });
    assert_eq!(code, Some(0));
    assert!(told_to_end.elapsed() < limit(Duration::from_secs(10)), "{:?}", told_to_end.elapsed());
    ended(&status, Code::Unavailable, "SERVER_DRAINING");
    assert!(status.get_details_retry_info().is_some());
}

fn caller(name: &str, rest: &str) -> String {
    format!("[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{}\"]\n{rest}\n", hash(name))
}

#[tokio::test]
async fn a_stream_does_not_outlive_the_rights_of_its_caller() {
    const CHECK: &str = "capabilities = [\"check\"]";
    let admin = caller("admin", "capabilities = [\"admin\"]");
    let file = |callers: &[(&str, &str)]| {
        callers.iter().fold(admin.clone(), |file, (name, rest)| file + &caller(name, rest))
    };
    let place = Place::new(&file(&[
        ("removed", CHECK),
        ("demoted", CHECK),
        ("narrowed", CHECK),
        ("kept", CHECK),
    ]));
    let server = place.start(&[]);
    let clients = clients(place.connect(&server, None).await.unwrap());
    clients.tenants.clone().create_tenant(tokened("admin", acme())).await.unwrap();
    let mut streams = Vec::new();
    for name in ["removed", "demoted", "narrowed", "kept"] {
        let mut stream = open(&clients, Some(name)).await;
        assert_eq!(stream.reason(1, "olivia").await, GRANTED, "{name}");
        streams.push(stream);
    }
    let [mut removed, mut demoted, mut narrowed, mut kept] =
        <[Stream; 4]>::try_from(streams).ok().unwrap();
    place.write(
        "callers.toml",
        &file(&[
            ("demoted", "capabilities = [\"read\"]"),
            ("narrowed", &format!("{CHECK}\ntenants = [\"other\"]")),
            ("kept", CHECK),
        ]),
    );
    ended(&removed.end().await, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    ended(&demoted.end().await, Code::PermissionDenied, "CAPABILITY_MISSING");
    eventually("the tenant going away", async || {
        narrowed.reason(2, "olivia").await == pb::DecisionReason::TenantNotFound
    })
    .await;
    assert_eq!(kept.reason(2, "olivia").await, GRANTED);
    let revoked = "rolegate_rpcs_total{method=\"rolegate.v1.AuthzService/CheckStream\",code=\"UNAUTHENTICATED\"}";
    assert_eq!(metric(&server, revoked).await, Some(1.0));
}
