//! How much a manager asks of a CA: ceilings, pauses, and when to give up.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::ca_limits::{self, CaLimit};
use crate::engine::next_try;
use crate::error::{Error, ErrorKind};
use crate::time::Time;

/// Delay until a record is read again, after its store has failed.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(60);

/// Number of failures in a row after which a certificate that is not valid is given up: about three weeks.
const MAX_FAILURES: u16 = 24;
/// The same for failures that will happen again unless something is changed: about a week.
const MAX_PERMANENT_FAILURES: u16 = 7;

/// Two certificates that a CA limits within this time: the limit is not one of a certificate.
const SAME_LIMIT: Duration = Duration::from_secs(600);

/// The first orders of the last hours, against the CA's limit. Renewals that the CA proposes do not count.
pub(super) struct Budget {
    limit: Option<CaLimit>,
    /// The times of the orders, the oldest first.
    ordered: VecDeque<Time>,
}

impl Budget {
    pub(super) fn of(host: &str) -> Budget {
        let limit = ca_limits::of_host(host).map(|limits| limits.orders);
        Budget { limit, ordered: VecDeque::new() }
    }

    /// Takes room for an order. Returns when there will be some; `None`: now.
    pub(super) fn next_order(&mut self, now: Time) -> Option<Time> {
        let limit = self.limit?;
        while self.ordered.front().is_some_and(|at| now.since(*at) >= limit.within) {
            self.ordered.pop_front();
        }
        if self.ordered.len() >= limit.share() {
            return self.ordered.front().map(|oldest| oldest.after(limit.within));
        }
        self.ordered.push_back(now);
        None
    }
}

/// Whether the CA answers.
#[derive(Default)]
pub(super) struct CaHealth {
    /// No attempt before this time, except one that probes the CA then.
    paused_until: Option<Time>,
    failures: usize,
    /// The last certificate that the CA has limited, and when.
    limited: Option<(u32, Time)>,
    probing: bool,
}

impl CaHealth {
    /// Whether another attempt may begin.
    pub(super) fn allows(&self, now: Time, attempts: usize) -> bool {
        match self.paused_until {
            None => true,
            Some(until) => now >= until && attempts == 0,
        }
    }

    pub(super) fn begin(&mut self) {
        self.probing = self.paused_until.is_some();
    }

    /// Takes in the end of an attempt.
    pub(super) fn end(&mut self, id: u32, error: Option<&Error>, now: Time) {
        let Some(error) = error.filter(|error| self.is_about_ca(error, id, now)) else {
            if error.is_none_or(|error| error.kind() != ErrorKind::Store) {
                (self.paused_until, self.failures) = (None, 0);
            }
            return;
        };
        // The others that fail at the same time do not count.
        if self.paused_until.is_none_or(|until| now >= until) {
            self.failures += 1;
            self.paused_until = Some(next_try(self.failures.min(3), Some(error), None, now));
        }
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
pub(super) fn is_hopeless(error: &Error, failures: u16, is_valid: bool) -> bool {
    let most = if error.is_permanent() { MAX_PERMANENT_FAILURES } else { MAX_FAILURES };
    !is_valid && !is_ca_fault(error) && error.kind() != ErrorKind::RateLimited && failures >= most
}

/// Whether an error is the CA's or the network's, and says nothing about the certificate.
fn is_ca_fault(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Transport | ErrorKind::Server) || error.is_ca_fault()
}
