//! The clocks, for drivers. The modules below them read no clock.

use std::time::{Instant, SystemTime};

use crate::time::Time;

impl Time {
    /// Returns the time of the system clock.
    pub fn now() -> Time {
        Time::from(SystemTime::now())
    }
}

/// A clock that starts at the system clock's time and runs on its own: setting the system clock
/// meanwhile neither ends an operation early nor delays it.
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
