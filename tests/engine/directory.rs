//! The directory: missing members, other content in its place, and when it is fetched again. RFC
//! 8555 section 7.1.1.

use acme_micro::engine::{AuthorizeOptions, Operation, OrderOptions, RevocationReason};
use acme_micro::{AcmeError, ErrorKind, Key, KeyType, Time};
use serde_json::{Value, json};

use super::ca::{BASE, Response};
use super::jws::decode;
use super::script::{START, Script};

const MEMBERS: [&str; 3] = ["newNonce", "newAccount", "newOrder"];

/// Returns the failure of an order at a CA whose directory has this body.
fn with_directory(body: impl Into<Vec<u8>>) -> AcmeError {
    let mut ca = Script::new();
    ca.on("GET /directory").respond(Response::new(200, body).without_nonce());
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(ca.transcript, ["GET /directory"], "the directory is the only request");
    assert_eq!(error.url(), Some("https://ca.example/directory"));
    assert_eq!(ca.client.account_url(), None);
    error
}

#[test]
fn d01_a_captive_portal_is_shown_by_its_first_80_characters() {
    let page = format!("<html>\r\n\u{1b}]0;x\u{7}please log in{}", "x".repeat(10_000));
    for body in [page.as_bytes(), b"", b"\xff\xfe<\0", b"{\"newNonce\":"] {
        let error = with_directory(body);
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Protocol, false));
        let text = error.to_string();
        assert!(text.contains("the response is not a directory"), "{text}");
        assert!(text.len() < 400, "{text}");
    }
    let text = with_directory(page).to_string();
    assert!(text.contains("please log in") && !text.contains(&"x".repeat(70)), "{text}");
}

#[test]
fn d02_json_that_is_not_an_object_is_not_a_directory() {
    for body in ["[]", "\"text\"", "null", "7", "true", "[{\"newNonce\":\"x\"}]", "\u{feff}[]"] {
        let error = with_directory(body);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}");
        assert!(error.to_string().contains("the response is not a directory"), "{error}");
    }
}

#[test]
fn d03_a_missing_required_member_of_the_directory_is_named() {
    for member in ["newNonce", "newAccount", "newOrder"] {
        for instead in [json!(null), json!(7), json!([])] {
            let mut ca = Script::new();
            ca.on("GET /directory").edit(move |directory| directory[member] = instead.clone());
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(member), "{error}");
            assert_eq!(ca.transcript, ["GET /directory"]);
        }
    }
}

#[test]
fn d04_d05_a_directory_without_optional_members_works() {
    for meta in
        [json!(null), json!(7), json!({"termsOfService": 7, "caaIdentities": {}}), json!([])]
    {
        let mut ca = Script::new();
        ca.ca.terms = false;
        ca.on("GET /directory").edit(move |directory| {
            for member in ["keyChange", "revokeCert"] {
                directory.as_object_mut().unwrap().remove(member);
            }
            directory["meta"] = meta.clone();
        });
        let issued = ca.obtain(&["example.org"]).unwrap();
        let reason = acme_micro::engine::RevocationReason::Unspecified;
        let operation = ca.client.revoke(&issued.chain, reason, None).unwrap();
        assert_eq!(ca.run(&operation).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn d13_a_directory_with_ten_thousand_members_is_read() {
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|directory| {
        for n in 0..10_000 {
            directory[format!("x{n}")] = json!({"__proto__": [n]});
        }
    });
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn d13_the_last_of_two_members_with_one_name_counts() {
    let mut ca = Script::new();
    let directory = ca.ca.directory().to_string();
    let twice = directory.replacen('{', r#"{"newNonce":"https://evil.example/","meta":7,"#, 1);
    ca.on("GET /directory").respond(Response::new(200, twice).without_nonce());
    ca.obtain(&["example.org"]).unwrap();
    let error = with_directory(directory.replace("}}", r#"},"newNonce":null}"#));
    assert!(error.to_string().contains("newNonce"), "{error}");
}

#[test]
fn d06_d07_d09_bad_urls_and_urls_of_this_machine_get_no_request() {
    let long = format!("{BASE}/{}", "a".repeat(64 * 1024));
    let listed = ["169.254.169.254", "[fe80::1]", "127.0.0.1", "localhost.", "0x7f.1"];
    for url in [
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/x",
        "https://127.0.0.1/x",
        "https://localhost./x",
        "https://0x7f.1/x",
        "https://2130706433/x",
        "http://127.0.0.1/x",
        "http://ca.example/x",
        "ftp://ca.example/x",
        "data:text/plain,x",
        "https://ca.example/x\r\nHost: evil.example",
        "https://ca.example/x\0",
        "https://ca.example:99999/x",
        &long,
    ] {
        for (member, requests) in MEMBERS.into_iter().zip(1..) {
            let mut ca = Script::with(|o| o.allowed_hosts = listed.map(str::to_owned).to_vec());
            let there = url.to_owned();
            ca.on("GET /directory").edit(move |directory| directory[member] = json!(there));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(
                (error.kind(), error.is_permanent()),
                (ErrorKind::Policy, true),
                "{url:.60}"
            );
            assert!(ca.transcript.len() <= requests, "{url:.60}: {:?}", ca.transcript);
            assert!(ca.transcript.iter().all(|request| request.contains(" /")));
        }
    }
}

#[test]
fn d16_changed_terms_keep_the_account() {
    let mut ca = Script::with_account();
    let body = json!({
        "type": "urn:ietf:params:acme:error:userActionRequired", "detail": "new terms",
        "instance": "https://ca.example/agree/1",
    });
    let terms = "<https://ca.example/terms-2027>; rel=\"terms-of-service\"";
    ca.on("POST /new-order").respond(Response::json(403, &body).header("Link", terms));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Terms, true));
    assert_eq!(error.help_url(), Some("https://ca.example/agree/1"));
    assert_eq!(ca.transcript, ["POST /new-order"], "the order is not repeated");
    assert_eq!(ca.client.account_url().as_deref(), Some("https://ca.example/account/1"));
}

#[test]
fn d17_a_profile_that_is_not_offered_is_refused_or_omitted() {
    let order = |offered: Value, refused: bool, optional: bool| {
        let mut ca = Script::new();
        ca.on("GET /directory").edit(move |d| d["meta"]["profiles"] = offered.clone());
        if refused {
            ca.on("POST /new-order").nth(1).problem(400, "invalidProfile");
        }
        let mut options = OrderOptions::new(["example.org"]);
        options.profile = Some("shortlived".to_owned());
        options.profile_optional = optional;
        let outcome = ca.order(options).map(|_| ());
        let sent = ca.transcript.iter().zip(&ca.bodies).filter(|(l, _)| *l == "POST /new-order");
        let profiles: Vec<Value> = sent.map(|(_, body)| payload(body)["profile"].clone()).collect();
        (outcome, profiles)
    };
    let all = json!({"classic": "as ever", "shortlived": "six days"});
    let few = json!({"classic": "as ever", "tlsserver": "https://ca.example/tlsserver"});
    for optional in [false, true] {
        let (outcome, sent) = order(all.clone(), false, optional);
        outcome.unwrap();
        assert_eq!(sent, [json!("shortlived")]);
    }
    let (outcome, sent) = order(few.clone(), false, false);
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Unsupported, true));
    assert!(error.to_string().contains("it offers classic, tlsserver"), "{error}");
    assert!(sent.is_empty(), "nothing was ordered");
    for offered in [few, json!(null), json!(7), json!({})] {
        let (outcome, sent) = order(offered, false, true);
        outcome.unwrap();
        assert_eq!(sent, [Value::Null]);
    }
    // The CA offers the profile, and refuses the order with it.
    let (outcome, sent) = order(all.clone(), true, true);
    outcome.unwrap();
    assert_eq!(sent, [json!("shortlived"), Value::Null]);
    let (outcome, sent) = order(all, true, false);
    assert!(outcome.unwrap_err().is_permanent());
    assert_eq!(sent.len(), 1);
}

fn payload(body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap();
    serde_json::from_slice(&decode(body["payload"].as_str().unwrap())).unwrap()
}

/// Moves a resource of the directory to another path; its old URL responds with this status.
fn moved(ca: &mut Script, member: &'static str, path: &'static str, status: u16) {
    ca.on(path).respond(Response::problem(status, "malformed"));
    ca.on("GET /directory").edit(move |directory| directory[member] = json!(format!("{BASE}/new")));
}

#[test]
fn d18_a_moved_resource_is_found_through_the_directory() {
    for status in [404, 410] {
        let mut ca = Script::with_account();
        moved(&mut ca, "newOrder", "POST /new-order", status);
        // The new URL fails as well: the test only checks that it gets one request.
        ca.on("POST /new").respond(Response::problem(status, "malformed"));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(ca.transcript, ["POST /new-order", "GET /directory", "POST /new"]);
        assert_eq!(error.url(), Some("https://ca.example/new"));
    }
    // Every operation that uses a URL of the directory fetches the directory again.
    let asks = |member: &'static str, path: &'static str, start: fn(&Script) -> Operation<()>| {
        let mut ca = Script::with_account();
        moved(&mut ca, member, path, 404);
        ca.on("POST /new").problem(403, "unauthorized");
        let operation = start(&ca);
        let error = ca.run(&operation).unwrap_err();
        let seen: Vec<_> = ca.transcript.iter().take(3).map(String::as_str).collect();
        assert_eq!(seen, [path, "GET /directory", "POST /new"], "{error}");
    };
    asks("keyChange", "POST /key-change", |ca| {
        ca.client.change_key(&Key::generate(KeyType::P256).unwrap())
    });
    asks("revokeCert", "POST /revoke", |ca| {
        let issued =
            super::pki::sound_chain(&super::pki::public(&super::pki::new_key()), &["example.org"]);
        let chain = acme_micro::CertificateChain::parse(&issued).unwrap();
        ca.client.revoke(&chain, RevocationReason::Unspecified, None).unwrap()
    });
}

#[test]
fn d18_moved_nonces_accounts_and_authorizations_are_found() {
    let mut ca = Script::with_account();
    ca.now += 301_000; // the nonces are too old by now
    moved(&mut ca, "newNonce", "GET /new-nonce", 404);
    ca.on("GET /new").respond(Response::new(204, "").header("Replay-Nonce", "from-the-new-place"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript[..3], ["GET /new-nonce", "GET /directory", "GET /new"]);
    assert_eq!(ca.count("GET /directory"), 1);

    let mut ca = Script::with_account();
    moved(&mut ca, "newAccount", "POST /new-account", 410);
    ca.on("POST /new").respond(
        Response::json(200, &json!({})).header("Location", "https://ca.example/account/1"),
    );
    assert_eq!(ca.register().unwrap().url, "https://ca.example/account/1");
    assert_eq!(ca.transcript, ["POST /new-account", "GET /directory", "POST /new"]);

    let mut ca = Script::new();
    ca.ca.pre_authorizes = true;
    ca.obtain(&["earlier.example"]).unwrap();
    ca.forget();
    moved(&mut ca, "newAuthz", "POST /new-authz", 404);
    ca.on("POST /new").problem(403, "rejectedIdentifier");
    let operation = ca.client.authorize(AuthorizeOptions::new(["example.org"])).unwrap();
    assert_eq!(ca.run(&operation).unwrap_err().kind(), ErrorKind::Order);
    assert_eq!(ca.transcript, ["POST /new-authz", "GET /directory", "POST /new"]);
}

#[test]
fn d18_the_directory_is_fetched_again_once_per_operation_and_only_for_a_missing_resource() {
    // The directory has not changed.
    let mut ca = Script::with_account();
    ca.on("POST /new-order").problem(404, "malformed");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.http_status(), Some(404));
    assert_eq!(ca.transcript, ["POST /new-order", "GET /directory"]);
    // The operation itself has just fetched the directory.
    let mut ca = Script::new();
    ca.on("POST /new-order").problem(404, "malformed");
    ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((ca.count("GET /directory"), ca.count("POST /new-order")), (1, 1));
    // The directory cannot be fetched: the error names both failures, and the next operation
    // fetches it again.
    let mut ca = Script::with_account();
    ca.on("POST /new-order").nth(1).problem(404, "malformed");
    ca.on("GET /directory").nth(1).problem(403, "malformed");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(
        (error.http_status(), error.url()),
        (Some(403), Some("https://ca.example/directory"))
    );
    assert!(error.to_string().contains("https://ca.example/new-order"), "{error}");
    ca.forget();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript[..2], ["GET /directory", "POST /new-order"]);
    // Other statuses do not concern the directory.
    for status in [400, 403, 405, 500] {
        let mut ca = Script::with_account();
        ca.on("POST /new-order").problem(status, "malformed");
        ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(ca.count("GET /directory"), 0, "{status}");
    }
}

#[test]
fn d19_a_directory_under_load_gives_a_time_to_retry() {
    let mut ca = Script::new();
    ca.on("GET /directory").respond(Response::new(503, "").header("Retry-After", "120"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::RateLimited, false));
    assert_eq!(error.retry_at(), Some(Time::from_millis(START + 120_000)));
    assert_eq!(ca.transcript, ["GET /directory"]);
    // The operation waits once if the delay is short.
    let mut ca = Script::new();
    ca.on("GET /directory").respond(Response::new(503, "").header("Retry-After", "20"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), ca.delays.as_slice()), (ErrorKind::RateLimited, &[20_000][..]));
    assert_eq!(ca.transcript, ["GET /directory"; 2]);
}

#[test]
fn d20_equal_urls_in_a_directory_make_no_loop() {
    // newNonce and newOrder have one URL: the methods GET and POST tell them apart.
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|d| d["newNonce"] = d["newOrder"].clone());
    ca.on("GET /new-order").respond(Response::new(204, "").header("Replay-Nonce", "first"));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript.len(), 10);
    // A CA that does not tell the methods apart issues no nonce.
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|d| d["newNonce"] = d["newOrder"].clone());
    ca.on("GET /new-order").respond(Response::problem(405, "malformed").without_nonce());
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().http_status(), Some(405));
    assert_eq!(ca.transcript.len(), 2);
    // newOrder has the directory's own URL, which returns the directory for any request.
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|d| d["newOrder"] = json!("https://ca.example/directory"));
    let directory = Response::json(200, &ca.ca.directory());
    ca.on("POST /directory").respond(directory);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(ca.count("POST /directory"), 1);
    assert_eq!(ca.transcript.len(), 4);
    // All three have the directory's URL.
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|d| {
        for member in MEMBERS {
            d[member] = json!("https://ca.example/directory");
        }
    });
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "no nonce: {error}");
    assert_eq!(ca.transcript, ["GET /directory"; 4]);
}
