//! The clocks, for drivers. Nothing below them reads one.

use std::time::{Instant, SystemTime};

use crate::time::Time;

impl Time {
    /// The system clock's time.
    pub fn now() -> Time {
        Time::from(SystemTime::now())
    }
}

/// Begins with the system clock's time and goes on by itself: whoever sets the system clock
/// meanwhile neither ends an operation early nor holds it up.
#[derive(Clone, Copy)]
pub(crate) struct SteadyClock {
    from: Time,
    since: Instant,
}

impl SteadyClock {
    pub(crate) fn new() -> SteadyClock {
        SteadyClock { from: Time::now(), since: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        self.from.after(self.since.elapsed())
    }
}
