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
    /// Whether it tells managers of changes.
    knows_changes: AtomicBool,
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

    fn revision(&self) -> Result<Option<u64>, AcmeError> {
        match self.knows_changes.load(Ordering::Relaxed) {
            true => self.records.revision(),
            false => Ok(None),
        }
    }
}

/// The URLs of a second CA.
const OTHER: &str = "https://other.example";

/// A host that runs the attempts of a manager to their end, those that begin together one after the other.
pub struct Host {
    now: i64,
    ca: Ca,
    /// A second CA.
    other: Option<Ca>,
    disk: Arc<Disk>,
    manager: Manager,
    is_down: bool,
    /// The problem with which the CA refuses each order.
    refuses: Option<&'static str>,
    fills_disk: bool,
    requests: usize,
    attempts: usize,
    /// The names that the manager has asked about.
    asked: Vec<String>,
    /// The names that the program wants certificates for.
    wanted: Vec<&'static str>,
    events: Vec<ManagerEvent>,
}

impl Host {
    fn new() -> Host {
        let ca = new_ca(1);
        let disk = Arc::new(Disk {
            records: MemoryStore::new(),
            cannot_read: AtomicBool::new(false),
            cannot_write: AtomicBool::new(false),
            knows_changes: AtomicBool::new(false),
        });
        let manager = manager(&disk, &[BASE]);
        let (now, events) = (START, Vec::new());
        Host {
            now,
            ca,
            other: None,
            disk,
            manager,
            is_down: false,
            refuses: None,
            fills_disk: false,
            requests: 0,
            attempts: 0,
            asked: Vec::new(),
            wanted: Vec::new(),
            events,
        }
    }

    /// A host with two CAs.
    fn with_two_cas() -> Host {
        let mut host = Host::new();
        let mut other = new_ca(2);
        other.base = OTHER;
        host.other = Some(other);
        host.restart();
        host
    }

    fn restart(&mut self) {
        self.manager = match self.other {
            Some(_) => manager(&self.disk, &[BASE, OTHER]),
            None => manager(&self.disk, &[BASE]),
        };
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
                Act::Ask(name) => {
                    let is_wanted = self.wanted.contains(&name.as_str());
                    self.manager.answer(&name, is_wanted, Time::from_millis(self.now));
                    self.asked.push(name);
                }
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
        if let Some(other) = self.other.as_mut().filter(|_| request.url().starts_with(OTHER)) {
            other.now = self.now;
            return Some(other.serve(request, false, &|kind, name, authorization| {
                up.iter().any(|(k, n, a)| k == kind && n == name && a == authorization)
            }));
        }
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

fn new_ca(seed: u64) -> Ca {
    let mut ca = Ca::new(Profile::Boulder, Rng(seed), START);
    ca.policy.lifetime = 90 * DAY;
    (ca.policy.own_faults, ca.policy.outages) = (0, 0);
    ca
}

fn manager(disk: &Arc<Disk>, bases: &[&str]) -> Manager {
    let clients: Vec<Client> = bases
        .iter()
        .map(|base| {
            let store: Arc<dyn Store> = disk.clone();
            let mut options = ClientOptions::with_store(format!("{base}/directory"), store);
            if let Ok(options) = &mut options {
                (options.terms_agreed, options.seed) = (true, Some(1));
            }
            Client::new(options.unwrap()).unwrap()
        })
        .collect();
    let mut manager = Manager::new(&clients[0], ManagerOptions::default()).unwrap();
    clients[1..].iter().for_each(|client| manager.add_ca(client).unwrap());
    manager
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
    let (paused, failed): (Vec<_>, Vec<_>) =
        host.events.iter().partition(|event| event.kind == CaPaused);
    assert!(paused.len() == 1 && paused[0].error.is_some() && paused[0].name.is_empty());
    assert!(failed.iter().all(|event| event.kind == Failed && event.next_try.is_some()));
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
    assert_eq!(host.kinds(), [Loaded, Expired, Renewed]);

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

#[test]
fn g30_with_a_second_ca_a_missing_certificate_does_not_wait_for_the_first() {
    let mut host = Host::with_two_cas();
    host.is_down = true;
    host.add(&["a.example"]);
    host.work();
    let cas: Vec<_> = host.events.iter().map(|event| (event.kind, event.ca.to_string())).collect();
    let of = |base: &str| format!("{base}/directory");
    assert_eq!(cas, [(CaPaused, of(BASE)), (OtherCa, of(BASE)), (Obtained, of(OTHER))]);
    assert!(host.served());

    // A restart uses it, asks its own CA about the renewal, and orders nothing.
    host.events.clear();
    host.restart();
    host.add(&["a.example"]);
    host.work();
    host.work_for(30 * DAY);
    let kinds = host.kinds();
    assert_eq!(kinds.first(), Some(&Loaded));
    assert!(kinds[1..].iter().all(|kind| *kind == NotDue), "{kinds:?}");
    assert!(kinds.len() > 20, "the CA that has issued it is asked: {kinds:?}");

    // The first CA works again: the renewal is at that one.
    host.is_down = false;
    host.work_for(45 * DAY);
    let renewed: Vec<_> = host.events.iter().filter(|event| event.kind == Renewed).collect();
    assert_eq!(renewed.len(), 1);
    assert_eq!(*renewed[0].ca, of(BASE));
    host.events.clear();
    host.work_for(20 * DAY);
    let kinds = host.kinds();
    assert!(kinds.iter().all(|kind| *kind == NotDue), "{kinds:?}");
    host.restart();
    host.add(&["a.example"]);
    host.work();
    assert_eq!((host.events[0].kind, &*host.events[0].ca), (Loaded, &*of(BASE)));
}

#[test]
fn g31_a_certificate_with_time_waits_six_hours_for_its_ca() {
    let mut host = Host::with_two_cas();
    host.add(&["a.example"]);
    host.work();
    host.work_for(50 * DAY);
    host.events.clear();
    host.is_down = true;
    let mut kinds = Vec::new();
    let mut paused_at = None;
    while !kinds.contains(&Renewed) {
        host.work_for(HOUR / 4);
        kinds.append(&mut host.kinds());
        paused_at = paused_at.or(kinds.contains(&CaPaused).then_some(host.now));
        assert!(host.now < START + 85 * DAY, "{kinds:?}");
    }
    let outage = host.now - paused_at.unwrap();
    assert!((6 * HOUR - HOUR / 4..12 * HOUR).contains(&outage), "after {outage} ms: {kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == OtherCa).count(), 1);
    assert_eq!((host.ca.orders.len(), host.other.as_ref().unwrap().orders.len()), (1, 1));
    assert!(host.served());
}

#[test]
fn g32_a_refusal_of_one_ca_is_no_end_if_there_is_another() {
    for (problem, failures) in [("rejectedIdentifier", 0), ("unauthorized", 0)] {
        let mut host = Host::with_two_cas();
        host.refuses = Some(problem);
        host.add(&["a.example"]);
        host.work();
        let kinds = host.kinds();
        let failed = kinds.iter().filter(|kind| **kind == Failed).count();
        assert_eq!((kinds.last(), failed), (Some(&Obtained), failures), "{problem} {kinds:?}");
    }
}

#[test]
fn g33_a_warning_precedes_the_end_of_a_certificate() {
    let mut host = Host::new();
    host.add(&["a.example"]);
    host.work();
    let end = host.manager.find("a.example").unwrap().0.not_after().as_millis();
    host.is_down = true;
    host.events.clear();
    host.work_for(100 * DAY);
    let warnings: Vec<_> = host
        .events
        .iter()
        .filter(|event| matches!(event.kind, Expiring | Expired))
        .map(|event| (event.kind, event.not_after.unwrap().as_millis()))
        .collect();
    assert_eq!(warnings, [(Expiring, end), (Expired, end)]);
    host.is_down = false;
    host.events.clear();
    host.work_for(2 * DAY);
    let kinds = host.kinds();
    assert!(kinds.contains(&CaResumed) && kinds.contains(&Renewed), "{kinds:?}");
    assert!(!kinds.contains(&Expiring), "{kinds:?}");
}

/// A manager at the same store as the host's, which has renewed the certificate.
fn renewed_by_another(host: &mut Host) -> [u8; 32] {
    let mut another = manager(&host.disk, &[BASE]);
    std::mem::swap(&mut host.manager, &mut another);
    host.add(&["a.example"]);
    host.work();
    host.events.clear();
    host.manager.renew_now("site").unwrap();
    host.work();
    assert_eq!(host.kinds(), [Renewed]);
    let new = host.manager.find("a.example").unwrap().0.fingerprint();
    std::mem::swap(&mut host.manager, &mut another);
    assert_ne!(host.manager.find("a.example").unwrap().0.fingerprint(), new);
    new
}

#[test]
fn g34_a_certificate_that_another_program_has_renewed_is_used() {
    for knows_changes in [false, true] {
        let mut host = Host::new();
        host.disk.knows_changes.store(knows_changes, Ordering::Relaxed);
        host.add(&["a.example"]);
        host.work();
        host.work_for(DAY);
        host.events.clear();
        let new = renewed_by_another(&mut host);
        let begin = host.now;
        while host.events.is_empty() {
            host.work_for(SECOND);
            assert!(host.now < begin + 2 * DAY);
        }
        let has_looked = host.now - begin <= 61 * SECOND;
        assert_eq!((host.kinds()[0], has_looked), (Loaded, knows_changes));
        assert_eq!(host.manager.find("a.example").unwrap().0.fingerprint(), new);
    }
}

fn on_demand() -> KeepOptions {
    KeepOptions::new(OrderOptions::new(Vec::<String>::new()))
}

#[test]
fn g35_names_that_clients_make_up_cost_no_request() {
    let mut host = Host::new();
    let ask = |host: &mut Host, name: &str| assert!(host.manager.find(name).is_none(), "{name}");
    ask(&mut host, "a.example");
    host.work();
    assert!(host.asked.is_empty(), "without on_demand() nothing is asked");

    host.manager.on_demand(on_demand()).unwrap();
    for name in ["", ".", "a", "*.a.example", "192.0.2.1", "a_b.example", "a..example", "é.example"]
    {
        ask(&mut host, name);
    }
    host.work();
    assert!(host.asked.is_empty(), "{:?}", host.asked);

    for n in 0..100_000 {
        ask(&mut host, &format!("{n}.example"));
        if n % 50 == 0 {
            host.work();
            host.now += 2;
        }
    }
    assert_eq!((host.asked.len(), host.requests), (600, 0), "in less than a minute");

    // A refused name is not asked about for ten minutes.
    for (minutes, asked) in [(0, 1), (5, 1), (9, 1), (11, 2)] {
        host.now = START + (60 + minutes) * 60 * SECOND;
        ask(&mut host, "Again.Example.");
        host.work();
        let count = host.asked.iter().filter(|name| *name == "again.example").count();
        assert_eq!(count, asked, "after {minutes} minutes");
    }
    assert_eq!((host.requests, host.manager.len()), (0, 0));
}

#[test]
fn g36_a_certificate_on_demand_is_kept_as_long_as_the_program_wants_it() {
    let mut host = Host::new();
    host.wanted = vec!["a.example"];
    host.manager.on_demand(on_demand()).unwrap();
    assert!(host.manager.find("a.example").is_none());
    host.work();
    assert_eq!(host.kinds(), [Obtained]);
    assert!(host.served());

    // After a restart the first client brings it back from the store.
    host.restart();
    host.manager.on_demand(on_demand()).unwrap();
    host.work();
    assert!(!host.served());
    host.work();
    assert_eq!(host.kinds(), [Loaded]);
    assert!(host.served());

    host.work_for(70 * DAY);
    assert_eq!(host.kinds().iter().filter(|kind| **kind == Renewed).count(), 1);
    host.wanted.clear();
    host.work_for(70 * DAY);
    let kinds = host.kinds();
    assert!(!kinds.contains(&Renewed) && kinds.last() == Some(&Stopped), "{kinds:?}");
    assert!(host.manager.is_empty() && !host.served());
}

#[test]
fn g25_a_store_that_never_answers_is_told_each_minute() {
    let mut host = Host::new();
    host.add(&["a.example.org"]);
    let at = |host: &Host| Time::from_millis(host.now);
    let Act::Load(job) = host.manager.poll(at(&host)) else { panic!("nothing is read") };
    for _ in 0..3 {
        let Act::Wait(delay) = host.manager.poll(at(&host)) else { panic!("it does not wait") };
        assert_eq!(delay.as_secs(), 60);
        host.now += 60 * SECOND;
        let Act::Tell(event) = host.manager.poll(at(&host)) else { panic!("nothing is told") };
        assert_eq!((event.kind, event.name.as_str()), (Failed, "site"));
        assert_eq!(event.error.unwrap().kind(), ErrorKind::Store);
    }
    // The late answer counts.
    host.manager.loaded(job.perform(), at(&host));
    host.work();
    assert_eq!(host.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [Obtained]);
}

#[test]
fn a_renewal_that_is_wanted_before_the_record_is_read_begins_at_once() {
    let mut host = Host::new();
    host.add(&["a.example.org"]);
    host.work();
    host.events.clear();
    host.restart();
    host.add(&["a.example.org"]);
    host.manager.renew_now("site").unwrap();
    host.work();
    assert_eq!(host.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [Loaded, Renewed]);
}

#[test]
fn g40_a_restart_forgets_no_first_order_that_counts_against_the_limit_of_the_ca() {
    const LIMITED: &str = "https://acme-v02.api.letsencrypt.org";
    let mut host = Host::new();
    (host.ca.base, host.ca.policy.limits) = (LIMITED, true);
    let restart = |host: &mut Host| {
        host.manager = manager(&host.disk, &[LIMITED]);
        for n in 0..600 {
            let name = format!("site{n}.example");
            host.manager.add(KeepOptions::new(OrderOptions::new([name]))).unwrap();
        }
    };
    for _ in 0..8 {
        restart(&mut host);
        host.work_for(HOUR / 2);
    }
    // The CA would have refused more than 300 in three hours.
    let failed =
        host.events.iter().filter(|event| !matches!(event.kind, Obtained | Loaded | NotDue));
    assert_eq!(failed.count(), 0);
    assert!(host.ca.orders.len() >= 240, "{}", host.ca.orders.len());
}
