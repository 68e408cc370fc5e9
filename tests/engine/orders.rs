//! Orders in every state and shape. RFC 8555 sections 7.1.3, 7.1.6 and 7.4.

use acme_micro::engine::OrderOptions;
use acme_micro::{ErrorKind, Key, KeyType};
use serde_json::json;

use super::ca::Answer;
use super::pki;
use super::script::Script;

#[test]
fn o01_an_order_that_is_ready_at_once_is_finalized_without_publishing() {
    let mut ca = Script::seasoned();
    ca.ca.proven = vec!["example.org".to_owned()];
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.events, ["POST /new-order", "POST /finalize/2", "POST /order/2", "POST /cert/2"]);
}

#[test]
fn o02_an_order_that_is_valid_at_once_for_our_key_is_downloaded() {
    let key = Key::generate(KeyType::P256).unwrap();
    let public = pki::public(key.private_key().unwrap());
    let mut ca = Script::seasoned();
    ca.ca.processing_looks = 0;
    ca.on("POST /new-order").then(move |ca, answer| {
        ca.finalize_with(1, public.clone());
        answer.body = ca.order(1).to_string().into_bytes();
    });
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(key);
    ca.order(options).unwrap();
    assert_eq!(ca.events, ["POST /new-order", "POST /cert/2"]);
}

#[test]
fn o02_an_order_that_is_valid_at_once_for_another_key_is_followed_by_a_fresh_one() {
    let mut ca = Script::seasoned();
    ca.ca.processing_looks = 0;
    ca.on("POST /new-order").nth(1).then(|ca, answer| {
        ca.finalize_with(1, pki::public(&pki::new_key()));
        answer.body = ca.order(1).to_string().into_bytes();
    });
    let issued = ca.obtain(&["example.org"]).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/3");
    assert_eq!(ca.count("POST /new-order"), 2);
}

#[test]
fn o03_an_order_that_is_processing_at_once_is_polled() {
    let key = Key::generate(KeyType::P256).unwrap();
    let public = pki::public(key.private_key().unwrap());
    let mut ca = Script::seasoned();
    ca.ca.processing_looks = 2;
    ca.on("POST /new-order").then(move |ca, answer| {
        ca.finalize_with(1, public.clone());
        answer.body = ca.order(1).to_string().into_bytes();
    });
    let mut options = OrderOptions::new(["example.org"]);
    options.key = Some(key);
    ca.order(options).unwrap();
    assert_eq!(ca.events, ["POST /new-order", "POST /order/2", "POST /order/2", "POST /cert/2"]);
}

#[test]
fn an_order_may_take_minutes_to_be_processed() {
    let mut ca = Script::seasoned();
    ca.ca.processing_looks = 40;
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /finalize/2"), 1);
    assert_eq!(ca.count("POST /order/2"), 41);
    assert_eq!(ca.delays[..8], [250, 250, 500, 1000, 2000, 4000, 8000, 8000]);
}

#[test]
fn o21_an_order_that_is_processing_for_ever_ends_and_can_be_resumed() {
    let mut ca = Script::seasoned();
    ca.ca.processing_looks = u32::MAX;
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let error = ca.run(&operation).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(!error.is_permanent());
    assert_eq!(operation.order_url().as_deref(), Some("https://ca.example/order/2"));
    assert!(ca.count("POST /order/2") <= 121, "{}", ca.count("POST /order/2"));
}

#[test]
fn o04_an_invalid_order_gives_its_reason() {
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
fn o04_an_invalid_order_without_a_reason_says_so() {
    for what in ["POST /new-order", "POST /order/1", "POST /finalize/1"] {
        let mut ca = Script::new();
        ca.on(what).edit(|order| order["status"] = json!("invalid"));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Order, "{what}");
        assert!(error.problem().is_none());
    }
}

#[test]
fn o31_a_status_that_is_none_is_a_breach_of_protocol() {
    for status in [json!("bogus"), json!("READY"), json!(null), json!(7), json!("")] {
        for what in ["POST /new-order", "POST /order/1", "POST /finalize/1"] {
            let mut ca = Script::new();
            let bogus = status.clone();
            ca.on(what).edit(move |order| order["status"] = bogus.clone());
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{status} at {what}");
            assert!(ca.transcript.len() < 20);
        }
    }
}

#[test]
fn o26_members_that_are_missing_are_named_when_they_are_needed() {
    let mut ca = Script::new();
    ca.on("POST /order/1").edit(|order| {
        order.as_object_mut().unwrap().remove("finalize");
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("finalize"), "{error}");
    // While the order is pending nobody needs it.
    let mut ca = Script::new();
    ca.on("POST /new-order").edit(|order| {
        let order = order.as_object_mut().unwrap();
        order.remove("finalize");
        order.remove("expires");
    });
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn o29_an_order_without_a_location_cannot_be_followed() {
    let mut ca = Script::new();
    ca.on("POST /new-order").then(|_, answer| answer.remove("Location"));
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
    ca.on("POST /*").then(|_, answer| {
        let text =
            String::from_utf8_lossy(&answer.body).replace("\"example.org\"", "\"EXAMPLE.Org.\"");
        if text.contains("EXAMPLE") {
            answer.body = text.replace("2001:db8::1", "2001:0DB8:0:0:0:0:0:1").into_bytes();
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
fn o06_one_authorization_listed_twice_is_published_and_answered_once() {
    let mut ca = Script::new();
    ca.ca.proven = vec!["www.example.org".to_owned()];
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
fn o25_what_the_ca_says_about_expiry_is_not_needed() {
    for expires in [json!("1970-01-01T00:00:00Z"), json!("garbage"), json!(0), json!(null)] {
        let mut ca = Script::new();
        ca.on("POST /new-order").edit(move |order| order["expires"] = expires.clone());
        ca.obtain(&["example.org"]).unwrap();
    }
}

#[test]
fn o28_finalize_refused_for_the_csr_is_final() {
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
    ca.on("POST /finalize/1").then(|_, answer| answer.remove("Location"));
    ca.obtain(&["example.org"]).unwrap();
}

/// A client whose earlier run made an order and went no further.
fn with_order(key: &Key) -> (Script, OrderOptions) {
    let mut ca = Script::seasoned();
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
        ca.ca.processing_looks = looks;
        ca.ca.finalize_with(1, pki::public(key.private_key().unwrap()));
        ca.order(options).unwrap();
        assert_eq!(ca.count("POST /order/2"), looks.max(1) as usize);
        assert_eq!(ca.count("POST /finalize/2") + ca.count("POST /new-order"), 0);
    }
}

#[test]
fn an_order_that_leads_nowhere_any_more_is_replaced_by_a_fresh_one_once() {
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
    ca.on("POST /order/2").answer(Answer::problem(404, "malformed"));
    let issued = ca.order(options).unwrap();
    assert_eq!(issued.order_url, "https://ca.example/order/3");
    assert_eq!(ca.count("POST /new-order"), 1);
}
