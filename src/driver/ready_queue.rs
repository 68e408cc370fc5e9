//! The queue of operations to poll, and the descriptor that is readable while it has work.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use super::slab::Key;

/// Operations to poll. Any thread adds to it; the host's thread takes out of it.
pub(super) struct ReadyQueue {
    state: Mutex<State>,
    /// The descriptor for the host: readable while the flag is up.
    reader: UnixStream,
    writer: UnixStream,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// Whether the socket holds a byte.
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

    /// Adds an operation to poll.
    pub(super) fn push(&self, key: Key) {
        let mut state = self.state();
        state.ready.push_back(key);
        self.raise(&mut state);
    }

    /// Makes the descriptor readable for work of another kind.
    pub(super) fn notify(&self) {
        self.raise(&mut self.state());
    }

    /// Takes the next operation to poll. Lowers the flag if the queue is empty.
    pub(super) fn pop(&self) -> Option<Key> {
        let mut state = self.state();
        let key = state.ready.pop_front();
        if key.is_none() {
            self.lower(&mut state);
        }
        key
    }

    /// Leaves the rest for the next call. Lowers and raises the flag, for edge-triggered loops.
    pub(super) fn stay_readable(&self) {
        let mut state = self.state();
        self.lower(&mut state);
        self.raise(&mut state);
    }

    // Nothing else uses the socket: one byte fits, and it holds one while the flag is up.

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

/// The waker of one operation: puts it into the queue, once until it is polled.
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

    /// Marks the start of a poll: the next wake puts the operation into the queue again.
    pub(super) fn begin_poll(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Marks that the operation has left the driver. Its requests are no longer sent.
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
            self.ready.push(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::slab::Slab;

    /// Reads the bytes in the socket, and returns their number.
    fn bytes(queue: &ReadyQueue) -> usize {
        (&queue.reader).read(&mut [0; 64]).unwrap_or(0)
    }

    fn queue_and_keys() -> (Arc<ReadyQueue>, Key, Key) {
        let mut slab = Slab::new();
        let mut key = || slab.insert(|_| ()).unwrap();
        (Arc::new(ReadyQueue::new().unwrap()), key(), key())
    }

    #[test]
    fn the_flag_is_up_while_there_is_something() {
        let (queue, a, b) = queue_and_keys();
        assert_eq!((queue.pop(), bytes(&queue)), (None, 0));
        for _ in 0..100_000 {
            queue.push(a); // more than a socket holds
        }
        queue.push(b);
        for _ in 0..100_000 {
            assert_eq!(queue.pop(), Some(a));
        }
        assert_eq!((queue.pop(), bytes(&queue)), (Some(b), 1));
        assert_eq!((queue.pop(), bytes(&queue)), (None, 0));
        queue.notify();
        queue.notify();
        assert_eq!(bytes(&queue), 1);
    }

    #[test]
    fn the_flag_is_raised_again_for_the_rest() {
        let (queue, a, _) = queue_and_keys();
        queue.push(a);
        queue.stay_readable();
        assert_eq!((queue.pop(), bytes(&queue)), (Some(a), 1));
    }

    #[test]
    fn an_operation_is_in_it_once() {
        let (queue, a, b) = queue_and_keys();
        let (of_a, of_b) = (
            Arc::new(OperationWaker::new(a, queue.clone())),
            Arc::new(OperationWaker::new(b, queue.clone())),
        );
        for waker in [&of_a, &of_b, &of_a, &of_b] {
            waker.wake_by_ref();
        }
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(a), Some(b), None));
        of_a.wake_by_ref();
        assert_eq!(queue.pop(), None); // it has not been polled
        of_a.begin_poll();
        of_a.wake_by_ref();
        assert_eq!(queue.pop(), Some(a));
    }
}
