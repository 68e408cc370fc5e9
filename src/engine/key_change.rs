//! Replacing the account's key. RFC 8555 section 7.3.5.
//!
//! The program must keep both keys until this is done. After a crash in between, the CA knows one of
//! them, and a second key change, begun with the old key, finds out which.

use std::sync::Arc;

use super::exchange::{Call, Identity, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::jose::jws;
use crate::pki::Key;
use crate::request::{self, KeyChange};
use crate::resource::account::Account;
use crate::resource::directory::Directory;

impl Session {
    /// Replaces the account's key by `new`. The client uses the new key from then on.
    pub(crate) async fn change_key(&self, new: &Key) -> Result<()> {
        Box::pin(self.load_account()).await?;
        let old = self.client.account_key();
        if new.thumbprint() == old.thumbprint() {
            return Err(Error::invalid_argument("the new key is the account's key already"));
        }
        let outcome = match self.send_key_change(&old, new).await {
            // The response was lost, or an earlier key change took effect: ask the CA which key it has.
            Err(error) if leaves_open(&error) => match self.is_our_key(new).await? {
                true => Ok(()),
                false if error.is_lost() => {
                    self.sleep_after_lost(&error).await?;
                    self.send_key_change(&old, new).await
                }
                false => Err(error),
            },
            outcome => outcome,
        };
        outcome?;
        self.client.change_account_key(new.clone(), self.io.now());
        Box::pin(self.keep_account()).await;
        self.await_new_key().await;
        Ok(())
    }

    /// Waits until the CA accepts the new key of the account. CA quirk (Boulder): its front ends cache an
    /// account's key for 5 seconds, and refuse the new key for that long. A program that ends after the
    /// change must be able to continue with the new key at once. An error here is only logged: the key
    /// is changed already.
    async fn await_new_key(&self) {
        let Some(account) = self.client.account_url() else { return };
        let call = Call { doing: "fetching the account", url: &account, repeatable: true };
        if let Err(error) = self.post(&call, Identity::Account(&account), b"").await {
            log::debug!("the account's key is changed; asking with the new one: {error}");
        }
    }

    /// Whether this is our account's key now. It may be the key of another account. If our account's URL
    /// is not known, the old key no longer finds it, so the new key's account is ours.
    async fn is_our_key(&self, new: &Key) -> Result<bool> {
        let ours = self.client.account_url();
        let found = self.account_of(new).await?;
        Ok(found.is_some_and(|url| ours.is_none_or(|ours| ours == url)))
    }

    async fn send_key_change(&self, old: &Key, new: &Key) -> Result<()> {
        let account = &self.known_account_url().await?;
        self.with_directory(|directory| self.key_change(directory, account, old, new)).await
    }

    async fn key_change(
        &self,
        directory: Arc<Directory>,
        account: &str,
        old: &Key,
        new: &Key,
    ) -> Result<()> {
        self.io.set_state("key-change");
        let url = directory.key_change.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this CA does not offer to change keys (keyChange)")
        })?;
        let inner = KeyChange { account, old_key: jws::raw(old.jwk())? };
        let inner = jws::Unsigned::key_change(new, url, &request::json(&inner)?)?;
        let payload = inner.signed(&self.sign(new, inner.input()).await?);
        let call = Call { doing: "changing the account's key", url, repeatable: false };
        let identity = Identity::Account(account);
        // Only a response with an account object ends the use of the old key.
        match self.submit::<Account>(&call, identity, &payload, "an account").await {
            Ok(_) => Ok(()),
            // 409: another account has the new key; Location names it.
            Err(error) if error.http_status() == Some(409) => {
                Err(error.with_kind(ErrorKind::Account))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the error leaves open which key the account has. Examples are a response that is not an account,
/// and a refusal of the signing key: after a key change the CA no longer accepts the old key. 409 means
/// that some account has the new key: this account, if an earlier try has changed its key.
fn leaves_open(error: &Error) -> bool {
    if error.is_unsent() {
        return false;
    }
    error.is_lost()
        || error.kind() == ErrorKind::Protocol
        || matches!(error.http_status(), Some(401 | 403 | 409))
        || error.is_problem("malformed")
        || error.is_problem("accountDoesNotExist")
}
