//! Which operations are to be looked at, and the descriptor that says that there are some.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use super::slab::Key;

/// Filled by any thread, emptied by the host's.
pub(super) struct ReadyQueue {
    state: Mutex<State>,
    /// Readable while the flag is up.
    reader: UnixStream,
    writer: UnixStream,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// There is a byte in the socket.
    flag_up: bool,
}

impl ReadyQueue {
    pub(super) fn new() -> io::Result<ReadyQueue> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(ReadyQueue { state: Mutex::default(), reader, writer })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This operation is to be looked at.
    pub(super) fn put(&self, key: Key) {
        let mut state = self.state();
        state.ready.push_back(key);
        self.raise(&mut state);
    }

    /// Something else has happened.
    pub(super) fn nudge(&self) {
        self.raise(&mut self.state());
    }

    /// The next one to be looked at. The flag goes down when there is none.
    pub(super) fn take(&self) -> Option<Key> {
        let mut state = self.state();
        let key = state.ready.pop_front();
        if key.is_none() {
            self.lower(&mut state);
        }
        key
    }

    /// What is left is for the next time. The flag comes up anew, for hosts that look for the edge.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        self.lower(&mut state);
        self.raise(&mut state);
    }

    // The socket is ours alone: one byte fits, and one is there when the flag is up.

    fn raise(&self, state: &mut State) {
        if !std::mem::replace(&mut state.flag_up, true) {
            let _ = (&self.writer).write(&[1]);
        }
    }

    fn lower(&self, state: &mut State) {
        if std::mem::take(&mut state.flag_up) {
            let _ = (&self.reader).read(&mut [0]);
        }
    }
}

impl AsFd for ReadyQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// The way of one operation to the ready, for whoever has news for it.
pub(super) struct OperationWaker {
    key: Key,
    ready: Arc<ReadyQueue>,
    queued: AtomicBool,
    gone: AtomicBool,
}

impl OperationWaker {
    pub(super) fn new(key: Key, ready: Arc<ReadyQueue>) -> OperationWaker {
        OperationWaker { key, ready, queued: AtomicBool::new(false), gone: AtomicBool::new(false) }
    }

    /// From here on, news puts it into the ready again.
    pub(super) fn begin_poll(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// The operation has left the driver: what is still to be sent for it need not be.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl Wake for OperationWaker {
    fn wake(self: Arc<OperationWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<OperationWaker>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.put(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::slab::Slab;

    /// Bytes in the socket; they are gone then.
    fn bytes(ready: &ReadyQueue) -> usize {
        (&ready.reader).read(&mut [0; 64]).unwrap_or(0)
    }

    fn queue_and_keys() -> (Arc<ReadyQueue>, Key, Key) {
        let mut slab = Slab::new();
        let mut key = || slab.insert(|_| ()).unwrap();
        (Arc::new(ReadyQueue::new().unwrap()), key(), key())
    }

    #[test]
    fn the_flag_is_up_while_there_is_something() {
        let (ready, a, b) = queue_and_keys();
        assert_eq!((ready.take(), bytes(&ready)), (None, 0));
        for _ in 0..100_000 {
            ready.put(a); // more than a socket holds
        }
        ready.put(b);
        for _ in 0..100_000 {
            assert_eq!(ready.take(), Some(a));
        }
        assert_eq!((ready.take(), bytes(&ready)), (Some(b), 1));
        assert_eq!((ready.take(), bytes(&ready)), (None, 0));
        ready.nudge();
        ready.nudge();
        assert_eq!(bytes(&ready), 1);
    }

    #[test]
    fn what_is_left_raises_the_flag_anew() {
        let (ready, a, _) = queue_and_keys();
        ready.put(a);
        ready.leave();
        assert_eq!((ready.take(), bytes(&ready)), (Some(a), 1));
    }

    #[test]
    fn an_operation_is_in_it_once() {
        let (ready, a, b) = queue_and_keys();
        let (of_a, of_b) = (
            Arc::new(OperationWaker::new(a, ready.clone())),
            Arc::new(OperationWaker::new(b, ready.clone())),
        );
        for waker in [&of_a, &of_b, &of_a, &of_b] {
            waker.wake_by_ref();
        }
        assert_eq!((ready.take(), ready.take(), ready.take()), (Some(a), Some(b), None));
        of_a.wake_by_ref();
        assert_eq!(ready.take(), None); // has not been looked at
        of_a.begin_poll();
        of_a.wake_by_ref();
        assert_eq!(ready.take(), Some(a));
    }
}
