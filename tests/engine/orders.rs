//! Orders in every state and shape. RFC 8555 sections 7.1.3, 7.1.6 and 7.4.

use std::time::Duration;

use acme_micro::engine::OrderOptions;
use acme_micro::{ErrorKind, Key, KeyType, Time};
use serde_json::json;

use super::ca::Response;
use super::pki;
use super::script::{Outcome, START, Script};

const ORDER_1: &str = "https://ca.example/order/1";

#[test]
fn o01_an_order_that_is_ready_at_once_is_finalized_without_publishing() {
    let mut ca = Script::with_account();
    ca.ca.authorized = vec!["example.org".to_owned()];
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.events, ["POST /new-order", "POST /finalize/2", "POST /order/2", "POST /cert/2"]);
}

/// Returns the events when the CA finishes an order as soon as it is created, and shows that after
/// this many fetches.
fn events_of_an_order_that_is_finished_at_once(processing_fetches: u32) -> Vec<String> {
    let key = Key::generate(KeyType::P256).unwrap();
    let public = pki::public(key.private_key().unwrap());
    let mut ca = Script::with_account();
    ca.ca.processing_fetches = processing_fetches;
    ca.on("POST /new-order").then(move |ca, response| {
        ca.finalize_with(1, public.clone());
        response.body = ca.order(1).to_string().into_bytes();
    });
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(key);
    ca.order(options).unwrap();
    ca.events
}

#[test]
fn o02_an_order_that_is_valid_at_once_for_our_key_is_downloaded() {
    let events = events_of_an_order_that_is_finished_at_once(0);
    assert_eq!(events, ["POST /new-order", "POST /cert/2"]);
}

#[test]
fn o02_an_order_that_is_valid_at_once_for_another_key_is_replaced_by_a_fresh_one() {
    let mut ca = Script::with_account();
    ca.ca.processing_fetches = 0;
    ca.on("POST /new-order").nth(1).then(|ca, response| {
        ca.finalize_with(1, pki::public(&pki::new_key()));
        response.body = ca.order(1).to_string().into_bytes();
    });
    let issued = ca.obtain(&["example.org"]).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/3");
    assert_eq!(ca.count("POST /new-order"), 2);
}

#[test]
fn o03_an_order_that_is_processing_at_once_is_polled() {
    let events = events_of_an_order_that_is_finished_at_once(2);
    assert_eq!(events, ["POST /new-order", "POST /order/2", "POST /order/2", "POST /cert/2"]);
}

#[test]
fn an_order_may_take_minutes_to_be_processed() {
    let mut ca = Script::with_account();
    ca.ca.processing_fetches = 40;
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /finalize/2"), 1);
    assert_eq!(ca.count("POST /order/2"), 41);
    assert_eq!(ca.delays[..9], [3, 3, 250, 500, 1000, 2000, 4000, 8000, 8000]);
}

#[test]
fn o21_an_order_that_stays_processing_ends_and_can_be_resumed() {
    let mut ca = Script::with_account();
    ca.ca.processing_fetches = u32::MAX;
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let error = ca.run(&operation).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.is_permanent());
    assert_eq!(operation.order_url().as_deref(), Some("https://ca.example/order/2"));
    assert!(ca.count("POST /order/2") <= 121, "{}", ca.count("POST /order/2"));
}

#[test]
fn o04_an_invalid_order_reports_its_reason() {
    let reason = json!({"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden by CAA"});
    for what in ["POST /new-order", "POST /order/1", "POST /finalize/1"] {
        let mut ca = Script::new();
        let reason = reason.clone();
        ca.on(what).edit(move |order| {
            order["status"] = json!("invalid");
            order["error"] = reason.clone();
        });
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Order, "{what}");
        assert_eq!(error.problem().unwrap().name(), Some("caa"));
        assert!(error.to_string().contains("forbidden by CAA"), "{error}");
        assert_eq!(error.url(), Some("https://ca.example/order/1"));
        assert_eq!(ca.count("POST /new-order"), 1);
    }
}

#[test]
fn o04_an_invalid_order_may_lack_a_reason() {
    for what in ["POST /new-order", "POST /order/1", "POST /finalize/1"] {
        let mut ca = Script::new();
        ca.on(what).edit(|order| order["status"] = json!("invalid"));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Order, "{what}");
        assert!(error.problem().is_none());
    }
}

/// Returns status values that RFC 8555 defines for no order, authorization or challenge.
fn unknown_states() -> [serde_json::Value; 7] {
    let prefix_or_more = [json!("val"), json!("validx"), json!("")];
    let [a, b, c] = prefix_or_more;
    [json!("bogus"), json!("READY"), json!(null), json!(7), a, b, c]
}

#[test]
fn o31_a_resource_with_an_unknown_status_is_fetched_three_times() {
    for status in unknown_states() {
        for what in ["POST /order/1", "POST /authz/1"] {
            let mut ca = Script::new();
            let bogus = status.clone();
            ca.on(what).edit(move |shown| shown["status"] = bogus.clone());
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{status} at {what}");
            assert!(error.to_string().contains("without a status"), "{error}");
            assert_eq!(ca.count(what), 3, "{status} at {what}");
            // Two such responses in a row are tolerated.
            let mut ca = Script::new();
            let bogus = status.clone();
            ca.on(what).times(2).edit(move |shown| shown["status"] = bogus.clone());
            ca.obtain(&["example.org"]).unwrap();
        }
        // These responses need no status: another resource decides.
        for what in ["POST /new-order", "POST /finalize/1", "POST /chall/1/http-01"] {
            let mut ca = Script::new();
            let bogus = status.clone();
            ca.on(what).edit(move |shown| shown["status"] = bogus.clone());
            ca.obtain(&["example.org"]).unwrap();
            assert_eq!(ca.count(what), 1, "{status} at {what}");
        }
    }
}

#[test]
fn o27_a_finalize_response_about_another_order_is_not_believed() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").edit(|order| {
        order["identifiers"] = json!([{"type": "dns", "value": "other.example"}]);
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.url(), Some("https://ca.example/order/1"));
    // The response is about another order for the same names, with its own certificate: the client
    // fetches its own order.
    for location in ["https://ca.example/order/7", "/order/7", "https://evil.example/order/1"] {
        let mut ca = Script::new();
        ca.on("POST /finalize/1").then(move |_, response| {
            response.set("Location", location);
            response.edit(|order| {
                order["status"] = json!("valid");
                order["certificate"] = json!("https://ca.example/cert/7");
            });
        });
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!((ca.count("POST /order/1"), ca.count("POST /cert/7")), (2, 0), "{location}");
    }
    let mut ca = Script::new();
    ca.on("POST /finalize/1").then(|_, response| response.set("Location", "/order/1"));
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn o26_missing_members_are_named_when_they_are_needed() {
    let mut ca = Script::new();
    ca.on("POST /order/1").edit(|order| {
        order.as_object_mut().unwrap().remove("finalize");
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("finalize"), "{error}");
    // A pending order does not need this member.
    let mut ca = Script::new();
    ca.on("POST /new-order").edit(|order| {
        let order = order.as_object_mut().unwrap();
        order.remove("finalize");
        order.remove("expires");
    });
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn o29_an_order_without_a_location_is_refused() {
    let mut ca = Script::new();
    ca.on("POST /new-order").then(|_, response| response.remove("Location"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("Location"), "{error}");
    assert_eq!(ca.transcript.last().unwrap(), "POST /new-order");
}

#[test]
fn o08_an_order_for_other_names_is_refused_before_anything_is_published() {
    let dns = |name: &str| json!({"type": "dns", "value": name});
    for identifiers in [
        json!([dns("example.org"), dns("extra.example")]),
        json!([dns("other.example")]),
        json!([dns("*.example.org")]),
        json!([{"type": "ip", "value": "192.0.2.1"}]),
        json!([{"type": "ip", "value": "example.org"}]),
        json!([]),
        json!(null),
        json!("example.org"),
    ] {
        let mut ca = Script::new();
        let shown = identifiers.to_string();
        ca.on("POST /new-order").edit(move |order| order["identifiers"] = identifiers.clone());
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{shown}");
        assert_eq!(ca.transcript.last().unwrap(), "POST /new-order", "{shown}");
    }
}

#[test]
fn o08_an_order_that_changes_its_names_while_polled_is_refused_before_finalize() {
    let mut ca = Script::new();
    ca.on("POST /order/1").edit(|order| {
        order["identifiers"] = json!([{"type": "dns", "value": "other.example"}]);
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(ca.count("POST /finalize/1"), 0);
}

#[test]
fn o08_names_are_compared_in_canonical_form() {
    let mut ca = Script::new();
    ca.on("POST /*").then(|_, response| {
        let text =
            String::from_utf8_lossy(&response.body).replace("\"example.org\"", "\"EXAMPLE.Org.\"");
        if text.contains("EXAMPLE") {
            response.body = text.replace("2001:db8::1", "2001:0DB8:0:0:0:0:0:1").into_bytes();
        }
    });
    ca.obtain(&["2001:db8::1", "example.org"]).unwrap();
}

#[test]
fn o05_a_pending_order_without_authorizations_is_refused() {
    for authorizations in [json!([]), json!(null), json!("x"), json!([7, null])] {
        let mut ca = Script::new();
        ca.on("POST /new-order")
            .edit(move |order| order["authorizations"] = authorizations.clone());
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(ca.transcript.len() < 10);
    }
}

#[test]
fn o06_more_authorizations_than_names_are_refused() {
    let mut ca = Script::new();
    ca.on("POST /new-order").edit(|order| {
        order["authorizations"] =
            json!(["https://ca.example/authz/1", "https://ca.example/authz/2"]);
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(ca.count("POST /authz/*"), 0);
}

#[test]
fn o06_an_authorization_listed_twice_is_published_once_and_gets_one_response() {
    let mut ca = Script::new();
    ca.ca.authorized = vec!["www.example.org".to_owned()];
    ca.on("POST /new-order").edit(|order| {
        order["authorizations"] =
            json!(["https://ca.example/authz/1", "https://ca.example/authz/1"]);
    });
    ca.obtain(&["example.org", "www.example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/1/http-01"), 1);
}

#[test]
fn o16_an_order_that_goes_back_to_pending_is_followed() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").nth(1).problem(403, "orderNotReady");
    ca.on("POST /order/1").nth(2).edit(|order| order["status"] = json!("pending"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /finalize/1"), 2);
}

#[test]
fn o22_a_valid_order_may_lack_its_certificate_for_a_moment() {
    let mut ca = Script::new();
    ca.on("POST /order/1").nth(2).edit(|order| {
        order.as_object_mut().unwrap().remove("certificate");
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /order/1"), 3);
}

#[test]
fn o22_a_valid_order_that_lacks_its_certificate_for_good_is_refused() {
    let mut ca = Script::new();
    ca.on("POST /order/1").from(2).edit(|order| order["certificate"] = json!(null));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!((3..=5).contains(&ca.count("POST /order/1")), "{:?}", ca.transcript);
}

#[test]
fn o25_an_order_needs_no_expiry_date() {
    for expires in [json!("1970-01-01T00:00:00Z"), json!("garbage"), json!(0), json!(null)] {
        let mut ca = Script::new();
        ca.on("POST /new-order").edit(move |order| order["expires"] = expires.clone());
        ca.obtain(&["example.org"]).unwrap();
    }
}

#[test]
fn o28_a_csr_refused_at_finalize_is_final() {
    for name in ["badCSR", "badPublicKey", "unauthorized"] {
        let mut ca = Script::new();
        ca.on("POST /finalize/1").problem(403, name);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true), "{name}");
        assert_eq!(ca.count("POST /finalize/1"), 1);
        assert_eq!(ca.transcript.last().unwrap(), "POST /finalize/1");
    }
}

#[test]
fn finalize_may_answer_without_a_location() {
    let mut ca = Script::new();
    ca.on("POST /finalize/1").then(|_, response| response.remove("Location"));
    ca.obtain(&["example.org"]).unwrap();
}

/// Returns a client whose earlier run created an order and stopped there.
fn with_order(key: &Key) -> (Script, OrderOptions) {
    let mut ca = Script::with_account();
    ca.on("POST /authz/2").nth(1).problem(403, "unauthorized");
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(key.clone());
    let operation = ca.client.obtain(options.clone()).unwrap();
    ca.run(&operation).unwrap_err();
    options.order_url = operation.order_url();
    assert_eq!(options.order_url.as_deref(), Some("https://ca.example/order/2"));
    ca.forget();
    (ca, options)
}

#[test]
fn a_pending_order_is_resumed() {
    let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
    let issued = ca.order(options).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/2");
    assert_eq!(
        ca.transcript,
        [
            "POST /order/2",
            "POST /authz/2",
            "POST /chall/2/http-01",
            "POST /order/2",
            "POST /finalize/2",
            "POST /order/2",
            "POST /cert/2",
        ]
    );
}

#[test]
fn a_ready_order_is_resumed() {
    let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
    ca.ca.authorizations[1].status = "valid";
    ca.order(options).unwrap();
    assert_eq!(ca.events, ["POST /order/2", "POST /finalize/2", "POST /order/2", "POST /cert/2"]);
}

#[test]
fn a_processing_and_a_valid_order_are_resumed_and_not_finalized_again() {
    for looks in [0, 3] {
        let key = Key::generate(KeyType::P256).unwrap();
        let (mut ca, options) = with_order(&key);
        ca.ca.processing_fetches = looks;
        ca.ca.finalize_with(1, pki::public(key.private_key().unwrap()));
        ca.order(options).unwrap();
        assert_eq!(ca.count("POST /order/2"), looks.max(1) as usize);
        assert_eq!(ca.count("POST /finalize/2") + ca.count("POST /new-order"), 0);
    }
}

#[test]
fn a_dead_order_is_replaced_by_a_fresh_one_once() {
    type Spoil = fn(&mut Script, &mut OrderOptions);
    let ways: [(&str, Spoil); 4] = [
        ("it failed", |ca, _| ca.ca.orders[1].invalid = true),
        ("another key", |ca, _| ca.ca.finalize_with(1, pki::public(&pki::new_key()))),
        ("an authorization ran out", |ca, _| ca.ca.authorizations[1].status = "expired"),
        ("other names", |_, options| options.names = vec!["www.example.org".to_owned()]),
    ];
    for (what, spoil) in ways {
        let (mut ca, mut options) = with_order(&Key::generate(KeyType::P256).unwrap());
        spoil(&mut ca, &mut options);
        let issued = ca.order(options).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(issued.order_url, "https://ca.example/order/3", "{what}");
        assert_eq!(ca.count("POST /new-order"), 1, "{what}");
    }
}

#[test]
fn o24_an_order_that_the_ca_has_forgotten_is_replaced_by_a_fresh_one() {
    let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
    ca.on("POST /order/2").respond(Response::problem(404, "malformed"));
    let issued = ca.order(options).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/3");
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn o06_fewer_authorizations_than_names_are_accepted() {
    // The order has two names and one authorization: the CA decides when that is enough.
    let mut ca = Script::new();
    ca.ca.authorized = vec!["www.example.org".to_owned()];
    ca.on("POST /new-order").edit(|order| {
        order["authorizations"] = json!(["https://ca.example/authz/1"]);
    });
    ca.obtain(&["example.org", "www.example.org"]).unwrap();
    assert_eq!((ca.count("POST /authz/*"), ca.count("POST /chall/*")), (1, 1));
}

#[test]
fn o08_the_csr_has_our_names_in_any_spelling_of_the_ca() {
    for spelling in ["B\u{dc}CHER.example", "xn--BCHER-kva.example.", "b\u{fc}cher.example"] {
        let mut ca = Script::new();
        ca.on("POST /*").then(move |_, response| {
            let text = String::from_utf8_lossy(&response.body);
            let text = text.replace("xn--bcher-kva.example\"", &format!("{spelling}\""));
            if !text.starts_with('-') {
                response.body = text.into_bytes();
            }
        });
        let issued = ca.obtain(&["b\u{fc}cher.example"]).unwrap();
        assert_eq!(issued.chain.names(), ["xn--bcher-kva.example"], "{spelling}");
    }
}

#[test]
fn o11_a_resumed_order_whose_authorization_is_dead_is_replaced_once() {
    for status in ["invalid", "expired", "revoked", "deactivated"] {
        let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
        ca.on("POST /authz/2").edit(move |authorization| authorization["status"] = json!(status));
        let issued = ca.order(options.clone()).unwrap();
        assert_eq!(issued.order_url, "https://ca.example/order/3", "{status}");
        assert_eq!(ca.count("POST /new-order"), 1);
        // The authorization of the fresh order is dead, too: the operation ends.
        let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
        ca.on("POST /authz/*").edit(move |authorization| authorization["status"] = json!(status));
        let error = ca.order(options).unwrap_err();
        assert_eq!((error.kind(), error.identifier()), (ErrorKind::Order, Some("example.org")));
        assert_eq!(ca.count("POST /new-order"), 1, "{status}");
        assert!(ca.events.iter().all(|event| !event.starts_with("PUBLISH")));
    }
}

/// Runs an order with a timeout of 30 days at a slow CA; returns the outcome, and the options to
/// resume the order.
fn patient(script: &mut Script) -> (Outcome, OrderOptions) {
    let mut options = OrderOptions::new(["example.org"]);
    options.time_limit = Duration::from_secs(30 * 86_400);
    options.key = Some(Key::generate(KeyType::P256).unwrap());
    let operation = script.client.obtain(options.clone()).unwrap();
    let outcome = script.run(&operation);
    options.order_url = operation.order_url();
    (outcome, options)
}

#[test]
fn o12_o20_o21_an_order_that_is_never_decided_is_fetched_120_times() {
    // The order stays pending; it stays pending although its authorization is valid; it stays
    // processing.
    for (what, from) in [("pending", 1), ("pending although valid", 1), ("processing", 2)] {
        let mut ca = Script::new();
        match what {
            "pending" => ca.ca.validation_fetches = u32::MAX,
            "processing" => ca.ca.processing_fetches = u32::MAX,
            _ => ca.on("POST /order/1").edit(|order| order["status"] = json!("pending")),
        }
        let (outcome, options) = patient(&mut ca);
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Timeout, false), "{what}");
        assert_eq!(ca.count("POST /order/1"), 120 + from - 1, "{what}");
        assert_eq!(options.order_url.as_deref(), Some(ORDER_1), "the order can be resumed");
        assert_eq!(ca.count("POST /chall/*"), 1, "{what}");
    }
}

#[test]
fn o21_an_order_that_takes_days_ends_and_is_resumed_after_its_retry_after() {
    for (retry_after, days) in [("259200", 3), ("31536000", 30)] {
        let mut ca = Script::new();
        ca.ca.processing_fetches = u32::MAX;
        ca.on("POST /finalize/1").then(move |_, response| response.set("Retry-After", retry_after));
        let (outcome, options) = patient(&mut ca);
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let wait = error.retry_at().unwrap().since(Time::from_millis(ca.now));
        assert_eq!(wait, Duration::from_secs(days * 86_400));
        assert_eq!(ca.transcript.last().unwrap(), "POST /finalize/1");
        // The order is finished by then, and no request is repeated.
        ca.forget();
        ca.now += wait.as_millis() as i64;
        let public = pki::public(options.key.as_ref().unwrap().private_key().unwrap());
        ca.ca.processing_fetches = 0;
        ca.ca.finalize_with(0, public);
        ca.order(options).unwrap();
        assert_eq!(ca.events, ["GET /new-nonce", "POST /order/1", "POST /cert/1"]);
    }
}

#[test]
fn o16_states_that_go_back_are_followed_to_an_end() {
    // A valid challenge is pending again, a ready order is pending again, and a valid order is
    // processing again.
    let mut ca = Script::new();
    ca.ca.validation_fetches = 8;
    ca.on("POST /authz/1").nth(2).edit(|a| a["challenges"][0]["status"] = json!("pending"));
    ca.obtain(&["example.org"]).unwrap();
    let mut ca = Script::new();
    ca.on("POST /order/1").nth(1).edit(|order| order["status"] = json!("ready"));
    ca.on("POST /finalize/1").nth(1).edit(|order| order["status"] = json!("pending"));
    ca.on("POST /order/1").nth(2).edit(|order| order["status"] = json!("processing"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /finalize/1"), 1);
    // The order goes to and fro for ever.
    let states = ["ready", "processing", "pending", "ready", "pending"];
    let mut ca = Script::new();
    let mut n = 0;
    ca.on("POST /order/1").edit(move |order| {
        order["status"] = json!(states[n % states.len()]);
        n += 1;
    });
    ca.on("POST /finalize/1").problem(403, "orderNotReady");
    let (outcome, _) = patient(&mut ca);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(ca.count("POST /order/1") <= 240, "{}", ca.count("POST /order/1"));
    assert!(ca.count("POST /finalize/1") <= 120);
}

#[test]
fn o24_an_order_that_is_gone_is_replaced_once() {
    for status in [404, 410] {
        let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
        ca.on("POST /order/2").respond(Response::new(status, "gone"));
        ca.on("POST /order/3").respond(Response::new(status, "gone"));
        let error = ca.order(options).unwrap_err();
        assert_eq!(error.http_status(), Some(status));
        assert_eq!(ca.count("POST /new-order"), 1, "one fresh order per operation, {status}");
    }
}

#[test]
fn o25_the_ca_alone_decides_whether_an_order_has_expired() {
    // The client resumes every order that the CA still accepts, whatever the expiry date and the
    // client's clock say.
    for expires in ["1970-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z", "soon"]
    {
        let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
        ca.on("POST /order/2").edit(move |order| order["expires"] = json!(expires));
        let issued = ca.order(options).unwrap();
        assert_eq!(issued.order_url, "https://ca.example/order/2", "{expires}");
        assert_eq!(issued.chain.not_after().as_millis(), START / 1000 * 1000 + 90 * 86_400_000);
    }
}

#[test]
fn o26_an_order_that_is_ready_at_once_needs_its_finalize_url() {
    let mut ca = Script::new();
    ca.ca.authorized = vec!["example.org".to_owned()];
    ca.on("POST /new-order").edit(|order| order["finalize"] = json!(null));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.url()), (ErrorKind::Protocol, Some(ORDER_1)));
    assert_eq!(ca.transcript.last().unwrap(), "POST /new-order");
}

#[test]
fn o28_a_refused_csr_is_not_tried_with_another_key() {
    for name in ["badCSR", "badPublicKey"] {
        let (mut ca, options) = with_order(&Key::generate(KeyType::P256).unwrap());
        ca.on("POST /finalize/*").problem(400, name);
        let error = ca.order(options).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true), "{name}");
        assert_eq!((ca.count("POST /finalize/*"), ca.count("POST /new-order")), (1, 0));
    }
}

#[test]
fn o30_an_order_that_is_returned_again_goes_on_where_it_was() {
    let key = Key::generate(KeyType::P256).unwrap();
    let (mut ca, mut options) = with_order(&key);
    options.order_url = None;
    ca.on("POST /new-order").then(|ca, response| {
        ca.orders.truncate(2);
        response.body = ca.order(1).to_string().into_bytes();
        response.set("Location", "https://ca.example/order/2");
    });
    let operation = ca.client.obtain(options).unwrap();
    let issued = ca.run(&operation).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/2");
    assert_eq!(operation.order_url().as_deref(), Some("https://ca.example/order/2"));
    assert_eq!((ca.ca.orders.len(), ca.count("POST /new-order")), (2, 1));
}
