//! When a certificate is due, and which certificate an order replaces. RFC 9773.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acme_micro::engine::{Issued, OrderOptions, Renewal, RenewalInfo, next_try};
use acme_micro::{AcmeError, CertificateChain, ErrorKind, Time};
use serde_json::json;

use super::ca::Response;
use super::pki::{self, Contents};
use super::script::{START, Script};

const DAY: i64 = 86_400;

/// Returns a CA with this renewal window, and a certificate of it: 10 days old, valid for 90.
fn with_window(start: i64, end: i64) -> (Script, CertificateChain) {
    let mut ca = Script::new();
    ca.ca.renewal_window = Some((start, end));
    (ca, chain(-10 * DAY, 80 * DAY))
}

fn chain(from: i64, until: i64) -> CertificateChain {
    let key = pki::new_key();
    let leaf =
        pki::leaf(&key, &Contents { names: &["example.org"], from, until, ..Contents::default() });
    CertificateChain::parse(&pki::pem(&[&leaf, &pki::intermediate().certificate])).unwrap()
}

fn ask(ca: &mut Script, chain: &CertificateChain) -> RenewalInfo {
    let operation = ca.client.renewal_info(chain);
    ca.run(&operation).unwrap()
}

fn at(seconds: i64) -> Time {
    Time::from_millis(START + seconds * 1000)
}

fn renewing(chain: &CertificateChain) -> OrderOptions {
    let mut options = OrderOptions::new(["example.org"]);
    options.replaces = Some(chain.clone());
    options
}

fn renew(ca: &mut Script, chain: &CertificateChain) -> Result<Renewal, AcmeError> {
    let operation = ca.client.renew(renewing(chain)).unwrap();
    ca.run(&operation)
}

fn replace(ca: &mut Script, chain: &CertificateChain) -> Result<Issued, AcmeError> {
    ca.order(renewing(chain))
}

#[test]
fn r07_a_time_in_the_cas_window_is_chosen_once() {
    let (mut ca, chain) = with_window(40 * DAY, 42 * DAY);
    let info = ask(&mut ca, &chain);
    assert!(info.from_ca);
    assert_eq!((info.window_start, info.window_end), (at(40 * DAY), at(42 * DAY)));
    assert!(info.window_start <= info.renew_at && info.renew_at < info.window_end);
    assert_eq!(info.check_again_at, at(6 * 3600));
    assert_eq!(ca.transcript[0], "GET /directory");
    assert_eq!(
        ca.transcript[1],
        format!("GET /renewal-info/{}", chain.renewal_id().unwrap()),
        "unsigned, without an account"
    );
    ca.now += DAY * 1000;
    let later = ask(&mut ca, &chain);
    assert_eq!(later.renew_at, info.renew_at, "the time stays while the window stays");
    ca.ca.renewal_window = Some((50 * DAY, 52 * DAY));
    assert!(ask(&mut ca, &chain).renew_at >= at(50 * DAY), "another window has another time");
    // The times of several certificates are spread over the window.
    let mut moments: Vec<Time> =
        (0..20).map(|_| ask(&mut ca, &self::chain(-10 * DAY, 80 * DAY)).renew_at).collect();
    moments.sort();
    moments.dedup();
    assert!(moments.len() > 15);
}

#[test]
fn r03_a_window_in_the_past_means_now_and_one_in_the_future_later() {
    let (mut ca, chain) = with_window(-3 * DAY, -2 * DAY);
    assert!(ask(&mut ca, &chain).is_due(at(0)));
    assert!(matches!(renew(&mut ca, &chain), Ok(Renewal::Renewed(_))));
    assert_eq!(ca.ca.replaced, [json!(chain.renewal_id().unwrap())]);

    let (mut ca, chain) = with_window(40 * DAY, 42 * DAY);
    let Ok(Renewal::NotDue(info)) = renew(&mut ca, &chain) else { panic!("ordered too early") };
    assert!(info.from_ca && !info.is_due(at(0)));
    assert_eq!((ca.count("POST /new-order"), ca.count("POST /new-account")), (0, 0));
    ca.now += 42 * DAY * 1000;
    assert!(matches!(renew(&mut ca, &chain), Ok(Renewal::Renewed(_))));
}

#[test]
fn an_order_for_other_names_is_due_at_once() {
    let (mut ca, chain) = with_window(40 * DAY, 42 * DAY);
    for names in [&["example.org", "www.example.org"][..], &["www.example.org"]] {
        let mut options = OrderOptions::new(names.iter().copied());
        options.replaces = Some(chain.clone());
        let operation = ca.client.renew(options).unwrap();
        let Ok(Renewal::Renewed(issued)) = ca.run(&operation) else { panic!("not ordered") };
        assert_eq!(issued.chain.names(), names);
    }
    let mut options = OrderOptions::new(["EXAMPLE.org"]);
    options.replaces = Some(chain);
    let operation = ca.client.renew(options).unwrap();
    assert!(matches!(ca.run(&operation), Ok(Renewal::NotDue(_))), "the same name");
}

#[test]
fn r05_a_late_window_does_not_delay_renewal_past_the_expiry() {
    for (start, end) in [(79 * DAY, 81 * DAY), (200 * DAY, 300 * DAY)] {
        let (mut ca, chain) = with_window(start, end);
        assert!(ask(&mut ca, &chain).renew_at <= at(71 * DAY), "in the last tenth of its life");
    }
}

#[test]
fn r06_the_retry_after_of_renewal_information_is_obeyed_within_limits() {
    for (retry_after, seconds) in [
        (Some("3600"), 3600),
        (Some("0"), 60),
        (Some("31536000"), DAY),
        (Some("Wed, 25 Nov 2026 02:24:05 GMT"), 12 * 3600),
        (Some("soon"), 6 * 3600),
        (None, 6 * 3600),
    ] {
        let (mut ca, chain) = with_window(40 * DAY, 42 * DAY);
        ca.on("GET /renewal-info/*").then(move |_, response| match retry_after {
            Some(value) => response.set("Retry-After", value),
            None => response.remove("Retry-After"),
        });
        assert_eq!(ask(&mut ca, &chain).check_again_at, at(seconds), "{retry_after:?}");
    }
}

#[test]
fn r01_r02_r04_the_lifetime_decides_without_usable_information() {
    // A certificate is due after two thirds of 90 days, and after half of 6 days.
    for (from, until, due) in [(-10 * DAY, 80 * DAY, 50 * DAY), (0, 6 * DAY, 3 * DAY)] {
        let mut ca = Script::new();
        let info = ask(&mut ca, &chain(from, until));
        assert!(!info.from_ca);
        assert_eq!(info.window_start, at(due));
        assert!(info.renew_at >= at(due) && info.renew_at <= at(until));
    }
    let window = |start: &str, end: &str| json!({"suggestedWindow": {"start": start, "end": end}});
    for body in [
        json!({}),
        json!({"suggestedWindow": null}),
        window("2026-12-02T00:00:00Z", "2026-12-01T00:00:00Z"),
        window("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        window("2026-12-01T00:00:00", "2026-12-02T00:00:00"),
        window("yesterday", "tomorrow"),
    ] {
        let (mut ca, chain) = with_window(1, 2);
        ca.on("GET /renewal-info/*").respond(Response::json(200, &body));
        assert!(!ask(&mut ca, &chain).from_ca, "{body}");
    }
    for (status, tries) in [(404, 1), (410, 1), (400, 1), (429, 1), (500, 4), (503, 4)] {
        let (mut ca, chain) = with_window(1, 2);
        ca.on("GET /renewal-info/*").problem(status, "malformed");
        assert!(!ask(&mut ca, &chain).from_ca, "{status}");
        assert_eq!(ca.count("GET /renewal-info/*"), tries, "{status}");
    }
    let (mut ca, chain) = with_window(1, 2);
    ca.on("GET /renewal-info/*").lose_request();
    assert!(!ask(&mut ca, &chain).from_ca);
    assert_eq!(ca.count("GET /renewal-info/*"), 4);
}

#[test]
fn c15_a_certificate_of_any_lifetime_is_renewed_within_it() {
    const MINUTE: i64 = 60;
    for (lifetime, due) in [
        (1, 0),
        (5 * MINUTE, 150),
        (6 * DAY, 3 * DAY),
        (10 * DAY - 1, 5 * DAY - 1),
        (47 * DAY, 47 * DAY / 3 * 2),
        (398 * DAY, 398 * DAY / 3 * 2),
        (20 * 365 * DAY, 20 * 365 * DAY / 3 * 2),
        (7000 * 365 * DAY, 7000 * 365 * DAY / 3 * 2),
    ] {
        let chain = chain(0, lifetime);
        let info = RenewalInfo::by_lifetime(&chain, at(0));
        let late = info.window_start.since(at(due));
        assert!(info.window_start >= at(due) && late <= Duration::from_secs(1), "{lifetime}");
        assert!(info.window_start <= info.window_end && info.window_end < chain.not_after());
        assert!(info.window_start <= info.renew_at && info.renew_at < chain.not_after());
        assert!(!info.is_due(at(0)) && info.is_due(chain.not_after()), "{lifetime}");
    }
    // A certificate that was never valid is due at once.
    let expired = chain(3600, -3600);
    assert!(RenewalInfo::by_lifetime(&expired, at(3600)).is_due(at(3600)));
}

#[test]
fn r04_r05_every_form_of_a_date_is_read_and_windows_are_limited() {
    let due = |start: &str, end: &str| {
        let (mut ca, chain) = with_window(1, 2);
        let window = json!({"suggestedWindow": {"start": start, "end": end}});
        ca.on("GET /renewal-info/*").respond(Response::json(200, &window));
        let info = ask(&mut ca, &chain);
        assert!(info.from_ca, "{start} {end}");
        // The time is never in the last tenth of the certificate's life, which ends in 80 days.
        assert!(info.renew_at <= at(71 * DAY), "{start} {end}");
        info
    };
    let second = due("2026-12-24T14:24:05Z", "2026-12-24T14:24:06Z");
    assert!((at(30 * DAY)..at(30 * DAY + 1)).contains(&second.renew_at));
    let fractions = due("2026-12-24T14:24:05.250000001Z", "2026-12-24T14:24:05.5Z");
    assert_eq!(fractions.window_start.as_millis(), at(30 * DAY).as_millis() + 250);
    let ahead = due("2026-12-25T04:24:05+14:00", "2026-12-24T14:24:05-00:30");
    assert_eq!((ahead.window_start, ahead.window_end), (at(30 * DAY), at(30 * DAY + 1800)));
    due("2026-12-31T23:59:60Z", "2027-01-01T00:00:10Z"); // a leap second
    let last = due("9999-12-31T23:59:58Z", "9999-12-31T23:59:59Z");
    assert_eq!(last.renew_at, at(71 * DAY));
    let huge = due("0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
    assert!(huge.renew_at <= at(71 * DAY));
    // The window ended before the certificate became valid: it is due.
    assert!(due("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z").is_due(at(0)));
}

#[test]
fn r08_an_explanation_is_passed_on_as_text() {
    let (mut ca, chain) = with_window(40 * DAY, 42 * DAY);
    let long = "x".repeat(10_000);
    ca.on("GET /renewal-info/*").edit(move |info| {
        info["explanationURL"] = json!(format!("javascript:alert(1)\r\n{long}"));
    });
    let explanation = ask(&mut ca, &chain).explanation_url.unwrap();
    assert!(explanation.starts_with("javascript:alert(1)\\u{d}\\u{a}x"), "{explanation:?}");
    assert!(explanation.len() < 1100);
}

#[test]
fn o33_a_refusal_that_may_be_about_replaces_is_followed_by_one_order_without_it() {
    for (status, name) in [
        (409, "alreadyReplaced"),
        (400, "malformed"),
        (403, "unauthorized"),
        (404, "malformed"),
        (409, "conflict"),
        (404, "certificateNotFound"),
        (400, "tomorrowsError"),
    ] {
        let (mut ca, chain) = with_window(-2, -1);
        ca.on("POST /new-order").nth(1).problem(status, name);
        replace(&mut ca, &chain).unwrap_or_else(|error| panic!("{status} {name}: {error}"));
        assert_eq!(ca.count("POST /new-order"), 2, "{status} {name}");
        assert!(ca.ca.replaced.is_empty(), "the second order names no certificate");
        // The refusal repeats: the operation ends with it.
        let (mut ca, chain) = with_window(-2, -1);
        ca.on("POST /new-order").problem(status, name);
        assert_eq!(replace(&mut ca, &chain).unwrap_err().http_status(), Some(status));
        assert_eq!(ca.count("POST /new-order"), 2);
    }
}

#[test]
fn a_refusal_about_something_else_is_final() {
    for (status, name, kind) in [
        (429, "rateLimited", ErrorKind::RateLimited),
        (403, "rateLimited", ErrorKind::RateLimited),
        (400, "rejectedIdentifier", ErrorKind::Order),
        (403, "userActionRequired", ErrorKind::Terms),
    ] {
        let (mut ca, chain) = with_window(-2, -1);
        ca.on("POST /new-order").problem(status, name);
        assert_eq!(replace(&mut ca, &chain).unwrap_err().kind(), kind);
        assert_eq!(ca.count("POST /new-order"), 1, "{status} {name}");
    }
}

#[test]
fn a_ca_without_renewal_information_gets_no_replaces() {
    let mut ca = Script::new();
    replace(&mut ca, &chain(-10 * DAY, 80 * DAY)).unwrap();
    assert!(ca.ca.replaced.is_empty());
}

/// A host that renews its certificate at the times of [`next_try`], as the examples do.
struct Keeper {
    chain: CertificateChain,
    failures: usize,
    renewals: usize,
}

impl Keeper {
    fn of(chain: CertificateChain) -> Keeper {
        Keeper { chain, failures: 0, renewals: 0 }
    }

    /// Runs one round; returns the time of the next one, and whether there is a new certificate.
    fn round(&mut self, ca: &mut Script) -> (Time, bool) {
        let looked = renew(ca, &self.chain);
        let now = Time::from_millis(ca.now);
        let (tries, error) = match looked {
            Ok(Renewal::NotDue(info)) => {
                (self.failures, self.renewals) = (0, 0);
                return (info.renew_at.min(info.check_again_at), false);
            }
            Ok(Renewal::Renewed(issued)) => {
                self.chain = issued.chain;
                (self.failures, self.renewals) = (0, self.renewals + 1);
                (self.renewals, None)
            }
            Err(error) => {
                self.failures += 1;
                (self.failures, Some(error))
            }
        };
        let next = next_try(tries, error.as_ref(), Some(&self.chain), now);
        assert!(next >= now.after(Duration::from_secs(30)), "too soon");
        (next, error.is_none())
    }
}

fn keep_for_a_month(ca: &mut Script, chain: CertificateChain) -> CertificateChain {
    let mut keeper = Keeper::of(chain);
    while ca.now < START + 30 * DAY * 1000 {
        let now = Time::from_millis(ca.now);
        let (next, _) = keeper.round(ca);
        assert!(next >= now.after(Duration::from_secs(60)), "too soon");
        ca.now = next.as_millis();
    }
    keeper.chain
}

/// Makes the CA issue certificates that are valid from now on, for this many seconds.
fn issues(ca: &mut Script, lifetime: i64) {
    let from = (ca.now - START) / 1000;
    ca.ca.issue = Box::new(move |key, names| {
        let until = from + lifetime;
        let leaf = pki::leaf(key, &Contents { names, from, until, ..Contents::default() });
        pki::pem(&[&leaf, &pki::intermediate().certificate])
    });
}

/// Checks an outage at the worst time: the CA refuses orders for this many seconds, beginning when
/// the certificate is due.
fn survive(lifetime: i64, outage: i64) {
    let is_down = Arc::new(AtomicBool::new(true));
    let mut ca = Script::new();
    ca.on("POST /cert/*").then(|_, response| response.remove("Date"));
    let down = Arc::clone(&is_down);
    ca.on("POST /new-order").then(move |_, response| {
        if down.load(Ordering::Relaxed) {
            *response = Response::problem(503, "serverInternal");
        }
    });
    let mut keeper = Keeper::of(chain(0, lifetime));
    ca.now = RenewalInfo::by_lifetime(&keeper.chain, at(0)).renew_at.as_millis();
    let restored = Time::from_millis(ca.now + outage * 1000);
    let (mut tries, mut renewals) = (0, 0);
    while renewals < 3 {
        let now = Time::from_millis(ca.now);
        is_down.store(now < restored, Ordering::Relaxed);
        issues(&mut ca, lifetime);
        let expires = keeper.chain.not_after();
        let (next, is_new) = keeper.round(&mut ca);
        let about = format!("{lifetime} s, out for {outage} s, {tries} tries");
        tries += i64::from(now < restored);
        if is_new {
            // A new certificate does not inherit the delays of earlier failures.
            let delay = next.since(Time::from_millis(ca.now)).as_secs();
            assert!((60..=90).contains(&delay), "the next round after {delay} s: {about}");
            // The host may lack a certificate from its expiry to the end of the outage, and for one
            // more delay. Issuing takes a few seconds.
            let least = Duration::from_secs((lifetime / 64).clamp(40, 3600) as u64 + 5);
            let pace = Duration::from_secs((lifetime / 8).clamp(60, 36 * 3600) as u64);
            let allowed = match restored.after(least) < expires || renewals > 0 {
                true => Duration::ZERO,
                false => restored.since(expires) + pace,
            };
            let without = Time::from_millis(ca.now).since(expires);
            assert!(without <= allowed, "{without:?} without a certificate: {about}");
            renewals += 1;
        }
        ca.now = next.as_millis();
    }
    // Three attempts at first, then one a day; some more just before the expiry; then one per delay.
    let expired = restored.since(at(lifetime)).as_secs() as i64;
    let most = 12 + outage / DAY + expired / (lifetime / 8 * 3 / 4).clamp(45, DAY);
    assert!(tries <= most, "{tries} tries in {outage} s, at {lifetime} s");
    assert!(tries >= 1 && ca.count("POST /new-order") as i64 == 2 * tries + renewals);
}

#[test]
fn r15_an_outage_causes_no_longer_gap_than_it_must() {
    for lifetime in [300, DAY, 6 * DAY, 90 * DAY] {
        for twentieth in (1..=30).step_by(3) {
            survive(lifetime, lifetime * twentieth / 20);
        }
        survive(lifetime, 1);
        // The outage ends shortly before the certificate expires, or shortly after.
        let due = RenewalInfo::by_lifetime(&chain(0, lifetime), at(0)).renew_at;
        let left = at(lifetime).since(due).as_secs() as i64;
        for second in [-3700, -1800, -100, -45, -10, 0, 10, 100] {
            survive(lifetime, (left + second).max(1));
        }
    }
}

#[test]
fn r10_a_window_always_in_the_past_leaves_no_gap_between_short_certificates() {
    let (mut ca, _) = with_window(-2, -1);
    ca.on("POST /cert/*").then(|_, response| response.remove("Date"));
    let mut keeper = Keeper::of(chain(0, 300));
    for round in 0..20 {
        issues(&mut ca, 300);
        let (next, is_new) = keeper.round(&mut ca);
        let waits = next.since(Time::from_millis(ca.now)).as_secs();
        assert!(
            is_new && (if round == 0 { 60..=90 } else { 110..=156 }).contains(&waits),
            "{waits}"
        );
        ca.now = next.as_millis();
        assert!(keeper.chain.not_after() > next);
    }
}

#[test]
fn r09_a_due_order_that_fails_is_repeated_once_a_day() {
    for name in ["example.org", "other.example"] {
        let (mut ca, chain) = with_window(-2, -1);
        ca.ca.failing.push("example.org".to_owned());
        if name == "other.example" {
            ca.ca.failing.clear();
            ca.on("POST /new-order").problem(503, "serverInternal");
        }
        let kept = keep_for_a_month(&mut ca, chain.clone());
        assert_eq!(kept.pem(), chain.pem(), "the old certificate stays");
        // The client sends newOrder twice when the response is 503.
        let orders = ca.count("POST /new-order") / if name == "other.example" { 2 } else { 1 };
        assert!((20..=34).contains(&orders), "{name}: {orders} orders in a month");
    }
}

#[test]
fn r10_a_window_always_in_the_past_costs_one_certificate_a_day() {
    let (mut ca, chain) = with_window(-2, -1);
    keep_for_a_month(&mut ca, chain);
    let replaced = ca.ca.replaced.len();
    assert!((20..=34).contains(&replaced), "{replaced} renewals in a month");
    let mut ids: Vec<String> = ca.ca.replaced.iter().map(ToString::to_string).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), replaced, "each certificate is replaced once");
}

#[test]
fn r10_r12_a_new_certificate_has_its_own_schedule() {
    let (mut ca, old) = with_window(-2, -1);
    let Ok(Renewal::Renewed(issued)) = renew(&mut ca, &old) else { panic!("not renewed") };
    ca.forget();
    ca.ca.renewal_window = Some((40 * DAY, 42 * DAY));
    let Ok(Renewal::NotDue(info)) = renew(&mut ca, &issued.chain) else { panic!("renewed twice") };
    assert!(info.renew_at >= at(40 * DAY));
    // The same holds for a certificate that another program has put in its place.
    let other = chain(0, 90 * DAY);
    let theirs = ask(&mut ca, &other);
    assert_ne!(theirs.renew_at, info.renew_at);
    let asked = |chain: &CertificateChain| {
        ca.count(&format!("GET /renewal-info/{}", chain.renewal_id().unwrap()))
    };
    assert_eq!((asked(&old), asked(&issued.chain), asked(&other)), (0, 1, 1));
}

#[test]
fn a_renewal_without_a_certificate_is_refused() {
    let ca = Script::new();
    let refused = ca.client.renew(OrderOptions::new(["example.org"])).map(|_| ());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
