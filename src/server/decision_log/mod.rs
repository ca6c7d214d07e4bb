//! Writes the decision log, on a thread of its own: a disk that hangs, or a pipe that nobody reads,
//! holds up nothing but the log.

mod line;
mod output;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::output::Output;
use crate::service::decision_log::{BURST, DecisionLog, Entries};

/// How long to wait for the file: opening a pipe that nobody reads takes for ever.
const OPENING: Duration = Duration::from_secs(5);
/// How long the last entries may take at the end.
const CLOSING: Duration = Duration::from_secs(5);
/// What the writer waits for more, once it has written, so that it is not woken for each decision.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a failure is told of.
const COMPLAINING: Duration = Duration::from_secs(60);

/// What to log of decisions, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionLogConfig {
    /// The file; `None`: standard output.
    pub file: Option<PathBuf>,
    /// One decision in so many.
    pub one_in: NonZeroU32,
}

/// The log while it is written.
pub(super) struct Writing {
    log: Arc<DecisionLog>,
    ended: oneshot::Receiver<()>,
}

impl Writing {
    /// Opens the log, and writes what is recorded from now on.
    pub(super) async fn start(config: DecisionLogConfig) -> Result<Self, String> {
        let name = config.file.as_ref().map_or("-".into(), |file| file.display().to_string());
        let failed = |why: String| format!("the decision log {name} cannot be written: {why}");
        let (log, entries) = DecisionLog::new(config.one_in);
        let ((opened, opening), (end, ended)) = (oneshot::channel(), oneshot::channel());
        let write = move || match Output::open(config.file) {
            Ok(output) => {
                opened.send(Ok(())).ok();
                write(&entries, output);
                end.send(()).ok();
            }
            Err(error) => drop(opened.send(Err(error.to_string()))),
        };
        let thread = std::thread::Builder::new().name("decision-log".to_owned());
        thread.spawn(write).map_err(|error| failed(error.to_string()))?;
        match tokio::time::timeout(OPENING, opening).await {
            Ok(Ok(opened)) => opened.map_err(failed)?,
            Ok(Err(_)) => return Err(failed("its thread ended".to_owned())),
            Err(_) => {
                let why =
                    format!("it took longer than {OPENING:?} to open: a pipe without a reader?");
                return Err(failed(why));
            }
        }
        tracing::info!(log = name, one_in = config.one_in, "logging decisions");
        Ok(Writing { log: Arc::new(log), ended })
    }

    pub(super) fn log(&self) -> Arc<DecisionLog> {
        Arc::clone(&self.log)
    }

    /// Writes what was recorded, as far as that is possible.
    pub(super) async fn finish(self) {
        self.log.close();
        if tokio::time::timeout(CLOSING, self.ended).await.is_err() {
            tracing::warn!("the decision log cannot be written; its last entries are lost");
        }
    }
}

/// Until there is no more to come.
fn write(entries: &Entries, mut output: Output) {
    let counts = entries.counts();
    let mut complained: Option<Instant> = None;
    loop {
        let taken = entries.take();
        if taken.is_empty() {
            return;
        }
        let (written, result) = output.append(taken.iter().map(line::of));
        counts.written.fetch_add(written as u64, Ordering::Relaxed);
        let lost = taken.len() - written;
        counts.failed.fetch_add(lost as u64, Ordering::Relaxed);
        if let Err(error) = result
            && complained.is_none_or(|when| when.elapsed() >= COMPLAINING)
        {
            complained = Some(Instant::now());
            tracing::error!(%error, lost, "the decision log cannot be written; entries are lost");
        }
        if taken.len() < BURST {
            std::thread::sleep(PAUSE);
        }
    }
}
