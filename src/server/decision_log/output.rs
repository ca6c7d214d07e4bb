//! The file of the decision log. It may be renamed or deleted while it is written: then a new one is
//! begun, so that rotating it takes no signal.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often to look whether the file is still where it was.
const LOOKING: Duration = Duration::from_secs(1);
/// How much is written at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// Where lines go.
pub(super) struct Output {
    /// `None`: standard output.
    path: Option<PathBuf>,
    /// None after a failure: what is wrong with it may be gone when it is opened again.
    file: Option<File>,
    looked: Instant,
    /// Half a line stands at its end.
    torn: bool,
}

impl Output {
    /// Opens it: a new file is for its owner's eyes only, another one is appended to.
    pub(super) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = Some(open(path.as_deref())?);
        Ok(Output { path, file, looked: Instant::now(), torn: false })
    }

    /// Appends lines. Gives how many of them are there to the end, and why not all of them.
    pub(super) fn append(
        &mut self,
        lines: impl Iterator<Item = Vec<u8>>,
    ) -> (usize, io::Result<()>) {
        let mut written = 0;
        let mut chunk = Vec::new();
        let mut ends = Vec::new();
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            chunk.extend(line);
            ends.push(chunk.len());
            if chunk.len() >= CHUNK || lines.peek().is_none() {
                let (bytes, result) = self.write(&chunk);
                written += ends.iter().filter(|end| **end <= bytes).count();
                if result.is_err() {
                    self.torn = bytes > 0 && !ends.contains(&bytes);
                    self.file = None;
                    return (written, result);
                }
                chunk.clear();
                ends.clear();
            }
        }
        (written, Ok(()))
    }

    /// How many bytes were written, and why not all of them.
    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        let mut write = || {
            self.follow()?;
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(open(self.path.as_deref())?),
            };
            // In a new file nothing is torn.
            if self.torn && file.metadata()?.len() > 0 {
                file.write_all(b"\n")?;
            }
            self.torn = false;
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                match file.write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let result = write();
        (written, result)
    }

    /// Leaves a file that is not any more where it was.
    fn follow(&mut self) -> io::Result<()> {
        if let (Some(path), Some(file)) = (&self.path, &self.file)
            && self.looked.elapsed() >= LOOKING
        {
            self.looked = Instant::now();
            let ours = file.metadata()?;
            let is_there = std::fs::metadata(path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
            if !is_there {
                self.file = None;
            }
        }
        Ok(())
    }
}

fn open(path: Option<&Path>) -> io::Result<File> {
    match path {
        Some(path) => OpenOptions::new().append(true).create(true).mode(0o600).open(path),
        // Not through the buffer of `std::io::Stdout`: it would keep the last lines.
        None => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(of: &[&str]) -> std::vec::IntoIter<Vec<u8>> {
        of.iter().map(|text| format!("{text}\n").into_bytes()).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_file_that_is_moved_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let [path, old] = ["log", "log.1"].map(|name| directory.path().join(name));
        let mut output = Output::open(Some(path.clone())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(output.append(lines(&["one"])).0, 1);
        std::fs::rename(&path, &old).unwrap();
        output.looked -= LOOKING;
        assert_eq!(output.append(lines(&["two", "three"])).0, 2);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
        // What is there is kept.
        let mut again = Output::open(Some(path.clone())).unwrap();
        assert_eq!(again.append(lines(&["four"])).0, 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\nfour\n");
    }

    #[test]
    fn what_cannot_be_written_is_said_and_the_next_line_is_whole() {
        let full = Output::open(Some("/dev/full".into()));
        let (written, result) = full.unwrap().append(lines(&["one", "two"]));
        assert_eq!((written, result.unwrap_err().kind()), (0, ErrorKind::StorageFull));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "{\"half").unwrap();
        let mut output = Output::open(Some(path.clone())).unwrap();
        (output.torn, output.file) = (true, None);
        assert_eq!(output.append(lines(&["{}"])).0, 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n{}\n");
        assert!(!output.torn);
    }
}
