//! Small files that somebody else writes: read whole, and bounded in size. Only regular files are
//! read, since opening or reading anything else (a FIFO, a device) may never end.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// Mode bit that lets users write who are neither the owner nor in the group.
const OTHERS_WRITE: u32 = 0o002;
/// Mode bit of a directory in which users replace only what is theirs, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// Reason why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The system refused it.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A directory, a FIFO, a device, a socket.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// More than 4 MiB.
    #[error("{} is larger than 4 MiB", .0.display())]
    TooLarge(PathBuf),
    /// The text is not UTF-8.
    #[error("{} is not UTF-8", .0.display())]
    NotText(PathBuf),
    /// The file system did not answer in time, as a network mount that hangs.
    #[error("{} could not be looked at in time; does its file system hang?", .0.display())]
    Slow(PathBuf),
}

/// Returns the content of a regular file. Blocks for as long as its file system does.
///
/// # Errors
/// [`FileError`], but never [`FileError::Slow`]
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error: std::io::Error| FileError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    // Without the flag, opening a FIFO waits for somebody who writes into it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// Returns the text in a regular file. Blocks for as long as its file system does.
///
/// # Errors
/// [`FileError`], but never [`FileError::Slow`]
pub fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(read(path)?).map_err(|_| FileError::NotText(path.to_owned()))
}

/// Whether users other than the owner and the group may change what stands there: the file by its
/// mode, or its directory, where they could put another in its place.
#[must_use]
pub fn others_may_write(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mode = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.mode());
    let directory = mode(directory.unwrap_or(Path::new(".")));
    mode(path) & OTHERS_WRITE != 0 || (directory & OTHERS_WRITE != 0 && directory & STICKY == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let of = |name: &str| directory.path().join(name);
        std::fs::write(of("small"), b"text").unwrap();
        assert_eq!(read(&of("small")).unwrap(), b"text");
        assert_eq!(read_text(&of("small")).unwrap(), "text");

        std::fs::write(of("binary"), [0xff]).unwrap();
        assert_eq!(read_text(&of("binary")), Err(FileError::NotText(of("binary"))));
        std::fs::write(of("large"), vec![0; 4 << 20 | 1]).unwrap();
        assert_eq!(read(&of("large")), Err(FileError::TooLarge(of("large"))));
        assert!(matches!(read(&of("missing")), Err(FileError::Unreadable { .. })));

        // Neither opening nor reading these ends by itself.
        let made = std::process::Command::new("mkfifo").arg(of("fifo")).status().unwrap();
        assert!(made.success());
        for endless in [of("fifo"), "/dev/zero".into(), directory.path().to_owned()] {
            assert_eq!(read(&endless), Err(FileError::NotRegular(endless.clone())));
        }
    }

    #[test]
    fn a_file_or_a_directory_that_others_may_write_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("callers.toml");
        std::fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (of_directory, of_file, expected) in [
            (0o755, 0o644, false),
            (0o770, 0o660, false),
            (0o755, 0o646, true),
            (0o777, 0o644, true),
            (0o1777, 0o644, false),
        ] {
            set(directory.path(), of_directory);
            set(&file, of_file);
            assert_eq!(others_may_write(&file), expected, "{of_directory:o} {of_file:o}");
        }
    }
}
