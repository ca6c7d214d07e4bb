//! Waking those who follow changes: within this process on SQLite, across processes on PostgreSQL.
//!
//! A wake-up says only that it is worth looking. One may be lost, so followers look from time to
//! time anyway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor as _, PgPool};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::SqlStore;
use super::bounded::Connections;

const CHANNEL: &str = "rolegate_changes";
/// How long a listening connection may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the answer to that may take, and a new connection.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_millis(500);

/// Wakes up whoever follows changes.
#[derive(Debug)]
pub struct Wakeups(watch::Receiver<()>);

impl Wakeups {
    /// Completes when there may be something new since the last time; never once the store is
    /// gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a store has for waking others.
pub(super) struct Waker {
    wake: watch::Sender<()>,
    /// Holds one call that came while the last was being sent, so any number of commits take at most
    /// one notification under way and one waiting.
    notify: Arc<Notify>,
    /// The pool of those who follow; `None` on SQLite.
    server: Option<PgPool>,
    /// End with the store.
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    listens: bool,
}

impl Waker {
    pub(super) fn new(followers: &Connections) -> Self {
        let notify = Arc::new(Notify::new());
        let mut tasks = Tasks::default();
        let server = (followers.get_database_backend() == DbBackend::Postgres)
            .then(|| followers.inner().get_postgres_connection_pool().clone());
        if server.is_some() {
            tasks.running.spawn(send(followers.clone(), Arc::clone(&notify)));
        }
        Waker { wake: watch::Sender::new(()), notify, server, tasks: Mutex::new(tasks) }
    }

    pub(super) fn notify(&self) {
        if self.server.is_some() {
            self.notify.notify_one();
        } else {
            self.wake.send_replace(());
        }
    }

    fn listen(&self) -> Wakeups {
        let receiver = self.wake.subscribe();
        if let Some(server) = &self.server {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            if !tasks.listens {
                tasks.listens = true;
                tasks.running.spawn(listen(server.clone(), self.wake.clone()));
            }
        }
        Wakeups(receiver)
    }

    pub(super) fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).running.abort_all();
    }
}

impl SqlStore {
    /// Tells every process that follows this database that there may be something new. Does not
    /// wait; commits do this by themselves.
    pub fn notify(&self) {
        self.inner.waker.notify();
    }

    /// Wakes up at commits: of this process on SQLite, of every process on PostgreSQL, where it
    /// reconnects by itself and wakes up for what it may have missed.
    #[must_use]
    pub fn listen(&self) -> Wakeups {
        self.inner.waker.listen()
    }
}

/// Sends one notification after another, for as long as there are any to send. Outside of the
/// transactions that they are about: inside, commits of the whole server would queue for them.
async fn send(followers: Connections, notify: Arc<Notify>) {
    loop {
        notify.notified().await;
        if let Err(error) = followers.execute_unprepared(&format!("NOTIFY {CHANNEL}")).await {
            tracing::debug!(%error, "a notification was not sent; followers find out by looking");
        }
    }
}

/// Listens for as long as the store is there, on one connection after another.
async fn listen(server: PgPool, wake: watch::Sender<()>) {
    loop {
        if let Err(error) = listen_once(&server, &wake).await {
            let error = super::meaning::plain(&error);
            tracing::debug!(error, "not listening for notifications; it is tried again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen_once(server: &PgPool, wake: &watch::Sender<()>) -> Result<(), sqlx::Error> {
    // A pool for each attempt: a listener that ends waits for the server once more, and if that
    // does not answer, nobody else should have to wait for the connection.
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        // With the password that counts now.
        .connect_lazy_with(server.connect_options().as_ref().clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    in_time(listener.listen(CHANNEL)).await?;
    // For what was missed so far.
    wake.send_replace(());
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {
                // As many as there are count as one.
                while listener.next_buffered().is_some() {}
                wake.send_replace(());
            }
            // The connection was lost and made again.
            Ok(Ok(None)) => wake.send_replace(()),
            Ok(Err(error)) => return Err(error),
            // Half a connection looks just like silence.
            Err(_) => in_time((&mut listener).execute("SELECT 1")).await.map(drop)?,
        };
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
