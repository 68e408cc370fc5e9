//! Retries: which requests are repeated, how often, and which are not. Retry-After, 5xx, lost
//! responses.

use std::time::Duration;

use acme_micro::{ErrorKind, Time};

use super::ca::Response;
use super::script::{START, Script};

fn html(status: u16) -> Response {
    Response::new(status, "<html>overload</html>").without_nonce()
}

#[test]
fn retry_after_while_polling_is_obeyed_in_seconds() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = 2;
    ca.on("POST /order/2").nth(1).then(|_, response| response.set("Retry-After", "17"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.delays, [3, 17_000, 3]);
}

#[test]
fn h22_k05_retry_after_as_a_date_is_relative_to_the_servers_clock() {
    // The server's clock is right, a day ahead of ours, or a day behind it.
    for (retry_after, date, wait) in [
        ("Tue, 24 Nov 2026 14:24:35 GMT", None, 30_000),
        ("Wed, 25 Nov 2026 14:24:35 GMT", Some("Wed, 25 Nov 2026 14:24:15 GMT"), 20_000),
        ("Mon, 23 Nov 2026 00:00:20 GMT", Some("Mon, 23 Nov 2026 00:00:00 GMT"), 20_000),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None, 1000),
    ] {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 2;
        ca.on("POST /chall/1/http-01").then(|_, _| {});
        ca.on("POST /order/1").nth(1).then(move |_, response| {
            response.set("Retry-After", retry_after);
            if let Some(date) = date {
                response.set("Date", date);
            }
        });
        // The first poll comes 3 ms after the start.
        ca.now -= 3;
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.delays[1], wait, "{retry_after}");
    }
}

#[test]
fn h23_a_malformed_retry_after_is_ignored() {
    for value in ["", "-1", "1e9", "0x10", "5, 6", "soon", "Tue, 24 Nov 2026"] {
        let mut ca = Script::new();
        ca.ca.validation_fetches = 2;
        ca.on("POST /order/1").nth(1).then(move |_, response| response.set("Retry-After", value));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.delays, [3, 250, 3], "{value:?}");
    }
}

#[test]
fn h24_a_retry_after_of_zero_causes_no_burst_of_requests() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = u32::MAX;
    ca.on("POST /order/2").then(|_, response| response.set("Retry-After", "0"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(ca.count("POST /order/2") <= 120, "{}", ca.count("POST /order/2"));
    assert!(ca.delays[1..].iter().all(|delay| *delay >= 1000));
}

#[test]
fn h23_a_retry_after_beyond_a_minute_ends_the_operation_with_that_time() {
    for (value, wait) in [("259200", 259_200), ("99999999999999999999999", 30 * 86_400)] {
        let mut ca = Script::with_account();
        ca.on("POST /finalize/2").then(move |_, response| response.set("Retry-After", value));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let at = Time::from_millis(ca.now).after(Duration::from_secs(wait));
        assert_eq!(error.retry_at(), Some(at));
        assert_eq!(ca.count("POST /finalize/2"), 1);
        assert_eq!(error.url(), Some("https://ca.example/order/2"));
    }
}

#[test]
fn h19_an_operation_waits_once_for_a_short_rate_limit() {
    for path in ["/new-account", "/new-order", "/authz/1", "/chall/1/http-01", "/finalize/1"] {
        let mut ca = Script::new();
        let limited = Response::problem(429, "rateLimited").header("Retry-After", "30");
        ca.on(&format!("POST {path}")).nth(1).respond(limited);
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.transcript.len(), 11, "{path}: {:?}", ca.transcript);
        assert!(ca.delays.contains(&30_000), "{path}: {:?}", ca.delays);
    }
}

#[test]
fn h19_a_second_rate_limit_in_a_row_is_final() {
    let mut ca = Script::new();
    let limited = Response::problem(429, "rateLimited").header("Retry-After", "30");
    ca.on("POST /new-order").respond(limited);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(ca.count("POST /new-order"), 2);
}

#[test]
fn h20_a_rate_limit_with_a_long_wait_is_reported_at_once() {
    let mut ca = Script::new();
    let limited = Response::problem(429, "rateLimited").header("Retry-After", "7200");
    ca.on("POST /new-order").respond(limited);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.http_status(), Some(429));
    assert_eq!(error.retry_at(), Some(Time::from_millis(START + 7_200_000)));
    assert!(!error.is_permanent());
    assert!(error.to_string().contains("retry after 2026-11-24T16:24:05Z"), "{error}");
    assert_eq!(ca.transcript.last().map(String::as_str), Some("POST /new-order"));
    assert_eq!(ca.count("POST /new-order"), 1);
    assert!(ca.delays.is_empty());
}

#[test]
fn p09_h21_a_rate_limit_without_a_wait_is_reported_at_once() {
    let mut in_words = Response::problem(429, "rateLimited");
    in_words.edit(|problem| {
        problem["detail"] = "too many orders, retry after 2026-11-24 14:25:00 UTC".into();
    });
    let refusal = Response::problem(403, "rateLimited");
    let others = [400, 404, 503].map(|status| Response::problem(status, "rateLimited"));
    for response in [in_words, Response::problem(429, "rateLimited"), html(429), refusal]
        .into_iter()
        .chain(others)
    {
        let mut ca = Script::new();
        ca.on("POST /new-order").respond(response);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.retry_at()), (ErrorKind::RateLimited, None));
        assert_eq!(ca.count("POST /new-order"), 1);
    }
}

#[test]
fn an_operation_waits_for_a_ca_that_is_briefly_unavailable() {
    for what in ["GET /directory", "GET /new-nonce", "POST /new-order", "POST /finalize/1"] {
        let mut ca = Script::new();
        ca.on(what).nth(1).respond(html(503).header("Retry-After", "5"));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count(what), 2, "{what}");
        assert!(ca.delays.contains(&5000), "{what}: {:?}", ca.delays);
    }
}

#[test]
fn d19_a_directory_that_is_unavailable_for_long_is_requested_once() {
    let mut ca = Script::new();
    ca.on("GET /directory").respond(html(503).header("Retry-After", "3600"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_at(), Some(Time::from_millis(START + 3_600_000)));
    assert_eq!(ca.transcript, ["GET /directory"]);
}

#[test]
fn h17_three_server_errors_in_a_row_are_retried_where_repeating_is_harmless() {
    for status in [500, 502, 503, 504, 408] {
        for what in [
            "GET /directory",
            "GET /new-nonce",
            "POST /new-account",
            "POST /authz/1",
            "POST /order/1",
            "POST /cert/1",
        ] {
            let mut ca = Script::new();
            ca.on(what).times(3).respond(html(status));
            ca.obtain(&["example.org"]).unwrap();
            assert!(ca.count(what) >= 4, "{what} {status}");
            let waited: u64 = ca.delays.iter().sum();
            assert!((1750 + 500..3500 + 501).contains(&waited), "{what}: {:?}", ca.delays);
        }
    }
}

#[test]
fn h17_endless_server_errors_end_after_four_tries_or_with_an_order_after_half_a_minute() {
    for (what, has_order) in [
        ("GET /directory", false),
        ("GET /new-nonce", false),
        ("POST /new-account", false),
        ("POST /authz/1", true),
    ] {
        let tries = if has_order { 8..14 } else { 4..5 };
        let mut ca = Script::new();
        ca.on(what).respond(Response::problem(500, "serverInternal"));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.http_status(), Some(500));
        assert_eq!(error.problem().unwrap().name(), Some("serverInternal"));
        assert!(!error.is_permanent());
        assert!(tries.contains(&ca.count(what)), "{what}: {}", ca.count(what));
        let waited = ca.elapsed().as_millis();
        assert_eq!((30_000..45_000).contains(&waited), has_order, "{what}: {waited} ms");
        for status in [500, 502, 503, 504] {
            let mut ca = Script::new();
            ca.on(what).respond(html(status));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!((error.kind(), error.http_status()), (ErrorKind::Server, Some(status)));
            assert!(error.to_string().contains("overload"), "{error}");
            assert!(tries.contains(&ca.count(what)) && !error.is_permanent(), "{what} {status}");
            assert!(ca.delays.iter().sum::<u64>() >= 1750, "{what}: {:?}", ca.delays);
        }
    }
}

#[test]
fn p12_endless_server_errors_at_new_order_create_few_orders() {
    let mut ca = Script::new();
    ca.on("POST /new-order").respond(Response::problem(500, "serverInternal"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.problem().unwrap().name(), Some("serverInternal"));
    assert_eq!(ca.count("POST /new-order"), 2, "one repetition at most: each may create an order");
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Server, false));
    assert_eq!(ca.delays, [1000]);
}

#[test]
fn endless_server_errors_at_finalize_end_soon_and_with_the_reason() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").respond(Response::problem(500, "serverInternal"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert!(error.to_string().contains("serverInternal"), "{error}");
    assert!(ca.count("POST /finalize/1") <= 4, "sent {} times", ca.count("POST /finalize/1"));
}

#[test]
fn a_finalize_that_is_lost_every_time_ends_soon_with_transport() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").lose_request();
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    assert!(ca.count("POST /finalize/1") <= 4, "sent {} times", ca.count("POST /finalize/1"));
}

#[test]
fn h01_a_ca_that_never_responds_is_tried_four_times() {
    let mut ca = Script::new();
    ca.on("*").lose_request();
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert_eq!(error.url(), Some("https://ca.example/directory"));
    assert!(!error.is_permanent());
    assert_eq!(ca.transcript, ["GET /directory"; 4]);
}

/// Loses the n-th request, or its response, once or for ever.
fn lose(n: u32, response: bool, for_ever: bool) -> (Script, super::script::Outcome) {
    let mut ca = Script::new();
    ca.ca.validation_fetches = 1;
    let on = ca.on("*");
    let on = if for_ever { on.from(n) } else { on.nth(n) };
    match response {
        true => on.lose_response(),
        false => on.lose_request(),
    }
    let outcome = ca.obtain(&["example.org"]);
    (ca, outcome)
}

#[test]
fn one_loss_at_any_request_still_gives_the_certificate() {
    for n in 1..=10 {
        for response in [false, true] {
            let (ca, outcome) = lose(n, response, false);
            let at = &ca.transcript[n as usize - 1];
            outcome.unwrap_or_else(|e| panic!("{at} (response: {response}): {e}"));
            assert!(ca.ca.orders.len() <= 2, "{at}: {} orders", ca.ca.orders.len());
            assert_eq!(ca.ca.accounts_made, 1, "{at}");
            let sent = ca.count("*");
            assert!(sent <= 10 + 12, "{at}: {sent} requests: {:?}", ca.transcript);
            // The CA has done the work once, whatever happened on the way.
            let finalizes: u32 = ca.ca.orders.iter().map(|order| order.finalizes).sum();
            assert_eq!(finalizes, 1, "{at} (response: {response})");
            let responses: u32 = ca.ca.authorizations.iter().map(|a| a.responses).sum();
            assert_eq!(responses, 1, "{at} (response: {response})");
        }
    }
}

#[test]
fn a_network_that_stays_down_ends_with_transport() {
    for n in 1..=10 {
        for response in [false, true] {
            let (ca, outcome) = lose(n, response, true);
            let at = &ca.transcript[n as usize - 1];
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transport, "{at}: {error}");
            assert!(ca.ca.orders.len() <= 2, "{at}");
            assert!(ca.transcript.len() <= 10 + 10, "{at}: {:?}", ca.transcript);
            assert!(error.to_string().contains("connection re"), "{error}");
        }
    }
}

#[test]
fn finalize_is_repeated_only_after_a_fetch_of_a_ready_order() {
    let mut ca = Script::with_account();
    ca.on("POST /finalize/2").nth(1).lose_request();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(
        ca.transcript[3..],
        [
            "POST /order/2",
            "POST /finalize/2",
            "GET /new-nonce",
            "POST /order/2",
            "POST /finalize/2",
            "POST /order/2",
            "POST /cert/2",
        ]
    );
    assert_eq!(ca.ca.orders[1].finalizes, 1);
}

#[test]
fn h18_a_finalize_that_took_effect_is_not_repeated() {
    for status in [500, 502, 504, 408] {
        let mut ca = Script::with_account();
        ca.on("POST /finalize/2").then(move |_, response| *response = html(status));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /finalize/2"), 1);
    }
    let mut ca = Script::with_account();
    ca.on("POST /finalize/2").lose_response();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /finalize/2"), 1);
}

#[test]
fn a_lost_response_to_new_order_creates_one_extra_order_at_most() {
    let mut ca = Script::new();
    ca.on("POST /new-order").nth(1).lose_response();
    let issued = ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.ca.orders.len(), 2);
    assert_eq!(issued.order_url, "https://ca.example/order/2");
    let mut ca = Script::new();
    ca.on("POST /new-order").lose_response();
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Transport);
    assert_eq!(ca.ca.orders.len(), 2);
}

#[test]
fn the_response_to_a_challenge_is_not_repeated_blindly() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = 1;
    ca.on("POST /chall/2/http-01").nth(1).lose_response();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/2/http-01"), 1);
    assert_eq!(ca.count("POST /authz/2"), 1);
}

#[test]
fn a_response_that_never_reached_the_ca_is_sent_again_after_a_fetch() {
    let mut ca = Script::with_account();
    ca.on("POST /chall/2/http-01").nth(1).lose_request();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/2/http-01"), 2);
    assert_eq!(ca.ca.authorizations[1].responses, 1);
    let second = ca.transcript.iter().rposition(|r| r == "POST /chall/2/http-01").unwrap();
    assert_eq!(ca.transcript[second - 1], "POST /authz/2", "the authorization is fetched first");
    assert!(ca.elapsed() < Duration::from_secs(2), "{:?}", ca.elapsed());
}

#[test]
fn p11_an_order_that_is_not_ready_yet_is_polled_and_finalized_again() {
    let mut ca = Script::with_account();
    ca.on("POST /finalize/2").times(2).problem(403, "orderNotReady");
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /finalize/2"), 3);
    assert_eq!(ca.ca.orders[1].finalizes, 1);
    // The refusal repeats: each finalize follows a fetch of the order, and the operation ends.
    let mut ca = Script::with_account();
    ca.on("POST /finalize/2").problem(403, "orderNotReady");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(ca.count("POST /finalize/2") <= 121, "{}", ca.count("POST /finalize/2"));
    assert!(ca.transcript.windows(2).all(|two| two[0] != two[1]), "{:?}", ca.transcript);
}

#[test]
fn delays_between_tries_grow_and_differ_from_seed_to_seed() {
    let delays = |seed: u64| {
        let mut ca = Script::with(|options| options.seed = Some(seed));
        ca.on("GET /directory").respond(html(500));
        ca.obtain(&["example.org"]).unwrap_err();
        ca.delays
    };
    let of = delays(1);
    assert_eq!(of.len(), 3);
    for (delay, full) in of.iter().zip([500, 1000, 2000]) {
        assert!((full / 2..=full).contains(delay), "{of:?}");
    }
    assert_ne!(of, delays(2));
}
