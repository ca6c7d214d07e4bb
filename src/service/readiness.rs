//! Whether this server should be sent requests. One value, told by whoever knows (the start, the
//! end, and what watches the database in between) and asked by the health endpoints.

use std::sync::Arc;

use tokio::sync::watch;

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Started,
    /// It ends; there is no way back.
    Draining,
}

#[derive(Debug, Clone)]
struct State {
    phase: Phase,
    hindrance: Option<Arc<str>>,
    impairment: Option<Arc<str>>,
}

/// The server's readiness. Clones share it.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: Arc<watch::Sender<State>>,
}

impl Readiness {
    /// Of a server that is starting.
    #[must_use]
    pub fn starting() -> Self {
        let state = State { phase: Phase::Starting, hindrance: None, impairment: None };
        Readiness { state: Arc::new(watch::Sender::new(state)) }
    }

    /// It has started.
    pub fn started(&self) {
        self.state.send_if_modified(|state| {
            let first = state.phase == Phase::Starting;
            if first {
                state.phase = Phase::Started;
            }
            first
        });
    }

    /// It takes no new work from now on.
    pub fn draining(&self) {
        self.state.send_modify(|state| state.phase = Phase::Draining);
    }

    /// It runs but cannot do its work, or (with none) can again. The reason goes to whoever may ask
    /// the health endpoints: no addresses, no SQL.
    pub fn hindered(&self, reason: Option<&str>) {
        self.state.send_if_modified(|state| {
            let changed = state.hindrance.as_deref() != reason;
            if changed {
                state.hindrance = reason.map(Arc::from);
            }
            changed
        });
    }

    /// It does its work but for a part of it, changes say, or (with none) all of it again. It stays
    /// ready: decisions are most of it, and no other server would write better to the same disk.
    pub fn impaired(&self, reason: Option<&str>) {
        self.state.send_if_modified(|state| {
            let changed = state.impairment.as_deref() != reason;
            if changed {
                state.impairment = reason.map(Arc::from);
            }
            // Nobody waits for it.
            false
        });
    }

    /// What it cannot do although it is ready.
    #[must_use]
    pub fn impairment(&self) -> Option<Arc<str>> {
        self.state.borrow().impairment.clone()
    }

    /// Nothing when it is ready, else why it is not.
    #[must_use]
    pub fn obstacle(&self) -> Option<Arc<str>> {
        let state = self.state.borrow();
        match state.phase {
            Phase::Starting => Some(match &state.hindrance {
                Some(reason) => Arc::from(format!("starting: {reason}")),
                None => Arc::from("starting"),
            }),
            Phase::Draining => Some(Arc::from("draining")),
            Phase::Started => state.hindrance.clone(),
        }
    }

    /// Completes once something was told after `seen` was made or last completed.
    pub async fn changed(&self, seen: &mut Seen) {
        // It cannot be closed: this keeps the sender.
        seen.0.changed().await.ok();
    }

    /// Begins to watch. What was told before counts as a change.
    #[must_use]
    pub fn watch(&self) -> Seen {
        let mut receiver = self.state.subscribe();
        receiver.mark_changed();
        Seen(receiver)
    }
}

/// What one watcher has seen.
#[derive(Debug)]
pub struct Seen(watch::Receiver<State>);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_between_start_and_end_unless_something_hinders() {
        let readiness = Readiness::starting();
        let obstacle = || readiness.obstacle().map(|reason| reason.to_string());
        assert_eq!(obstacle().as_deref(), Some("starting"));
        readiness.hindered(Some("the database is gone"));
        assert_eq!(obstacle().as_deref(), Some("starting: the database is gone"));
        readiness.hindered(None);
        readiness.started();
        assert_eq!(obstacle(), None);
        let mut seen = readiness.watch();
        readiness.changed(&mut seen).await;
        readiness.hindered(Some("the database is gone"));
        readiness.changed(&mut seen).await;
        assert_eq!(obstacle().as_deref(), Some("the database is gone"));
        readiness.hindered(None);
        assert_eq!(obstacle(), None);
        readiness.draining();
        readiness.started();
        assert_eq!(obstacle().as_deref(), Some("draining"));
    }
}
