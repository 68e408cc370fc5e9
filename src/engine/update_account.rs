//! Changing an account, and deactivating it. RFC 8555 sections 7.3.2 and 7.3.6.

use super::exchange::{Call, Identity, Session};
use super::limits::MIN_DELAY_AFTER_LOST;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{self, Deactivate, UpdateContacts};
use crate::resource::account::Account;
use crate::text::printable;

impl Session {
    /// Replaces the account's contacts.
    pub(crate) async fn update_contacts(&self, contacts: &[String]) -> Result<()> {
        let url = self.account_url().await?;
        self.io.set_state("account");
        let call = Call { doing: "changing the account's contacts", url: &url, repeatable: true };
        let payload = request::json(&UpdateContacts { contact: contacts })?;
        self.post(&call, Identity::Account(&url), &payload).await.map(|_| ())
    }

    /// Deactivates the account permanently.
    pub(crate) async fn deactivate_account(&self) -> Result<()> {
        let url = self.known_account_url().await?;
        self.io.set_state("account");
        let call = Call { doing: "deactivating the account", url: &url, repeatable: false };
        let identity = Identity::Account(&url);
        let payload = request::json(&Deactivate::new())?;
        let send = || self.submit::<Account>(&call, identity, &payload, "an account");
        let outcome = match send().await {
            // The response was lost or cannot be read. If the request took effect, the CA now refuses the
            // account.
            Err(error) if error.is_lost() || error.is_unread() => {
                self.io.sleep(MIN_DELAY_AFTER_LOST).await.map_err(|e| e.after(&error))?;
                match send().await {
                    Err(again)
                        if matches!(again.http_status(), Some(401 | 403)) && !again.is_unsent() =>
                    {
                        Ok(())
                    }
                    outcome => outcome.map(|_| ()),
                }
            }
            outcome => outcome.map(|_| ()),
        };
        if outcome.is_ok() {
            self.client.set_account_url(None);
        }
        outcome
    }

    /// Returns the URL of an existing account, for requests that make no sense with a new one.
    pub(super) async fn known_account_url(&self) -> Result<String> {
        Box::pin(self.load_account()).await?;
        match self.client.account_url() {
            Some(url) => Ok(url),
            None => Ok(self.find_account().await?.url),
        }
    }

    /// Explains an error that a wrong key may have caused: the program has set the account's URL, and the
    /// key in its file may be another account's. Fetches the key's account and adds the result to the
    /// error.
    pub(super) async fn explain_key_mismatch(&self, error: Error, account: &str) -> Error {
        if !self.client.was_given(account)
            || !(error.is_problem("malformed") || error.is_problem("unauthorized"))
        {
            return error;
        }
        let found = self.account_of(&self.client.account_key()).await;
        self.client.set_account_url(Some(account));
        let key = match found {
            Ok(Some(url)) if url != account => format!("the key is that of {url}"),
            Ok(None) => "the key is no account's".to_owned(),
            _ => return error,
        };
        let account = printable(account, 500);
        error.with_kind(ErrorKind::Account).noting(&format!("{key}, and not that of {account}"))
    }
}
