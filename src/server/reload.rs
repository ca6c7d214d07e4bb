//! Files that are read again when they change: compared by content, every few seconds, which holds
//! for editors, `cp`, and the links that Kubernetes moves alike. A broken file changes nothing but
//! the log and the metrics.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

/// How often files are looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// How reloading one kind of file went.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Whether the last time failed, so that what counts is older than what stands in the file.
    pub(super) failing: AtomicBool,
}

impl Reloads {
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

/// What stands in some files, or why they cannot be read.
pub(super) type Contents = Result<Vec<Vec<u8>>, String>;

/// Some files that are only of use together.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    seen: Contents,
}

impl Watched {
    /// With what stands in them now.
    pub(super) async fn new(paths: Vec<PathBuf>) -> (Self, Contents) {
        let seen = read_all(&paths).await;
        (Watched { paths, seen: seen.clone() }, seen)
    }

    /// What stands in them now, if it is something else than the last time.
    pub(super) async fn changed(&mut self) -> Option<Contents> {
        let now = read_all(&self.paths).await;
        if now == self.seen {
            return None;
        }
        self.seen.clone_from(&now);
        Some(now)
    }
}

async fn read_all(paths: &[PathBuf]) -> Contents {
    let mut contents = Vec::new();
    for path in paths {
        contents.push(read(path).await?);
    }
    Ok(contents)
}

/// A small file.
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let reading = async {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    match reading.await {
        Ok(bytes) if bytes.len() as u64 <= MAX_FILE_BYTES => Ok(bytes),
        Ok(_) => Err(format!("{} is larger than 4 MiB", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}
