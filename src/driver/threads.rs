//! Threads that are joined at the end.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The function that a thread runs.
pub(crate) type Body = Box<dyn FnOnce() + Send>;

/// Starts a thread.
pub(crate) type Spawn = fn(Body) -> io::Result<JoinHandle<()>>;

/// Starts a thread with the standard library.
pub(crate) fn spawn(body: Body) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("acme-micro".to_owned()).spawn(body)
}

/// Threads that have been started and not been joined.
pub(super) struct Threads {
    spawn: Spawn,
    started: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub(super) fn new(spawn: Spawn) -> Threads {
        Threads { spawn, started: Mutex::default() }
    }

    fn started(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, body: Body) -> io::Result<()> {
        let mut started = self.started();
        // Join the threads that have ended by themselves.
        let (ended, going) = started.drain(..).partition(JoinHandle::is_finished);
        *started = going;
        join(ended);
        started.push((self.spawn)(body)?);
        Ok(())
    }

    /// Waits for all threads to end.
    pub(super) fn join(&self) {
        let all = std::mem::take(&mut *self.started());
        join(all);
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}
