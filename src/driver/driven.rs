//! What the parts of a driver share: its limits, and an operation whose type of result is hidden.

use std::panic::{self, AssertUnwindSafe};
use std::task::Waker;

use crate::engine::{Operation, Reply, Step};
use crate::error::Result;
use crate::time::Time;

/// Limits of a [`Driver`](super::Driver).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DriverOptions {
    /// Threads that send requests, one at a time each. They are started when there is something to
    /// send; one more keeps the time.
    pub max_threads: usize,
    /// Requests under way at once to one host, and with it connections: a CA that hangs does not
    /// keep the others waiting as long as this is smaller than `max_threads`.
    pub max_requests_per_ca: usize,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions { max_threads: 8, max_requests_per_ca: 4 }
    }
}

/// An operation, whatever its result.
pub(super) trait Driven: Send + Sync {
    fn poll(&self, now: Time) -> Result<Step>;
    fn reply(&self, request_id: u64) -> Reply<'_>;
    fn set_waker(&self, waker: Option<Waker>);
    fn cancel(&self);
}

impl<T: Send> Driven for Operation<T> {
    fn poll(&self, now: Time) -> Result<Step> {
        let poll = || Operation::poll(self, now);
        panic::catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|bug| {
            // Dropping it could panic again. The others go on; the next poll of this one tells.
            std::mem::forget(bug);
            poll()
        })
    }

    fn reply(&self, request_id: u64) -> Reply<'_> {
        Operation::reply(self, request_id)
    }

    fn set_waker(&self, waker: Option<Waker>) {
        Operation::set_waker(self, waker);
    }

    fn cancel(&self) {
        Operation::cancel(self);
    }
}
