//! `rolegate token`: bearer tokens for callers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::Failure;
use super::catalog::print;

/// What every token begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "rolegate_";
/// How much chance is in a token.
const TOKEN_BYTES: usize = 32;

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
}

/// Names that need no escaping, in TOML or in a shell.
fn plain_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err("up to 64 letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

/// Prints to standard output: the token on the first line, and TOML after it, in which the token is
/// not.
pub(super) fn run(command: TokenCommand) -> Result<(), Failure> {
    let TokenCommand::New(NewArgs { name, capabilities }) = command;
    let mut chance = [0; TOKEN_BYTES];
    SystemRandom::new().fill(&mut chance).map_err(|_| "the system gives no random numbers")?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(chance));
    let hash: String = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    let capabilities: Vec<String> =
        capabilities.iter().map(|capability| format!("\"{capability}\"")).collect();
    print(&format!(
        "{token}\n\n# The line above is the token: for {name} alone, shown this once. The lines \
         below are for the\n# callers file; they hold its SHA-256 only.\n[[caller]]\nname = \
         \"{name}\"\ntoken_sha256 = [\"{hash}\"]\ncapabilities = [{}]\n",
        capabilities.join(", ")
    ))
}
