//! One run: programs with an account each, at one CA, on one virtual clock; the seed decides the
//! faults. The invariants are checked after each event. At the end the faults stop: then every
//! program has to have its certificates, and no certificate may be lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use acme_micro::engine::{Operation, Request, Step};
use acme_micro::{ErrorKind, Time};

use super::ca::{BASE, Ca, DAY, Profile, Response};
use super::faults::{Fault, falsify};
use super::program::{Outcome, Program, Task};
use super::rng::Rng;

/// Clock at the start: 2026-11-24T14:24:05Z.
pub const START: i64 = 1_795_530_245_000;
/// Timeout of each operation in milliseconds, which includes the removal of its challenges.
const TIME_LIMIT: i64 = 600_000;

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub profile: Profile,
    pub seed: u64,
    /// Number of faults per 100 requests.
    pub faults: u64,
    /// Number of certificates after which the faults stop.
    pub certificates: usize,
}

/// Result of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub certificates: usize,
    pub requests: usize,
    pub faults: usize,
    pub kills: usize,
    pub failures: usize,
    /// Hash of all events in their order.
    pub trace: u64,
}

impl Report {
    /// Adds the counts of another run; a trace belongs to one run.
    pub fn add(&mut self, other: &Report) {
        self.certificates += other.certificates;
        self.requests += other.requests;
        self.faults += other.faults;
        self.kills += other.kills;
        self.failures += other.failures;
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// A program checks which tasks are due.
    Check {
        program: usize,
    },
    /// An operation is polled.
    Poll {
        operation: u64,
    },
    Published {
        operation: u64,
    },
    /// A request reaches the CA.
    Arrive {
        exchange: u64,
    },
    /// A response, or the loss of it, reaches the program.
    Response {
        exchange: u64,
    },
}

/// A request on its way, and its response on the way back.
struct Exchange {
    operation: u64,
    request: Arc<Request>,
    fault: Option<Fault>,
    response: Option<Response>,
}

/// A running operation, and what it has done so far.
struct Running {
    operation: Operation<Outcome>,
    program: usize,
    task: Task,
    started: i64,
    publishing_since: Option<i64>,
    published_for: i64,
    requests: usize,
    faults: usize,
    polls: usize,
    names: usize,
    /// Whether the CA has failed an order by its own fault, which leads to another order.
    saw_ca_fault: bool,
    /// URLs of challenges to which the CA has acknowledged a response.
    responded: HashSet<String>,
    /// Failed URLs, and the earliest time of their next request.
    failed: HashMap<String, i64>,
    up: Vec<(String, String, String)>,
    is_polled: bool,
}

pub struct World {
    plan: Plan,
    rng: Rng,
    now: i64,
    ca: Ca,
    programs: Vec<Program>,
    running: HashMap<u64, Running>,
    exchanges: HashMap<u64, Exchange>,
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    /// Time of the next check of each program.
    checks: Vec<i64>,
    last_id: u64,
    is_traced: bool,
    report: Report,
}

/// Runs a seed to its end; a violated invariant fails the test and prints how to repeat the run.
pub fn run(plan: Plan) -> Report {
    struct Name(Plan);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let Plan { profile, seed, faults, certificates } = self.0;
                eprintln!(
                    "to repeat this run: SIMULATION_CA={profile:?} SIMULATION_SEED={seed} \
                     SIMULATION_FAULTS={faults} SIMULATION_CERTIFICATES={certificates} cargo test --test simulation one_seed \
                     -- --nocapture"
                );
            }
        }
    }
    let _name = Name(plan);
    let mut rng = Rng(plan.seed);
    let ca = Ca::new(plan.profile, Rng(rng.next()), START);
    let count = 1 + rng.below(3) as usize;
    let programs = (0..count).map(|n| Program::new(n, &mut rng)).collect();
    let mut world = World {
        plan,
        rng,
        now: START,
        ca,
        programs,
        running: HashMap::new(),
        exchanges: HashMap::new(),
        events: BinaryHeap::new(),
        checks: vec![i64::MAX; count],
        last_id: 0,
        is_traced: std::env::var_os("SIMULATION_TRACE").is_some(),
        report: Report::default(),
    };
    for program in 0..count {
        world.check_in(0, program);
    }
    world.live();
    world.report
}

impl World {
    fn at(&mut self, delay: i64, event: Event) {
        self.last_id += 1;
        self.events.push(Reverse((self.now + delay, self.last_id, event)));
    }

    fn check_in(&mut self, delay: i64, program: usize) {
        if self.now + delay < self.checks[program] {
            self.checks[program] = self.now + delay;
            self.at(delay, Event::Check { program });
        }
    }

    /// Whether the faults have stopped.
    fn is_calm(&self) -> bool {
        self.plan.faults == 0 || self.report.certificates >= self.plan.certificates
    }

    fn live(&mut self) {
        let mut calm_since = None;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            assert!(at >= self.now);
            (self.now, self.ca.now) = (at, at);
            self.ca.is_calm = self.is_calm();
            self.note(&event);
            match event {
                Event::Check { program } if self.checks[program] == at => self.check(program),
                Event::Check { .. } => {} // an earlier check has taken its place
                Event::Poll { operation } => self.poll(operation),
                Event::Published { operation } => {
                    if let Some(running) = self.running.get_mut(&operation) {
                        running.published_for += at - running.publishing_since.take().unwrap();
                        // One in twenty publications fails.
                        let can = self.rng.chance(19, 20) || self.is_calm();
                        let running = &self.running[&operation];
                        let outcome = if can { Ok(()) } else { Err("the disk is full".to_owned()) };
                        running.operation.published(outcome).unwrap();
                        self.poll(operation);
                    }
                }
                Event::Arrive { exchange } => self.arrive(exchange),
                Event::Response { exchange } => self.receive(exchange),
            }
            if self.report.certificates < self.plan.certificates {
                assert!(at < START + 40_000 * DAY, "the run does not end: {:?}", self.report);
                if !self.is_calm() && self.rng.chance(1, 400) {
                    self.kill();
                }
            } else {
                let since = *calm_since.get_or_insert(at);
                if self.running.is_empty()
                    && self.programs.iter().all(|p| p.is_content(at, &self.ca))
                {
                    return self.nothing_is_lost();
                }
                assert!(
                    at < since + 100 * DAY,
                    "the faults have stopped, and a certificate is missing: {:?}",
                    self.report
                );
            }
        }
        panic!("no event is left: {:?}", self.report);
    }

    /// Hashes an event: the same events in the same order have the same hash.
    fn note(&mut self, event: &Event) {
        let mut text = format!("{} {event:?}", self.now);
        if let Event::Arrive { exchange } = event {
            let exchange = &self.exchanges[exchange];
            text = format!("{text} {} {:?}", exchange.request.url(), exchange.fault);
        }
        self.tell(|| text.clone());
        for byte in text.bytes() {
            self.report.trace = (self.report.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{}", what());
        }
    }

    /// Ends a process, and starts it again later with the data on its disk.
    fn kill(&mut self) {
        let program = self.rng.below(self.programs.len() as u64) as usize;
        self.running.retain(|_, running| running.program != program);
        self.programs[program].restart(&mut self.rng);
        self.report.kills += 1;
        let delay = 1000 + self.rng.below(100_000) as i64;
        self.checks[program] = i64::MAX;
        self.check_in(delay, program);
    }

    /// Starts the due tasks of a program.
    fn check(&mut self, n: usize) {
        let calm = self.is_calm();
        self.checks[n] = i64::MAX;
        let program = &mut self.programs[n];
        let (started, next) = program.start(self.now, calm, &mut self.rng);
        for (task, operation, names) in started {
            self.last_id += 1;
            let id = self.last_id;
            let running = Running {
                operation,
                program: n,
                task,
                started: self.now,
                publishing_since: None,
                published_for: 0,
                requests: 0,
                faults: 0,
                polls: 0,
                names,
                saw_ca_fault: false,
                responded: HashSet::new(),
                failed: HashMap::new(),
                up: Vec::new(),
                is_polled: false,
            };
            self.running.insert(id, running);
            self.poll(id);
        }
        // The program also checks at the end of each operation.
        if let Some(at) = next {
            self.check_in((at - self.now).max(1), n);
        }
    }

    fn poll(&mut self, id: u64) {
        loop {
            let Some(running) = self.running.get_mut(&id) else { return };
            running.is_polled = false;
            let step = running.operation.poll(Time::from_millis(self.now));
            let program = &mut self.programs[running.program];
            program.note(running.task, &running.operation);
            match step {
                Ok(Step::Request(request)) => self.send(id, request),
                Ok(Step::Wait(delay)) => {
                    let delay = delay.map(|delay| delay.as_millis() as i64);
                    let responses =
                        self.exchanges.values().any(|exchange| exchange.operation == id);
                    let publishing = self.running[&id].publishing_since.is_some();
                    assert!(
                        responses || publishing || delay.is_some(),
                        "the operation waits for nothing"
                    );
                    assert_ne!(delay, Some(0), "a wait of 0 ms");
                    if let Some(delay) = delay {
                        self.at(delay, Event::Poll { operation: id });
                    }
                    return;
                }
                Ok(Step::Publish(challenges)) => {
                    // After a falsified response the same challenge may return in another round.
                    running.responded.clear();
                    running.failed.retain(|url, _| !url.contains("/chall/"));
                    running.publishing_since = Some(self.now);
                    for challenge in challenges.iter() {
                        let key = (
                            challenge.kind().as_str().to_owned(),
                            challenge.identifier().to_owned(),
                            challenge.key_authorization().to_owned(),
                        );
                        assert!(!running.up.contains(&key), "published twice: {challenge:?}");
                        running.up.push(key);
                    }
                    let delay = *self.rng.pick(&[1, 20, 3_000, 90_000]);
                    self.at(delay, Event::Published { operation: id });
                }
                Ok(Step::Unpublish(challenges)) => {
                    assert!(!challenges.is_empty());
                    assert_eq!(
                        challenges.len(),
                        running.up.len(),
                        "some challenges stay published"
                    );
                    let up = std::mem::take(&mut running.up);
                    // Without faults on the way no challenge is removed early.
                    let early = up.iter().find(|(_, _, secret)| self.ca.is_validating(secret));
                    let is_sound = running.faults == 0 && !running.responded.is_empty();
                    assert!(early.is_none() || !is_sound, "removed too early: {early:?}");
                }
                Ok(Step::Done) => return self.end(id, None),
                Ok(step) => panic!("an unknown step: {step:?}"),
                Err(error) => return self.end(id, Some(error)),
            }
        }
    }

    fn send(&mut self, id: u64, request: Arc<Request>) {
        let calm = self.is_calm();
        let running = self.running.get_mut(&id).unwrap();
        running.requests += 1;
        self.report.requests += 1;
        assert!(!running.responded.contains(request.url()), "a second response to a challenge");
        if let Some(earliest) = running.failed.remove(request.url()) {
            assert!(self.now >= earliest, "too soon after a failure: {}", request.url());
        }
        if request.url() == format!("{BASE}/new-order") {
            let known = running.operation.order_url();
            let program = &self.programs[running.program];
            let noted = program.order_url(running.task).map(str::to_owned);
            for url in [known, noted].iter().flatten() {
                assert!(
                    !self.ca.can_be_resumed(url),
                    "a second order although {url} can lead to a certificate"
                );
            }
        }
        let fault = (!calm && self.rng.chance(self.plan.faults, 100))
            .then(|| Fault::any(&mut self.rng, self.now));
        if let Some(fault) = &fault {
            running.faults += 1;
            self.report.faults += 1;
            if fault.is_false_witness(request.url()) {
                let order = self.ca.order_of(request.url());
                if let Some(order) = order.and_then(|n| self.ca.orders.get_mut(n)) {
                    order.spoiled = true;
                }
            }
        }
        self.last_id += 1;
        let exchange = self.last_id;
        self.exchanges.insert(exchange, Exchange { operation: id, request, fault, response: None });
        let delay = 1 + self.rng.below(80) as i64;
        self.at(delay, Event::Arrive { exchange });
    }

    fn arrive(&mut self, id: u64) {
        let exchange = self.exchanges.get_mut(&id).unwrap();
        let up: Vec<_> = self.running.values().flat_map(|running| running.up.iter()).collect();
        let published = |kind: &str, name: &str, key_authorization: &str| {
            up.iter().any(|(k, n, a)| k == kind && n == name && a == key_authorization)
        };
        let (ca, request) = (&mut self.ca, &*exchange.request);
        let mut delay = 1 + self.rng.below(80) as i64;
        let is_post = !request.body.is_empty();
        let fault = exchange.fault.take();
        let is_spoiling = fault.as_ref().is_some_and(|fault| fault.is_false_witness(request.url()));
        exchange.response = match fault {
            None => Some(ca.serve(request, false, &published)),
            Some(Fault::Refused) => None,
            Some(Fault::Lost { after }) => {
                ca.serve(request, false, &published);
                delay += after;
                None
            }
            Some(Fault::Late { by }) => {
                delay += by;
                Some(ca.serve(request, false, &published))
            }
            Some(Fault::Twice) => {
                ca.serve(request, false, &published);
                Some(ca.serve(request, is_post, &published))
            }
            Some(Fault::Instead(response)) => {
                let nonce = ca.fresh_nonce();
                Some(response.with("Replay-Nonce", nonce))
            }
            Some(Fault::Replaced(response)) => {
                ca.serve(request, false, &published);
                Some(response)
            }
            Some(Fault::Header(name, value)) => {
                let mut response = ca.serve(request, false, &published);
                response.headers.retain(|(known, _)| known != name);
                Some(response.with(name, value))
            }
            Some(Fault::BadNonce) => {
                let mut response = ca.serve(request, false, &published);
                response.headers.retain(|(known, _)| known != "Replay-Nonce");
                let nonce = ca.bad_nonce();
                Some(response.with("Replay-Nonce", nonce))
            }
            Some(Fault::NoNonce) => {
                let mut response = ca.serve(request, false, &published);
                response.headers.retain(|(known, _)| known != "Replay-Nonce");
                Some(response)
            }
            Some(Fault::Falsified(choice)) => {
                let mut response = ca.serve(request, false, &published);
                falsify(&mut response, choice);
                Some(response)
            }
        };
        if is_spoiling && request.url().ends_with("/new-order") {
            if let Some(order) = ca.orders.last_mut() {
                order.spoiled = true;
            }
        }
        self.at(delay, Event::Response { exchange: id });
    }

    fn receive(&mut self, id: u64) {
        let Exchange { operation, request, response, .. } = self.exchanges.remove(&id).unwrap();
        let Some(running) = self.running.get_mut(&operation) else { return };
        let is_awaited = running.operation.request(request.id).is_some();
        let reply = running.operation.reply(request.id);
        let Some(response) = response else {
            if is_awaited {
                running.failed.insert(request.url().to_owned(), self.now + 1);
            }
            reply.failed("the connection was cut").unwrap();
            return self.poll(operation);
        };
        let json = response.json().unwrap_or_default();
        // A refusal for a reason is not repeated, or becomes another request.
        if !is_awaited {
            // The operation has given up the request and ignores the response.
        } else if matches!(response.status, 408 | 429 | 500..) {
            let wait = response.seconds("Retry-After").unwrap_or(0);
            running.failed.insert(request.url().to_owned(), self.now + (wait * 1000).max(1));
        } else if json["type"] == "urn:ietf:params:acme:error:badNonce" {
            running.faults += 1;
        }
        if matches!(json["status"].as_str(), Some("pending" | "processing")) {
            running.polls += 1;
        }
        running.faults += usize::from(response.status >= 500);
        if response.status == 200 {
            let text = String::from_utf8_lossy(&response.body);
            running.saw_ca_fault |= text.contains("serverInternal");
            if request.url().contains("/chall/") && json["status"].is_string() {
                running.responded.insert(request.url().to_owned());
            }
        }
        let mut fed = Ok(());
        for (name, value) in &response.headers {
            fed = fed.and_then(|()| reply.header(name.as_bytes(), value.as_bytes()));
        }
        fed = fed.and_then(|()| reply.body(&response.body));
        fed.and_then(|()| reply.end(response.status)).unwrap();
        self.poll(operation);
    }

    /// Checks the invariants of an operation that has ended, with or without an error.
    fn end(&mut self, id: u64, error: Option<acme_micro::AcmeError>) {
        let running = self.running.remove(&id).unwrap();
        let what = running.task;
        assert!(running.up.is_empty(), "{what:?}: still published: {:?}", running.up);
        let took = self.now - running.started - running.published_for;
        assert!(took <= TIME_LIMIT, "{what:?}: it took {took} ms");
        // Each name has an authorization and a challenge. Each fault may cost a request, a nonce
        // and a fetch to see its effect. Each "pending" or "processing" costs another fetch.
        let orders = 1 + usize::from(running.saw_ca_fault);
        let ceiling = orders * (12 + 5 * running.names) + running.polls + 3 * running.faults;
        assert!(
            running.requests <= ceiling,
            "{what:?}: {} requests, {ceiling} would do: {} names, {} polls, {} faults, {error:?}",
            running.requests,
            running.names,
            running.polls,
            running.faults
        );
        if let Some(error) = &error {
            self.report.failures += 1;
            self.tell(|| format!("{what:?}: {error:?}"));
            assert!(
                !matches!(
                    error.kind(),
                    ErrorKind::Panic | ErrorKind::Misuse | ErrorKind::InvalidArgument
                ),
                "{what:?}: an unexpected kind of error: {error:?}"
            );
            let text = error.to_string();
            assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
            let latest = Time::from_millis(self.now + 30 * DAY);
            assert!(error.retry_at().is_none_or(|at| at <= latest), "{what:?}: {error:?}");
            assert!(running.operation.take().is_none());
        }
        let outcome = match error {
            Some(error) => Err(error),
            None => Ok(running.operation.take().expect("a result")),
        };
        if matches!(outcome, Ok(Outcome::Issued(_))) {
            self.report.certificates += 1;
        }
        let program = &mut self.programs[running.program];
        program.finish(running.task, outcome, self.now, &mut self.ca, &mut self.rng);
        self.check_in(1, running.program);
    }

    fn nothing_is_lost(&self) {
        for (n, order) in self.ca.orders.iter().enumerate() {
            assert!(
                order.issued.is_none()
                    || order.delivered
                    || order.spoiled
                    || order.is_expired(self.now),
                "the certificate of order {n} for {:?} is lost",
                order.names
            );
        }
    }
}
