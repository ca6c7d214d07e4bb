//! What `/metrics` shows: the numbers that the layers count, under the names that operators know
//! them by. `docs/reference/metrics.md` explains each one.
//!
//! Labels are bounded by the program itself: reasons, outcomes, methods, codes, kinds; and by the
//! callers file, for names of callers. What a client or a tenant chooses is never one.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Services;
use super::limits::Door;
use super::process::ProcessUsage;
use super::reload::AllReloads;
use super::security::Security;
use super::strangers::{ProbeRefusals, Why};
use super::tls::{Handshakes, Tls};
use crate::domain::decision::DecisionReason;
use crate::grpc::admission::Room;
use crate::grpc::meter::RpcCounts;
use crate::http::{Metrics, Version};
use crate::service::authentication::Authenticator;
use crate::service::counts::{DecisionCounts, WriteCounts, WriteOutcome};
use crate::service::decision_log::LogCounts;
use crate::service::refusals::RefusalCounts;
use crate::service::watch::{EndReason, WatchCounts};
use crate::store::{CacheStats, Cached, EpochCounts, SqlStore, Standing};

/// What is known of a server before it has opened its database.
pub(super) fn of_process(metrics: &Metrics, version: &Version) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics.add_common(ProcessUsage::new());
    metrics.add(Process { version: version.clone(), started: since_epoch.as_secs_f64() });
}

/// What is known of one that serves.
pub(super) fn of_services(
    metrics: &Metrics,
    services: &Services,
    store: &SqlStore,
    rpcs: Arc<RpcCounts>,
    cache_bytes: u64,
) {
    metrics.add(Decided(Arc::clone(services.decisions.counts())));
    metrics.add(Writes([
        ("roles", Arc::clone(services.roles.write_counts())),
        ("tenants", Arc::clone(services.tenants.write_counts())),
        ("members", Arc::clone(services.members.write_counts())),
    ]));
    let refusals = [services.roles.refusal_counts(), services.members.refusal_counts()];
    metrics.add(Unrecorded(refusals.map(Arc::clone)));
    metrics.add(Rpcs(rpcs));
    metrics.add(CacheUse { cache: Arc::clone(&services.cache), limit: cache_bytes });
    metrics.add(Knowledge(Arc::clone(&services.cache)));
    metrics.add(Connections(store.clone()));
}

/// What is known of callers and of the files that say who they are.
pub(super) fn of_security(metrics: &Metrics, security: &Security) {
    metrics.add(Callers {
        authenticator: security.authenticator(),
        reloads: security.reloads(),
        tls: security.tls(),
    });
}

/// What became of the decision log's entries; only where there is one.
pub(super) fn of_decision_log(metrics: &Metrics, counts: Arc<LogCounts>) {
    metrics.add(Logged(counts));
}

/// What is known of the streams of Watch.
pub(super) fn of_watching(metrics: &Metrics, counts: Arc<WatchCounts>) {
    metrics.add(Watching(counts));
}

/// What is known of limits, and of those who met them.
pub(super) fn of_limits(metrics: &Metrics, door: Arc<Door>, room: Arc<Room>) {
    metrics.add(Limits { door, room });
}

/// A counter or gauge with labels, one line for each value.
struct Lines<'a>(MetricEncoder<'a>);

impl<'a> Lines<'a> {
    fn new(
        encoder: &'a mut DescriptorEncoder<'_>,
        name: &'a str,
        help: &str,
        kind: MetricType,
    ) -> Result<Self, Error> {
        Ok(Lines(encoder.encode_descriptor(name, help, None, kind)?))
    }

    fn counter<const N: usize>(
        &mut self,
        labels: [(&str, &str); N],
        value: u64,
    ) -> Result<(), Error> {
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn gauge<const N: usize>(
        &mut self,
        labels: [(&str, &str); N],
        value: u64,
    ) -> Result<(), Error> {
        self.0.encode_family(&labels)?.encode_gauge(&value)
    }
}

/// One number without labels.
pub(super) fn plain(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> Result<(), Error> {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

#[derive(Debug)]
struct Process {
    version: Version,
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Version { version, commit, rustc, schema } = &self.version;
        let labels = [
            ("version", *version),
            ("commit", commit.unwrap_or_default()),
            ("rustc", rustc),
            ("schema", schema),
        ];
        let help = "What is running; always 1";
        Lines::new(&mut encoder, "build_info", help, MetricType::Gauge)?.gauge(labels, 1)?;
        let help = "When the server started, in seconds since 1970";
        plain(&mut encoder, "start_time", help, Some(&Unit::Seconds), self.started)
    }
}

#[derive(Debug)]
struct Decided(Arc<DecisionCounts>);

impl Collector for Decided {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Decisions: each check, each item of a batch, each candidate of a filter";
        let mut lines = Lines::new(&mut encoder, "decisions", help, MetricType::Counter)?;
        for reason in DecisionReason::ALL {
            let outcome = if reason.allows() { "allowed" } else { "denied" };
            let labels = [("outcome", outcome), ("reason", reason.name())];
            lines.counter(labels, self.0.get(reason))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Writes([(&'static str, Arc<WriteCounts>); 3]);

impl Collector for Writes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Mutations by what they change and how they ended";
        let mut lines = Lines::new(&mut encoder, "writes", help, MetricType::Counter)?;
        for (kind, counts) in &self.0 {
            for outcome in WriteOutcome::ALL {
                let labels = [("kind", *kind), ("outcome", outcome.name())];
                lines.counter(labels, counts.get(outcome))?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Unrecorded([Arc<RefusalCounts>; 2]);

impl Collector for Unrecorded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Refusals to actors that the audit does not have: too many, or it failed";
        let unrecorded: u64 = self.0.iter().map(|counts| counts.unrecorded()).sum();
        encoder
            .encode_descriptor("refusals_unrecorded", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, u64>(&unrecorded, None)
    }
}

#[derive(Debug)]
struct Rpcs(Arc<RpcCounts>);

impl Collector for Rpcs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let methods = self.0.called();
        let help =
            "Calls that ended, by method and gRPC code; CANCELLED is also a client that left";
        let mut lines = Lines::new(&mut encoder, "rpcs", help, MetricType::Counter)?;
        for method in &methods {
            for (code, count) in method.ended().filter(|(_, count)| *count > 0) {
                lines.counter([("method", method.name()), ("code", code)], count)?;
            }
        }
        let help = "Calls under way; of a streaming method, its open streams";
        let mut lines = Lines::new(&mut encoder, "rpcs_open", help, MetricType::Gauge)?;
        for method in &methods {
            lines.gauge([("method", method.name())], method.open())?;
        }
        let mut encoder = encoder.encode_descriptor(
            "rpc_duration",
            "Time from a unary call's beginning until its answer begins",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for method in &methods {
            let Some(latency) = method.latency() else { continue };
            encoder.encode_family(&[("method", method.name())])?.encode_histogram::<NoLabelSet>(
                latency.sum,
                latency.count,
                &latency.buckets,
                None,
            )?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct CacheUse {
    cache: Arc<Cached>,
    limit: u64,
}

impl Collector for CacheUse {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let CacheStats { member_hits, member_misses, role_hits, role_misses, bypasses, weight } =
            self.cache.stats();
        let counters = [
            ("cache_hits", "Found in the cache", member_hits, role_hits),
            ("cache_misses", "Not cached, so read from the database", member_misses, role_misses),
        ];
        for (name, help, members, roles) in counters {
            let mut lines = Lines::new(&mut encoder, name, help, MetricType::Counter)?;
            lines.counter([("kind", "member")], members)?;
            lines.counter([("kind", "role")], roles)?;
        }
        let help = "Views read past the cache: asked for, or the cache could not give one state";
        encoder
            .encode_descriptor("cache_bypasses", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, u64>(&bypasses, None)?;
        let bytes = Some(&Unit::Bytes);
        plain(&mut encoder, "cache", "About what is cached takes", bytes, weight)?;
        plain(&mut encoder, "cache_limit", "What may be cached", bytes, self.limit)?;
        Ok(())
    }
}

#[derive(Debug)]
struct Logged(Arc<LogCounts>);

impl Collector for Logged {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let LogCounts { written, full, failed } = &*self.0;
        let (kind, help) = (MetricType::Counter, "Lines of the decision log");
        encoder
            .encode_descriptor("decision_log_written", help, None, kind)?
            .encode_counter::<NoLabelSet, u64, u64>(&written.load(Ordering::Relaxed), None)?;
        let help = "Sampled decisions that the decision log does not have, by why";
        let mut lines = Lines::new(&mut encoder, "decision_log_dropped", help, kind)?;
        for (reason, count) in [("full", full), ("failed", failed)] {
            lines.counter([("reason", reason)], count.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Watching(Arc<WatchCounts>);

impl Collector for Watching {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        plain(&mut encoder, "watch_streams", "Open Watch streams", None, self.0.open())?;
        let help = "Changes sent to watchers; one that two of them get counts twice";
        encoder
            .encode_descriptor("watch_changes", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, u64>(&self.0.changes(), None)?;
        let help = "Watch streams that ended, by what ended them";
        let mut lines = Lines::new(&mut encoder, "watch_ends", help, MetricType::Counter)?;
        for reason in EndReason::ALL {
            lines.counter([("reason", reason.name())], self.0.ends(reason))?;
        }
        Ok(())
    }
}

/// How well this replica knows what the database holds.
#[derive(Debug)]
struct Knowledge(Arc<Cached>);

impl Collector for Knowledge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let following = self.0.following();
        let help = "Time since every committed change was last known to be applied here";
        let seconds = Some(&Unit::Seconds);
        plain(&mut encoder, "staleness", help, seconds, following.age().as_secs_f64())?;
        let standing = match following.standing() {
            Standing::Current => "current",
            Standing::Behind => "behind",
            Standing::Outage { .. } => "outage",
            Standing::Lost => "lost",
        };
        let help = "1 for how decisions are made now, 0 for the others";
        let mut lines = Lines::new(&mut encoder, "standing", help, MetricType::Gauge)?;
        for one in ["current", "behind", "outage", "lost"] {
            lines.gauge([("standing", one)], u64::from(one == standing))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Callers {
    authenticator: Arc<Authenticator>,
    reloads: Arc<AllReloads>,
    tls: Option<Arc<Tls>>,
}

impl Collector for Callers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Calls whose caller could not be told, by what was wrong";
        let kind = MetricType::Counter;
        let mut lines = Lines::new(&mut encoder, "unauthenticated_calls", help, kind)?;
        let counts = self.authenticator.refusals().counts();
        if counts.iter().all(|(reason, _)| *reason != "no_credential") {
            lines.counter([("reason", "no_credential")], 0)?;
        }
        for (reason, count) in counts {
            lines.counter([("reason", reason)], count)?;
        }
        let help = "Questions that were refused to a caller because of its rate limit";
        let mut lines = Lines::new(&mut encoder, "rate_limited", help, kind)?;
        for caller in self.authenticator.limited() {
            let refused = caller.allowance.as_ref().map_or(0, |allowance| allowance.refused());
            lines.counter([("caller", &caller.name)], refused)?;
        }
        let AllReloads { callers, certificates, keys } = &*self.reloads;
        let all = [("callers", callers), ("certificates", certificates), ("keys", keys)];
        let help = "Files that changed and were read again, and keys that were asked for";
        let mut lines = Lines::new(&mut encoder, "reloads", help, MetricType::Counter)?;
        for (what, reloads) in all {
            for (outcome, count) in [("done", &reloads.done), ("failed", &reloads.failed)] {
                lines.counter(
                    [("what", what), ("outcome", outcome)],
                    count.load(Ordering::Relaxed),
                )?;
            }
        }
        let help = "1 while what was read last cannot be used, and what was read before counts";
        let mut lines = Lines::new(&mut encoder, "reload_failing", help, MetricType::Gauge)?;
        for (what, reloads) in all {
            lines.gauge([("what", what)], u64::from(reloads.failing.load(Ordering::Relaxed)))?;
        }
        let help = "Seconds for which files of this kind could not be looked at";
        let mut lines = Lines::new(&mut encoder, "reload_age_seconds", help, MetricType::Gauge)?;
        for (what, reloads) in all {
            let age = reloads.since_look().unwrap_or_default();
            lines.gauge([("what", what)], age.as_secs())?;
        }
        let help = "TLS handshakes of gRPC connections by how they ended";
        let mut lines = Lines::new(&mut encoder, "tls_handshakes", help, MetricType::Counter)?;
        let none = Handshakes::default();
        let handshakes = self.tls.as_ref().map_or(&none, |tls| &tls.handshakes);
        for (outcome, count) in [
            ("done", &handshakes.done),
            ("failed", &handshakes.failed),
            ("timed_out", &handshakes.timed_out),
        ] {
            lines.counter([("outcome", outcome)], count.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Limits {
    door: Arc<Door>,
    room: Arc<Room>,
}

impl Collector for Limits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Limits { door, room } = self;
        plain(&mut encoder, "connections", "Open gRPC connections", None, door.open())?;
        let help = "gRPC connections that were closed instead of served";
        let kind = MetricType::Counter;
        let mut lines = Lines::new(&mut encoder, "connections_refused", help, kind)?;
        for (reason, count) in [
            ("limit", &door.too_many),
            ("address_limit", &door.too_many_of_address),
            ("silent", &door.silent),
            ("not_http2", &door.not_http2),
        ] {
            lines.counter([("reason", reason)], count.load(Ordering::Relaxed))?;
        }
        let help = "gRPC connections that were ended before their time";
        let mut lines = Lines::new(&mut encoder, "connections_ended", help, kind)?;
        for why in Why::ALL {
            lines.counter([("reason", why.name())], door.ends.get(why))?;
        }
        let help = "Calls that were refused because there was no room for them";
        let mut lines = Lines::new(&mut encoder, "calls_shed", help, kind)?;
        for (what, of, count) in room.refused() {
            lines.counter([("what", what), ("of", of)], count)?;
        }
        let ProbeRefusals { of_connection, of_address, of_server } = &*door.probes_refused;
        for (of, count) in
            [("server", of_server), ("address", of_address), ("connection", of_connection)]
        {
            lines.counter([("what", "probes"), ("of", of)], count.load(Ordering::Relaxed))?;
        }
        let help = "What the request messages under way take";
        plain(&mut encoder, "calls_under_way", help, Some(&Unit::Bytes), room.bytes())
    }
}

#[derive(Debug)]
struct Connections(SqlStore);

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let pools = self.0.pools();
        let help = "Open connections to the database";
        let mut lines = Lines::new(&mut encoder, "database_connections", help, MetricType::Gauge)?;
        for pool in &pools {
            lines.gauge([("pool", pool.pool), ("state", "in_use")], u64::from(pool.in_use))?;
            lines.gauge([("pool", pool.pool), ("state", "idle")], u64::from(pool.idle))?;
        }
        let help = "How many connections there may be";
        let mut lines =
            Lines::new(&mut encoder, "database_connections_limit", help, MetricType::Gauge)?;
        for pool in &pools {
            lines.gauge([("pool", pool.pool)], u64::from(pool.max))?;
        }
        let help = "Timeline of the PostgreSQL server that is followed; 0 on SQLite";
        let timeline = u64::from(self.0.history().timeline);
        plain(&mut encoder, "database_timeline", help, None, timeline)?;
        let help = "Epochs of the database that began since the start, by why";
        let mut lines = Lines::new(&mut encoder, "database_epochs", help, MetricType::Counter)?;
        let EpochCounts { restored, failed_over } = self.0.epoch_counts();
        for (cause, count) in [("restored", restored), ("failed_over", failed_over)] {
            lines.counter([("cause", cause)], count)?;
        }
        let help = "1 while the server that the address leads to is a standby or an old primary";
        plain(&mut encoder, "database_unfit", help, None, u64::from(self.0.unfit().is_some()))
    }
}
