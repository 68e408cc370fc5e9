//! How much a manager asks of a CA: ceilings, pauses, and when to give up.

use std::time::Duration;

use crate::engine::ca_limits::{self, CaLimit};
use crate::engine::{Kept, next_try};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// Delay until a record is read again, after its store has failed.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(60);

/// Number of failures in a row after which a certificate that is not valid is given up: about three weeks.
const MAX_FAILURES: u8 = 24;
/// The same for failures that will happen again unless something is changed: about a week.
const MAX_PERMANENT_FAILURES: u8 = 7;

/// A clock that goes back by more than this was set.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// No moment is further away: a CA can ask for 30 days at most, and is asked for renewal information each day.
const FURTHEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// Returns a moment. One that only a wrong clock can have made counts as now.
pub(super) fn plausible(at: Time, now: Time) -> Time {
    if at > now.after(FURTHEST) { Time::from_millis(i64::MIN) } else { at }
}

/// Two certificates that a CA limits within this time: the limit is not one of a certificate.
const SAME_LIMIT: Duration = Duration::from_secs(600);

/// The first orders of the last hours, against the CA's limit. Renewals that the CA proposes do not count.
pub(super) struct Budget {
    limit: Option<CaLimit>,
    /// The times of the orders, the oldest first.
    ordered: Vec<Time>,
}

impl Budget {
    pub(super) fn of(host: &str) -> Budget {
        let limit = ca_limits::of_host(host).map(|limits| limits.orders);
        Budget { limit, ordered: Vec::new() }
    }

    /// Takes in an order of an earlier run of the program.
    pub(super) fn note(&mut self, at: Time, now: Time) {
        if self.limit.is_some_and(|limit| at <= now && now.since(at) < limit.within) {
            let place = self.ordered.partition_point(|known| *known <= at);
            self.ordered.insert(place, at);
        }
    }

    /// Takes room for an order. Returns when there will be some; `None`: now.
    pub(super) fn next_order(&mut self, now: Time) -> Option<Time> {
        let limit = self.limit?;
        // The clock may have been ahead.
        self.ordered.retain(|at| *at <= now && now.since(*at) < limit.within);
        if self.ordered.len() >= limit.share() {
            return self.ordered.first().map(|oldest| oldest.after(limit.within));
        }
        self.ordered.push(now);
        None
    }
}

/// Whether the CA answers.
#[derive(Default)]
pub(super) struct CaHealth {
    /// No attempt before this time, except one that probes the CA then.
    paused_until: Option<Time>,
    /// Since when it has failed.
    failing_since: Time,
    failures: usize,
    /// The last certificate that the CA has limited, and when.
    limited: Option<(u32, Time)>,
}

impl CaHealth {
    /// Whether another attempt may begin.
    pub(super) fn allows(&self, now: Time, attempts: usize) -> bool {
        match self.paused_until {
            None => true,
            Some(until) => now >= until && attempts == 0,
        }
    }

    /// Takes in the end of an attempt; returns whether a pause has begun or ended with it.
    pub(super) fn end(&mut self, id: u32, outcome: &Result<Kept>, now: Time) -> bool {
        let was_paused = self.paused_until.is_some();
        match outcome {
            Err(error) if self.is_about_ca(error, id, now) => {
                if !was_paused {
                    self.failing_since = now;
                }
                // The others that fail at the same time do not count.
                if self.paused_until.is_none_or(|until| now >= until) {
                    self.failures += 1;
                    self.paused_until =
                        Some(next_try(self.failures.min(3), Some(error), None, now));
                }
            }
            // Only an answer of the CA ends the pause.
            Err(error) if error.http_status().is_none() => {}
            Ok(Kept { not_due: Some(info), .. }) if !info.from_ca && was_paused => {}
            _ => (self.paused_until, self.failures) = (None, 0),
        }
        self.paused_until.is_some() != was_paused
    }

    /// How long it has failed; `None`: it works.
    pub(super) fn outage(&self, now: Time) -> Option<Duration> {
        self.paused_until.map(|_| now.since(self.failing_since))
    }

    /// Moves a pause that a clock has made which was ahead.
    pub(super) fn clock_was_set_back(&mut self, now: Time) {
        self.paused_until = self.paused_until.map(|until| plausible(until, now));
        (self.limited, self.failing_since) = (None, self.failing_since.min(now));
    }

    fn is_about_ca(&mut self, error: &Error, id: u32, now: Time) -> bool {
        if error.kind() != ErrorKind::RateLimited {
            return is_ca_fault(error);
        }
        let is_second =
            self.limited.is_some_and(|(other, at)| other != id && now.since(at) < SAME_LIMIT);
        self.limited = Some((id, now));
        is_second || self.paused_until.is_some()
    }

    /// Returns when a certificate is tried again whose attempt failed: with the CA, if that is the cause.
    pub(super) fn next_try(&self, error: &Error, next: Time) -> Time {
        match self.paused_until {
            Some(until) if is_ca_fault(error) => until,
            _ => next,
        }
    }

    /// The end of the pause.
    pub(super) fn ends(&self) -> Option<Time> {
        self.paused_until
    }
}

/// Whether further attempts make no sense until the program changes something. A valid certificate is never given
/// up, and a fault of the CA is never a reason.
pub(super) fn is_hopeless(error: &Error, failures: u8, is_valid: bool) -> bool {
    let most = if error.is_permanent() { MAX_PERMANENT_FAILURES } else { MAX_FAILURES };
    !is_valid && !is_ca_fault(error) && error.kind() != ErrorKind::RateLimited && failures >= most
}

/// Whether an error is the CA's or the network's, and says nothing about the certificate.
fn is_ca_fault(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Transport | ErrorKind::Server) || error.is_ca_fault()
}
