//! When a request is tried again, and when a resource is polled again. The numbers are in `limits.rs`;
//! none can be switched off. `exchange.rs` names the files that send a request again.

use std::time::Duration;

use super::limits::{
    FIRST_POLL_DELAY, LOST_DELAY, MAX_LOST_DELAY, MAX_LOST_TRIES, MAX_NONCE_DELAY, MAX_NONCE_TRIES,
    MAX_POLL_DELAY, MAX_POLLS, MAX_POLLS_AT_CA_PACE, MAX_RETRY_AFTER, MIN_RETRY_AFTER,
    MIN_RETRY_TIME_WITH_ORDER, NONCE_DELAY, NONCE_TRIES_AT_ONCE, SECOND_POLL_DELAY,
    SIGNATURE_DELAY,
};
use crate::error::{Error, ErrorKind, Result};
use crate::problem::Problem;
use crate::time::Time;

/// Returns the CA's Retry-After in a response that leaves open whether the request took effect. Such a
/// request is sent again only after a fetch. Fails if the CA requests a longer delay than an operation waits.
pub(super) fn delay_after_lost(error: &Error, now: Time) -> Result<Option<Duration>> {
    match error.retry_at().map(|at| at.since(now)) {
        Some(delay) if delay > MAX_RETRY_AFTER => Err(error.clone()),
        retry_after => Ok(retry_after),
    }
}

/// Reasons to try a request again for longer.
#[derive(Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// The operation has an order, or published challenges.
    pub has_order: bool,
    /// The account's key was changed a moment ago ([`KEY_CHANGE_TIME`]).
    pub has_new_key: bool,
}

/// The failed tries of one request.
#[derive(Default)]
pub(super) struct RetryState {
    bad_nonce: u32,
    lost: u32,
    /// The time of the first lost response or rate limit.
    since: Option<Time>,
    rate_limited: bool,
}

impl RetryState {
    /// Returns the delay before the next try after this failure; `None`: give up. `jitter` returns a
    /// number below its argument.
    pub(super) fn after(
        &mut self,
        error: &Error,
        now: Time,
        circumstances: Circumstances,
        jitter: impl FnOnce(u64) -> u64,
    ) -> Option<Duration> {
        let retry_after = error.retry_at().map(|at| at.since(now));
        if retry_after.is_some_and(|delay| delay > MAX_RETRY_AFTER) {
            return None;
        }
        if error.is_problem("badNonce") {
            self.bad_nonce += 1;
            let doublings = self.bad_nonce.checked_sub(NONCE_TRIES_AT_ONCE);
            return match doublings {
                _ if self.bad_nonce >= MAX_NONCE_TRIES => None,
                None => Some(Duration::ZERO),
                Some(n) => Some(doubled(NONCE_DELAY, n, MAX_NONCE_DELAY)),
            };
        }
        if error.kind() == ErrorKind::RateLimited {
            // A rate limit without a time is final, and so is a second one. But a load balancer in front
            // of a CA that restarts also responds with 503.
            let first = !std::mem::replace(&mut self.rate_limited, true);
            let since = *self.since.get_or_insert(now);
            let goes_on = first
                || error.http_status() == Some(503)
                    && circumstances.has_order
                    && now.since(since) < MIN_RETRY_TIME_WITH_ORDER;
            return retry_after.filter(|_| goes_on).map(|delay| delay.max(MIN_RETRY_AFTER));
        }
        if error.is_lost() {
            self.lost += 1;
            let since = *self.since.get_or_insert(now);
            let full = doubled(LOST_DELAY, self.lost - 1, MAX_LOST_DELAY);
            let half = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX);
            let delay = Duration::from_millis(half + jitter(half));
            let goes_on = self.lost < MAX_LOST_TRIES
                || circumstances.has_order && now.since(since) < MIN_RETRY_TIME_WITH_ORDER;
            return goes_on.then(|| delay.max(retry_after.unwrap_or_default()));
        }
        let is_about_signature = error.problem().is_some_and(Problem::is_about_signature);
        (is_about_signature && circumstances.has_new_key).then_some(SIGNATURE_DELAY)
    }
}

/// The delays between polls of a resource until it changes.
#[derive(Default)]
pub(crate) struct Polls {
    count: u32,
}

impl Polls {
    /// Returns the delay before the next poll. `retry_after` is from the response to the last poll.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>, now: Time) -> Result<Duration> {
        let give_up = |why: String| Err(Error::new(ErrorKind::Timeout, why));
        if self.count == MAX_POLLS {
            return give_up(format!("still not decided after {MAX_POLLS} polls"));
        }
        self.count += 1;
        match retry_after {
            None => Ok(match self.count.checked_sub(2) {
                None => FIRST_POLL_DELAY,
                Some(doublings) => doubled(SECOND_POLL_DELAY, doublings, MAX_POLL_DELAY),
            }),
            Some(delay) if delay <= MAX_RETRY_AFTER => {
                let is_long = self.count > MAX_POLLS_AT_CA_PACE;
                Ok(delay.max(if is_long { MAX_POLL_DELAY } else { MIN_RETRY_AFTER }))
            }
            Some(delay) => give_up("the CA needs more time".to_owned())
                .map_err(|error: Error| error.with_retry_at(Some(now.after(delay)))),
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

fn doubled(delay: Duration, times: u32, max: Duration) -> Duration {
    delay.saturating_mul(2u32.saturating_pow(times)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(0);

    fn delays(error: &Error) -> Vec<u64> {
        let mut retry = RetryState::default();
        let mut delays = Vec::new();
        while let Some(delay) = retry.after(error, NOW, Circumstances::default(), |n| n - 1) {
            delays.push(delay.as_millis() as u64);
            assert!(delays.len() < 1000);
        }
        delays
    }

    fn problem(name: &str, status: u16) -> Error {
        let json = format!(r#"{{"type":"urn:ietf:params:acme:error:{name}"}}"#);
        Error::refused(crate::problem::Problem::parse(json.as_bytes()).unwrap(), status)
    }

    #[test]
    fn every_kind_of_failure_has_its_ceiling() {
        assert_eq!(delays(&Error::new(ErrorKind::Transport, "x")), [499, 999, 1999]);
        assert_eq!(delays(&problem("serverInternal", 500)), [499, 999, 1999]);
        let nonces = delays(&problem("badNonce", 400));
        assert_eq!(nonces[..7], [0, 0, 0, 0, 100, 200, 400]);
        assert_eq!((nonces.len(), nonces.iter().sum::<u64>() < 15_000), (19, true));
        assert!(delays(&problem("malformed", 400)).is_empty());
        assert!(delays(&problem("rateLimited", 429)).is_empty());
        let at =
            |s| problem("rateLimited", 429).with_retry_at(Some(NOW.after(Duration::from_secs(s))));
        assert_eq!(delays(&at(30)), [30_000]);
        assert_eq!(delays(&at(0)), [1000]);
        assert!(delays(&at(61)).is_empty());
    }

    #[test]
    fn polls_slow_down_obey_and_end() {
        let mut polls = Polls::default();
        let mut delays = Vec::new();
        while let Ok(delay) = polls.next(None, NOW) {
            delays.push(delay.as_millis());
        }
        assert_eq!(delays[..8], [3, 250, 500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(delays.len(), 120);
        let asked = |seconds| Polls::default().next(Some(Duration::from_secs(seconds)), NOW);
        assert_eq!(asked(0).unwrap(), Duration::from_secs(1));
        assert_eq!(asked(60).unwrap(), Duration::from_secs(60));
        let error = asked(3600).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.retry_at(), Some(Time::from_millis(3_600_000)));
    }
}
