//! `rolegate token`: bearer tokens for callers.

use std::fs::{Metadata, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use rolegate::files;
use rolegate::service::authentication::CallersFile;
use sha2::{Digest, Sha256};

use super::Failure;
use super::catalog::print;

/// What every token begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "rolegate_";
/// How much chance is in a token.
const TOKEN_BYTES: usize = 32;
/// Mode of files that are made: for their owner alone.
const PRIVATE: u32 = 0o600;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token, and the lines of the callers file that let it in.
    New(NewArgs),
}

/// What `token new` wants to know.
#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The caller's name, as it will stand in the audit.
    #[arg(long, value_parser = plain_name)]
    name: String,
    /// What the caller may do: check, read, admin, watch, act.
    #[arg(long, value_delimiter = ',', default_value = "check", value_parser = ["check", "read", "admin", "watch", "act"])]
    capabilities: Vec<String>,
    /// Add the caller to this callers file, which is made if it is not there. A server that has it
    /// takes the token within seconds.
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    /// Write the token into this file, which must not exist yet, and not to standard output.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Names that need no escaping, in TOML or in a shell.
fn plain_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err("up to 64 letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

/// Makes a token. Prints to standard output whatever no file was given for: the token on the first
/// line, and TOML after it, in which the token is not.
pub(super) fn run(command: TokenCommand) -> Result<(), Failure> {
    let TokenCommand::New(NewArgs { name, capabilities, append, token_file }) = command;
    let mut chance = [0; TOKEN_BYTES];
    SystemRandom::new().fill(&mut chance).map_err(|_| "the system gives no random numbers")?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(chance));
    let hash: String = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    let capabilities: Vec<String> =
        capabilities.iter().map(|capability| format!("\"{capability}\"")).collect();
    let entry = format!(
        "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{hash}\"]\ncapabilities = [{}]\n",
        capabilities.join(", ")
    );
    // Nothing is written before all of it is known to be sound.
    let callers = append.as_deref().map(|path| Appended::new(path, &entry)).transpose()?;
    if let Some(path) = &token_file {
        write_new(path, &format!("{token}\n")).map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::AlreadyExists => ": give it another name, or delete it",
                _ => "",
            };
            format!("the token cannot be written to {}: {error}{advice}", path.display())
        })?;
    }
    if let Some(callers) = &callers
        && let Err(error) = callers.write()
    {
        if let Some(path) = &token_file {
            // It would let nobody in.
            std::fs::remove_file(path).ok();
        }
        return Err(error);
    }
    match (&callers, &token_file) {
        (None, None) => print(&format!(
            "{token}\n\n# The line above is the token: for {name} alone, shown this once. The lines \
             below are for the\n# callers file; they hold its SHA-256 only.\n{entry}"
        )),
        (None, Some(_)) => print(&entry),
        (Some(_), None) => print(&format!("{token}\n")),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// A callers file with one more caller.
struct Appended {
    path: PathBuf,
    text: String,
    /// Those of the file that is there.
    metadata: Option<Metadata>,
}

impl Appended {
    /// Reads the file and adds the entry.
    fn new(path: &Path, entry: &str) -> Result<Self, Failure> {
        // Where it is a link, the file that is meant is replaced, and the link stays.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (mut text, metadata) = match std::fs::metadata(&path) {
            Ok(metadata) => (files::read_text(&path)?, Some(metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), None),
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        if !text.is_empty() {
            text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        }
        text.push_str(entry);
        CallersFile::parse(&text).map_err(|problems| {
            format!("with this caller, {} is not sound:\n{problems}", path.display())
        })?;
        Ok(Appended { path, text, metadata })
    }

    /// Replaces the file at once: a server that reads it meanwhile sees the old or the new one, and
    /// may read the new one if it could read the old one.
    fn write(&self) -> Result<(), Failure> {
        let path = self.path.display();
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        write_new(&new, &self.text).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => format!(
                "{} is there already: {path} is being changed, or a change of it was broken off; \
                 then delete it",
                new.display()
            ),
            _ => format!("{path} cannot be written: {error}"),
        })?;
        self.put(&new).map_err(|error| {
            std::fs::remove_file(&new).ok();
            format!("{path} cannot be replaced: {error}").into()
        })
    }

    fn put(&self, new: &Path) -> std::io::Result<()> {
        if let Some(before) = &self.metadata {
            let made = std::fs::metadata(new)?;
            if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
                chown(new, Some(before.uid()), Some(before.gid()))?;
            }
            let mode = before.permissions().mode() & 0o7777;
            std::fs::set_permissions(new, std::fs::Permissions::from_mode(mode))?;
        }
        std::fs::rename(new, &self.path)
    }
}

/// Writes a file that is not there yet, for its owner alone.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
