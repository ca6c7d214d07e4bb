//! Logs: for people on a terminal, or JSON for machines. They go to standard error.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use super::log_fields::QuotedFields;

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
        let layer =
            fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        // Filters of the whole subscriber and not of the layer: those keep state between asking
        // whether an event is enabled and the event, and lines were lost where a library only asks.
        let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_shown));
        match self.log_format {
            LogFormat::Text => {
                let layer = layer.with_target(false).fmt_fields(QuotedFields);
                registry.with(layer).init();
            }
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
        }
    }
}

/// What other crates say may hold what nobody is to see, so no setting shows it: HTTP and TLS crates
/// tell of headers, hence of tokens, in what they say below warnings, and those of the database of
/// SQL and its values in whatever they say, slow statements being warnings. What matters of it we
/// say ourselves.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let of = |name: &str| target.starts_with(name);
    of("rolegate") || (*metadata.level() <= Level::WARN && !of("sqlx") && !of("sea_"))
}
