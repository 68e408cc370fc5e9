//! The events of a manager, for its program.

use std::sync::Arc;

use crate::error::Error;
use crate::pki::{CertificateChain, Key};
use crate::time::Time;

/// The kind of an event.
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
    /// The CA failed, see the error; the attempt goes on with the next CA.
    OtherCa,
    /// A sixth of the certificate's lifetime is left, and it is not renewed.
    Expiring,
    /// The certificate has expired.
    Expired,
    /// The CA does not answer, or limits all certificates: until `next_try`, and as long as it does not answer
    /// then, there is one attempt at a time. The event has no name.
    CaPaused,
    /// The CA answers again. The event has no name.
    CaResumed,
}

/// An event of a certificate, or of a CA.
#[derive(Debug)]
#[non_exhaustive]
pub struct ManagerEvent {
    /// Its kind.
    pub kind: ManagerEventKind,
    /// The name of the certificate in the store.
    pub name: String,
    /// The CA: the URL of its directory.
    pub ca: Arc<str>,
    /// The certificate and its key, for the kinds that have one.
    pub certificate: Option<(CertificateChain, Key)>,
    /// Why the attempt failed; or why the new certificate, which is to be used, is not in the store.
    pub error: Option<Error>,
    /// When the next attempt begins, or when the CA is asked again.
    pub next_try: Option<Time>,
    /// End of the validity of the certificate in use.
    pub not_after: Option<Time>,
}

impl ManagerEvent {
    pub(super) fn new(kind: ManagerEventKind, name: String) -> ManagerEvent {
        let ca = Arc::from("");
        ManagerEvent {
            kind,
            name,
            ca,
            certificate: None,
            error: None,
            next_try: None,
            not_after: None,
        }
    }

    pub(super) fn with_certificate(
        kind: ManagerEventKind,
        name: String,
        chain: CertificateChain,
        key: Key,
    ) -> ManagerEvent {
        let not_after = Some(chain.not_after());
        let certificate = Some((chain, key));
        ManagerEvent { certificate, not_after, ..ManagerEvent::new(kind, name) }
    }

    pub(super) fn failed(name: String, error: Error, next_try: Option<Time>) -> ManagerEvent {
        let error = Some(error);
        ManagerEvent { error, next_try, ..ManagerEvent::new(ManagerEventKind::Failed, name) }
    }
}
