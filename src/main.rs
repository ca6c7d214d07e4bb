//! The `rolegate` program: see `rolegate --help`.

mod cli;

use std::process::ExitCode;

/// Every answer takes a few allocations, and this one is made for that; what `.ci/bench` measures has
/// it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
