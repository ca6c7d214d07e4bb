//! What is counted of calls. Methods are those that the server's descriptors name, and one for all
//! other paths, so that no client can make up a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;
use thread_local::ThreadLocal;
use tonic::Code;

use crate::service::counts::OwnCount;

/// Every code, by its number and the name that gRPC gives it.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The upper bounds of the latency buckets, in microseconds: from a cached check to the longest
/// time that a call may take by default.
const BOUNDS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 30_000_000,
];

/// The name that stands for whatever is no method.
pub(super) const UNKNOWN: &str = "unknown";
/// How many buckets: one for each bound, and one for what took longer.
const BUCKETS: usize = BOUNDS.len() + 1;

/// What one thread counted of a method.
#[derive(Debug, Default)]
struct Share {
    begun: OwnCount,
    ended: [OwnCount; CODES.len()],
    /// How long answers took. Not cumulated.
    buckets: [OwnCount; BUCKETS],
    nanos: OwnCount,
}

/// A histogram as it is read out.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencySnapshot {
    /// In seconds, together.
    pub sum: f64,
    /// How many.
    pub count: u64,
    /// Upper bound in seconds, and how many took longer than the last bound but not this one.
    pub buckets: Vec<(f64, u64)>,
}

/// One method. Each thread counts for itself.
#[derive(Debug)]
pub struct MethodCounts {
    name: String,
    streaming: bool,
    shares: ThreadLocal<Share>,
}

impl MethodCounts {
    fn new(name: String, streaming: bool) -> Arc<Self> {
        Arc::new(MethodCounts { name, streaming, shares: ThreadLocal::new() })
    }

    pub(super) fn begin(&self) {
        self.shares.get_or_default().begun.add(1);
    }

    pub(super) fn end(&self, code: Code) {
        if let Some(count) = self.shares.get_or_default().ended.get(code as usize) {
            count.add(1);
        }
    }

    /// Streams are open for as long as their clients want: that would be no latency.
    pub(super) fn answered(&self, took: Duration) {
        if !self.streaming {
            self.shares.get_or_default().took(took);
        }
    }

    /// A call from its beginning to its good end, all at once.
    pub(in crate::grpc) fn succeeded(&self, took: Duration) {
        let share = self.shares.get_or_default();
        share.begun.add(1);
        share.took(took);
        let [ok, ..] = &share.ended;
        ok.add(1);
    }

    fn sum(&self, of: impl Fn(&Share) -> u64) -> u64 {
        self.shares.iter().map(of).sum()
    }

    /// Such as `rolegate.v1.AuthzService/Check`, or `unknown`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether either side may send many messages.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// How many calls ended with each code.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CODES.into_iter().enumerate().map(|(code, name)| {
            (name, self.sum(|share| share.ended.get(code).map_or(0, OwnCount::get)))
        })
    }

    /// How many calls are under way.
    #[must_use]
    pub fn open(&self) -> u64 {
        // In this order: a call that ends in between must not end before it began.
        let ended: u64 = self.ended().map(|(_, count)| count).sum();
        self.sum(|share| share.begun.get()).saturating_sub(ended)
    }

    /// How long it took until answers began; none for streams.
    #[must_use]
    pub fn latency(&self) -> Option<LatencySnapshot> {
        if self.streaming {
            return None;
        }
        let bounds = BOUNDS.into_iter().map(|micros| micros as f64 / 1e6).chain([f64::INFINITY]);
        let count =
            |bucket: usize| self.sum(|share| share.buckets.get(bucket).map_or(0, OwnCount::get));
        let buckets: Vec<_> = bounds.zip((0..BUCKETS).map(count)).collect();
        Some(LatencySnapshot {
            sum: self.sum(|share| share.nanos.get()) as f64 / 1e9,
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        })
    }
}

impl Share {
    fn took(&self, took: Duration) {
        // 584 years of calls fit.
        let nanos = took.as_nanos() as u64;
        let micros = nanos.div_ceil(1_000);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.nanos.add(nanos);
    }
}

/// All calls since the start.
#[derive(Debug)]
pub struct RpcCounts {
    /// By the path of the request.
    methods: HashMap<String, Arc<MethodCounts>>,
    unknown: Arc<MethodCounts>,
}

impl RpcCounts {
    /// For the services of these descriptor sets.
    ///
    /// # Errors
    /// One of them is none.
    pub fn of(descriptors: &[&[u8]]) -> Result<Self, DecodeError> {
        let mut methods = HashMap::new();
        for set in descriptors {
            for file in FileDescriptorSet::decode(*set)?.file {
                for service in &file.service {
                    for method in &service.method {
                        let name =
                            format!("{}.{}/{}", file.package(), service.name(), method.name());
                        let streaming = method.client_streaming() || method.server_streaming();
                        methods.insert(format!("/{name}"), MethodCounts::new(name, streaming));
                    }
                }
            }
        }
        Ok(RpcCounts { methods, unknown: MethodCounts::new(UNKNOWN.to_owned(), false) })
    }

    pub(in crate::grpc) fn method(&self, path: &str) -> &Arc<MethodCounts> {
        self.methods.get(path).unwrap_or(&self.unknown)
    }

    /// The methods that were called, by name.
    #[must_use]
    pub fn called(&self) -> Vec<&MethodCounts> {
        let all = self.methods.values().chain([&self.unknown]).map(AsRef::as_ref);
        let mut called: Vec<&MethodCounts> =
            all.filter(|method| method.sum(|share| share.begun.get()) > 0).collect();
        called.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        called
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names() {
        for (number, name) in CODES.into_iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            let ours = name.to_lowercase().replace('_', "");
            let theirs = format!("{code:?}").to_lowercase();
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn a_latency_counts_in_the_bucket_that_it_still_fits() {
        let method = MethodCounts::new("m".to_owned(), false);
        for micros in [0, 50, 51, 30_000_000, 30_000_001] {
            method.answered(Duration::from_micros(micros));
        }
        method.answered(Duration::from_nanos(50_001));
        let latency = method.latency().unwrap();
        let counted: Vec<_> = latency.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(5e-5, 2), (1e-4, 2), (30.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(latency.count, 6);
        assert!((latency.sum - 60.000_152_001).abs() < 1e-6, "{}", latency.sum);
    }
}
