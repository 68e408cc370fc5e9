//! Revocation. RFC 8555 section 7.6.

use super::exchange::{Call, Session};
use crate::base64url;
use crate::error::Result;
use crate::jose::jws::KeyReference;
use crate::request::{self, Revoke};

/// Why a certificate is revoked; RFC 5280 section 5.3.1, as far as CAs take it from subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationReason {
    /// No reason given.
    Unspecified = 0,
    /// The private key is, or may be, known to others.
    KeyCompromise = 1,
    /// The names changed owner.
    AffiliationChanged = 3,
    /// There is a new certificate.
    Superseded = 4,
    /// The service ended.
    CessationOfOperation = 5,
}

impl Session {
    /// Revokes the certificate, given as DER.
    pub(crate) async fn revoke_with_code(&self, leaf: &[u8], reason: u32) -> Result<()> {
        let account = self.account_url().await?;
        let directory = self.directory().await?;
        self.io.enter("revocation");
        let url = directory.revoke_cert()?;
        let call = Call { doing: "revoking the certificate", url, repeatable: true };
        let payload = Revoke { certificate: base64url::encode(leaf), reason };
        match self.post(&call, KeyReference::Kid(&account), &request::json(&payload)?).await {
            // What was wanted is so: by an earlier try of ours whose answer was lost, perhaps.
            Err(error) if error.is_problem("alreadyRevoked") => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    pub(crate) async fn revoke(&self, leaf: &[u8], reason: RevocationReason) -> Result<()> {
        self.revoke_with_code(leaf, reason as u32).await
    }
}
