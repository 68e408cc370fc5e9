//! Refusals and meaningless responses, and the errors that they become. RFC 8555 section 6.7.

use acme_micro::ErrorKind;
use acme_micro::engine::OrderOptions;
use serde_json::{Value, json};

use super::ca::Response;
use super::script::Script;

fn refuse_order(response: Response) -> acme_micro::AcmeError {
    let mut ca = Script::new();
    ca.on("POST /new-order").respond(response);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.url(), Some("https://ca.example/new-order"));
    assert!(error.to_string().starts_with("creating the order at "), "{error}");
    error
}

/// Returns the failure of a registration that gets this response.
fn refuse_account(response: Response) -> acme_micro::AcmeError {
    let mut ca = Script::new();
    ca.on("POST /new-account").respond(response);
    ca.register().unwrap_err()
}

#[test]
fn p01_the_http_status_decides_without_a_known_type() {
    let old = "urn:acme:error:badNonce"; // before RFC 8555
    let unknown = "urn:ietf:params:acme:error:inventedTomorrow";
    for type_ in
        [json!(null), json!(7), json!([]), json!("about:blank"), json!(old), json!(unknown)]
    {
        for (status, kind, permanent, tries) in [
            (400, ErrorKind::Problem, true, 1),
            (403, ErrorKind::Problem, true, 1),
            (404, ErrorKind::Problem, true, 1),
            (408, ErrorKind::Problem, false, 2),
            (409, ErrorKind::Problem, true, 1),
            (425, ErrorKind::Problem, false, 1),
            (429, ErrorKind::RateLimited, false, 1),
            (500, ErrorKind::Server, false, 2),
            (503, ErrorKind::Server, false, 2),
        ] {
            let body = json!({"type": type_, "detail": "so it is"});
            let mut ca = Script::new();
            ca.on("POST /new-order").respond(Response::json(status, &body));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            let what = format!("{type_} {status}: {error}");
            assert_eq!((error.kind(), error.is_permanent()), (kind, permanent), "{what}");
            assert_eq!(error.http_status(), Some(status));
            assert_eq!(ca.count("POST /new-order"), tries, "{what}");
            let problem = error.problem().unwrap();
            assert_eq!(problem.type_urn(), type_.as_str().unwrap_or("about:blank"));
            assert_eq!(problem.detail(), Some("so it is"));
        }
    }
    let body = json!({"detail": "no type at all"});
    assert_eq!(
        refuse_order(Response::json(403, &body)).problem().unwrap().type_urn(),
        "about:blank"
    );
}

#[test]
fn p02_each_type_of_problem_has_its_kind_and_permanence() {
    for (name, kind, permanent) in [
        // All types of RFC 8555 section 6.7.
        ("accountDoesNotExist", ErrorKind::Account, true),
        ("alreadyRevoked", ErrorKind::Problem, true),
        ("badCSR", ErrorKind::Problem, true),
        ("badNonce", ErrorKind::Problem, false),
        ("badPublicKey", ErrorKind::Problem, true),
        ("badRevocationReason", ErrorKind::Problem, true),
        ("badSignatureAlgorithm", ErrorKind::Problem, true),
        ("caa", ErrorKind::Problem, false),
        ("compound", ErrorKind::Problem, false),
        ("connection", ErrorKind::Problem, false),
        ("dns", ErrorKind::Problem, false),
        ("externalAccountRequired", ErrorKind::EabRequired, true),
        ("incorrectResponse", ErrorKind::Problem, false),
        ("invalidContact", ErrorKind::Problem, true),
        ("malformed", ErrorKind::Problem, true),
        ("orderNotReady", ErrorKind::Problem, false),
        ("rateLimited", ErrorKind::RateLimited, false),
        ("rejectedIdentifier", ErrorKind::Order, true),
        ("serverInternal", ErrorKind::Server, false),
        ("tls", ErrorKind::Problem, false),
        ("unauthorized", ErrorKind::Problem, true),
        ("unsupportedContact", ErrorKind::Problem, true),
        ("unsupportedIdentifier", ErrorKind::Order, true),
        ("userActionRequired", ErrorKind::Terms, true),
        // Types of RFC 9773, RFC 9799 and draft-ietf-acme-profiles, and types from before RFC 8555.
        ("alreadyReplaced", ErrorKind::Problem, true),
        ("onionCAARequired", ErrorKind::Problem, true),
        ("invalidProfile", ErrorKind::Problem, true),
        ("agreementRequired", ErrorKind::Terms, true),
        // Types of RFC 8739 and RFC 9115, and an unknown type: the HTTP status decides.
        ("autoRenewalCanceled", ErrorKind::Problem, true),
        ("unknownDelegation", ErrorKind::Problem, true),
        ("inventedTomorrow", ErrorKind::Problem, true),
    ] {
        let error = match name {
            "accountDoesNotExist" => refuse_account(Response::problem(403, name)),
            _ => refuse_order(Response::problem(403, name)),
        };
        assert_eq!((error.kind(), error.is_permanent()), (kind, permanent), "{name}");
        assert_eq!(error.http_status(), Some(403));
        let problem = error.problem().unwrap();
        assert_eq!(problem.name(), Some(name));
        assert_eq!(problem.detail(), Some(&*format!("the detail of {name}")));
        assert!(error.to_string().contains(&format!("{name}: the detail of {name}")), "{error}");
    }
}

#[test]
fn d16_changed_terms_are_reported_with_their_url() {
    let body = json!({
        "type": "urn:ietf:params:acme:error:userActionRequired", "detail": "new terms",
        "instance": "https://ca.example/agree/1",
    });
    let error = refuse_order(Response::json(403, &body));
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
    let error = refuse_order(Response::json(400, &body));
    assert_eq!(error.identifier(), Some("example.org"));
    assert_eq!(error.problem().unwrap().subproblems().len(), 1);
    assert!(error.to_string().contains("on the list"), "{error}");
}

#[test]
fn p07_a_refusal_without_a_problem_document_keeps_its_status_and_beginning() {
    for body in
        ["<html>Forbidden by the proxy</html>", "", r#"{"error":"x"}"#, "[]", "null", "\u{1}\u{2}"]
    {
        let error = refuse_order(Response::new(403, body));
        assert_eq!((error.kind(), error.http_status()), (ErrorKind::Problem, Some(403)));
        assert!(error.problem().is_none() && error.is_permanent());
        assert!(error.to_string().contains("403"), "{error}");
    }
    let page = format!("<html>Forbidden by the proxy{}</html>", "x".repeat(1000));
    let text = refuse_order(Response::new(403, page)).to_string();
    assert!(text.contains("Forbidden by the proxy") && text.len() < 200, "{text}");
}

#[test]
fn p03_the_http_status_counts_and_not_the_status_in_the_document() {
    let huge = format!("1{}", "0".repeat(30));
    for inside in ["503", r#""429""#, &huge, "-1", "null", "200", "1e999", "[]"] {
        let body = format!(r#"{{"type":"about:blank","detail":"x","status":{inside}}}"#);
        let error = refuse_order(Response::new(403, body));
        assert_eq!(error.http_status(), Some(403), "{inside}");
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true), "{inside}");
    }
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
            .respond(Response::json(200, &body).header("Location", "https://ca.example/order/1"));
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
fn d01_d02_h14_h15_nonsense_instead_of_json_is_a_protocol_error_everywhere() {
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
        // With a Location, an account and an order exist: tests/engine/unreadable.rs.
        let created = ["POST /new-account", "POST /new-order"];
        for what in ["GET /directory", "POST /authz/1", "POST /order/1"].into_iter().chain(created)
        {
            let mut ca = Script::new();
            ca.on(what).respond(Response::new(status, body));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what} {body:?}: {error}");
            assert_eq!(ca.count(what), 1, "{what}: the request is not repeated");
        }
    }
}

#[test]
fn h14_a_byte_order_mark_is_tolerated() {
    let mut ca = Script::new();
    ca.on("*").then(|_, response| {
        if response.body.starts_with(b"{") {
            response.body.splice(0..0, *b"\xef\xbb\xbf");
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
        ca.on("*").then(move |_, response| response.set("Content-Type", content_type));
        ca.obtain(&["example.org"]).unwrap();
        // The content makes a refusal, not its type.
        let refusal = Response::problem(403, "rejectedIdentifier");
        let error = refuse_order(refusal.header("Content-Type", content_type));
        assert_eq!(error.problem().unwrap().name(), Some("rejectedIdentifier"), "{content_type}");
    }
    // A certificate in another form is refused, whatever its content type is.
    for content_type in ["application/pkix-cert", "application/pkcs7-mime"] {
        let mut ca = Script::new();
        ca.on("POST /cert/1").then(move |_, response| {
            let pem = openssl::x509::X509::from_pem(&response.body).unwrap();
            response.body = pem.to_der().unwrap();
            response.set("Content-Type", content_type);
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
    ca.on("*").then(|_, response| {
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
            response.set(name, value);
        }
    });
    ca.obtain(&["example.org"]).unwrap();
    // The harness knows the header fields of requests, and fails the test at any other.
    assert_eq!(ca.transcript, reference);
    for request in &ca.bodies {
        assert!(!String::from_utf8_lossy(request).contains("evil.example"));
    }
}

#[test]
fn p04_p05_a_hostile_detail_cannot_break_a_log_line() {
    let detail = format!("%s%n\n\u{1b}[31m\u{202e}\0{}", "x".repeat(100_000));
    let body = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": detail});
    // The harness fails the test at control characters and at long text in errors and logs.
    let error = refuse_order(Response::json(400, &body));
    assert!(error.to_string().contains("%s%n"), "{error}");
    assert!(error.problem().unwrap().detail().unwrap().len() <= 1024 + '…'.len_utf8());
    // Hostile text in every member, nearly as long as a response may be.
    for piece in ["x", "\u{1b}", "\u{202e}", "ü", "\0", "\u{1f600}"] {
        let text = piece.repeat(300 * 1024 / piece.len() / 6);
        let sub = |sub: Value| {
            json!({
                "type": text, "detail": text, "identifier": {"type": "dns", "value": text},
                "subproblems": [sub],
            })
        };
        let short = json!({"type": "%s%n%x", "detail": "%s", "identifier": {"value": "%n"}});
        for body in
            [sub(short.clone()), json!({"type": "t", "subproblems": [short, {"type": text}]})]
        {
            let error = refuse_order(Response::json(400, &body));
            assert_eq!(error.kind(), ErrorKind::Problem);
            let problem = error.problem().unwrap();
            for subproblem in problem.subproblems() {
                for text in [subproblem.type_urn(), subproblem.detail().unwrap_or_default()] {
                    assert!(text.len() <= 1024 + '…'.len_utf8(), "{} bytes", text.len());
                }
            }
        }
    }
    let short = json!({"type": "%s%n%x", "detail": "%s", "identifier": {"value": "%n"}});
    let error = refuse_order(Response::json(400, &json!({"type": "t", "subproblems": [short]})));
    assert!(error.to_string().ends_with("for %n: t; %n: %s%n%x: %s"), "{error}");
}

#[test]
fn p06_deep_and_wide_documents_are_cut() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = refuse_order(Response::new(400, format!(r#"{{"type":"a","x":{deep}}}"#)));
    assert_eq!(error.kind(), ErrorKind::Problem);
    let subs: Vec<_> = (0..10_000).map(|n| json!({"type": format!("t{n}")})).collect();
    let error = refuse_order(Response::json(400, &json!({"type": "a", "subproblems": subs})));
    assert_eq!(error.problem().unwrap().subproblems().len(), 100);
    assert!(error.to_string().ends_with("; and 9997 more"), "{error}");
    // A document with a thousand levels is not parsed: the status decides.
    let deep = format!("{}{}", r#"{"type":"a","subproblems":["#.repeat(1000), "]}".repeat(1000));
    let error = refuse_order(Response::new(400, deep));
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
    assert!(error.problem().is_none());
}

#[test]
fn p06_valid_identifiers_of_subproblems_are_reported() {
    for (identifier, shown) in [
        (json!({"type": "dns", "value": "example.org"}), Some("example.org")),
        (json!({"type": "ip", "value": "2001:db8::1"}), Some("2001:db8::1")),
        (json!({"type": "invented", "value": "x-1"}), Some("x-1")),
        (json!({"value": "example.org"}), Some("example.org")),
        (json!({"type": "dns", "value": null}), None),
        (json!({"type": "dns"}), None),
        (json!("example.org"), None),
        (Value::Null, None),
    ] {
        let sub = json!({"type": "t", "identifier": identifier});
        let error = refuse_order(Response::json(400, &json!({"type": "a", "subproblems": [sub]})));
        assert_eq!(error.problem().unwrap().subproblems()[0].identifier(), shown, "{identifier}");
        assert_eq!(error.identifier(), shown);
    }
    for none in [json!([]), json!(null), json!({}), json!([7, null, "x", {}])] {
        let error = refuse_order(Response::json(400, &json!({"type": "a", "subproblems": none})));
        assert!(error.problem().unwrap().subproblems().is_empty(), "{none}");
        assert_eq!(error.identifier(), None);
    }
}

#[test]
fn p10_an_order_that_the_ca_denies_us_is_replaced_by_the_next_run() {
    let mut ca = Script::with_account();
    ca.on("POST /order/2").problem(403, "unauthorized");
    let mut options = OrderOptions::new(["example.org"]);
    let operation = ca.client.obtain(options.clone()).unwrap();
    let error = ca.run(&operation).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
    assert_eq!((ca.count("POST /order/2"), ca.count("POST /new-order")), (1, 1));
    // The host passes the order's URL without knowing that it is useless.
    ca.forget();
    options.order_url = operation.order_url();
    assert_eq!(options.order_url.as_deref(), Some("https://ca.example/order/2"));
    assert_eq!(ca.order(options.clone()).unwrap().order_url, "https://ca.example/order/3");
    assert_eq!((ca.count("POST /order/2"), ca.count("POST /new-order")), (1, 1));
    // A deactivated account is another matter: nothing is ordered.
    let mut ca = Script::with_account();
    ca.on("POST /order/2").problem(401, "unauthorized");
    assert_eq!(ca.order(options).unwrap_err().kind(), ErrorKind::Account);
    assert_eq!(ca.transcript, ["POST /order/2"]);
}

#[test]
fn p13_a_problem_of_a_name_is_reported_with_the_name() {
    for (name, permanent) in [
        ("rejectedIdentifier", true),
        ("unsupportedIdentifier", true),
        ("malformed", true),
        ("caa", false),
        ("dns", false),
        ("connection", false),
        ("tls", false),
        ("incorrectResponse", false),
        ("serverInternal", false),
    ] {
        let problem = json!({
            "type": format!("urn:ietf:params:acme:error:{name}"), "detail": "not this one",
            "identifier": {"type": "dns", "value": "b.example"},
        });
        // The CA refuses the name in newOrder.
        let mut ca = Script::with_account();
        ca.on("POST /new-order").respond(Response::json(400, &problem));
        let error = ca.obtain(&["a.example", "b.example"]).unwrap_err();
        assert_eq!((error.is_permanent(), error.identifier()), (permanent, Some("b.example")));
        let rejected = name == "rejectedIdentifier" || name == "unsupportedIdentifier";
        let kind = match name {
            "serverInternal" => ErrorKind::Server,
            _ if rejected => ErrorKind::Order,
            _ => ErrorKind::Problem,
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(ca.transcript, ["POST /new-order"], "{name}");
        // The CA refuses the name during validation.
        let mut ca = Script::with_account();
        ca.ca.failing = vec!["b.example".to_owned()];
        ca.on("POST /authz/*").edit(move |authorization| {
            for challenge in authorization["challenges"].as_array_mut().unwrap() {
                if challenge.get("error").is_some() {
                    challenge["error"] = problem.clone();
                }
            }
        });
        let mut options = OrderOptions::new(["a.example", "b.example"]);
        let operation = ca.client.obtain(options.clone()).unwrap();
        let error = ca.run(&operation).unwrap_err();
        // The client creates a second order after a fault of the CA itself.
        let (kind, orders) = match name {
            "serverInternal" => (ErrorKind::Server, 2),
            _ => (ErrorKind::Challenge, 1),
        };
        assert_eq!((error.kind(), error.identifier()), (kind, Some("b.example")));
        assert_eq!(error.is_permanent(), permanent, "{error}");
        assert_eq!(error.problem().unwrap().name(), Some(name));
        // The order has failed; the next run creates another one with the same account.
        ca.ca.failing.clear();
        options.order_url = operation.order_url();
        ca.order(options).unwrap();
        assert_eq!((ca.ca.accounts_made, ca.count("POST /new-order")), (1, orders + 1));
    }
    // The CA refuses the CSR when the order is ready.
    let mut ca = Script::with_account();
    ca.on("POST /finalize/2").problem(400, "badCSR");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
    assert_eq!(ca.count("POST /finalize/2"), 1);
}

#[test]
fn p14_a_compound_problem_is_as_bad_as_its_worst_part() {
    let compound = |parts: &[&str]| {
        let urn = |name: &str| format!("urn:ietf:params:acme:error:{name}");
        let parts: Vec<Value> = parts
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let identifier = json!({"type": "dns", "value": format!("n{n}.example")});
                json!({"type": urn(name), "detail": "no", "identifier": identifier})
            })
            .collect();
        let body = json!({"type": urn("compound"), "detail": "all", "subproblems": parts});
        refuse_order(Response::json(403, &body))
    };
    let mixed = compound(&["dns", "rejectedIdentifier", "caa"]);
    assert_eq!((mixed.kind(), mixed.is_permanent()), (ErrorKind::Problem, true));
    let named = mixed.problem().unwrap().subproblems().iter().map(|sub| sub.identifier());
    let named: Vec<_> = named.map(Option::unwrap).collect();
    assert_eq!(named, ["n0.example", "n1.example", "n2.example"]);
    assert_eq!(mixed.identifier(), None, "the problem is about several names");
    assert!(mixed.to_string().contains("n1.example: rejectedIdentifier: no"), "{mixed}");
    assert!(!compound(&["dns", "connection"]).is_permanent());
    assert_eq!(compound(&["dns"]).identifier(), Some("n0.example"));
}

#[test]
fn a_help_page_is_reported() {
    let help = |problem: Value, link: Option<&str>| {
        let mut ca = Script::with_account();
        let mut response = Response::json(429, &problem);
        if let Some(link) = link {
            response.set("Link", link);
        }
        ca.on("POST /new-order").respond(response);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        error.help_url().map(str::to_owned)
    };
    let limited = |detail: &str, instance: Value| {
        let type_ = "urn:ietf:params:acme:error:rateLimited";
        json!({"type": type_, "detail": detail, "instance": instance})
    };
    let link = Some("<https://ca.example/limits>;rel=\"help\"");
    // Let's Encrypt has paused the account: the detail contains the URL that lifts the pause.
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
