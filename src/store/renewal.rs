//! Renewing connections whose prepared statements the server no longer runs.
//!
//! Each connection keeps the statements that it has prepared, for as long as it lives. When a column
//! changes its type under one of them, or something drops them, the server refuses that statement on
//! that connection from then on, and the driver would go on sending it. So the first such refusal
//! marks every connection that is older than it: pools close those instead of handing them out. What
//! was refused is tried once more on a new one where nothing had been done yet; within a transaction
//! it is an outage for its caller, who may try again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{DbErr, SqlxError};
use sqlx::postgres::PgDatabaseError;

use super::error::driver_error;

/// A mark that connections must be younger than. One for all pools of a store.
#[derive(Debug, Default)]
pub(super) struct Renewal(Mutex<Option<Instant>>);

impl Renewal {
    /// Marks every connection there is, if this error says that one of them needs it.
    pub(super) fn is_due<T>(&self, outcome: &Result<T, DbErr>) -> bool {
        let Some(error) = outcome.as_ref().err().filter(|error| is_stale(error)) else {
            return false;
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        // Once for each refusal, of which there is one for each connection at most.
        tracing::warn!(
            error = STALE,
            sqlstate = code(error),
            "connections are made anew: the schema was changed, or a pooler or another program \
             dropped what they had prepared"
        );
        true
    }

    /// Whether a connection that was made so long ago may be used.
    pub(super) fn allows(&self, age: Duration) -> bool {
        let mark = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mark.is_none_or(|mark| mark.elapsed() > age)
    }
}

/// What the operator reads of such an error.
pub(super) const STALE: &str =
    "the server no longer runs a statement as it was prepared; another attempt prepares it anew";

/// Whether the server refused a prepared statement as such, before it did anything.
pub(super) fn is_stale(error: &DbErr) -> bool {
    let Some(SqlxError::Database(answer)) = driver_error(error) else { return false };
    let Some(answer) = answer.try_downcast_ref::<PgDatabaseError>() else { return false };
    match answer.code() {
        // "prepared statement does not exist"
        "26000" => true,
        // "cached plan must not change result type", in whatever language the server speaks. The same
        // code stands for all that the server does not support.
        "0A000" => answer.routine() == Some("RevalidateCachedQuery"),
        _ => false,
    }
}

fn code(error: &DbErr) -> Option<&str> {
    let answer = driver_error(error)?.as_database_error()?;
    Some(answer.try_downcast_ref::<PgDatabaseError>()?.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_younger_than_the_mark_may_be_used() {
        let renewal = Renewal::default();
        assert!(renewal.allows(Duration::from_secs(3600)), "nothing was ever refused");
        *renewal.0.lock().unwrap() = Some(Instant::now());
        std::thread::sleep(Duration::from_millis(2));
        assert!(!renewal.allows(Duration::from_secs(3600)));
        assert!(renewal.allows(Duration::ZERO));
    }
}
