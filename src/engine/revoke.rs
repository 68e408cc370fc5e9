//! Revocation. RFC 8555 section 7.6.

use super::exchange::{Call, Identity, Session};
use crate::base64url;
use crate::error::Result;
use crate::pki::Key;
use crate::request::{self, Revoke};

/// Reasons of a revocation; RFC 5280 section 5.3.1. Each CA decides which reasons it accepts. Public CAs
/// accept the first five that are not about a CA or an AA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationReason {
    /// No reason given.
    Unspecified = 0,
    /// The private key is, or may be, known to others.
    KeyCompromise = 1,
    /// The issuing CA's private key is, or may be, known to others.
    CaCompromise = 2,
    /// The names changed owner.
    AffiliationChanged = 3,
    /// A new certificate has replaced it.
    Superseded = 4,
    /// The service ended.
    CessationOfOperation = 5,
    /// The certificate is suspended.
    CertificateHold = 6,
    /// The certificate is no longer suspended.
    RemoveFromCrl = 8,
    /// The right that it was issued for was withdrawn.
    PrivilegeWithdrawn = 9,
    /// An attribute authority's private key is, or may be, known to others.
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
            // The certificate is revoked, perhaps by an earlier try whose response was lost.
            Err(error) if error.is_problem("alreadyRevoked") => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}
