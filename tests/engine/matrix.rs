//! Spoils each response of each operation once in each way; the outcome of each cell is known
//! beforehand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use acme_micro::engine::{AuthorizeOptions, OrderOptions, RevocationReason};
use acme_micro::{AcmeError, CertificateChain, ErrorKind, Key, KeyType};
use serde_json::{Value, json};

use super::ca::{BASE, Ca, Response};
use super::pki::{self, Contents};
use super::script::{Script, make_account};

/// A way to spoil a request or its response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The request does not reach the CA.
    LostRequest,
    /// The CA does the work; no response comes back, or half of one (`Cut`).
    LostResponse,
    Cut,
    /// The CA does not do the work and responds with this status, problem type (`None`: an HTML
    /// page) and Retry-After.
    Refused(u16, Option<&'static str>, Option<&'static str>),
    /// The CA does the work and responds with this status and an HTML page.
    Broken(u16),
    /// A badNonce problem without a fresh nonce.
    BadNonceAlone,
    /// The status and the body are replaced with these.
    Body(u16, &'static [u8]),
    /// The body ends in its middle.
    Truncated,
    /// The body is deeply nested, or is one byte longer than 1 MiB.
    Deep,
    TooLarge,
    /// This header field is added; it replaces one of the same name.
    Header(&'static str, &'static str),
    Without(&'static str),
    /// The header has more lines, or more bytes, than the limit.
    ManyHeaders,
    LongHeader,
    /// The status is another one of success.
    Status(u16),
    StaleNonce,
    ByteOrderMark,
    MoreMembers,
    /// A redirect to this URL.
    Redirect(u16, &'static str),
    /// The URLs in the body lead to this host.
    Urls(&'static str),
    /// The object has an unknown status.
    StrangeState,
}

use Fault::*;

const FAULTS: [Fault; 62] = [
    LostRequest,
    LostResponse,
    Cut,
    Refused(500, Some("serverInternal"), None),
    Refused(502, None, None),
    Refused(503, None, None),
    Refused(503, Some("serverInternal"), None),
    Refused(504, None, None),
    Refused(408, None, None),
    Refused(503, Some("rateLimited"), Some("5")),
    Refused(503, None, Some("5")),
    Refused(429, Some("rateLimited"), Some("5")),
    Refused(429, None, Some("0")),
    Refused(429, None, Some("Tue, 24 Nov 2026 14:24:25 GMT")),
    Broken(500),
    Broken(502),
    Broken(503),
    Refused(400, Some("badNonce"), None),
    Refused(403, Some("badNonce"), None),
    BadNonceAlone,
    Refused(429, Some("rateLimited"), None),
    Refused(429, None, None),
    Refused(429, Some("rateLimited"), Some("7200")),
    Refused(503, None, Some("7200")),
    Refused(503, None, Some("Fri, 31 Dec 9999 23:59:59 GMT")),
    Refused(400, Some("malformed"), None),
    Refused(403, Some("unauthorized"), None),
    Refused(401, None, None),
    Refused(404, None, None),
    Refused(405, None, None),
    Refused(410, Some("malformed"), None),
    Body(200, b"<!DOCTYPE html><title>Welcome to the hotel</title>"),
    Body(200, b""),
    Body(204, b""),
    Body(200, b"null"),
    Body(200, b"[]"),
    Body(200, b"7"),
    Body(200, b"\"valid\""),
    Body(200, b"{}"),
    Body(200, b"\xff\xfe\x00\x01"),
    Body(200, br#"{"type":"urn:ietf:params:acme:error:serverInternal","status":500}"#),
    Truncated,
    Deep,
    TooLarge,
    Header("Set-Cookie", "a=b"),
    Header("Retry-After", "5"),
    Header("Retry-After", "soon"),
    Header("Content-Type", "text/html"),
    Header("Replay-Nonce", "no nonce!"),
    Header("Link", "<\x01>;;,<"),
    Without("Content-Type"),
    Without("Replay-Nonce"),
    ManyHeaders,
    LongHeader,
    Status(202),
    StaleNonce,
    ByteOrderMark,
    MoreMembers,
    Redirect(302, "/directory"),
    Redirect(307, "https://evil.example/"),
    Redirect(301, "http://ca.example/"),
    StrangeState,
];

/// Faults of URLs, which only some responses contain.
const OF_URLS: [Fault; 5] = [
    Urls("https://evil.example"),
    Urls("http://ca.example"),
    Urls("https://169.254.169.254"),
    Header("Location", "https://evil.example/order/1"),
    Without("Location"),
];

/// The outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Done,
    Fails(ErrorKind),
}

use Outcome::{Done, Fails};

/// An operation: its name, and the function that runs it.
struct Flow {
    name: &'static str,
    run: fn(&mut Script) -> Result<(), AcmeError>,
    /// Its requests when nothing fails.
    requests: &'static [&'static str],
}

const FLOWS: [Flow; 9] = [
    Flow {
        name: "register",
        run: |ca| ca.register().map(|_| ()),
        requests: &["directory", "nonce", "account"],
    },
    Flow {
        name: "obtain",
        run: |ca| ca.obtain(&["example.org"]).map(|_| ()),
        requests: &[
            "directory",
            "nonce",
            "account",
            "new order",
            "authorization",
            "challenge",
            "ready order",
            "finalize",
            "valid order",
            "certificate",
        ],
    },
    Flow {
        name: "renew",
        run: |ca| {
            let mut options = OrderOptions::new(["example.org"]);
            options.replaces = Some(old_chain());
            let operation = ca.client.renew(options)?;
            ca.run(&operation).map(|_| ())
        },
        requests: &[
            "directory",
            "renewal info",
            "nonce",
            "account",
            "new order",
            "authorization",
            "challenge",
            "ready order",
            "finalize",
            "valid order",
            "certificate",
        ],
    },
    Flow {
        name: "renewal info",
        run: |ca| {
            let operation = ca.client.renewal_info(&old_chain());
            ca.run(&operation).map(|_| ())
        },
        requests: &["directory", "renewal info"],
    },
    Flow {
        name: "revoke",
        run: |ca| {
            let reason = RevocationReason::Superseded;
            let operation = ca.client.revoke(&old_chain(), reason, None)?;
            ca.run(&operation)?;
            assert!(!ca.ca.revoked.is_empty());
            Ok(())
        },
        requests: &["directory", "nonce", "account", "revoke"],
    },
    Flow {
        name: "change the key",
        run: |ca| {
            let new = Key::generate(KeyType::P256).unwrap();
            let operation = ca.client.change_key(&new);
            ca.run(&operation)?;
            assert_eq!(ca.client.account_key().thumbprint(), new.thumbprint());
            Ok(())
        },
        requests: &["directory", "nonce", "account", "key change", "new key"],
    },
    Flow {
        name: "update the contacts",
        run: |ca| {
            let contacts = vec!["mailto:new@example.org".to_owned()];
            let operation = ca.client.update_contacts(contacts)?;
            ca.run(&operation)
        },
        requests: &["directory", "nonce", "account", "contacts"],
    },
    Flow {
        name: "deactivate the account",
        run: |ca| {
            let operation = ca.client.deactivate_account();
            ca.run(&operation)
        },
        requests: &["directory", "nonce", "account", "deactivate"],
    },
    Flow {
        name: "authorize",
        run: |ca| {
            let operation = ca.client.authorize(AuthorizeOptions::new(["example.org"]))?;
            ca.run(&operation).map(|_| ())
        },
        requests: &["directory", "nonce", "account", "new authorization", "challenge", "poll"],
    },
];

/// Returns a certificate that is due, by the CA's renewal information and by its lifetime.
fn old_chain() -> CertificateChain {
    static CHAIN: OnceLock<CertificateChain> = OnceLock::new();
    let make = || {
        let (names, from, until) = (&["example.org"], -85 * 86_400, 5 * 86_400);
        let contents = Contents { names, from, until, ..Contents::default() };
        let leaf = pki::leaf(&pki::new_key(), &contents);
        CertificateChain::parse(&pki::pem(&[&leaf, &pki::intermediate().certificate])).unwrap()
    };
    CHAIN.get_or_init(make).clone()
}

/// The CA that responds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Plain,
    Boulder,
    StepCa,
}

use Server::{Boulder, Plain, StepCa};

impl Flow {
    /// Returns its requests at this CA when nothing fails.
    fn requests_at(&self, server: Server) -> Vec<&'static str> {
        // step-ca returns the valid order in its response to finalize.
        let is_asked = |request: &&str| server != StepCa || *request != "valid order";
        self.requests.iter().copied().filter(is_asked).collect()
    }
}

/// Returns a CA that offers everything, and a client that knows nothing of it yet.
fn script(flow: &Flow, server: Server) -> Script {
    let mut ca = Script::new();
    match server {
        Plain => {}
        // Validation ends before the first poll, so the requests are the same as at the plain CA.
        Boulder => {
            ca.ca = Ca::boulder();
            (ca.ca.validation_takes, ca.ca.caches_keys_for) = (1, 500);
        }
        StepCa => ca.ca.processing_fetches = 0,
    }
    ca.ca.renewal_window = Some((-2, -1));
    ca.ca.pre_authorizes = true;
    if ["revoke", "change the key", "deactivate the account"].contains(&flow.name) {
        make_account(&mut ca.ca, &ca.account_key);
    }
    ca
}

/// Spoils the n-th request, counted from 1, or its response.
fn spoil(script: &mut Script, n: u32, fault: Fault) {
    let on = script.on("*").nth(n);
    match fault {
        LostRequest => on.lose_request(),
        LostResponse => on.lose_response(),
        BadNonceAlone => on.respond(Response::problem(400, "badNonce").without_nonce()),
        Refused(status, problem, retry_after) => {
            let mut response = match problem {
                Some(name) => Response::problem(status, name),
                None => Response::new(status, "<html>Sorry").header("Content-Type", "text/html"),
            };
            if let Some(value) = retry_after {
                response.set("Retry-After", value);
            }
            on.respond(response);
        }
        Redirect(status, location) => {
            on.respond(Response::new(status, "").header("Location", location))
        }
        _ => on.then(move |ca, response| spoil_response(ca, response, fault)),
    }
}

fn spoil_response(ca: &mut Ca, response: &mut Response, fault: Fault) {
    match fault {
        Cut => response.cut = true,
        Broken(status) => *response = Response::new(status, "<html>Bad Gateway"),
        Body(status, body) => {
            response.status = status;
            response.body = body.to_vec();
        }
        Truncated => response.body.truncate(response.body.len() / 2),
        Deep => response.body = br#"{"status":"#.repeat(10_000),
        TooLarge => response.body = vec![b' '; 1024 * 1024 + 1],
        Header(name, value) => response.set(name, value),
        Without("Replay-Nonce") => response.nonce = false,
        Without(name) => response.remove(name),
        ManyHeaders => response.headers.extend((0..130).map(|_| ("X".to_owned(), vec![b'y']))),
        LongHeader => response.set("X", &"y".repeat(64 * 1024)),
        Status(status) => response.status = status,
        StaleNonce => ca.stale_nonces = 1,
        ByteOrderMark => {
            response.body.splice(0..0, *b"\xef\xbb\xbf");
        }
        MoreMembers => edit(response, |members| {
            members.insert("tomorrow".to_owned(), json!([{"status": "valid"}, null, 1e300]));
        }),
        StrangeState => edit(response, |members| {
            if members.contains_key("status") {
                members.insert("status".to_owned(), json!("tomorrow"));
            }
        }),
        Urls(elsewhere) => {
            let text = String::from_utf8_lossy(&response.body).replace(BASE, elsewhere);
            response.body = text.into_bytes();
        }
        fault => panic!("{fault:?} does not spoil a response"),
    }
}

/// Changes the members of the response if its body is a JSON object.
fn edit(response: &mut Response, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    if let Ok(Value::Object(mut members)) = serde_json::from_slice(&response.body) {
        change(&mut members);
        response.body = Value::Object(members).to_string().into_bytes();
    }
}

/// Returns the expected outcome of an operation with one spoiled request or response.
fn expected(flow: &str, request: &str, fault: Fault) -> Outcome {
    let is = |requests: &[&str]| requests.contains(&request);
    let certificate = is(&["certificate"]);
    // Without the CA's renewal information the lifetime of the certificate decides.
    if flow == "renewal info" || is(&["renewal info"]) {
        return Done;
    }
    // The key has been changed by then: later responses do not undo that.
    if is(&["new key"]) {
        return Done;
    }
    // The refusal may be about `replaces`; or a replica of the CA does not know the certificate
    // yet.
    let forgiven = |status: u16| match request {
        "new order" => flow == "renew" && [400, 403, 404, 409].contains(&status),
        "certificate" => [403, 404].contains(&status),
        _ => false,
    };
    // The client ignores the content of these responses: another resource decides.
    let unread = is(&["nonce", "challenge", "revoke", "key change", "contacts", "deactivate"]);
    // Location has the URL of what the CA has made; or the client fetches the order again.
    let found = is(&["account", "new order", "finalize", "valid order"]);
    match fault {
        LostRequest | LostResponse | Cut | Broken(_) | BadNonceAlone | StaleNonce => Done,
        Refused(408 | 500..=599, _, None) | Refused(_, Some("badNonce"), _) => Done,
        Refused(429 | 503, _, Some("7200" | "Fri, 31 Dec 9999 23:59:59 GMT"))
        | Refused(429, _, None) => Fails(ErrorKind::RateLimited),
        Refused(429 | 503, ..) => Done,
        Refused(status, ..) if forgiven(status) => Done,
        Refused(403, Some("unauthorized"), _) if is(&["account"]) => Fails(ErrorKind::Account),
        Refused(..) => Fails(ErrorKind::Problem),
        // The CA has accepted the response to the challenge: the authorization becomes valid.
        Body(_, body) if body.starts_with(b"{\"type\"") => match request {
            "challenge" => Done,
            _ => Fails(ErrorKind::Server),
        },
        Body(_, b"") if certificate => Done,
        // The client fetches an order without a status again.
        Body(_, b"{}") if is(&["ready order"]) => Done,
        Body(..) | Truncated | Deep if unread || found => Done,
        // The client finds out whether the request took effect.
        TooLarge | ManyHeaders | LongHeader
            if is(&["challenge", "finalize", "valid order", "key change", "deactivate"]) =>
        {
            Done
        }
        Body(..) | Truncated | Deep | ByteOrderMark if certificate => Fails(ErrorKind::Certificate),
        Body(..) | Truncated | Deep | TooLarge | ManyHeaders | LongHeader => {
            Fails(ErrorKind::Protocol)
        }
        Redirect(302, _) if is(&["directory"]) => Done,
        Redirect(..) => Fails(ErrorKind::Policy),
        StrangeState if is(&["account"]) => Fails(ErrorKind::Account),
        Urls(_) => {
            let followed = ["directory", "new order", "authorization", "new authorization"];
            match is(&followed) || is(&["ready order", "valid order"]) {
                true => Fails(ErrorKind::Policy),
                false => Done,
            }
        }
        Header("Location", _) if is(&["account", "new order", "new authorization"]) => {
            Fails(ErrorKind::Policy)
        }
        Without("Location") if is(&["account", "new order", "new authorization"]) => {
            Fails(ErrorKind::Protocol)
        }
        Header(..) | Without(_) | Status(_) | ByteOrderMark | MoreMembers | StrangeState => Done,
    }
}

/// Runs one cell; an error reports how the outcome is wrong.
fn check(flow: &Flow, server: Server, n: usize, fault: Fault) -> Result<(), String> {
    let mut ca = script(flow, server);
    spoil(&mut ca, u32::try_from(n).unwrap() + 1, fault);
    let outcome = (flow.run)(&mut ca);
    let met = match &outcome {
        Ok(()) => Done,
        Err(error) => Fails(error.kind()),
    };
    let request = flow.requests_at(server)[n];
    let expected = match fault {
        // At step-ca the response to finalize has the certificate's URL.
        Urls(_) if server == StepCa && request == "finalize" => Fails(ErrorKind::Policy),
        fault => expected(flow.name, request, fault),
    };
    let wrong = |what: &str| Err(format!("{what}: {outcome:?} {:?}", ca.transcript));
    if met != expected {
        return wrong(&format!("{expected:?} was expected"));
    }
    if ca.transcript.len() > flow.requests.len() + 5 {
        return wrong("too many requests");
    }
    if ca.elapsed().as_secs() > 60 {
        return wrong("it took too long");
    }
    let finalized: u32 = ca.ca.orders.iter().map(|order| order.finalizes).sum();
    if ca.ca.orders.len() > 2 || ca.ca.accounts_made > 1 || finalized > 1 {
        return wrong("an object was created twice");
    }
    let Err(error) = &outcome else { return Ok(()) };
    if error.url().is_none() {
        return wrong("the error has no URL");
    }
    let says_all = match fault {
        Refused(status, problem, retry_after) => {
            error.http_status() == Some(status)
                && error.problem().and_then(|problem| problem.name()) == problem
                && error.retry_at().is_some() == retry_after.is_some()
                && error.is_permanent() == (status < 500 && status != 429)
        }
        _ => error.retry_at().is_none(),
    };
    match says_all {
        true => Ok(()),
        false => wrong("the error lacks a status, a problem or a time"),
    }
}

/// Runs cells on four threads; wrong cells fail the test.
fn run<T: Sync>(cells: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| check(cell)));
                    let outcome = outcome.unwrap_or_else(|_| Err("it panicked".to_owned()));
                    wrong.lock().unwrap().extend(outcome.err());
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let shown = wrong.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {} cells:\n{shown}", wrong.len(), cells.len());
}

fn all_faults() -> impl Iterator<Item = Fault> {
    FAULTS.into_iter().chain(OF_URLS)
}

#[test]
fn each_spoiled_response_of_each_operation_has_its_outcome() {
    let mut cells = Vec::new();
    for server in [Plain, Boulder, StepCa] {
        for flow in &FLOWS {
            let requests = flow.requests_at(server);
            let mut ca = script(flow, server);
            (flow.run)(&mut ca).unwrap();
            // Boulder refuses the first request with the new key.
            let more = usize::from(server == Boulder && flow.name == "change the key");
            let made = ca.transcript.len();
            assert_eq!(made, requests.len() + more, "{}: {:?}", flow.name, ca.transcript);
            for n in 0..requests.len() {
                cells.extend(all_faults().map(|fault| (flow, server, n, fault)));
            }
        }
    }
    assert!(cells.len() > 9000, "{}", cells.len());
    run(&cells, |(flow, server, n, fault)| {
        let request = flow.requests_at(*server)[*n];
        let what = format!("{server:?}: {}, {request}, {fault:?}", flow.name);
        check(flow, *server, *n, *fault).map_err(|why| format!("{what:.120}: {why}"))
    });
}

/// Returns the outcomes that this fault may have at any request of an operation.
fn possible(flow: &Flow, fault: Fault) -> impl Iterator<Item = Outcome> {
    flow.requests.iter().map(move |request| expected(flow.name, request, fault))
}

/// Whether the fault uses up one of a request's attempts: two faults may hit the same request.
fn may_end_tries(fault: Fault) -> bool {
    matches!(
        fault,
        LostRequest | LostResponse | Cut | Broken(_) | Refused(408 | 429 | 500..=599, ..)
    )
}

fn check_pair(flow: &Flow, [first, second]: [(usize, Fault); 2]) -> Result<(), String> {
    let mut ca = script(flow, Plain);
    for (n, fault) in [first, second] {
        spoil(&mut ca, u32::try_from(n).unwrap() + 1, fault);
    }
    let outcome = (flow.run)(&mut ca);
    let what = format!("{}, {first:?}, {second:?}", flow.name);
    let wrong = |why: &str| Err(format!("{what:.160}: {why}: {outcome:?} {:?}", ca.transcript));
    if let Err(error) = &outcome {
        let met = Fails(error.kind());
        let known = possible(flow, first.1).chain(possible(flow, second.1)).any(|one| one == met);
        let gave_up = may_end_tries(first.1)
            && may_end_tries(second.1)
            && matches!(
                error.kind(),
                ErrorKind::Transport
                    | ErrorKind::Problem
                    | ErrorKind::Server
                    | ErrorKind::RateLimited
            );
        // The client asked which key the CA knows, and the CA's "not this one" was spoiled.
        let unclear = flow.name == "change the key" && error.http_status() == Some(400);
        if !known && !gave_up && !unclear {
            return wrong("neither fault explains this");
        }
    }
    let finalized: u32 = ca.ca.orders.iter().map(|order| order.finalizes).sum();
    if ca.ca.orders.len() > 2 || ca.ca.accounts_made > 1 || finalized > 1 {
        return wrong("an object was created twice");
    }
    if ca.transcript.len() > flow.requests.len() + 10 {
        return wrong("too many requests");
    }
    Ok(())
}

/// Spoils two responses of one operation: every 1000th pair; `ACME_PAIRS` sets another stride.
#[test]
fn two_spoiled_responses_do_no_more_harm_than_each() {
    #[allow(clippy::disallowed_methods)] // the developer sets the stride
    let stride = std::env::var("ACME_PAIRS").map_or(1000, |text| text.parse().unwrap());
    let mut pairs = Vec::new();
    for flow in &FLOWS {
        for second in 1..flow.requests.len() {
            for first in 0..second {
                let faults = all_faults().flat_map(|a| all_faults().map(move |b| (a, b)));
                pairs.extend(faults.map(|(a, b)| (flow, [(first, a), (second, b)])));
            }
        }
    }
    assert!(pairs.len() > 500_000, "{}", pairs.len());
    let pairs: Vec<_> = pairs.into_iter().step_by(stride).collect();
    run(&pairs, |(flow, pair)| check_pair(flow, *pair));
}
