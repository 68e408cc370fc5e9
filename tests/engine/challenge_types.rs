//! Challenge types beyond RFC 8555: their records, their payloads, and a type for each name.

use acme_micro::engine::{ChallengeType, OrderOptions, Step};
use acme_micro::{ErrorKind, Key, KeyType, SigningRequest, Time};
use serde_json::json;

use super::script::{START, Script};

fn order(names: &[&str], kind: ChallengeType) -> OrderOptions {
    let mut options = OrderOptions::new(names.iter().copied());
    options.challenge_types = vec![kind];
    options
}

fn offering(kind: &'static str) -> Script {
    let mut ca = Script::new();
    ca.ca.offers = vec!["http-01", kind];
    ca
}

#[test]
fn dns_account_01_is_published_and_removed() {
    let mut ca = offering("dns-account-01");
    let names = ["example.org", "*.example.org"];
    ca.order(order(&names, ChallengeType::DnsAccount01)).unwrap();
    let ups = ca.events.iter().filter(|e| e.starts_with("PUBLISH dns-account-01")).count();
    let downs = ca.events.iter().filter(|e| e.starts_with("UNPUBLISH dns-account-01")).count();
    assert_eq!((ups, downs), (2, 2));
}

#[test]
fn dns_persist_01_has_no_token_and_stays_published() {
    let mut ca = offering("dns-persist-01");
    ca.order(order(&["example.org"], ChallengeType::DnsPersist01)).unwrap();
    assert!(ca.published("dns-persist-01 example.org"));
    assert!(!ca.events.iter().any(|event| event.starts_with("UNPUBLISH")));
    // The record also stays when the order fails.
    let mut ca = offering("dns-persist-01");
    ca.ca.failing = vec!["example.org".to_owned()];
    let error = ca.order(order(&["example.org"], ChallengeType::DnsPersist01)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Challenge);
    assert!(!ca.events.iter().any(|event| event.starts_with("UNPUBLISH")));
}

#[test]
fn dns_persist_01_for_another_account_is_refused_before_it_is_published() {
    let mut ca = offering("dns-persist-01");
    ca.on("POST /authz/1").edit(|authorization| {
        authorization["challenges"][1]["accounturi"] = json!("https://ca.example/account/666");
    });
    let error = ca.order(order(&["example.org"], ChallengeType::DnsPersist01)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("another account"), "{error}");
    assert!(!ca.published("*"));
}

#[test]
fn only_records_that_are_not_persistent_are_removed() {
    let mut ca = offering("dns-persist-01");
    let mut options = order(&["a.example", "b.example"], ChallengeType::Http01);
    options.challenge_by_name = vec![("B.example".to_owned(), ChallengeType::DnsPersist01)];
    ca.order(options).unwrap();
    assert!(ca.published("http-01 a.example") && ca.published("dns-persist-01 b.example"));
    let downs: Vec<_> = ca.events.iter().filter(|e| e.starts_with("UNPUBLISH")).collect();
    assert_eq!(downs, ["UNPUBLISH http-01 a.example"]);
}

#[test]
fn each_name_may_have_its_own_challenge_type() {
    let mut ca = Script::new();
    let mut options = order(&["a.example", "*.b.example", "c.example"], ChallengeType::Http01);
    options.challenge_by_name = vec![
        ("*.b.example".to_owned(), ChallengeType::Dns01),
        ("c.example".to_owned(), ChallengeType::TlsAlpn01),
    ];
    ca.order(options).unwrap();
    for what in ["http-01 a.example", "dns-01 b.example", "tls-alpn-01 c.example"] {
        assert!(ca.published(what), "{what}");
    }
    // A type that cannot validate the name, and a type for a name that is not ordered.
    for (name, kind) in
        [("*.b.example", ChallengeType::TlsAlpn01), ("x.example", ChallengeType::Http01)]
    {
        let mut options = order(&["*.b.example"], ChallengeType::Dns01);
        options.challenge_by_name = vec![(name.to_owned(), kind)];
        let mut ca = Script::new();
        let error = ca.order(options).unwrap_err();
        assert_eq!((error.kind(), error.identifier()), (ErrorKind::InvalidArgument, Some(name)));
        assert!(ca.transcript.is_empty());
    }
}

/// Returns an order for a device with a CSR made elsewhere: the CA reads the device's identifier
/// from the attestation.
fn device_order() -> OrderOptions {
    let key = Key::generate(KeyType::P256).unwrap();
    let csr = SigningRequest::create(&key, &["device.example".to_owned()]).unwrap();
    let names = ["permanent-identifier:device-7", "device.example"];
    let mut options = order(&names, ChallengeType::DeviceAttest01);
    options.challenge_types.push(ChallengeType::Http01);
    options.csr = Some(csr);
    options
}

#[test]
fn the_payload_of_the_host_is_sent_unchanged() {
    let mut ca = offering("onion-csr-01");
    ca.payload = Some(r#"{"csr":"MIIB"}"#.to_owned());
    let name = "bcdefghijklmnopqrstuvwxyz234567bcdefghijklmnopqrstuvwxyz2345.onion";
    ca.order(order(&[name], ChallengeType::OnionCsr01)).unwrap();
    assert_eq!(ca.ca.authorizations[0].payload, json!({"csr": "MIIB"}));
}

#[test]
fn a_challenge_with_a_payload_gives_its_object_and_requires_the_payload() {
    let mut ca = offering("onion-csr-01");
    let options = || order(&["abc.onion"], ChallengeType::OnionCsr01);
    let error = ca.order(options()).unwrap_err();
    assert_eq!((error.kind(), error.identifier()), (ErrorKind::Host, Some("abc.onion")));
    assert_eq!(ca.count("POST /chall/*"), 0);
    assert!(ca.events.iter().any(|event| event.starts_with("UNPUBLISH onion-csr-01")));

    let mut ca = offering("onion-csr-01");
    let operation = ca.client.obtain(options()).unwrap();
    let shown = loop {
        match operation.poll(Time::from_millis(START)).unwrap() {
            Step::Request(request) => {
                let response = ca.respond_to(&request).unwrap();
                let reply = operation.reply(request.id);
                for (name, value) in &response.headers {
                    reply.header(name.as_bytes(), value).unwrap();
                }
                reply.body(&response.body).unwrap();
                reply.end(response.status).unwrap();
            }
            Step::Publish(challenges) => break challenges,
            step => panic!("{step:?}"),
        }
    };
    let json: serde_json::Value = serde_json::from_str(shown[0].json().unwrap()).unwrap();
    assert_eq!(json["nonce"], "bI6/MRqV4gw=");
    assert_eq!((shown[0].token(), shown[0].key_authorization()), ("", ""));
    for (n, bad, kind) in [
        (0, "[]", ErrorKind::InvalidArgument),
        (0, "{", ErrorKind::InvalidArgument),
        (0, "", ErrorKind::InvalidArgument),
        (1, "{}", ErrorKind::Misuse),
    ] {
        let error = operation.respond_with(n, bad.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{bad}");
    }
}

#[test]
fn a_device_is_attested_with_a_csr_made_elsewhere() {
    let mut ca = Script::new();
    ca.ca.offers = vec!["http-01", "device-attest-01"];
    ca.payload = Some(r#"{"attObj":"o2Nm"}"#.to_owned());
    ca.order(device_order()).unwrap();
    assert_eq!(ca.ca.authorizations[0].payload, json!({"attObj": "o2Nm"}));
    assert_eq!(ca.ca.authorizations[1].payload, json!({}));
    let mut options = device_order();
    options.csr = None;
    let error = Script::new().order(options).unwrap_err();
    assert!(error.to_string().contains("csr"), "{error}");
}
