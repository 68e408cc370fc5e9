//! Reading the records of certificates, in one go.

use std::sync::Arc;

use crate::error::Result;
use crate::pki::{CertificateChain, Key};
use crate::store::certificate_record::CertificateRecord;
use crate::store::names;
use crate::store::schedule::Schedule;
use crate::store::{Store, unusable};
use crate::time::Time;

/// Records to read: see [`Act::Load`](super::Act::Load).
pub struct LoadJob {
    store: Arc<dyn Store>,
    /// Number, generation and record of each certificate.
    records: Vec<(u32, u16, String)>,
    /// Whether to read the certificates themselves.
    whole: bool,
}

/// The record of one certificate.
pub struct Loaded {
    pub(super) id: u32,
    pub(super) generation: u16,
    pub(super) found: Result<Found>,
}

pub(super) struct Found {
    pub schedule: Schedule,
    /// The certificate, if it was to be read.
    pub certificate: Option<(CertificateChain, Key)>,
    /// Digest of the names of the certificate, and the end of its validity; `None`: there is no certificate.
    pub names: Option<(String, Time)>,
}

impl LoadJob {
    pub(super) fn new(
        store: Arc<dyn Store>,
        records: Vec<(u32, u16, String)>,
        whole: bool,
    ) -> LoadJob {
        LoadJob { store, records, whole }
    }

    /// Reads the records. Blocks as long as the store does.
    pub fn perform(&self) -> Vec<Loaded> {
        let store = &self.store;
        let read = |name: &str| {
            let record = match store.get(name)? {
                Some(found) => CertificateRecord::parse(name, &found.value)?,
                None => CertificateRecord::default(),
            };
            let schedule = record.schedule.clone().unwrap_or_default();
            let known =
                schedule.names.clone().zip(schedule.not_after).filter(|_| record.chain.is_some());
            let certificate = match (&known, self.whole) {
                (Some(_), false) => None,
                _ => record.usable(name),
            };
            let names = match &certificate {
                Some((chain, _)) => {
                    let names = names::digest(chain.names().iter().map(String::as_str));
                    Some((names, chain.not_after()))
                }
                None => known.filter(|_| !self.whole),
            };
            Ok(Found { schedule, certificate: certificate.filter(|_| self.whole), names })
        };
        self.results(read)
    }

    /// Returns the results of a job that could not be performed.
    pub fn failed(&self, why: &str) -> Vec<Loaded> {
        self.results(|name| Err(unusable(name, why)))
    }

    fn results(&self, read: impl Fn(&str) -> Result<Found>) -> Vec<Loaded> {
        let records = self.records.iter();
        let result = |(id, generation, name): &(u32, u16, String)| Loaded {
            id: *id,
            generation: *generation,
            found: read(name),
        };
        records.map(result).collect()
    }
}
