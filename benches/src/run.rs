//! Everything in one go, or some of it.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::contest::Rounds;
use crate::machine::{self, LOAD_CORE};
use crate::rows::{self, Scene};
use crate::setup::Place;
use crate::{report, table};
use rolegate_bench::Failure;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Check beside both echoes, with and without TLS.
    Check,
    /// How long callers of Check wait at a fixed rate.
    Waits,
    /// CheckStream.
    Stream,
    /// BatchCheck.
    Batch,
    /// FilterResources.
    Filter,
    /// Decisions in process, beside other engines.
    Process,
    /// Members that are not cached, beside the query.
    Cold,
    /// A change.
    Mutation,
    /// Starting.
    Start,
    /// What cached members and roles take.
    Memory,
    /// A hundred times as many tenants: takes some minutes, so only when asked for.
    Scale,
}

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Everything, and what it costs with a hundred times as many tenants.
    #[arg(long)]
    scale: bool,
    /// This program once more as cargo builds it by default, without link-time optimization and with the
    /// system's allocator: for the default echo, which is what whoever starts with tonic has. Without
    /// it, that echo is built like all others.
    #[arg(long, value_name = "FILE")]
    plain: Option<PathBuf>,
    /// Another program to serve by than this one, such as target/release/rolegate: for a first look,
    /// for it is not built like the others.
    #[arg(long, value_name = "FILE")]
    rolegate: Option<PathBuf>,
    /// How often each contender has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a turn is, in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Measures.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    machine::pin(LOAD_CORE)?;
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let rounds = Rounds { count: args.rounds, seconds: args.seconds };
    let scene = Scene::set(Place::new(args.rolegate.as_deref(), args.plain.as_deref())?, rounds)?;
    let (asked, answered) = rows::sizes(&scene.checks);
    let about = format!(
        "{} rounds of {} s for each contender. A `Check` takes {asked} bytes and is answered with \
         {answered}, as messages; {} % of the questions are allowed.",
        args.rounds, args.seconds, scene.allowed
    );
    println!("{about}\n");
    let mut rows = Vec::new();
    if wanted(Part::Check) {
        rows.extend(rows::unary::costs(&scene)?);
    }
    if wanted(Part::Waits) {
        rows.extend(rows::unary::waits(&scene)?);
    }
    if wanted(Part::Stream) {
        rows.extend(rows::stream::stream(&scene)?);
    }
    if wanted(Part::Batch) {
        rows.extend(rows::bulk::batch(&scene)?);
    }
    if wanted(Part::Filter) {
        rows.extend(rows::bulk::filter(&scene)?);
    }
    if wanted(Part::Process) {
        rows.extend(rows::process::decisions(scene.place.path(), rounds)?);
    }
    if wanted(Part::Cold) {
        rows.extend(rows::process::cold(scene.place.path(), rounds)?);
    }
    if wanted(Part::Mutation) {
        rows.extend(rows::life::mutation(&scene)?);
    }
    if wanted(Part::Start) {
        rows.extend(rows::life::start(&scene.place, rounds)?);
    }
    if wanted(Part::Memory) {
        rows.extend(rows::life::memory(&scene.place)?);
    }
    if args.only.contains(&Part::Scale) || args.scale {
        rows.extend(rows::scale::scale(&scene.place, rounds)?);
    }
    println!("\n{}", table::markdown(&rows));
    if args.only.is_empty() && args.rolegate.is_none() {
        report::write(&rows, &about)
    } else {
        Ok(())
    }
}
