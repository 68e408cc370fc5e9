//! The harness: runs operations against a small, correct CA ([`super::ca`]). The rules of a test
//! change its responses. Only waiting moves the clock; there is no socket, no thread and no sleep.
//!
//! It checks every request as a strict server does. At the end of every run it checks that every
//! published record was removed, that the outcome does not change any more, and that no error shows
//! a secret.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use acme_micro::engine::{
    Challenge, Client, ClientOptions, Issued, Operation, OrderOptions, Registered, Request, Step,
};
use acme_micro::{AcmeError, ErrorKind, Key, KeyType, Time};
use serde_json::Value;

use super::ca::{BASE, Ca, Response};
use super::{jws, log};

/// Clock at the start: 2026-11-24T14:24:05Z.
pub const START: i64 = 1_795_530_245_000;

pub type Outcome = Result<Issued, AcmeError>;

/// The order in which the host polls and feeds responses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each request gets its response before the next poll.
    Blocking,
    /// The host takes all requests that there are, then feeds all responses.
    Eager,
    /// As `Eager`, but the responses arrive one at a time, in an order that this seed decides.
    Shuffled(u64),
}

/// A moment of a run at which a test can interfere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    BeforePoll,
    BeforeResponse,
    WhilePublishing,
}

/// An interference with a run.
pub enum Interference {
    Nothing,
    Cancel,
    /// Moves the clock by milliseconds, forward or back.
    MoveClock(i64),
}

type Interfere = Box<dyn FnMut(usize, Moment) -> Interference + Send>;

/// A period in which the CA cannot be reached.
pub struct Outage {
    /// Request at which it begins: a pattern, and a number counted from 1.
    pub from: (String, usize),
    /// Duration in milliseconds.
    pub lasts: i64,
    /// Whether the CA does the work of that request and closes the connection before its response.
    pub closes: bool,
    pub began: Option<i64>,
}

/// A scripted CA and host, and a record of what has happened.
pub struct Script {
    pub client: Client,
    pub account_key: Key,
    pub ca: Ca,
    pub pace: Pace,
    /// Number of extra polls after every step.
    pub extra_polls: u32,
    /// Number of bytes of a body that are fed at a time; 0: all.
    pub chunk: usize,
    /// The host's result of a publication, and the time that the publication takes.
    pub publishing: Result<(), String>,
    pub publishing_takes: Duration,
    /// Payload of the response to challenges whose type requires one.
    pub payload: Option<String>,
    pub interfere: Option<Interfere>,
    pub outage: Option<Outage>,
    /// Clock in milliseconds since 1970.
    pub now: i64,
    /// Requests such as `"POST /order/1"`, in the order in which the engine gave them out.
    pub transcript: Vec<String>,
    /// Bodies of the requests, in the same order.
    pub bodies: Vec<Vec<u8>>,
    /// Requests and publications, such as `"PUBLISH http-01 example.org"` and `"UNPUBLISH ..."`.
    pub events: Vec<String>,
    /// Delays that the host waited for, in milliseconds.
    pub delays: Vec<u64>,
    /// Number of times that the host waited for responses.
    pub rounds: u32,
    pub most_at_once: usize,
    /// Lines of the log.
    pub log: Vec<String>,
    /// Errors of feeding responses.
    pub refusals: Vec<AcmeError>,
    pub moments: usize,
    rules: Vec<Rule>,
    up: BTreeMap<(String, String, String), i32>,
    ever_published: Vec<String>,
    /// Challenges that were removed while the CA validated them.
    pub early: Vec<String>,
}

struct Rule {
    what: String,
    seen: u32,
    from: u32,
    until: u32,
    action: Action,
}

type Change = Box<dyn FnMut(&mut Ca, &mut Response) + Send>;
type Make = Box<dyn FnMut(&Ca) -> Response + Send>;

enum Action {
    Response(Response),
    Make(Make),
    Then(Change),
    LoseRequest,
    LoseResponse,
}

/// A rule in the making: a pattern of requests, then an action.
pub struct On<'a> {
    script: &'a mut Script,
    what: String,
    from: u32,
    until: u32,
}

impl On<'_> {
    /// Selects the n-th of these requests, counted from 1.
    pub fn nth(mut self, n: u32) -> Self {
        (self.from, self.until) = (n, n);
        self
    }

    /// Selects the first n of them.
    pub fn times(mut self, n: u32) -> Self {
        (self.from, self.until) = (1, n);
        self
    }

    /// Selects the n-th of them and all later ones.
    pub fn from(mut self, n: u32) -> Self {
        (self.from, self.until) = (n, u32::MAX);
        self
    }

    fn rule(self, action: Action) {
        let On { script, what, from, until } = self;
        script.rules.push(Rule { what, seen: 0, from, until, action });
    }

    /// Sends this response; the CA does not do the work.
    pub fn respond(self, response: Response) {
        self.rule(Action::Response(response));
    }

    /// Sends the response that `make` returns; the CA does not do the work.
    pub fn make(self, make: impl FnMut(&Ca) -> Response + Send + 'static) {
        self.rule(Action::Make(Box::new(make)));
    }

    pub fn problem(self, status: u16, name: &str) {
        self.respond(Response::problem(status, name));
    }

    /// Loses the request before it reaches the CA.
    pub fn lose_request(self) {
        self.rule(Action::LoseRequest);
    }

    /// Loses the response; the CA does the work.
    pub fn lose_response(self) {
        self.rule(Action::LoseResponse);
    }

    /// Changes the response; the CA does the work.
    pub fn then(self, change: impl FnMut(&mut Ca, &mut Response) + Send + 'static) {
        self.rule(Action::Then(Box::new(change)));
    }

    /// Changes the JSON of the response; the CA does the work.
    pub fn edit(self, mut change: impl FnMut(&mut Value) + Send + 'static) {
        self.then(move |_, response| response.edit(&mut change));
    }
}

impl Script {
    /// Returns a host without an account, whose operator has agreed to the terms.
    pub fn new() -> Script {
        Script::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ClientOptions)) -> Script {
        let key = Key::generate(KeyType::P256).unwrap();
        let mut options = ClientOptions::new(format!("{BASE}/directory"), key);
        options.terms_agreed = true;
        options.contacts = vec!["mailto:admin@example.org".to_owned()];
        options.seed = Some(7);
        change(&mut options);
        let account_key = options.account_key.clone();
        let client = Client::new(options).unwrap();
        log::begin();
        Script {
            client,
            account_key,
            ca: Ca::default(),
            pace: Pace::Blocking,
            extra_polls: 0,
            chunk: 0,
            publishing: Ok(()),
            publishing_takes: Duration::ZERO,
            payload: None,
            interfere: None,
            outage: None,
            now: START,
            transcript: Vec::new(),
            bodies: Vec::new(),
            events: Vec::new(),
            delays: Vec::new(),
            rounds: 0,
            most_at_once: 0,
            log: Vec::new(),
            refusals: Vec::new(),
            moments: 0,
            rules: Vec::new(),
            up: BTreeMap::new(),
            ever_published: Vec::new(),
            early: Vec::new(),
        }
    }

    /// Returns a host that has an account, the directory and a nonce from an earlier order.
    pub fn with_account() -> Script {
        let mut script = Script::new();
        script.obtain(&["earlier.example"]).unwrap();
        script.forget();
        script
    }

    /// Returns a host at a CA that behaves like Let's Encrypt's server.
    pub fn at_boulder() -> Script {
        let mut script = Script::new();
        script.ca = Ca::boulder();
        script
    }

    /// Clears the record of what has happened; the CA keeps its state.
    pub fn forget(&mut self) {
        self.transcript.clear();
        self.bodies.clear();
        self.events.clear();
        self.delays.clear();
        self.log.clear();
        (self.rounds, self.most_at_once, self.moments) = (0, 0, 0);
    }

    /// Begins a rule. `what` is `"POST /order/1"`; a `*` at its end stands for any rest, `"*"` for
    /// every request.
    pub fn on(&mut self, what: &str) -> On<'_> {
        On { script: self, what: what.to_owned(), from: 1, until: u32::MAX }
    }

    pub fn obtain(&mut self, names: &[&str]) -> Outcome {
        self.order(OrderOptions::new(names.iter().copied()))
    }

    pub fn order(&mut self, options: OrderOptions) -> Outcome {
        let operation = self.client.obtain(options)?;
        self.run(&operation)
    }

    pub fn register(&mut self) -> Result<Registered, AcmeError> {
        let operation = self.client.register();
        self.run(&operation)
    }

    /// Returns the number of requests that match.
    pub fn count(&self, what: &str) -> usize {
        self.transcript.iter().filter(|request| matches(what, request)).count()
    }

    pub fn published(&self, what: &str) -> bool {
        self.ever_published.iter().any(|published| matches(what, published))
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_millis((self.now - START) as u64)
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == pattern,
    }
}

/// Returns a request as the transcript shows it.
pub fn label(request: &Request) -> String {
    let url = request.url();
    format!("{} {}", request.method.as_str(), url.strip_prefix(BASE).unwrap_or(url))
}

/// Running operations.
impl Script {
    /// Runs an operation to its end.
    pub fn run<T>(&mut self, operation: &Operation<T>) -> Result<T, AcmeError> {
        let mut waiting: Vec<Arc<Request>> = Vec::new();
        let mut steps: VecDeque<Step> = VecDeque::new();
        for _ in 0..200_000 {
            let step = match steps.pop_front() {
                Some(step) => step,
                None => {
                    self.moment(Moment::BeforePoll, operation);
                    match operation.poll(Time::from_millis(self.now)) {
                        Ok(step) => step,
                        Err(error) => return Err(self.failed(operation, error, &waiting)),
                    }
                }
            };
            match step {
                Step::Request(request) => {
                    self.note(&request);
                    waiting.push(request);
                    self.most_at_once = self.most_at_once.max(waiting.len());
                    self.poll_more(operation, &mut steps);
                    if self.pace == Pace::Blocking {
                        self.rounds += 1;
                        self.respond_to_all(operation, &mut waiting, &mut steps);
                    }
                }
                Step::Wait(delay) if waiting.is_empty() => {
                    let delay =
                        delay.expect("the operation waits without end and without a request");
                    assert!(delay > Duration::ZERO, "a wait of 0 ms");
                    self.delays.push(delay.as_millis() as u64);
                    self.now += delay.as_millis() as i64;
                }
                Step::Wait(_) => {
                    self.rounds += 1;
                    match self.pace {
                        Pace::Shuffled(ref mut seed) => {
                            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(9);
                            let n = (*seed >> 33) as usize % waiting.len();
                            let mut one = vec![waiting.swap_remove(n)];
                            self.respond_to_all(operation, &mut one, &mut steps);
                        }
                        _ => self.respond_to_all(operation, &mut waiting, &mut steps),
                    }
                }
                Step::Publish(challenges) => {
                    self.publish(&challenges);
                    self.poll_more(operation, &mut steps);
                    self.moment(Moment::WhilePublishing, operation);
                    self.now += self.publishing_takes.as_millis() as i64;
                    for (n, challenge) in challenges.iter().enumerate() {
                        if let Some(payload) = &self.payload {
                            let taken = operation.respond_with(n, payload.as_bytes());
                            assert_eq!(taken.is_ok(), challenge.kind().takes_payload());
                        }
                    }
                    operation.published(self.publishing.clone()).unwrap();
                }
                Step::Unpublish(challenges) => {
                    self.unpublish(&challenges);
                    self.poll_more(operation, &mut steps);
                }
                Step::Done => return Ok(self.done(operation, &waiting)),
                step => panic!("an unknown step: {step:?}"),
            }
        }
        panic!("the operation does not end; the last requests: {:?}", self.tail());
    }

    fn tail(&self) -> &[String] {
        &self.transcript[self.transcript.len().saturating_sub(10)..]
    }

    fn moment<T>(&mut self, moment: Moment, operation: &Operation<T>) {
        let n = self.moments;
        self.moments += 1;
        match self.interfere.as_mut().map(|interfere| interfere(n, moment)) {
            None | Some(Interference::Nothing) => {}
            Some(Interference::Cancel) => operation.cancel(),
            Some(Interference::MoveClock(by)) => self.now += by,
        }
    }

    /// Polls again; a step that such a poll returns is handled later.
    fn poll_more<T>(&mut self, operation: &Operation<T>, steps: &mut VecDeque<Step>) {
        for _ in 0..self.extra_polls {
            match operation.poll(Time::from_millis(self.now)) {
                Ok(Step::Wait(_) | Step::Done) | Err(_) => {}
                Ok(step) => steps.push_back(step),
            }
        }
    }

    fn note(&mut self, request: &Request) {
        let label = label(request);
        self.transcript.push(label.clone());
        self.events.push(label);
        self.bodies.push(request.body.clone());
    }

    fn respond_to_all<T>(
        &mut self,
        operation: &Operation<T>,
        waiting: &mut Vec<Arc<Request>>,
        steps: &mut VecDeque<Step>,
    ) {
        for request in std::mem::take(waiting) {
            self.moment(Moment::BeforeResponse, operation);
            let response = self.respond_to(&request);
            self.feed(operation, &request, response, steps);
        }
    }

    /// Returns the response to a request; `Err`: the connection fails.
    pub fn respond_to(&mut self, request: &Request) -> Result<Response, &'static str> {
        self.ca.now = self.now;
        self.ca.validate_until_now();
        let label = label(request);
        let mut is_closed = false;
        if let Some(outage) = &mut self.outage {
            let (what, nth) = &outage.from;
            let seen = self.transcript.iter().filter(|sent| matches(what, sent)).count();
            if outage.began.is_none() && label == *what && seen == *nth {
                outage.began = Some(self.now);
                is_closed = outage.closes;
            }
            let until = outage.began.map(|began| began + outage.lasts);
            if !is_closed && until.is_some_and(|until| self.now < until) {
                return Err("connection refused");
            }
        }
        let post = self.ca.check(request);
        let mut action = None;
        for rule in self.rules.iter_mut().filter(|rule| matches(&rule.what, &label)) {
            rule.seen += 1;
            if action.is_none() && (rule.from..=rule.until).contains(&rule.seen) {
                action = Some(&mut rule.action);
            }
        }
        let up = &self.up;
        let published = |kind: &str, name: &str, key_authorization: &str| {
            let wanted = (kind.to_owned(), name.to_owned(), key_authorization.to_owned());
            up.get(&wanted).is_some_and(|count| *count > 0)
        };
        let ca = &mut self.ca;
        let is_new_nonce = label.ends_with("/new-nonce");
        let mut response = match action.as_deref_mut() {
            Some(Action::Response(response)) => response.clone(),
            Some(Action::Make(make)) => make(ca),
            Some(Action::LoseRequest) => return Err("connection refused"),
            _ => {
                let path = request.url().strip_prefix(BASE);
                let path = path.unwrap_or_else(|| panic!("a request to another host: {label}"));
                let mut response = match post.is_some() && ca.refuses_nonce() {
                    true => Response::problem(400, "badNonce"),
                    false => ca.serve(path, post.as_ref(), &published),
                };
                match action {
                    _ if is_closed => return Err("connection reset by peer"),
                    Some(Action::LoseResponse) => return Err("connection reset by peer"),
                    Some(Action::Then(change)) => change(ca, &mut response),
                    _ => {}
                }
                response
            }
        };
        for (name, value) in &response.headers {
            if name.eq_ignore_ascii_case("Replay-Nonce") {
                ca.accept_nonce(&String::from_utf8_lossy(value));
                response.nonce = false;
            }
        }
        if response.nonce && (post.is_some() || is_new_nonce) {
            response.headers.push(("Replay-Nonce".to_owned(), ca.fresh_nonce().into_bytes()));
        }
        Ok(response)
    }

    fn feed<T>(
        &mut self,
        operation: &Operation<T>,
        request: &Request,
        response: Result<Response, &str>,
        steps: &mut VecDeque<Step>,
    ) {
        let reply = operation.reply(request.id);
        let response = match response {
            Ok(response) => response,
            Err(why) => return reply.failed(why).unwrap(),
        };
        let mut fed = Ok(());
        for (name, value) in &response.headers {
            fed = fed.and_then(|()| reply.header(name.as_bytes(), value));
            self.poll_more(operation, steps);
        }
        if response.cut {
            let half = &response.body[..response.body.len() / 2];
            fed.and_then(|()| reply.body(half)).unwrap();
            return reply.failed("connection reset by peer").unwrap();
        }
        let size = if self.chunk == 0 { response.body.len().max(1) } else { self.chunk };
        for chunk in response.body.chunks(size) {
            fed = fed.and_then(|()| reply.body(chunk));
            if self.chunk > 0 {
                self.poll_more(operation, steps);
            }
        }
        if let Err(error) = fed.and_then(|()| reply.end(response.status)) {
            assert_eq!(error.kind(), ErrorKind::Protocol, "feeding a response: {error:?}");
            self.refusals.push(error);
        }
    }

    pub fn publish(&mut self, challenges: &[Challenge]) {
        assert!(!challenges.is_empty(), "a publication without challenges");
        for challenge in challenges {
            let what = format!("{} {}", challenge.kind().as_str(), challenge.identifier());
            self.events.push(format!("PUBLISH {what}"));
            self.ever_published.push(what);
            let count = self.up.entry(key(challenge)).or_default();
            assert_eq!(*count, 0, "published already: {challenge:?}");
            *count += 1;
        }
    }

    pub fn unpublish(&mut self, challenges: &[Challenge]) {
        for challenge in challenges {
            let what = format!("{} {}", challenge.kind().as_str(), challenge.identifier());
            self.ca.now = self.now;
            self.ca.validate_until_now();
            if self.ca.is_validating(challenge.identifier().trim_start_matches("*.")) {
                self.early.push(what.clone());
            }
            self.events.push(format!("UNPUBLISH {what}"));
            match self.up.get_mut(&key(challenge)) {
                Some(count) if *count > 0 => *count -= 1,
                _ => panic!(
                    "the removed challenge is not published: {challenge:?}; {:?}",
                    self.events
                ),
            }
        }
    }

    fn nothing_is_left<T>(&mut self, operation: &Operation<T>, waiting: &[Arc<Request>]) {
        let stays = |kind: &str| kind == "dns-persist-01";
        let left = self.up.iter().filter(|((kind, ..), count)| **count != 0 && !stays(kind));
        let left: Vec<_> = left.collect();
        assert!(left.is_empty(), "still published: {left:?}");
        let lines = log::taken();
        for line in &lines {
            assert!(self.shows_no_secret(line), "{line}");
        }
        self.log.extend(lines);
        for request in waiting {
            operation.reply(request.id).failed("too late").unwrap();
        }
    }

    /// Whether the text is free of key authorizations, which only the host may show, where it
    /// publishes them.
    fn shows_no_secret(&self, text: &str) -> bool {
        self.up.keys().all(|(_, _, secret)| secret.is_empty() || !text.contains(secret.as_str()))
    }

    fn done<T>(&mut self, operation: &Operation<T>, waiting: &[Arc<Request>]) -> T {
        self.nothing_is_left(operation, waiting);
        assert!(matches!(operation.poll(Time::from_millis(self.now)), Ok(Step::Done)));
        let value = operation.take().expect("a result after Done");
        assert!(operation.take().is_none(), "the result can be taken once");
        value
    }

    fn failed<T>(
        &mut self,
        operation: &Operation<T>,
        error: AcmeError,
        waiting: &[Arc<Request>],
    ) -> AcmeError {
        self.nothing_is_left(operation, waiting);
        let again = operation.poll(Time::from_millis(self.now)).unwrap_err();
        assert_eq!((again.kind(), again.to_string()), (error.kind(), error.to_string()));
        assert!(operation.take().is_none());
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.is_empty() && text.len() < 4096, "{text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(self.shows_no_secret(&text), "{text}");
        }
        error
    }
}

fn key(challenge: &Challenge) -> (String, String, String) {
    let kind = challenge.kind().as_str().to_owned();
    (kind, challenge.identifier().to_owned(), challenge.key_authorization().to_owned())
}

/// Adds an account with the client's key, as an earlier run would have. Returns the account's URL.
pub fn make_account(ca: &mut Ca, key: &Key) -> String {
    let text = String::from_utf8(key.private_key().unwrap().public_key_to_pem().unwrap()).unwrap();
    let public = openssl::pkey::PKey::public_key_from_pem(text.as_bytes()).unwrap();
    let ec = public.ec_key().unwrap();
    let mut context = openssl::bn::BigNumContext::new().unwrap();
    let (mut x, mut y) = (openssl::bn::BigNum::new().unwrap(), openssl::bn::BigNum::new().unwrap());
    ec.public_key().affine_coordinates(ec.group(), &mut x, &mut y, &mut context).unwrap();
    let coordinate = |n: openssl::bn::BigNum| jws::encode(&n.to_vec_padded(32).unwrap());
    ca.add_account(serde_json::json!({
        "kty": "EC", "crv": "P-256", "x": coordinate(x), "y": coordinate(y),
    }))
}
