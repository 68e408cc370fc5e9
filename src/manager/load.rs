//! Reading the records of certificates, many in one go.

use std::sync::Arc;

use super::limits;
use crate::engine::Client;
use crate::error::Result;
use crate::pki::{CertificateChain, Key};
use crate::store::certificate_record::CertificateRecord;
use crate::store::names;
use crate::store::schedule::Schedule;
use crate::store::{Store, unusable};
use crate::time::Time;

/// Records to read: see [`Act::Load`](super::Act::Load).
pub struct LoadJob {
    /// The client of each CA, and its store.
    pub(super) clients: Vec<(Client, Arc<dyn Store>)>,
    pub(super) wanted: Vec<Wanted>,
    /// Whether to read the certificates themselves.
    pub(super) whole: bool,
    pub(super) task: Task,
    pub(super) now: Time,
}

/// The task of a job.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Task {
    /// The accounts, for responses to http-01.
    Accounts,
    /// The revisions of the stores.
    Revisions,
    /// Certificates.
    Certificates,
    /// Certificates that are in memory.
    Again,
}

/// A certificate to read.
pub(super) struct Wanted {
    pub(super) id: u32,
    pub(super) generation: u16,
    /// Its record of each CA.
    pub(super) records: Vec<String>,
    /// The chain in memory as PEM, and its validity: it is not parsed again.
    pub(super) in_use: Option<(String, Time, Time)>,
}

/// A result of a [`LoadJob`].
pub struct Loaded(pub(super) Part);

pub(super) enum Part {
    Certificate {
        id: u32,
        generation: u16,
        found: Result<Box<Found>>,
        /// Whether it was in memory before.
        is_again: bool,
    },
    /// The revision of each store; `None`: they were not read.
    Revisions(Option<Vec<Option<u64>>>),
}

#[derive(Default)]
pub(super) struct Found {
    pub(super) schedule: Schedule,
    /// The CA of the certificate.
    pub(super) ca: u8,
    /// The certificate, if it was to be read.
    pub(super) certificate: Option<(CertificateChain, Key)>,
    /// Its names and validity; `None`: there is no certificate.
    pub(super) known: Option<Known>,
}

pub(super) struct Known {
    /// Digest of its names.
    pub(super) names: String,
    pub(super) not_before: Time,
    pub(super) not_after: Time,
}

impl LoadJob {
    /// Reads the records. Blocks as long as the stores do.
    pub fn perform(&self) -> Vec<Loaded> {
        if matches!(self.task, Task::Accounts | Task::Revisions) {
            self.read_accounts();
        }
        match self.task {
            Task::Revisions => {
                let revision =
                    |(_, store): &(Client, Arc<dyn Store>)| store.revision().ok().flatten();
                let revisions = self.clients.iter().map(revision).collect();
                vec![Loaded(Part::Revisions(Some(revisions)))]
            }
            _ => self.results(|wanted| self.read(wanted)),
        }
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
        if self.task == Task::Revisions {
            results.push(Loaded(Part::Revisions(None)));
        }
        results
    }

    fn results(&self, read: impl Fn(&Wanted) -> Result<Found>) -> Vec<Loaded> {
        let result = |wanted: &Wanted| {
            let (id, generation, is_again) =
                (wanted.id, wanted.generation, self.task == Task::Again);
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
            let found = self.read_record(&**store, record, wanted.in_use.as_ref(), ca)?;
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

    fn read_record(
        &self,
        store: &dyn Store,
        name: &str,
        in_use: Option<&(String, Time, Time)>,
        ca: u8,
    ) -> Result<Found> {
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
        let is_same = |(pem, ..): &&(String, Time, Time)| record.chain.as_ref() == Some(pem);
        if let Some(&(_, not_before, not_after)) = in_use.filter(is_same) {
            let known = Known { names: String::new(), not_before, not_after };
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

/// The records that are being read.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) count: usize,
    /// When the program is told that the store does not answer.
    pub(super) late_at: Option<Time>,
}

impl Reading {
    pub(super) fn begin(&mut self, count: usize, now: Time) {
        self.count += count;
        self.late_at.get_or_insert(now.after(limits::STORE_RETRY));
    }

    pub(super) fn end(&mut self, count: usize, now: Time) {
        if count > 0 {
            self.count = self.count.saturating_sub(count);
            self.late_at = (self.count > 0).then(|| now.after(limits::STORE_RETRY));
        }
    }
}

/// The state of the watch for changes by other programs.
#[derive(Default)]
pub(super) struct Watch {
    /// When to look again.
    pub(super) next: Time,
    /// The revision of each store; `None`: not known, so the records count as changed.
    pub(super) revisions: Option<Vec<Option<u64>>>,
    /// Whether the records have changed since the last look at them.
    pub(super) has_changed: bool,
}

impl Watch {
    /// The clock was set back.
    pub(super) fn clock_was_set_back(&mut self) {
        self.next = Time::default();
    }
}
