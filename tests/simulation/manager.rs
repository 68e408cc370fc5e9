//! Years of a manager at the simulated CA: outages of the CA and of the store, processes killed at any step, a
//! clock that is set, windows of renewal that the CA moves into the past. Time is virtual.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use acme_micro::engine::{
    Challenge, Client, ClientOptions, KeepOptions, Operation, OrderOptions, Request, Step, Tried,
};
use acme_micro::manager::{Act, Manager, ManagerEventKind, ManagerOptions, Ticket};
use acme_micro::store::{MemoryStore, Store, Versioned};
use acme_micro::{AcmeError, ErrorKind, Time};

use super::ca::{Ca, DAY, Profile, Response};
use super::rng::Rng;
use super::world::START;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
/// A CA whose limits the library knows.
const BASE: &str = "https://acme-v02.api.letsencrypt.org";

/// A store whose disk is full at times.
struct Disk {
    records: MemoryStore,
    is_full: AtomicBool,
}

impl Store for Disk {
    fn get(&self, name: &str) -> Result<Option<Versioned>, AcmeError> {
        self.records.get(name)
    }

    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64, AcmeError> {
        // A version that no record has.
        let expected = if self.is_full.load(Ordering::Relaxed) { u64::MAX - 1 } else { expected };
        self.records.put(name, expected, value)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, AcmeError> {
        self.records.list(prefix, after, limit)
    }
}

pub struct Plan {
    pub seed: u64,
    pub sites: usize,
    pub days: i64,
    pub lifetime: i64,
    /// Length of the CA's longest outage.
    pub outage: i64,
    /// Mean time between two outages.
    pub outages_every: i64,
    /// Mean time between two kills of the process.
    pub kills_every: i64,
    /// Mean time between two moves of all windows of renewal into the past.
    pub incidents_every: i64,
}

#[derive(Debug, Default)]
pub struct Report {
    pub certificates: usize,
    pub requests: usize,
    pub orders: usize,
    pub kills: usize,
    pub failures: usize,
    pub outages: usize,
    pub incidents: usize,
    /// Number of times that the clock was set, forward and back.
    pub clock_jumps: usize,
    pub pauses: usize,
    /// Hours of certificates that had expired.
    pub expired: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Poll(u64),
    Arrive(u64, u64),
    Kill,
    Hour,
    Outage(bool),
    Disk(bool),
    Incident,
    Clock(bool),
}

struct Attempt {
    ticket: Ticket,
    operation: Operation<Tried>,
    requests: HashMap<u64, Arc<Request>>,
    up: Vec<(String, String, String)>,
}

struct World {
    plan: Plan,
    rng: Rng,
    now: i64,
    ca: Ca,
    disk: Arc<Disk>,
    manager: Manager,
    attempts: HashMap<u64, Attempt>,
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    last_id: u64,
    is_down: bool,
    /// The end of validity, for each site; 0: it has no certificate yet.
    served: Vec<i64>,
    /// Difference of the program's clock from the right one.
    clock_ahead: i64,
    /// Whether the program knows that the CA is paused.
    is_paused: bool,
    /// The time of the only wake-up that counts.
    wake: i64,
    report: Report,
}

fn name(n: usize) -> String {
    format!("site{n}.example")
}

fn site(name: &str) -> usize {
    name["site".len()..].split('.').next().unwrap().parse().unwrap()
}

fn manager(disk: &Arc<Disk>, seed: u64, sites: usize) -> Manager {
    let store: Arc<dyn Store> = disk.clone();
    let mut options = ClientOptions::with_store(format!("{BASE}/directory"), store).unwrap();
    options.terms_agreed = true;
    options.seed = Some(seed);
    let client = Client::new(options).unwrap();
    let mut options = ManagerOptions::default();
    // Each minute it looks at those in memory.
    options.max_loaded = 20;
    let mut manager = Manager::new(&client, options).unwrap();
    for n in 0..sites {
        manager.add(KeepOptions::new(OrderOptions::new([name(n)]))).unwrap();
    }
    manager
}

pub fn run(plan: Plan) -> Report {
    let mut rng = Rng(plan.seed);
    let mut ca = Ca::new(Profile::Boulder, Rng(rng.next()), START);
    ca.base = BASE;
    (ca.policy.lifetime, ca.policy.limits) = (plan.lifetime, true);
    ca.policy.renewal_info_each = number("SIMULATION_RENEWAL_INFO", 21_600);
    (ca.policy.own_faults, ca.policy.outages) = (0, 0);
    let disk = Arc::new(Disk { records: MemoryStore::new(), is_full: AtomicBool::new(false) });
    let manager = manager(&disk, rng.next(), plan.sites);
    let (attempts, events, served) = (HashMap::new(), BinaryHeap::new(), vec![0; plan.sites]);
    let mut world = World {
        plan,
        rng,
        now: START,
        ca,
        disk,
        manager,
        attempts,
        events,
        last_id: 0,
        is_down: false,
        served,
        clock_ahead: 0,
        is_paused: false,
        wake: i64::MAX,
        report: Report::default(),
    };
    world.live();
    world.report
}

impl World {
    fn at(&mut self, delay: i64, event: Event) {
        self.last_id += 1;
        self.events.push(Reverse((self.now + delay, self.last_id, event)));
    }

    /// A random time around this one.
    fn about(&mut self, time: i64) -> i64 {
        1 + self.rng.below(2 * time as u64) as i64
    }

    fn live(&mut self) {
        let end = START + self.plan.days * DAY;
        let first = [
            (self.plan.kills_every, Event::Kill),
            (self.plan.outages_every, Event::Outage(true)),
            (20 * DAY, Event::Disk(true)),
            (self.plan.incidents_every, Event::Incident),
            (self.plan.incidents_every, Event::Clock(true)),
            (1, Event::Hour),
        ];
        for (about, event) in first {
            let delay = self.about(about);
            self.at(delay, event);
        }
        self.work();
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            (self.now, self.ca.now) = (at, at);
            if at > end {
                return;
            }
            match event {
                Event::Wake if self.wake == at => self.work(),
                Event::Wake => {}
                Event::Poll(id) => self.poll(id),
                Event::Arrive(id, request) => self.arrive(id, request),
                Event::Kill => self.kill(),
                Event::Hour => self.check_all(),
                Event::Outage(begins) => {
                    self.is_down = begins;
                    self.report.outages += usize::from(begins);
                    let length = 1 + self.rng.below(self.plan.outage as u64) as i64;
                    let delay = if begins { length } else { self.about(self.plan.outages_every) };
                    self.at(delay, Event::Outage(!begins));
                }
                Event::Incident => {
                    (self.ca.incident, self.report.incidents) = (at, self.report.incidents + 1);
                    let delay = self.about(self.plan.incidents_every);
                    self.at(delay, Event::Incident);
                }
                Event::Clock(is_wrong) => {
                    let most = self.plan.lifetime / 10;
                    self.clock_ahead = if is_wrong { self.about(most) - most } else { 0 };
                    self.report.clock_jumps += 1;
                    let delay =
                        self.about(if is_wrong { 6 * HOUR } else { self.plan.incidents_every });
                    self.at(delay, Event::Clock(!is_wrong));
                    // The host does not know: it polls when it would have.
                }
                Event::Disk(is_full) => {
                    self.disk.is_full.store(is_full, Ordering::Relaxed);
                    let delay = self.about(if is_full { 6 * HOUR } else { 20 * DAY });
                    self.at(delay, Event::Disk(!is_full));
                }
            }
        }
    }

    fn kill(&mut self) {
        (self.report.kills, self.is_paused) = (self.report.kills + 1, false);
        self.attempts.clear();
        self.manager = manager(&self.disk, self.rng.next(), self.plan.sites);
        let next = self.about(self.plan.kills_every);
        self.at(next, Event::Kill);
        self.work();
    }

    /// No certificate has expired. At first the CA's limit of orders decides how long a site waits.
    fn check_all(&mut self) {
        let patience = 2 * DAY + self.plan.outage + self.plan.sites as i64 * HOUR / 40;
        let is_late = self.now > START + patience;
        let is_expired = |end: &&i64| **end <= self.now && (is_late || **end != 0);
        self.report.expired += self.served.iter().filter(is_expired).count();
        if self.report.expired > 0 {
            let n = self.served.iter().position(|end| *end <= self.now && *end != 0);
            panic!("{n:?} expired: {:?}", self.report);
        }
        self.ca.forget();
        if self.plan.sites > 1000 && (self.now - START) / HOUR % (10 * 24) == 0 {
            println!("day {}: {:?}", (self.now - START) / DAY, self.report);
        }
        self.at(HOUR, Event::Hour);
    }

    /// The time of the program's clock.
    fn time(&self) -> Time {
        Time::from_millis(self.now + self.clock_ahead)
    }

    fn work(&mut self) {
        loop {
            match self.manager.poll(self.time()) {
                Act::Load(job) => {
                    let loaded = job.perform();
                    self.manager.loaded(loaded, self.time());
                }
                Act::Attempt(ticket, operation) => {
                    self.last_id += 1;
                    let id = self.last_id;
                    let (requests, up) = (HashMap::new(), Vec::new());
                    self.attempts.insert(id, Attempt { ticket, operation, requests, up });
                    self.at(0, Event::Poll(id));
                }
                Act::Tell(event) => {
                    use ManagerEventKind::*;
                    if let Some((chain, key)) = event.certificate {
                        assert!(chain.is_for_key(&key), "a key of another certificate");
                        self.report.certificates +=
                            usize::from(matches!(event.kind, Obtained | Renewed));
                        self.served[site(&event.name)] = chain.not_after().as_millis();
                    } else if matches!(event.kind, CaPaused | CaResumed) {
                        assert_eq!(self.is_paused, event.kind == CaResumed, "{event:?}");
                        self.is_paused = !self.is_paused;
                        self.report.pauses += usize::from(self.is_paused);
                    } else if matches!(event.kind, Expiring | Expired) {
                        // Only a wrong clock has an expired certificate: check_all() uses the right one.
                        assert!(event.kind == Expiring || self.clock_ahead != 0, "{event:?}");
                    } else {
                        assert_eq!(event.kind, Failed, "{event:?}");
                        let next = event.next_try.unwrap();
                        assert!(next > self.time(), "no pause: {event:?}");
                        let is_outage = event.error.unwrap().kind() == ErrorKind::Transport;
                        assert!(self.is_paused || !is_outage, "a pause that is not told");
                        self.report.failures += 1;
                    }
                }
                Act::Ask(name) => panic!("no certificate is on demand: {name}"),
                Act::Wait(delay) => {
                    let delay = (delay.as_millis() as i64).max(1);
                    self.wake = self.now + delay;
                    return self.at(delay, Event::Wake);
                }
            }
        }
    }

    fn poll(&mut self, id: u64) {
        loop {
            let Some(attempt) = self.attempts.get_mut(&id) else { return };
            match attempt.operation.poll(Time::from_millis(self.now + self.clock_ahead)) {
                Ok(Step::Store(access)) => access.perform(),
                Ok(Step::Request(request)) => {
                    self.report.requests += 1;
                    self.report.orders += usize::from(request.url().ends_with("/new-order"));
                    let number = request.id;
                    attempt.requests.insert(number, request);
                    let delay = 1 + self.rng.below(200) as i64;
                    self.at(delay, Event::Arrive(id, number));
                }
                Ok(Step::Publish(challenges)) => {
                    attempt.up.extend(challenges.iter().map(published));
                    attempt.operation.published(Ok(())).unwrap();
                }
                Ok(Step::Unpublish(challenges)) => {
                    let gone: Vec<_> = challenges.iter().map(published).collect();
                    attempt.up.retain(|one| !gone.contains(one));
                }
                Ok(Step::Wait(delay)) => {
                    if let Some(delay) = delay.map(|delay| delay.as_millis() as i64) {
                        self.at(delay.max(1), Event::Poll(id));
                    }
                    return;
                }
                Ok(Step::Done) => {
                    let tried = attempt.operation.take().unwrap();
                    return self.end(id, Ok(tried));
                }
                Ok(step) => panic!("an unknown step: {step:?}"),
                Err(error) => return self.end(id, Err(error)),
            }
        }
    }

    fn end(&mut self, id: u64, outcome: Result<Tried, AcmeError>) {
        let attempt = self.attempts.remove(&id).unwrap();
        assert!(attempt.up.is_empty(), "challenges stay published");
        self.manager.finished(attempt.ticket, outcome, self.time());
        self.work();
    }

    fn arrive(&mut self, id: u64, number: u64) {
        let up: Vec<_> = self.attempts.values().flat_map(|one| one.up.clone()).collect();
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        let Some(request) = attempt.requests.remove(&number) else { return };
        let published = |kind: &str, name: &str, authorization: &str| {
            up.iter().any(|(k, n, a)| k == kind && n == name && a == authorization)
        };
        let response: Option<Response> =
            (!self.is_down).then(|| self.ca.serve(&request, false, &published));
        let reply = attempt.operation.reply(number);
        let fed = match response {
            None => reply.failed("the CA does not answer"),
            Some(response) => {
                assert_ne!(response.status, 429, "a limit of the CA is met: {}", request.url());
                response
                    .headers
                    .iter()
                    .try_for_each(|(name, value)| reply.header(name.as_bytes(), value.as_bytes()))
                    .and_then(|()| reply.body(&response.body))
                    .and_then(|()| reply.end(response.status))
            }
        };
        fed.unwrap();
        self.poll(id);
    }
}

fn published(challenge: &Challenge) -> (String, String, String) {
    (
        challenge.kind().as_str().to_owned(),
        challenge.identifier().to_owned(),
        challenge.key_authorization().to_owned(),
    )
}

/// The number of certificates that a site needs in this time.
fn needed(days: i64, lifetime: i64) -> usize {
    (days * DAY / (lifetime * 2 / 3)) as usize
}

/// A number from the environment.
fn number(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// `make soak` has more certificates.
fn more() -> usize {
    number("SIMULATION_SITES", 1) as usize
}

#[test]
fn certificates_of_45_days_stay_fresh_for_two_years() {
    check(Plan {
        seed: number("SIMULATION_SEED", 1) as u64,
        sites: 5 * more(),
        days: number("SIMULATION_DAYS", 730),
        lifetime: 45 * DAY,
        outage: 5 * DAY,
        outages_every: 20 * DAY,
        kills_every: 20 * DAY,
        incidents_every: 100 * DAY,
    });
}

#[test]
fn certificates_of_160_hours_stay_fresh_for_a_quarter() {
    check(Plan {
        seed: number("SIMULATION_SEED", 2) as u64,
        sites: 10 * more(),
        days: number("SIMULATION_DAYS", 90),
        lifetime: 160 * HOUR,
        outage: DAY,
        outages_every: 4 * DAY,
        kills_every: 2 * DAY,
        incidents_every: 15 * DAY,
    });
}

fn check(plan: Plan) {
    let (sites, needed) = (plan.sites, needed(plan.days, plan.lifetime));
    let days = plan.days as usize;
    let report = run(plan);
    println!("{report:?}");
    assert_eq!(report.expired, 0, "{report:?}");
    assert!(report.certificates >= sites * needed * 9 / 10, "{report:?}");
    // A kill or a full disk may cost an order, and an outage a few. All are renewed after an incident, and some if
    // the clock is ahead.
    let more = report.incidents + report.clock_jumps / 4;
    assert!(report.orders <= sites * (needed + more + 4) * 5 / 4 + report.kills * 10, "{report:?}");
    assert!(report.kills > 5 && report.outages > 1 && report.failures > 0, "{report:?}");
    assert!(report.pauses > 1 && report.incidents > 1 && report.clock_jumps > 2, "{report:?}");
    // The CA is asked four times a day for each certificate, and its directory now and then.
    assert!(
        report.requests < sites * days * 10 + report.orders * 30 + report.kills * 200,
        "{report:?}"
    );
}
