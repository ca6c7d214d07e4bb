//! What ends a connection besides its client: its age, its idleness, a server that drains, a
//! certificate that does not hold any more. A task beside the connection waits for all of that, so
//! that the connection itself looks at two flags and no clock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::server::limits::Place;
use crate::server::strangers::{Ending, Why};

/// How often idleness is looked for within the time that is allowed.
const LOOKS: u32 = 4;
/// How long a connection without a call may take to end after it was asked to. A client that heeds the
/// request ends it in a round trip; one that does not would keep it, and a server that drains, for as
/// long as calls may take.
const IDLE_END: Duration = Duration::from_secs(2);

/// The same for a connection of nobody known.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_secs(1);

/// What may end a connection.
pub(super) struct Minder {
    /// When it is asked to end.
    pub(super) age: Duration,
    /// How long it may be without a call.
    pub(super) idle: Option<Duration>,
    /// How long it may take to end after that.
    pub(super) patience: Duration,
    /// Turns true when the server drains.
    pub(super) draining: watch::Receiver<bool>,
    /// Completes when the client's certificate does not hold any more.
    pub(super) revoked: Option<oneshot::Receiver<()>>,
    /// Asks it to end before its time.
    pub(super) ending: Arc<Ending>,
    /// The place of the connection, for as long as it has one.
    pub(super) place: Weak<Place>,
    pub(super) activity: Arc<Activity>,
}

/// What a connection looks at.
pub(super) struct Orders {
    /// To end when its calls have.
    pub(super) politely: oneshot::Receiver<()>,
    /// To end.
    pub(super) now: oneshot::Receiver<()>,
}

/// Calls of a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    open: AtomicUsize,
    probe_answers: AtomicUsize,
}

/// A call, or the body of its answer, until it is dropped. Checks that are answered at once have none.
pub(super) struct OpenCall(Arc<Activity>);

impl Clone for OpenCall {
    fn clone(&self) -> Self {
        self.0.open()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer to a probe until it was sent. It keeps no connection from being idle.
pub(super) struct ProbeAnswer(Arc<Activity>);

impl Drop for ProbeAnswer {
    fn drop(&mut self) {
        self.0.probe_answers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Notes a call. One thread does.
    pub(super) fn begin(&self) {
        self.begun.store(self.begun.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Counts a call that takes its time.
    pub(super) fn open(self: &Arc<Self>) -> OpenCall {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(self))
    }

    /// Counts the answer to a probe.
    pub(super) fn answer_probe(self: &Arc<Self>) -> ProbeAnswer {
        self.probe_answers.fetch_add(1, Ordering::Relaxed);
        ProbeAnswer(Arc::clone(self))
    }

    /// Counts the streams of the transport for calls that take their time, and for probes.
    pub(super) fn streams(&self) -> usize {
        self.open.load(Ordering::Relaxed) + self.probe_answers.load(Ordering::Relaxed)
    }
}

impl Minder {
    /// Minds a connection until it is gone.
    pub(super) fn start(self) -> Orders {
        let (ask, politely) = oneshot::channel();
        let (tell, now) = oneshot::channel();
        tokio::spawn(self.mind(ask, tell));
        Orders { politely, now }
    }

    async fn mind(self, mut ask: oneshot::Sender<()>, tell: oneshot::Sender<()>) {
        let Minder { age, idle, mut patience, mut draining, revoked, ending, place, activity } =
            self;
        let revoked = async {
            match revoked {
                // Dropped unsaid: it cannot be vouched for any more either.
                Some(revoked) => drop(revoked.await),
                None => std::future::pending().await,
            }
        };
        let old = sleep_until(Instant::now() + age);
        tokio::pin!(revoked, old);
        tokio::select! {
            () = ask.closed() => return,
            () = &mut revoked => {
                tell.send(()).ok();
                return;
            }
            why = ending.asked() => match why {
                Why::Displaced | Why::Unread | Why::Crowded => {
                    tell.send(()).ok();
                    return;
                }
                Why::Refused if place.upgrade().is_none_or(|place| place.is_of_nobody()) => {
                    patience = PATIENCE_WITH_STRANGERS;
                }
                Why::Refused => {}
            },
            () = &mut old => {}
            () = is_idle(&activity, idle) => {}
            // An error: the server is gone, which is the same.
            _ = draining.wait_for(|draining| *draining) => {}
        }
        ask.send(()).ok();
        let mut tell = tell;
        tokio::select! {
            () = tell.closed() => return,
            () = &mut revoked => {}
            // What it is asked to end for is not a reason again.
            () = displaced(&ending) => {}
            () = is_idle(&activity, Some(IDLE_END.min(patience))) => {}
            () = sleep(patience) => {}
        }
        tell.send(()).ok();
    }
}

/// Completes when its place is wanted.
async fn displaced(ending: &Ending) {
    if ending.asked().await == Why::Refused {
        std::future::pending().await
    }
}

/// Completes when no call was begun, and none was under way, for as long as that may be.
async fn is_idle(activity: &Activity, allowed: Option<Duration>) {
    let Some(allowed) = allowed else { return std::future::pending().await };
    let mut quiet = 0;
    let mut seen = activity.begun();
    while quiet < LOOKS {
        sleep(allowed / LOOKS).await;
        let now = activity.begun();
        let open = activity.open.load(Ordering::Relaxed);
        quiet = if now == seen && open == 0 { quiet + 1 } else { 0 };
        seen = now;
    }
}
