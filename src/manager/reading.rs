//! When a manager reads records, and what it does with them.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::ca::Ca;
use super::event::{ManagerEvent, ManagerEventKind};
use super::load::{Found, LoadJob, Loaded, Part, Task, Wanted};
use super::table::State;
use super::{Manager, limits};
use crate::engine::Client;
use crate::store::{Store, names, unusable};
use crate::time::Time;

/// Delay between two looks at the revisions of the stores.
const WATCH_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of certificates that are read in one go.
const LOAD_AT_ONCE: usize = 256;

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
        LoadJob { clients: self.clients(), wanted, whole, task: Task::Certificates, now }
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
        let mut wanted = Vec::new();
        let task = if self.watch.next == Time::default() {
            self.watch.next = now.after(WATCH_INTERVAL);
            // A job of its own: a silent store holds up nothing but the account.
            Task::Accounts
        } else if std::mem::take(&mut self.watch.has_changed) {
            let ids = self.served.loaded();
            wanted = ids.into_iter().filter_map(|id| self.wanted(id)).collect();
            wanted.iter_mut().for_each(|one| one.in_use = self.served.chain(one.id));
            Task::Again
        } else if self.watch.next <= now {
            self.watch.next = Time::from_millis(i64::MAX); // until the job has ended
            Task::Revisions
        } else {
            return None;
        };
        Some(LoadJob { clients: self.clients(), wanted, whole: true, task, now })
    }

    fn wanted(&self, id: u32) -> Option<Wanted> {
        let entry = self.table.get(id)?;
        let record = |ca: &Ca| names::certificate(ca.client.directory_url(), entry.name()).ok();
        let records = self.cas.iter().map(record).collect::<Option<_>>()?;
        Some(Wanted { id, generation: entry.generation, records, in_use: None })
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
                Part::Revisions(found) => {
                    self.watch.next = now.after(WATCH_INTERVAL);
                    if found.is_some() && self.watch.revisions != found {
                        (self.watch.revisions, self.watch.has_changed) = (found, true);
                    }
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
