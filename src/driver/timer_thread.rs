//! The thread that waits for timers, so that the host needs none.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ready_queue::ReadyQueue;
use super::threads::{Spawn, Threads};

/// Notifies the ready queue at a given time.
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
    /// The thread exists.
    running: bool,
    /// The driver has operations, so the thread must not end.
    wanted: bool,
    stopped: bool,
}

impl TimerThread {
    pub(super) fn new(ready: Arc<ReadyQueue>, spawn: Spawn, linger: Duration) -> TimerThread {
        let shared = Shared { ready, linger, state: Mutex::default(), changed: Condvar::new() };
        TimerThread { shared: Arc::new(shared), threads: Threads::new(spawn) }
    }

    /// Starts the thread, unless it is running.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        state.wanted = true;
        if !state.running {
            let shared = self.shared.clone();
            self.threads.start(Box::new(move || shared.run()))?;
            state.running = true;
        }
        Ok(())
    }

    /// Clears the time, and lets the thread end when it is idle.
    pub(super) fn pause(&self) {
        let mut state = self.shared.state();
        (state.at, state.wanted) = (None, false);
        self.shared.changed.notify_one();
    }

    /// Sets the time to notify the queue at, once; replaces a time set before.
    pub(super) fn set(&self, at: Option<Instant>) {
        let mut state = self.shared.state();
        if state.at != at {
            state.at = at;
            self.shared.changed.notify_one();
        }
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.shared.state().running
    }

    /// Ends the thread, and waits for it.
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

    fn run(&self) {
        let mut state = self.state();
        let mut idle = false;
        while !state.stopped {
            let now = Instant::now();
            let sleep = match state.at {
                Some(at) if at <= now => {
                    state.at = None;
                    self.ready.notify();
                    continue;
                }
                Some(at) => at.saturating_duration_since(now),
                None if idle && !state.wanted => break,
                None => self.linger,
            };
            let waited = self.changed.wait_timeout(state, sleep);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            idle = timeout.timed_out();
            state = woken;
        }
        state.running = false;
    }
}
