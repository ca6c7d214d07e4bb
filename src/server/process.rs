//! What the kernel counts of this process, under the names that Prometheus's own clients give it, so
//! that common dashboards show it. Read from `/proc` when it is asked for; what cannot be read is left
//! out.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::metrics::plain;

/// Ticks of the kernel's clock in a second, as programs see them: a constant of Linux.
const TICKS: f64 = 100.0;

/// Usage of this process.
#[derive(Debug)]
pub(super) struct ProcessUsage {
    /// Seconds since 1970, if known. Does not change.
    started: Option<f64>,
}

impl ProcessUsage {
    pub(super) fn new() -> Self {
        let boot = read("/proc/stat").and_then(|all| number_after(&all, "btime "));
        let started = Stat::read().zip(boot).map(|(stat, boot)| boot + stat.started);
        ProcessUsage { started }
    }
}

impl Collector for ProcessUsage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let bytes = Some(&Unit::Bytes);
        if let Some(stat) = Stat::read() {
            let help = "Processor time that the process has used";
            let kind = MetricType::Counter;
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), kind)?
                .encode_counter::<NoLabelSet, f64, u64>(&stat.processor, None)?;
        }
        if let Some(status) = read("/proc/self/status") {
            let kib = |name: &str| number_after(&status, name).map(|kib| kib * 1024.0);
            if let Some(resident) = kib("VmRSS:") {
                let help = "Memory of the process that is in use";
                plain(&mut encoder, "process_resident_memory", help, bytes, resident)?;
            }
            if let Some(size) = kib("VmSize:") {
                let help = "Addresses of the process, whether or not there is memory behind them";
                plain(&mut encoder, "process_virtual_memory", help, bytes, size)?;
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // The one that reads the list is in it.
            let open = (open.count() as f64 - 1.0).max(0.0);
            plain(&mut encoder, "process_open_fds", "Open file descriptors", None, open)?;
        }
        let limits = read("/proc/self/limits");
        if let Some(most) = limits.and_then(|all| number_after(&all, "Max open files")) {
            let help = "How many file descriptors there may be";
            plain(&mut encoder, "process_max_fds", help, None, most)?;
        }
        if let Some(started) = self.started {
            let help = "When the process started, in seconds since 1970";
            plain(&mut encoder, "process_start_time", help, Some(&Unit::Seconds), started)?;
        }
        Ok(())
    }
}

/// A part of `/proc/self/stat`.
struct Stat {
    /// Seconds of processor time.
    processor: f64,
    /// Seconds between the machine's start and the process's.
    started: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&read("/proc/self/stat")?)
    }

    /// See proc(5): the second field is a name in parentheses, which may have anything in it.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first of these is the third.
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Stat { processor: (ticks(14)? + ticks(15)?) / TICKS, started: ticks(22)? / TICKS })
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Returns the number that stands behind this at the beginning of a line.
fn number_after(text: &str, beginning: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_in_it_does_not_move_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 1234 20";
        for name in ["rolegate", "a) b (c", ")"] {
            let stat = Stat::parse(&format!("4711 ({name}) {rest}")).unwrap();
            assert_eq!((stat.processor, stat.started), (3.0, 12.34), "{name}");
        }
        assert!(Stat::parse("4711 (rolegate) S 1").is_none());
        assert_eq!(number_after("a 1\nbtime 77\n", "btime "), Some(77.0));
        assert_eq!(number_after("Max open files   unlimited  files", "Max open files"), None);
    }
}
