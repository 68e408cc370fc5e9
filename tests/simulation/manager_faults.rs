//! Faults that a manager survives, one at a time, at the simulated CA: section G of tests/faults/catalogue.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use acme_micro::engine::{
    Challenge, Client, ClientOptions, KeepOptions, Operation, OrderOptions, Request, Step, Tried,
};
use acme_micro::manager::{Act, Manager, ManagerEvent, ManagerEventKind::*, ManagerOptions};
use acme_micro::store::{MemoryStore, Store, Versioned};
use acme_micro::{AcmeError, ErrorKind, Time};

use super::ca::{BASE, Ca, DAY, Profile, Response};
use super::rng::Rng;
use super::world::START;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;

/// A store that fails when the test says so.
struct Disk {
    records: MemoryStore,
    cannot_read: AtomicBool,
    cannot_write: AtomicBool,
}

fn refused() -> AcmeError {
    // A version that no record has is the only failure that a test can make outside the library.
    MemoryStore::new().put("none", u64::MAX, Some(b"")).unwrap_err()
}

impl Store for Disk {
    fn get(&self, name: &str) -> Result<Option<Versioned>, AcmeError> {
        match self.cannot_read.load(Ordering::Relaxed) {
            true => Err(refused()),
            false => self.records.get(name),
        }
    }

    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64, AcmeError> {
        match self.cannot_write.load(Ordering::Relaxed) {
            true => Err(refused()),
            false => self.records.put(name, expected, value),
        }
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, AcmeError> {
        self.records.list(prefix, after, limit)
    }
}

/// A host that runs the attempts of a manager to their end, those that begin together one after the other.
struct Host {
    now: i64,
    ca: Ca,
    disk: Arc<Disk>,
    manager: Manager,
    is_down: bool,
    /// The problem with which the CA refuses each order.
    refuses: Option<&'static str>,
    fills_disk: bool,
    requests: usize,
    attempts: usize,
    events: Vec<ManagerEvent>,
}

impl Host {
    fn new() -> Host {
        let mut ca = Ca::new(Profile::Boulder, Rng(1), START);
        ca.policy.lifetime = 90 * DAY;
        (ca.policy.own_faults, ca.policy.outages) = (0, 0);
        let flags = [AtomicBool::new(false), AtomicBool::new(false)];
        let [cannot_read, cannot_write] = flags;
        let disk = Arc::new(Disk { records: MemoryStore::new(), cannot_read, cannot_write });
        let manager = manager(&disk);
        let (now, events) = (START, Vec::new());
        Host {
            now,
            ca,
            disk,
            manager,
            is_down: false,
            refuses: None,
            fills_disk: false,
            requests: 0,
            attempts: 0,
            events,
        }
    }

    fn restart(&mut self) {
        self.manager = manager(&self.disk);
    }

    fn add(&mut self, names: &[&str]) {
        let mut options = KeepOptions::new(OrderOptions::new(names.iter().copied()));
        options.name = Some("site".to_owned());
        self.manager.add(options).unwrap();
    }

    /// Does what there is to do at this time; returns how long the manager then waits.
    fn work(&mut self) -> i64 {
        let mut begun = Vec::new();
        loop {
            match self.manager.poll(Time::from_millis(self.now)) {
                Act::Load(job) => {
                    self.manager.loaded(job.perform(), Time::from_millis(self.now));
                }
                Act::Attempt(ticket, operation) => {
                    self.attempts += 1;
                    begun.push((ticket, operation));
                }
                Act::Tell(event) => self.events.push(event),
                Act::Wait(delay) if begun.is_empty() => return delay.as_millis() as i64,
                Act::Wait(_) => {
                    for (ticket, operation) in begun.drain(..) {
                        let outcome = self.run(&operation);
                        self.manager.finished(ticket, outcome, Time::from_millis(self.now));
                    }
                }
            }
        }
    }

    /// Works until this time has passed.
    fn work_for(&mut self, time: i64) {
        let end = self.now + time;
        while self.now < end {
            let wait = self.work().max(1);
            self.now = (self.now + wait).min(end.max(self.now + 1));
        }
    }

    fn run(&mut self, operation: &Operation<Tried>) -> Result<Tried, AcmeError> {
        let mut up: Vec<(String, String, String)> = Vec::new();
        loop {
            match operation.poll(Time::from_millis(self.now))? {
                Step::Store(access) => access.perform(),
                Step::Request(request) => {
                    let response = self.serve(&request, &up);
                    let reply = operation.reply(request.id);
                    let fed = match response {
                        None => reply.failed("the CA does not answer"),
                        Some(response) => response
                            .headers
                            .iter()
                            .try_for_each(|(name, value)| {
                                reply.header(name.as_bytes(), value.as_bytes())
                            })
                            .and_then(|()| reply.body(&response.body))
                            .and_then(|()| reply.end(response.status)),
                    };
                    fed.unwrap();
                }
                Step::Publish(challenges) => {
                    up.extend(challenges.iter().map(published));
                    operation.published(Ok(())).unwrap();
                }
                Step::Unpublish(_) => up.clear(),
                Step::Wait(delay) => self.now += delay.unwrap().as_millis() as i64,
                Step::Done => return operation.take().ok_or_else(refused),
                step => panic!("an unknown step: {step:?}"),
            }
        }
    }

    fn serve(
        &mut self,
        request: &Arc<Request>,
        up: &[(String, String, String)],
    ) -> Option<Response> {
        self.requests += 1;
        self.ca.now = self.now;
        if self.is_down {
            return None;
        }
        let has = |kind: &str, name: &str, authorization: &str| {
            up.iter().any(|(k, n, a)| k == kind && n == name && a == authorization)
        };
        let response = self.ca.serve(request, false, &has);
        if let Some(problem) = self.refuses.filter(|_| request.url().ends_with("/new-order")) {
            let nonces = response.headers.into_iter().filter(|(name, _)| name == "replay-nonce");
            let mut refusal = Response::problem(403, problem);
            refusal.headers.extend(nonces);
            return Some(refusal);
        }
        if self.fills_disk && response.body.starts_with(b"-----BEGIN CERT") {
            self.disk.cannot_write.store(true, Ordering::Relaxed);
        }
        Some(response)
    }

    /// The kinds of the events since the last call.
    fn kinds(&mut self) -> Vec<acme_micro::manager::ManagerEventKind> {
        self.events.drain(..).map(|event| event.kind).collect()
    }

    fn served(&self) -> bool {
        self.manager.find("a.example").is_some()
    }
}

fn published(challenge: &Challenge) -> (String, String, String) {
    (
        challenge.kind().as_str().to_owned(),
        challenge.identifier().to_owned(),
        challenge.key_authorization().to_owned(),
    )
}

fn manager(disk: &Arc<Disk>) -> Manager {
    let store: Arc<dyn Store> = disk.clone();
    let mut options = ClientOptions::with_store(format!("{BASE}/directory"), store).unwrap();
    options.terms_agreed = true;
    options.seed = Some(1);
    Manager::new(&Client::new(options).unwrap(), ManagerOptions::default()).unwrap()
}

#[test]
fn g01_a_ca_that_is_down_costs_one_probe_and_not_one_for_each_certificate() {
    let mut host = Host::new();
    for n in 0..200 {
        let name = format!("site{n}.example");
        host.manager.add(KeepOptions::new(OrderOptions::new([name]))).unwrap();
    }
    host.is_down = true;
    host.work();
    assert!(host.attempts <= 10, "{} attempts before the first one failed", host.attempts);
    host.work_for(3 * DAY);
    // After a minute, ten, a hundred, and then no longer apart.
    assert!(host.attempts <= 10 + 3 * 24, "{} attempts in three days", host.attempts);
    assert!(host.events.iter().all(|event| event.kind == Failed && event.next_try.is_some()));
    host.events.clear();
    host.is_down = false;
    host.work_for(2 * DAY);
    assert_eq!(host.kinds().iter().filter(|kind| **kind == Obtained).count(), 200);
}

#[test]
fn g02_a_restart_forgets_no_delay() {
    let mut host = Host::new();
    host.refuses = Some("rejectedIdentifier");
    host.add(&["a.example"]);
    host.work();
    assert_eq!(host.attempts, 1);
    assert_eq!(host.kinds(), [Failed]);
    for _ in 0..50 {
        host.restart();
        host.add(&["a.example"]);
        host.work();
        host.now += SECOND;
    }
    assert_eq!(host.attempts, 1, "a restart tries again at once");
}

#[test]
fn g03_a_certificate_that_has_expired_or_is_damaged_is_replaced_at_start() {
    let mut host = Host::new();
    host.add(&["a.example"]);
    host.work();
    assert_eq!(host.kinds(), [Obtained]);
    host.now += 100 * DAY;
    host.restart();
    host.add(&["a.example"]);
    host.work();
    assert_eq!(host.kinds(), [Loaded, Renewed]);

    let names = host.disk.list("certificate/", "", 10).unwrap();
    let [name] = names.as_slice() else { panic!("{names:?}") };
    let found = host.disk.get(name).unwrap().unwrap();
    let text = String::from_utf8(found.value.to_vec()).unwrap();
    let damaged = text.replacen("MII", "XXX", 1).replacen("MII", "XXX", 1);
    assert_ne!(text, damaged);
    host.disk.put(name, found.version, Some(damaged.as_bytes())).unwrap();
    host.restart();
    host.add(&["a.example"]);
    host.work_for(2 * DAY);
    assert!(host.kinds().iter().all(|kind| *kind != Loaded && *kind != Stopped));
    assert!(host.served());
}

#[test]
fn g04_a_stored_certificate_of_other_names_is_replaced_at_start() {
    let mut host = Host::new();
    host.add(&["a.example"]);
    host.work();
    host.events.clear();
    host.restart();
    host.add(&["a.example", "b.example"]);
    host.work();
    assert_eq!(host.kinds(), [Loaded, Renewed]);
    assert!(host.manager.find("b.example").is_some());
}

#[test]
fn g07_nothing_is_ordered_while_the_store_does_not_answer() {
    let mut host = Host::new();
    host.disk.cannot_read.store(true, Ordering::Relaxed);
    host.add(&["a.example"]);
    host.work_for(HOUR);
    assert_eq!(host.requests, 0);
    let kinds = host.kinds();
    assert!(kinds.iter().all(|kind| *kind == Failed), "{kinds:?}");
    assert!((50..=61).contains(&kinds.len()), "{} events in an hour", kinds.len());
    host.disk.cannot_read.store(false, Ordering::Relaxed);
    host.work_for(2 * 60 * SECOND);
    assert_eq!(host.kinds().first(), Some(&Obtained));
}

#[test]
fn g08_a_permanent_failure_stops_after_a_week_and_renew_begins_anew() {
    let mut host = Host::new();
    host.refuses = Some("rejectedIdentifier");
    host.add(&["a.example"]);
    host.work_for(60 * DAY);
    let stopped = host.events.last().unwrap();
    assert_eq!((stopped.kind, stopped.next_try), (Stopped, None));
    assert_eq!(stopped.error.as_ref().unwrap().kind(), ErrorKind::Order);
    assert_eq!(host.kinds().len(), 7);
    assert_eq!(host.attempts, 7);
    host.refuses = None;
    host.manager.renew_now("site").unwrap();
    host.work();
    assert_eq!(host.kinds(), [Obtained]);
}

#[test]
fn g09_a_valid_certificate_is_never_given_up() {
    let mut host = Host::new();
    host.add(&["a.example"]);
    host.work();
    host.events.clear();
    host.refuses = Some("rejectedIdentifier");
    host.work_for(85 * DAY);
    let failed = host.kinds().iter().filter(|kind| **kind == Failed).count();
    assert!(failed > 7, "{failed}");
    assert!(host.served());
}

#[test]
fn g10_a_certificate_that_the_store_cannot_take_is_used() {
    let mut host = Host::new();
    host.fills_disk = true;
    host.add(&["a.example"]);
    host.work();
    let event = host.events.last().unwrap();
    assert_eq!(event.kind, Obtained);
    assert!(event.error.is_some() && event.certificate.is_some());
    assert!(host.served());
}
