//! URL policy: requests go only to https, and only to the directory's host. RFC 8555 sections 6.1
//! and 10.4.

use acme_micro::ErrorKind;
use acme_micro::engine::{Client, ClientOptions};
use acme_micro::{Key, KeyType};
use serde_json::json;

use super::ca::Response;
use super::script::Script;

#[test]
fn d06_d07_a_directory_that_is_not_https_is_refused_before_any_request() {
    let client = |url: &str, loopback: bool| {
        let mut options = ClientOptions::new(url, Key::generate(KeyType::P256).unwrap());
        options.allow_http_loopback = loopback;
        Client::new(options).map(|_| ()).map_err(|error| error.kind())
    };
    assert_eq!(client("http://ca.example/directory", false), Err(ErrorKind::Policy));
    assert_eq!(client("http://ca.example/directory", true), Err(ErrorKind::Policy));
    assert_eq!(client("http://127.0.0.1:14000/dir", false), Err(ErrorKind::Policy));
    for bad in [
        "",
        "/directory",
        "ca.example",
        "ftp://ca.example/",
        "file:///etc/passwd",
        "https://user:password@ca.example/",
        "https://ca.example/#x",
        "https://ca.example/ x",
    ] {
        assert_eq!(client(bad, true), Err(ErrorKind::InvalidArgument), "{bad:?}");
    }
    for good in ["http://127.0.0.1:14000/dir", "http://[::1]:14000/dir", "http://localhost/dir"] {
        assert_eq!(client(good, true), Ok(()), "{good}");
    }
    assert_eq!(client("https://ca.example:14000/dir?x=1", false), Ok(()));
}

#[test]
fn d06_d07_d08_a_directory_member_with_another_host_or_scheme_gets_no_request() {
    for (member, requests) in [("newNonce", 1), ("newAccount", 2), ("newOrder", 3)] {
        for url in [
            "http://ca.example/x",
            "https://evil.example/x",
            "https://ca.example.evil.example/x",
            "https://169.254.169.254/x",
            "https://127.0.0.1/x",
            "https://[fe80::1]/x",
            "https://user@ca.example/x",
            "https://ca.example/x#y",
            "https://ca.example\\@evil.example/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "/new-nonce",
            "",
        ] {
            let mut ca = Script::new();
            ca.on("GET /directory").edit(move |directory| directory[member] = json!(url));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Policy, "{member} {url}: {error}");
            assert!(error.is_permanent());
            assert!(ca.transcript.len() <= requests, "{member} {url}: {:?}", ca.transcript);
        }
    }
}

#[test]
fn d08_the_error_names_both_hosts_and_the_option() {
    let mut ca = Script::new();
    ca.on("GET /directory").edit(|d| d["newNonce"] = json!("https://api.other.example/n"));
    let text = ca.obtain(&["example.org"]).unwrap_err().to_string();
    for part in ["api.other.example", "ca.example", "allowed_hosts"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn d08_a_listed_host_gets_requests() {
    let mut ca =
        Script::with(|options| options.allowed_hosts = vec!["API.other.example".to_owned()]);
    ca.on("GET /directory").edit(|d| d["newNonce"] = json!("https://api.other.example/new-nonce"));
    ca.on("GET https://api.other.example/new-nonce").respond(Response::new(204, ""));
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript[1], "GET https://api.other.example/new-nonce");
}

#[test]
fn an_order_url_with_another_host_or_scheme_gets_no_request() {
    for url in ["https://evil.example/x", "http://ca.example/x", "x", ""] {
        for what in ["authorizations", "finalize", "certificate"] {
            let mut ca = Script::new();
            ca.on("POST /*").then(move |_, response| {
                let Ok(mut body) = serde_json::from_slice::<serde_json::Value>(&response.body)
                else {
                    return;
                };
                if body.get(what).is_some() {
                    body[what] = match what {
                        "authorizations" => json!([url]),
                        _ => json!(url),
                    };
                    response.body = body.to_string().into_bytes();
                }
            });
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Policy, "{what} {url}: {error}");
        }
        let mut ca = Script::new();
        ca.on("POST /new-order").then(move |_, response| response.set("Location", url));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "Location {url}: {error}");
        assert_eq!(ca.transcript.last().unwrap(), "POST /new-order");
    }
}

#[test]
fn j08_urls_are_requested_and_signed_byte_for_byte() {
    let odd = "https://CA.example:443/authz/%2F..%2f/?x=1&y=%20";
    let mut ca = Script::new();
    ca.on("POST /new-order").edit(move |order| order["authorizations"] = json!([odd]));
    ca.on(&format!("POST {odd}")).respond(Response::problem(404, "malformed"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    // The harness compares the signed URL with the URL of the request.
    assert_eq!(ca.transcript.last().unwrap(), &format!("POST {odd}"));
    assert_eq!(error.url(), Some(odd));
}

fn redirect(status: u16, to: &str) -> Response {
    Response::new(status, "").header("Location", to)
}

#[test]
fn d10_redirects_of_the_directory_are_followed_three_times() {
    for status in [301, 302, 303, 307, 308] {
        let mut ca = Script::new();
        ca.on("GET /directory").nth(1).respond(redirect(status, "https://ca.example/d2"));
        ca.on("GET /d2").respond(redirect(status, "https://ca.example/d3"));
        ca.on("GET /d3").respond(redirect(status, "https://ca.example/directory"));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.transcript[..4], ["GET /directory", "GET /d2", "GET /d3", "GET /directory"]);
        assert_eq!(ca.transcript.len(), 13);
    }
}

#[test]
fn d11_the_fourth_redirect_is_refused() {
    let mut ca = Script::new();
    ca.on("GET /directory").respond(redirect(302, "https://ca.example/directory"));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Policy);
    assert_eq!(ca.transcript, ["GET /directory"; 4]);
    assert_eq!(error.url(), Some("https://ca.example/directory"));
}

#[test]
fn d11_a_redirect_to_another_host_or_scheme_is_refused() {
    for to in
        ["https://evil.example/directory", "http://ca.example/directory", "ftp://ca.example/", ""]
    {
        let mut ca = Script::new();
        ca.on("GET /directory").respond(redirect(302, to));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{to}");
        assert_eq!(ca.transcript, ["GET /directory"]);
    }
    let mut ca = Script::new();
    ca.on("GET /directory").respond(Response::new(302, ""));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Policy);
}

#[test]
fn a_redirect_may_be_relative() {
    let mut ca = Script::new();
    ca.on("GET /directory").nth(1).respond(redirect(301, "/directory?v=2"));
    ca.on("GET /directory?v=2").nth(1).respond(redirect(301, "/directory"));
    ca.obtain(&["example.org"]).unwrap();
    for elsewhere in ["//evil.example/directory", "directory", "", "/\\evil.example/", "/#x"] {
        let mut ca = Script::new();
        ca.on("GET /directory").nth(1).respond(redirect(301, elsewhere));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy, "{elsewhere}: {error}");
    }
}

#[test]
fn a_redirect_of_new_nonce_is_refused() {
    let mut ca = Script::new();
    ca.on("GET /new-nonce").nth(1).respond(redirect(307, "https://ca.example/new-nonce"));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::Policy);
}

#[test]
fn h16_a_signed_request_is_never_redirected() {
    for status in [300, 301, 302, 303, 307, 308] {
        for what in ["POST /new-account", "POST /new-order", "POST /authz/1", "POST /finalize/1"] {
            let mut ca = Script::new();
            ca.on(what).respond(redirect(status, "https://ca.example/elsewhere"));
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Policy, "{what} {status}");
            assert_eq!(error.http_status(), Some(status));
            assert_eq!(ca.transcript.last().unwrap(), what);
            assert_eq!(ca.count(what), 1);
        }
    }
}
