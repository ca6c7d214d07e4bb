//! Whether the database server can be reached at all. While it cannot, nobody waits for it.
//!
//! A pool goes on trying until the patience of whoever asks is at its end, one after the other, and
//! cannot tell a server that is gone from one that is busy. So whenever something goes wrong with a
//! connection, one task tries to make a new one; if it cannot, everybody is told at once, until it
//! can.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::DbErr;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::error::driver_error;
use super::history::{Lineage, Purpose};
use super::meaning::{for_probes, plain};
use super::open::{Server, SessionFault, SessionSetup};
use crate::domain::throttle::Throttle;

/// Between two attempts while the server is gone.
const PAUSE: Duration = Duration::from_millis(250);
/// A server that takes longer to let somebody in counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long something that the server said counts as what is wrong with it.
const LASTS: Duration = Duration::from_secs(60);

/// Shared by all pools of a store.
#[derive(Debug)]
pub(super) struct Reach {
    state: Arc<State>,
    tasks: [AbortHandle; 2],
}

#[derive(Debug)]
struct State {
    /// Why it counts as gone.
    gone: watch::Sender<Option<Arc<str>>>,
    suspicion: Notify,
    /// What a connection found out about sessions that are not this program's own.
    shared: OnceLock<String>,
    /// What the server said last that does not pass by itself, for health endpoints.
    trouble: Mutex<Option<(Instant, &'static str)>>,
}

impl State {
    fn met(&self, error: &sqlx::Error) {
        if let Some(trouble) = for_probes(error) {
            let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((Instant::now(), trouble));
        }
    }
}

/// What a pool's connections tell when one of them cannot be used. Holds no pool.
#[derive(Debug, Clone)]
pub(super) struct Alarm(Arc<State>);

impl Alarm {
    /// Has the server looked at, and gives the fault on.
    pub(super) fn raise(&self, fault: SessionFault) -> sqlx::Error {
        if matches!(fault, SessionFault::Shared(_)) {
            tracing::debug!(%fault, "a connection cannot be used");
            self.0.shared.set(fault.to_string()).ok();
        }
        self.0.suspicion.notify_one();
        fault.into()
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Reach {
    pub(super) fn new(
        server: Server,
        setup: SessionSetup,
        connect_timeout: Duration,
        lineage: Arc<Lineage>,
    ) -> Self {
        let (gone, suspicion) = (watch::Sender::new(None), Notify::new());
        let state =
            Arc::new(State { gone, suspicion, shared: OnceLock::new(), trouble: Mutex::default() });
        let within = connect_timeout.min(PATIENCE);
        let keeping = tokio::spawn(server.clone().keep_password());
        let probing = tokio::spawn(probe(server, setup, within, lineage, Arc::clone(&state)));
        Reach { state, tasks: [probing.abort_handle(), keeping.abort_handle()] }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.gone.borrow().is_some()
    }

    /// What the server said of late that does not pass by itself: no addresses, no SQL.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        let last = self.state.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < LASTS).map(|(_, trouble)| trouble)
    }

    /// Why sessions were found not to be this program's own, if they were.
    pub(super) fn shared_sessions(&self) -> Option<&str> {
        self.state.shared.get().map(String::as_str)
    }

    /// For connections to tell that they cannot be used.
    pub(super) fn alarm(&self) -> Alarm {
        Alarm(Arc::clone(&self.state))
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
            reason = why(&mut gone) => {
                return Err(DbErr::Custom(format!("the database server cannot be used: {reason}")));
            }
            outcome = statement => outcome,
        };
        if let Err(error) = &outcome {
            if let Some(error) = driver_error(error) {
                self.state.met(error);
            }
            if concerns_the_connection(error) {
                self.state.suspicion.notify_one();
            }
        }
        outcome
    }
}

/// Waits until the server counts as gone, and says why it does.
async fn why(gone: &mut watch::Receiver<Option<Arc<str>>>) -> Arc<str> {
    loop {
        let reason = gone.borrow_and_update().clone();
        if let Some(reason) = reason {
            return reason;
        }
        if gone.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn probe(
    server: Server,
    setup: SessionSetup,
    within: Duration,
    lineage: Arc<Lineage>,
    state: Arc<State>,
) {
    loop {
        state.suspicion.notified().await;
        while let Err(reason) = attempt(&server, &setup, &lineage, within, &state).await {
            let reason: Arc<str> = reason.into();
            let before = state.gone.send_replace(Some(Arc::clone(&reason)));
            if before.as_ref() != Some(&reason) {
                tracing::warn!(%reason, "the database server cannot be used");
            }
            tokio::time::sleep(PAUSE).await;
        }
        if state.gone.send_replace(None).is_some() {
            tracing::info!("the database server is back");
        }
    }
}

/// Whether somebody is there who may be followed, and gives out sessions that can be used: one who
/// answers "not you" or "too many" is there, too.
async fn attempt(
    server: &Server,
    setup: &SessionSetup,
    lineage: &Lineage,
    within: Duration,
    state: &State,
) -> Result<(), String> {
    static ANSWERED: Throttle = Throttle::each_second();
    let asked = async {
        let mut connection = PgConnection::connect_with(&server.options()).await?;
        setup.establish(&mut connection).await?;
        lineage.admit(&mut connection, Purpose::Follow).await?;
        connection.close().await.ok();
        Ok(())
    };
    match tokio::time::timeout(within, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(SessionFault::Database(error))) => {
            state.met(&error);
            match error.as_database_error().map(|answer| answer.code()) {
                // Starting up, or shutting down.
                Some(Some(code)) if code.starts_with("57P") => Err(plain(&error)),
                Some(code) => {
                    // It may be in the file already.
                    let refused = code.is_some_and(|code| code.starts_with("28"));
                    if !(refused && server.refresh().await) && ANSWERED.admit().is_some() {
                        let said = plain(&error);
                        tracing::warn!(said, "the database server makes no new connection");
                    }
                    Ok(())
                }
                None => {
                    lineage.nobody();
                    Err(plain(&error))
                }
            }
        }
        Ok(Err(fault @ (SessionFault::Unfit(_) | SessionFault::Shared(_)))) => {
            Err(fault.to_string())
        }
        Err(_) => {
            lineage.nobody();
            Err("it does not answer".to_owned())
        }
    }
}

fn concerns_the_connection(error: &DbErr) -> bool {
    match driver_error(error) {
        Some(sqlx::Error::Database(answer)) => answer
            .code()
            .is_some_and(|code| ["08", "28", "57P"].iter().any(|class| code.starts_with(class))),
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
