//! What connections and calls may take, as flags.

use std::time::Duration;

use clap::Args;
use rolegate::server::ServeLimits;

/// What connections and calls may take.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// How many connections there may be. A new one takes the place of one on which no caller has
    /// called; without one, it is closed as soon as it comes.
    #[arg(long, env = "ROLEGATE_MAX_CONNECTIONS", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// How many of them from one address, or one /64 of IPv6. Behind a proxy or a mesh all come from
    /// one.
    #[arg(long, env = "ROLEGATE_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections_per_address: u32,
    /// How many calls one connection may have under way. More wait at the client.
    #[arg(long, env = "ROLEGATE_MAX_STREAMS_PER_CONNECTION", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    max_streams_per_connection: u32,
    /// How many calls may be under way on all connections, aside from streams, health probes and checks
    /// that are answered at once. More are refused with SERVER_OVERLOADED.
    #[arg(long, env = "ROLEGATE_MAX_CALLS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_calls: u32,
    /// What the request messages under way may take together, as they come and decoded, with the answers
    /// that are not taken yet, in MiB; at least one of --max-message-kib. What is beyond it is refused
    /// with SERVER_OVERLOADED.
    #[arg(long, env = "ROLEGATE_MAX_CALLS_MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    max_calls_mib: u32,
    /// How much of --max-calls, of --max-calls-mib and of the 4,096 CheckStreams one caller of the
    /// callers file may have, in percent. What is beyond it is refused with SERVER_OVERLOADED.
    #[arg(long, env = "ROLEGATE_MAX_SHARE_PER_CALLER", value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    max_share_per_caller: u8,
    /// How many questions a caller may ask in a second that has no questions_per_second in the callers
    /// file. What is beyond it is refused with RATE_LIMITED. By default no limit.
    #[arg(long, env = "ROLEGATE_MAX_QUESTIONS_PER_SECOND_PER_CALLER", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    max_questions_per_second_per_caller: Option<u32>,
    /// After how long a connection is asked to end, in seconds. Calls under way may end first.
    #[arg(long, env = "ROLEGATE_MAX_CONNECTION_AGE", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    max_connection_age: u64,
    /// After how long without a call a connection is asked to end, in seconds. 0: never.
    #[arg(long, env = "ROLEGATE_MAX_CONNECTION_IDLE", default_value_t = 900, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    max_connection_idle: u64,
    /// After how long a silence a connection is asked whether it is still there, in seconds. It ends
    /// after ten more.
    #[arg(long, env = "ROLEGATE_KEEPALIVE", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    keepalive: u64,
}

impl LimitArgs {
    /// As the server takes them.
    pub(super) fn limits(&self) -> ServeLimits {
        ServeLimits {
            connections: self.max_connections as usize,
            connections_per_address: self.max_connections_per_address as usize,
            streams_per_connection: self.max_streams_per_connection,
            calls: self.max_calls as usize,
            share_per_caller: self.max_share_per_caller.into(),
            bytes: (self.max_calls_mib as usize) << 20,
            connection_age: Duration::from_secs(self.max_connection_age),
            connection_idle: (self.max_connection_idle > 0)
                .then(|| Duration::from_secs(self.max_connection_idle)),
            questions_per_second: self.max_questions_per_second_per_caller,
            keepalive: Duration::from_secs(self.keepalive),
        }
    }
}
