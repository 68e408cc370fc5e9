//! An object of each kind, in each state of RFC 8555 section 7.1.6 and without a state, arrives
//! once at each of the six places where an order meets an object. The CA itself goes on as if it
//! had not sent that object.

use acme_micro::ErrorKind;
use acme_micro::engine::OrderOptions;
use serde_json::{Value, json};

use super::ca::Ca;
use super::script::Script;

/// The outcome of an order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// A certificate: the object was as expected, or the next fetch returned another one.
    Issued,
    /// The object does not belong at that place.
    Protocol,
    /// The object belongs there, and reports that the order has failed.
    Failed,
    /// The object reports that nothing is left to do, and the order never becomes ready.
    Timeout,
}

use Outcome::{Failed, Issued, Protocol, Timeout};

/// The places: a request, and its number as the harness counts.
const PLACES: [(&str, u32); 6] = [
    ("POST /new-order", 1),
    ("POST /authz/1", 1),
    ("POST /chall/1/http-01", 1),
    ("POST /order/1", 1),
    ("POST /finalize/1", 1),
    ("POST /order/1", 2),
];

/// Kind, state, and the outcome at each of the places. "as there" is the kind that belongs at the
/// place. The client fetches an object with an unknown state again, and then gets the real one; so it does
/// with each object that is not its order once the CA may have issued the certificate.
#[rustfmt::skip]
const TABLE: [(&str, &str, [Outcome; 6]); 17] = [
    //                              new order authorization challenge waiting finalize  waiting
    ("order",         "pending",     [Issued,   Protocol,   Issued, Issued,   Issued,   Issued]),
    ("order",         "ready",       [Issued,   Protocol,   Issued, Issued,   Issued,   Issued]),
    ("order",         "processing",  [Issued,   Protocol,   Issued, Issued,   Issued,   Issued]),
    ("order",         "valid",       [Issued,   Protocol,   Issued, Issued,   Issued,   Issued]),
    ("order",         "invalid",     [Failed,   Protocol,   Issued, Failed,   Failed,   Failed]),
    ("authorization", "pending",     [Protocol, Issued,     Issued, Protocol, Protocol, Issued]),
    ("authorization", "valid",       [Protocol, Timeout,    Issued, Protocol, Protocol, Issued]),
    ("authorization", "invalid",     [Protocol, Failed,     Issued, Protocol, Protocol, Issued]),
    ("authorization", "deactivated", [Issued,   Failed,     Issued, Issued,   Issued,   Issued]),
    ("authorization", "expired",     [Issued,   Failed,     Issued, Issued,   Issued,   Issued]),
    ("authorization", "revoked",     [Issued,   Failed,     Issued, Issued,   Issued,   Issued]),
    ("challenge",     "pending",     [Protocol, Protocol,   Issued, Protocol, Protocol, Issued]),
    ("challenge",     "processing",  [Protocol, Protocol,   Issued, Protocol, Protocol, Issued]),
    ("challenge",     "valid",       [Protocol, Protocol,   Issued, Protocol, Protocol, Issued]),
    ("challenge",     "invalid",     [Protocol, Protocol,   Issued, Protocol, Protocol, Issued]),
    ("as there",      "tomorrow",    [Issued,   Issued,     Issued, Issued,   Issued,   Issued]),
    ("as there",      "",            [Issued,   Issued,     Issued, Issued,   Issued,   Issued]),
];

fn object(ca: &Ca, kind: &str, state: &str) -> Value {
    let mut object = match kind {
        "order" => ca.order(0),
        "authorization" => ca.authorization(0),
        _ => ca.authorization(0)["challenges"][0].clone(),
    };
    let members = object.as_object_mut().unwrap();
    members.remove("certificate");
    match state {
        "" => members.remove("status"),
        state => members.insert("status".to_owned(), json!(state)),
    };
    object
}

fn kind_at(place: &str) -> &'static str {
    match place {
        "POST /authz/1" => "authorization",
        "POST /chall/1/http-01" => "challenge",
        _ => "order",
    }
}

fn check(kind: &'static str, state: &'static str, (place, nth): (&str, u32), expected: Outcome) {
    let mut ca = Script::new();
    let kind = if kind == "as there" { kind_at(place) } else { kind };
    ca.on(place).nth(nth).then(move |ca, response| {
        response.body = object(ca, kind, state).to_string().into_bytes();
    });
    let operation = ca.client.obtain(OrderOptions::new(["example.org"])).unwrap();
    let outcome = ca.run(&operation);
    let cell = format!("{kind} {state:?} at {place}, {nth}");
    let known = operation.order_url();
    let expected_kind = match expected {
        Issued => None,
        Protocol => Some(ErrorKind::Protocol),
        Failed => Some(ErrorKind::Order),
        Timeout => Some(ErrorKind::Timeout),
    };
    match &outcome {
        Ok(issued) => assert_eq!(issued.chain.names(), ["example.org"], "{cell}"),
        Err(error) => {
            assert!(error.url().is_some(), "{cell}: {error}");
            assert_eq!(error.http_status(), None, "{cell}: {error}");
        }
    }
    let met = outcome.as_ref().err().map(|error| error.kind());
    assert_eq!(met, expected_kind, "{cell}: {:?}", ca.transcript);
    // The caller can inspect or resume a failed order by its URL.
    assert_eq!(known.as_deref(), Some("https://ca.example/order/1"), "{cell}");
    // An issuance takes ten requests; an unclear or earlier state costs some more.
    let most = if expected == Timeout { 110 } else { 10 + 12 };
    assert!(ca.transcript.len() <= most, "{cell}: {:?}", ca.transcript);
    assert_eq!(ca.ca.orders.len(), 1, "{cell}");
    // The client publishes nothing after a refusal at these places.
    if outcome.is_err() && nth == 1 && ["POST /new-order", "POST /authz/1"].contains(&place) {
        assert!(!ca.published("*"), "{cell}");
    }
    let responses: u32 = ca.ca.authorizations.iter().map(|a| a.responses).sum();
    assert!(responses <= 1, "{cell}");
}

#[test]
fn each_object_in_each_state_at_each_place_has_its_outcome() {
    let mut cells = 0;
    for (kind, state, outcomes) in TABLE {
        for (place, outcome) in PLACES.into_iter().zip(outcomes) {
            check(kind, state, place, outcome);
            cells += 1;
        }
    }
    assert_eq!(cells, 102);
}
