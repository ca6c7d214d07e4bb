//! The hot path, so many times and nothing else in [`counted`], for a tool that counts instructions
//! in there. `.ci/instructions` does so.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http_body_util::{BodyExt as _, Full};
use rolegate::grpc::{AuthzApi, AuthzServiceServer};
use rolegate::service::caller::Caller;
use rolegate::service::watch::{WatchLimits, Watches};
use tower::ServiceExt as _;

use rolegate_bench::Failure;
use rolegate_bench::inprocess::Ready;
use rolegate_bench::workload::{CHECK, framed};

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
        Case::CacheHit => counted(&args, &ready, |place| at_once(ready.check(place))?),
        Case::Check => {
            let service = Socketless::new(&ready);
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

/// The generated service with its codec, as hyper calls it.
struct Socketless {
    service: AuthzServiceServer<AuthzApi<rolegate::store::Cached>>,
    caller: Arc<Caller>,
    questions: Vec<Bytes>,
}

impl Socketless {
    fn new(ready: &Ready) -> Self {
        let services = ready.desk.services.clone();
        let limits = WatchLimits::default();
        let watches = Watches::new(ready.desk.store.clone(), services.tokens.clone(), limits);
        Socketless {
            service: AuthzServiceServer::new(AuthzApi::new(
                services.decisions,
                services.roles,
                watches,
            )),
            caller: Arc::new(Caller::development()),
            questions: ready.asked.iter().map(|asked| framed(&asked.check()).into()).collect(),
        }
    }

    /// Whether it was answered at all.
    async fn check(&self, place: usize) -> Result<bool, Failure> {
        let request = http::Request::post(CHECK)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .extension(Arc::clone(&self.caller))
            .body(Full::new(self.questions[place].clone()))?;
        let answer = self.service.clone().oneshot(request).await?;
        let answer = answer.into_body().collect().await?;
        if answer
            .trailers()
            .is_none_or(|trailers| trailers.get("grpc-status").is_none_or(|s| s != "0"))
        {
            return Err("a check failed".into());
        }
        Ok(!answer.to_bytes().is_empty())
    }
}
