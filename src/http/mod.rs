//! The HTTP front for operators: liveness, readiness, metrics and the version, in plain text on a
//! port of its own. It tells nothing of any tenant or member and changes nothing, so it asks nobody
//! who they are; where it listens is the operator's choice.

mod admin;
mod metrics;
mod socket;
mod version;

pub use admin::{Admin, AdminTls};
pub use metrics::{Format, Metrics};
pub use socket::{Address, Detached, Listener, Socket, UnixSocket};
pub use version::Version;
