//! What a check costs: the service beside a bare gRPC echo in the same run, and beside other engines
//! in process. `.ci/bench` at the root of the repository runs it; docs/operations/benchmarks.md says
//! how it measures and what came of it.
//!
//! One program, which starts itself again as each of the servers, so that all of them are built
//! alike and run on the same allocator.

#[path = "../../src/cli/mod.rs"]
mod cli;
mod contest;
mod echo;
#[cfg(feature = "engines")]
mod engines;
mod load;
mod machine;
mod plot;
mod report;
mod rows;
mod run;
mod servers;
mod setup;
mod table;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a check costs.
#[derive(Debug, Parser)]
struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and write the table and the plot.
    Run(run::RunArgs),
    /// Serve an echo as tonic does by default.
    EchoDefault(EchoArgs),
    /// Serve an echo as fast as tonic goes.
    EchoTuned(EchoArgs),
}

#[derive(Debug, clap::Args)]
struct EchoArgs {
    /// Where to listen.
    #[arg(long)]
    address: SocketAddr,
    /// How many bytes of a payload to answer with.
    #[arg(long)]
    reply: usize,
}

fn main() -> ExitCode {
    // Before there are threads.
    let pinned = machine::pin_as_told();
    if std::env::args().next().as_deref() == Some("rolegate") {
        return cli::main();
    }
    let done = pinned.and_then(|()| match Bench::parse().command {
        Command::Run(args) => run::run(&args),
        Command::EchoDefault(EchoArgs { address, reply }) => echo::default(address, reply),
        Command::EchoTuned(EchoArgs { address, reply }) => echo::tuned(address, reply),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("rolegate-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
