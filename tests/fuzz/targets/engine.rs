//! Whole operations against a CA whose responses follow the fuzzer's bytes: correct, mutated or
//! missing. When the bytes are used up, the CA is correct, so that every input gets far.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::bytes::Bytes;
use super::parsers::check_error;
use crate::engine::{
    AuthorizeOptions, Challenge, ChallengeType, Client, ClientOptions, Method, Operation,
    OrderOptions, Request, RevocationReason, Step,
};
use crate::error::{Error, ErrorKind};
use crate::pki::{CertificateChain, ChainPreference, Key};
use crate::time::Time;

const BASE: &str = "https://ca.example";
/// The time at the start, within the lifetime of the fixtures.
const START: i64 = 1_800_000_000_000;
const ONE: &[u8] = include_bytes!("../fixtures/one.pem");
const THREE: &[u8] = include_bytes!("../fixtures/three.pem");
const ONE_OLD: &[u8] = include_bytes!("../fixtures/one-old.pem");
const THREE_OLD: &[u8] = include_bytes!("../fixtures/three-old.pem");
const NAMES: [&str; 3] = ["example.org", "*.example.org", "www.example.net"];
/// Maximum number of requests per operation: far above what a correct CA needs.
const MOST_REQUESTS: usize = 3_000;
/// Time limit of an operation, by a clock that the fuzzer may advance.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The keys, the same in every run, because the chains are issued in advance.
fn keys() -> &'static (Key, Key, Key) {
    static KEYS: OnceLock<(Key, Key, Key)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let account = Key::parse(include_bytes!("../fixtures/account.pem")).unwrap();
        let key = Key::parse(include_bytes!("../fixtures/key.pem")).unwrap();
        let public = key.public_key().public_key_to_pem().unwrap();
        (account, Key::external(&public).unwrap(), key)
    })
}

fn client(bytes: &mut Bytes<'_>) -> Client {
    let mut options = ClientOptions::new(format!("{BASE}/directory"), keys().0.clone());
    let flags = bytes.byte();
    options.terms_agreed = flags & 1 == 0;
    options.account_url = (flags & 2 != 0).then(|| format!("{BASE}/account/1"));
    options.seed = Some(7);
    Client::new(options).unwrap()
}

/// Obtains or renews a certificate, or authorizes names ahead of an order.
pub fn obtain(data: &[u8]) {
    let mut bytes = Bytes(data);
    let client = client(&mut bytes);
    let flags = bytes.byte();
    let names = if flags & 1 == 0 { &NAMES[..1] } else { &NAMES[..] };
    let chain = if flags & 1 == 0 { ONE } else { THREE };
    let mut options = OrderOptions::new(names.iter().copied());
    let types = [ChallengeType::Http01, ChallengeType::DnsPersist01, ChallengeType::TlsAlpn01];
    options.challenge_types = vec![types[usize::from(flags >> 1) % 3], ChallengeType::Dns01];
    // A key outside the process, so that the host has to sign.
    let (_, external, private) = keys();
    options.key = Some(if flags & 8 != 0 { external.clone() } else { private.clone() });
    options.order_url = (flags & 16 != 0).then(|| format!("{BASE}/order/1"));
    options.abandon_on_failure = flags & 32 != 0;
    let replaced = if flags & 1 == 0 { ONE_OLD } else { THREE_OLD };
    let replaced = CertificateChain::parse(replaced).unwrap();
    options.replaces = (flags & 64 != 0).then(|| replaced.clone());
    if flags & 128 != 0 {
        options.preferred_chain = Some(ChainPreference::Root("Another CA".to_owned()));
        (options.profile, options.profile_optional) = (Some("short".to_owned()), true);
    }
    let kind = bytes.below(4);
    if kind == 3 {
        let mut options = AuthorizeOptions::new([NAMES[0], NAMES[2]]);
        options.subdomains = flags & 1 != 0;
        run(&client.authorize(options).unwrap(), bytes, chain);
    } else if kind == 2 && options.replaces.is_some() {
        run(&client.renew(options).unwrap(), bytes, chain);
    } else if let Some(issued) = run(&client.obtain(options).unwrap(), bytes, chain) {
        assert!(issued.chain.is_for_key(private));
        let mut got: Vec<&str> = issued.chain.names().iter().map(String::as_str).collect();
        let mut wanted = names.to_vec();
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "a certificate for others than was asked for");
    }
}

/// The other flows.
pub fn account(data: &[u8]) {
    let mut bytes = Bytes(data);
    let client = client(&mut bytes);
    let chain = CertificateChain::parse(ONE).unwrap();
    let (account, external, private) = keys();
    let authorization = format!("{BASE}/authz/1");
    match bytes.below(12) {
        0 => _ = run(&client.register(), bytes, ONE),
        1 => _ = run(&client.find_account(), bytes, ONE),
        2 => {
            let contacts = vec!["mailto:a@example.org".to_owned()];
            _ = run(&client.update_contacts(contacts).unwrap(), bytes, ONE);
        }
        3 => _ = run(&client.change_key(private), bytes, ONE),
        4 => _ = run(&client.change_key(external), bytes, ONE),
        5 => _ = run(&client.deactivate_account(), bytes, ONE),
        6 => {
            if let Some(info) = run(&client.renewal_info(&chain), bytes, ONE) {
                info.is_due(Time::from_millis(START));
            }
        }
        7 => _ = run(&client.deactivate_authorization(&authorization).unwrap(), bytes, ONE),
        8 => _ = run(&client.abandon_order(&format!("{BASE}/order/1")).unwrap(), bytes, ONE),
        9 => _ = run(&client.orders(), bytes, ONE),
        10 => {
            let reason = RevocationReason::Superseded;
            _ = run(&client.revoke(&chain, reason, None).unwrap(), bytes, ONE);
        }
        _ => {
            let reason = RevocationReason::KeyCompromise;
            _ = run(&client.revoke(&chain, reason, Some(external)).unwrap(), bytes, ONE);
        }
    }
    assert_eq!(client.account_key().thumbprint().len(), account.thumbprint().len());
}

/// A response of the CA.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The correct CA, the host, and their state.
struct World<'a> {
    bytes: Bytes<'a>,
    chain: &'a [u8],
    now: i64,
    /// Time by which the fuzzer moved the clock.
    moved: i64,
    requests: usize,
    nonces: u64,
    /// The challenges that got a response, and the order that was finalized.
    answered: [bool; 3],
    deactivated: [bool; 3],
    finalized: bool,
    looks: u32,
    /// Whether authorizations also cover subdomains.
    subdomains: bool,
    /// For each nonce, the times that it was issued minus the times that it was used.
    handed_out: BTreeMap<Vec<u8>, i64>,
    published: BTreeMap<(&'static str, String, String), i64>,
    last: Option<Answer>,
}

/// Runs an operation to its end.
fn run<T>(operation: &Operation<T>, bytes: Bytes<'_>, chain: &[u8]) -> Option<T> {
    let good = bytes.0.is_empty();
    let mut world = World {
        bytes,
        chain,
        now: START,
        moved: 0,
        requests: 0,
        nonces: 0,
        answered: [false; 3],
        deactivated: [false; 3],
        finalized: false,
        looks: 0,
        subdomains: false,
        handed_out: BTreeMap::new(),
        published: BTreeMap::new(),
        last: None,
    };
    let mut waiting: Vec<Arc<Request>> = Vec::new();
    for _ in 0..10 * MOST_REQUESTS {
        let step = match operation.poll(Time::from_millis(world.now)) {
            Ok(step) => step,
            Err(error) => {
                world.end(&waiting, operation);
                assert!(!good, "a good CA: {error:?}");
                check_failure(&error);
                assert!(operation.take().is_none());
                return None;
            }
        };
        match step {
            Step::Request(request) => {
                world.check(&request);
                waiting.push(request);
                // The response comes at once, or later together with others.
                if world.bytes.byte() & 3 != 3 {
                    world.answer_one(operation, &mut waiting);
                }
            }
            Step::Wait(delay) if waiting.is_empty() => {
                let delay = delay.expect("it waits for nothing, for ever");
                assert!(delay > Duration::ZERO, "a wait for no time");
                world.now += delay.as_millis() as i64;
            }
            Step::Wait(_) => world.answer_one(operation, &mut waiting),
            Step::Sign(to_sign) => {
                let signed = match world.bytes.below(8) {
                    7 => Err("the token is gone".to_owned()),
                    6 => Ok(world.bytes.raw().to_vec()),
                    _ => Ok(keys().2.sign(&to_sign.input).unwrap()),
                };
                operation.signed(to_sign.id, signed).unwrap();
            }
            Step::Publish(challenges) => {
                world.publish(&challenges, 1);
                for (n, challenge) in challenges.iter().enumerate() {
                    let taken = operation.respond_with(n, b"{}");
                    assert_eq!(taken.is_ok(), challenge.kind().takes_payload());
                }
                let failed = world.bytes.below(16) == 15;
                let outcome = if failed { Err("the disk is full".to_owned()) } else { Ok(()) };
                operation.published(outcome).unwrap();
            }
            Step::Unpublish(challenges) => world.publish(&challenges, -1),
            Step::Store(access) => access.perform(),
            Step::Done => {
                world.end(&waiting, operation);
                let value = operation.take();
                assert!(value.is_some(), "done without a result");
                return value;
            }
        }
        let elapsed = Duration::from_millis((world.now - START - world.moved) as u64);
        assert!(elapsed <= TIME_LIMIT + Duration::from_secs(1), "longer than its limit");
    }
    panic!("it does not end: {} requests", world.requests);
}

fn check_failure(error: &Error) {
    check_error(error);
    // A key authorization ends with the thumbprint.
    let text = format!("{error} {error:?}");
    assert!(!text.contains(&format!(".{}", keys().0.thumbprint())), "a secret is shown: {text}");
    assert!(error.problem().is_none() || error.http_status().is_some(), "{error:?}");
    let far = Time::from_millis(START).after(Duration::from_secs(400 * 24 * 3600));
    assert!(error.retry_at().is_none_or(|at| at < far), "{error:?}");
    assert!(error.kind() != ErrorKind::InvalidArgument, "the CA's fault: {error:?}");
}

/// The host's side.
impl World<'_> {
    fn check(&mut self, request: &Request) {
        self.requests += 1;
        assert!(self.requests <= MOST_REQUESTS, "{} requests", self.requests);
        let url = request.url();
        assert!(url.to_ascii_lowercase().starts_with("https://ca.example"), "asks {url}");
        assert_eq!(request.host(), "ca.example");
        if request.method == Method::Get {
            return assert!(request.body.is_empty());
        }
        let jws: Value = serde_json::from_slice(&request.body).unwrap();
        let protected = decoded(&jws["protected"]);
        let protected: Value = serde_json::from_slice(&protected).unwrap();
        assert_eq!(protected["url"], url);
        let nonce = protected["nonce"].as_str().unwrap().as_bytes().to_vec();
        let left = self.handed_out.get_mut(&nonce).expect("a nonce that nobody handed out");
        *left -= 1;
        assert!(*left >= 0, "a nonce is used twice");
    }

    fn publish(&mut self, challenges: &[Challenge], by: i64) {
        assert!(!challenges.is_empty());
        for one in challenges {
            assert!(by > 0 || !one.is_persistent());
            let authorization = one.key_authorization().to_owned();
            let key = (one.kind().as_str(), one.identifier().to_owned(), authorization);
            *self.published.entry(key).or_default() += by;
        }
    }

    fn end<T>(&mut self, waiting: &[Arc<Request>], operation: &Operation<T>) {
        for ((kind, ..), up) in &self.published {
            assert!(*up == 0 || *kind == "dns-persist-01" && *up > 0, "{kind} is up {up} times");
        }
        for request in waiting {
            operation.reply(request.id).failed("too late").unwrap();
        }
    }

    fn answer_one<T>(&mut self, operation: &Operation<T>, waiting: &mut Vec<Arc<Request>>) {
        let request = waiting.swap_remove(self.bytes.below(waiting.len()));
        let reply = operation.reply(request.id);
        let honest = self.serve(&request);
        let answer = match self.bytes.below(24) {
            1 => return reply.failed("connection reset").unwrap(),
            2 => return assert!(reply.unusable("it is too large").is_err()),
            3 => return assert!(reply.failed_for_good("no such host").is_err()),
            4 => self.problem(),
            5 | 6 => self.edited(honest),
            7 => Answer { status: self.status(), ..honest },
            8 => self.other_header(honest),
            9 => Answer { body: self.bytes.raw().to_vec(), ..honest },
            10 => spliced(honest, &mut self.bytes),
            11 => self.last.clone().unwrap_or(honest),
            12 => {
                // The same response with one more change.
                let edited = self.edited(honest);
                self.other_header(edited)
            }
            13 => {
                operation.cancel();
                honest
            }
            14 => {
                let by = self.bytes.of(&[1, -1, 100, -100]) * 3_600_000;
                (self.now, self.moved) = (self.now + by, self.moved + by);
                honest
            }
            15 => Answer { status: 502, headers: Vec::new(), body: b"<html>".to_vec() },
            16 => Answer { body: Vec::new(), ..honest },
            17 => Answer { headers: Vec::new(), ..honest },
            _ => honest,
        };
        self.last = Some(answer.clone());
        let mut fed = Ok(());
        for (name, value) in &answer.headers {
            if name.eq_ignore_ascii_case("Replay-Nonce") {
                let nonce = value.trim_ascii().to_vec();
                *self.handed_out.entry(nonce).or_default() += 1;
            }
            fed = fed.and_then(|()| reply.header(name.as_bytes(), value));
        }
        let fed = fed.and_then(|()| reply.body(&answer.body));
        match fed.and_then(|()| reply.end(answer.status)) {
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                reply.failed("no status").unwrap();
            }
            fed => fed.unwrap_or_else(|error| check_error(&error)),
        }
    }
}

/// Mutations.
impl World<'_> {
    fn status(&mut self) -> u16 {
        let some = [200, 201, 204, 302, 400, 401, 403, 404, 409, 429, 500, 503, 599, 100, 999];
        self.bytes.of(&some)
    }

    fn nonce(&mut self) -> (String, Vec<u8>) {
        self.nonces += 1;
        ("Replay-Nonce".to_owned(), format!("nonce-{}", self.nonces).into_bytes())
    }

    fn problem(&mut self) -> Answer {
        let names = [
            "badNonce",
            "rateLimited",
            "serverInternal",
            "malformed",
            "unauthorized",
            "accountDoesNotExist",
            "orderNotReady",
            "userActionRequired",
            "alreadyReplaced",
            "externalAccountRequired",
            "badCSR",
            "badSignatureAlgorithm",
            "rejectedIdentifier",
            "compound",
            "conflict",
            "invalidProfile",
            "alreadyRevoked",
            "caa",
            "dns",
            "connection",
        ];
        let name = self.bytes.of(&names);
        let status = self.bytes.of(&[400, 403, 429, 503, 500, 404, 409, 401]);
        let mut body = json!({"type": format!("urn:ietf:params:acme:error:{name}"), "detail": "x"});
        if self.bytes.byte() & 1 != 0 {
            let sub = json!({"type": "urn:ietf:params:acme:error:dns", "detail": "y",
                             "identifier": {"type": "dns", "value": NAMES[0]}});
            body["subproblems"] = json!([sub, sub]);
        }
        let body = body.to_string().into_bytes();
        let mut answer = Answer { status, headers: vec![self.nonce()], body };
        if self.bytes.byte() & 1 != 0 {
            let after = self.bytes.of(&["0", "5", "61", "99999999999999999999", "-1", "soon"]);
            answer.headers.push(("Retry-After".to_owned(), after.into()));
        }
        answer
    }

    fn other_header(&mut self, mut answer: Answer) -> Answer {
        let name = self.bytes.of(&["Replay-Nonce", "Location", "Link", "Retry-After", "Date"]);
        let values: [&[u8]; 16] = [
            b"",
            b"https://ca.example/order/1",
            b"https://evil.example/",
            b"/order/1",
            b"https://ca.example/account/1",
            b"http://ca.example/x",
            b"nonce-again",
            b"<https://ca.example/cert/2>;rel=\"alternate\"",
            b"<https://ca.example/cert/1>;rel=up",
            b"<https://ca.example/orders/1>;rel=next",
            b"5",
            b"0",
            b"86400",
            b"Wed, 01 Jan 2031 00:00:00 GMT",
            b"\xff\xfe",
            b"a b",
        ];
        let value = match self.bytes.byte() {
            n if n & 0x80 != 0 => self.bytes.raw(),
            n => values[usize::from(n) % values.len()],
        };
        if self.bytes.byte() & 1 == 0 {
            answer.headers.retain(|(known, _)| known != name);
        }
        let times = self.bytes.of(&[1, 0, 3, 130]);
        answer.headers.extend((0..times).map(|_| (name.to_owned(), value.to_vec())));
        answer
    }

    /// Changes one value somewhere in the response's JSON.
    fn edited(&mut self, mut answer: Answer) -> Answer {
        let Ok(mut json) = serde_json::from_slice::<Value>(&answer.body) else { return answer };
        for _ in 0..=self.bytes.below(3) {
            edit(&mut json, &mut self.bytes);
        }
        answer.body = json.to_string().into_bytes();
        answer
    }
}

fn edit(json: &mut Value, bytes: &mut Bytes<'_>) {
    let size = match &*json {
        Value::Object(members) => members.len(),
        Value::Array(elements) => elements.len(),
        _ => 0,
    };
    let stay = size == 0 || bytes.byte() & 0xf0 == 0xf0;
    let n = bytes.below(size);
    match json {
        Value::Object(members) if !stay => {
            let name = members.keys().nth(n).cloned().unwrap();
            if bytes.byte() & 7 == 7 {
                members.remove(&name);
                return;
            }
            return edit(&mut members[&name], bytes);
        }
        Value::Array(elements) if !stay => {
            match bytes.byte() & 15 {
                15 => _ = elements.remove(n),
                14 => elements.push(elements[n].clone()),
                13 => elements.extend(std::iter::repeat_n(elements[n].clone(), 200)),
                _ => edit(&mut elements[n], bytes),
            }
            return;
        }
        _ => {}
    }
    let words = [
        "",
        "pending",
        "ready",
        "processing",
        "valid",
        "invalid",
        "deactivated",
        "expired",
        "revoked",
        "http-01",
        "dns-01",
        "dns-persist-01",
        "example.org",
        "dns",
        "ip",
        "https://ca.example/authz/2",
        "https://ca.example/order/1",
        "https://ca.example/directory",
        "https://ca.example/new-nonce",
        "https://evil.example/x",
        "http://ca.example/x",
        "/x",
        "https://ca.example/cert/1",
        "../../../../etc/passwd/aaaaaaaa",
        "2031-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "\u{202e}\u{0}\r\n",
    ];
    *json = match bytes.byte() {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1e300),
        4 => json!([]),
        5 => json!({}),
        6 => json!("a".repeat(5000)),
        7 => json!([[[[[[[[{"a": [{}]}]]]]]]]]),
        8 => json!({"type": "urn:ietf:params:acme:error:caa", "detail": "no", "status": 403}),
        n if n & 0x80 != 0 => json!(String::from_utf8_lossy(bytes.raw())),
        n => json!(words[usize::from(n) % words.len()]),
    };
}

fn spliced(mut answer: Answer, bytes: &mut Bytes<'_>) -> Answer {
    let size = answer.body.len();
    let at = (bytes.below(256) * 256 + bytes.below(256)) % (size + 1);
    let gone = bytes.below(64).min(size - at);
    answer.body.splice(at..at + gone, bytes.raw().iter().copied());
    answer
}

fn decoded(text: &Value) -> Vec<u8> {
    crate::base64url::decode_pasted(text.as_str().unwrap()).unwrap()
}

/// The correct CA.
impl World<'_> {
    fn serve(&mut self, request: &Request) -> Answer {
        let path = request.path();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |text: &str| text.parse::<usize>().unwrap_or(1).saturating_sub(1).min(2);
        let payload: Value = match request.method {
            Method::Get => Value::Null,
            Method::Post => {
                let jws: Value = serde_json::from_slice(&request.body).unwrap();
                serde_json::from_slice(&decoded(&jws["payload"])).unwrap_or_default()
            }
        };
        self.subdomains |= payload["identifier"]["subdomainAuthAllowed"] == true;
        let (status, body, location) = match parts.as_slice() {
            ["directory"] => (200, directory(), None),
            ["new-nonce"] => (204, Value::Null, None),
            ["new-account"] => (201, account_json(), Some("account/1")),
            ["account", _] => (200, account_json(), None),
            ["orders", _] => (200, json!({"orders": [format!("{BASE}/order/1")]}), None),
            ["new-order"] => (201, self.order(), Some("order/1")),
            ["new-authz"] if payload["identifier"]["value"] == NAMES[2] => {
                (201, self.authorization(2), Some("authz/3"))
            }
            ["new-authz"] => (201, self.authorization(0), Some("authz/1")),
            ["order", _] => {
                self.looks += 1;
                (200, self.order(), None)
            }
            ["authz", n] => {
                self.deactivated[number(n)] |= payload["status"] == "deactivated";
                (200, self.authorization(number(n)), None)
            }
            ["chall", n, kind] => {
                self.answered[number(n)] = true;
                (200, self.challenge(number(n), kind), None)
            }
            ["finalize", _] => {
                self.finalized = true;
                (200, self.order(), Some("order/1"))
            }
            ["cert", _] => (200, Value::Null, None),
            ["revoke"] | ["key-change"] => (200, json!({}), None),
            ["renewal-info", ..] => {
                let window =
                    json!({"start": "2027-01-01T00:00:00Z", "end": "2027-01-02T00:00:00Z"});
                (200, json!({"suggestedWindow": window, "explanationURL": BASE}), None)
            }
            _ => (404, json!({"detail": "not here"}), None),
        };
        let body = match (parts.first(), &body) {
            (Some(&"cert"), _) => self.chain.to_vec(),
            (_, Value::Null) => Vec::new(),
            (_, json) => json.to_string().into_bytes(),
        };
        let mut headers = vec![self.nonce()];
        if let Some(location) = location {
            headers.push(("Location".to_owned(), format!("{BASE}/{location}").into_bytes()));
        }
        Answer { status, headers, body }
    }

    fn names(&self) -> &'static [&'static str] {
        if self.chain == ONE { &NAMES[..1] } else { &NAMES }
    }

    fn order(&self) -> Value {
        let count = self.names().len();
        let status = match (self.answered[..count].iter().all(|yes| *yes), self.finalized) {
            (false, false) => "pending",
            (true, false) => "ready",
            _ if self.looks % 2 == 1 => "processing",
            _ => "valid",
        };
        let names: Vec<Value> =
            self.names().iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let urls: Vec<String> = (1..=count).map(|n| format!("{BASE}/authz/{n}")).collect();
        let mut order = json!({
            "status": status, "expires": "2027-02-01T00:00:00Z", "identifiers": names,
            "authorizations": urls, "finalize": format!("{BASE}/finalize/1"),
        });
        if status == "valid" {
            order["certificate"] = json!(format!("{BASE}/cert/1"));
        }
        order
    }

    fn status_of(&self, n: usize) -> &'static str {
        match (self.deactivated[n], self.answered[n]) {
            (true, _) => "deactivated",
            (_, true) => "valid",
            _ => "pending",
        }
    }

    fn authorization(&self, n: usize) -> Value {
        let name = NAMES[n];
        let kinds = ["http-01", "dns-01", "tls-alpn-01", "dns-persist-01"];
        let challenges: Vec<Value> = kinds.iter().map(|kind| self.challenge(n, kind)).collect();
        let mut json = json!({
            "identifier": {"type": "dns", "value": name.trim_start_matches("*.")},
            "status": self.status_of(n), "challenges": challenges,
        });
        if name.starts_with("*.") {
            json["wildcard"] = json!(true);
        }
        if self.subdomains {
            json["subdomainAuthAllowed"] = json!(true);
        }
        json
    }

    fn challenge(&self, n: usize, kind: &str) -> Value {
        let mut json = json!({
            "type": kind, "url": format!("{BASE}/chall/{}/{kind}", n + 1),
            "status": self.status_of(n), "token": format!("token-of-authorization-{n:06}"),
        });
        if kind == "dns-persist-01" {
            json["issuer-domain-names"] = json!(["ca.example"]);
            json["accounturi"] = json!(format!("{BASE}/account/1"));
        }
        json
    }
}

fn directory() -> Value {
    let url = |path: &str| format!("{BASE}/{path}");
    json!({
        "newNonce": url("new-nonce"), "newAccount": url("new-account"),
        "newOrder": url("new-order"), "newAuthz": url("new-authz"), "revokeCert": url("revoke"),
        "keyChange": url("key-change"), "renewalInfo": url("renewal-info"),
        "meta": {
            "termsOfService": url("terms"), "subdomainAuthAllowed": true,
            "profiles": {"short": "six days"},
        },
    })
}

fn account_json() -> Value {
    json!({"status": "valid", "contact": [], "orders": format!("{BASE}/orders/1")})
}
