//! The hot path, so many times and nothing else in [`counted`], for a tool that counts instructions
//! in there. `.ci/instructions` does so.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use rolegate::grpc::admission::Room;
use rolegate::grpc::api::Shared;
use rolegate::grpc::edge::EdgeLimits;
use rolegate::grpc::hot::HotChecks;
use rolegate::grpc::meter::RpcCounts;
use rolegate::grpc::pb;
use rolegate::service::authentication::{Authenticator, CallersFile};
use rolegate::store::Cached;
use sha2::{Digest as _, Sha256};

use rolegate_bench::Failure;
use rolegate_bench::inprocess::Ready;
use rolegate_bench::workload::framed;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// The decision, with everything that it takes at hand.
    Decision,
    /// A question to the service about a member that is cached.
    CacheHit,
    /// From a request's bytes to those of its answer, without a socket.
    Check,
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
            room: Arc::new(Room::new(1, 1 << 20)),
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/grpc".parse()?);
        headers.insert("te", "trailers".parse()?);
        headers.insert("authorization", format!("Bearer {token}").parse()?);
        Ok(Socketless {
            hot: HotChecks::new(ready.desk.services.decisions.clone(), &shared, None),
            headers,
            questions: ready.asked.iter().map(|asked| framed(&asked.check()).into()).collect(),
        })
    }

    /// Whether it was answered at all.
    async fn check(&self, place: usize) -> Result<bool, Failure> {
        let answer = self.hot.answer(&self.headers, &self.questions[place]);
        let answer = self.hot.answered(answer.ok_or("it was left to others")?, Duration::ZERO);
        let answer = answer.into_body().collect().await?;
        Ok(!answer.to_bytes().is_empty())
    }
}
