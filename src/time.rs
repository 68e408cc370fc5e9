//! Times and delays as numbers. They come from the caller: below the drivers the library reads no
//! clock.
//!
//! Retry-After: RFC 9110 section 10.2.3.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// Maximum delay that a CA can name; a later time counts as this.
const FURTHEST: Duration = Duration::from_secs(30 * 24 * 3600);

impl Time {
    /// The time `millis` milliseconds after 1970-01-01T00:00:00Z; a negative number is before it.
    pub const fn from_millis(millis: i64) -> Time {
        Time(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time `delay` later, at most the maximum.
    #[must_use]
    pub fn after(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The duration from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Time {
        let clamp = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        Time(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => clamp(after),
            Err(before) => -clamp(before.duration()),
        })
    }
}

impl Time {
    /// Reads an RFC 3339 date, with any offset and fractions of a second.
    pub(crate) fn from_rfc3339(text: &str) -> Option<Time> {
        let format = &time::format_description::well_known::Rfc3339;
        let date = time::OffsetDateTime::parse(text.trim(), format).ok()?;
        i64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok().map(Time)
    }
}

/// RFC 3339, whole seconds: `2026-12-01T03:04:05Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = time::OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000)).ok();
        match date.and_then(|d| d.format(&time::format_description::well_known::Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms since 1970", self.0),
        }
    }
}

/// Reads the date of a header, in any of its three forms (RFC 9110 section 5.6.7).
pub(crate) fn http_date(text: &str) -> Option<Time> {
    httpdate::parse_http_date(text.trim()).ok().map(Time::from)
}

/// Returns the delay from `now` that a Retry-After header requests; `None` if it is malformed.
///
/// A date is relative to the response's own Date header if it has one, so that a wrong local clock
/// does not matter. More than 30 days counts as 30 days.
pub(crate) fn retry_after(value: &str, date: Option<&str>, now: Time) -> Option<Duration> {
    let value = value.trim();
    let delay = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        value.parse().map_or(FURTHEST, Duration::from_secs)
    } else {
        http_date(value)?.since(date.and_then(http_date).unwrap_or(now))
    };
    Some(delay.min(FURTHEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_795_530_245_000);

    #[test]
    fn times_print_as_rfc_3339() {
        assert_eq!(NOW.to_string(), "2026-11-24T14:24:05Z");
        assert_eq!(Time::from_millis(-1).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(Time::from_millis(i64::MAX).to_string(), format!("{} ms since 1970", i64::MAX));
    }

    #[test]
    fn r04_rfc_3339_dates_are_read() {
        let parse = |text: &str| Time::from_rfc3339(text).map(Time::as_millis);
        assert_eq!(parse("2026-11-24T14:24:05Z"), Some(NOW.as_millis()));
        assert_eq!(parse("2026-11-25T04:24:05.250+14:00"), Some(NOW.as_millis() + 250));
        assert_eq!(parse("1969-12-31T23:59:59Z"), Some(-1000));
        assert!(parse("9999-12-31T23:59:59Z").is_some());
        for bad in ["", "2026-11-24", "2026-11-24T14:24:05", "2026-13-01T00:00:00Z", "soon"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn h23_retry_after_in_seconds() {
        let parse = |v: &str| retry_after(v, None, NOW).map(|d| d.as_secs());
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse(" 120 "), Some(120));
        assert_eq!(parse("18446744073709551616"), Some(FURTHEST.as_secs()));
        assert_eq!(parse(&"9".repeat(10_000)), Some(FURTHEST.as_secs()));
        for nonsense in ["", "-1", "1e9", "0x10", "5, 6", "soon", "٣"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn h22_retry_after_as_a_date_in_all_three_forms() {
        let parse = |v: &str| retry_after(v, None, NOW).map(|d| d.as_secs());
        assert_eq!(parse("Tue, 24 Nov 2026 14:25:05 GMT"), Some(60));
        assert_eq!(parse("Tuesday, 24-Nov-26 14:25:05 GMT"), Some(60));
        assert_eq!(parse("Tue Nov 24 14:25:05 2026"), Some(60));
        assert_eq!(parse("Wed, 24 Nov 1999 14:25:05 GMT"), Some(0));
        assert_eq!(parse("Tue, 24 Nov 2026 14:24:05 GMT"), Some(0));
        assert_eq!(parse("Fri, 31 Dec 9999 23:59:59 GMT"), Some(FURTHEST.as_secs()));
        for nonsense in [
            "Tue, 24 Nov 2026 14:25:05 gmt", // "case-sensitive" (RFC 9110 section 5.6.7)
            "Mon, 24 Nov 2026 14:25:05 GMT", // it was a Tuesday
            "Tue, 24 Nov 2026 14:25:05",
            "Tue, 24 Nov 2026 14:25:05 +0000",
            "Tue, 24 Nov 2026 25:61:61 GMT",
            "Tue, 31 Nov 2026 14:25:05 GMT",
            "2026-11-24T14:25:05Z",
            "Fri, 31 Dec 99999 23:59:59 GMT",
            "Di, 24 Nov 2026 14:25:05 GMT",
        ] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn k05_a_date_is_relative_to_the_servers_clock() {
        let a_day_off = Time::from_millis(NOW.as_millis() - 86_400_000);
        let date = Some("Tue, 24 Nov 2026 14:24:05 GMT");
        let delay = retry_after("Tue, 24 Nov 2026 14:24:35 GMT", date, a_day_off);
        assert_eq!(delay, Some(Duration::from_secs(30)));
    }
}
