//! Number of requests of an issuance, and every kind of key and name.

use acme_micro::engine::{ChallengeType, OrderOptions, RevocationReason};
use acme_micro::{Key, KeyType, SigningRequest};

use super::script::{Pace, Script};

#[test]
fn one_name_with_a_new_account_takes_ten_requests() {
    let mut ca = Script::new();
    let issued = ca.obtain(&["example.org"]).unwrap();
    assert_eq!(
        ca.events,
        [
            "GET /directory",
            "GET /new-nonce",
            "POST /new-account",
            "POST /new-order",
            "POST /authz/1",
            "PUBLISH http-01 example.org",
            "POST /chall/1/http-01",
            "POST /order/1",
            "UNPUBLISH http-01 example.org",
            "POST /finalize/1",
            "POST /order/1",
            "POST /cert/1",
        ]
    );
    assert_eq!(ca.transcript.len(), 10);
    assert_eq!(issued.chain.names(), ["example.org"]);
    assert_eq!(issued.chain.ders().len(), 2);
    assert_eq!(issued.order_url, "https://ca.example/order/1");
    assert_eq!(issued.key.unwrap().kind(), KeyType::P256);
    assert_eq!(ca.client.account_url().as_deref(), Some("https://ca.example/account/1"));
}

#[test]
fn one_name_with_account_directory_and_nonce_takes_seven_requests() {
    let mut ca = Script::with_account();
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(
        ca.transcript,
        [
            "POST /new-order",
            "POST /authz/2",
            "POST /chall/2/http-01",
            "POST /order/2",
            "POST /finalize/2",
            "POST /order/2",
            "POST /cert/2",
        ]
    );
}

#[test]
fn a_ca_that_issues_within_finalize_saves_the_last_poll() {
    let mut ca = Script::with_account();
    ca.ca.processing_fetches = 0;
    ca.obtain(&["example.org"]).unwrap();
    assert_eq!(ca.transcript[3..], ["POST /order/2", "POST /finalize/2", "POST /cert/2"]);
}

#[test]
fn an_account_url_from_an_earlier_run_saves_the_registration() {
    let mut ca = Script::new();
    ca.obtain(&["example.org"]).unwrap();
    let (account_key, url) = (ca.account_key.clone(), ca.client.account_url());
    let mut later = Script::with(|options| {
        options.account_key = account_key.clone();
        options.account_url = url;
    });
    super::script::make_account(&mut later.ca, &account_key);
    later.obtain(&["example.org"]).unwrap();
    assert_eq!(later.transcript[..3], ["GET /directory", "GET /new-nonce", "POST /new-order"]);
    assert_eq!(later.transcript.len(), 9);
}

#[test]
fn ten_names_take_twenty_eight_requests_of_a_blocking_host() {
    let names: Vec<String> = (0..10).map(|n| format!("n{n}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut ca = Script::new();
    ca.obtain(&names).unwrap();
    assert_eq!(ca.transcript.len(), 28, "{:#?}", ca.transcript);
    assert_eq!(ca.count("GET /new-nonce"), 1);
    assert_eq!(ca.count("POST /authz/*"), 10);
    assert_eq!(ca.count("POST /chall/*"), 10);
    assert_eq!(ca.count("POST /order/1"), 2);
    assert_eq!(ca.most_at_once, 1);
}

#[test]
fn all_challenges_are_published_before_the_first_response() {
    let mut ca = Script::new();
    ca.obtain(&["a.example", "b.example", "c.example"]).unwrap();
    let at = |what: &str| ca.events.iter().position(|event| event.starts_with(what)).unwrap();
    let last_published = ca.events.iter().rposition(|event| event.starts_with("PUBLISH")).unwrap();
    assert!(last_published < at("POST /chall/"), "{:?}", ca.events);
    assert!(at("UNPUBLISH") < at("POST /finalize/"), "{:?}", ca.events);
}

#[test]
fn j03_a_strict_server_accepts_every_kind_of_account_key() {
    for kind in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Rsa2048, KeyType::Ed25519] {
        let mut ca = Script::with(|options| options.account_key = Key::generate(kind).unwrap());
        ca.obtain(&["example.org"]).unwrap();
        assert_eq!(ca.transcript.len(), 10, "{kind:?}");
    }
}

#[test]
fn fifty_fresh_account_keys_all_work() {
    // 0.7 % of keys have a coordinate that begins with a zero byte; as many signatures do.
    for _ in 0..50 {
        Script::new().obtain(&["example.org"]).unwrap();
    }
}

#[test]
fn every_kind_of_certificate_key_is_certified() {
    for kind in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Rsa2048, KeyType::Ed25519] {
        let mut ca = Script::new();
        let mut options = OrderOptions::new(["example.org"]);
        let key = Key::generate(kind).unwrap();
        options.key = Some(key.clone());
        let issued = ca.order(options).unwrap();
        assert_eq!(issued.key.unwrap().thumbprint(), key.thumbprint());
    }
}

#[test]
fn a_csr_made_elsewhere_is_certified_without_its_key() {
    let mut ca = Script::new();
    let key = Key::generate(KeyType::P384).unwrap();
    let names = ["example.org".to_owned(), "192.0.2.7".to_owned()];
    let csr = SigningRequest::create(&key, &names).unwrap();
    let mut options = OrderOptions::new(Vec::<String>::new());
    options.csr = Some(SigningRequest::parse(csr.der()).unwrap());
    let issued = ca.order(options).unwrap();
    assert!(issued.key.is_none());
    let mut certified = issued.chain.names().to_vec();
    certified.sort_by_key(|name| name == "192.0.2.7");
    assert_eq!(certified, names);
}

#[test]
fn one_order_may_have_names_addresses_and_wildcards() {
    let mut ca = Script::new();
    let mut options =
        OrderOptions::new(["Example.ORG.", "*.example.org", "192.0.2.7", "2001:DB8::0:1"]);
    options.challenge_types = vec![ChallengeType::Http01, ChallengeType::Dns01];
    let issued = ca.order(options).unwrap();
    assert_eq!(ca.ca.orders[0].names, ["example.org", "*.example.org", "192.0.2.7", "2001:db8::1"]);
    assert_eq!(issued.chain.names().len(), 4);
    assert!(ca.published("http-01 example.org") && ca.published("dns-01 example.org"));
    assert!(ca.published("http-01 192.0.2.7") && ca.published("http-01 2001:db8::1"));
}

#[test]
fn an_issued_certificate_can_be_revoked() {
    let mut ca = Script::new();
    let issued = ca.obtain(&["example.org"]).unwrap();
    ca.forget();
    let operation = ca.client.revoke(&issued.chain, RevocationReason::Superseded, None).unwrap();
    ca.run(&operation).unwrap();
    assert_eq!(ca.transcript, ["POST /revoke"]);
    let der = super::jws::encode(&issued.chain.ders()[0]);
    assert_eq!(ca.ca.revoked, [serde_json::json!({"certificate": der, "reason": 4})]);
    // Revoking a certificate that is already revoked succeeds.
    ca.on("POST /revoke").problem(400, "alreadyRevoked");
    let operation = ca.client.revoke(&issued.chain, RevocationReason::Superseded, None).unwrap();
    ca.run(&operation).unwrap();
}

#[test]
fn the_state_names_the_step_of_the_flow() {
    use super::script::START;
    use acme_micro::Time;
    use acme_micro::engine::Step;
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    assert_eq!((operation.state(), operation.order_url()), ("new", None));
    let mut seen = Vec::new();
    let mut now = START;
    loop {
        let step = operation.poll(Time::from_millis(now)).unwrap();
        if seen.last() != Some(&operation.state()) {
            seen.push(operation.state());
        }
        match step {
            Step::Request(request) => {
                assert!(operation.request(request.id).is_some());
                let up = request.url().contains("/chall/");
                let response = match up {
                    // The host of this test publishes nothing, so the authorization becomes valid
                    // without validation.
                    true => {
                        ca.ca.authorizations[0].status = "valid";
                        super::ca::Response::json(200, &serde_json::json!({}))
                    }
                    false => ca.respond_to(&request).unwrap(),
                };
                let reply = operation.reply(request.id);
                for (name, value) in &response.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&response.body).unwrap();
                reply.end(response.status).unwrap();
                assert!(operation.request(request.id).is_none());
            }
            Step::Wait(delay) => now += delay.unwrap().as_millis() as i64,
            Step::Publish(_) => operation.published(Ok(())).unwrap(),
            Step::Unpublish(_) => {}
            _ => break,
        }
    }
    assert_eq!(operation.order_url().as_deref(), Some("https://ca.example/order/1"));
    seen.retain(|state| *state != "nonce");
    seen.dedup();
    assert_eq!(
        seen,
        [
            "directory",
            "account",
            "order",
            "authorization",
            "publish",
            "challenge",
            "unpublish",
            "finalize",
            "certificate",
        ]
    );
}

#[test]
fn the_same_seed_and_responses_give_the_same_bytes() {
    // Ed25519 signatures are deterministic.
    let account = Key::generate(KeyType::Ed25519).unwrap();
    let certificate = Key::generate(KeyType::Ed25519).unwrap();
    let run = |seed: u64, pace: Pace| {
        let mut ca = Script::with(|options| {
            options.account_key = account.clone();
            options.seed = Some(seed);
        });
        ca.pace = pace;
        ca.on("POST /authz/1").times(3).respond(super::ca::Response::new(500, "oops"));
        ca.on("POST /cert/1").times(2).lose_request();
        let mut options = OrderOptions::new(["example.org", "www.example.org"]);
        options.key = Some(certificate.clone());
        ca.order(options).unwrap();
        (ca.transcript, ca.bodies, ca.delays)
    };
    assert_eq!(run(1, Pace::Blocking), run(1, Pace::Blocking));
    assert_eq!(run(2, Pace::Eager), run(2, Pace::Eager));
    let (one, other) = (run(1, Pace::Blocking), run(2, Pace::Blocking));
    assert_eq!(one.0, other.0);
    assert_ne!(one.2, other.2, "another seed gives other delays");
}
