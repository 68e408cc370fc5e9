//! Timeouts of a socket that are nearly always those of the call before.
//!
//! ureq passes the rest of a request's timeout to each call, which a system call then sets, although
//! nothing but a few microseconds have passed.

use std::fmt;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::time::Duration as Time;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

/// Timeouts are multiples of this.
const STEP: Duration = Duration::from_millis(10);

/// A transport below TLS, with timeouts that are rounded up.
pub(super) struct SteadyTimeouts(pub(super) Box<dyn Transport>);

fn steady(mut timeout: NextTimeout) -> NextTimeout {
    if let Time::Exact(after) = timeout.after {
        timeout.after = Time::Exact(rounded(after));
    }
    timeout
}

fn rounded(after: Duration) -> Duration {
    let steps = after.as_nanos().div_ceil(STEP.as_nanos());
    STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

impl Transport for SteadyTimeouts {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, steady(timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(steady(timeout))
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }
}

impl fmt::Debug for SteadyTimeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyTimeouts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up() {
        let round = |micros| rounded(Duration::from_micros(micros)).as_micros();
        let of = [0, 1, 10_000, 10_001, 29_999_873].map(round);
        assert_eq!(of, [0, 10_000, 10_000, 20_000, 30_000_000]);
    }
}
