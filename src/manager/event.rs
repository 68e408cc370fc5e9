//! The events that a manager reports to its program.

use crate::error::Error;
use crate::pki::{CertificateChain, Key};
use crate::time::Time;

/// Types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagerEventKind {
    /// The certificate was read from the store. Use it.
    Loaded,
    /// The first certificate of this name was issued. Use it.
    Obtained,
    /// A new certificate was issued. Use it.
    Renewed,
    /// The CA was asked, and the renewal is not due.
    NotDue,
    /// An attempt failed; see the error, and the time of the next one.
    Failed,
    /// Attempts have ended, because they cannot succeed, or have failed too often. A change of the options or
    /// [`Manager::renew_now`](super::Manager::renew_now) begins anew.
    Stopped,
}

/// An event of one certificate.
#[derive(Debug)]
#[non_exhaustive]
pub struct ManagerEvent {
    /// The type of the event.
    pub kind: ManagerEventKind,
    /// The name of the certificate in the store.
    pub name: String,
    /// The certificate and its key, for the kinds that have one.
    pub certificate: Option<(CertificateChain, Key)>,
    /// Why the attempt failed; or why the new certificate, which is to be used, is not in the store.
    pub error: Option<Error>,
    /// When the next attempt begins, or when the CA is asked again.
    pub next_try: Option<Time>,
}

impl ManagerEvent {
    pub(super) fn with_certificate(
        kind: ManagerEventKind,
        name: String,
        chain: CertificateChain,
        key: Key,
    ) -> ManagerEvent {
        ManagerEvent { kind, name, certificate: Some((chain, key)), error: None, next_try: None }
    }

    pub(super) fn failed(name: String, error: Error, next_try: Option<Time>) -> ManagerEvent {
        let kind = ManagerEventKind::Failed;
        ManagerEvent { kind, name, certificate: None, error: Some(error), next_try }
    }
}
