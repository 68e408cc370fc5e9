//! Choosing, publishing and responding to challenges. RFC 8555 sections 7.5.1 and 8.

use acme_micro::engine::{Challenge, ChallengeType, Issued, Operation, OrderOptions, Step};
use acme_micro::{ErrorKind, Time};
use serde_json::{Value, json};

use super::log;
use super::script::Script;

fn edit_challenges(ca: &mut Script, mut change: impl FnMut(&mut Vec<Value>) + Send + 'static) {
    ca.on("POST /authz/1").edit(move |authorization| {
        change(authorization["challenges"].as_array_mut().unwrap());
    });
}

#[test]
fn the_first_acceptable_type_that_is_offered_is_chosen() {
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
fn o13_an_error_about_types_lists_the_offered_and_the_accepted_types() {
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
fn o14_unknown_challenge_types_are_ignored() {
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

/// Checks that an order with this token fails before anything is published.
fn refuse_token(token: Value) {
    let mut ca = Script::new();
    let bad = token.clone();
    edit_challenges(&mut ca, move |challenges| challenges[0]["token"] = bad.clone());
    let error = ca.obtain(&["example.org"]).unwrap_err();
    let shown: String = token.to_string().chars().take(40).collect();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{shown}");
    assert!(error.to_string().contains("bad token"), "{error}");
    assert_eq!(error.identifier(), Some("example.org"));
    assert!(!ca.published("*") && ca.count("POST /chall/*") == 0, "{shown}");
}

/// Checks tokens with this part: the part alone, and in enough valid characters to be long enough.
fn refuse_part(part: &str) {
    let sound = "a".repeat(30);
    for token in [part.to_owned(), format!("{part}{sound}"), format!("{sound}{part}{sound}")] {
        refuse_token(json!(token));
    }
    refuse_token(json!(format!("{sound}{part}")));
}

#[test]
fn t01_a_token_with_a_path_in_it_is_refused() {
    let parts = [
        "../../../../etc/cron.d/x",
        "..",
        ".",
        "/abs",
        "a/b",
        "a\\b",
        "%2e%2e%2f",
        "~",
        ":",
        "C:\\x",
    ];
    parts.into_iter().for_each(refuse_part);
}

#[test]
fn t02_a_token_with_a_meaning_for_a_shell_or_page_is_refused() {
    let parts = [
        "\r\nSet-Cookie: x=y",
        "\0",
        " ",
        ";",
        "`id`",
        "$(id)",
        "'",
        "\"",
        "<script>",
        "|",
        "&",
        "*",
        "\n",
        "\t",
        "\u{1b}[2J",
        "%s%n",
        "{}",
    ];
    parts.into_iter().for_each(refuse_part);
}

#[test]
fn t03_a_token_that_is_missing_or_not_a_string_is_refused() {
    for token in [json!(""), json!(null), json!(7), json!(["a"]), json!({"a": 1}), json!(true)] {
        refuse_token(token);
    }
    let mut ca = Script::new();
    edit_challenges(&mut ca, |challenges| {
        challenges[0].as_object_mut().unwrap().remove("token");
    });
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Protocol);
    // The token of a type that is not used does not matter.
    let mut ca = Script::new();
    edit_challenges(&mut ca, |challenges| challenges[1]["token"] = json!(null));
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn t04_t05_a_token_has_22_to_512_characters() {
    for length in [1, 5, 21, 513, 1024, 64 * 1024] {
        refuse_token(json!("a".repeat(length)));
    }
    for length in [22, 43, 512] {
        let mut ca = Script::new();
        let token = "a".repeat(length);
        ca.on("POST /authz/1").nth(1).then(move |ca, response| {
            ca.authorizations[0].token = token.clone();
            response.edit(|authorization| {
                authorization["challenges"][0]["token"] = json!(token);
            });
        });
        ca.obtain(&["example.org"]).unwrap();
    }
}

#[test]
fn t06_a_token_of_unicode_look_alikes_is_refused() {
    for part in ["\u{ff41}\u{ff42}", "\u{feff}", "=", "==", "\u{2010}", "\u{430}", "+", "\u{202e}"]
    {
        refuse_part(part);
    }
}

#[test]
fn t01_a_bad_token_for_one_name_prevents_all_publications() {
    let mut ca = Script::new();
    ca.on("POST /authz/2").edit(|a| a["challenges"][0]["token"] = json!("../../x"));
    let error = ca.obtain(&["a.example", "b.example", "c.example"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(!ca.published("*"));
}

#[test]
fn o15_a_processing_challenge_is_published_and_gets_no_response() {
    let mut ca = Script::new();
    ca.on("POST /authz/1").nth(1).then(|ca, response| {
        response.edit(|a| a["challenges"][0]["status"] = json!("processing"));
        // The CA is validating, and is done at the next fetch.
        ca.authorizations[0].responded = Some("http-01".to_owned());
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 0);
    assert!(ca.published("http-01 example.org"));
}

#[test]
fn o15_a_valid_challenge_in_a_pending_authorization_gets_no_response() {
    let mut ca = Script::new();
    ca.on("POST /authz/1").nth(1).then(|ca, response| {
        response.edit(|a| a["challenges"][0]["status"] = json!("valid"));
        ca.authorizations[0].responded = Some("http-01".to_owned());
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/*"), 0);
}

#[test]
fn o15_an_invalid_challenge_in_a_pending_authorization_fails_at_once() {
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
fn a_challenge_without_a_status_gets_a_response() {
    for status in [json!(null), json!("new")] {
        let mut ca = Script::new();
        edit_challenges(&mut ca, move |challenges| challenges[0]["status"] = status.clone());
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /chall/*"), 1);
    }
}

#[test]
fn o17_the_authorization_decides_when_a_challenge_says_valid() {
    let mut ca = Script::new();
    ca.ca.validation_fetches = 3;
    ca.on("POST /chall/1/http-01").edit(|challenge| challenge["status"] = json!("valid"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /order/1"), 4);
}

#[test]
fn a_refused_response_does_no_harm_when_the_authorization_is_valid() {
    let mut ca = Script::new();
    ca.on("POST /chall/1/http-01").then(|_, response| {
        *response = super::ca::Response::problem(400, "malformed");
    });
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /chall/1/http-01"), 1);
}

#[test]
fn a_refused_response_to_a_failed_authorization_reports_its_failure() {
    let mut ca = Script::new();
    ca.ca.failing = vec!["example.org".to_owned()];
    ca.on("POST /chall/1/http-01").then(|_, response| {
        *response = super::ca::Response::problem(400, "malformed");
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Challenge, "{error}");
    assert!(error.to_string().contains("cannot reach example.org"), "{error}");
}

#[test]
fn a_refused_response_is_reported_with_the_name() {
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
    ca.on("POST /authz/*").then(move |ca, response| {
        for authorization in &mut ca.authorizations {
            authorization.token = same.to_owned();
        }
        response.edit(|a| a["challenges"][0]["token"] = json!(same));
    });
    ca.obtain(&["a.example", "b.example"]).unwrap();
    assert!(ca.published("http-01 a.example") && ca.published("http-01 b.example"));
}

#[test]
fn t11_a_failed_publication_ends_with_host_and_removes_everything() {
    let mut ca = Script::new();
    ca.publishing = Err("the disk is full: No space left on device (28)".to_owned());
    let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.to_string().contains("No space left on device (28)"), "{error}");
    assert!(!error.is_permanent());
    assert_eq!(ca.count("POST /chall/*"), 0, "no challenge gets a response");
    assert_eq!(ca.events.iter().filter(|e| e.starts_with("UNPUBLISH")).count(), 2);
}

#[test]
fn t11_the_message_of_the_host_becomes_one_printable_line() {
    let mut ca = Script::new();
    ca.publishing = Err(format!("line\nline\u{1b}[31m{}", "x".repeat(10_000)));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Host);
}

#[test]
fn a_challenge_url_on_another_host_gets_no_request() {
    for url in ["https://evil.example/c", "http://ca.example/c", "/chall/1", "javascript:x", ""] {
        let mut ca = Script::new();
        edit_challenges(&mut ca, move |challenges| challenges[0]["url"] = json!(url));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{url}");
    }
}

#[test]
fn t10_the_http_01_body_is_the_key_authorization_and_nothing_else() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let thumbprint = ca.account_key.thumbprint().to_owned();
    let challenge = publish_step(&mut ca, &operation);
    let expected = format!("token-of-authorization-000001.{thumbprint}");
    assert_eq!(challenge.key_authorization().as_bytes(), expected.as_bytes());
    let path = "/.well-known/acme-challenge/token-of-authorization-000001";
    assert_eq!(challenge.http_path().as_deref(), Some(path));
}

/// Feeds responses to an operation until it publishes a challenge.
fn publish_step(ca: &mut Script, operation: &Operation<Issued>) -> Challenge {
    loop {
        match operation.poll(Time::from_millis(ca.now)).unwrap() {
            Step::Publish(challenges) => return challenges[0].clone(),
            Step::Request(request) => {
                let response = ca.respond_to(&request).unwrap();
                let reply = operation.reply(request.id);
                for (name, value) in &response.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&response.body).unwrap();
                reply.end(response.status).unwrap();
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn t11_an_operation_waits_for_a_host_that_never_reports_its_publication() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    publish_step(&mut ca, &operation);
    let in_a_month = Time::from_millis(ca.now + 30 * 86_400_000);
    assert!(matches!(operation.poll(in_a_month).unwrap(), Step::Wait(None)));
    operation.cancel();
    assert!(matches!(operation.poll(in_a_month).unwrap(), Step::Unpublish(_)));
    assert_eq!(operation.poll(in_a_month).unwrap_err().kind(), ErrorKind::Canceled);
    // Late and repeated reports are refused and do no harm.
    for _ in 0..2 {
        assert_eq!(operation.published(Ok(())).unwrap_err().kind(), ErrorKind::Misuse);
    }
}

#[test]
fn t13_a_run_after_a_kill_removes_the_records_of_the_killed_run() {
    let mut ca = Script::with_account();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let left = publish_step(&mut ca, &operation);
    // The first run is killed here. The order returns the same challenge to the next run.
    let mut options = OrderOptions::new(["example.org"]);
    options.order_url = operation.order_url();
    let again = ca.client.obtain(options.clone()).unwrap();
    let same = publish_step(&mut ca, &again);
    assert_eq!(same.http_path(), left.http_path());
    assert_eq!(same.key_authorization(), left.key_authorization());
    ca.forget();
    ca.order(options).unwrap();
    let mine = ca.events.iter().filter(|event| event.ends_with("http-01 example.org"));
    let mine: Vec<_> = mine.collect();
    assert_eq!(mine, ["PUBLISH http-01 example.org", "UNPUBLISH http-01 example.org"]);
}

#[test]
fn t15_a_name_too_long_for_its_record_is_refused_before_any_request() {
    // A name in DNS has at most 253 characters; without "_acme-challenge." that leaves 237.
    let name = |length: usize| {
        let labels = [["a"; 60].concat().as_str(); 3].join(".");
        format!("{labels}.{}", "b".repeat(length - labels.len() - 1))
    };
    let mut options = OrderOptions::new([name(237)]);
    options.challenge_types = vec![ChallengeType::Dns01];
    Script::new().order(options.clone()).unwrap();
    options.names = vec![name(238)];
    let mut ca = Script::new();
    assert_eq!(ca.order(options).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(ca.transcript.is_empty());
}

#[test]
fn t17_the_log_and_errors_show_no_key_authorization() {
    for kind in [ChallengeType::Http01, ChallengeType::Dns01, ChallengeType::TlsAlpn01] {
        for failing in [false, true] {
            let mut ca = Script::new();
            let thumbprint = ca.account_key.thumbprint().to_owned();
            ca.ca.failing.extend(failing.then(|| "example.org".to_owned()));
            ca.ca.validation_fetches = 8;
            let mut options = OrderOptions::new(["example.org"]);
            options.challenge_types = vec![kind];
            let (outcome, mut lines) = log::lines(|| ca.order(options));
            assert_eq!(outcome.is_err(), failing);
            assert!(lines.len() > 10, "{lines:?}");
            lines.extend(outcome.err().map(|error| format!("{error} {error:?}")));
            let token = "token-of-authorization-000001";
            let digest = openssl::sha::sha256(format!("{token}.{thumbprint}").as_bytes());
            for secret in [thumbprint, super::jws::encode(&digest)] {
                let shown = lines.iter().find(|line| line.contains(&secret));
                assert!(shown.is_none(), "{shown:?}");
            }
        }
    }
}
