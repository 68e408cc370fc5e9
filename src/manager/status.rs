//! The state of a manager for its users: a snapshot as JSON, and metrics as OpenMetrics text.

use std::fmt::Write;

use serde::Serialize;

use super::ca::Ca;
use super::table::{Entry, State, Table};
use crate::error::{Error, Result};
use crate::time::Time;

/// Numbers of attempts and results since the manager was created.
#[derive(Clone, Copy, Default)]
pub(super) struct Counters {
    pub attempts: u64,
    pub obtained: u64,
    pub renewed: u64,
    pub not_due: u64,
    pub failed: u64,
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<String>,
    failures: u8,
}

impl Entry {
    /// The state in a word: `"valid"`, `"expired"`, `"missing"`, `"stopped"` or `"loading"`.
    fn word(&self, now: Time) -> &'static str {
        match self.state {
            State::New | State::Loading => "loading",
            State::Stopped => "stopped",
            _ if self.not_after == Time::default() => "missing",
            _ if self.not_after <= now => "expired",
            _ => "valid",
        }
    }

    fn status(&self, now: Time) -> Status<'_> {
        let is_known = |time: &Time| *time > Time::default();
        let text = |time: Time| Some(time).filter(is_known).map(|time| time.to_string());
        let waits = matches!(self.state, State::Idle | State::New);
        Status {
            name: self.name(),
            state: self.word(now),
            not_after: text(self.not_after),
            next_try: text(self.due).filter(|_| waits),
            failures: self.failures,
        }
    }
}

const WORDS: [&str; 5] = ["valid", "expired", "missing", "stopped", "loading"];

/// Returns a JSON object about the certificate of this name; without a name, an array about all.
pub(super) fn json(table: &Table, name: Option<&str>, now: Time) -> Result<String> {
    let text = |entry: &Entry| serde_json::to_string(&entry.status(now)).unwrap_or_default();
    let Some(name) = name else {
        let all: Vec<String> = table.iter().map(text).collect();
        return Ok(format!("[{}]", all.join(",")));
    };
    let missing = || Error::invalid_argument("the manager has no certificate of this name");
    table.find(name).and_then(|id| table.get(id)).map(text).ok_or_else(missing)
}

/// Returns metrics as OpenMetrics 1.0 text.
pub(super) fn metrics(table: &Table, cas: &[Ca], counters: Counters, now: Time) -> String {
    let mut count = [0_u64; WORDS.len()];
    let mut first_expiry = None;
    for entry in table.iter() {
        let word = entry.word(now);
        let known = WORDS.iter().zip(&mut count).find(|(known, _)| **known == word);
        if let Some((_, count)) = known {
            *count += 1;
        }
        if entry.not_after > now {
            let expiry = entry.not_after.as_millis() / 1000;
            first_expiry = Some(first_expiry.map_or(expiry, |first: i64| first.min(expiry)));
        }
    }
    let mut text = String::from("# TYPE acme_certificates gauge\n");
    for (word, count) in WORDS.iter().zip(count) {
        let _ = writeln!(text, "acme_certificates{{state=\"{word}\"}} {count}");
    }
    let Counters { attempts, obtained, renewed, not_due, failed } = counters;
    text.push_str("# TYPE acme_attempts counter\n");
    let _ = writeln!(text, "acme_attempts_total {attempts}");
    text.push_str("# TYPE acme_results counter\n");
    let results =
        [("obtained", obtained), ("renewed", renewed), ("not_due", not_due), ("failed", failed)];
    for (result, count) in results {
        let _ = writeln!(text, "acme_results_total{{result=\"{result}\"}} {count}");
    }
    if let Some(first) = first_expiry {
        // If nothing works from now on, this is when the first name has no certificate.
        text.push_str("# TYPE acme_first_expiry_timestamp_seconds gauge\n");
        let _ = writeln!(text, "acme_first_expiry_timestamp_seconds {first}");
    }
    text.push_str("# TYPE acme_ca_paused gauge\n");
    for ca in cas {
        let paused = u8::from(ca.health.ends().is_some_and(|until| until > now));
        let host = ca.client.directory_host();
        let _ = writeln!(text, "acme_ca_paused{{ca=\"{host}\"}} {paused}");
    }
    text.push_str("# EOF\n");
    text
}
