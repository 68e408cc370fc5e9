//! Reading the records of certificates, in one go.

use std::sync::Arc;

use crate::error::Result;
use crate::pki::{CertificateChain, Key};
use crate::store::Store;
use crate::store::certificate_record::CertificateRecord;
use crate::store::schedule::Schedule;

/// Records to read: see [`Act::Load`](super::Act::Load).
pub struct LoadJob {
    store: Arc<dyn Store>,
    /// Number, generation and record of each certificate.
    records: Vec<(u32, u32, String)>,
}

/// The record of one certificate.
pub struct Loaded {
    pub(super) id: u32,
    pub(super) generation: u32,
    pub(super) found: Result<Found>,
}

pub(super) struct Found {
    pub schedule: Schedule,
    pub certificate: Option<(CertificateChain, Key)>,
}

impl LoadJob {
    pub(super) fn new(store: Arc<dyn Store>, records: Vec<(u32, u32, String)>) -> LoadJob {
        LoadJob { store, records }
    }

    /// Reads the records. Blocks as long as the store does.
    pub fn perform(self) -> Vec<Loaded> {
        let store = self.store;
        let read = |name: &str| {
            let record = match store.get(name)? {
                Some(found) => CertificateRecord::parse(name, &found.value)?,
                None => CertificateRecord::default(),
            };
            let certificate = record.usable(name);
            Ok(Found { schedule: record.schedule.unwrap_or_default(), certificate })
        };
        let records = self.records.into_iter();
        records
            .map(|(id, generation, name)| Loaded { id, generation, found: read(&name) })
            .collect()
    }
}
