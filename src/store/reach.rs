//! Whether the database server can be reached at all. While it cannot, nobody waits for it.
//!
//! A pool goes on trying until the patience of whoever asks is at its end, one after the other, and
//! cannot tell a server that is gone from one that is busy. So whenever something goes wrong with a
//! connection, one task tries to make a new one; if it cannot, everybody is told at once, until it
//! can.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DbErr;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::error::driver_error;

/// Between two attempts while the server is gone.
const PAUSE: Duration = Duration::from_millis(250);
/// A server that takes longer to let somebody in counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shared by all pools of a store.
#[derive(Debug)]
pub(super) struct Reach {
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    gone: watch::Sender<bool>,
    suspicion: Notify,
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reach {
    pub(super) fn new(server: PgConnectOptions, connect_timeout: Duration) -> Self {
        let state = Arc::new(State { gone: watch::Sender::new(false), suspicion: Notify::new() });
        let task = tokio::spawn(probe(server, connect_timeout.min(PATIENCE), Arc::clone(&state)));
        Reach { state, task: task.abort_handle() }
    }

    pub(super) fn is_gone(&self) -> bool {
        *self.state.gone.borrow()
    }

    /// Somebody lost patience before a statement could fail: have a look.
    pub(super) fn suspect(&self) {
        self.state.suspicion.notify_one();
    }

    /// Runs a statement unless, or until, the server is known to be gone.
    pub(super) async fn unless_gone<T>(
        &self,
        statement: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        let mut gone = self.state.gone.subscribe();
        let outcome = tokio::select! {
            biased;
            _ = gone.wait_for(|gone| *gone) => {
                return Err(DbErr::Custom("the database server cannot be reached".to_owned()));
            }
            outcome = statement => outcome,
        };
        if outcome.as_ref().err().is_some_and(concerns_the_connection) {
            self.state.suspicion.notify_one();
        }
        outcome
    }
}

async fn probe(server: PgConnectOptions, within: Duration, state: Arc<State>) {
    loop {
        state.suspicion.notified().await;
        while let Err(reason) = attempt(&server, within).await {
            if !state.gone.send_replace(true) {
                tracing::warn!(reason, "the database server cannot be reached");
            }
            tokio::time::sleep(PAUSE).await;
        }
        if state.gone.send_replace(false) {
            tracing::info!("the database server is back");
        }
    }
}

/// Whether somebody is there: that one who answers "not you" or "too many" also is.
async fn attempt(server: &PgConnectOptions, within: Duration) -> Result<(), String> {
    match tokio::time::timeout(within, PgConnection::connect_with(server)).await {
        Ok(Ok(connection)) => {
            connection.close().await.ok();
            Ok(())
        }
        Ok(Err(sqlx::Error::Database(answer))) => match answer.code() {
            // Starting up, or shutting down.
            Some(code) if code.starts_with("57P") => Err(answer.message().to_owned()),
            _ => Ok(()),
        },
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

fn concerns_the_connection(error: &DbErr) -> bool {
    match driver_error(error) {
        Some(sqlx::Error::Database(answer)) => {
            answer.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        Some(
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed,
        ) => true,
        Some(_) => false,
        None => matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_) | DbErr::Custom(_)),
    }
}
