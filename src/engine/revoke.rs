//! Revocation. RFC 8555 section 7.6.

use super::exchange::{Call, Identity, Session};
use crate::base64url;
use crate::error::Result;
use crate::pki::Key;
use crate::request::{self, Revoke};

/// Why a certificate is revoked; RFC 5280 section 5.3.1. Which of them a CA takes is its own policy;
/// public ones take the first five that are not about a CA or an AA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationReason {
    /// No reason given.
    Unspecified = 0,
    /// The private key is, or may be, known to others.
    KeyCompromise = 1,
    /// The same of the CA that issued it.
    CaCompromise = 2,
    /// The names changed owner.
    AffiliationChanged = 3,
    /// There is a new certificate.
    Superseded = 4,
    /// The service ended.
    CessationOfOperation = 5,
    /// It is suspended for now.
    CertificateHold = 6,
    /// It is no longer suspended.
    RemoveFromCrl = 8,
    /// What it was issued for was withdrawn.
    PrivilegeWithdrawn = 9,
    /// As `CaCompromise`, of an attribute authority.
    AaCompromise = 10,
}

impl Session {
    /// Revokes the certificate, given as DER: signed by the account's key, or by the certificate's
    /// own.
    pub(crate) async fn revoke(&self, leaf: &[u8], reason: u32, key: Option<&Key>) -> Result<()> {
        let account = match key {
            None => self.known_account_url().await?,
            Some(_) => String::new(),
        };
        let identity = key.map_or(Identity::Account(&account), Identity::Key);
        let payload = Revoke { certificate: base64url::encode(leaf), reason };
        let payload = &request::json(&payload)?;
        let revoked = self.with_directory(|directory| async move {
            self.io.set_state("revocation");
            let url = directory.revoke_cert()?;
            let call = Call { doing: "revoking the certificate", url, repeatable: true };
            self.post(&call, identity, payload).await
        });
        match revoked.await {
            // What was wanted is so: by an earlier try of ours whose answer was lost, perhaps.
            Err(error) if error.is_problem("alreadyRevoked") => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}
