//! The hot path, so many times and nothing else in [`counted`], for a tool that counts instructions
//! in there. `.ci/instructions` does so.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use rolegate::grpc::Bulk;
use rolegate::grpc::admission::{Room, RoomLimits};
use rolegate::grpc::api::Shared;
use rolegate::grpc::client::Client;
use rolegate::grpc::edge::EdgeLimits;
use rolegate::grpc::hot::{HotBody, HotChecks};
use rolegate::grpc::meter::RpcCounts;
use rolegate::grpc::pb;
use rolegate::service::authentication::{Authenticator, CallersFile};
use rolegate::service::caller::Caller;
use rolegate::store::Cached;
use sha2::{Digest as _, Sha256};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tower::Service;

use rolegate_bench::Failure;
use rolegate_bench::inprocess::{MEMBERS, Ready};
use rolegate_bench::workload::{People, Random, framed};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// The decision, with everything that it takes at hand.
    Decision,
    /// A question to the service about a member that is cached.
    CacheHit,
    /// From a request's bytes to those of its answer, without a socket.
    Check,
    /// The same of a `BatchCheck` of 100 items.
    Batch,
}

/// What to count.
#[derive(Debug, Parser)]
struct Count {
    /// Which part of the hot path.
    case: Case,
    /// How often.
    times: usize,
}

fn main() -> Result<(), Failure> {
    let args = Count::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let directory = tempfile::tempdir()?;
    let ready = runtime.block_on(Ready::new(directory.path()))?;
    // All are asked once before it counts, for that fills the cache.
    for place in 0..ready.questions.len() {
        runtime.block_on(ready.check(place))?;
    }
    let allowed = match args.case {
        Case::Decision => counted(&args, &ready, |place| Ok(ready.decide(place))),
        Case::CacheHit => counted(&args, &ready, |place| ready.check_at_hand(place)),
        Case::Check => {
            let service = Socketless::new(&ready)?;
            counted(&args, &ready, |place| at_once(service.check(place))?)
        }
        Case::Batch => {
            let mut service = Batches::new(&ready);
            counted(&args, &ready, |place| at_once(service.ask(place))?)
        }
    }?;
    if allowed == 0 { Err("nothing was allowed".into()) } else { Ok(()) }
}

/// Every instruction in here counts, and none elsewhere.
#[inline(never)]
fn counted(
    args: &Count,
    ready: &Ready,
    mut one: impl FnMut(usize) -> Result<bool, Failure>,
) -> Result<usize, Failure> {
    let mut allowed = 0;
    for time in 0..args.times {
        allowed += usize::from(black_box(one(black_box(time % ready.questions.len())))?);
    }
    Ok(allowed)
}

/// What is at hand needs no waiting.
fn at_once<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err("it had to wait".into()),
    }
}

/// The way of a check from the bytes of its message to those of its answer, by a caller with a token.
struct Socketless {
    hot: HotChecks<Cached>,
    headers: HeaderMap,
    questions: Vec<Bytes>,
}

impl Socketless {
    fn new(ready: &Ready) -> Result<Self, Failure> {
        let token = "a-token-of-some-length-that-nobody-else-has";
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        let callers = format!(
            "[[caller]]\nname = \"bench\"\ncapabilities = [\"check\"]\n\
             token_sha256 = [\"{hash}\"]\n"
        );
        let callers = CallersFile::parse(&callers).map_err(|wrong| format!("{wrong:?}"))?;
        let shared = Shared {
            rpcs: Arc::new(RpcCounts::of(&[pb::DESCRIPTORS])?),
            limits: EdgeLimits { message_bytes: 8 << 20, time: Duration::from_secs(30) },
            authenticator: Arc::new(Authenticator::new(callers)),
            room: Arc::new(Room::new(RoomLimits {
                calls: 1,
                bytes: 1 << 20,
                message_bytes: 1 << 20,
                percent: 100,
            })),
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/grpc".parse()?);
        headers.insert("te", "trailers".parse()?);
        headers.insert("authorization", format!("Bearer {token}").parse()?);
        // As the first call of a connection does.
        let client = Arc::new(Client::default());
        let recognized = client.recognize(&shared.authenticator, &headers);
        recognized.map_err(|why| why.name())?;
        Ok(Socketless {
            hot: HotChecks::new(ready.desk.services.decisions.clone(), &shared, client),
            headers,
            questions: ready.asked.iter().map(|asked| framed(&asked.check()).into()).collect(),
        })
    }

    /// Whether it was answered at all.
    async fn check(&self, place: usize) -> Result<bool, Failure> {
        let answer = self.hot.answer(&self.headers, &self.questions[place]);
        let answer = HotBody::of(answer.ok_or("it was left to others")?);
        self.hot.answered(Duration::ZERO);
        let answer = answer.into_body().collect().await?;
        Ok(!answer.to_bytes().is_empty())
    }
}

/// The way of batches, as far as they are answered at hand.
struct Batches {
    service: Bulk<Nobody, Cached>,
    caller: Arc<Caller>,
    messages: Vec<Bytes>,
}

impl Batches {
    /// Checks in a batch.
    const ITEMS: usize = 100;

    fn new(ready: &Ready) -> Self {
        let people = People { first: 0, tenants: 1, members: MEMBERS };
        let mut random = Random(5);
        let batches = (0..64).map(|_| people.batch(Self::ITEMS, &mut random).0);
        Batches {
            service: Bulk::before(Nobody, ready.desk.services.decisions.clone(), 8 << 20),
            caller: Arc::new(Caller::development()),
            messages: batches.map(|batch| framed(&batch).into()).collect(),
        }
    }

    /// Whether it was answered at all.
    async fn ask(&mut self, place: usize) -> Result<bool, Failure> {
        let message = self.messages[place % self.messages.len()].clone();
        let mut request = Request::new(Body::new(Full::new(message)));
        *request.uri_mut() = http::Uri::from_static("/rolegate.v1.AuthzService/BatchCheck");
        request.extensions_mut().insert(Arc::clone(&self.caller));
        let Ok(answer) = self.service.call(request).await;
        Ok(!answer.into_body().collect().await?.to_bytes().is_empty())
    }
}

/// Who answers what is not at hand: with nothing.
#[derive(Debug, Clone)]
struct Nobody;

impl Service<Request<Body>> for Nobody {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Response::new(Body::empty())) })
    }
}
