//! Accounts: finding, creating, binding and losing them. RFC 8555 section 7.3.

use acme_micro::engine::{Client, ClientOptions, Operation, OrderOptions, Step};
use acme_micro::{ErrorKind, ExternalAccount, Key, KeyType, Time};
use serde_json::{Value, json};

use super::ca::{BASE, Response, TERMS};
use super::jws::{decode, encode};
use super::script::{START, Script, make_account};

/// Returns the payload of the n-th request.
fn payload(ca: &Script, n: usize) -> Value {
    let body: Value = serde_json::from_slice(&ca.bodies[n]).unwrap();
    serde_json::from_slice(&decode(body["payload"].as_str().unwrap())).unwrap()
}

/// Restarts the program: it keeps the account's key and what `change` sets, and forgets the rest.
fn restart(ca: &mut Script, change: impl FnOnce(&mut ClientOptions)) {
    let mut options = ClientOptions::new(format!("{BASE}/directory"), ca.account_key.clone());
    options.terms_agreed = true;
    change(&mut options);
    ca.client = Client::new(options).unwrap();
}

fn external_account() -> ExternalAccount {
    ExternalAccount::new("kid-1", &encode(&[7; 32])).unwrap()
}

#[test]
fn registering_takes_three_requests_and_returns_the_url() {
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
    // The CA finds the account by its key the second time.
    assert_eq!(ca.register().unwrap().url, "https://ca.example/account/1");
    assert_eq!(ca.ca.accounts_made, 1);
}

#[test]
fn a06_an_account_without_contacts_sends_no_contact_member() {
    let mut ca = Script::with(|options| options.contacts.clear());
    ca.register().unwrap();
    assert_eq!(payload(&ca, 2), json!({"termsOfServiceAgreed": true}));
}

#[test]
fn d15_a_missing_agreement_names_the_terms_and_creates_no_account() {
    let mut ca = Script::with(|options| options.terms_agreed = false);
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Terms, true));
    assert!(error.to_string().contains(TERMS), "{error}");
    assert_eq!(ca.ca.accounts_made, 0);
    assert_eq!(ca.count("POST /new-order"), 0);
    assert_eq!(payload(&ca, 2)["onlyReturnExisting"], json!(true));
    assert_eq!(
        ca.client.terms_of_service().as_deref(),
        Some(TERMS),
        "the client knows the URL of the terms"
    );
    assert_eq!(payload(&ca, 2).get("termsOfServiceAgreed"), None);
}

#[test]
fn the_error_about_terms_names_the_step_and_the_url() {
    let mut ca = Script::with(|options| options.terms_agreed = false);
    let error = ca.register().unwrap_err();
    assert_eq!(error.url(), Some("https://ca.example/new-account"), "{error}");
    assert!(error.to_string().starts_with("registering the account"), "{error}");
}

#[test]
fn a01_an_existing_account_is_found_without_agreement() {
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
fn d14_a_required_external_account_is_reported_before_an_account_is_created() {
    let mut ca = Script::new();
    ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::EabRequired, true));
    assert_eq!(ca.ca.accounts_made, 0);
    // The CA refuses with externalAccountRequired although its directory does not announce it.
    let mut ca = Script::new();
    ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
    ca.on("GET /directory").edit(|directory| directory["meta"] = json!(null));
    assert_eq!(ca.obtain(&["example.org"]).unwrap_err().kind(), ErrorKind::EabRequired);
}

#[test]
fn the_external_account_binding_has_the_id_and_key_of_the_ca() {
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
fn a08_a_refused_external_account_is_a_permanent_failure() {
    for name in ["unauthorized", "malformed"] {
        let mut ca = Script::with(|o| o.external_account = Some(external_account()));
        ca.on("POST /new-account").problem(403, name);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
        // The first request carries the binding; the second one asks whether an account already
        // exists.
        assert_eq!(ca.count("POST /new-account"), 2);
        assert_eq!(ca.ca.accounts_made, 0);
        let secret = encode(&[7; 32]);
        assert!(!error.to_string().contains(&secret) && !format!("{error:?}").contains(&secret));
    }
}

#[test]
fn a03_an_account_without_a_valid_status_is_not_used() {
    for status in ["deactivated", "revoked", "unknown"] {
        let mut ca = Script::new();
        let said = if status == "unknown" { json!("asleep") } else { json!(status) };
        ca.on("POST /new-account").edit(move |account| account["status"] = said.clone());
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Account, true));
        assert!(error.to_string().contains(status), "{error}");
        assert_eq!(ca.count("POST /new-order"), 0);
        assert_eq!(ca.client.account_url(), None);
        assert_eq!(ca.ca.accounts_made, 1, "the client creates no other account");
        assert_eq!(ca.count("POST /new-account"), 1);
        assert_eq!(ca.client.account_key().thumbprint(), ca.account_key.thumbprint());
    }
    // An account without a status counts as valid: the next request shows whether it is.
    for none in [json!(null), json!("valid")] {
        let mut ca = Script::new();
        ca.on("POST /new-account").edit(move |account| account["status"] = none.clone());
        ca.obtain(&["example.org"]).unwrap();
    }
}

#[test]
fn a03_an_account_that_the_ca_deactivated_is_reported_and_not_replaced() {
    let mut ca = Script::with_account();
    ca.on("POST /new-order").problem(403, "unauthorized");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(ca.transcript, ["POST /new-order"]);
    // RFC 8555 section 7.3.6 asks for this status.
    let mut ca = Script::with_account();
    ca.on("POST /new-order").problem(401, "unauthorized");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Account, true));
    assert_eq!(ca.transcript, ["POST /new-order"]);
}

#[test]
fn a04_an_account_that_the_ca_has_lost_is_registered_once_more() {
    let mut ca = Script::with_account();
    ca.on("POST /new-order").nth(1).problem(400, "accountDoesNotExist");
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript[..3], ["POST /new-order", "POST /new-account", "POST /new-order"]);
    assert_eq!(ca.count("POST /new-account"), 1);
    let mut ca = Script::with_account();
    ca.on("POST /new-order").problem(400, "accountDoesNotExist");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Account);
    assert_eq!(ca.count("POST /new-account"), 1, "the account is registered again only once");
}

#[test]
fn a04_a_lost_account_is_not_created_again_without_agreement_to_the_terms() {
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
        ca.on("POST /new-account").then(move |_, response| match &location {
            Some(location) => response.set("Location", location),
            None => response.remove("Location"),
        });
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert_eq!(ca.client.account_url(), None, "{shown}");
        assert_eq!(ca.count("POST /new-order"), 0);
        assert_eq!(ca.count("POST /new-account"), 1, "{shown}");
    }
    // The key identifies the account: the next run finds it by the key and creates no second one.
    for find in [true, false] {
        let mut ca = Script::new();
        ca.on("POST /new-account").nth(1).then(|_, response| response.remove("Location"));
        ca.register().unwrap_err();
        restart(&mut ca, |_| {});
        let operation = if find { ca.client.find_account() } else { ca.client.register() };
        assert_eq!(ca.run(&operation).unwrap().url, "https://ca.example/account/1");
        assert_eq!(ca.ca.accounts_made, 1);
    }
}

#[test]
fn a_problem_with_status_200_is_not_taken_for_an_account() {
    let body = json!({"type": "urn:ietf:params:acme:error:malformed", "detail": "sorry"});
    let mut ca = Script::new();
    let location = "https://ca.example/account/1";
    ca.on("POST /new-account").respond(Response::json(200, &body).header("Location", location));
    let error = ca.register().expect_err("taken for an account");
    assert_eq!(error.kind(), ErrorKind::Problem, "{error}");
}

#[test]
fn a05_an_account_with_a_new_url_is_used_at_that_url() {
    let mut ca = Script::with_account();
    let key = ca.account_key.clone();
    make_account(&mut ca.ca, &key);
    ca.on("POST /new-account").then(|_, response| {
        response.set("Location", "https://ca.example/account/2");
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
            options.agreed_terms_url = Some(url);
        })
    };
    let mut ca = agreeing(TERMS);
    ca.register().unwrap();
    assert_eq!(payload(&ca, 2)["termsOfServiceAgreed"], json!(true));
    // The CA has published other terms since.
    let old = "https://ca.example/terms-2020";
    let mut ca = agreeing(old);
    let error = ca.register().unwrap_err();
    assert_eq!((error.kind(), error.help_url()), (ErrorKind::Terms, Some(TERMS)));
    assert!(error.to_string().contains(old) && error.to_string().contains(TERMS), "{error}");
    assert_eq!(ca.ca.accounts_made, 0);
    // An existing account stays usable.
    let mut ca = agreeing(old);
    let key = ca.account_key.clone();
    make_account(&mut ca.ca, &key);
    ca.obtain(&["example.org"]).unwrap();
    // Agreeing to any terms and agreeing to the terms at one URL exclude each other.
    let key = Key::generate(KeyType::P256).unwrap();
    let mut options = ClientOptions::new("https://ca.example/directory", key);
    options.terms_agreed = true;
    options.agreed_terms_url = Some(TERMS.to_owned());
    assert_eq!(Client::new(options).err().unwrap().kind(), ErrorKind::InvalidArgument);
    // At a CA without terms the request does not mention them.
    let mut ca = agreeing(old);
    ca.ca.terms = false;
    ca.register().unwrap();
    assert_eq!(payload(&ca, 2).get("termsOfServiceAgreed"), None);
}

#[test]
fn every_request_names_the_languages_of_messages() {
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

#[test]
fn a01_an_existing_account_keeps_its_contacts() {
    let mut ca = Script::new();
    let key = ca.account_key.clone();
    let url = make_account(&mut ca.ca, &key);
    assert_eq!(ca.register().unwrap().url, url);
    assert_eq!(ca.client.account_url(), Some(url));
    assert_eq!(ca.transcript, ["GET /directory", "GET /new-nonce", "POST /new-account"]);
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.count("POST /account/*"), 0, "the existing account's contacts stay");
    assert_eq!(ca.ca.accounts_made, 0);
}

#[test]
fn a04_a_lost_account_takes_its_orders_with_it() {
    // The program restarts with an account and an order that the CA has lost.
    let lost = |agreed: bool| {
        let mut ca = Script::new();
        let key = ca.account_key.clone();
        make_account(&mut ca.ca, &key);
        restart(&mut ca, |options| {
            options.account_url = Some(format!("{BASE}/account/1"));
            options.terms_agreed = agreed;
        });
        ca.on("POST /order/7").problem(400, "accountDoesNotExist");
        ca.on("POST /new-order").nth(1).problem(400, "accountDoesNotExist");
        if !agreed {
            ca.on("POST /new-account").problem(400, "accountDoesNotExist");
        }
        let mut options = OrderOptions::new(["example.org"]);
        options.order_url = Some(format!("{BASE}/order/7"));
        let outcome = ca.order(options);
        (outcome, ca)
    };
    let (issued, ca) = lost(true);
    assert_eq!(issued.unwrap().order_url, "https://ca.example/order/1");
    assert_eq!((ca.count("POST /new-account"), ca.count("POST /order/7")), (1, 1));
    let (outcome, ca) = lost(false);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Terms);
    assert_eq!((ca.count("POST /new-account"), ca.count("POST /new-order")), (1, 1));
}

#[test]
fn a06_refused_contacts_are_a_permanent_failure() {
    for name in ["invalidContact", "unsupportedContact"] {
        let mut ca = Script::new();
        ca.on("POST /new-account").problem(400, name);
        let error = ca.obtain(&["example.org"]).unwrap_err();
        assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!((ca.count("POST /new-account"), ca.count("POST /new-order")), (1, 0));
    }
}

#[test]
fn a09_a_used_single_use_binding_leads_to_its_account() {
    // Either the response is lost, or the program is killed before it stores anything.
    for killed in [false, true] {
        let mut ca = Script::with(|options| options.external_account = Some(external_account()));
        ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
        ca.on("POST /new-account").nth(1).lose_response();
        ca.on("POST /new-account").nth(2).problem(403, "unauthorized");
        if killed {
            let operation = ca.client.register();
            let mut now = START;
            while ca.ca.accounts_made == 0 {
                step(&mut ca, &operation, &mut now);
            }
            drop(operation);
            restart(&mut ca, |options| options.external_account = Some(external_account()));
        }
        ca.forget();
        let registered = ca.register().unwrap();
        assert_eq!(registered.url, "https://ca.example/account/1");
        assert_eq!(ca.ca.accounts_made, 1);
        let last = payload(&ca, ca.bodies.len() - 1);
        assert_eq!(last, json!({"onlyReturnExisting": true}));
    }
}

/// Polls once and does what a simple host does; a lost response stays lost.
fn step<T>(ca: &mut Script, operation: &Operation<T>, now: &mut i64) -> Option<()> {
    match operation.poll(Time::from_millis(*now)).unwrap() {
        Step::Request(request) => {
            let reply = operation.reply(request.id);
            match ca.respond_to(&request) {
                Err(why) => reply.failed(why).unwrap(),
                Ok(response) => {
                    for (name, value) in &response.headers {
                        reply.header(name.as_bytes(), value).unwrap();
                    }
                    reply.body(&response.body).unwrap();
                    reply.end(response.status).unwrap();
                }
            }
        }
        Step::Wait(delay) => *now += delay.unwrap().as_millis() as i64,
        _ => return None,
    }
    Some(())
}

#[test]
fn a10_another_binding_does_not_replace_an_existing_account() {
    let mut ca = Script::with(|options| options.external_account = Some(external_account()));
    ca.ca.eab = Some(("kid-1".to_owned(), vec![7; 32]));
    ca.register().unwrap();
    let url = ca.client.account_url();
    let other = ExternalAccount::new("kid-2", &encode(&[8; 32])).unwrap();
    // A stored account URL makes newAccount unnecessary; without it the key leads to the account.
    for stored in [url.clone(), None] {
        ca.forget();
        restart(&mut ca, |options| {
            options.external_account = Some(other.clone());
            options.account_url = stored.clone();
        });
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.count("POST /new-account"), usize::from(stored.is_none()));
        assert_eq!((ca.client.account_url(), ca.ca.accounts_made), (url.clone(), 1));
    }
}

#[test]
fn a13_a_key_of_another_account_is_reported_and_replaces_nothing() {
    for (status, name) in [(400, "malformed"), (401, "unauthorized"), (403, "unauthorized")] {
        for other_account in [false, true] {
            let mut ca = Script::new();
            ca.register().unwrap();
            let wrong = Key::generate(KeyType::P256).unwrap();
            if other_account {
                make_account(&mut ca.ca, &wrong);
            }
            ca.forget();
            ca.ca.takes_any_key = true;
            restart(&mut ca, |options| {
                options.account_key = wrong.clone();
                options.account_url = Some(format!("{BASE}/account/1"));
            });
            ca.on("POST /new-order").problem(status, name);
            let error = ca.obtain(&["example.org"]).unwrap_err();
            assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Account, true), "{error}");
            let text = error.to_string();
            let whose = match other_account {
                true => "the key is that of https://ca.example/account/2",
                false => "the key is no account's",
            };
            assert!(
                text.contains(whose) && text.contains("not that of https://ca.example/account/1")
            );
            assert_eq!((ca.count("POST /new-order"), ca.count("POST /new-account")), (1, 1));
            assert_eq!((ca.ca.accounts_made, ca.ca.orders.len()), (1, 0));
            assert_eq!(ca.client.account_url().as_deref(), Some("https://ca.example/account/1"));
        }
    }
    // The key is right: the CA's refusal is reported as it is.
    let mut ca = Script::new();
    ca.register().unwrap();
    restart(&mut ca, |options| options.account_url = Some(format!("{BASE}/account/1")));
    ca.on("POST /new-order").problem(400, "malformed");
    let error = ca.obtain(&["example.org"]).unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (ErrorKind::Problem, true));
    assert_eq!(ca.count("POST /new-order"), 1);
}

#[test]
fn a14_an_account_of_another_ca_is_refused_before_any_request() {
    for (directory, account) in [
        ("https://acme-staging.ca.example/directory", "https://acme.ca.example/acct/1"),
        ("https://acme.ca.example/directory", "https://acme-staging.ca.example/acct/1"),
        ("https://ca.example/directory", "https://other.example/acct/1"),
    ] {
        let mut options = ClientOptions::new(directory, Key::generate(KeyType::P256).unwrap());
        options.account_url = Some(account.to_owned());
        let error = Client::new(options).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("account_url"), "{error}");
    }
}

#[test]
fn a15_two_programs_that_register_one_key_at_once_get_one_account() {
    let mut ca = Script::new();
    let one = ca.client.register();
    restart(&mut ca, |_| {});
    let two = ca.client.register();
    let mut now = START;
    // Both operations send newAccount before either gets its response.
    let requests =
        |operation: &Operation<_>| match operation.poll(Time::from_millis(START)).unwrap() {
            Step::Request(request) => request,
            step => panic!("{step:?}"),
        };
    for _ in 0..2 {
        step(&mut ca, &one, &mut now);
        step(&mut ca, &two, &mut now);
    }
    let sent = [(&one, requests(&one)), (&two, requests(&two))];
    assert!(sent.iter().all(|(_, request)| request.url().ends_with("/new-account")));
    for (operation, request) in sent.iter().rev() {
        let response = ca.respond_to(request).unwrap();
        let reply = operation.reply(request.id);
        for (name, value) in &response.headers {
            reply.header(name.as_bytes(), value).unwrap();
        }
        reply.body(&response.body).unwrap();
        reply.end(response.status).unwrap();
    }
    for operation in [one, two] {
        while step(&mut ca, &operation, &mut now).is_some() {}
        assert_eq!(operation.take().unwrap().url, "https://ca.example/account/1");
    }
    assert_eq!(ca.ca.accounts_made, 1);
}

#[test]
fn a17_a_hundred_kills_create_one_account() {
    // The program stores its key before the first request, and nothing else.
    let mut ca = Script::new();
    for kill in 0..100 {
        restart(&mut ca, |_| {});
        let operation = ca.client.register();
        let mut now = START;
        for _ in 0..kill % 4 {
            step(&mut ca, &operation, &mut now);
        }
    }
    assert_eq!(ca.ca.accounts_made, 1);
    restart(&mut ca, |_| {});
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.ca.accounts_made, 1);
}
