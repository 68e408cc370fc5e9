//! The system's clock, for drivers. Nothing below them reads it.

use std::time::SystemTime;

use crate::time::Time;

impl Time {
    /// The system clock's time.
    pub fn now() -> Time {
        Time::from(SystemTime::now())
    }
}
