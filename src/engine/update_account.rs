//! Changing an account, and ending it. RFC 8555 sections 7.3.2 and 7.3.6.

use super::exchange::{Call, Identity, Session};
use crate::error::Result;
use crate::request::{self, Deactivate, UpdateContacts};
use crate::resource::account::Account;

impl Session {
    /// Replaces the account's contacts.
    pub(crate) async fn update_contacts(&self, contacts: &[String]) -> Result<()> {
        let url = self.account_url().await?;
        self.io.enter("account");
        let call = Call { doing: "changing the account's contacts", url: &url, repeatable: true };
        let payload = request::json(&UpdateContacts { contact: contacts })?;
        self.submit::<Account>(&call, Identity::Account(&url), &payload, "an account").await?;
        Ok(())
    }

    /// Deactivates the account, for good.
    pub(crate) async fn deactivate_account(&self) -> Result<()> {
        let url = self.known_account_url().await?;
        self.io.enter("account");
        let call = Call { doing: "deactivating the account", url: &url, repeatable: false };
        let identity = Identity::Account(&url);
        let payload = request::json(&Deactivate::new())?;
        let ask = || self.submit::<Account>(&call, identity, &payload, "an account");
        let outcome = match ask().await {
            // The answer was lost. If it took effect the CA now refuses the account.
            Err(error) if error.is_lost() => match ask().await {
                Err(again) if again.http_status().is_some_and(|s| s == 401 || s == 403) => Ok(()),
                outcome => outcome.map(|_| ()),
            },
            outcome => outcome.map(|_| ()),
        };
        if outcome.is_ok() {
            self.client.set_account_url(None);
        }
        outcome
    }

    /// The account's URL, for what makes no sense for an account that is made for it.
    pub(super) async fn known_account_url(&self) -> Result<String> {
        match self.client.account_url() {
            Some(url) => Ok(url),
            None => Ok(self.find_account().await?.url),
        }
    }
}
