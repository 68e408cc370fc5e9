//! Keeping any number of certificates fresh.
//!
//! A [`Manager`] decides *what* is to be done and *when*: read a certificate from the store, ask the CA whether a
//! renewal is due, order. It has no clock, no thread and no socket. [`Manager::poll`] returns the next [`Act`], and
//! its host carries it out, as the hosts of an [`Operation`] carry out steps. The driver is such a host.
//!
//! # How it decides
//!
//! Each certificate has one moment, `due`, at which something is to be done for it, and which its record keeps
//! over restarts. An idle certificate costs its entry in the table and its timer, and nothing else. At its
//! moment it goes to the queue: certificates that expire soonest come first. A few attempts run at the
//! same time ([`ManagerOptions::max_attempts`]).
//!
//! An attempt is [`Client::keep`]: it asks the CA for renewal information, orders only if that is due, and
//! stores the result and the next moment (`Schedule::following`).
//!
//! A CA that does not answer, fails or limits us pauses: until its pause ends, only one attempt probes it, so an
//! outage costs one attempt and not one for each certificate. `limits.rs` has the ceilings. With several CAs
//! ([`Manager::add_ca`]), a certificate that cannot wait, and in a long outage each one, goes to the next CA
//! (`ca.rs`).

mod attempt;
mod by_hash;
mod ca;
mod counters;
mod event;
mod expiry;
mod limits;
mod load;
mod on_demand;
mod questions;
mod reading;
mod served;
mod status;
mod table;
mod warnings;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Client, KeepOptions, Operation, Tried};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, Key};
use crate::time::Time;

use ca::Ca;
use counters::{Counters, Failures};
pub use event::{ManagerEvent, ManagerEventKind};
use expiry::Expiry;
pub use load::{LoadJob, Loaded};
use load::{Reading, Watch};
use on_demand::OnDemand;
pub use served::Served;
use table::{Difference, State, Table};

/// Maximum delay between two polls: the clock may be set, or the machine may have slept.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Options of a [`Manager`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ManagerOptions {
    /// Maximum number of attempts at the same time.
    pub max_attempts: usize,
    /// Maximum number of certificates in memory. With more, a certificate is read from the store when a client
    /// first asks for it, and the one that was read first makes way.
    pub max_loaded: usize,
    /// Read every certificate at the start, and tell the program of it, whatever their number.
    pub load_all: bool,
}

impl Default for ManagerOptions {
    fn default() -> ManagerOptions {
        ManagerOptions { max_attempts: 10, max_loaded: 1000, load_all: false }
    }
}

/// The next task of the host.
// With a tag of its own: a tag in unused bits of a Ticket is compared together with bytes that have no value, which
// valgrind reports.
#[repr(u8)]
pub enum Act {
    /// Call [`LoadJob::perform`] on any thread, and pass its result to [`Manager::loaded`].
    Load(LoadJob),
    /// Run this operation to its end, and pass the result to [`Manager::finished`] with the ticket.
    Attempt(Ticket, Operation<Tried>),
    /// Ask the program whether it wants a certificate for this name, and pass the result to [`Manager::answer`].
    Ask(String),
    /// Tell the program.
    Tell(ManagerEvent),
    /// Nothing to do for this long.
    Wait(Duration),
}

/// Which certificate an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket {
    id: u32,
    generation: u16,
    ca: u8,
    renew_now: bool,
}

impl Ticket {
    /// The number of the CA: 0 for the client of [`Manager::new`], then those of [`Manager::add_ca`].
    pub fn ca(&self) -> usize {
        self.ca.into()
    }
}

/// Keeps certificates fresh; see the [module](self).
pub struct Manager {
    cas: Vec<Ca>,
    options: ManagerOptions,
    table: Table,
    timers: BinaryHeap<Reverse<(Time, u32)>>,
    /// Certificates whose record has not been read.
    unread: Vec<u32>,
    reading: Reading,
    /// Certificates for which something is to be done, by the end of their validity.
    queue: BinaryHeap<Reverse<(Time, u32)>>,
    attempts: usize,
    events: VecDeque<ManagerEvent>,
    expiry: Expiry,
    watch: Watch,
    on_demand: Option<OnDemand>,
    served: Arc<Served>,
    counters: Counters,
    failures: Failures,
    /// The time of the last poll.
    latest: Time,
}

impl Manager {
    /// Creates a manager for certificates of this client, which must have a store.
    pub fn new(client: &Client, options: ManagerOptions) -> Result<Manager> {
        let ca = Ca::new(client)?;
        if options.max_attempts == 0 {
            return Err(Error::invalid_argument("max_attempts must be at least 1"));
        }
        let max_loaded = options.max_loaded.max(1);
        Ok(Manager {
            cas: vec![ca],
            options,
            table: Table::default(),
            timers: BinaryHeap::new(),
            unread: Vec::new(),
            reading: Reading::default(),
            queue: BinaryHeap::new(),
            attempts: 0,
            events: VecDeque::new(),
            expiry: Expiry::default(),
            watch: Watch::default(),
            on_demand: None,
            served: Arc::new(Served::new(max_loaded)),
            counters: Counters::default(),
            failures: Failures::default(),
            latest: Time::from_millis(i64::MIN),
        })
    }

    /// Adds a CA behind the others, which are preferred to it. Its client has an account and a store of its own;
    /// the store may be the same. Add it before the first certificate.
    pub fn add_ca(&mut self, client: &Client) -> Result<()> {
        if !self.table.is_empty() {
            return Err(Error::new(ErrorKind::Misuse, "add the CAs before the certificates"));
        }
        ca::add(&mut self.cas, client)
    }

    /// Adds a certificate, or changes the options of the one of this name. Options that cannot work are refused.
    pub fn add(&mut self, options: KeepOptions) -> Result<()> {
        for ca in &self.cas {
            options.check(&ca.client)?;
        }
        match self.table.add(options)? {
            (id, Difference::New) => self.unread.push(id),
            (id, Difference::Options) => self.wake(id, Time::from_millis(i64::MIN)),
            (_, Difference::Nothing) => {}
        }
        Ok(())
    }

    /// Removes a certificate; returns whether there was one. Its record stays in the store. An attempt under way
    /// goes on to its end.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(id) = self.table.find(name) else { return false };
        self.served.remove(id);
        self.table.remove(id);
        true
    }

    /// Renews a certificate now, whatever its schedule says, and also after it was given up.
    pub fn renew_now(&mut self, name: &str) -> Result<()> {
        let missing = || Error::invalid_argument("the manager has no certificate of this name");
        let id = self.table.find(name).ok_or_else(missing)?;
        if let Some(entry) = self.table.get_mut(id) {
            entry.renew_now = true;
            (entry.failures, entry.forgets, entry.next_ca) = (0, true, 0);
        }
        self.wake(id, Time::from_millis(i64::MIN));
        Ok(())
    }

    /// The number of certificates.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it has no certificates.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The certificates in use, for handshakes: any thread may ask.
    pub fn served(&self) -> Arc<Served> {
        self.served.clone()
    }

    /// Returns the next task. `now` is the time of the system clock.
    pub fn poll(&mut self, now: Time) -> Act {
        loop {
            self.note_silence(now);
            if let Some(event) = self.events.pop_front() {
                return Act::Tell(event);
            }
            self.note_clock(now);
            self.take_due(now);
            if let Some(job) = self.load(now) {
                return Act::Load(job);
            }
            if let Some(name) = self.question() {
                return Act::Ask(name);
            }
            self.warn(now);
            if self.attempts < self.options.max_attempts && ca::any_allows(&self.cas, now) {
                if let Some((ticket, operation)) = self.begin(now) {
                    return Act::Attempt(ticket, operation);
                }
            }
            if self.events.is_empty() {
                return Act::Wait(self.wait(now));
            }
        }
    }

    /// If the clock was set back, moments that it had made are far in the future: they count as now.
    fn note_clock(&mut self, now: Time) {
        let was_set_back = self.latest.since(now) > limits::CLOCK_TOLERANCE;
        self.latest = now;
        if !was_set_back {
            return;
        }
        self.cas.iter_mut().for_each(|ca| ca.health.clock_was_set_back(now));
        self.watch.clock_was_set_back();
        for id in self.table.ids() {
            if let Some(entry) = self.table.get(id).filter(|entry| entry.state == State::Idle) {
                let due = limits::plausible(entry.due, now);
                if due != entry.due {
                    self.set_timer(id, due);
                }
            }
        }
    }

    fn set_timer(&mut self, id: u32, at: Time) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.due = at;
            entry.state = State::Idle;
            self.timers.push(Reverse((at, id)));
        }
        // A time cannot be removed: those that no longer matter are dropped when they outnumber the others.
        if self.timers.len() > 64 + 2 * self.table.len() {
            let table = &self.table;
            self.timers
                .retain(|Reverse((at, id))| table.get(*id).is_some_and(|entry| entry.due == *at));
        }
    }

    /// Moves a certificate's moment, unless an attempt is under way: that sets its own.
    fn wake(&mut self, id: u32, at: Time) {
        let idle = [State::Idle, State::Stopped];
        if self.table.get(id).is_some_and(|entry| idle.contains(&entry.state)) {
            self.set_timer(id, at);
        }
    }

    /// Moves the certificates whose moment has come to the queue.
    fn take_due(&mut self, now: Time) {
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(entry) = self.table.get_mut(id).filter(|entry| entry.due == at) else {
                continue;
            };
            match entry.state {
                State::Idle
                    if entry.on_demand && entry.wants_order(now) && entry.has_certificate() =>
                {
                    entry.state = State::Asking;
                    self.ask_again(id);
                }
                State::Idle => {
                    entry.state = State::Queued;
                    self.queue.push(Reverse((entry.not_after, id)));
                }
                State::New => self.unread.push(id),
                _ => {}
            }
        }
    }

    /// Tells the program of something at the preferred CA.
    fn tell(&mut self, event: ManagerEvent) {
        self.tell_of(0, event);
    }

    /// Tells the program of something at this CA.
    fn tell_of(&mut self, ca: u8, mut event: ManagerEvent) {
        if let Some(ca) = self.cas.get(usize::from(ca)) {
            event.ca = ca.url.clone();
        }
        self.events.push_back(event);
    }

    fn wait(&self, now: Time) -> Duration {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        // Once a pause is over, the end of the attempt that probes the CA brings the next poll.
        let pauses = self.cas.iter().filter_map(|ca| ca.health.ends());
        let pauses = pauses.filter(|until| !self.queue.is_empty() && *until > now);
        let next = timer.into_iter().chain(pauses).chain(self.expiry.at());
        let next = next.chain(self.load_at()).min();
        next.map_or(MAX_WAIT, |next| next.since(now)).min(MAX_WAIT)
    }

    /// Returns the body of the response to a CA's http-01 request for this path, also if another program that
    /// shares the store has the order; `None`: it is not the path of a challenge.
    pub fn http01_answer(&self, path: &str) -> Option<String> {
        let published = self.cas.iter().find_map(|ca| ca.client.http01_answer(path));
        // Another program's challenge is of a CA at which this one is working, too; else of the preferred one.
        let of_account = |ca: &Ca| ca.client.http01_answer_of_account(path);
        let in_use = || self.cas.iter().filter(|ca| ca.attempts > 0).find_map(of_account);
        published.or_else(in_use).or_else(|| self.cas.iter().find_map(of_account))
    }

    /// Returns the certificate for a server name: by exact name, then by wildcard.
    pub fn find(&self, server_name: &str) -> Option<(CertificateChain, Key)> {
        self.served.find(server_name)
    }
}
