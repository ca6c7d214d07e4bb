//! A thread that serves connections.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;

use super::Serving;
use super::accept::Arrival;
use super::connection::Connections;

/// A thread with a runtime of its own. It ends with [`Worker::stop`], and cuts off what it still
/// serves then.
#[derive(Debug)]
pub(super) struct Worker {
    given: Mutex<Option<mpsc::UnboundedSender<Arrival>>>,
    open: Arc<AtomicUsize>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Worker {
    /// Starts it. What it does not do itself is for the runtime that this is called in.
    pub(super) fn start(number: usize, serving: Serving) -> io::Result<Self> {
        let (given, arrivals) = mpsc::unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let open = Arc::new(AtomicUsize::new(0));
        let (counted, elsewhere) = (Arc::clone(&open), Handle::current());
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(serve(arrivals, Connections::new(&serving, elsewhere), counted));
        })?;
        Ok(Worker { given: Mutex::new(Some(given)), open, thread: Mutex::new(Some(thread)) })
    }

    /// How many connections it has.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Gives it one more; the channel is bounded by what the door lets in.
    pub(super) fn give(&self, arrival: Arrival) {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(given) = &*given {
            self.open.fetch_add(1, Ordering::Relaxed);
            given.send(arrival).ok();
        }
    }

    /// Ends the thread, and waits for that.
    pub(super) fn stop(&self) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that served connections had panicked");
        }
    }
}

/// Serves until nothing more can come.
async fn serve(
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    connections: Connections,
    open: Arc<AtomicUsize>,
) {
    let connections = Arc::new(connections);
    while let Some(arrival) = arrivals.recv().await {
        let (connections, leaving) = (Arc::clone(&connections), Leaving(Arc::clone(&open)));
        tokio::spawn(async move {
            connections.serve(arrival).await;
            drop(leaving);
        });
    }
}

/// Counts a connection that ends, however it does.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
