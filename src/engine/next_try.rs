//! When a program that keeps a certificate fresh tries again, after a failure or a success.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use super::limits::{
    MAX_MIN_OPERATION_DELAY, MAX_OPERATION_DELAY, MIN_DELAY_AFTER_EXPIRY, MIN_OPERATION_DELAY,
    MIN_SHARE_OF_LIFETIME, OPERATION_DELAYS, SHARE_AFTER_EXPIRY, SHARE_OF_SHORT_LIFETIME,
};
use super::renewal_info::RenewalInfo;
use crate::error::Error;
use crate::pki::CertificateChain;
use crate::time::Time;

/// Returns the time of the next try, for a program that keeps a certificate fresh: a minute after the
/// first try, ten minutes after the second in a row, a hundred after the third, then a day. After a
/// permanent error the delay is a day at once. A random time of up to half the delay is added, so that
/// programs that failed together do not come back together.
///
/// There are two counts, and `tries` is the one that fits the last try. After a failure it is the number
/// of failures in a row; a success sets it to 0. After a success it is the number of renewals in a row.
/// A check that shows that renewal is not due ([`RenewalInfo::is_due`]) sets both to 0. A CA whose
/// renewal information always says "now" then issues about one certificate a day.
///
/// `certificate` is the certificate in use: after a failure the one to be replaced, after a success the
/// new one. It shortens a delay that would be too long for it:
///
/// - Before its renewal is due ([`RenewalInfo::by_lifetime`]), the next try is at that time at the
///   latest.
/// - From then on, the delay is at most half of the time until it expires.
/// - Neither rule makes the delay shorter than a 64th of the lifetime, which counts as at least 40
///   seconds and at most an hour; nor shorter than a quarter of the lifetime, if that is less.
/// - Once it has expired, the delay is at most an eighth of the lifetime, or of the time since it expired,
///   or a minute, whichever is longest. So a certificate that no program can renew any more is tried ever
///   less often, down to once a day.
///
/// A shortened delay is a random time in the last quarter of the allowed time. So no delay is shorter
/// than 30 seconds if the certificate lives for three minutes or longer. The CA's own
/// [`Error::retry_at`] comes first: the next try is never before it.
///
/// ```
/// use acme_micro::{Time, engine::next_try};
///
/// let (now, minute) = (Time::now(), 60_000);
/// let wait = next_try(1, None, None, now).as_millis() - now.as_millis();
/// assert!((minute..minute * 3 / 2).contains(&wait));
/// ```
pub fn next_try(
    tries: usize,
    error: Option<&Error>,
    certificate: Option<&CertificateChain>,
    now: Time,
) -> Time {
    let permanent = error.is_some_and(Error::is_permanent);
    next_try_after(tries, permanent, error.and_then(Error::retry_at), certificate, now)
}

/// [`next_try`] with the parts of the error that matter.
pub(crate) fn next_try_after(
    tries: usize,
    permanent: bool,
    retry_at: Option<Time>,
    certificate: Option<&CertificateChain>,
    now: Time,
) -> Time {
    let step = OPERATION_DELAYS.get(tries.saturating_sub(1)).filter(|_| !permanent);
    let step = *step.unwrap_or(&MAX_OPERATION_DELAY);
    let longest = certificate.and_then(|chain| longest_delay(chain, now));
    let most = (step + step / 2).min(longest.unwrap_or(Duration::MAX));
    let least = step.min(most / 4 * 3);
    // The keys of `RandomState` differ in each process: a random number without a system call.
    let random = RandomState::new().hash_one(now);
    let spread = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX);
    let next = now.after(least + Duration::from_millis(random % spread.max(1)));
    retry_at.map_or(next, |at| at.max(next))
}

/// Maximum delay for a certificate. `None`: the certificate was never valid, so there is no maximum.
fn longest_delay(chain: &CertificateChain, now: Time) -> Option<Duration> {
    let end = chain.not_after();
    let lifetime = end.since(chain.not_before());
    if lifetime.is_zero() {
        return None;
    }
    if now >= end {
        let longest = lifetime.max(now.since(end)) / SHARE_AFTER_EXPIRY;
        return Some(longest.max(MIN_DELAY_AFTER_EXPIRY));
    }
    let due = RenewalInfo::by_lifetime(chain, now).renew_at;
    let left = if now < due { due.since(now) } else { end.since(now) / 2 };
    let least = (lifetime / MIN_SHARE_OF_LIFETIME)
        .clamp(MIN_OPERATION_DELAY, MAX_MIN_OPERATION_DELAY)
        .min(lifetime / SHARE_OF_SHORT_LIFETIME);
    Some(left.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(0);

    fn problem(name: &str, status: u16) -> Error {
        let json = format!(r#"{{"type":"urn:ietf:params:acme:error:{name}"}}"#);
        Error::refused(crate::problem::Problem::parse(json.as_bytes()).unwrap(), status)
    }

    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    /// A certificate that is valid from 1970 on, for `lifetime` seconds.
    fn living(lifetime: i64) -> CertificateChain {
        valid(0, lifetime)
    }

    fn valid(from: i64, until: i64) -> CertificateChain {
        let time = |seconds| openssl::asn1::Asn1Time::from_unix(seconds).unwrap();
        let key = crate::pki::Key::generate(crate::pki::KeyType::P256).unwrap();
        let mut builder = openssl::x509::X509::builder().unwrap();
        builder.set_not_before(&time(from)).unwrap();
        builder.set_not_after(&time(until)).unwrap();
        builder.set_pubkey(key.public_key()).unwrap();
        let digest = openssl::hash::MessageDigest::sha256();
        builder.sign(key.private_key().unwrap(), digest).unwrap();
        CertificateChain::parse(&builder.build().to_pem().unwrap()).unwrap()
    }

    #[test]
    fn r14_no_number_of_failures_makes_the_delay_short() {
        let (minute, day) = (60_000, 86_400_000);
        let delay = |tries| next_try(tries, None, None, NOW).as_millis();
        for (tries, least) in [(0, minute), (1, minute), (2, 10 * minute), (3, 100 * minute)] {
            assert!((least..least * 3 / 2).contains(&delay(tries)), "{tries}");
        }
        // A million failures in a row (one a minute for thirty years would be sixteen million), and the
        // numbers that could overflow.
        let many = (4..1_000_000).chain((0..64).map(|bit| usize::MAX >> bit).filter(|n| *n > 3));
        for tries in many {
            assert!((day..day * 3 / 2).contains(&delay(tries)), "{tries}");
        }
        // The minimum holds at any time, also with a wrong clock.
        for now in [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX].map(Time::from_millis) {
            for tries in [0, 1, 4, usize::MAX] {
                let next = next_try(tries, None, None, now);
                assert!(next >= now.after(OPERATION_DELAYS[0]), "{now:?} {tries}");
            }
        }
    }

    #[test]
    fn r15_a_certificate_bounds_the_delay_by_what_is_left_of_it() {
        // Lifetime, age, and the bounds of the first, second, ... try in a row; the last bounds are for all
        // further tries.
        type Bounds = (i64, i64);
        const ONE: Bounds = (MINUTE, 90);
        const TWO: Bounds = (10 * MINUTE, 15 * MINUTE);
        const THREE: Bounds = (100 * MINUTE, 150 * MINUTE);
        const MORE: Bounds = (DAY, 36 * HOUR);
        let table: [(i64, i64, &[Bounds]); 19] = [
            // Five minutes: due after 150 to 156 seconds.
            (5 * MINUTE, 0, &[ONE, (112, 156)]),
            (5 * MINUTE, 160, &[(52, 70)]),
            (5 * MINUTE, 240, &[(30, 40)]),
            (5 * MINUTE, 299, &[(30, 40)]),
            (5 * MINUTE, 300, &[(45, 60)]),
            (5 * MINUTE, 65 * MINUTE, &[ONE, (337, 450)]),
            (5 * MINUTE, 3000 * DAY, &[ONE, TWO, THREE, MORE]),
            // A day, as step-ca's: due after 12 to 12.5 hours.
            (DAY, 0, &[ONE, TWO, THREE, (9 * HOUR, 12 * HOUR + HOUR / 2)]),
            (DAY, 13 * HOUR, &[ONE, TWO, THREE, (247 * MINUTE, 330 * MINUTE)]),
            (DAY, DAY - 10 * MINUTE, &[ONE, TWO, (1012, 1350)]),
            (DAY, 25 * HOUR, &[ONE, TWO, THREE, (135 * MINUTE, 180 * MINUTE)]),
            // Six days: due after 72 to 75 hours.
            (6 * DAY, 0, &[ONE, TWO, THREE, MORE]),
            (6 * DAY, 4 * DAY, &[ONE, TWO, THREE, (18 * HOUR, DAY)]),
            (6 * DAY, 6 * DAY - HOUR, &[ONE, TWO, (45 * MINUTE, HOUR)]),
            (6 * DAY, 7 * DAY, &[ONE, TWO, THREE, (13 * HOUR, 18 * HOUR)]),
            // Ninety days: due after 60 to 62 days.
            (90 * DAY, 65 * DAY, &[ONE, TWO, THREE, MORE]),
            (90 * DAY, 89 * DAY, &[ONE, TWO, THREE, (9 * HOUR, 12 * HOUR)]),
            (90 * DAY, 90 * DAY - HOUR, &[ONE, TWO, (45 * MINUTE, HOUR)]),
            (90 * DAY, 91 * DAY, &[ONE, TWO, THREE, MORE]),
        ];
        let refused = problem("rejectedIdentifier", 400);
        for (lifetime, age, bounds) in table {
            let chain = living(lifetime);
            let check = |tries: usize, error, (least, most): Bounds| {
                let next = next_try(tries, error, Some(&chain), at(age));
                let (least, most) = (at(age + least), at(age + most));
                assert!(least <= next && next <= most, "{lifetime} {age} {tries}: {next:?}");
            };
            let last = *bounds.last().unwrap();
            for _ in 0..100 {
                for tries in 1..=7 {
                    check(tries, None, *bounds.get(tries - 1).unwrap_or(&last));
                }
                check(0, None, bounds[0]);
                check(usize::MAX, None, last);
                check(1, Some(&refused), last);
            }
        }
    }

    #[test]
    fn r15_before_it_is_due_the_next_try_is_not_after_that() {
        for lifetime in [5 * MINUTE, HOUR, DAY, 6 * DAY, 90 * DAY, 398 * DAY] {
            let chain = living(lifetime);
            let due = RenewalInfo::by_lifetime(&chain, NOW).renew_at;
            let margin = u64::try_from((lifetime * 1000 / 64).clamp(40_000, 3_600_000)).unwrap();
            let margin = Duration::from_millis(margin + 1);
            for part in 0..100 {
                let now = at(lifetime * part / 100);
                for tries in 1..=7 {
                    let next = next_try(tries, None, Some(&chain), now);
                    assert!(next <= due.max(now.after(margin)) || due <= now, "{lifetime} {part}");
                    assert!(next >= now.after(Duration::from_secs(30)), "{lifetime} {part}");
                }
            }
        }
    }

    #[test]
    fn r15_with_wrong_clocks_and_dates_the_delay_is_neither_short_nor_endless() {
        // The years 1 and 9999 are the furthest that a certificate can name.
        let (first, last) = (-62_135_596_800, 253_402_300_799);
        let dates = [
            (first, last),
            (first, first + 1),
            (last - 1, last),
            (0, 0),
            (0, 1),
            (DAY, 0),
            (last, first),
        ];
        let moments = [i64::MIN, i64::MIN + 1, -1, 0, 1000, 86_400_000, i64::MAX - 1, i64::MAX];
        for (from, until) in dates {
            let chain = valid(from, until);
            let edges = [from, until].map(|seconds| at(seconds).as_millis());
            for now in moments.into_iter().chain(edges).map(Time::from_millis) {
                for tries in [0, 1, 2, 3, 4, usize::MAX] {
                    let next = next_try(tries, None, Some(&chain), now);
                    // A certificate that is valid for one second, and valid now, has a fraction of that.
                    let is_short = until - from == 1 && chain.not_after() > now;
                    let least = Duration::from_millis(if is_short { 100 } else { 30_000 });
                    assert!(next >= now.after(least), "{from} {until} {now:?}");
                    assert!(
                        next <= now.after(MAX_OPERATION_DELAY + MAX_OPERATION_DELAY / 2),
                        "{from} {until} {now:?}"
                    );
                }
            }
        }
        // A certificate that was never valid is no reason to hurry.
        assert!(next_try(4, None, Some(&valid(DAY, 0)), at(2 * DAY)) >= at(3 * DAY));
    }

    #[test]
    fn r14_what_will_fail_again_waits_a_day_and_what_the_ca_says_is_heeded() {
        let day = Duration::from_secs(86_400);
        let refused = problem("rejectedIdentifier", 400);
        assert!(refused.is_permanent());
        assert!(next_try(1, Some(&refused), None, NOW) >= NOW.after(day));
        let short = living(5 * MINUTE);
        for certificate in [None, Some(&short)] {
            let limited = |after: u64| {
                let at = NOW.after(Duration::from_secs(after));
                let error = problem("rateLimited", 429).with_retry_at(Some(at));
                next_try(1, Some(&error), certificate, NOW)
            };
            assert_eq!(limited(7200), NOW.after(Duration::from_secs(7200)));
            assert!(limited(1) >= NOW.after(OPERATION_DELAYS[0]));
        }
    }

    #[test]
    fn r13_those_who_failed_together_do_not_come_back_together() {
        let busiest = |tries, certificate: Option<&CertificateChain>, now| {
            let mut moments: Vec<i64> = (0..10_000)
                .map(|_| next_try(tries, None, certificate, now).as_millis() / 1000)
                .collect();
            moments.sort_unstable();
            moments.chunk_by(|a, b| a == b).map(<[i64]>::len).max().unwrap()
        };
        // The delays are spread over five minutes: 33 in each second on average.
        assert!(busiest(2, None, NOW) < 100);
        // The delays are spread over the last quarter of the allowed time: 22 minutes, 38 seconds, 10 seconds.
        assert!(busiest(4, Some(&living(DAY)), at(DAY - 3 * HOUR)) < 30);
        assert!(busiest(4, Some(&living(5 * MINUTE)), NOW) < 450);
        assert!(busiest(4, Some(&living(5 * MINUTE)), at(5 * MINUTE - 1)) < 1300);
    }
}
