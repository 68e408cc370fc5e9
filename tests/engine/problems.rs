//! Refusals and answers that are none: what they become. RFC 8555 section 6.7.

use acme_micro::ErrorKind;
use serde_json::{Value, json};

use super::ca::Answer;
use super::script::Script;

fn refuse_order(answer: Answer) -> acme_micro::AcmeError {
    let mut ca = Script::new();
    ca.on("POST /new-order").answer(answer);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.url(), Some("https://ca.example/new-order"));
    assert!(error.to_string().starts_with("creating the order at "), "{error}");
    error
}

#[test]
fn p02_each_type_of_problem_has_its_kind_and_permanence() {
    for (name, kind, permanent) in [
        ("badCSR", ErrorKind::Problem, true),
        ("caa", ErrorKind::Problem, false),
        ("dns", ErrorKind::Problem, false),
        ("malformed", ErrorKind::Problem, true),
        ("rejectedIdentifier", ErrorKind::Order, true),
        ("unsupportedIdentifier", ErrorKind::Order, true),
        ("userActionRequired", ErrorKind::Terms, true),
        ("externalAccountRequired", ErrorKind::EabRequired, true),
        ("unauthorized", ErrorKind::Problem, true),
        ("inventedTomorrow", ErrorKind::Problem, true),
    ] {
        let error = refuse_order(Answer::problem(403, name));
        assert_eq!((error.kind(), error.is_permanent()), (kind, permanent), "{name}");
        assert_eq!(error.http_status(), Some(403));
        let problem = error.problem().unwrap();
        assert_eq!(problem.name(), Some(name));
        assert_eq!(problem.detail(), Some(&*format!("the detail of {name}")));
        assert!(error.to_string().contains(&format!("{name}: the detail of {name}")), "{error}");
    }
}

#[test]
fn d16_changed_terms_come_with_where_to_read_them() {
    let body = json!({
        "type": "urn:ietf:params:acme:error:userActionRequired", "detail": "new terms",
        "instance": "https://ca.example/agree/1",
    });
    let error = refuse_order(Answer::json(403, &body));
    assert_eq!(error.kind(), ErrorKind::Terms);
    assert_eq!(error.problem().unwrap().instance(), Some("https://ca.example/agree/1"));
}

#[test]
fn p06_a_single_subproblem_names_the_identifier() {
    let body = json!({
        "type": "urn:ietf:params:acme:error:malformed", "detail": "some names",
        "subproblems": [{
            "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "on the list",
            "identifier": {"type": "dns", "value": "example.org"},
        }],
    });
    let error = refuse_order(Answer::json(400, &body));
    assert_eq!(error.identifier(), Some("example.org"));
    assert_eq!(error.problem().unwrap().subproblems().len(), 1);
    assert!(error.to_string().contains("on the list"), "{error}");
}

#[test]
fn p07_a_refusal_that_is_no_problem_document_keeps_its_status_and_beginning() {
    for body in
        ["<html>Forbidden by the proxy</html>", "", r#"{"error":"x"}"#, "[]", "null", "\u{1}\u{2}"]
    {
        let error = refuse_order(Answer::new(403, body));
        assert_eq!((error.kind(), error.http_status()), (ErrorKind::Problem, Some(403)));
        assert!(error.problem().is_none() && error.is_permanent());
        assert!(error.to_string().contains("403"), "{error}");
    }
    let error = refuse_order(Answer::new(403, "<html>Forbidden by the proxy</html>"));
    assert!(error.to_string().contains("Forbidden by the proxy"), "{error}");
}

#[test]
fn p03_the_http_status_counts_and_not_the_one_in_the_document() {
    let body = json!({"type": "about:blank", "detail": "x", "status": 503});
    let error = refuse_order(Answer::json(403, &body));
    assert_eq!(error.http_status(), Some(403));
    assert!(error.is_permanent());
}

#[test]
fn p08_a_problem_with_status_200_is_never_taken_for_a_resource() {
    let body = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": "sorry"});
    for what in [
        "GET /directory",
        "POST /new-order",
        "POST /authz/1",
        "POST /order/1",
        "POST /finalize/1",
        "POST /cert/1",
    ] {
        let mut ca = Script::new();
        ca.on(what)
            .answer(Answer::json(200, &body).header("Location", "https://ca.example/order/1"));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Protocol | ErrorKind::Problem | ErrorKind::Certificate
            ),
            "{what}: {error:?}"
        );
        assert!(error.url().is_some(), "{what}: {error}");
    }
}

#[test]
fn d01_d02_h14_h15_nonsense_instead_of_json_is_a_breach_of_protocol_everywhere() {
    let bodies: [&[u8]; 9] = [
        b"",
        b"{\"status\":\"pending\xff\"}",
        b"\xfe\xff\0{\0}",
        b"<html>please log in</html>",
        b"[]",
        b"\"text\"",
        b"null",
        b"\xff\xfe{\0}\0",
        b"{\"status\":\"pending\"",
    ];
    let empty = [204, 205].map(|status| (status, &b""[..]));
    for (status, body) in bodies.map(|body| (200, body)).into_iter().chain(empty) {
        for what in [
            "GET /directory",
            "POST /new-account",
            "POST /new-order",
            "POST /authz/1",
            "POST /order/1",
            "POST /finalize/1",
        ] {
            let mut ca = Script::new();
            let location = "https://ca.example/account/1";
            ca.on(what).answer(Answer::new(status, body).header("Location", location));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what} {body:?}: {error}");
            assert_eq!(ca.count(what), 1, "{what}: not tried again");
        }
    }
}

#[test]
fn h14_a_byte_order_mark_is_forgiven() {
    let mut ca = Script::new();
    ca.on("*").then(|_, answer| {
        if answer.body.starts_with(b"{") {
            answer.body.splice(0..0, *b"\xef\xbb\xbf");
        }
    });
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn h13_content_types_do_not_matter() {
    for content_type in [
        "text/html; charset=utf-16",
        "application/octet-stream",
        "application/pkix-cert",
        "application/problem+json",
        "",
        "\u{7f}",
    ] {
        let mut ca = Script::new();
        ca.on("*").then(move |_, answer| answer.set("Content-Type", content_type));
        ca.obtain(&["example.org"]).unwrap();
        // A refusal is one by its content.
        let refusal = Answer::problem(403, "rejectedIdentifier");
        let error = refuse_order(refusal.header("Content-Type", content_type));
        assert_eq!(error.problem().unwrap().name(), Some("rejectedIdentifier"), "{content_type}");
    }
    // A certificate in another form is none, whatever it is called.
    for content_type in ["application/pkix-cert", "application/pkcs7-mime"] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").then(move |_, answer| {
            let pem = openssl::x509::X509::from_pem(&answer.body).unwrap();
            answer.body = pem.to_der().unwrap();
            answer.set("Content-Type", content_type);
        });
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate, "{error}");
        assert_eq!(ca.count("POST /cert/1"), 1);
    }
}

#[test]
fn h30_header_fields_for_browsers_are_ignored() {
    let reference = {
        let mut ca = Script::new();
        ca.obtain(&["example.org"]).unwrap();
        ca.transcript
    };
    let mut ca = Script::new();
    ca.on("*").then(|_, answer| {
        for (name, value) in [
            ("Set-Cookie", "id=1; Domain=example; Path=/"),
            ("Alt-Svc", "h3=\"evil.example:443\"; ma=86400"),
            ("Strict-Transport-Security", "max-age=31536000"),
            ("Refresh", "0; url=https://evil.example/"),
            ("Content-Location", "https://evil.example/"),
            ("Content-Disposition", "attachment; filename=\"../../etc/passwd\""),
            ("WWW-Authenticate", "Basic realm=\"x\""),
            ("Connection", "upgrade"),
        ] {
            answer.set(name, value);
        }
    });
    ca.obtain(&["example.org"]).unwrap();
    // The harness knows the header fields of requests, and refuses others.
    assert_eq!(ca.transcript, reference);
    for request in &ca.bodies {
        assert!(!String::from_utf8_lossy(request).contains("evil.example"));
    }
}

#[test]
fn p04_p05_a_hostile_detail_cannot_break_a_log_line() {
    let detail = format!("%s%n\n\u{1b}[31m\u{202e}\0{}", "x".repeat(100_000));
    let body = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": detail});
    // The harness refuses control characters in errors, and long ones.
    let error = refuse_order(Answer::json(400, &body));
    assert!(error.to_string().contains("%s%n"), "{error}");
}

#[test]
fn p06_deep_and_wide_documents_are_cut() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = refuse_order(Answer::new(400, format!(r#"{{"type":"a","x":{deep}}}"#)));
    assert_eq!(error.kind(), ErrorKind::Problem);
    let subs: Vec<_> = (0..10_000).map(|n| json!({"type": format!("t{n}")})).collect();
    let error = refuse_order(Answer::json(400, &json!({"type": "a", "subproblems": subs})));
    assert_eq!(error.problem().unwrap().subproblems().len(), 100);
}

#[test]
fn a_page_that_helps_is_told() {
    let help = |problem: Value, link: Option<&str>| {
        let mut ca = Script::seasoned();
        let mut answer = Answer::json(429, &problem);
        if let Some(link) = link {
            answer.set("Link", link);
        }
        ca.on("POST /new-order").answer(answer);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        error.help_url().map(str::to_owned)
    };
    let limited = |detail: &str, instance: Value| {
        let type_ = "urn:ietf:params:acme:error:rateLimited";
        json!({"type": type_, "detail": detail, "instance": instance})
    };
    let link = Some("<https://ca.example/limits>;rel=\"help\"");
    // A pause of Let's Encrypt's: the page that lifts it stands in the detail.
    let paused = "Your account is temporarily prevented from requesting certificates for \
                  example.org. Please visit: https://portal.ca.example/unpause?jwt=a.b.c. Thank you";
    let unpause = Some("https://portal.ca.example/unpause?jwt=a.b.c".to_owned());
    assert_eq!(help(limited(paused, Value::Null), link), unpause);
    let instance = json!("https://ca.example/i/1");
    assert_eq!(help(limited(paused, instance), link).as_deref(), Some("https://ca.example/i/1"));
    let limits = Some("https://ca.example/limits");
    assert_eq!(help(limited("too many", Value::Null), link).as_deref(), limits);
    assert_eq!(help(limited("too many", json!("javascript:x")), link).as_deref(), limits);
    for none in ["about:blank", "https://", "https://ca.example/a b", "https://x/\"><b>"] {
        assert_eq!(help(limited("too many", json!(none)), None), None, "{none}");
    }
}
