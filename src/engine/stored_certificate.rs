//! A certificate's record while an operation works on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::store::Store;
use crate::store::certificate_record::CertificateRecord;
use crate::store::journal::{Journal, PublishedChallenge, Purpose};

/// The record, as it is in the store.
pub(crate) struct StoredCertificate {
    pub store: Arc<dyn Store>,
    pub name: String,
    /// Whether another program or thread has stored a new chain while this operation waited for it.
    pub is_fresh: bool,
    state: Mutex<State>,
}

pub(super) struct State {
    pub version: u64,
    pub record: CertificateRecord,
    /// The order in progress; `None`: the record is only read so far.
    pub journal: Option<Journal>,
    /// Challenges that this run has published.
    pub published: Vec<PublishedChallenge>,
}

impl StoredCertificate {
    pub(super) fn new(
        store: Arc<dyn Store>,
        name: String,
        version: u64,
        record: CertificateRecord,
        is_fresh: bool,
    ) -> StoredCertificate {
        let state = Mutex::new(State { version, record, journal: None, published: Vec::new() });
        StoredCertificate { store, name, is_fresh, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self) -> CertificateRecord {
        self.state().record.clone()
    }

    /// Begins with the journal of this purpose; returns the one that is in the record.
    pub(super) fn journal(&self, purpose: Purpose) -> Result<Journal> {
        let mut state = self.state();
        let text = state.record.order.clone().unwrap_or_default();
        let journal = Journal::parse(&self.name, &text, purpose)?;
        state.journal = Some(journal.clone());
        Ok(journal)
    }

    /// The challenges that an earlier run has left published, and this one did not publish itself.
    pub(super) fn leftovers(&self) -> Vec<PublishedChallenge> {
        let state = self.state();
        let journal = state.journal.iter().flat_map(|journal| &journal.published);
        let is_left =
            |one: &&PublishedChallenge| !state.published.iter().any(|ours| ours.is_same(one));
        journal.filter(is_left).cloned().collect()
    }

    pub(super) fn has_published(&self) -> bool {
        !self.state().published.is_empty()
    }
}
