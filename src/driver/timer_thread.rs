//! The thread that keeps the time, so that the host needs no timer.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ready_queue::ReadyQueue;
use super::threads::{Spawn, Threads};

/// Nudges the ready when the time has come.
pub(super) struct TimerThread {
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    ready: Arc<ReadyQueue>,
    linger: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    at: Option<Instant>,
    /// There is a thread.
    keeping: bool,
    /// It is needed.
    wanted: bool,
    stopped: bool,
}

impl TimerThread {
    pub(super) fn new(ready: Arc<ReadyQueue>, spawn: Spawn, linger: Duration) -> TimerThread {
        let shared = Shared { ready, linger, state: Mutex::default(), changed: Condvar::new() };
        TimerThread { shared: Arc::new(shared), threads: Threads::new(spawn) }
    }

    /// Makes sure that the timer_thread will ring.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        state.wanted = true;
        if !state.keeping {
            let shared = self.shared.clone();
            self.threads.start(Box::new(move || shared.keep_time()))?;
            state.keeping = true;
        }
        Ok(())
    }

    /// The timer_thread is not needed for now.
    pub(super) fn rest(&self) {
        let mut state = self.shared.state();
        (state.at, state.wanted) = (None, false);
        self.shared.changed.notify_one();
    }

    /// Rings then, once, and not at an earlier time set before.
    pub(super) fn set(&self, at: Option<Instant>) {
        let mut state = self.shared.state();
        if state.at != at {
            state.at = at;
            self.shared.changed.notify_one();
        }
    }

    #[cfg(test)]
    pub(super) fn is_going(&self) -> bool {
        self.shared.state().keeping
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_one();
        self.threads.join();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_time(&self) {
        let mut state = self.state();
        let mut rested = false;
        while !state.stopped {
            let now = Instant::now();
            let sleep = match state.at {
                Some(at) if at <= now => {
                    state.at = None;
                    self.ready.nudge();
                    continue;
                }
                Some(at) => at.saturating_duration_since(now),
                None if rested && !state.wanted => break,
                None => self.linger,
            };
            let waited = self.changed.wait_timeout(state, sleep);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            rested = timeout.timed_out();
            state = woken;
        }
        state.keeping = false;
    }
}
