//! What a use case answers when it does not do what it was asked.

use crate::domain::refusal::Refusal;
use crate::store::StoreError;

/// Why there is no answer. A denial is not among these: it is an answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A guard said no; nothing was changed.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The store failed; nothing was decided.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours. The text is for the operator.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        ServiceError::Refused(refusal)
    }
}

impl ServiceError {
    /// The same where what was looked at is a part of the request.
    pub(super) fn within(self, part: &str) -> Self {
        match self {
            ServiceError::Refused(refusal) => ServiceError::Refused(refusal.within(part)),
            other => other,
        }
    }
}
