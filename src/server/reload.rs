//! Files that are read again when they change: compared by content, every few seconds, which holds
//! for editors, `cp`, and the links that Kubernetes moves alike. A broken file changes nothing but
//! the log and the metrics. Neither does one that cannot even be looked at, because its file system
//! hangs: each look has a time limit, so that the others go on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::files::{self, FileError};

/// How often files are looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// Time limit of one look at some files.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// How reloading one kind of file went.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Whether the last time failed, so that what counts is older than what stands in the file.
    pub(super) failing: AtomicBool,
    /// Time at which all files of this kind could last be read; none where there are no files.
    looked: Mutex<Option<Instant>>,
}

impl Reloads {
    /// Notes that all files of this kind could be read just now.
    pub(super) fn looked(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns for how long the files could not be read; nothing where there are none.
    pub(super) fn since_look(&self) -> Option<Duration> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    /// Counts and logs one.
    pub(super) fn ended<E: std::fmt::Display>(&self, what: &str, result: Result<(), E>) {
        self.failing.store(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                tracing::info!(what, "read again");
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(what, %error, "cannot be used; what was read before still counts");
            }
        }
    }
}

/// Reloads by kind.
#[derive(Debug, Default)]
pub(super) struct AllReloads {
    pub(super) callers: Reloads,
    pub(super) certificates: Reloads,
    pub(super) keys: Reloads,
}

/// Contents of some files, or the reason why one of them could not be read.
pub(super) type Contents = Result<Vec<Vec<u8>>, FileError>;

/// Some files that are only of use together.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    seen: Contents,
    look: Look<Contents>,
}

impl Watched {
    /// Reads them for the first time.
    pub(super) async fn new(paths: Vec<PathBuf>) -> (Self, Contents) {
        let mut watched = Watched { paths, seen: Ok(Vec::new()), look: Look::default() };
        watched.seen = watched.read().await;
        let seen = watched.seen.clone();
        (watched, seen)
    }

    /// Returns their contents if these are others than the last time.
    pub(super) async fn changed(&mut self) -> Option<Contents> {
        let now = self.read().await;
        if now == self.seen {
            return None;
        }
        self.seen.clone_from(&now);
        Some(now)
    }

    /// Whether the last look could read all of them.
    pub(super) fn could_be_read(&self) -> bool {
        self.seen.is_ok()
    }

    async fn read(&mut self) -> Contents {
        let paths = self.paths.clone();
        let all = move || paths.iter().map(|path| files::read(path)).collect();
        let slow = || FileError::Slow(self.paths.first().cloned().unwrap_or_default());
        self.look.within(LOOK_TIMEOUT, all).await.unwrap_or_else(|| Err(slow()))
    }
}

/// Work that may block for ever, on a thread of its own and one at a time: while it hangs, nothing
/// else is begun, or a file system that hangs would take one thread after another.
#[derive(Debug)]
struct Look<T>(Option<JoinHandle<T>>);

impl<T> Default for Look<T> {
    fn default() -> Self {
        Look(None)
    }
}

impl<T: Send + 'static> Look<T> {
    /// Returns what the work gives, or nothing if that takes too long. Work that took too long
    /// before is asked for first, without waiting for it again.
    async fn within(
        &mut self,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (mut running, timeout) = match self.0.take() {
            Some(overdue) => (overdue, Duration::ZERO),
            None => (tokio::task::spawn_blocking(work), timeout),
        };
        match tokio::time::timeout(timeout, &mut running).await {
            Ok(ended) => ended.ok(),
            Err(_) => {
                self.0 = Some(running);
                None
            }
        }
    }
}

/// Reads one small file.
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let (slow, path) = (FileError::Slow(path.to_owned()), path.to_owned());
    let mut look = Look::default();
    look.within(LOOK_TIMEOUT, move || files::read(&path)).await.unwrap_or(Err(slow))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_begun_once_and_its_end_is_seen() {
        let mut look = Look::default();
        let (let_go, hanging) = mpsc::channel::<()>();
        let hang = move || {
            hanging.recv().unwrap();
            "late"
        };
        assert_eq!(look.within(Duration::from_millis(1), hang).await, None);
        for _ in 0..3 {
            let again = look.within(LOOK_TIMEOUT, || panic!("begun while another hangs")).await;
            assert_eq!(again, None);
        }
        let_go.send(()).unwrap();
        let late = loop {
            // Either the end of what hung, or it is still on its way.
            if let Some(ended) = look.within(LOOK_TIMEOUT, || "new").await {
                break ended;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(late, "late");
        assert_eq!(look.within(LOOK_TIMEOUT, || "new").await, Some("new"));
    }
}
