//! The hot path, so many times and nothing else, for a tool that counts instructions: it runs this
//! with two different counts, and the difference is what the cases took. `.ci/instructions` does so.

use std::hint::black_box;
use std::sync::Arc;

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
    runtime.block_on(async {
        let ready = Ready::new(directory.path()).await?;
        let places = ready.questions.len();
        let mut place = 0;
        let mut next = || {
            place = (place + 1) % places;
            place
        };
        // All are asked once before it counts.
        let times = places + args.times;
        let mut allowed = 0_usize;
        match args.case {
            Case::Decision => {
                for _ in 0..times {
                    allowed += usize::from(black_box(ready.decide(black_box(next()))));
                }
            }
            Case::CacheHit => {
                for _ in 0..times {
                    allowed += usize::from(black_box(ready.check(black_box(next())).await?));
                }
            }
            Case::Check => {
                let service = Socketless::new(&ready);
                for _ in 0..times {
                    allowed += service.check(next()).await?;
                }
            }
        }
        if allowed == 0 { Err("nothing was allowed".into()) } else { Ok(()) }
    })
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

    /// How many bytes are answered.
    async fn check(&self, place: usize) -> Result<usize, Failure> {
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
        Ok(answer.to_bytes().len())
    }
}
