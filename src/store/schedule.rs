//! When a certificate is to be renewed or tried again, as its record says.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::time::Time;

/// The schedule of a certificate. Nothing that matters is in it alone: without it, the CA is asked once more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Schedule {
    /// The moment of the renewal, within the window that the CA proposes.
    pub renew_at: Option<Time>,
    /// When to ask the CA for its window again.
    pub check_again_at: Option<Time>,
    /// No try before this time: the last one failed, or has just succeeded.
    pub next_try: Option<Time>,
    /// Number of failures in a row.
    pub failures: u32,
    /// Number of renewals in a row, without a moment at which none was due.
    pub renewals: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Begin of the validity of the certificate.
    pub not_before: Option<Time>,
    /// End of the validity of the certificate.
    pub not_after: Option<Time>,
    /// Digest of its names. With it, a manager does not read the certificate at the start.
    pub names: Option<String>,
    /// When the last certificates were issued, the oldest first; at most [`MAX_ISSUED`].
    pub issued: Vec<Time>,
}

/// Number of certificates whose times are kept, for limits of CAs.
const MAX_ISSUED: usize = 8;

#[derive(Serialize)]
pub(crate) struct Json<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check_again_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_ms: Option<i64>,
    failures: u32,
    renewals: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issued_ms: Vec<i64>,
}

impl Schedule {
    pub(crate) fn json(&self) -> Json<'_> {
        Json {
            renew_at_ms: self.renew_at.map(Time::as_millis),
            check_again_at_ms: self.check_again_at.map(Time::as_millis),
            next_try_ms: self.next_try.map(Time::as_millis),
            failures: self.failures,
            renewals: self.renewals,
            error: self.error.as_deref(),
            not_before_ms: self.not_before.map(Time::as_millis),
            not_after_ms: self.not_after.map(Time::as_millis),
            names: self.names.as_deref(),
            issued_ms: self.issued.iter().map(|time| time.as_millis()).collect(),
        }
    }

    /// The moment at which something is to be done; long ago, if nothing is known.
    pub(crate) fn due(&self) -> Time {
        let renewal = self.renew_at.into_iter().chain(self.check_again_at).min();
        self.next_try.or(renewal).unwrap_or(Time::from_millis(i64::MIN))
    }

    /// Notes that a certificate was issued.
    pub(crate) fn note_issued(&mut self, now: Time) {
        self.issued.push(now);
        let surplus = self.issued.len().saturating_sub(MAX_ISSUED);
        self.issued.drain(..surplus);
    }

    /// Reads the members of the JSON object. Members that are missing or of another type have their default.
    pub(crate) fn read(members: &Map<String, Value>) -> Schedule {
        let time = |name: &str| members.get(name).and_then(Value::as_i64).map(Time::from_millis);
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| {
            let number = members.get(name).and_then(Value::as_u64).unwrap_or_default();
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        Schedule {
            renew_at: time("renew_at_ms"),
            check_again_at: time("check_again_at_ms"),
            next_try: time("next_try_ms"),
            failures: number("failures"),
            renewals: number("renewals"),
            error: text("error"),
            not_before: time("not_before_ms"),
            not_after: time("not_after_ms"),
            names: text("names"),
            issued: members
                .get("issued_ms")
                .and_then(Value::as_array)
                .map(|times| {
                    times.iter().filter_map(Value::as_i64).map(Time::from_millis).collect()
                })
                .unwrap_or_default(),
        }
    }
}
