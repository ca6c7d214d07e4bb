//! What is asked, and the service's library to ask it without a server: shared by the bench and by
//! the program whose instructions are counted.

pub mod inprocess;
pub mod workload;

/// What ends a measurement: a sentence for whoever runs it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// For all of them alike, for the servers too are this program; but for the echo that is built like any
/// program.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
