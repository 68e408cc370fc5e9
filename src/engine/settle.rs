//! Waits, after a failure, for the validations that are still in progress.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::exchange::Session;
use super::failures::{ends_at_once, failure, joined};
use super::join::join_bounded;
use super::limits::{MAX_SETTLE_DOUBLINGS, MAX_SETTLE_TIME, SETTLE_POLL_DELAY};
use super::pending_challenge::{PendingChallenge, ResponseState};
use crate::error::{Error, ErrorKind};
use crate::resource::authorization::{Authorization, AuthorizationStatus};

/// The delays between fetches of the authorizations after a failure: first 0, then a delay that doubles.
#[derive(Default)]
struct SettlingPolls(u32);

impl SettlingPolls {
    fn next(&mut self) -> Duration {
        let doublings = self.0;
        self.0 += 1;
        match doublings {
            0 => Duration::ZERO,
            _ => SETTLE_POLL_DELAY
                .saturating_mul(2u32.saturating_pow((doublings - 1).min(MAX_SETTLE_DOUBLINGS))),
        }
    }
}

impl Session {
    /// Waits while the CA may still validate other challenges of the order, which stay published, for
    /// [`MAX_SETTLE_TIME`] at most. Returns the error; an order's error is replaced by the reasons of
    /// all authorizations that failed.
    pub(super) async fn settle(
        &self,
        pending: &[PendingChallenge],
        account: &str,
        error: Error,
    ) -> Error {
        match error.kind() {
            ErrorKind::Canceled => return error,
            ErrorKind::Timeout => {
                let lost = pending.iter().find_map(|challenge| challenge.failure.as_ref());
                return lost.map_or(error.clone(), |lost| error.after(lost));
            }
            _ => {}
        }
        let undecided =
            pending.iter().filter(|challenge| challenge.response != ResponseState::Unsent);
        let mut undecided: Vec<&PendingChallenge> = undecided.collect();
        let last = undecided.iter().map(|challenge| challenge.responded_at).max();
        let until = last.unwrap_or_default().after(MAX_SETTLE_TIME);
        // A CA that cannot be reached, or requests longer delays, gets no more requests. Other requests
        // may have been waiting for a retry when the failure ended them: the planned time still holds.
        let mut quiet_until =
            if ends_at_once(&error) { until } else { self.io.effects().next_retry };
        let (mut failures, mut retry_at, mut polls) = (Vec::new(), None, SettlingPolls::default());
        while !undecided.is_empty() {
            let now = self.io.now();
            let delay = polls.next();
            let wake = now.after(delay).max(quiet_until);
            match self.io.sleep(wake.min(until).since(now)).await {
                Err(ended) if ended.kind() == ErrorKind::Canceled => return ended.after(&error),
                Err(_) => break,
                // The first fetch explains the failure, so it is made even if it is late.
                Ok(()) if wake >= until && (quiet_until >= until || !delay.is_zero()) => break,
                Ok(()) => {}
            }
            // The first error ends all fetches. Responses that came before it still count.
            let found: Mutex<Vec<(&str, Authorization)>> = Mutex::default();
            let fetches = undecided.iter().map(|challenge| async {
                let url = challenge.authorization_url.as_str();
                match self.authorization(url, account).await {
                    Ok(fetched) => {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((url, fetched))
                    }
                    Err(error) if ends_at_once(&error) => return Err(error),
                    Err(_) => {} // The status stays unknown.
                }
                Ok(())
            });
            if let Err(ended) = join_bounded(fetches).await {
                // A time in the error keeps `obtain` from placing a new order at once.
                (quiet_until, retry_at) = (until, ended.retry_at().or(Some(self.io.now())));
            }
            for (url, fetched) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
                if fetched.status == AuthorizationStatus::Invalid {
                    let failed =
                        undecided.iter().find(|challenge| challenge.authorization_url == url);
                    let at = failed.map_or(url, |challenge| &challenge.challenge_url);
                    failures.push(failure(&fetched).at(at));
                }
                if fetched.status != AuthorizationStatus::Pending {
                    undecided.retain(|challenge| challenge.authorization_url != url);
                }
            }
        }
        let reasons = match error.kind() {
            ErrorKind::Challenge | ErrorKind::Order | ErrorKind::Server => {
                joined(failures).unwrap_or(error)
            }
            _ => error,
        };
        reasons.with_retry_at(retry_at)
    }
}
