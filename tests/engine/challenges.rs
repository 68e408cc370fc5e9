//! Choosing, publishing and answering challenges. RFC 8555 sections 7.5.1 and 8.

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

/// Nothing comes of an order whose token is this, and nothing is made of it.
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

/// As it is, and with so many sound characters around it that it is long enough.
fn refuse_part(part: &str) {
    let sound = "a".repeat(30);
    for token in [part.to_owned(), format!("{part}{sound}"), format!("{sound}{part}{sound}")] {
        refuse_token(json!(token));
    }
    refuse_token(json!(format!("{sound}{part}")));
}

#[test]
fn t01_a_token_that_leads_through_folders_is_refused() {
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
fn t02_a_token_that_means_something_to_a_shell_or_page_is_refused() {
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
fn t03_a_token_that_is_none_is_refused() {
    for token in [json!(""), json!(null), json!(7), json!(["a"]), json!({"a": 1}), json!(true)] {
        refuse_token(token);
    }
    let mut ca = Script::new();
    edit_challenges(&mut ca, |challenges| {
        challenges[0].as_object_mut().unwrap().remove("token");
    });
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Protocol);
    // Of a type that is not used it does not matter.
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
        ca.on("POST /authz/1").nth(1).then(move |ca, answer| {
            ca.authorizations[0].token = token.clone();
            answer.edit(|authorization| {
                authorization["challenges"][0]["token"] = json!(token);
            });
        });
        ca.obtain(&["example.org"]).unwrap();
    }
}

#[test]
fn t06_a_token_of_look_alikes_is_refused() {
    for part in ["\u{ff41}\u{ff42}", "\u{feff}", "=", "==", "\u{2010}", "\u{430}", "+", "\u{202e}"]
    {
        refuse_part(part);
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

#[test]
fn t10_the_body_to_serve_is_the_key_authorization_and_nothing_else() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let thumbprint = ca.account_key.thumbprint().to_owned();
    let challenge = publish_step(&mut ca, &operation);
    let expected = format!("token-of-authorization-000001.{thumbprint}");
    assert_eq!(challenge.key_authorization().as_bytes(), expected.as_bytes());
    let path = "/.well-known/acme-challenge/token-of-authorization-000001";
    assert_eq!(challenge.http_path().as_deref(), Some(path));
}

/// Answers an operation's requests until it has something to publish.
fn publish_step(ca: &mut Script, operation: &Operation<Issued>) -> Challenge {
    loop {
        match operation.poll(Time::from_millis(ca.now)).unwrap() {
            Step::Publish(challenges) => return challenges[0].clone(),
            Step::Request(request) => {
                let answer = ca.answer(&request).unwrap();
                let reply = operation.reply(request.id);
                for (name, value) in &answer.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&answer.body).unwrap();
                reply.end(answer.status).unwrap();
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn t11_a_host_that_never_says_that_it_has_published_is_waited_for() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    publish_step(&mut ca, &operation);
    let in_a_month = Time::from_millis(ca.now + 30 * 86_400_000);
    assert!(matches!(operation.poll(in_a_month).unwrap(), Step::Wait(None)));
    operation.cancel();
    assert!(matches!(operation.poll(in_a_month).unwrap(), Step::Unpublish(_)));
    assert_eq!(operation.poll(in_a_month).unwrap_err().kind(), ErrorKind::Canceled);
    // Too late, and twice: it is said, and does no harm.
    for _ in 0..2 {
        assert_eq!(operation.published(Ok(())).unwrap_err().kind(), ErrorKind::Misuse);
    }
}

#[test]
fn t13_a_run_after_one_that_was_killed_takes_down_what_that_had_published() {
    let mut ca = Script::seasoned();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let left = publish_step(&mut ca, &operation);
    // Killed: nothing more is heard of it. The same challenge comes again with its order.
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
fn t15_a_name_that_is_too_long_for_its_record_is_refused_before_anything_is_sent() {
    // 253 less "_acme-challenge." is 237.
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
fn t17_no_line_of_the_log_and_no_error_shows_a_key_authorization() {
    for kind in [ChallengeType::Http01, ChallengeType::Dns01, ChallengeType::TlsAlpn01] {
        for failing in [false, true] {
            let mut ca = Script::new();
            let thumbprint = ca.account_key.thumbprint().to_owned();
            ca.ca.failing.extend(failing.then(|| "example.org".to_owned()));
            ca.ca.validation_looks = 8;
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
