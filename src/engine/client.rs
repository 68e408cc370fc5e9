//! One account at one CA: the state that its operations share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::http01::Published;
use super::nonce::NoncePool;
use super::url_policy::UrlPolicy;
use crate::error::{Error, Result};
use crate::jose::eab::ExternalAccount;
use crate::pki::{Key, KeyType, KnownIssuers};
use crate::resource::directory::Directory;
use crate::store::account_record::AccountRecord;
use crate::store::{Store, names, unusable};
use crate::time::Time;
use crate::url::Url;

/// Options of a [`Client`].
#[derive(Clone)]
pub struct ClientOptions {
    /// URL of the CA's directory.
    pub directory_url: String,
    /// The account's key. Store it before the first request: it is the account.
    pub account_key: Key,
    /// The account's URL, from an earlier [`Client::account_url`]; saves a request.
    pub account_url: Option<String>,
    /// Contacts of a new account: `mailto:` URLs.
    pub contacts: Vec<String>,
    /// Agreement to the CA's terms of service, whatever they are. Without it an existing account is
    /// found, and no new account is created.
    pub terms_agreed: bool,
    /// Agreement to the terms at this URL only ([`Client::terms_of_service`]). If the CA's terms have
    /// another URL by now, no account is created and [`ErrorKind::Terms`](crate::ErrorKind::Terms)
    /// names both URLs.
    pub agreed_terms_url: Option<String>,
    /// External account binding, for CAs that require one. It is used to create an account. An existing
    /// account of the key keeps its binding.
    pub external_account: Option<ExternalAccount>,
    /// Name and version of the program for the `User-Agent` field, such as `"exampled/1.2"`. The
    /// library's name follows it.
    pub user_agent: Option<String>,
    /// Languages of the CA's messages, as in HTTP's `Accept-Language`, such as `"de, en;q=0.5"` (RFC
    /// 8555 section 6.1).
    pub accept_language: Option<String>,
    /// Hosts of the CA's URLs in addition to the directory's. Loopback and link-local addresses are
    /// allowed only if the directory is at one, too.
    pub allowed_hosts: Vec<String>,
    /// Allows plain http for loopback addresses, for tests.
    pub allow_http_loopback: bool,
    /// Seed of the jitter of delays, for runs that repeat exactly. Default: random.
    pub seed: Option<u64>,
    /// Where the account and its certificates are kept; see [`ClientOptions::with_store`].
    pub store: Option<Arc<dyn Store>>,
    /// With a store: the account is the one of `account_key`, and the store keeps only the certificates.
    pub is_own_account: bool,
}

impl ClientOptions {
    /// The defaults for this CA and this account key.
    pub fn new(directory_url: impl Into<String>, account_key: Key) -> ClientOptions {
        ClientOptions {
            directory_url: directory_url.into(),
            account_key,
            account_url: None,
            contacts: Vec::new(),
            terms_agreed: false,
            agreed_terms_url: None,
            external_account: None,
            user_agent: None,
            accept_language: None,
            allowed_hosts: Vec::new(),
            allow_http_loopback: false,
            seed: None,
            store: None,
            is_own_account: false,
        }
    }

    /// The default options for an account that is kept in a store. Its key and its URL come from there; if the
    /// store has no key, a new one is stored before the CA gets a request.
    ///
    /// The first operation reads the store. Until then [`Client::account_key`] and [`Client::account_url`] are
    /// not those of the account.
    pub fn with_store(
        directory_url: impl Into<String>,
        store: Arc<dyn Store>,
    ) -> Result<ClientOptions> {
        let generated = Key::generate(KeyType::P256)?;
        let options = ClientOptions::new(directory_url, generated);
        Ok(ClientOptions { store: Some(store), ..options })
    }
}

/// One account at one CA: directory, account key, nonces. Cheap to clone; clones share all of it.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: ClientOptions,
    policy: UrlPolicy,
    user_agent: String,
    nonces: NoncePool,
    published: Published,
    issuers: KnownIssuers,
    learned: Mutex<Learned>,
}

/// The changing part: the facts from the CA's responses so far, and the random seed.
struct Learned {
    directory: Option<Arc<Directory>>,
    /// Whether the next operation fetches the directory again. Until then the terms and profiles are those
    /// of the known directory.
    directory_is_doubtful: bool,
    account_url: Option<String>,
    account_key: Key,
    key_changed_at: Option<Time>,
    /// The account's record and its version; `None`: it has not been read.
    stored: Option<(u64, AccountRecord)>,
    seed: u64,
    requests: u64,
}

impl Client {
    /// Makes a client. No request is sent.
    pub fn new(options: ClientOptions) -> Result<Client> {
        let policy = UrlPolicy::new(
            &options.directory_url,
            &options.allowed_hosts,
            options.allow_http_loopback,
        )?;
        if let Some(url) = &options.account_url {
            check_account_url(&policy, url)?;
        }
        if options.terms_agreed && options.agreed_terms_url.is_some() {
            let why = "terms_agreed agrees to any terms, agreed_terms_url to one; set one of them";
            return Err(Error::invalid_argument(why));
        }
        for contact in &options.contacts {
            check_contact(contact)?;
        }
        if let Some(languages) = &options.accept_language {
            check_languages(languages)?;
        }
        let seed = match options.seed {
            Some(seed) => seed,
            None => {
                let mut bytes = [0; 8];
                openssl::rand::rand_bytes(&mut bytes)?;
                u64::from_le_bytes(bytes)
            }
        };
        let learned = Learned {
            directory: None,
            directory_is_doubtful: false,
            account_url: options.account_url.clone(),
            account_key: options.account_key.clone(),
            key_changed_at: None,
            stored: None,
            seed,
            requests: 0,
        };
        Ok(Client(Arc::new(Inner {
            user_agent: user_agent(options.user_agent.as_deref())?,
            options,
            policy,
            nonces: NoncePool::default(),
            published: Published::default(),
            issuers: KnownIssuers::default(),
            learned: Mutex::new(learned),
        })))
    }

    /// The account's URL. Store it: it saves a request. `None` until an operation has needed it.
    pub fn account_url(&self) -> Option<String> {
        self.learned().account_url.clone()
    }

    /// URL of the CA's terms of service; `None` if the CA has none, or its directory is not known yet.
    pub fn terms_of_service(&self) -> Option<String> {
        self.learned().directory.as_ref()?.terms_of_service().map(str::to_owned)
    }

    /// The body of the response to a CA's http-01 request for this path, if the challenge belongs to an
    /// operation of this client and is published now; see also [`http01_answer`]. Any thread may call
    /// it.
    ///
    /// [`http01_answer`]: super::http01_answer
    pub fn http01_answer(&self, path: &str) -> Option<String> {
        self.0.published.answer(path)
    }

    pub(super) fn published(&self) -> &Published {
        &self.0.published
    }

    /// The profiles that the CA offers, each with its description; empty until its directory is
    /// known.
    pub fn profiles(&self) -> Vec<(String, String)> {
        let learned = self.learned();
        learned.directory.as_ref().map_or(Vec::new(), |directory| directory.profiles().to_vec())
    }

    /// Checks a URL that the host gives: it must be one that the CA could have given.
    pub(super) fn argument_url(&self, name: &str, url: &str) -> Result<String> {
        let checked = self.policy().check(url);
        checked.map_err(|e| Error::invalid_argument(format!("{name}: {e}")))?;
        Ok(url.to_owned())
    }

    /// Takes over the directory that another client of the same CA has fetched.
    #[cfg(feature = "http")]
    pub(crate) fn learn_from(&self, other: &Client) {
        let directory = other.directory();
        self.learned().directory = directory;
    }

    /// The seed of the next operation.
    pub(super) fn next_seed(&self) -> u64 {
        let mut learned = self.learned();
        learned.seed = learned.seed.wrapping_add(1);
        learned.seed
    }

    /// Counts a request, for metrics.
    pub(super) fn count_request(&self) {
        self.learned().requests += 1;
    }

    /// Number of requests of this client so far.
    pub(crate) fn requests(&self) -> u64 {
        self.learned().requests
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory(&self) -> Option<Arc<Directory>> {
        let learned = self.learned();
        learned.directory.clone().filter(|_| !learned.directory_is_doubtful)
    }

    pub(super) fn set_directory(&self, directory: Arc<Directory>) {
        let mut learned = self.learned();
        (learned.directory, learned.directory_is_doubtful) = (Some(directory), false);
    }

    /// Has this directory fetched again, unless another part of the program has replaced it already.
    pub(super) fn replace_directory(&self, old: &Arc<Directory>) {
        let mut learned = self.learned();
        let is_known = learned.directory.as_ref().is_some_and(|known| Arc::ptr_eq(known, old));
        learned.directory_is_doubtful |= is_known;
    }

    /// Has the next operation fetch the directory again.
    pub(super) fn doubt_directory(&self) {
        self.learned().directory_is_doubtful = true;
    }

    pub(super) fn set_account_url(&self, url: Option<&str>) {
        self.learned().account_url = url.map(str::to_owned);
    }

    pub(crate) fn directory_url(&self) -> &str {
        &self.0.options.directory_url
    }

    /// The host of the CA's directory.
    pub(crate) fn directory_host(&self) -> &str {
        self.policy().directory().host()
    }

    pub(crate) fn store(&self) -> Option<Arc<dyn Store>> {
        self.0.options.store.clone()
    }

    /// The store that keeps the account.
    pub(super) fn account_store(&self) -> Option<Arc<dyn Store>> {
        self.store().filter(|_| !self.0.options.is_own_account)
    }

    /// Whether the account's record has been read.
    pub(super) fn is_loaded(&self) -> bool {
        self.learned().stored.is_some()
    }

    /// Takes the account from its record; returns whether that has a key.
    pub(super) fn load_account(&self, (version, record): &(u64, AccountRecord)) -> Result<bool> {
        let Some(pem) = &record.key else { return Ok(false) };
        let url = &self.0.options.directory_url;
        let name = names::account(url);
        if record.ca.as_ref().is_some_and(|ca| !names::is_same_directory(ca, url)) {
            return Err(unusable(&name, "it belongs to another CA"));
        }
        let key = Key::parse(pem.as_bytes());
        let key = key.map_err(|e| unusable(&name, &format!("the account's key: {e}")))?;
        if let Some(account) = &record.url {
            check_account_url(&self.0.policy, account)
                .map_err(|e| unusable(&name, &e.to_string()))?;
        }
        let mut learned = self.learned();
        learned.account_key = key;
        learned.account_url.clone_from(&record.url);
        learned.stored = Some((*version, record.clone()));
        Ok(true)
    }

    /// Returns the account's record with the URL that the CA has named, and the version that it replaces;
    /// `None`: the record has that URL, and the CA.
    pub(super) fn changed_account(&self) -> Option<(u64, AccountRecord)> {
        let learned = self.learned();
        let (version, record) = learned.stored.as_ref()?;
        // A key that has replaced the stored one. The program has the old one, and the new one, until this is
        // stored.
        let new_key = learned.key_changed_at.and_then(|_| learned.account_key.to_pem().ok());
        let key = new_key.or_else(|| record.key.clone());
        let is_known = learned.account_url == record.url && record.ca.is_some();
        if learned.account_url.is_none() || is_known && key == record.key {
            return None;
        }
        let (ca, url) = (Some(self.0.options.directory_url.clone()), learned.account_url.clone());
        Some((*version, AccountRecord { ca, url, key }))
    }

    /// Whether the program, or its store, has named this account.
    pub(super) fn was_given(&self, account: &str) -> bool {
        let learned = self.learned();
        let stored = learned.stored.as_ref().and_then(|(_, record)| record.url.as_deref());
        stored.or(self.0.options.account_url.as_deref()) == Some(account)
    }

    pub(super) fn account_is_stored(&self, version: u64, record: AccountRecord) {
        self.learned().stored = Some((version, record));
    }

    /// Forgets a key that the CA refuses. Returns the version of its record, if the key has no account.
    pub(super) fn forget_refused_key(&self, other: Key) -> Option<u64> {
        let mut learned = self.learned();
        let (version, record) = learned.stored.as_ref()?;
        if learned.account_url.is_some() || record.url.is_some() {
            return None;
        }
        let version = *version;
        (learned.account_key, learned.stored) = (other, None);
        Some(version)
    }

    pub(super) fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// The account's key: the given one, or the one that has replaced it.
    pub fn account_key(&self) -> Key {
        self.learned().account_key.clone()
    }

    /// Replaces the key that signs requests.
    pub(super) fn change_account_key(&self, key: Key, now: Time) {
        let mut learned = self.learned();
        (learned.account_key, learned.key_changed_at) = (key, Some(now));
    }

    /// Whether this client has changed the account's key within this time before `now`.
    pub(super) fn has_changed_key_within(&self, time: Duration, now: Time) -> bool {
        // After the clock was set back, the time since the change is unknown.
        self.learned().key_changed_at.is_some_and(|at| now >= at && now.since(at) < time)
    }

    /// The issuers of the CA's certificates so far.
    pub(super) fn issuers(&self) -> &KnownIssuers {
        &self.0.issuers
    }

    pub(super) fn policy(&self) -> &UrlPolicy {
        &self.0.policy
    }

    pub(super) fn nonces(&self) -> &NoncePool {
        &self.0.nonces
    }

    /// The header fields of every request.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let languages = self.0.options.accept_language.as_ref();
        let languages = languages.map(|languages| ("Accept-Language", languages.clone()));
        let agent = ("User-Agent", self.0.user_agent.clone());
        languages.into_iter().chain([agent]).collect()
    }
}

/// "This header field SHOULD include the name and version of the ACME software" (RFC 8555 section 6.1).
fn user_agent(host: Option<&str>) -> Result<String> {
    let own = concat!("acme-micro/", env!("CARGO_PKG_VERSION"));
    let Some(host) = host else { return Ok(own.to_owned()) };
    if host.len() > 200 || !host.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(Error::invalid_argument(
            "user_agent has more than 200 characters, or others than printable ASCII",
        ));
    }
    Ok(format!("{} {own}", host.trim()))
}

/// Checks the syntax of `Accept-Language`; RFC 9110 section 12.5.4.
fn check_languages(languages: &str) -> Result<()> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"-*,;=. ".contains(&b);
    match !languages.trim().is_empty() && languages.len() <= 200 && languages.bytes().all(sound) {
        true => Ok(()),
        false => Err(Error::invalid_argument(
            "accept_language is not a list of languages like \"de, en;q=0.5\"",
        )),
    }
}

/// Refuses the URL of an account at another CA. `allowed_hosts` does not permit it: requests would tell
/// one CA about the account at the other.
fn check_account_url(policy: &UrlPolicy, url: &str) -> Result<()> {
    let Err(error) = policy.check(url) else { return Ok(()) };
    let (ours, why) = (policy.directory().host(), error.to_string());
    Err(Error::invalid_argument(match Url::parse(url) {
        Ok(other) if other.host() != ours => format!(
            "account_url: it is an account's at {}, and the directory is {ours}'s; an account and its \
             key are of one CA: take others here, from another folder perhaps",
            other.host()
        ),
        _ => format!("account_url: {why}"),
    }))
}

/// Refuses a contact that is not a URL, and a `mailto:` with several addresses or with header fields (RFC
/// 8555 section 7.3).
pub(super) fn check_contact(contact: &str) -> Result<()> {
    let scheme = contact.split_once(':').filter(|(scheme, rest)| {
        !rest.is_empty() && !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    let sound = contact.bytes().all(|b| b.is_ascii_graphic())
        && match scheme {
            Some(("mailto", address)) => address.contains('@') && !address.contains(['?', ',']),
            Some(_) => true,
            None => false,
        };
    match sound {
        true => Ok(()),
        false => Err(Error::invalid_argument(format!(
            "the contact \"{}\" is not a URL like mailto:you@example.org",
            crate::text::printable(contact, 100)
        ))),
    }
}
