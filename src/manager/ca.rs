//! The CAs of a manager, the preferred one first, and which of them an attempt goes to.

use std::sync::Arc;
use std::time::Duration;

use super::limits::{Budget, CaHealth};
use super::table::Entry;
use crate::engine::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// Maximum number of CAs.
const MAX_CAS: usize = 16;

/// A certificate that expires within this time does not wait until its CA works again.
const URGENT: Duration = Duration::from_secs(24 * 3600);
/// The same for a short-lived one: the last third of its lifetime.
const URGENT_SHARE: u32 = 3;
/// Duration of an outage after which other certificates go to the next CA, too.
const LONG_OUTAGE: Duration = Duration::from_secs(6 * 3600);
/// Number of failures in a row after which another CA is tried, for faults that are not an outage.
const FAILURES: u8 = 2;

/// A CA.
pub(super) struct Ca {
    pub client: Client,
    /// URL of its directory.
    pub url: Arc<str>,
    pub health: CaHealth,
    pub budget: Budget,
    /// Number of attempts in progress.
    pub attempts: usize,
}

/// The next step for a certificate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Task {
    /// Go to this CA.
    At(u8),
    /// Wait until a CA works again.
    Wait,
}

impl Ca {
    pub(super) fn new(client: &Client) -> Result<Ca> {
        if client.store().is_none() {
            return Err(Error::invalid_argument("the client has no store"));
        }
        let budget = Budget::of(client.directory_host());
        let url = client.directory_url().into();
        Ok(Ca { client: client.clone(), url, health: CaHealth::default(), budget, attempts: 0 })
    }

    fn allows(&self, now: Time) -> bool {
        self.health.allows(now, self.attempts)
    }

    /// Whether a certificate does not wait for this CA, which is paused.
    fn is_given_up(&self, urgent: bool, now: Time) -> bool {
        let limit = if urgent { Duration::ZERO } else { LONG_OUTAGE };
        self.health.outage(now).is_some_and(|duration| duration >= limit)
    }
}

/// Adds a CA behind the others.
pub(super) fn add(cas: &mut Vec<Ca>, client: &Client) -> Result<()> {
    let url = client.directory_url();
    if cas.iter().any(|known| known.client.directory_url() == url) {
        return Err(Error::invalid_argument(format!("the manager has this CA already: {url}")));
    }
    if cas.len() == MAX_CAS {
        return Err(Error::invalid_argument("a manager has at most 16 CAs"));
    }
    cas.push(Ca::new(client)?);
    Ok(())
}

/// Whether an attempt may begin for any certificate.
pub(super) fn any_allows(cas: &[Ca], now: Time) -> bool {
    cas.iter().any(|ca| ca.allows(now))
}

/// Chooses the CA for an attempt.
pub(super) fn choose(cas: &[Ca], entry: &Entry, now: Time) -> Task {
    if !entry.wants_order(now) {
        // Only the CA that has issued the certificate knows when its renewal is due.
        let issuer = usize::from(entry.issuer);
        return match cas.get(issuer).is_some_and(|ca| ca.allows(now)) {
            true => Task::At(entry.issuer),
            false => Task::Wait,
        };
    }
    let first = usize::from(entry.next_ca);
    for (number, ca) in (0..).zip(cas).skip(first) {
        if ca.allows(now) {
            return Task::At(number);
        }
        if !ca.is_given_up(entry.is_urgent(now), now) {
            return Task::Wait;
        }
    }
    Task::Wait
}

/// Returns the CA to go on with at once, after an attempt has failed.
pub(super) fn next_after(
    cas: &[Ca],
    ca: u8,
    entry: &Entry,
    error: &Error,
    now: Time,
) -> Option<u8> {
    let failed = cas.get(usize::from(ca))?;
    let next = ca.checked_add(1).filter(|next| usize::from(*next) < cas.len())?;
    let urgent = entry.is_urgent(now);
    let moves = match failed.health.outage(now) {
        Some(_) => failed.is_given_up(urgent, now),
        None => may_succeed_elsewhere(error) && (urgent || entry.failures >= FAILURES),
    };
    moves.then_some(next)
}

/// Whether the failure is between us and this CA, and not one of a name, the program or the store.
fn may_succeed_elsewhere(error: &Error) -> bool {
    use ErrorKind::*;
    let is_answer =
        matches!(error.kind(), Order | Problem | RateLimited | Server | Transport | Timeout);
    let is_demand = matches!(error.kind(), Account | EabRequired | Policy | Terms | Unsupported);
    is_answer || is_demand || error.kind() == Protocol
}

impl Entry {
    /// Whether the next attempt is to order, as far as is known here; otherwise it asks about the renewal.
    pub(super) fn wants_order(&self, now: Time) -> bool {
        let is_due = self.renew_at != Time::default() && self.renew_at <= now;
        self.renew_now || self.is_changed || is_due || self.is_urgent(now)
    }

    /// Whether there is no certificate, or it expires soon.
    fn is_urgent(&self, now: Time) -> bool {
        let share = self.lifetime().checked_div(URGENT_SHARE).filter(|share| !share.is_zero());
        self.not_after <= now.after(share.unwrap_or(URGENT).min(URGENT))
    }
}
