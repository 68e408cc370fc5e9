//! The writes of an operation to its certificate's record.
//!
//! Each write replaces the version that was read last. If another program has written meanwhile, the operation
//! ends: that program goes on with the certificate.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::challenge::Challenge;
use super::exchange::Session;
use super::limits::CLAIM_INTERVAL;
use super::store_access::{Action, Answer};
use super::stored_certificate::StoredCertificate;
use crate::error::{Error, ErrorKind, Result};
use crate::store::certificate_record::CertificateRecord;
use crate::store::journal::Journal;
use crate::store::{Claim, Store, Versioned};

impl Session {
    /// Begins work on a certificate: waits until no other program or thread works on it, and reads its
    /// record. The claim lasts until it is dropped.
    pub(super) async fn open_record(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
    ) -> Result<(Arc<StoredCertificate>, Claim)> {
        let mut chain_before = None;
        let claim = loop {
            if let Some(claim) = self.try_claim(store, name).await? {
                break claim;
            }
            if chain_before.is_none() {
                log_wait(name);
                chain_before = Some(self.read_record(store, name).await?.1.chain);
            }
            self.wait_for(name).await?;
        };
        let (version, record) = self.read_record(store, name).await?;
        let is_fresh = chain_before.is_some_and(|before| before != record.chain);
        let stored =
            StoredCertificate::new(store.clone(), name.to_owned(), version, record, is_fresh);
        Ok((Arc::new(stored), claim))
    }

    async fn read_record(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
    ) -> Result<(u64, CertificateRecord)> {
        match self.get_value(store, name).await? {
            Some(found) => Ok((found.version, CertificateRecord::parse(name, &found.value)?)),
            None => Ok((0, CertificateRecord::default())),
        }
    }

    /// Begins work on a record; `None`: another program or thread works on it.
    pub(super) async fn try_claim(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
    ) -> Result<Option<Claim>> {
        match self.io.access(store, name, Action::Claim).await? {
            Answer::Claim(claim) => Ok(claim),
            _ => Ok(None),
        }
    }

    /// Waits before the next try to begin work on a record.
    pub(super) async fn wait_for(&self, name: &str) -> Result<()> {
        self.io.sleep(CLAIM_INTERVAL).await.map_err(|ended| match ended.kind() {
            ErrorKind::Timeout => {
                let why = format!("{name}: another program or thread is at work on it");
                Error::new(ErrorKind::Store, why).after(&ended)
            }
            _ => ended,
        })
    }

    pub(super) async fn get_value(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
    ) -> Result<Option<Versioned>> {
        match self.io.access(store, name, Action::Get).await? {
            Answer::Record(found) => Ok(found),
            _ => Ok(None),
        }
    }

    pub(super) async fn put_value(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
        expected: u64,
        value: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<u64> {
        match self.io.access(store, name, Action::Put(expected, value)).await? {
            Answer::Version(version) => Ok(version),
            _ => Ok(0),
        }
    }

    /// Writes the record, if it has changed.
    pub(super) async fn put_record(
        &self,
        stored: &StoredCertificate,
        new: CertificateRecord,
    ) -> Result<()> {
        let version = {
            let state = stored.state();
            if state.record == new {
                return Ok(());
            }
            state.version
        };
        let value = new.value(&stored.name)?;
        let version = self.put_value(&stored.store, &stored.name, version, Some(value)).await?;
        let mut state = stored.state();
        (state.version, state.record) = (version, new);
        Ok(())
    }

    /// Writes the journal.
    async fn put_journal(&self, stored: &StoredCertificate, journal: Journal) -> Result<()> {
        let record = CertificateRecord { order: Some(journal.text()), ..stored.record() };
        stored.state().journal = Some(journal);
        // Boxed, so that the code is not there once for each caller.
        Box::pin(self.put_record(stored, record)).await
    }

    /// Writes that a run begins. So no order is placed that the store has no room for.
    pub(super) async fn begin_run(&self, stored: &StoredCertificate) -> Result<()> {
        let Some(mut journal) = stored.state().journal.clone() else { return Ok(()) };
        journal.runs += 1;
        self.put_journal(stored, journal).await
    }

    /// Ends a run that failed: the next one goes on with its order, or `is_final`: places another.
    pub(super) async fn end_run(&self, stored: &StoredCertificate, is_final: bool) -> Result<()> {
        let Some(mut journal) = stored.state().journal.clone() else { return Ok(()) };
        journal.runs = 0;
        if journal.order_url.is_some() && !is_final {
            return self.put_journal(stored, journal).await;
        }
        stored.state().journal = Some(Journal { runs: 0, ..Journal::new(journal.purpose) });
        Box::pin(self.put_record(stored, CertificateRecord { order: None, ..stored.record() }))
            .await
    }

    /// Notes the URL of the order, in the record too.
    pub(crate) async fn note_order(&self, url: &str) -> Result<()> {
        self.io.note_order(url);
        let Some(stored) = &self.stored else { return Ok(()) };
        let Some(mut journal) = stored.state().journal.clone() else { return Ok(()) };
        if journal.order_url.as_deref() == Some(url) {
            return Ok(());
        }
        (journal.order_url, journal.runs) = (Some(url.to_owned()), 1);
        unless_fatal(self.put_journal(stored, journal).await)
    }

    /// Notes challenges before they are published.
    pub(super) async fn note_published(&self, challenges: &[Challenge]) -> Result<()> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let Some(mut journal) = stored.state().journal.clone() else { return Ok(()) };
        for challenge in challenges.iter().filter(|challenge| !challenge.is_persistent()) {
            let challenge = challenge.to_journal();
            stored.state().published.push(challenge.clone());
            journal.add(challenge);
        }
        unless_fatal(self.put_journal(stored, journal).await)
    }
}

pub(super) fn log_wait(name: &str) {
    log::warn!("{name}: waiting for another program or thread at work on it");
}

/// A failure to write the journal does not end the operation: only after a kill, the next run orders again.
/// But if another program has taken over, it goes on with this certificate.
fn unless_fatal(written: Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::Conflict => {
            log::warn!("the order cannot be resumed after a crash: {error}");
            Ok(())
        }
        written => written,
    }
}
