//! Machines with a wrong clock: faketime runs this test program again at another time.

use std::process::Command;
use std::thread;

use acme_micro::{ErrorKind, Time};

use super::Folder;
use super::connection_resets::{NOWHERE, identity, issue};
use super::script::Script;

/// Runs a test of this file again at another time.
fn at(time: &str, year: &str, name: &str) {
    let output = Command::new("faketime")
        .args(["-f", time])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("clocks::{name}")])
        .env("ACME_YEAR", year)
        .env("TZ", "UTC")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{time}: {output:?}");
}

/// Whether this process runs at another time; checks that it is in the expected year.
fn is_elsewhere() -> bool {
    let Ok(year) = std::env::var("ACME_YEAR") else { return false };
    let now = Time::now().to_string();
    assert!(now.starts_with(&year), "it is {now}, not {year}");
    true
}

#[test]
fn k01_k02_k03_a_certificate_is_obtained_at_any_time() {
    if is_elsewhere() {
        let folder = Folder::new("clock");
        let outcome = issue(&identity(&folder), Script::new(), NOWHERE);
        outcome.result.unwrap();
        assert_eq!(outcome.ca.script.lock().unwrap().transcript.len(), 10);
        return;
    }
    // The CA's own clock stands still at 2026-11-24.
    thread::scope(|scope| {
        for (time, year) in [
            ("@1966-06-01 00:00:00", "1966"),
            ("@1969-12-31 23:59:59", "19"), // 1970 in a second
            ("@2016-11-24 00:00:00", "2016"),
            ("@2026-11-24 13:00:00", "2026"),
            ("@2026-11-25 14:00:00", "2026"),
            ("@2038-01-19 03:14:07", "2038"), // 2^31 in a second
            ("@2038-06-01 00:00:00", "2038"),
            ("@2106-02-07 06:28:15", "2106"), // 2^32
            ("@2120-01-01 00:00:00", "2120"),
        ] {
            scope
                .spawn(move || at(time, year, "k01_k02_k03_a_certificate_is_obtained_at_any_time"));
        }
    });
}

#[test]
fn k01_a_certificate_with_wrong_dates_names_both_clocks() {
    if is_elsewhere() {
        let folder = Folder::new("clock-and-dates");
        let mut script = Script::new();
        let later = "Fri, 24 Nov 2028 14:24:05 GMT";
        script.on("POST /cert/1").then(move |_, response| response.set("Date", later));
        let outcome = issue(&identity(&folder), script, NOWHERE);
        let error = outcome.result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate);
        let text = error.to_string();
        let both = "and it is 2028-11-24T14:24:05Z by the CA's clock; here it is 2016-";
        assert!(text.contains(both) && text.contains("check the clocks"), "{text}");
        return;
    }
    at("@2016-11-24 00:00:00", "2016", "k01_a_certificate_with_wrong_dates_names_both_clocks");
}

#[test]
fn k04_k06_a_clock_that_runs_too_fast_ends_no_operation() {
    if is_elsewhere() {
        // A second lasts five hours on this machine's clock; the timeout of an operation is ten
        // minutes. The pending order makes the client wait for 250 ms, which is 83 minutes.
        let folder = Folder::new("clock-runs");
        let start = Time::now();
        let mut script = Script::new();
        script.ca.validation_fetches = 2;
        let outcome = issue(&identity(&folder), script, NOWHERE);
        outcome.result.unwrap();
        assert_eq!(
            outcome.ca.script.lock().unwrap().transcript.len(),
            11,
            "no request more than with a correct clock"
        );
        let took = Time::now().since(start);
        assert!(took > std::time::Duration::from_secs(600), "{took:?}: the clock did not run");
        return;
    }
    at(
        "@2026-11-24 12:00:00 x20000",
        "2026",
        "k04_k06_a_clock_that_runs_too_fast_ends_no_operation",
    );
}
