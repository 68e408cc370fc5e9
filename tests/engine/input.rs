//! Invalid options, refused before any request, and calls at the wrong time, refused without harm.

use std::time::Duration;

use acme_micro::engine::{ChallengeType, Client, ClientOptions, OrderOptions, Step};
use acme_micro::{ErrorKind, Key, KeyType, SigningRequest, Time};

use super::script::{START, Script};

const NOW: Time = Time::from_millis(START);

fn refused(options: OrderOptions) -> acme_micro::AcmeError {
    let ca = Script::new();
    let error = ca.client.obtain(options).err().expect("refused at once");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.is_permanent());
    error
}

#[test]
fn bad_names_are_refused_and_named() {
    let long = ["a".repeat(60).as_str(); 5].join(".");
    let label = "a".repeat(64);
    for name in [
        "",
        ".",
        "*",
        "*.",
        "a..b",
        "-a.example",
        "a_b.example",
        "a b.example",
        "*.*.example",
        "a*.example",
        "bü cher.example",
        "../x",
        "a/b",
        "a\0b",
        "a\r\nb",
        "[::1]",
        "192.0.2.0/24",
        "user@example.org",
        "https://example.org",
        &long,
        &label,
    ] {
        let error = refused(OrderOptions::new(["good.example", name]));
        assert!(error.identifier().is_some(), "{name:?}: {error}");
    }
}

#[test]
fn an_order_without_names_is_refused() {
    refused(OrderOptions::new(Vec::<String>::new()));
}

#[test]
fn a_repeated_name_is_refused_in_any_spelling() {
    for (one, other) in [
        ("example.org", "example.org"),
        ("example.org", "EXAMPLE.org."),
        ("2001:db8::1", "2001:0db8:0:0::1"),
        ("*.example.org", "*.Example.org"),
    ] {
        let mut options = OrderOptions::new([one, other]);
        options.challenge_types = vec![ChallengeType::Http01, ChallengeType::Dns01];
        let error = refused(options);
        assert!(error.to_string().contains("twice"), "{error}");
    }
}

#[test]
fn a_wildcard_needs_dns_01_and_an_address_needs_another_type() {
    for (name, kind) in [
        ("*.example.org", ChallengeType::Http01),
        ("*.example.org", ChallengeType::TlsAlpn01),
        ("192.0.2.1", ChallengeType::Dns01),
        ("2001:db8::1", ChallengeType::Dns01),
    ] {
        let mut options = OrderOptions::new([name]);
        options.challenge_types = vec![kind];
        let error = refused(options);
        assert_eq!(error.identifier(), Some(name));
    }
    let mut options = OrderOptions::new(["example.org"]);
    options.challenge_types.clear();
    refused(options);
}

#[test]
fn a_thousand_names_are_accepted_and_one_more_is_refused() {
    let names = |count: usize| (0..count).map(|n| format!("n{n}.example")).collect::<Vec<_>>();
    assert!(Script::new().client.obtain(OrderOptions::new(names(1000))).is_ok());
    let error = refused(OrderOptions::new(names(1001)));
    assert!(error.to_string().contains("1000"), "{error}");
}

#[test]
fn a_csr_must_fit_the_names_and_excludes_a_key() {
    let key = Key::generate(KeyType::P256).unwrap();
    let csr = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        SigningRequest::create(&key, &names).unwrap()
    };
    for names in [&["example.org", "www.example.org"][..], &["www.example.org"], &["*.example.org"]]
    {
        let mut options = OrderOptions::new(["example.org"]);
        options.csr = Some(csr(names));
        refused(options);
    }
    let mut options = OrderOptions::new(["example.org"]);
    (options.csr, options.key) = (Some(csr(&["example.org"])), Some(key.clone()));
    refused(options);
    // The order of names and their case do not matter.
    let mut options = OrderOptions::new(["www.example.org", "EXAMPLE.org"]);
    options.csr = Some(csr(&["example.org", "WWW.example.org"]));
    Script::new().client.obtain(options).unwrap();
}

#[test]
fn an_order_url_on_another_host_and_a_timeout_of_zero_are_refused() {
    for url in ["http://ca.example/order/1", "https://evil.example/order/1", "", "/order/1"] {
        let mut options = OrderOptions::new(["example.org"]);
        options.order_url = Some(url.to_owned());
        refused(options);
    }
    let mut options = OrderOptions::new(["example.org"]);
    options.time_limit = Duration::ZERO;
    refused(options);
}

#[test]
fn f13_f14_a_response_to_an_unknown_request_is_misuse_and_does_no_harm() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let misuse = |result: Result<(), acme_micro::AcmeError>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Misuse);
    };
    for id in [0, 1, 7, u64::MAX] {
        // The operation has not returned any request yet.
        misuse(operation.reply(id).header(b"a", b"b"));
        misuse(operation.reply(id).body(b"x"));
        misuse(operation.reply(id).end(200));
        misuse(operation.reply(id).failed("why"));
        assert!(operation.request(id).is_none());
    }
    misuse(operation.published(Ok(())));
    let Step::Request(request) = operation.poll(NOW).unwrap() else { panic!() };
    misuse(operation.reply(request.id + 1).end(200));
    misuse(operation.published(Ok(())));
    for status in [0, 1, 99, 100, 199, 600, 1000, u16::MAX] {
        let error = operation.reply(request.id).end(status).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{status}");
    }
    assert!(operation.request(request.id).is_some(), "the request still waits for its response");
    let response = ca.respond_to(&request).unwrap();
    operation.reply(request.id).body(&response.body).unwrap();
    operation.reply(request.id).end(200).unwrap();
    // This request has its response already.
    misuse(operation.reply(request.id).end(200));
    misuse(operation.reply(request.id).body(b"more"));
    misuse(operation.reply(request.id).failed("why"));
    ca.run(&operation).unwrap();
    misuse(operation.reply(request.id).end(200));
    misuse(operation.published(Ok(())));
    assert_eq!(ca.transcript.len(), 9, "all but the directory");
}

#[test]
fn f13_t11_reporting_a_publication_twice_is_misuse_and_does_no_harm() {
    let mut ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    loop {
        match operation.poll(NOW).unwrap() {
            Step::Request(request) => {
                let response = ca.respond_to(&request).unwrap();
                let reply = operation.reply(request.id);
                for (name, value) in &response.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&response.body).unwrap();
                reply.end(response.status).unwrap();
            }
            Step::Publish(_) => break,
            step => panic!("{step:?}"),
        }
    }
    assert!(matches!(operation.poll(NOW).unwrap(), Step::Wait(_)), "said once");
    operation.published(Err("no".to_owned())).unwrap();
    assert_eq!(operation.published(Ok(())).unwrap_err().kind(), ErrorKind::Misuse);
    assert!(matches!(operation.poll(NOW).unwrap(), Step::Unpublish(_)));
    assert_eq!(operation.poll(NOW).unwrap_err().kind(), ErrorKind::Host);
}

#[test]
fn another_thread_may_feed_the_response() {
    // Operation, Client and Reply can go from thread to thread.
    fn sendable<T: Send + Sync>(_: &T) {}
    let ca = Script::new();
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    sendable(&ca.client);
    sendable(&operation);
    let Step::Request(request) = operation.poll(NOW).unwrap() else { panic!() };
    std::thread::scope(|scope| {
        scope.spawn(|| operation.reply(request.id).failed("another thread says so").unwrap());
    });
    assert!(matches!(operation.poll(NOW).unwrap(), Step::Wait(Some(_))));
}

/// The limits of Let's Encrypt's profiles are checked before any request.
#[test]
fn an_order_beyond_the_limits_of_a_profile_is_refused() {
    let order = |profile: Option<&str>, names: &[String]| {
        let key = Key::generate(KeyType::P256).unwrap();
        let url = "https://acme-v02.api.letsencrypt.org/directory";
        let client = Client::new(ClientOptions::new(url, key)).unwrap();
        let mut options = OrderOptions::new(names.to_vec());
        options.profile = profile.map(str::to_owned);
        client.obtain(options).map(|_| ()).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            error.to_string()
        })
    };
    let names =
        |count: usize| -> Vec<String> { (0..count).map(|n| format!("n{n}.example.org")).collect() };
    for (profile, most) in [(None, 100), (Some("tlsserver"), 25), (Some("shortlived"), 25)] {
        order(profile, &names(most)).unwrap();
        let why = order(profile, &names(most + 1)).unwrap_err();
        assert!(why.contains(&format!("has {most} names at most, not {}", most + 1)), "{why}");
    }
    order(Some("unheard-of"), &names(101)).unwrap();
    let address = ["192.0.2.7".to_owned()];
    order(Some("shortlived"), &address).unwrap();
    assert!(order(None, &address).unwrap_err().contains("shortlived"));
}
