//! An issuance at Boulder, Let's Encrypt's server: challenges stay pending while they are validated, a
//! second response is a conflict, accounts are cached, and faults of the CA itself appear in
//! challenges and orders.

use std::time::Duration;

use acme_micro::engine::{Client, ClientOptions, OrderOptions};
use acme_micro::{ErrorKind, Key, KeyType};
use serde_json::json;

use super::ca::{BASE, Response};
use super::script::{Interference, Outage, Outcome, Pace, Script};

const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];

/// A fault at one request of an issuance.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    Nothing,
    LostRequest,
    LostResponse,
    Unavailable,
}

fn issue(seconds: i64, phase: u32, mishap: Mishap, pace: Pace) -> (Script, Outcome) {
    let mut ca = Script::at_boulder();
    ca.ca.validation_takes = seconds * 1000;
    ca.pace = pace;
    match mishap {
        Mishap::Nothing => {}
        Mishap::LostRequest => ca.on("*").nth(phase).lose_request(),
        Mishap::LostResponse => ca.on("*").nth(phase).lose_response(),
        Mishap::Unavailable => {
            ca.on("*").nth(phase).respond(Response::problem(500, "serverInternal"));
        }
    }
    let outcome = ca.obtain(&NAMES);
    (ca, outcome)
}

/// Ten phases: the first ten requests of an issuance, from the directory to the polls of the order.
#[test]
fn a_validation_of_up_to_a_minute_ends_in_a_certificate() {
    use Mishap::{LostRequest, LostResponse, Nothing, Unavailable};
    for seconds in [1, 2, 3, 4, 5, 8, 9, 13, 16, 21, 30, 34, 45, 60] {
        for phase in 1..=10 {
            for mishap in [Nothing, LostRequest, LostResponse, Unavailable] {
                for pace in [Pace::Blocking, Pace::Eager, Pace::Shuffled(seconds as u64)] {
                    let case = format!("{seconds} s, {mishap:?} at {phase}, {pace:?}");
                    let (ca, outcome) = issue(seconds, phase, mishap, pace);
                    outcome.unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert_eq!(ca.early, [""; 0], "{case}: {:?}", ca.events);
                    let responses: Vec<u32> =
                        ca.ca.authorizations.iter().map(|a| a.responses).collect();
                    assert_eq!(responses, [1, 1, 1], "{case}");
                    // A challenge gets a second response only if the CA's HTTP response was lost.
                    let lost = u32::from(mishap != Nothing);
                    assert!(ca.count("POST /chall/*") <= 3 + lost as usize, "{case}");
                    assert_eq!(ca.ca.orders.len(), 1, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_conflict_means_that_an_earlier_run_has_responded() {
    let mut ca = Script::at_boulder();
    ca.ca.validation_takes = 20_000;
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    // The first run ends just after its response to the challenge.
    ca.interfere = Some(Box::new(|n, _| match n {
        15.. => Interference::Cancel,
        _ => Interference::Nothing,
    }));
    assert_eq!(ca.run(&operation).unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(ca.count("POST /chall/*"), 1, "{:?}", ca.transcript);
    ca.interfere = None;
    ca.early.clear();
    let mut options = OrderOptions::new(["example.org"]);
    options.order_url = operation.order_url();
    ca.order(options).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 2);
    assert!(ca.early.is_empty(), "{:?}", ca.events);
    assert_eq!(ca.ca.authorizations[0].responses, 1);
}

#[test]
fn a_conflict_without_a_validation_ends_with_the_timeout() {
    let mut ca = Script::at_boulder();
    ca.on("POST /chall/1/http-01").respond(Response::problem(409, "conflict"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Timeout, false), "{error}");
    assert_eq!(ca.count("POST /chall/*"), 1);
    assert!(ca.elapsed() >= Duration::from_secs(500), "{:?}", ca.elapsed());
}

#[test]
fn names_ahead_of_an_order_are_polled_as_patiently() {
    use acme_micro::engine::AuthorizeOptions;
    for seconds in [1, 9, 30, 60] {
        for lost in [false, true] {
            let mut ca = Script::at_boulder();
            ca.ca.pre_authorizes = true;
            ca.ca.validation_takes = seconds * 1000;
            if lost {
                ca.on("POST /chall/1/http-01").nth(1).lose_response();
            }
            let operation = ca.client.authorize(AuthorizeOptions::new(NAMES)).unwrap();
            ca.run(&operation).unwrap();
            assert_eq!(ca.count("POST /chall/*"), 3 + usize::from(lost), "{seconds}");
            assert!(ca.early.is_empty());
        }
    }
}

#[test]
fn a_failed_name_does_not_remove_the_challenges_of_others() {
    let mut ca = Script::at_boulder();
    ca.ca.failing = vec!["b.example".to_owned()];
    ca.ca.validation_takes = 40_000;
    // b.example fails at once; the other validations take longer.
    ca.on("POST /chall/2/http-01").then(|ca, _| ca.authorizations[1].status = "invalid");
    let error = ca.obtain(&NAMES).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Challenge, "{error}");
    assert_eq!(error.identifier(), Some("b.example"));
    assert!(ca.early.is_empty(), "{:?}", ca.events);
    let states: Vec<&str> = ca.ca.authorizations.iter().map(|a| a.status).collect();
    assert_eq!(states, ["valid", "invalid", "valid"], "the CA can use the others again");
}

#[test]
fn an_operation_does_not_wait_for_ever_for_names_that_no_longer_matter() {
    let mut ca = Script::at_boulder();
    ca.ca.validation_takes = 1_000_000;
    ca.on("POST /chall/2/http-01").then(|ca, _| ca.authorizations[1].status = "invalid");
    let error = ca.obtain(&NAMES).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Challenge, "{error}");
    assert!(ca.elapsed() <= Duration::from_secs(70), "{:?}", ca.elapsed());
}

#[test]
fn a_refused_response_leaves_the_other_challenges_published() {
    let mut ca = Script::at_boulder();
    ca.ca.validation_takes = 20_000;
    ca.on("POST /chall/2/http-01").problem(403, "unauthorized");
    let error = ca.obtain(&NAMES).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Problem, Some("b.example")));
    assert!(ca.early.is_empty(), "{:?}", ca.events);
    assert_eq!(ca.count("POST /chall/3/http-01"), 0, "no further challenge gets a response");
}

#[test]
fn all_failed_names_are_reported() {
    for pace in [Pace::Blocking, Pace::Eager] {
        let mut ca = Script::at_boulder();
        ca.pace = pace;
        ca.ca.failing = vec!["a.example".to_owned(), "c.example".to_owned()];
        let error = ca.obtain(&NAMES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Challenge);
        let text = error.to_string();
        for part in ["2 names failed", "a.example: http-01 failed", "c.example: http-01 failed"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("b.example") && error.identifier().is_none(), "{text}");
        let problem = error.problem().unwrap();
        assert_eq!(problem.name(), Some("compound"));
        let parts = problem.subproblems();
        let names: Vec<_> = parts.iter().map(|part| part.identifier().unwrap()).collect();
        assert_eq!(names, ["a.example", "c.example"]);
        assert_eq!(parts[1].name(), Some("connection"));
        assert_eq!(parts[1].detail(), Some("cannot reach c.example"));
        let json: serde_json::Value = serde_json::from_str(problem.json()).unwrap();
        assert_eq!(json["subproblems"][0]["identifier"]["value"], "a.example");
    }
    // A hundred names: the error has a few reasons, and the other names.
    let names: Vec<String> = (0..100).map(|n| format!("host-{n:02}.example.org")).collect();
    let mut ca = Script::at_boulder();
    ca.ca.failing = names.clone();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = ca.obtain(&names).unwrap_err();
    assert_eq!(error.problem().unwrap().subproblems().len(), 100);
    let text = error.to_string();
    assert!(text.contains("100 names failed") && text.len() < 4096, "{text}");
    assert!(text.contains("host-00.example.org: http-01 failed"), "{text}");
    assert!(text.contains("host-99.example.org"), "{text}");
}

#[test]
fn a_key_change_waits_until_the_ca_accepts_the_new_key() {
    let new = Key::generate(KeyType::P256).unwrap();
    let mut ca = Script::at_boulder();
    ca.register().unwrap();
    let operation = ca.client.change_key(&new);
    ca.run(&operation).unwrap();
    // The change waits until the CA uses the new key, so a program that starts now can use it.
    let mut options = ClientOptions::new(format!("{BASE}/directory"), new);
    options.account_url = Some(format!("{BASE}/account/1"));
    ca.client = Client::new(options).unwrap();
    ca.forget();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /new-order"), 1, "{:?}", ca.transcript);
}

#[test]
fn a_front_end_with_the_old_key_gets_the_request_again() {
    let keys = [(); 2].map(|()| Key::generate(KeyType::P256).unwrap());
    let wrong = json!({
        "type": "urn:ietf:params:acme:error:malformed",
        "detail": "Unable to validate JWS :: JWS verification error",
    });
    for what in [
        "POST /new-order",
        "POST /authz/1",
        "POST /chall/1/http-01",
        "POST /order/1",
        "POST /finalize/1",
        "POST /cert/1",
    ] {
        // The first front end has the new key, the next one has not.
        let mut ca = Script::at_boulder();
        ca.ca.caches_keys_for = 0;
        ca.register().unwrap();
        let operation = ca.client.change_key(&keys[0]);
        ca.run(&operation).unwrap();
        ca.on(what).times(5).respond(Response::json(400, &wrong));
        ca.obtain(&["example.org"]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(ca.ca.orders.len(), 1);
    }
    // Ten seconds later it is an error, not a permanent one: another cache may have the old key.
    let mut ca = Script::at_boulder();
    ca.register().unwrap();
    let operation = ca.client.change_key(&keys[0]);
    ca.run(&operation).unwrap();
    let operation = ca.client.change_key(&keys[1]);
    ca.run(&operation).unwrap();
    ca.now += 11_000;
    ca.forget();
    ca.on("POST /new-order").respond(Response::json(400, &wrong));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, false));
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn a_refused_signature_does_not_lead_to_an_order_without_replaces() {
    let mut ca = Script::at_boulder();
    ca.ca.renewal_window = Some((-2, -1));
    let old = ca.obtain(&["example.org"]).unwrap();
    ca.forget();
    ca.on("POST /new-order").then(|_, response| {
        *response = Response::problem(400, "malformed");
        response.edit(|problem| problem["detail"] = json!("JWS verification error"));
    });
    let mut options = OrderOptions::new(["example.org"]);
    options.replaces = Some(old.chain);
    let error = ca.order(options).unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn a_ca_whose_validation_is_broken_gets_one_new_order_after_a_minute() {
    for heals in [true, false] {
        let mut ca = Script::at_boulder();
        ca.ca.failing = vec!["example.org".to_owned()];
        ca.ca.failure = "serverInternal";
        if heals {
            ca.on("POST /new-order").nth(2).then(|ca, _| ca.failing.clear());
        }
        let outcome = ca.obtain(&["example.org"]);
        assert_eq!(ca.count("POST /new-order"), 2);
        assert!(ca.delays.contains(&60_000), "{:?}", ca.delays);
        match outcome {
            Ok(issued) => assert!(heals && issued.order_url.ends_with("/order/2")),
            Err(error) => {
                assert!(!heals, "{error}");
                assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Server, false));
                assert_eq!(error.identifier(), Some("example.org"));
            }
        }
    }
}

#[test]
fn a_ca_that_breaks_while_it_finalizes_gets_one_new_order_after_a_minute() {
    let mut ca = Script::at_boulder();
    ca.on("POST /finalize/1").then(|ca, response| {
        ca.orders[0].invalid = true;
        ca.orders[0].error = Some(json!({
            "type": "urn:ietf:params:acme:error:serverInternal", "detail": "Error finalizing order",
        }));
        *response = Response::json(200, &ca.order(0));
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /new-order"), 2);
    assert!(ca.elapsed() >= Duration::from_secs(60));
    // The client does not wait for a minute, and creates no new order, if its timeout is shorter.
    let mut options = OrderOptions::new(["example.org"]);
    options.time_limit = Duration::from_secs(30);
    let mut ca = Script::at_boulder();
    ca.ca.failing = vec!["example.org".to_owned()];
    ca.ca.failure = "serverInternal";
    let error = ca.order(options).unwrap_err();
    assert_eq!((error.kind(), ca.count("POST /new-order")), (ErrorKind::Server, 1));
    assert!(ca.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_ca_that_is_away_for_some_seconds_loses_no_order() {
    for (what, first) in [
        ("POST /authz/1", 1),
        ("POST /chall/1/http-01", 1),
        ("POST /order/1", 1),
        ("POST /order/1", 2),
        ("POST /finalize/1", 1),
        ("POST /cert/1", 1),
    ] {
        for away in [5, 25] {
            for closes in [false, true] {
                let mut ca = Script::at_boulder();
                let (from, lasts) = ((what.to_owned(), first), away * 1000);
                ca.outage = Some(Outage { from, lasts, closes, began: None });
                let case = format!("{what} {first}, {away} s, closes: {closes}");
                ca.obtain(&["example.org"]).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert!(ca.early.is_empty(), "{case}");
                assert_eq!(ca.ca.orders.len(), 1, "{case}");
                assert!(ca.transcript.len() < 40, "{case}: {:?}", ca.transcript);
            }
        }
    }
}

#[test]
fn an_operation_waits_for_a_500_with_a_retry_after_of_a_minute() {
    for what in ["POST /authz/1", "POST /chall/1/http-01", "POST /order/1", "POST /finalize/1"] {
        let mut ca = Script::at_boulder();
        let away = Response::problem(500, "serverInternal").header("Retry-After", "60");
        ca.on(what).nth(1).respond(away);
        ca.obtain(&["example.org"]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(ca.ca.orders.len(), 1, "{what}");
    }
}

#[test]
fn the_link_that_lifts_a_pause_is_reported_whole_at_any_length() {
    for length in [100, 900, 1100, 2000, 3900, 8000] {
        let url = format!("https://ca.example/sfe/v1/unpause?jwt={}", "e".repeat(length));
        let detail = format!(
            "Your account is temporarily prevented from requesting certificates for a.example and \
             possibly others. Please visit: {url}"
        );
        for (detail, what) in [
            (detail.clone(), "at the end"),
            (format!("{detail}. It is a page."), "before a full stop"),
            (format!("{}{detail}", "Ünïcode text. ".repeat(150)), "far behind"),
        ] {
            let problem =
                json!({"type": "urn:ietf:params:acme:error:rateLimited", "detail": detail});
            let mut ca = Script::at_boulder();
            ca.on("POST /new-order").respond(Response::json(429, &problem));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.help_url(), Some(url.as_str()), "{length} {what}");
        }
    }
}

#[test]
fn a_pending_order_that_is_returned_again_is_finished() {
    let mut ca = Script::at_boulder();
    ca.on("POST /new-order").nth(1).lose_response();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!((ca.count("POST /new-order"), ca.ca.orders.len()), (2, 1));
}

#[test]
fn a_retry_after_is_obeyed_before_a_lost_request_is_repeated() {
    let away = || Response::problem(500, "serverInternal").header("Retry-After", "60");
    for what in ["POST /new-order", "POST /chall/1/http-01", "POST /finalize/1"] {
        let mut ca = Script::at_boulder();
        ca.on(what).nth(1).respond(away());
        ca.obtain(&["example.org"]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(ca.count(what), 2, "{what}");
        assert!(ca.elapsed() >= Duration::from_secs(60), "{what}: {:?}", ca.elapsed());
    }
    let mut ca = Script::at_boulder();
    ca.register().unwrap();
    ca.forget();
    ca.on("POST /key-change").nth(1).respond(away());
    let operation = ca.client.change_key(&Key::generate(KeyType::P256).unwrap());
    ca.run(&operation).unwrap();
    assert!(ca.delays.contains(&60_000), "{:?}", ca.delays);
}

#[test]
fn a_key_change_of_an_earlier_run_is_recognized() {
    let new = Key::generate(KeyType::P256).unwrap();
    let mut ca = Script::at_boulder();
    ca.register().unwrap();
    let operation = ca.client.change_key(&new);
    ca.run(&operation).unwrap();
    // A program that missed the change requests it again with the old key, which is in the cache.
    let mut options = ClientOptions::new(format!("{BASE}/directory"), ca.account_key.clone());
    options.account_url = Some(format!("{BASE}/account/1"));
    ca.client = Client::new(options).unwrap();
    ca.ca.caches_keys_for = 1_000_000;
    let operation = ca.client.change_key(&new);
    ca.run(&operation).unwrap();
    assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());
}

/// Returns a CA where b.example fails at once and other validations take `takes` milliseconds.
fn one_fails(takes: i64) -> Script {
    let mut ca = Script::at_boulder();
    ca.ca.validation_takes = takes;
    ca.on("POST /chall/2/http-01").then(|ca, _| ca.authorizations[1].status = "invalid");
    ca
}

#[test]
fn a_rate_limit_removes_no_challenge_during_validation() {
    for (status, name) in [(429, "rateLimited"), (503, "serverInternal"), (500, "serverInternal")] {
        for wait in [None, Some("61"), Some("3600")] {
            for what in ["POST /chall/3/http-01", "POST /order/1"] {
                let mut ca = Script::at_boulder();
                ca.ca.validation_takes = 10_000;
                let mut response = Response::problem(status, name);
                wait.iter().for_each(|wait| response.set("Retry-After", wait));
                ca.on(what).times(2).respond(response);
                let outcome = ca.obtain(&NAMES);
                let case = format!("{status} {wait:?} at {what}: {outcome:?}");
                assert!(ca.early.is_empty(), "{case}");
                assert!(ca.elapsed() <= Duration::from_secs(100), "{case}: {:?}", ca.elapsed());
            }
        }
    }
}

#[test]
fn a_ca_that_says_503_while_it_restarts_loses_no_order() {
    for (what, count) in [
        ("POST /authz/1", 5),
        ("POST /order/1", 5),
        ("POST /finalize/1", 3),
        ("POST /cert/1", 5),
        ("GET /new-nonce", 1),
        ("POST /chall/1/http-01", 5),
    ] {
        let mut ca = Script::at_boulder();
        ca.ca.validation_takes = 10_000;
        let busy = Response::new(503, "busy").without_nonce().header("Retry-After", "1");
        ca.on(what).times(count).respond(busy);
        ca.obtain(&["example.org"]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(ca.early.is_empty(), "{what}");
    }
}

#[test]
fn a_rate_limit_of_another_request_removes_no_challenge_early() {
    let mut ca = one_fails(10_000);
    ca.ca.renewal_window = Some((-2, -1));
    let limited = Response::problem(429, "rateLimited").header("Retry-After", "3600");
    ca.on("GET /renewal-info/*").respond(limited);
    let mut options = OrderOptions::new(NAMES);
    let chain = Script::new().obtain(&NAMES).unwrap().chain;
    options.replaces = Some(chain);
    ca.now += 80 * 86_400_000;
    let operation = ca.client.renew(options).unwrap();
    let error = ca.run(&operation).map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("b.example")));
    assert!(ca.early.is_empty(), "{:?}", ca.events);
    // A refusal with a Retry-After removes no challenge early either.
    let mut ca = Script::at_boulder();
    ca.ca.validation_takes = 10_000;
    let refused = Response::problem(403, "unauthorized").header("Retry-After", "3600");
    ca.on("POST /chall/2/http-01").respond(refused);
    ca.obtain(&NAMES).unwrap_err();
    assert!(ca.early.is_empty(), "{:?}", ca.events);
}

#[test]
fn an_unreadable_authorization_hides_no_reason() {
    for (n, response) in [
        (3, Response::new(200, "<html>")),
        (3, Response::problem(404, "malformed")),
        (3, Response::problem(500, "serverInternal")),
        (3, Response::problem(429, "rateLimited")),
        (1, Response::new(200, "<html>")),
    ] {
        let mut ca = one_fails(20_000);
        ca.on(&format!("POST /authz/{n}")).from(2).respond(response.clone());
        let error = ca.obtain(&NAMES).unwrap_err();
        let case = format!("authz/{n}: {response:?}: {error}");
        assert_eq!(
            (error.kind(), error.identifier()),
            (ErrorKind::Challenge, Some("b.example")),
            "{case}"
        );
        assert!(error.to_string().contains("http-01 failed") || ca.count("*") > 0, "{case}");
        assert!(ca.early.is_empty(), "{case}");
    }
}

#[test]
fn a_cancellation_ends_the_wait_for_other_names() {
    let mut ca = one_fails(1_000_000);
    ca.interfere = Some(Box::new(|n, _| match n {
        40.. => Interference::Cancel,
        _ => Interference::Nothing,
    }));
    let error = ca.obtain(&NAMES).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
    assert!(error.to_string().contains("before that: "), "{error}");
}

#[test]
fn an_outage_does_not_end_a_validation_ahead_of_an_order() {
    use acme_micro::engine::AuthorizeOptions;
    for away in [3, 5, 25] {
        let mut ca = Script::at_boulder();
        ca.ca.pre_authorizes = true;
        ca.ca.validation_takes = 10_000;
        let from = ("POST /authz/1".to_owned(), 1);
        ca.outage = Some(Outage { from, lasts: away * 1000, closes: false, began: None });
        let operation = ca.client.authorize(AuthorizeOptions::new(["example.org"])).unwrap();
        ca.run(&operation).unwrap_or_else(|error| panic!("{away} s: {error}"));
        assert!(ca.early.is_empty());
    }
}

#[test]
fn a_broken_challenge_endpoint_is_not_flooded_and_is_reported() {
    let mut ca = Script::at_boulder();
    ca.on("POST /chall/1/http-01").respond(Response::problem(500, "serverInternal"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("serverInternal"), "{error}");
    assert!(ca.count("POST /chall/*") <= 20, "{}", ca.count("POST /chall/*"));
}

#[test]
fn a_clock_set_back_after_a_key_change_causes_no_burst_of_requests() {
    let mut ca = Script::at_boulder();
    ca.ca.caches_keys_for = 0;
    ca.register().unwrap();
    let operation = ca.client.change_key(&Key::generate(KeyType::P256).unwrap());
    ca.run(&operation).unwrap();
    ca.now -= 3_600_000;
    let wrong = json!({
        "type": "urn:ietf:params:acme:error:malformed", "detail": "JWS verification error",
    });
    ca.on("POST /new-order").respond(Response::json(400, &wrong));
    ca.obtain(&["example.org"]).unwrap_err();
    assert!(ca.count("POST /new-order") <= 12, "{}", ca.count("POST /new-order"));
}
