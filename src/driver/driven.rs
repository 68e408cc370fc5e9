//! Things that the parts of a driver share: its limits, and an operation with any type of result.

use std::panic::{self, AssertUnwindSafe};
use std::task::Waker;

use crate::engine::{Operation, Reply, Step};
use crate::error::Result;
use crate::time::Time;

/// Limits of a [`Driver`](super::Driver).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DriverOptions {
    /// Maximum number of threads that send requests, one at a time each. They start when a request
    /// is to be sent; one more thread waits for timers.
    pub max_threads: usize,
    /// Maximum number of concurrent requests to one host, each with a connection. If this is
    /// smaller than `max_threads`, a CA that hangs does not delay the others.
    pub max_requests_per_ca: usize,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions { max_threads: 8, max_requests_per_ca: 4 }
    }
}

/// An operation with any type of result.
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
            // Dropping it could panic again. The next poll of this operation returns the error.
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
