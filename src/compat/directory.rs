//! A CA's directory, and the functions that return an account. RFC 8555 section 7.1.1.

use anyhow::Context as _;

use super::account::Account;
use super::api::ApiDirectory;
use super::runner::Runner;
use crate::engine::{Client, ClientOptions};
use crate::pki::{Key, KeyType};
use crate::transport::{HttpClient, HttpOptions};

/// The CA to use.
#[derive(Debug, Clone)]
pub enum DirectoryUrl<'a> {
    /// Let's Encrypt, whose certificates browsers trust.
    LetsEncrypt,
    /// Let's Encrypt's staging environment, for trying things.
    LetsEncryptStaging,
    /// Any other CA, by the URL of its directory.
    Other(&'a str),
}

impl DirectoryUrl<'_> {
    fn as_str(&self) -> &str {
        match self {
            DirectoryUrl::LetsEncrypt => "https://acme-v02.api.letsencrypt.org/directory",
            DirectoryUrl::LetsEncryptStaging => {
                "https://acme-staging-v02.api.letsencrypt.org/directory"
            }
            DirectoryUrl::Other(url) => url,
        }
    }
}

/// A CA's directory. Clones share its connections.
#[derive(Clone)]
pub struct Directory {
    url: String,
    runner: Runner,
    api: ApiDirectory,
}

impl Directory {
    /// Fetches the directory. It has to be https; plain http is possible for loopback addresses.
    pub fn from_url(url: DirectoryUrl<'_>) -> anyhow::Result<Directory> {
        let options = HttpOptions { proxy_from_env: true, ..HttpOptions::default() };
        Directory::from_url_with(url, HttpClient::new(&options)?)
    }

    /// Fetches the directory with another HTTP client, which may have other roots, a proxy or a client
    /// certificate.
    pub fn from_url_with(url: DirectoryUrl<'_>, http: HttpClient) -> anyhow::Result<Directory> {
        // No request is signed yet: this key belongs to no account.
        let key = Key::generate(KeyType::P256)?;
        let runner = Runner::new(client(url.as_str(), key, Vec::new())?, http);
        let directory = runner.run(|session| async move { session.directory().await })?;
        let api = ApiDirectory::from(&*directory);
        Ok(Directory { url: url.as_str().to_owned(), runner, api })
    }

    /// Makes an account with a fresh P-256 key, and agrees to the CA's terms of service. Store the
    /// key ([`Account::acme_private_key_pem`]): it is the account.
    pub fn register_account(&self, contact: Vec<String>) -> anyhow::Result<Account> {
        self.account(Key::generate(KeyType::P256)?, contact)
    }

    /// Loads the account of a stored key; creates it if the CA does not know the key.
    pub fn load_account(&self, pem: &str, contact: Vec<String>) -> anyhow::Result<Account> {
        let key = Key::parse(pem.as_bytes()).context("Failed to read PEM")?;
        self.account(key, contact)
    }

    fn account(&self, key: Key, contact: Vec<String>) -> anyhow::Result<Account> {
        let client = client(&self.url, key, contact)?;
        let runner = self.runner.with_client(client);
        let registered = runner.run(|session| async move { session.register().await })?;
        Ok(Account::new(runner, &registered.account))
    }

    /// The directory object of the CA.
    pub fn api_directory(&self) -> &ApiDirectory {
        &self.api
    }
}

fn client(url: &str, key: Key, contacts: Vec<String>) -> anyhow::Result<Client> {
    let mut options = ClientOptions::new(url, key);
    options.contacts = contacts;
    options.terms_agreed = true;
    options.allow_http_loopback = true;
    Ok(Client::new(options)?)
}
