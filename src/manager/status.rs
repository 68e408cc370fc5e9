//! The state of a manager for its users: a snapshot as JSON, and metrics as OpenMetrics text.

use std::fmt::Write;

use serde::Serialize;

use super::Manager;
use super::ca::Ca;
use super::counters::Counters;
use super::table::{Entry, State};
use crate::error::{Error, Result};
use crate::store::names::ca_name;
use crate::time::Time;

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    state: &'static str,
    names: Vec<&'a str>,
    ca: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<String>,
    failures: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
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

    fn status<'a>(&'a self, ca: &'a Ca, now: Time) -> Status<'a> {
        let is_known = |time: &Time| *time > Time::default();
        let text = |time: Time| Some(time).filter(is_known).map(|time| time.to_string());
        let waits = matches!(self.state, State::Idle | State::New);
        Status {
            name: self.name(),
            state: self.word(now),
            names: self.names().collect(),
            ca: &ca.url,
            not_after: text(self.not_after),
            renew_at: text(self.renew_at),
            next_try: text(self.due).filter(|_| waits),
            failures: self.failures,
            error: self.error.as_ref().map(Error::to_string),
        }
    }
}

const WORDS: [&str; 5] = ["valid", "expired", "missing", "stopped", "loading"];

/// OpenMetrics text.
struct Metrics(String);

impl Metrics {
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        let total = if kind == "counter" { "_total" } else { "" };
        for (value, count) in values {
            let _ = writeln!(self.0, "{name}{total}{{{label}=\"{value}\"}} {count}");
        }
    }

    fn number(&mut self, name: &str, kind: &str, value: u64) {
        let total = if kind == "counter" { "_total" } else { "" };
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n{name}{total} {value}");
    }

    fn time(&mut self, name: &str, time: Option<Time>) {
        if let Some(seconds) = time.and_then(|time| u64::try_from(time.as_millis() / 1000).ok()) {
            self.number(name, "gauge", seconds);
        }
    }
}

impl Manager {
    /// Returns a JSON object about the certificate of this name; without a name, an array about all.
    pub fn status(&self, name: Option<&str>, now: Time) -> Result<String> {
        let text = |id: u32| {
            let entry = self.table.get(id)?;
            let ca = self.cas.get(usize::from(entry.issuer))?;
            serde_json::to_string(&entry.status(ca, now)).ok()
        };
        let Some(name) = name else {
            let all: Vec<String> = self.table.ids().filter_map(text).collect();
            return Ok(format!("[{}]", all.join(",")));
        };
        let missing = || Error::invalid_argument("the manager has no certificate of this name");
        self.table.find(name).and_then(text).ok_or_else(missing)
    }

    /// Returns metrics as OpenMetrics 1.0 text.
    pub fn metrics(&self, now: Time) -> String {
        let mut states = WORDS.map(|word| (word.to_owned(), 0));
        let (mut first_expiry, mut next_try) = (None, None);
        for entry in self.table.iter() {
            let word = entry.word(now);
            if let Some((_, count)) = states.iter_mut().find(|(known, _)| known == word) {
                *count += 1;
            }
            let earlier = |known: Option<Time>, time| known.into_iter().chain([time]).min();
            if entry.not_after > now {
                first_expiry = earlier(first_expiry, entry.not_after);
            }
            if entry.state == State::Idle {
                next_try = earlier(next_try, entry.due.max(now));
            }
        }
        let Counters { attempts, obtained, renewed, not_due } = self.counters;
        let results = [("obtained", obtained), ("renewed", renewed), ("not_due", not_due)];
        let cas = || self.cas.iter().map(|ca| (ca_name(&ca.url), ca));
        let is_paused = |ca: &Ca| ca.health.ends().is_some_and(|until| until > now);

        let mut text = Metrics(String::new());
        text.family("acme_certificates", "gauge", "state", states);
        text.number("acme_attempts", "counter", attempts);
        let results = results.map(|(result, count)| (result.to_owned(), count));
        text.family("acme_results", "counter", "result", results);
        let failures = self.failures.0.iter().map(|(kind, count)| (format!("{kind:?}"), *count));
        text.family("acme_failures", "counter", "kind", failures);
        let requests = cas().map(|(name, ca)| (name, ca.client.requests()));
        text.family("acme_requests", "counter", "ca", requests);
        // If nothing works from now on, this is when the first name has no certificate.
        text.time("acme_first_expiry_timestamp_seconds", first_expiry);
        text.time("acme_next_try_timestamp_seconds", next_try);
        let paused = cas().map(|(name, ca)| (name, is_paused(ca).into()));
        text.family("acme_ca_paused", "gauge", "ca", paused);
        text.0 + "# EOF\n"
    }
}
