//! Choosing, publishing and answering challenges. RFC 8555 sections 7.5.1 and 8.

use acme_micro::ErrorKind;
use acme_micro::engine::{ChallengeType, OrderOptions};
use serde_json::{Value, json};

use super::script::Script;

fn edit_challenges(ca: &mut Script, mut change: impl FnMut(&mut Vec<Value>) + Send + 'static) {
    ca.on("POST /authz/1").edit(move |authorization| {
        change(authorization["challenges"].as_array_mut().unwrap());
    });
}

#[test]
fn the_first_acceptable_type_that_is_offered_is_taken() {
    use ChallengeType::{Dns01, Http01, TlsAlpn01};
    for (accepted, offered, taken) in [
        (vec![Http01], vec!["tls-alpn-01", "http-01"], "http-01"),
        (vec![Dns01, Http01], vec!["http-01", "dns-01"], "dns-01"),
        (vec![TlsAlpn01, Dns01], vec!["http-01", "dns-01"], "dns-01"),
        (vec![TlsAlpn01], vec!["tls-alpn-01"], "tls-alpn-01"),
    ] {
        let mut ca = Script::new();
        ca.ca.offers = offered;
        let mut options = OrderOptions::new(["example.org"]);
        options.challenge_types = accepted;
        ca.order(options).unwrap();
        assert_eq!(ca.count(&format!("POST /chall/1/{taken}")), 1);
        assert!(ca.published(&format!("{taken} example.org")));
    }
}

#[test]
fn o13_no_acceptable_type_lists_what_is_offered_and_what_is_accepted() {
    let mut ca = Script::new();
    ca.ca.offers = vec!["dns-01", "tls-alpn-01"];
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("example.org")));
    let text = error.to_string();
    assert!(text.contains("dns-01, tls-alpn-01") && text.contains("http-01"), "{text}");
    assert!(error.is_permanent());
    assert!(!ca.published("*"));
    for none in [json!([]), json!(null), json!([1, {}, {"type": "http-01"}])] {
        let mut ca = Script::new();
        ca.on("POST /authz/1").edit(move |a| a["challenges"] = none.clone());
        assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Challenge);
    }
}

#[test]
fn o14_unknown_types_beside_ours_are_passed_over() {
    let mut ca = Script::new();
    edit_challenges(&mut ca, |challenges| {
        challenges.insert(
            0,
            json!({"type": "dns-persist-01", "url": "https://elsewhere.example/c",
            "status": "pending", "issuer-domain-names": ["ca.example"]}),
        );
        challenges.insert(1, json!({"type": "tomorrow-01", "token": 7, "url": "x"}));
        challenges.insert(2, json!(["nonsense"]));
    });
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn t01_t02_t03_t04_t05_t06_a_bad_token_is_refused_before_anything_is_published() {
    let long = "a".repeat(64 * 1024);
    for token in [
        "../../../../etc/cron.d/xxxxxxxx",
        "/absolute/path/that/is/long/enough",
        "..",
        "aaaaaaaaaaaaaaaaaaaaaa\r\nSet-Cookie: x=y",
        "aaaaaaaaaaaaaaaaaaaaaaaa\0",
        "$(id)aaaaaaaaaaaaaaaaaaaaaaa",
        "<script>aaaaaaaaaaaaaaaaaaaa",
        "%2e%2e%2faaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaa=",
        "ａａａａａａａａａａａａａａａａａａａａａａ",
        "short",
        "",
        &long,
    ] {
        let mut ca = Script::new();
        let bad = token.to_owned();
        edit_challenges(&mut ca, move |challenges| challenges[0]["token"] = json!(bad));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{token:.40}");
        assert!(error.to_string().contains("token"), "{error}");
        assert!(!ca.published("*") && ca.count("POST /chall/*") == 0);
    }
    for token in [json!(null), json!(7), json!(["a"])] {
        let mut ca = Script::new();
        edit_challenges(&mut ca, move |challenges| challenges[0]["token"] = token.clone());
        assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Protocol);
        assert!(!ca.published("*"));
    }
}

#[test]
fn t01_a_bad_token_of_one_name_keeps_the_others_from_being_published() {
    let mut ca = Script::new();
    ca.on("POST /authz/2").edit(|a| a["challenges"][0]["token"] = json!("../../x"));
    let error = ca.obtain(&["a.example", "b.example", "c.example"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(!ca.published("*"));
}

#[test]
fn o15_one_that_is_processing_is_published_and_not_answered() {
    let mut ca = Script::new();
    ca.on("POST /authz/1").nth(1).then(|ca, answer| {
        answer.edit(|a| a["challenges"][0]["status"] = json!("processing"));
        // The CA is at it, and will be done at the next look.
        ca.authorizations[0].answered = Some("http-01".to_owned());
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 0);
    assert!(ca.published("http-01 example.org"));
}

#[test]
fn o15_one_that_is_valid_in_a_pending_authorization_is_not_answered() {
    let mut ca = Script::new();
    ca.on("POST /authz/1").nth(1).then(|ca, answer| {
        answer.edit(|a| a["challenges"][0]["status"] = json!("valid"));
        ca.authorizations[0].answered = Some("http-01".to_owned());
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 0);
}

#[test]
fn o15_one_that_is_invalid_in_a_pending_authorization_fails_at_once() {
    let mut ca = Script::new();
    edit_challenges(&mut ca, |challenges| {
        challenges[0]["status"] = json!("invalid");
        challenges[0]["error"] =
            json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": "wrong content"});
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Challenge, Some("example.org")));
    assert!(error.to_string().contains("wrong content"), "{error}");
    assert!(ca.elapsed().as_secs() < 60, "{:?}", ca.elapsed());
}

#[test]
fn one_whose_status_is_missing_is_answered() {
    for status in [json!(null), json!("new")] {
        let mut ca = Script::new();
        edit_challenges(&mut ca, move |challenges| challenges[0]["status"] = status.clone());
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /chall/*"), 1);
    }
}

#[test]
fn o17_the_answer_says_valid_and_the_authorization_decides() {
    let mut ca = Script::new();
    ca.ca.validation_looks = 3;
    ca.on("POST /chall/1/http-01").edit(|challenge| challenge["status"] = json!("valid"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /order/1"), 4);
}

#[test]
fn a_refused_answer_is_fine_when_the_authorization_is_valid_already() {
    let mut ca = Script::new();
    ca.on("POST /chall/1/http-01").then(|_, answer| {
        *answer = super::ca::Answer::problem(400, "malformed");
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/1/http-01"), 1);
}

#[test]
fn a_refused_answer_to_an_authorization_that_has_failed_says_why_it_failed() {
    let mut ca = Script::new();
    ca.ca.failing = vec!["example.org".to_owned()];
    ca.on("POST /chall/1/http-01").then(|_, answer| {
        *answer = super::ca::Answer::problem(400, "malformed");
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Challenge, "{error}");
    assert!(error.to_string().contains("cannot reach example.org"), "{error}");
}

#[test]
fn a_refused_answer_is_reported_with_the_name() {
    let mut ca = Script::new();
    ca.on("POST /chall/2/http-01").problem(403, "unauthorized");
    let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Problem, Some("b.example")));
    assert_eq!(error.url(), Some("https://ca.example/chall/2/http-01"));
    assert_eq!(ca.count("POST /chall/2/http-01"), 1);
}

#[test]
fn t07_the_same_token_for_two_names_is_published_for_each() {
    let mut ca = Script::new();
    let same = "the-same-token-for-two-names";
    ca.on("POST /authz/*").then(move |ca, answer| {
        for authorization in &mut ca.authorizations {
            authorization.token = same.to_owned();
        }
        answer.edit(|a| a["challenges"][0]["token"] = json!(same));
    });
    ca.obtain(&["a.example", "b.example"]).unwrap();
    assert!(ca.published("http-01 a.example") && ca.published("http-01 b.example"));
}

#[test]
fn t11_publishing_that_fails_ends_with_host_and_takes_everything_down() {
    let mut ca = Script::new();
    ca.publishing = Err("the disk is full: No space left on device (28)".to_owned());
    let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.to_string().contains("No space left on device (28)"), "{error}");
    assert!(!error.is_permanent());
    assert_eq!(ca.count("POST /chall/*"), 0, "the CA is told nothing");
    assert_eq!(ca.events.iter().filter(|e| e.starts_with("UNPUBLISH")).count(), 2);
}

#[test]
fn t11_what_the_host_says_is_made_fit_for_one_line() {
    let mut ca = Script::new();
    ca.publishing = Err(format!("line\nline\u{1b}[31m{}", "x".repeat(10_000)));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Host);
}

#[test]
fn a_challenge_url_elsewhere_is_never_asked() {
    for url in ["https://evil.example/c", "http://ca.example/c", "/chall/1", "javascript:x", ""] {
        let mut ca = Script::new();
        edit_challenges(&mut ca, move |challenges| challenges[0]["url"] = json!(url));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{url}");
    }
}
