//! Authorizations in every state. RFC 8555 sections 7.1.4 and 7.5.

use acme_micro::ErrorKind;
use acme_micro::engine::{ChallengeType, OrderOptions};
use serde_json::json;

use super::script::Script;

#[test]
fn o10_a_valid_authorization_needs_no_challenge() {
    let mut ca = Script::new();
    ca.ca.authorized = vec!["a.example".to_owned()];
    ca.obtain(&["a.example", "b.example"]).unwrap();
    assert!(!ca.published("http-01 a.example") && ca.published("http-01 b.example"));
    assert_eq!(ca.count("POST /chall/*"), 1);
}

#[test]
fn o10_a_pending_order_with_valid_authorizations_is_polled() {
    let mut ca = Script::new();
    ca.ca.authorized = vec!["a.example".to_owned()];
    ca.on("POST /new-order").edit(|order| order["status"] = json!("pending"));
    ca.obtain(&["a.example"]).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 0);
    assert!(!ca.published("*"));
}

#[test]
fn o11_an_invalid_authorization_fails_with_its_reason_before_publishing() {
    let mut ca = Script::new();
    ca.on("POST /authz/2").edit(|authorization| {
        authorization["status"] = json!("invalid");
        authorization["challenges"][0]["status"] = json!("invalid");
        authorization["challenges"][0]["error"] =
            json!({"type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN"});
    });
    let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Order, Some("b.example")));
    assert_eq!(error.problem().unwrap().name(), Some("dns"));
    assert!(error.to_string().contains("NXDOMAIN"), "{error}");
    assert!(!ca.published("*"));
}

#[test]
fn o11_an_expired_deactivated_or_revoked_authorization_fails_before_publishing() {
    for status in ["expired", "deactivated", "revoked"] {
        let mut ca = Script::new();
        ca.on("POST /authz/1").edit(move |authorization| authorization["status"] = json!(status));
        let error = ca.obtain(&["a.example"]).unwrap_err();
        assert_eq!((error.kind(), error.identifier()), (ErrorKind::Order, Some("a.example")));
        assert!(error.to_string().contains(status), "{error}");
        assert!(!ca.published("*"));
    }
}

#[test]
fn o07_an_authorization_for_another_name_is_refused_before_publishing() {
    for (kind, value) in
        [("dns", "evil.example"), ("ip", "192.0.2.1"), ("ip", "a.example"), ("x", "a.example")]
    {
        let mut ca = Script::new();
        ca.on("POST /authz/1").edit(move |authorization| {
            authorization["identifier"] = json!({"type": kind, "value": value});
        });
        let error = ca.obtain(&["a.example"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{kind} {value}");
        assert!(!ca.published("*"));
        assert_eq!(error.identifier(), Some(value));
    }
}

#[test]
fn o07_an_authorization_without_an_identifier_is_refused() {
    for identifier in [json!(null), json!("a.example"), json!({"type": "dns"}), json!([])] {
        let mut ca = Script::new();
        ca.on("POST /authz/1").edit(move |a| a["identifier"] = identifier.clone());
        assert_eq!(ca.obtain(&["a.example"]).unwrap_err().kind(), ErrorKind::Protocol);
        assert!(!ca.published("*"));
    }
}

#[test]
fn o09_the_wildcard_flag_tells_a_wildcard_from_its_base_name() {
    let mut options = OrderOptions::new(["example.org", "*.example.org"]);
    options.challenge_types = vec![ChallengeType::Dns01];
    let mut ca = Script::new();
    ca.order(options).unwrap();
    let published = ca.events.iter().filter(|e| *e == "PUBLISH dns-01 example.org").count();
    assert_eq!(published, 2, "two TXT values under one name");
}

#[test]
fn o09_a_wildcard_authorization_without_its_flag_is_refused() {
    let mut options = OrderOptions::new(["*.example.org"]);
    options.challenge_types = vec![ChallengeType::Dns01];
    let mut ca = Script::new();
    ca.on("POST /authz/1").edit(|a| a["wildcard"] = json!(false));
    let error = ca.order(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(!ca.published("*"));
}

#[test]
fn o09_a_wildcard_flag_for_a_plain_name_is_refused() {
    let mut ca = Script::new();
    ca.on("POST /authz/1").edit(|a| a["wildcard"] = json!(true));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn o18_a_failed_challenge_names_the_identifier_and_the_reason() {
    let mut ca = Script::new();
    ca.ca.failing = vec!["b.example".to_owned()];
    ca.ca.validation_fetches = 3;
    let error = ca.obtain(&["a.example", "b.example", "c.example"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("b.example")));
    assert_eq!(error.problem().unwrap().name(), Some("connection"));
    assert!(
        error.to_string().contains("http-01 failed: connection: cannot reach b.example"),
        "{error}"
    );
    assert!(!error.is_permanent());
    assert_eq!(ca.count("POST /new-order"), 1);
    assert_eq!(ca.count("POST /finalize/*"), 0);
}

#[test]
fn an_order_that_stays_pending_is_searched_for_a_failed_authorization() {
    let mut ca = Script::new();
    ca.ca.failing = vec!["example.org".to_owned()];
    ca.on("POST /order/1").edit(|order| order["status"] = json!("pending"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("example.org")));
    assert!(ca.count("POST /order/1") <= 6, "{:?}", ca.transcript);
}

#[test]
fn a_failed_name_is_reported_even_when_another_response_was_lost() {
    let mut ca = Script::new();
    ca.ca.failing = vec!["b.example".to_owned()];
    ca.on("POST /chall/1/http-01").lose_request();
    let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("b.example")));
    assert_eq!(ca.count("POST /chall/1/http-01"), 1, "a failed order gets no further response");
}

#[test]
fn o12_an_authorization_that_stays_pending_ends_with_the_timeout() {
    let mut ca = Script::with_account();
    ca.ca.validation_fetches = u32::MAX;
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!((600..=601).contains(&ca.elapsed().as_secs()), "{:?}", ca.elapsed());
    assert!(ca.count("POST /order/2") <= 120);
    assert_eq!(ca.count("POST /chall/*"), 1);
}

#[test]
fn o19_an_error_in_a_pending_challenge_is_not_final() {
    let mut ca = Script::new();
    ca.ca.validation_fetches = 8;
    ca.on("POST /authz/1").from(2).edit(|authorization| {
        authorization["challenges"][0]["error"] =
            json!({"type": "urn:ietf:params:acme:error:dns", "detail": "trying again"});
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /authz/1"), 2, "one check of the pending authorization");
}
