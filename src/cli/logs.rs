//! Logs: for people on a terminal, or JSON for machines. They go to standard error.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged, and how.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// What to log: a level, or directives such as `info,rolegate=debug`.
    #[arg(long, env = "ROLEGATE_LOG", default_value = "info", global = true)]
    log: String,
    /// How logs look.
    #[arg(long, env = "ROLEGATE_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
}

impl LogArgs {
    /// Starts logging for the whole process.
    pub(super) fn start(&self) {
        let filter = EnvFilter::try_new(&self.log).unwrap_or_else(|error| {
            eprintln!("rolegate: --log {:?} is no filter ({error}); logging at info", self.log);
            EnvFilter::new("info")
        });
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => builder.with_target(false).init(),
            LogFormat::Json => builder.json().flatten_event(true).init(),
        }
    }
}
