//! Who calls: the service on the other end of the connection, not the member it asks about.

/// A calling service. Authentication puts it into the request; without one, nothing is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name, as it stands in the audit.
    pub name: String,
}

impl Caller {
    /// The one caller of development mode.
    #[must_use]
    pub fn development() -> Self {
        Caller { name: "dev".to_owned() }
    }
}
