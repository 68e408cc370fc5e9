//! Encoding of requests: payloads, and foreign text in them. RFC 8555 section 6, RFC 8259.

use acme_micro::ErrorKind;
use acme_micro::engine::{Client, ClientOptions, OrderOptions};
use acme_micro::{Key, KeyType};
use serde_json::{Value, json};

use super::jws::{Jws, decode};
use super::script::Script;

/// Returns the signed payloads of all requests whose paths start like this.
fn payloads(ca: &Script, what: &str) -> Vec<String> {
    let requests = ca.transcript.iter().zip(&ca.bodies);
    requests
        .filter(|(request, _)| request.starts_with(what))
        .map(|(_, body)| {
            let jws = Jws::parse(&serde_json::from_slice(body).unwrap());
            String::from_utf8(jws.payload).unwrap()
        })
        .collect()
}

#[test]
fn j02_no_payload_and_an_empty_object_are_different_payloads() {
    let mut ca = Script::new();
    ca.obtain(&["example.org"]).unwrap();
    for what in ["POST /authz/", "POST /order/", "POST /cert/"] {
        let payloads = payloads(&ca, what);
        assert!(!payloads.is_empty() && payloads.iter().all(String::is_empty), "{what}");
    }
    assert_eq!(payloads(&ca, "POST /chall/"), ["{}"]);
    // On the wire the payload is the empty string, and not base64url of "null" or "\"\"".
    let body = |what: &str| -> Value {
        let at = ca.transcript.iter().position(|request| request.starts_with(what)).unwrap();
        serde_json::from_slice(&ca.bodies[at]).unwrap()
    };
    assert_eq!(body("POST /authz/")["payload"], "");
    assert_eq!(body("POST /chall/")["payload"], "e30");
}

/// Text with a meaning in JSON, and text without a meaning anywhere.
const NASTY: [&str; 8] = [
    "\"",
    "\\",
    "a\"},\"b\":{\"c\":\"",
    "\\u0000",
    "\u{7f}</script>",
    "\u{2028}\u{2029}\u{feff}",
    "\u{1f600}\u{fffd}",
    "%00%0a{{7*7}}$(id)",
];

#[test]
fn j07_foreign_text_stays_text() {
    let mut taken = 0;
    for text in NASTY {
        // Only the CA judges the name of a profile.
        let mut ca = Script::new();
        ca.on("GET /directory").edit(move |directory| {
            directory["meta"]["profiles"] = json!({text: "a profile"});
        });
        let mut order = OrderOptions::new(["example.org"]);
        order.profile = Some(text.to_owned());
        match ca.order(order) {
            Ok(_) => {
                let payload: Value =
                    serde_json::from_str(&payloads(&ca, "POST /new-order")[0]).unwrap();
                assert_eq!(payload["profile"], text);
                assert_eq!(payload.as_object().unwrap().len(), 2, "{payload}");
                taken += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}: {error}"),
        }
        // A contact is a URL: invalid characters are refused, all others are sent unchanged.
        let contact = format!("mailto:{text}@example.org");
        let mut options = ClientOptions::new(
            "https://ca.example/directory",
            Key::generate(KeyType::P256).unwrap(),
        );
        options.contacts = vec![contact.clone()];
        match Client::new(options) {
            Ok(_) => {
                let mut ca = Script::with(|options| options.contacts = vec![contact.clone()]);
                ca.register().unwrap();
                let payload: Value =
                    serde_json::from_str(&payloads(&ca, "POST /new-account")[0]).unwrap();
                assert_eq!(payload["contact"], json!([contact]));
                assert_eq!(payload.as_object().unwrap().len(), 2, "{payload}");
                taken += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}: {error}"),
        }
    }
    assert!(taken >= 8, "only {taken} texts were accepted: too few to test anything");
    for control in (0..0x20).filter_map(char::from_u32) {
        let contacts = vec![format!("mailto:a{control}@example.org")];
        let mut options = ClientOptions::new(
            "https://ca.example/directory",
            Key::generate(KeyType::P256).unwrap(),
        );
        options.contacts = contacts;
        let refused = Client::new(options).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn j07_a_nonce_cannot_break_out_of_the_jws_header() {
    for bad in ["a\",\"alg\":\"none", "a\\", "{}", "a b"] {
        let mut ca = Script::new();
        ca.on("GET /new-nonce").nth(1).then(move |_, response| response.set("Replay-Nonce", bad));
        ca.obtain(&["example.org"]).unwrap();
        for body in ca.bodies.iter().filter(|body| !body.is_empty()) {
            let body: Value = serde_json::from_slice(body).unwrap();
            let header = String::from_utf8(decode(body["protected"].as_str().unwrap())).unwrap();
            assert!(!header.contains("none\""), "{header}");
        }
    }
}
