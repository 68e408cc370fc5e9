//! Accounts: found, made, bound, lost. RFC 8555 section 7.3.

use acme_micro::engine::{Client, ClientOptions};
use acme_micro::{ErrorKind, ExternalAccount, Key, KeyType};
use serde_json::{Value, json};

use super::ca::{Answer, BASE, TERMS};
use super::jws::{decode, encode};
use super::script::{Script, make_account};

/// The payload of the n-th request.
fn payload(ca: &Script, n: usize) -> Value {
    let body: Value = serde_json::from_slice(&ca.bodies[n]).unwrap();
    serde_json::from_slice(&decode(body["payload"].as_str().unwrap())).unwrap()
}

fn external_account() -> ExternalAccount {
    ExternalAccount::new("kid-1", &encode(&[7; 32])).unwrap()
}

#[test]
fn registering_takes_three_requests_and_gives_the_url() {
    let mut ca = Script::new();
    let registered = ca.register().unwrap();
    assert_eq!(registered.url, "https://ca.example/account/1");
    assert_eq!(ca.transcript, ["GET /directory", "GET /new-nonce", "POST /new-account"]);
    assert_eq!(
        payload(&ca, 2),
        json!({"contact": ["mailto:admin@example.org"], "termsOfServiceAgreed": true})
    );
    assert_eq!(ca.client.account_url(), Some(registered.url));
    assert_eq!(ca.client.terms_of_service().as_deref(), Some(TERMS));
    // Once more: the CA knows the key.
    assert_eq!(ca.register().unwrap().url, "https://ca.example/account/1");
    assert_eq!(ca.ca.accounts_made, 1);
}

#[test]
fn a06_without_contacts_none_are_sent() {
    let mut ca = Script::with(|options| options.contacts.clear());
    ca.register().unwrap();
    assert_eq!(payload(&ca, 2), json!({"termsOfServiceAgreed": true}));
}

#[test]
fn d15_terms_that_are_not_agreed_to_are_named_and_no_account_is_made() {
    let mut ca = Script::with(|options| options.terms_agreed = false);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Terms, true));
    assert!(error.to_string().contains(TERMS), "{error}");
    assert_eq!(ca.ca.accounts_made, 0);
    assert_eq!(ca.count("POST /new-order"), 0);
    assert_eq!(payload(&ca, 2)["onlyReturnExisting"], json!(true));
    assert_eq!(payload(&ca, 2).get("termsOfServiceAgreed"), None);
}

#[test]
fn the_error_about_terms_says_what_was_tried_and_where() {
    let mut ca = Script::with(|options| options.terms_agreed = false);
    let error = ca.register().unwrap_err();
    assert_eq!(error.url(), Some("https://ca.example/new-account"), "{error}");
    assert!(error.to_string().starts_with("registering the account"), "{error}");
}

#[test]
fn a01_an_account_that_exists_is_found_without_agreement() {
    let mut ca = Script::with(|options| options.terms_agreed = false);
    let key = ca.account_key.clone();
    make_account(&mut ca.ca, &key);
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.ca.accounts_made, 0);
    assert_eq!(ca.transcript.len(), 10);
}

#[test]
fn a_ca_without_terms_needs_no_agreement() {
    let mut ca = Script::with(|options| options.terms_agreed = false);
    ca.ca.terms = false;
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.client.terms_of_service(), None);
}

#[test]
fn d14_a_ca_that_wants_an_external_account_says_so_before_an_account_is_made() {
    let mut ca = Script::new();
    ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::EabRequired, true));
    assert_eq!(ca.ca.accounts_made, 0);
    // The directory does not say so, the refusal does.
    let mut ca = Script::new();
    ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
    ca.on("GET /directory").edit(|directory| directory["meta"] = json!(null));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::EabRequired);
}

#[test]
fn the_external_account_binding_is_what_the_ca_gave_out() {
    for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa2048, KeyType::Ed25519] {
        let mut ca = Script::with(|options| {
            options.external_account = Some(external_account());
            options.account_key = Key::generate(kind).unwrap();
        });
        ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.transcript.len(), 10);
    }
}

#[test]
fn a08_a_refused_external_account_is_final() {
    for name in ["unauthorized", "malformed"] {
        let mut ca = Script::with(|o| o.external_account = Some(external_account()));
        ca.on("POST /new-account").problem(403, name);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
        assert_eq!(ca.count("POST /new-account"), 1);
        let secret = encode(&[7; 32]);
        assert!(!error.to_string().contains(&secret) && !format!("{error:?}").contains(&secret));
    }
}

#[test]
fn a03_an_account_that_is_no_longer_valid_is_not_used() {
    for status in ["deactivated", "revoked"] {
        let mut ca = Script::new();
        ca.on("POST /new-account").edit(move |account| account["status"] = json!(status));
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Account, true));
        assert!(error.to_string().contains(status), "{error}");
        assert_eq!(ca.count("POST /new-order"), 0);
        assert_eq!(ca.client.account_url(), None);
        assert_eq!(ca.ca.accounts_made, 1, "no other account is made in its place");
    }
}

#[test]
fn a03_an_account_that_the_ca_deactivated_is_reported_and_not_replaced() {
    let mut ca = Script::seasoned();
    ca.on("POST /new-order").problem(403, "unauthorized");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(ca.transcript, ["POST /new-order"]);
    // With the status that RFC 8555 section 7.3.6 asks for.
    let mut ca = Script::seasoned();
    ca.on("POST /new-order").problem(401, "unauthorized");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Account, true));
    assert_eq!(ca.transcript, ["POST /new-order"]);
}

#[test]
fn a04_an_account_that_the_ca_has_lost_is_registered_once_more() {
    let mut ca = Script::seasoned();
    ca.on("POST /new-order").nth(1).problem(400, "accountDoesNotExist");
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript[..3], ["POST /new-order", "POST /new-account", "POST /new-order"]);
    assert_eq!(ca.count("POST /new-account"), 1);
    let mut ca = Script::seasoned();
    ca.on("POST /new-order").problem(400, "accountDoesNotExist");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Account);
    assert_eq!(ca.count("POST /new-account"), 1, "once, not for ever");
}

#[test]
fn a04_a_lost_account_is_not_made_again_without_agreement_to_the_terms() {
    let mut ca = Script::with(|options| {
        options.terms_agreed = false;
        options.account_url = Some(format!("{BASE}/account/1"));
    });
    let key = ca.account_key.clone();
    make_account(&mut ca.ca, &key);
    ca.on("POST /new-order").problem(400, "accountDoesNotExist");
    ca.on("POST /new-account").problem(400, "accountDoesNotExist");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Terms);
    assert_eq!(ca.ca.accounts_made, 0);
}

#[test]
fn a02_an_account_without_a_usable_location_is_not_used() {
    let long = format!("{BASE}/{}", "a".repeat(64 * 1024 - 200));
    for (location, kind) in [
        (None, ErrorKind::Protocol),
        (Some("http://ca.example/account/1"), ErrorKind::Policy),
        (Some("https://evil.example/account/1"), ErrorKind::Policy),
        (Some("https://ca.example@evil.example/account/1"), ErrorKind::Policy),
        (Some("/account/1"), ErrorKind::Policy),
        (Some("https://ca.example/account/1\r\nX: y"), ErrorKind::Policy),
        (Some(""), ErrorKind::Policy),
        (Some(&*long), ErrorKind::Policy),
    ] {
        let mut ca = Script::new();
        let shown: String = location.unwrap_or("none").chars().take(50).collect();
        let location = location.map(str::to_owned);
        ca.on("POST /new-account").then(move |_, answer| match &location {
            Some(location) => answer.set("Location", location),
            None => answer.remove("Location"),
        });
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert_eq!(ca.client.account_url(), None, "{shown}");
        assert_eq!(ca.count("POST /new-order"), 0);
    }
}

#[test]
fn a_problem_with_status_200_is_not_taken_for_an_account() {
    let body = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": "sorry"});
    for body in [body, json!([])] {
        let mut ca = Script::new();
        let location = "https://ca.example/account/1";
        ca.on("POST /new-account").answer(Answer::json(200, &body).header("Location", location));
        let error = ca.register().expect_err("taken for an account");
        assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Problem), "{error}");
    }
}

#[test]
fn a05_an_account_under_another_url_than_before_is_taken_there() {
    let mut ca = Script::seasoned();
    let key = ca.account_key.clone();
    make_account(&mut ca.ca, &key);
    ca.on("POST /new-account").then(|_, answer| {
        answer.set("Location", "https://ca.example/account/2");
    });
    ca.register().unwrap();
    assert_eq!(ca.client.account_url().as_deref(), Some("https://ca.example/account/2"));
    ca.obtain(&["example.org"]).unwrap();
}

#[test]
fn a06_a14_h36_contacts_and_user_agents_that_cannot_be_sent_are_refused() {
    let client = |change: &dyn Fn(&mut ClientOptions)| {
        let key = Key::generate(KeyType::P256).unwrap();
        let mut options = ClientOptions::new("https://ca.example/directory", key);
        change(&mut options);
        Client::new(options).map(|_| ()).map_err(|e| e.kind())
    };
    for bad in [
        "",
        "admin@example.org",
        "mailto:",
        "mailto:x",
        "mailto:a@b,c@d",
        "mailto:a@b?cc=c@d",
        "mailto:a@b\r\nX: y",
        "mailto:ü@b",
        ":x",
    ] {
        let refused = client(&|options| options.contacts = vec![bad.to_owned()]);
        assert_eq!(refused, Err(ErrorKind::InvalidArgument), "{bad:?}");
    }
    let long = "x".repeat(201);
    let huge = "x".repeat(64 * 1024);
    for bad in ["a\r\nX: y", "a\nX: y", "a\0", "ü", &*long, &*huge] {
        let refused = client(&|options| options.user_agent = Some(bad.to_owned()));
        assert_eq!(refused, Err(ErrorKind::InvalidArgument), "{bad:?}");
    }
    for bad in ["http://ca.example/account/1", "https://evil.example/1", "", "/account/1"] {
        let refused = client(&|options| options.account_url = Some(bad.to_owned()));
        assert_eq!(refused, Err(ErrorKind::InvalidArgument), "{bad:?}");
    }
    assert_eq!(client(&|options| options.user_agent = Some("exampled/1.2".to_owned())), Ok(()));
}

#[test]
fn the_hosts_name_comes_before_the_librarys_in_the_user_agent() {
    let ca = Script::with(|options| options.user_agent = Some("exampled/1.2".to_owned()));
    let operation = ca.client.register();
    let step = operation.poll(acme_micro::Time::from_millis(0)).unwrap();
    let acme_micro::engine::Step::Request(request) = step else { panic!("{step:?}") };
    let (_, agent) = request.headers.iter().find(|(name, _)| *name == "User-Agent").unwrap();
    assert!(agent.starts_with("exampled/1.2 acme-micro/"), "{agent}");
}

#[test]
fn terms_are_agreed_to_by_their_url() {
    let agreeing = |url: &str| {
        let url = url.to_owned();
        Script::with(|options| {
            options.terms_agreed = false;
            options.agreed_terms = Some(url);
        })
    };
    let mut ca = agreeing(TERMS);
    ca.register().unwrap();
    assert_eq!(payload(&ca, 2)["termsOfServiceAgreed"], json!(true));
    // The CA's are others by now.
    let old = "https://ca.example/terms-2020";
    let mut ca = agreeing(old);
    let error = ca.register().unwrap_err();
    assert_eq!((error.kind(), error.help_url()), (ErrorKind::Terms, Some(TERMS)));
    assert!(error.to_string().contains(old) && error.to_string().contains(TERMS), "{error}");
    assert_eq!(ca.ca.accounts_made, 0);
    // An account that exists stays usable.
    let mut ca = agreeing(old);
    let key = ca.account_key.clone();
    make_account(&mut ca.ca, &key);
    ca.obtain(&["example.org"]).unwrap();
    // Agreeing to any and to one are two things.
    let key = Key::generate(KeyType::P256).unwrap();
    let mut options = ClientOptions::new("https://ca.example/directory", key);
    options.terms_agreed = true;
    options.agreed_terms = Some(TERMS.to_owned());
    assert_eq!(Client::new(options).err().unwrap().kind(), ErrorKind::InvalidArgument);
    // Where there are none, none is agreed to.
    let mut ca = agreeing(old);
    ca.ca.terms = false;
    ca.register().unwrap();
    assert_eq!(payload(&ca, 2).get("termsOfServiceAgreed"), None);
}

#[test]
fn the_languages_of_messages_are_asked_for_with_every_request() {
    let ca = Script::with(|options| options.accept_language = Some("de, en;q=0.5".to_owned()));
    let operation = ca.client.register();
    let step = operation.poll(acme_micro::Time::from_millis(0)).unwrap();
    let acme_micro::engine::Step::Request(request) = step else { panic!("{step:?}") };
    assert!(request.headers.contains(&("Accept-Language", "de, en;q=0.5".to_owned())));
    for bad in ["", " ", "de\r\nX: y", "ü", &"x".repeat(201)] {
        let key = Key::generate(KeyType::P256).unwrap();
        let mut options = ClientOptions::new("https://ca.example/directory", key);
        options.accept_language = Some(bad.to_owned());
        let refused = Client::new(options).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(refused, Err(ErrorKind::InvalidArgument), "{bad:?}");
    }
}
