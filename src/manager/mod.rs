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
//! outage costs one attempt and not one for each certificate. `limits.rs` has the ceilings.

mod by_hash;
mod event;
mod limits;
mod load;
mod served;
mod status;
mod table;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Client, KeepOptions, Operation, Tried};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, Key};
use crate::store::names;
use crate::store::schedule::Schedule;
use crate::time::Time;

pub use event::{ManagerEvent, ManagerEventKind};
use limits::{Budget, CaHealth};
pub use load::{LoadJob, Loaded};
pub use served::Served;
use status::Counters;
use table::{Difference, Entry, State, Table};

/// Maximum delay between two polls: the clock may be set, or the machine may have slept.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Maximum number of records that are read in one go.
const LOAD_AT_ONCE: usize = 256;

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
pub enum Act {
    /// Call [`LoadJob::perform`] on any thread, and pass its result to [`Manager::loaded`].
    Load(LoadJob),
    /// Run this operation to its end, and pass the result to [`Manager::finished`] with the ticket.
    Attempt(Ticket, Operation<Tried>),
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
    renew_now: bool,
}

/// Keeps certificates fresh; see the [module](self).
pub struct Manager {
    client: Client,
    options: ManagerOptions,
    table: Table,
    timers: BinaryHeap<Reverse<(Time, u32)>>,
    /// Certificates whose record has not been read.
    unread: Vec<u32>,
    /// Certificates for which something is to be done, by the end of their validity.
    queue: BinaryHeap<Reverse<(Time, u32)>>,
    attempts: usize,
    events: VecDeque<ManagerEvent>,
    health: CaHealth,
    budget: Budget,
    served: Arc<Served>,
    counters: Counters,
    /// The time of the last poll.
    latest: Time,
}

impl Manager {
    /// Creates a manager for certificates of this client, which must have a store.
    pub fn new(client: &Client, options: ManagerOptions) -> Result<Manager> {
        if client.store().is_none() {
            return Err(Error::invalid_argument("the client has no store"));
        }
        if options.max_attempts == 0 {
            return Err(Error::invalid_argument("max_attempts must be at least 1"));
        }
        let max_loaded = options.max_loaded.max(1);
        Ok(Manager {
            client: client.clone(),
            options,
            table: Table::default(),
            timers: BinaryHeap::new(),
            unread: Vec::new(),
            queue: BinaryHeap::new(),
            attempts: 0,
            events: VecDeque::new(),
            health: CaHealth::default(),
            budget: Budget::of(client.directory_host()),
            served: Arc::new(Served::new(max_loaded)),
            counters: Counters::default(),
            latest: Time::from_millis(i64::MIN),
        })
    }

    /// Adds a certificate, or changes the options of the one of this name. Options that cannot work are refused.
    pub fn add(&mut self, options: KeepOptions) -> Result<()> {
        options.check(&self.client)?;
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
            (entry.failures, entry.forgets) = (0, true);
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
            if let Some(event) = self.events.pop_front() {
                return Act::Tell(event);
            }
            self.note_clock(now);
            self.take_due(now);
            if let Some(job) = self.load() {
                return Act::Load(job);
            }
            if self.attempts < self.options.max_attempts && self.health.allows(now, self.attempts) {
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
        self.health.clock_was_set_back(now);
        for id in self.table.ids() {
            if let Some(entry) = self.table.get(id).filter(|entry| entry.state == State::Idle) {
                let due = limits::plausible(entry.due, now);
                if due != entry.due {
                    self.set_timer(id, due);
                }
            }
        }
    }

    /// Whether the certificates themselves are read at the start. Otherwise each is read when a client first
    /// asks for it.
    fn reads_all(&self) -> bool {
        self.options.load_all || self.table.len() <= self.options.max_loaded
    }

    fn load(&mut self) -> Option<LoadJob> {
        let store = self.client.store()?;
        let wanted = self.served.take_wanted();
        if !wanted.is_empty() {
            let ids: Vec<u32> =
                wanted.iter().filter_map(|name| self.table.find_for(name)).collect();
            let records: Vec<_> = ids.into_iter().filter_map(|id| self.record(id)).collect();
            if !records.is_empty() {
                return Some(LoadJob::new(store, records, true));
            }
        }
        let mut records = Vec::new();
        while records.len() < LOAD_AT_ONCE {
            let Some(id) = self.unread.pop() else { break };
            if self.table.get(id).is_some_and(|entry| entry.state == State::New) {
                records.extend(self.record(id));
                if let Some(entry) = self.table.get_mut(id) {
                    entry.state = State::Loading;
                }
            }
        }
        let whole = self.reads_all();
        if !records.is_empty() {
            self.served.set_lazy(!whole);
        }
        (!records.is_empty()).then(|| LoadJob::new(store, records, whole))
    }

    /// The number, the generation and the record of a certificate.
    fn record(&self, id: u32) -> Option<(u32, u16, String)> {
        let entry = self.table.get(id)?;
        let record = names::certificate(self.client.directory_url(), entry.name());
        Some((id, entry.generation, record.ok()?))
    }

    /// Takes in what a [`LoadJob`] has read.
    pub fn loaded(&mut self, loaded: Vec<Loaded>, now: Time) {
        let mut told = false;
        for one in loaded {
            let Some(entry) = self.table.current(one.id, one.generation) else { continue };
            let name = entry.name().to_owned();
            match one.found {
                Ok(found) => {
                    let was_loading = entry.state == State::Loading;
                    let not_after = found.names.as_ref().map(|(_, not_after)| *not_after);
                    if !was_loading {
                        // A client has asked for it. Meanwhile a newer one may have been issued.
                        if not_after.is_some_and(|end| end >= entry.not_after) {
                            if let Some((chain, key)) = found.certificate {
                                self.served.set(one.id, &chain, &key);
                                let kind = ManagerEventKind::Loaded;
                                self.events.push_back(ManagerEvent::with_certificate(
                                    kind, name, chain, key,
                                ));
                            }
                        }
                        continue;
                    }
                    let mut next =
                        limits::plausible(entry.take_schedule(&found.schedule, not_after), now);
                    // Without a certificate for its names there is nothing to wait for, except after a failure.
                    let ours = names::digest(entry.names());
                    if entry.failures == 0 && found.names.is_none_or(|(theirs, _)| theirs != ours) {
                        next = Time::from_millis(i64::MIN);
                    }
                    if let Some((chain, key)) = found.certificate {
                        self.served.set(one.id, &chain, &key);
                        let kind = ManagerEventKind::Loaded;
                        self.events
                            .push_back(ManagerEvent::with_certificate(kind, name, chain, key));
                    }
                    self.set_timer(one.id, next);
                }
                Err(error) => {
                    if entry.state != State::Loading {
                        continue;
                    }
                    // The store does not answer: nothing is ordered that could be lost.
                    entry.state = State::New;
                    let again = now.after(limits::STORE_RETRY);
                    entry.due = again;
                    self.timers.push(Reverse((again, one.id)));
                    // One event for all: it is the store that fails.
                    if !std::mem::replace(&mut told, true) {
                        let event = ManagerEvent::failed(name, error, Some(again));
                        self.events.push_back(event);
                    }
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
                State::Idle => {
                    entry.state = State::Queued;
                    self.queue.push(Reverse((entry.not_after, id)));
                }
                State::New => self.unread.push(id),
                _ => {}
            }
        }
    }

    /// Begins the attempt that is the most urgent.
    fn begin(&mut self, now: Time) -> Option<(Ticket, Operation<Tried>)> {
        loop {
            let Reverse((_, id)) = self.queue.pop()?;
            let Some(entry) = self.table.get_mut(id).filter(|entry| entry.state == State::Queued)
            else {
                continue;
            };
            // A first certificate counts against the CA's limit of orders; a renewal does not.
            if entry.not_after == Time::default() {
                if let Some(free_at) = self.budget.next_order(now) {
                    self.set_timer(id, free_at);
                    continue;
                }
            }
            let mut options = entry.options();
            options.renew_now = std::mem::take(&mut entry.renew_now);
            options.failures = entry.failures.into();
            options.forget_failures = std::mem::take(&mut entry.forgets);
            (entry.state, entry.is_changed) = (State::Working, false);
            let (generation, renew_now) = (entry.generation, options.renew_now);
            let ticket = Ticket { id, generation, renew_now };
            match self.client.keep_tried(options) {
                Ok(operation) => {
                    self.attempts += 1;
                    self.counters.attempts += 1;
                    return Some((ticket, operation));
                }
                Err(error) => self.give_up(id, error),
            }
        }
    }

    fn give_up(&mut self, id: u32, error: Error) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.state = State::Stopped;
            let name = entry.name().to_owned();
            let mut event = ManagerEvent::failed(name, error, None);
            event.kind = ManagerEventKind::Stopped;
            self.events.push_back(event);
        }
    }

    /// Takes in the end of an attempt. An error means that the operation did not get as far as its record.
    pub fn finished(&mut self, ticket: Ticket, outcome: Result<Tried>, now: Time) {
        self.attempts = self.attempts.saturating_sub(1);
        let (outcome, schedule) = match outcome {
            Ok(tried) => (tried.outcome, Some(tried.schedule)),
            Err(error) => (Err(error), None),
        };
        let id = ticket.id;
        self.health.end(id, &outcome, now);
        let Some(entry) = self.table.current(id, ticket.generation) else { return };
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Canceled) {
            // The manager stops: the next one goes on with the order.
            entry.renew_now |= ticket.renew_now;
            self.set_timer(id, Time::from_millis(i64::MIN));
            return;
        }
        let name = entry.name().to_owned();
        match outcome {
            Ok(kept) => {
                let kind = match (&kept.not_due, entry.not_after == Time::default()) {
                    (Some(_), _) => ManagerEventKind::NotDue,
                    (None, true) => ManagerEventKind::Obtained,
                    (None, false) => ManagerEventKind::Renewed,
                };
                match kind {
                    ManagerEventKind::NotDue => self.counters.not_due += 1,
                    ManagerEventKind::Obtained => self.counters.obtained += 1,
                    _ => self.counters.renewed += 1,
                }
                let next = entry
                    .take_schedule(&schedule.unwrap_or_default(), Some(kept.chain.not_after()));
                self.served.set(id, &kept.chain, &kept.key);
                let mut event = ManagerEvent::with_certificate(kind, name, kept.chain, kept.key);
                event.next_try = Some(next);
                event.error = kept.stored.err();
                self.events.push_back(event);
                // The program may have asked for another one meanwhile, or changed the options.
                let is_wanted = entry.renew_now || entry.is_changed;
                let next = if is_wanted { Time::from_millis(i64::MIN) } else { next };
                self.set_timer(id, next);
            }
            Err(error) => {
                self.counters.failed += 1;
                entry.renew_now |= ticket.renew_now;
                let schedule = schedule.unwrap_or_else(|| {
                    let failures = u32::from(entry.failures);
                    let mut schedule = Schedule { failures, ..Schedule::default() };
                    schedule.follow_failure(&error, None, now);
                    schedule
                });
                entry.failures = u8::try_from(schedule.failures).unwrap_or(u8::MAX);
                let not_after = entry.not_after;
                if entry.is_changed || entry.forgets {
                    // The program has changed something meanwhile.
                    self.events.push_back(ManagerEvent::failed(name, error, None));
                    self.set_timer(id, Time::from_millis(i64::MIN));
                    return;
                }
                if limits::is_hopeless(&error, entry.failures, not_after > now) {
                    self.give_up(id, error);
                    return;
                }
                // A fault of the CA says nothing about this certificate: it is tried again when the pause ends.
                let next = limits::plausible(self.health.next_try(&error, schedule.due()), now);
                let mut event = ManagerEvent::failed(name, error, Some(next));
                event.not_after = Some(not_after).filter(|time| *time != Time::default());
                self.events.push_back(event);
                self.set_timer(id, next);
            }
        }
    }

    fn wait(&self, now: Time) -> Duration {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        // Once the pause is over, the end of the attempt that probes the CA brings the next poll.
        let pause = self.health.ends().filter(|until| !self.queue.is_empty() && *until > now);
        let next = timer.into_iter().chain(pause).min();
        next.map_or(MAX_WAIT, |next| next.since(now)).min(MAX_WAIT)
    }

    /// Returns a JSON object about the certificate of this name; without a name, an array about all.
    pub fn status(&self, name: Option<&str>, now: Time) -> Result<String> {
        status::json(&self.table, name, now)
    }

    /// Returns metrics as OpenMetrics 1.0 text.
    pub fn metrics(&self, now: Time) -> String {
        let is_paused = self.health.ends().is_some_and(|until| until > now);
        status::metrics(&self.table, self.counters, is_paused, now)
    }

    /// Returns the certificate for a server name: by exact name, then by wildcard.
    pub fn find(&self, server_name: &str) -> Option<(CertificateChain, Key)> {
        self.served.find(server_name)
    }
}

impl Entry {
    /// Takes the counters and the moment from a schedule; returns the moment.
    fn take_schedule(&mut self, schedule: &Schedule, not_after: Option<Time>) -> Time {
        self.failures = u8::try_from(schedule.failures).unwrap_or(u8::MAX);
        self.not_after = not_after.unwrap_or_default();
        schedule.due()
    }
}
