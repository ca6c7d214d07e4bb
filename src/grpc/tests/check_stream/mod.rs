//! `CheckStream`, without sockets.

mod bounds;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request as HttpRequest;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Layer as _, Service as _};

use super::{Apis, of_caller, tenant};
use crate::grpc::admission::{AdmissionLayer, Room, RoomLimits};
use crate::grpc::pb::authz_service_server::AuthzService;
use crate::grpc::pb::member_service_server::MemberService;
use crate::grpc::{AuthzServiceServer, CheckStreams, pb};
use crate::service::allowance::{Allowance, RateLimit};
use crate::service::authentication::{Authenticator, CallersFile, Proof};
use crate::service::caller::Caller;
use crate::service::decide::Decisions;
use crate::service::token::Tokens;
use crate::store::{Cached, ChangeListener, FollowLimits};

const PATH: &str = "/rolegate.v1.AuthzService/CheckStream";
const LIMIT: usize = 100_000;

/// Decides from a cache that is always current.
pub(super) struct Bench {
    pub(super) apis: Apis,
    pub(super) decisions: Decisions<Cached>,
    streams: CheckStreams,
}

/// Both ends of one stream.
struct Stream {
    questions: Option<mpsc::UnboundedSender<Bytes>>,
    /// How many pieces of these were not asked for yet.
    unread: Arc<AtomicUsize>,
    /// What messages under way take.
    room: Arc<Room>,
    answers: Body,
    /// What came and was not looked at.
    rest: BytesMut,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let apis = Apis::new().await;
        tenant(&apis, "acme", "oqupie").await;
        tenant(&apis, "other", "qpien").await;
        for (member, role, teams) in [("kim", "agent", vec!["red"]), ("lee", "admin", vec![])] {
            let request = pb::CreateMemberRequest {
                tenant_id: "acme".into(),
                member_id: member.into(),
                role_ids: vec![role.into()],
                team_ids: teams.into_iter().map(str::to_owned).collect(),
                ..Default::default()
            };
            apis.members.create_member(of_caller(request)).await.unwrap();
        }
        let limits = FollowLimits { staleness: Duration::from_secs(3_600), ..Default::default() };
        let cache = Arc::new(Cached::new(apis.store.clone(), 16 << 20, limits));
        assert!(apis.store.set_listener(Arc::clone(&cache) as Arc<dyn ChangeListener>).is_ok());
        let decisions = Decisions::new(cache, Tokens::new(apis.store.identity()));
        Bench { apis, decisions, streams: CheckStreams::default() }
    }

    async fn open(&self, caller: Caller) -> Stream {
        let authenticator = Arc::new(Authenticator::development(None));
        let recognized = authenticator.recognize(None, None).unwrap();
        let proof = Proof::new(authenticator, None, None, recognized);
        self.open_with(caller, proof).await
    }

    async fn open_with(&self, caller: Caller, proof: Proof) -> Stream {
        let (questions, receiver) = mpsc::unbounded_channel();
        let unread = Arc::new(AtomicUsize::new(0));
        let read = Arc::clone(&unread);
        let frames = UnboundedReceiverStream::new(receiver).map(move |data| {
            read.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(data))
        });
        let mut request = HttpRequest::post(PATH).body(Body::new(StreamBody::new(frames))).unwrap();
        request.extensions_mut().insert(Arc::new(caller));
        request.extensions_mut().insert(proof);
        let inner = AuthzServiceServer::new(self.apis.authz.clone());
        let service = self.streams.before(inner, self.decisions.clone(), LIMIT);
        let room = Arc::new(Room::new(RoomLimits {
            calls: 1,
            bytes: 640 * LIMIT,
            message_bytes: LIMIT,
            percent: 100,
        }));
        let mut service = AdmissionLayer::new(Arc::clone(&room), 8 << 20).layer(service);
        let response = service.call(request).await.unwrap();
        Stream {
            questions: Some(questions),
            unread,
            room,
            answers: Body::new(response.into_body()),
            rest: BytesMut::new(),
        }
    }
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.extend_from_slice(message);
    bytes
}

impl Stream {
    fn send(&self, bytes: &[u8]) {
        self.unread.fetch_add(1, Ordering::Relaxed);
        self.questions.as_ref().unwrap().send(Bytes::copy_from_slice(bytes)).unwrap();
    }

    fn ask(&self, request: &pb::CheckStreamRequest) {
        self.send(&framed(&request.encode_to_vec()));
    }

    fn close(&mut self) {
        self.questions = None;
    }

    /// The next response, or the status at the end.
    async fn next(&mut self) -> Result<pb::CheckStreamResponse, Status> {
        loop {
            if self.rest.len() >= 5 {
                let length = u32::from_be_bytes(self.rest[1..5].try_into().unwrap()) as usize;
                let message = self.rest.split_to(5 + length);
                return Ok(pb::CheckStreamResponse::decode(&message[5..]).unwrap());
            }
            let next = tokio::time::timeout(Duration::from_secs(20), self.answers.frame());
            let frame = next.await.expect("silence").unwrap().unwrap();
            match frame.into_data() {
                Ok(data) => self.rest.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    assert!(self.answers.frame().await.is_none());
                    return Err(Status::from_header_map(&trailers).unwrap());
                }
            }
        }
    }

    /// All results to the end, by their ids, and how it ended.
    async fn all(&mut self) -> (BTreeMap<u64, Answer>, Status) {
        let mut answers = BTreeMap::new();
        loop {
            match self.next().await {
                Ok(response) => {
                    for (id, answer) in answers_of(&response) {
                        assert!(answers.insert(id, answer).is_none(), "{id} twice");
                    }
                }
                Err(status) => return (answers, status),
            }
        }
    }
}

/// What is told of one question: the decision, or a reason with its field.
type Answer = Result<pb::Decision, (String, String)>;

fn answers_of(response: &pb::CheckStreamResponse) -> Vec<(u64, Answer)> {
    use pb::check_stream_result::Result as One;
    let pb::CheckStreamResponse { results, refusal, consistency_token, stale_since } = response;
    assert!(stale_since.is_none());
    if let Some(pb::CheckStreamRefusal { correlation_ids, error }) = refusal {
        assert!(results.is_empty() && consistency_token.is_empty());
        let pb::ItemError { reason, field, message, .. } = error.clone().unwrap();
        assert!(!message.is_empty());
        return correlation_ids
            .iter()
            .map(|id| (*id, Err((reason.clone(), field.clone()))))
            .collect();
    }
    let one = |result: &pb::CheckStreamResult| {
        let answer = match result.result.clone().unwrap() {
            One::Decision(decision) => Ok(decision),
            One::Error(pb::ItemError { reason, field, .. }) => Err((reason, field)),
        };
        (result.correlation_id, answer)
    };
    results.iter().map(one).collect()
}

fn item(id: u64, member: &str, permission: &str) -> pb::CheckStreamItem {
    pb::CheckStreamItem {
        correlation_id: id,
        member_id: member.into(),
        permission: permission.into(),
        resource: None,
    }
}

fn about(tenant: &str, items: Vec<pb::CheckStreamItem>) -> pb::CheckStreamRequest {
    pb::CheckStreamRequest { tenant_id: tenant.into(), items, consistency: None }
}

fn fully_consistent() -> Option<pb::Consistency> {
    let requirement = Some(pb::consistency::Requirement::FullyConsistent(true));
    Some(pb::Consistency { requirement })
}

#[track_caller]
fn ended(status: &Status, code: Code, reason: &str) {
    let said = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    assert_eq!((status.code(), said.as_str()), (code, reason), "{status:?}");
}

#[tokio::test]
async fn what_is_at_hand_overtakes_what_is_not_and_half_closing_waits_for_all() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    // It comes to be at hand.
    stream.ask(&about("acme", vec![item(1, "kim", "ticket.work")]));
    assert_eq!(answers_of(&stream.next().await.unwrap()).len(), 1);
    let cold = pb::CheckStreamRequest {
        consistency: fully_consistent(),
        ..about("acme", vec![item(2, "kim", "ticket.work"), item(3, "lee", "ticket.work")])
    };
    let mixed = about(
        "acme",
        vec![
            item(4, "kim", "ticket.work"),
            item(5, "nobody", "ticket.work"),
            item(u64::MAX, "kim", "ticket.delete"),
        ],
    );
    let both = [framed(&cold.encode_to_vec()), framed(&mixed.encode_to_vec())].concat();
    stream.send(&both);
    stream.close();
    let first = stream.next().await.unwrap();
    let ids: Vec<u64> = answers_of(&first).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [4, u64::MAX], "at once, without the database");
    let token = first.consistency_token.clone();
    assert!(!token.is_empty());
    let (answers, status) = stream.all().await;
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [2, 3, 5]);
    let reason = |id| answers[&id].as_ref().unwrap().reason();
    assert_eq!(reason(5), pb::DecisionReason::MemberNotFound);
    assert_eq!(status.code(), Code::Ok);
    // The very token of the same state.
    let request = pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: "kim".into(),
        permission: "ticket.work".into(),
        ..Default::default()
    };
    let check = bench.apis.authz.check(of_caller(request)).await.unwrap().into_inner();
    assert_eq!(check.consistency_token, token);
}

/// A few values of everything, sound and not.
pub(super) fn question(rng: &mut TestRng) -> (String, pb::CheckStreamItem) {
    let mut one_of = |texts: &[&str]| texts[rng.next_u32() as usize % texts.len()].to_owned();
    let tenant = one_of(&["acme", "acme", "acme", "other", "nowhere", ""]);
    let member_id = one_of(&["kim", "kim", "lee", "owner", "nobody", "", "a\n"]);
    let permission =
        one_of(&["ticket.block", "ticket.work", "ticket.delete", "account.manage", "no.such", ""]);
    let mut list =
        || match one_of(&["unset", "none", "empty", "kim", "red", "both", "wrong"]).as_str() {
            "unset" => None,
            "none" => Some(vec![].into()),
            "empty" => Some(pb::IdList::default()),
            "both" => Some(vec!["red".into(), "kim".into()].into()),
            "wrong" => Some(vec!["kim".into(), String::new()].into()),
            id => Some(vec![id.into()].into()),
        };
    let (assignees, teams) = (list(), list());
    let resource = match rng.next_u32() % 3 {
        0 => None,
        1 => Some(pb::Resource { assignees, teams, ..Default::default() }),
        _ => Some(pb::Resource {
            id: "r".into(),
            creator_id: Some("kim".into()),
            participants: assignees,
            teams,
            public: Some(rng.next_u32().is_multiple_of(2)),
            ..Default::default()
        }),
    };
    let correlation_id = rng.next_u64();
    (tenant, pb::CheckStreamItem { correlation_id, member_id, permission, resource })
}

/// What Check says to it: the decision, or the first reason.
async fn checked(bench: &Bench, tenant: &str, item: &pb::CheckStreamItem) -> Answer {
    let pb::CheckStreamItem { correlation_id: _, member_id, permission, resource } = item.clone();
    let request = pb::CheckRequest {
        tenant_id: tenant.to_owned(),
        member_id,
        permission,
        resource,
        consistency: None,
    };
    match bench.apis.authz.check(of_caller(request)).await {
        Ok(response) => Ok(response.into_inner().decision.unwrap()),
        Err(status) => {
            let violations = status.get_details_bad_request().unwrap().field_violations;
            Err((violations[0].reason.clone(), violations[0].field.clone()))
        }
    }
}

#[tokio::test]
async fn every_answer_is_that_of_check() {
    let bench = Bench::new().await;
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut stream = bench.open(Caller::development()).await;
    let mut expected = BTreeMap::new();
    for message in 0..300 {
        let (tenant, first) = question(&mut rng);
        let mut items = vec![first];
        items.extend((0..message % 4).map(|_| question(&mut rng).1));
        for (number, item) in items.iter().enumerate() {
            let answer = checked(&bench, &tenant, item).await.map_err(|(reason, field)| {
                // In a stream the tenant is the message's, and the rest an item's.
                let own = field == "tenant_id";
                (reason, if own { field } else { format!("items[{number}].{field}") })
            });
            expected.insert(item.correlation_id, answer);
        }
        let request = about(&tenant, items);
        if rng.next_u32().is_multiple_of(3) {
            // As other clients may write it: an unknown field in between.
            stream.send(&framed(&[&request.encode_to_vec()[..], &[0x78, 1]].concat()));
        } else {
            stream.ask(&request);
        }
    }
    stream.close();
    let (answers, status) = stream.all().await;
    assert_eq!(status.code(), Code::Ok);
    for (id, expected) in &expected {
        assert_eq!(answers.get(id), Some(expected), "{id}");
    }
    assert_eq!(answers.len(), expected.len());
}

#[tokio::test]
async fn a_tenant_of_others_is_one_that_nobody_made() {
    let bench = Bench::new().await;
    let everybody = Caller::development();
    let bound = Caller {
        tenants: Some([crate::domain::ids::TenantId::trusted("other")].into()),
        ..everybody.clone()
    };
    let mut told = Vec::new();
    for (caller, tenant) in [(everybody, "acme"), (bound.clone(), "acme"), (bound, "none")] {
        let mut stream = bench.open(caller).await;
        let mut responses = Vec::new();
        // Also when it is at hand by then.
        for _ in 0..2 {
            stream.ask(&about(tenant, vec![item(1, "kim", "ticket.work")]));
            responses.push(stream.next().await.unwrap());
        }
        told.push(responses);
    }
    assert!(!told[0][1].consistency_token.is_empty());
    assert_eq!(told[1], told[2]);
    let answer = &answers_of(&told[1][1])[0].1;
    assert_eq!(answer.as_ref().unwrap().reason(), pb::DecisionReason::TenantNotFound);
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_and_the_stream_goes_on() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    let sound = || vec![item(7, "kim", "ticket.work"), item(8, "kim", "ticket.delete")];
    let requirement = |requirement| Some(pb::Consistency { requirement: Some(requirement) });
    use pb::consistency::Requirement;
    let token = |token: &str| {
        let tokens = pb::ConsistencyTokens { tokens: vec![token.to_owned()] };
        requirement(Requirement::AtLeastAsFresh(tokens))
    };
    for (request, reason, field) in [
        (about("", sound()), "FIELD_REQUIRED", "tenant_id"),
        (
            pb::CheckStreamRequest { consistency: token("zzz"), ..about("acme", sound()) },
            "CONSISTENCY_TOKEN_INVALID",
            "consistency.at_least_as_fresh.tokens[0]",
        ),
        (
            pb::CheckStreamRequest {
                consistency: requirement(Requirement::FullyConsistent(false)),
                ..about("acme", sound())
            },
            "FIELD_INVALID",
            "consistency.fully_consistent",
        ),
    ] {
        stream.ask(&request);
        let refused = Err((reason.to_owned(), field.to_owned()));
        let told = answers_of(&stream.next().await.unwrap());
        assert_eq!(told, [(7, refused.clone()), (8, refused)]);
    }
    // Nothing to answer, then something.
    stream.ask(&about("acme", vec![]));
    stream.ask(&about("acme", sound()));
    assert_eq!(answers_of(&stream.next().await.unwrap()).len(), 2);
}

/// Another callers file counts from the next message on, not only when it is time to look.
#[tokio::test]
async fn a_stream_follows_its_callers_file_from_message_to_message() {
    let bench = Bench::new().await;
    let callers = |rest: &str| {
        // The digest of "test".
        let token = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let text = format!("[[caller]]\nname = \"chat\"\ntoken_sha256 = [\"{token}\"]\n{rest}\n");
        CallersFile::parse(&text).unwrap()
    };
    let check = "capabilities = [\"check\"]";
    let authenticator = Arc::new(Authenticator::new(callers(check)));
    let header: &[u8] = b"Bearer test";
    let recognized = authenticator.recognize(None, [header]).unwrap();
    let caller = Caller::clone(&recognized.caller);
    let proof = Proof::new(Arc::clone(&authenticator), None, Some(header), recognized);
    let mut stream = bench.open_with(caller, proof).await;
    let question = about("acme", vec![item(1, "kim", "ticket.work"); 2]);
    stream.ask(&question);
    assert!(answers_of(&stream.next().await.unwrap())[0].1.is_ok());
    let limited = format!("{check}\nquestions_per_second = 1\nburst = 1");
    authenticator.replace(callers(&limited), &[]);
    stream.ask(&question);
    assert!(answers_of(&stream.next().await.unwrap())[0].1.is_ok(), "out of the first burst");
    stream.ask(&question);
    let refused = Err(("RATE_LIMITED".to_owned(), String::new()));
    assert_eq!(answers_of(&stream.next().await.unwrap())[0].1, refused);
    authenticator.replace(callers("capabilities = [\"read\"]"), &[]);
    // One waits for the database.
    stream.ask(&pb::CheckStreamRequest { consistency: fully_consistent(), ..question });
    ended(&stream.next().await.unwrap_err(), Code::PermissionDenied, "CAPABILITY_MISSING");
}

#[tokio::test]
async fn messages_may_come_in_any_pieces() {
    let bench = Bench::new().await;
    let mut whole = Vec::new();
    for id in 0..20 {
        let items = (0..id % 3 + 1).map(|more| item(id * 10 + more, "kim", "ticket.work"));
        whole.extend(framed(&about("acme", items.collect()).encode_to_vec()));
    }
    for size in [1, 2, 3, 5, 7, 64, 1_000, whole.len()] {
        let mut stream = bench.open(Caller::development()).await;
        for piece in whole.chunks(size) {
            stream.send(piece);
        }
        stream.close();
        let (answers, status) = stream.all().await;
        assert_eq!((answers.len(), status.code()), (39, Code::Ok), "pieces of {size}");
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_stream_once_what_came_before_is_answered() {
    let bench = Bench::new().await;
    let sound = framed(
        &pb::CheckStreamRequest {
            consistency: fully_consistent(),
            ..about("acme", vec![item(1, "kim", "ticket.work")])
        }
        .encode_to_vec(),
    );
    let mut too_large = framed(&[]);
    too_large[1..5].copy_from_slice(&u32::try_from(LIMIT + 1).unwrap().to_be_bytes());
    let mut compressed = framed(&[]);
    compressed[0] = 1;
    for (what, bytes, code, reason) in [
        ("bytes that are none", framed(&[0x0a]), Code::InvalidArgument, "MALFORMED_MESSAGE"),
        (
            "a text that is none",
            framed(&[0x0a, 1, 0xff]),
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
        ),
        ("too many bytes", too_large, Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        ("compressed", compressed, Code::InvalidArgument, "MALFORMED_MESSAGE"),
        ("half a message", sound[..9].to_vec(), Code::InvalidArgument, "MALFORMED_MESSAGE"),
    ] {
        let mut stream = bench.open(Caller::development()).await;
        stream.send(&[&sound[..], &bytes].concat());
        stream.close();
        let (answers, status) = stream.all().await;
        assert_eq!(answers.len(), 1, "{what}");
        ended(&status, code, reason);
    }
}

#[tokio::test]
async fn a_server_that_goes_away_answers_what_it_has_read() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    stream.ask(&about("acme", vec![item(1, "kim", "ticket.work")]));
    stream.next().await.unwrap();
    let cold = pb::CheckStreamRequest {
        consistency: fully_consistent(),
        ..about("acme", vec![item(2, "kim", "ticket.work")])
    };
    stream.ask(&cold);
    let poll = std::future::poll_fn(|context| {
        Poll::Ready(Pin::new(&mut stream.answers).poll_frame(context).is_pending())
    });
    assert!(poll.await);
    bench.streams.drain();
    // Idle and late streams end as well.
    let mut late = bench.open(Caller::development()).await;
    let (answers, status) = stream.all().await;
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [2]);
    ended(&status, Code::Unavailable, "SERVER_DRAINING");
    ended(&late.all().await.1, Code::Unavailable, "SERVER_DRAINING");
}
