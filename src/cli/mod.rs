//! The command line. Every flag can also be given as `ROLEGATE_...` in the environment.

mod audit;
mod catalog;
mod database;
mod dev_certs;
mod health;
mod limits;
mod listen;
mod log_fields;
mod logs;
mod migrate;
mod serve;
mod token;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Roles and permission checks for customer-support platforms.
#[derive(Debug, Parser)]
#[command(name = "rolegate", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    logs: logs::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gRPC.
    Serve(Box<serve::ServeArgs>),
    /// Make the database, or bring its schema up to date.
    Migrate(migrate::MigrateArgs),
    /// Ask a server on this machine whether it is ready; for container health checks.
    Health(health::HealthArgs),
    /// Verify audit trails, and take them elsewhere.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Make tokens for callers.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Make an authority and certificates for trying out TLS on this machine.
    DevCerts(dev_certs::DevCertsArgs),
    /// Look at catalogs: what permissions and default roles a product has.
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
}

/// Time that threads which block get to end, when everything else has ended.
const BLOCKED_TIMEOUT: Duration = Duration::from_secs(2);

/// What a command ends with when it does not work: the message for whoever typed it.
type Failure = Box<dyn std::error::Error>;

/// Parses the command line and runs it.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.logs.start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime does not start: {error}")),
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => Box::pin(serve::serve(*args)).await,
            Command::Migrate(args) => migrate::migrate(args).await,
            Command::Health(args) => health::health(args).await,
            Command::Audit(command) => return Ok(audit::run(command).await),
            Command::Token(command) => token::run(command),
            Command::DevCerts(args) => dev_certs::run(&args),
            Command::Catalog(command) => catalog::run(command).await,
        }
        .map(|()| ExitCode::SUCCESS)
    });
    // Not to wait for a thread that reads from a file system that hangs.
    runtime.shutdown_timeout(BLOCKED_TIMEOUT);
    ended.unwrap_or_else(|error: Failure| fail(&error.to_string()))
}

fn fail(message: &str) -> ExitCode {
    eprintln!("rolegate: {message}");
    ExitCode::FAILURE
}
