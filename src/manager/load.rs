//! Reading the records of certificates, many in one go.

use std::sync::Arc;
use std::time::Duration;

use super::ca::Ca;
use super::event::{ManagerEvent, ManagerEventKind};
use super::limits;
use super::table::State;
use super::{Manager, Reverse};
use crate::engine::Client;
use crate::error::Result;
use crate::pki::{CertificateChain, Key};
use crate::store::certificate_record::CertificateRecord;
use crate::store::names;
use crate::store::schedule::Schedule;
use crate::store::{Store, unusable};
use crate::time::Time;

/// Delay between two looks at the revisions of the stores.
const WATCH_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of certificates that are read in one go.
const LOAD_AT_ONCE: usize = 256;

/// Records to read: see [`Act::Load`](super::Act::Load). Without certificates, it reads the accounts.
pub struct LoadJob {
    /// The client of each CA, and its store.
    clients: Vec<(Client, Arc<dyn Store>)>,
    wanted: Vec<Wanted>,
    /// Whether to read the certificates themselves.
    whole: bool,
    /// The revisions that the stores had before: nothing is read if they still have them.
    unless: Option<Vec<Option<u64>>>,
    now: Time,
}

/// A certificate to read.
struct Wanted {
    id: u32,
    generation: u16,
    /// Its record of each CA.
    records: Vec<String>,
}

/// A result of a [`LoadJob`].
pub struct Loaded(Part);

enum Part {
    Certificate {
        id: u32,
        generation: u16,
        found: Result<Box<Found>>,
        /// Whether it was in memory before.
        is_again: bool,
    },
    /// The revision of each store, before its records were read. Empty: not known.
    Revisions(Vec<Option<u64>>),
}

#[derive(Default)]
struct Found {
    schedule: Schedule,
    /// The CA of the certificate.
    ca: u8,
    /// The certificate, if it was to be read.
    certificate: Option<(CertificateChain, Key)>,
    /// Its names and validity; `None`: there is no certificate.
    known: Option<Known>,
}

struct Known {
    /// Digest of its names.
    names: String,
    not_before: Time,
    not_after: Time,
}

impl LoadJob {
    /// Reads the records. Blocks as long as the stores do.
    pub fn perform(&self) -> Vec<Loaded> {
        let Some(before) = &self.unless else {
            if self.wanted.is_empty() {
                self.read_accounts();
            }
            return self.results(|wanted| self.read(wanted));
        };
        self.read_accounts();
        let revision = |(_, store): &(Client, Arc<dyn Store>)| store.revision().ok().flatten();
        let revisions: Vec<_> = self.clients.iter().map(revision).collect();
        let mut results = Vec::new();
        if revisions != *before {
            results = self.results(|wanted| self.read(wanted));
        }
        results.push(Loaded(Part::Revisions(revisions)));
        results
    }

    /// Reads the accounts, for responses to http-01. If that fails, the first attempt says why.
    fn read_accounts(&self) {
        for (client, _) in &self.clients {
            let _ = client.read_account();
        }
    }

    /// Returns the results of a job that could not be performed.
    pub fn failed(&self, why: &str) -> Vec<Loaded> {
        let name = |wanted: &Wanted| wanted.records.first().cloned().unwrap_or_default();
        let mut results = self.results(|wanted| Err(unusable(&name(wanted), why)));
        if let Some(before) = &self.unless {
            results.push(Loaded(Part::Revisions(before.clone())));
        }
        results
    }

    fn results(&self, read: impl Fn(&Wanted) -> Result<Found>) -> Vec<Loaded> {
        let result = |wanted: &Wanted| {
            let (id, generation, is_again) = (wanted.id, wanted.generation, self.unless.is_some());
            let found = read(wanted).map(Box::new);
            Loaded(Part::Certificate { id, generation, found, is_again })
        };
        self.wanted.iter().map(result).collect()
    }

    /// Reads the record of each CA: of those that are valid, the one that was issued last is to be used.
    fn read(&self, wanted: &Wanted) -> Result<Found> {
        let mut best = Found::default();
        let mut others = Vec::new();
        for (ca, ((_, store), record)) in (0..).zip(self.clients.iter().zip(&wanted.records)) {
            let found = self.read_record(&**store, record, ca)?;
            let rank = |found: &Found| {
                let known = found.known.as_ref();
                known.map(|known| (known.not_after > self.now, known.not_before, known.not_after))
            };
            match ca == 0 || rank(&found) > rank(&best) {
                true => others.push(std::mem::replace(&mut best, found).schedule),
                false => others.push(found.schedule),
            }
        }
        for other in others {
            // A renewal at the preferred CA has failed.
            if other.failures > 0 && other.due() > best.schedule.due() {
                best.schedule.next_try = other.next_try;
                best.schedule.failures = best.schedule.failures.max(other.failures);
            }
        }
        Ok(best)
    }

    fn read_record(&self, store: &dyn Store, name: &str, ca: u8) -> Result<Found> {
        let record = match store.get(name)? {
            Some(found) => CertificateRecord::parse(name, &found.value)?,
            None => CertificateRecord::default(),
        };
        let schedule = record.schedule.clone().unwrap_or_default();
        let not_before = schedule.not_before.unwrap_or_default();
        let noted = schedule.names.clone().zip(schedule.not_after);
        let noted = noted.filter(|_| record.chain.is_some());
        if let (Some((names, not_after)), false) = (&noted, self.whole) {
            let known = Known { names: names.clone(), not_before, not_after: *not_after };
            return Ok(Found { schedule, ca, certificate: None, known: Some(known) });
        }
        let certificate = record.usable(name);
        let known = certificate.as_ref().map(|(chain, _)| Known {
            names: names::digest(chain.names().iter().map(String::as_str)),
            not_before: chain.not_before(),
            not_after: chain.not_after(),
        });
        let certificate = certificate.filter(|_| self.whole);
        Ok(Found { schedule, ca, certificate, known })
    }
}

impl Manager {
    /// Whether the certificates themselves are read at the start. Otherwise each is read when a client first
    /// asks for it.
    fn reads_all(&self) -> bool {
        self.options.load_all || self.table.len() <= self.options.max_loaded
    }

    /// Returns what is to be read now.
    pub(super) fn load(&mut self, now: Time) -> Option<LoadJob> {
        let mut certificates = Vec::new();
        for name in self.served.take_wanted() {
            match self.table.find_for(&name) {
                Some(id) => certificates.extend(self.wanted(id)),
                None => self.demand(&name, now),
            }
        }
        if !certificates.is_empty() {
            return Some(self.job(certificates, true, now));
        }
        let mut certificates = Vec::new();
        while certificates.len() < LOAD_AT_ONCE {
            let Some(id) = self.unread.pop() else { break };
            if self.table.get(id).is_some_and(|entry| entry.state == State::New) {
                certificates.extend(self.wanted(id));
                if let Some(entry) = self.table.get_mut(id) {
                    entry.state = State::Loading;
                }
            }
        }
        if certificates.is_empty() {
            return self.watch(now);
        }
        let whole = self.reads_all();
        self.served.set_lazy(!whole);
        Some(self.job(certificates, whole, now))
    }

    fn job(&mut self, wanted: Vec<Wanted>, whole: bool, now: Time) -> LoadJob {
        self.reading.begin(wanted.len(), now);
        LoadJob { clients: self.clients(), wanted, whole, unless: None, now }
    }

    fn clients(&self) -> Vec<(Client, Arc<dyn Store>)> {
        let client = |ca: &Ca| Some((ca.client.clone(), ca.client.store()?));
        self.cas.iter().filter_map(client).collect()
    }

    /// Looks for certificates in memory that another program has renewed.
    fn watch(&mut self, now: Time) -> Option<LoadJob> {
        if self.reading.late_at.is_some() {
            return None;
        }
        if self.watch.next == Time::default() {
            self.watch.next = now.after(WATCH_INTERVAL);
            // A job of its own: a silent store holds up nothing but the account.
            let clients = self.clients();
            return Some(LoadJob { clients, wanted: Vec::new(), whole: false, unless: None, now });
        }
        if self.watch.next > now {
            return None;
        }
        self.watch.next = Time::from_millis(i64::MAX); // until the job has ended
        let ids = self.served.loaded();
        let wanted = ids.into_iter().filter_map(|id| self.wanted(id)).collect();
        let unless = Some(self.watch.revisions.clone());
        Some(LoadJob { clients: self.clients(), wanted, whole: true, unless, now })
    }

    fn wanted(&self, id: u32) -> Option<Wanted> {
        let entry = self.table.get(id)?;
        let record = |ca: &Ca| names::certificate(ca.client.directory_url(), entry.name()).ok();
        let records = self.cas.iter().map(record).collect::<Option<_>>()?;
        Some(Wanted { id, generation: entry.generation, records })
    }

    /// Takes in what a [`LoadJob`] has read.
    pub fn loaded(&mut self, loaded: Vec<Loaded>, now: Time) {
        let mut told = false;
        let is_first = |one: &&Loaded| matches!(one.0, Part::Certificate { is_again: false, .. });
        self.reading.end(loaded.iter().filter(is_first).count(), now);
        for Loaded(part) in loaded {
            let (id, generation, error) = match part {
                Part::Certificate { id, generation, found: Ok(found), .. } => {
                    self.take_found(id, generation, *found, now);
                    continue;
                }
                Part::Certificate { id, generation, found: Err(error), .. } => {
                    (id, generation, error)
                }
                Part::Revisions(revisions) => {
                    self.watch = Watch { next: now.after(WATCH_INTERVAL), revisions };
                    continue;
                }
            };
            let Some(entry) = self.table.current(id, generation) else { continue };
            if entry.state != State::Loading {
                continue;
            }
            // The store does not answer: nothing is ordered that could be lost.
            entry.state = State::New;
            let again = now.after(limits::STORE_RETRY);
            entry.due = again;
            let name = entry.name().to_owned();
            self.timers.push(Reverse((again, id)));
            // One event for all: it is the store that fails.
            if !std::mem::replace(&mut told, true) {
                self.tell(ManagerEvent::failed(name, error, Some(again)));
            }
        }
    }

    fn take_found(&mut self, id: u32, generation: u16, found: Found, now: Time) {
        let Some(entry) = self.table.current(id, generation) else { return };
        let name = entry.name().to_owned();
        let is_first = entry.state == State::Loading;
        // A certificate that was in use may be read again. A newer one may have been issued meanwhile.
        let is_other = found.certificate.as_ref().is_some_and(|(chain, _)| {
            chain.not_after() >= entry.not_after && !self.served.has(id, chain)
        });
        if !is_first && !is_other {
            return;
        }
        let due = limits::plausible(entry.take_schedule(&found.schedule), now);
        if let ([issued], Some(ca)) =
            (found.schedule.issued.as_slice(), self.cas.get_mut(usize::from(found.ca)))
        {
            // A first certificate: its order counts after a restart, too.
            ca.budget.note(*issued, now);
        }
        let ours = names::digest(entry.names());
        let is_ours = found.known.as_ref().is_some_and(|known| known.names == ours);
        if entry.forgets {
            entry.failures = 0;
        }
        // There is nothing to wait for without a certificate for its names, except after a failure, or if the
        // program has asked for another one meanwhile, or changed the options.
        let waits = (is_ours || entry.failures > 0) && !entry.forgets;
        let due = if waits { due } else { Time::from_millis(i64::MIN) };
        if let Some(known) = &found.known {
            entry.set_certificate(found.ca, known.not_before, known.not_after);
            self.expiry.note(entry);
        }
        let is_waiting = is_first || entry.state == State::Idle;
        if let Some((chain, key)) = found.certificate {
            self.served.set(id, &chain, &key);
            let event = ManagerEvent::with_certificate(ManagerEventKind::Loaded, name, chain, key);
            self.tell_of(found.ca, event);
        }
        if is_waiting {
            self.set_timer(id, due);
        }
    }
}

/// The records that are being read.
#[derive(Default)]
pub(super) struct Reading {
    count: usize,
    /// When the program is told that the store does not answer.
    late_at: Option<Time>,
}

impl Reading {
    fn begin(&mut self, count: usize, now: Time) {
        self.count += count;
        self.late_at.get_or_insert(now.after(limits::STORE_RETRY));
    }

    fn end(&mut self, count: usize, now: Time) {
        if count > 0 {
            self.count = self.count.saturating_sub(count);
            self.late_at = (self.count > 0).then(|| now.after(limits::STORE_RETRY));
        }
    }
}

impl Manager {
    /// When [`Manager::load`] has something to do without a certificate for it.
    pub(super) fn load_at(&self) -> Option<Time> {
        // A store that does not answer is not asked for more.
        self.reading.late_at.or(Some(self.watch.next))
    }

    /// Tells the program that the store has not answered for a minute. One event is for all certificates.
    pub(super) fn note_silence(&mut self, now: Time) {
        if self.reading.late_at.is_none_or(|at| at > now) {
            return;
        }
        self.reading.late_at = Some(now.after(limits::STORE_RETRY));
        let waiting = self.table.iter().find(|entry| entry.state == State::Loading);
        if let Some(name) = waiting.map(|entry| entry.name().to_owned()) {
            let why = format!("it has not been read for {} s", limits::STORE_RETRY.as_secs());
            let error = unusable(&name, &why);
            self.tell(ManagerEvent::failed(name, error, None));
        }
    }
}

/// The state of the watch for changes by other programs.
#[derive(Default)]
pub(super) struct Watch {
    /// When to look again.
    next: Time,
    /// The revision of each store; empty: not known, so the records count as changed.
    revisions: Vec<Option<u64>>,
}

impl Watch {
    /// The clock was set back.
    pub(super) fn clock_was_set_back(&mut self) {
        self.next = Time::default();
    }
}
