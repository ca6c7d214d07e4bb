//! What there is to say of a chain that was verified.

/// How many findings of a chain are kept; the rest is counted.
const MAX_FINDINGS: usize = 100;

/// Something that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The number of the event; `None`: it is about the chain as a whole.
    pub event: Option<i64>,
    /// What kind of thing it is, such as `gap`.
    pub problem: &'static str,
    /// The same for people.
    pub detail: String,
}

/// What there is to say of a chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// The tenant.
    pub tenant: String,
    /// How many events were looked at.
    pub events: u64,
    /// The last event; 0: there has been none.
    pub last: i64,
    /// Up to which event they were deleted, with a checkpoint.
    pub deleted_until: i64,
    /// What is wrong. Empty: the chain is sound.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more_findings: u64,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn new(tenant: &str) -> Self {
        Verified {
            tenant: tenant.to_owned(),
            events: 0,
            last: 0,
            deleted_until: 0,
            findings: Vec::new(),
            more_findings: 0,
        }
    }

    pub(super) fn finds(&mut self, event: Option<i64>, problem: &'static str, detail: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { event, problem, detail });
        } else {
            self.more_findings += 1;
        }
    }
}
