//! What the machine tells of processes, and which core they run on. Linux only: CPU time is taken
//! from `/proc`, in nanoseconds.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use rolegate_bench::Failure;

/// Where servers run, and where the load comes from.
pub(crate) const SERVER_CORE: usize = 0;
/// See [`SERVER_CORE`].
pub(crate) const LOAD_CORE: usize = 1;
/// Tells a process that the bench starts which core is its own.
pub(crate) const CORE_VARIABLE: &str = "BENCH_CORE";

/// Puts this process on the core that it was told, if it was told one. Before it starts threads:
/// they inherit it.
pub(crate) fn pin_as_told() -> Result<(), Failure> {
    match std::env::var(CORE_VARIABLE) {
        Ok(core) => pin(core.parse()?),
        Err(_) => Ok(()),
    }
}

/// Puts the calling thread on a core, and what it starts from now on.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| format!("core {core} cannot be used: {error}").into())
}

/// What each thread of a process has run so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuTime(HashMap<String, u64>);

impl CpuTime {
    /// Of a process, now.
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let mut threads = HashMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread may end between being listed and being read.
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let run = text.split(' ').next().unwrap_or_default().parse()?;
            threads.insert(entry.file_name().to_string_lossy().into_owned(), run);
        }
        Ok(CpuTime(threads))
    }

    /// What the process has run since `earlier`; without threads that have ended.
    pub(crate) fn since(&self, earlier: &CpuTime) -> Duration {
        let run = |(thread, run): (&String, &u64)| {
            run.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        };
        Duration::from_nanos(self.0.iter().map(run).sum())
    }
}

/// What a process holds of memory that is its own, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("/proc does not tell RssAnon")?
        .parse()?;
    Ok(kib << 10)
}

/// Asks a process to end.
pub(crate) fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
}

/// What all this ran on, in a sentence.
pub(crate) fn description() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']));
    // All of them: this process is on one.
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("On {name}, {cores} cores, Linux {}.", kernel.trim())
}
