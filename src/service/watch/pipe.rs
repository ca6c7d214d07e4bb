//! Between a stream's task and its client: a few messages, and the end. Unlike a channel, the end
//! overtakes what was not taken, so that a client that does not read holds no memory of ours. Such
//! a client has lost nothing: it resumes behind what it has taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::{Delivery, EndCause, WatchEnd};

/// How many messages wait for the client.
const CAPACITY: usize = 2;

/// Both ends of one, for a client that begins with this cursor.
pub(super) fn pipe(cursor: String) -> (Inlet, Outlet) {
    let state = State { taken: cursor, ..State::default() };
    let shared = Arc::new(Shared { state: Mutex::new(state), taken: Notify::new() });
    (Inlet(Arc::clone(&shared)), Outlet(shared))
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something was taken, or the client went.
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Delivery>,
    /// The cursor of what was taken last.
    taken: String,
    end: End,
    left: bool,
    reader: Option<Waker>,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    Told(WatchEnd),
    Over,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left;

/// Where the task puts messages.
#[derive(Debug)]
pub(super) struct Inlet(Arc<Shared>);

impl Inlet {
    /// Puts one in, as soon as there is room.
    pub(super) async fn put(&self, delivery: Delivery) -> Result<(), Left> {
        self.wait_until(|state| state.left || state.waiting.len() < CAPACITY).await;
        let mut state = self.0.state();
        if state.left {
            return Err(Left);
        }
        state.waiting.push_back(delivery);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Completes when the client has gone.
    pub(super) async fn left(&self) {
        self.wait_until(|state| state.left).await;
    }

    /// Ends it. What was not taken is dropped.
    pub(super) fn end(self, why: EndCause) {
        let mut state = self.0.state();
        let cursor = std::mem::take(&mut state.taken);
        state.end = End::Told(WatchEnd { why, cursor });
        state.waiting = VecDeque::new();
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Only the task waits here, one thing at a time, so one stored wake-up is enough.
    async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let taken = self.0.taken.notified();
            if condition(&self.0.state()) {
                return;
            }
            taken.await;
        }
    }
}

impl Drop for Inlet {
    /// A task that was aborted has told no end: its client gets none but the stream's.
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(state.end, End::Open) {
            state.end = End::Over;
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// Where the client takes them out.
#[derive(Debug)]
pub(super) struct Outlet(Arc<Shared>);

impl Outlet {
    /// The next message, or the end, once.
    pub(super) fn poll_take(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Delivery, WatchEnd>>> {
        let mut state = self.0.state();
        if let Some(delivery) = state.waiting.pop_front() {
            state.taken.clone_from(&delivery.cursor);
            drop(state);
            self.0.taken.notify_one();
            return Poll::Ready(Some(Ok(delivery)));
        }
        match std::mem::replace(&mut state.end, End::Over) {
            End::Told(end) => Poll::Ready(Some(Err(end))),
            End::Over => Poll::Ready(None),
            End::Open => {
                state.end = End::Open;
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.left = true;
        state.waiting = VecDeque::new();
        drop(state);
        self.0.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(cursor: &str) -> Delivery {
        Delivery { changes: vec![], cursor: cursor.to_owned() }
    }

    fn take(outlet: &Outlet) -> Poll<Option<Result<Delivery, WatchEnd>>> {
        outlet.poll_take(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn what_was_not_taken_waits_or_goes_with_the_end() {
        let (inlet, outlet) = pipe("start".to_owned());
        assert!(take(&outlet).is_pending());
        for cursor in ["a", "b"] {
            inlet.put(delivery(cursor)).await.unwrap();
        }
        let mut third = Box::pin(inlet.put(delivery("c")));
        assert!(third.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(matches!(take(&outlet), Poll::Ready(Some(Ok(taken))) if taken.cursor == "a"));
        third.await.unwrap();
        inlet.end(EndCause::Draining);
        let Poll::Ready(Some(Err(end))) = take(&outlet) else { panic!("no end") };
        assert_eq!((end.why, end.cursor.as_str()), (EndCause::Draining, "a"));
        assert!(matches!(take(&outlet), Poll::Ready(None)));
    }

    #[tokio::test]
    async fn either_side_notices_that_the_other_has_gone() {
        let (inlet, outlet) = pipe(String::new());
        drop(outlet);
        inlet.left().await;
        assert_eq!(inlet.put(delivery("a")).await, Err(Left));
        let (inlet, outlet) = pipe(String::new());
        drop(inlet);
        assert!(matches!(take(&outlet), Poll::Ready(None)));
    }
}
