//! What is running.

use serde::Serialize;

/// What `/version` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Of the program.
    pub version: &'static str,
    /// The commit that it was built from, where the build was told.
    pub commit: Option<&'static str>,
    /// The compiler that built it.
    pub rustc: &'static str,
    /// The newest database schema that it knows.
    pub schema: String,
}

impl Version {
    /// Of this program, which knows this schema.
    #[must_use]
    pub fn current(schema: String) -> Self {
        Version {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("ROLEGATE_COMMIT").filter(|commit| !commit.is_empty()),
            rustc: env!("ROLEGATE_RUSTC"),
            schema,
        }
    }
}
