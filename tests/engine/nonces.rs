//! Nonces: RFC 8555 section 6.5. The harness fails every test that sends a nonce twice.

use acme_micro::engine::OrderOptions;
use acme_micro::{ErrorKind, Key, KeyType};
use serde_json::json;

use super::ca::{BASE, Response};
use super::jws::decode;
use super::script::Script;

/// Returns the nonces of the POST requests to this path, in order.
fn nonces(ca: &Script, what: &str) -> Vec<String> {
    let sent = ca.transcript.iter().zip(&ca.bodies).filter(|(label, _)| *label == what);
    sent.map(|(_, body)| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let header = decode(body["protected"].as_str().unwrap());
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        header["nonce"].as_str().unwrap().to_owned()
    })
    .collect()
}

fn bad_nonce() -> Response {
    Response::problem(400, "badNonce")
}

#[test]
fn n01_bad_nonce_is_retried_with_the_nonce_of_the_refusal() {
    let mut ca = Script::new();
    let refusal = bad_nonce().header("Replay-Nonce", "of-the-refusal");
    ca.on("POST /new-order").nth(1).respond(refusal);
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 11);
    assert_eq!(ca.count("GET /new-nonce"), 1);
    assert_eq!(nonces(&ca, "POST /new-order")[1], "of-the-refusal");
    assert!(!ca.delays.contains(&0) && ca.elapsed().as_millis() < 1000, "at once");
}

#[test]
fn n01_a_bad_nonce_at_any_request_is_retried() {
    for n in 1..=8 {
        let mut ca = Script::new();
        ca.on("POST *").nth(n).respond(bad_nonce());
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.transcript.len(), 11, "{:?}", ca.transcript);
    }
}

#[test]
fn n13_the_problem_type_alone_identifies_a_bad_nonce() {
    for content_type in ["text/html", "application/json", ""] {
        let mut ca = Script::new();
        let response = bad_nonce().header("Content-Type", content_type);
        ca.on("POST /new-order").nth(1).respond(response);
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.transcript.len(), 11);
    }
    // The status decides when the problem document cannot be read.
    let mut ca = Script::new();
    ca.on("POST /new-order").respond(Response::new(400, "badNonce"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.http_status(), error.is_permanent()), (Some(400), true));
    assert_eq!(ca.count("POST /new-order"), 1);

    for status in [400, 403, 500] {
        for path in ["/new-account", "/new-order", "/chall/1/http-01", "/finalize/1"] {
            let mut ca = Script::new();
            ca.on(&format!("POST {path}")).nth(1).problem(status, "badNonce");
            ca.obtain(&["example.org"]).unwrap();
            assert_eq!(ca.transcript.len(), 11, "{status} {:?}", ca.transcript);
            assert!(ca.elapsed().as_millis() < 1000, "{status} {path}: at once: {:?}", ca.delays);
        }
    }
}

#[test]
fn n02_endless_bad_nonces_end_after_twenty_tries() {
    for path in ["/new-account", "/new-order", "/authz/1", "/chall/1/http-01", "/finalize/1"] {
        let mut ca = Script::new();
        let what = format!("POST {path}");
        ca.on(&what).respond(bad_nonce());
        let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
        let error = ca.run(&operation).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Problem);
        assert_eq!(error.problem().unwrap().name(), Some("badNonce"));
        assert!(!error.is_permanent());
        assert_eq!(ca.count(&what), 20, "{path}");
        assert!(ca.delays.iter().sum::<u64>() < 15_000, "{path}: {:?}", ca.delays);
        // The next run can resume an existing order.
        assert_eq!(operation.order_url().is_some(), !ca.ca.orders.is_empty(), "{path}");
    }
}

#[test]
fn n03_refusing_half_of_all_good_nonces_loses_no_order() {
    for seed in 0..100 {
        let mut ca = Script::new();
        ca.ca.refused_nonces = 50;
        for _ in 0..seed {
            ca.ca.refuses_nonce();
        }
        ca.obtain(&["example.org", "www.example.org"]).unwrap();
    }
}

#[test]
fn n03_refusing_nine_of_ten_good_nonces_costs_orders_and_nothing_else() {
    let (mut requests, mut failures) = (0, 0);
    for seed in 0..100 {
        let mut ca = Script::new();
        ca.ca.refused_nonces = 90;
        for _ in 0..seed * 7 {
            ca.ca.refuses_nonce();
        }
        let mut options = OrderOptions::new(["example.org"]);
        options.key = Some(Key::generate(KeyType::P256).unwrap());
        let operation = ca.client.obtain(options.clone()).unwrap();
        let outcome = ca.run(&operation);
        let mut paths: Vec<&String> =
            ca.transcript.iter().filter(|r| r.starts_with("POST")).collect();
        paths.dedup();
        requests += paths.len();
        let Err(error) = outcome else { continue };
        failures += 1;
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, false));
        assert_eq!(error.problem().unwrap().name(), Some("badNonce"));
        assert!(ca.count(&format!("POST {}", error.url().unwrap().trim_start_matches(BASE))) >= 20);
        // Everything created so far stays: the next run resumes it when the CA accepts nonces
        // again.
        options.order_url = operation.order_url();
        assert_eq!(options.order_url.is_some(), !ca.ca.orders.is_empty());
        ca.ca.refused_nonces = 0;
        ca.order(options).unwrap();
        assert_eq!((ca.ca.accounts_made, ca.ca.orders.len()), (1, 1));
    }
    // The chance of 20 refusals in a row is 0.9 to the power of 20: 12 %. The scripted CA's random
    // numbers are the same in every run.
    let percent = failures * 100 / requests;
    assert!((8..=16).contains(&percent), "{failures} of {requests} requests failed");
}

#[test]
fn n04_a_refusal_without_a_nonce_is_followed_by_new_nonce() {
    let mut ca = Script::new();
    ca.on("POST /new-order").nth(1).respond(bad_nonce().without_nonce());
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("GET /new-nonce"), 2);
    assert_eq!(ca.transcript.len(), 12);
}

#[test]
fn n05_each_response_without_a_nonce_costs_one_new_nonce_and_no_failure() {
    let mut ca = Script::new();
    ca.on("POST *").then(|_, response| response.nonce = false);
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("GET /new-nonce"), 8);
    assert_eq!(ca.transcript.len(), 17);
}

#[test]
fn n06_n07_new_nonce_without_a_nonce_is_requested_three_times_at_most() {
    let long = "n".repeat(513);
    for value in [None, Some(""), Some("a b"), Some("a\r\nSet-Cookie: x"), Some("é"), Some(&*long)]
    {
        let mut ca = Script::new();
        let mut response = Response::new(200, "").without_nonce();
        if let Some(value) = value {
            response.set("Replay-Nonce", value);
        }
        ca.on("GET /new-nonce").respond(response);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{value:?}");
        assert_eq!(error.url(), Some("https://ca.example/new-nonce"));
        assert_eq!(ca.count("POST *"), 0);
        assert_eq!(ca.count("GET /new-nonce"), 3, "{value:?}");
    }
}

#[test]
fn n06_new_nonce_is_requested_by_get_and_its_refusal_is_final() {
    for status in [403, 404, 405, 501] {
        let mut ca = Script::new();
        ca.on("GET /new-nonce").respond(Response::new(status, "no").without_nonce());
        let error = ca.obtain(&["example.org"]).unwrap_err();
        let (kind, tries) = match status {
            501 => (ErrorKind::Server, 4),
            _ => (ErrorKind::Problem, 1),
        };
        assert_eq!((error.kind(), error.http_status()), (kind, Some(status)));
        assert_eq!(ca.count("GET /new-nonce"), tries, "{status}");
        assert_eq!(ca.count("POST *"), 0);
    }
}

#[test]
fn n06_one_new_nonce_response_without_a_nonce_is_tolerated() {
    let mut ca = Script::new();
    ca.on("GET /new-nonce").nth(1).respond(Response::new(204, "").without_nonce());
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 11);
}

#[test]
fn n07_a_malformed_nonce_is_ignored_and_another_one_is_fetched() {
    for value in ["n\0", "\"quoted\"", "with space", "a/b+c=", "ｆｕｌｌ"] {
        let mut ca = Script::new();
        ca.on("POST /new-account").then(move |_, response| response.set("Replay-Nonce", value));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("GET /new-nonce"), 2, "{value:?}");
    }
}

#[test]
fn n07_a_nonce_as_large_as_a_header_is_neither_used_nor_logged() {
    let long = "n".repeat(60 * 1024);
    let mut ca = Script::new();
    ca.on("POST /new-account").then({
        let long = long.clone();
        move |_, response| response.set("Replay-Nonce", &long)
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("GET /new-nonce"), 2);
    assert!(!ca.log.is_empty() && ca.log.iter().all(|line| !line.contains("nnnn")));
    // The nonce is larger than a whole header may be.
    let mut ca = Script::new();
    ca.on("GET /new-nonce").respond(Response::new(204, "").header("Replay-Nonce", &long.repeat(2)));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(ca.count("GET /new-nonce"), 1);
}

#[test]
fn n08_a_nonce_issued_twice_costs_one_refusal_at_most() {
    // The CA accepts the nonce twice.
    let mut ca = Script::new();
    for what in ["GET /new-nonce", "POST /new-account", "POST /new-order"] {
        ca.on(what).then(|_, response| response.set("Replay-Nonce", "again"));
    }
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 10);
    assert_eq!(nonces(&ca, "POST /new-order"), ["again"]);
    assert_eq!(nonces(&ca, "POST /authz/1"), ["again"]);
    // The CA refuses the second use; its refusal brings a fresh nonce.
    let mut ca = Script::new();
    ca.on("POST /new-account").then(|_, response| response.set("Replay-Nonce", "again"));
    ca.on("POST /new-order").then(|_, response| response.set("Replay-Nonce", "again"));
    ca.on("POST /authz/1").nth(1).respond(bad_nonce());
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 11);
    assert_eq!(ca.count("GET /new-nonce"), 1);
}

#[test]
fn n09_the_first_good_nonce_of_a_response_is_used() {
    let mut ca = Script::new();
    ca.on("POST /new-account").then(|_, response| {
        for value in ["not good", "first-good", "second-good"] {
            response.headers.push(("Replay-Nonce".to_owned(), value.as_bytes().to_vec()));
        }
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(nonces(&ca, "POST /new-order"), ["first-good"]);
}

#[test]
fn n10_a_resend_after_a_lost_response_has_a_fresh_nonce() {
    let mut ca = Script::new();
    ca.on("POST /authz/1").nth(1).lose_response();
    ca.on("POST /cert/1").nth(1).lose_request();
    ca.obtain(&["example.org"]).unwrap();
    for what in ["POST /authz/1", "POST /cert/1"] {
        let sent = nonces(&ca, what);
        assert!(sent.len() == 2 && sent[0] != sent[1], "{sent:?}");
    }
}

#[test]
fn the_nonce_of_one_operation_serves_the_next() {
    let mut ca = Script::with_account();
    for n in 0..5 {
        ca.obtain(&[&format!("n{n}.example.org")]).unwrap();
    }
    assert_eq!(ca.count("GET /new-nonce"), 0);
    assert_eq!(ca.transcript.len(), 5 * 7);
}

#[test]
fn n11_nonces_older_than_five_minutes_are_not_used() {
    let mut ca = Script::with_account();
    ca.now += 299_000;
    ca.obtain(&["a.example.org"]).unwrap();
    assert_eq!(ca.count("GET /new-nonce"), 0);
    ca.now += 301_000;
    ca.obtain(&["b.example.org"]).unwrap();
    assert_eq!(ca.count("GET /new-nonce"), 1);
}

#[test]
fn n12_nonces_of_one_ca_are_not_sent_to_another() {
    let mut one = Script::with_account();
    let mut other = Script::with_account();
    other.ca.count_nonces_from(500_000);
    // Each CA fails the test at a nonce of the other one.
    for n in 0..10 {
        one.obtain(&[&format!("n{n}.example.org")]).unwrap();
        if n == 0 {
            other.now += 301_000; // expires the nonce from before the new series
        }
        other.obtain(&[&format!("n{n}.example.org")]).unwrap();
    }
    assert_eq!((one.count("GET /new-nonce"), other.count("GET /new-nonce")), (0, 1));
    let mut both = nonces(&one, "POST /new-order");
    both.extend(nonces(&other, "POST /new-order"));
    assert!(both[..10].iter().all(|nonce| nonce.starts_with("nonce-000")));
    assert!(both[10..].iter().all(|nonce| nonce.starts_with("nonce-500")));
}

#[test]
fn n15_a_refused_signature_is_not_blindly_tried_again() {
    let wrong = json!({
        "type": "urn:ietf:params:acme:error:malformed", "detail": "JWS verification error",
    });
    for path in ["/new-account", "/new-order", "/authz/1", "/chall/1/http-01", "/finalize/1"] {
        for status in [400, 403] {
            let mut ca = Script::new();
            let what = format!("POST {path}");
            ca.on(&what).respond(Response::json(status, &wrong));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            // The CA may still have an old key in a cache.
            assert!(!error.is_permanent(), "{path}: {error}");
            assert!(error.to_string().contains("JWS verification error"), "{error}");
            assert_eq!(ca.count(&what), 1, "{path}");
        }
    }
}
