//! The account of a client that has a store: its key and its URL.

use std::sync::Arc;

use super::client::Client;
use super::exchange::Session;
use super::http01::http01_answer;
use super::stored::log_wait;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{Key, KeyType};
use crate::store::account_record::AccountRecord;
use crate::store::{Store, names};

impl Client {
    /// Reads the account's key and URL from the store; returns whether there is a key. Blocks as the store does.
    pub(crate) fn read_account(&self) -> Result<bool> {
        let store = self.account_store().filter(|_| !self.is_loaded());
        let Some(store) = store else { return Ok(true) };
        let name = names::account(self.directory_url());
        let Some(found) = store.get(&name)? else { return Ok(false) };
        self.load_account(&(found.version, AccountRecord::parse(&name, &found.value)?))
    }

    /// Returns the body of the response to a CA's http-01 request (RFC 8555 section 8.3) for the account, if the CA
    /// has it: any program with the same account may have published the challenge.
    pub(crate) fn http01_answer_of_account(&self, path: &str) -> Option<String> {
        let is_known = self.account_store().is_none() || self.is_loaded();
        let is_registered = self.account_url().is_some() && is_known;
        is_registered.then(|| http01_answer(self.account_key().thumbprint(), path)).flatten()
    }
}

impl Session {
    /// Reads the account's key and URL from the store, if the client has one. Without a key there, stores
    /// the one that the client has generated.
    pub(super) async fn load_account(&self) -> Result<()> {
        let Some(store) = self.client.account_store() else { return Ok(()) };
        if self.client.is_loaded() {
            return Ok(());
        }
        let name = names::account(&self.client.options().directory_url);
        // Another thread or program may generate a key at the same time. Then it does not keep the record
        // for itself until its order ends: do not wait for that, but for the key.
        let (mut claim, mut is_logged) = (None, false);
        let (version, old) = loop {
            let found = self.read_account(&store, &name).await?;
            if self.client.load_account(&found)? {
                return Ok(());
            }
            if claim.is_some() {
                break found;
            }
            claim = self.try_claim(&store, &name).await?;
            if claim.is_none() {
                if !std::mem::replace(&mut is_logged, true) {
                    log_wait(&name);
                }
                self.wait_for(&name).await?;
            }
        };
        if let Some(url) = &old.url {
            log::warn!("{name}: the key is gone, and with it the account {url}");
        }
        let key = Some(self.client.account_key().to_pem()?);
        let new =
            AccountRecord { ca: Some(self.client.options().directory_url.clone()), key, url: None };
        let stored = match self.put_account(&store, &name, version, &new).await {
            Ok(version) => (version, new),
            // A store without claims: the other one was faster.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.read_account(&store, &name).await?
            }
            Err(error) => return Err(error),
        };
        self.client.load_account(&stored)?;
        Ok(())
    }

    async fn read_account(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
    ) -> Result<(u64, AccountRecord)> {
        match self.get_value(store, name).await? {
            Some(found) => Ok((found.version, AccountRecord::parse(name, &found.value)?)),
            None => Ok((0, AccountRecord::default())),
        }
    }

    async fn put_account(
        &self,
        store: &Arc<dyn Store>,
        name: &str,
        version: u64,
        record: &AccountRecord,
    ) -> Result<u64> {
        self.put_value(store, name, version, Some(record.value(name)?)).await
    }

    /// Sets the account's key aside if the CA refuses to register it, for instance because of its curve. The
    /// next operation generates another one.
    pub(super) async fn set_refused_key_aside(&self, error: &Error) {
        let Some(store) = self.client.account_store() else { return };
        if !error.is_problem("badSignatureAlgorithm") && !error.is_problem("badPublicKey") {
            return;
        }
        let Ok(other) = Key::generate(KeyType::P256) else { return };
        let Some(version) = self.client.forget_refused_key(other) else { return };
        let name = names::account(&self.client.options().directory_url);
        if let Err(error) = self.put_value(&store, &name, version, None).await {
            log::warn!("the key that the CA refuses cannot be set aside: {error}");
        }
    }

    /// Stores the account's URL, if it is new. A failure does not end the operation: the CA finds the account
    /// by its key.
    pub(super) async fn keep_account(&self) {
        let Some(store) = self.client.account_store() else { return };
        let Some((version, record)) = self.client.changed_account() else { return };
        let name = names::account(&self.client.options().directory_url);
        match self.put_account(&store, &name, version, &record).await {
            Ok(version) => self.client.account_is_stored(version, record),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                if let Ok((version, found)) = self.read_account(&store, &name).await {
                    self.client.account_is_stored(version, found);
                }
            }
            Err(error) => log::warn!("the account's URL cannot be stored: {error}"),
        }
    }
}
