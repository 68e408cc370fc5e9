//! An account at a CA. RFC 8555 section 7.1.2.

use super::api::ApiAccount;
use super::certificate::Certificate;
use super::order::NewOrder;
use super::runner::Runner;
use crate::resource;
use crate::resource::identifier::Identifier;

/// An account. Clones refer to the same account.
#[derive(Clone)]
pub struct Account {
    runner: Runner,
    api: ApiAccount,
}

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
pub enum RevocationReason {
    /// No reason given.
    Unspecified = 0,
    /// Others know the private key, or may know it.
    KeyCompromise = 1,
    /// Others know the CA's key.
    CACompromise = 2,
    /// The names changed owner.
    AffiliationChanged = 3,
    /// There is a new certificate.
    Superseded = 4,
    /// The service ended.
    CessationOfOperation = 5,
    /// The certificate is suspended for a while.
    CertificateHold = 6,
    /// The certificate is no longer suspended.
    RemoveFromCRL = 8,
    /// A privilege was withdrawn.
    PrivilegeWithdrawn = 9,
    /// Others know the attribute authority's key.
    AACompromise = 10,
}

impl Account {
    pub(super) fn new(runner: Runner, account: &resource::account::Account) -> Account {
        Account { runner, api: ApiAccount::from(account) }
    }

    /// The account's private key as PEM. Secret: the key is the account.
    pub fn acme_private_key_pem(&self) -> anyhow::Result<String> {
        let key = self.runner.client().account_key();
        let pkey = key.private_key()?;
        // EC keys in the form that 0.14 wrote.
        let pem = match pkey.ec_key() {
            Ok(ec) => ec.private_key_to_pem()?,
            Err(_) => pkey.private_key_to_pem_pkcs8()?,
        };
        Ok(String::from_utf8(pem)?)
    }

    /// Orders a certificate for a primary name and alternative names: DNS names, `*.` wildcards
    /// (which need a DNS challenge), IP addresses.
    pub fn new_order(&self, primary_name: &str, alt_names: &[&str]) -> anyhow::Result<NewOrder> {
        let mut identifiers: Vec<Identifier> = Vec::new();
        for name in std::iter::once(&primary_name).chain(alt_names) {
            let identifier = Identifier::from_name(name)?;
            if !identifiers.contains(&identifier) {
                identifiers.push(identifier);
            }
        }
        let (url, order) =
            self.runner.run(|session| async move { session.order_names(&identifiers).await })?;
        Ok(NewOrder::new(self.runner.clone(), url, order.value))
    }

    /// Revokes a certificate (RFC 8555 section 7.6). A certificate that is revoked already is a
    /// success.
    pub fn revoke_certificate(
        &self,
        cert: &Certificate,
        reason: RevocationReason,
    ) -> anyhow::Result<()> {
        let (leaf, reason) = (cert.certificate_der()?, reason as u32);
        self.runner.run(move |session| async move { session.revoke(&leaf, reason, None).await })
    }

    /// The account object of the CA.
    pub fn api_account(&self) -> &ApiAccount {
        &self.api
    }
}
