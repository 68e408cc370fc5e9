//! One account at one CA: what its operations share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exchange::Session;
use super::http01::Published;
use super::io::Io;
use super::nonce::NoncePool;
use super::obtain::{Issued, Renewal};
use super::operation::Operation;
use super::order_options::OrderOptions;
use super::pre_authorize::AuthorizeOptions;
use super::register::Registered;
use super::renewal_info::RenewalInfo;
use super::revoke::RevocationReason;
use super::transcript::{Line, Transcript};
use crate::error::{Error, Result};
use crate::jose::eab::ExternalAccount;
use crate::pki::{CertificateChain, Key};
use crate::resource::directory::Directory;
use crate::time::Time;
use crate::url::{Url, UrlPolicy};

/// An operation ends after this long, the time that publishing takes not counted.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(600);

/// What a [`Client`] is made from.
#[derive(Clone)]
pub struct ClientOptions {
    /// The CA's directory.
    pub directory_url: String,
    /// The account's key. Store it before the first request: it is the account.
    pub account_key: Key,
    /// What [`Client::account_url`] said earlier; saves a request.
    pub account_url: Option<String>,
    /// `mailto:` URLs.
    pub contacts: Vec<String>,
    /// The operator has agreed to the CA's terms of service. Without it an existing account is
    /// found, and none is made.
    pub terms_agreed: bool,
    /// The same for the terms at this URL only ([`Client::terms_of_service`]): when the CA's are
    /// others by now, no account is made and [`ErrorKind::Terms`](crate::ErrorKind::Terms) names
    /// both.
    pub agreed_terms: Option<String>,
    /// External account binding, for CAs that want one. It is for making an account: one that the
    /// key has already is kept, whatever it was bound to.
    pub external_account: Option<ExternalAccount>,
    /// Named to the CA before the library's own name, such as `"exampled/1.2"`.
    pub user_agent: Option<String>,
    /// The languages that the CA's messages are wanted in, as in HTTP's `Accept-Language`, such as
    /// `"de, en;q=0.5"` (RFC 8555 section 6.1).
    pub accept_language: Option<String>,
    /// Hosts besides the directory's own that the CA's URLs may be on. Loopback and link-local
    /// addresses count only if the directory is at one, too.
    pub allowed_hosts: Vec<String>,
    /// Plain http for loopback addresses, for tests.
    pub allow_http_loopback: bool,
    /// For runs that repeat exactly: seeds the jitter of delays. Default: random.
    pub seed: Option<u64>,
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
            agreed_terms: None,
            external_account: None,
            user_agent: None,
            accept_language: None,
            allowed_hosts: Vec::new(),
            allow_http_loopback: false,
            seed: None,
        }
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
    learned: Mutex<Learned>,
}

/// What the CA has told, or the random seed has become, so far.
struct Learned {
    directory: Option<Arc<Directory>>,
    /// The next operation is to ask for it anew; what it says of terms and profiles is told still.
    directory_is_doubtful: bool,
    account_url: Option<String>,
    account_key: Key,
    key_changed_at: Option<Time>,
    seed: u64,
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
        if options.terms_agreed && options.agreed_terms.is_some() {
            let why = "terms_agreed agrees to any terms, agreed_terms to one; set one of them";
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
            seed,
        };
        Ok(Client(Arc::new(Inner {
            user_agent: user_agent(options.user_agent.as_deref())?,
            options,
            policy,
            nonces: NoncePool::default(),
            published: Published::default(),
            learned: Mutex::new(learned),
        })))
    }

    /// The account's URL, worth storing; `None` until an operation has needed it.
    pub fn account_url(&self) -> Option<String> {
        self.learned().account_url.clone()
    }

    /// The CA's terms of service; `None` until its directory is known, or when it has none.
    pub fn terms_of_service(&self) -> Option<String> {
        self.learned().directory.as_ref()?.terms_of_service().map(str::to_owned)
    }

    /// The body to answer a CA's http-01 request for this path with, if the challenge is one of an
    /// operation of this client and published right now; see also [`http01_answer`]. Any thread.
    ///
    /// [`http01_answer`]: super::http01_answer
    pub fn http01_answer(&self, path: &str) -> Option<String> {
        self.0.published.answer(path)
    }

    pub(super) fn published(&self) -> &Published {
        &self.0.published
    }

    /// Registers the account, or finds it when the CA knows the key (RFC 8555 section 7.3).
    pub fn register(&self) -> Operation<Registered> {
        self.start(TIME_LIMIT, |session| async move { session.register().await })
            .noted("register", None)
    }

    /// Finds the account of the key; none is made (RFC 8555 section 7.3.1). A key that the CA does
    /// not know is [`ErrorKind::Account`](crate::ErrorKind::Account).
    pub fn find_account(&self) -> Operation<Registered> {
        self.start(TIME_LIMIT, |session| async move { session.find_account().await })
            .noted("find_account", None)
    }

    /// Replaces the account's contacts (RFC 8555 section 7.3.2); an empty list removes them.
    pub fn update_contacts(&self, contacts: Vec<String>) -> Result<Operation<()>> {
        contacts.iter().try_for_each(|contact| check_contact(contact))?;
        Ok(self
            .start(TIME_LIMIT, |session| async move { session.update_contacts(&contacts).await }))
    }

    /// Replaces the account's key (RFC 8555 section 7.3.5). Store the new key before, and forget
    /// the old one after: if the program ends in between, run it again with the old key.
    pub fn change_key(&self, new: &Key) -> Operation<()> {
        let new = new.clone();
        self.start(TIME_LIMIT, |session| async move { session.change_key(&new).await })
    }

    /// Deactivates the account, for good (RFC 8555 section 7.3.6).
    pub fn deactivate_account(&self) -> Operation<()> {
        self.start(TIME_LIMIT, |session| async move { session.deactivate_account().await })
    }

    /// Asks the CA when to renew (RFC 9773); what it does not say, the certificate's lifetime does.
    pub fn renewal_info(&self, chain: &CertificateChain) -> Operation<RenewalInfo> {
        let chain = chain.clone();
        self.start(TIME_LIMIT, |session| async move { session.renewal_info(&chain).await })
    }

    /// Renews [`OrderOptions::replaces`] if the CA, or the certificate's lifetime, says that it is
    /// time to.
    pub fn renew(&self, options: OrderOptions) -> Result<Operation<Renewal>> {
        if options.replaces.is_none() {
            return Err(Error::invalid_argument("there is no certificate to renew (replaces)"));
        }
        let limit = options.time_limit;
        let shown = Transcript::is_wanted().then(|| options.shown());
        let plan = options.plan(self)?;
        let operation = self.start(limit, |session| async move { session.renew(plan).await });
        Ok(operation.noted("renew", shown))
    }

    /// The profiles that the CA offers, each with its description; empty until its directory is
    /// known.
    pub fn profiles(&self) -> Vec<(String, String)> {
        let learned = self.learned();
        learned.directory.as_ref().map_or(Vec::new(), |directory| directory.profiles().to_vec())
    }

    /// Obtains a certificate (RFC 8555 section 7.1): account if needed, order, challenges,
    /// finalize, download. What cannot work is refused here, before anything is sent.
    pub fn obtain(&self, options: OrderOptions) -> Result<Operation<Issued>> {
        let limit = options.time_limit;
        let shown = Transcript::is_wanted().then(|| options.shown());
        let plan = options.plan(self)?;
        let operation = self.start(limit, |session| async move { session.obtain(plan).await });
        Ok(operation.noted("obtain", shown))
    }

    /// Proves names ahead of an order, where the CA lets one (RFC 8555 section 7.4.1). Gives the
    /// URLs of their authorizations.
    pub fn authorize(&self, options: AuthorizeOptions) -> Result<Operation<Vec<String>>> {
        let (limit, subdomains) = (options.time_limit, options.subdomains);
        let claim = options.claim()?;
        Ok(self.start(limit, move |session| async move {
            session.pre_authorize(claim, subdomains).await
        }))
    }

    /// Deactivates an authorization, for good (RFC 8555 section 7.5.2).
    pub fn deactivate_authorization(&self, url: &str) -> Result<Operation<()>> {
        let url = self.argument_url("authorization_url", url)?;
        Ok(self.start(
            TIME_LIMIT,
            |session| async move { session.deactivate_authorization(&url).await },
        ))
    }

    /// Deactivates what is still pending of an order's authorizations, for an order that is not
    /// going to be resumed: CAs limit how many an account may leave pending.
    pub fn abandon_order(&self, url: &str) -> Result<Operation<()>> {
        let url = self.argument_url("order_url", url)?;
        Ok(self.start(TIME_LIMIT, |session| async move { session.abandon_order(&url).await }))
    }

    /// The URLs of the account's orders, where the CA lists them (RFC 8555 section 7.1.2.1).
    pub fn orders(&self) -> Operation<Vec<String>> {
        self.start(TIME_LIMIT, |session| async move { session.orders().await })
    }

    /// A URL from the host, which has to be one that the CA could have given.
    pub(super) fn argument_url(&self, name: &str, url: &str) -> Result<String> {
        let checked = self.policy().check(url);
        checked.map_err(|e| Error::invalid_argument(format!("{name}: {e}")))?;
        Ok(url.to_owned())
    }

    /// Revokes a certificate (RFC 8555 section 7.6): as the account that ordered it or, with `key`,
    /// as whoever has the certificate's key.
    pub fn revoke(
        &self,
        chain: &CertificateChain,
        reason: RevocationReason,
        key: Option<&Key>,
    ) -> Result<Operation<()>> {
        if key.is_some_and(|key| !chain.is_for_key(key)) {
            return Err(Error::invalid_argument("the key is not the certificate's"));
        }
        let (leaf, key) = (chain.ders().first().cloned().unwrap_or_default(), key.cloned());
        Ok(self.start(TIME_LIMIT, move |session| async move {
            session.revoke(&leaf, reason as u32, key.as_ref()).await
        }))
    }

    /// Starts a flow as an operation.
    pub(crate) fn start<T, F>(
        &self,
        limit: Duration,
        flow: impl FnOnce(Session) -> F,
    ) -> Operation<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let io = self.io(limit);
        Operation::new(self.clone(), io.clone(), flow(Session { client: self.clone(), io }))
    }

    /// What an operation works with.
    fn io(&self, limit: Duration) -> Io {
        let seed = {
            let mut learned = self.learned();
            learned.seed = learned.seed.wrapping_add(1);
            learned.seed
        };
        let io = Io::new(limit, seed);
        let transcript = Transcript::begin(seed, self.account_key().thumbprint());
        if transcript.is_some() {
            io.desk().transcript = transcript;
            io.note(|| self.shown(limit));
        }
        io
    }

    /// What has to be known of it to repeat an operation.
    fn shown(&self, limit: Duration) -> Line {
        let options = self.options();
        Line::default()
            .text("begin", Some(env!("CARGO_PKG_VERSION")))
            .text("directory", Some(&options.directory_url))
            .text("account_url", self.account_url().as_deref())
            .texts("contacts", &options.contacts)
            .flag("terms_agreed", options.terms_agreed)
            .text("agreed_terms", options.agreed_terms.as_deref())
            .flag("external_account", options.external_account.is_some())
            .texts("allowed_hosts", &options.allowed_hosts)
            .flag("allow_http_loopback", options.allow_http_loopback)
            .number("time_limit_s", i64::try_from(limit.as_secs()).ok())
    }

    /// Takes over what another client has learned of the same CA.
    #[cfg(feature = "http")]
    pub(crate) fn learn_from(&self, other: &Client) {
        let directory = other.directory();
        self.learned().directory = directory;
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

    /// Has this directory asked for anew, unless there is another one by now.
    pub(super) fn replace_directory(&self, old: &Arc<Directory>) {
        let mut learned = self.learned();
        let is_known = learned.directory.as_ref().is_some_and(|known| Arc::ptr_eq(known, old));
        learned.directory_is_doubtful |= is_known;
    }

    /// Has the directory asked for anew by the next operation.
    pub(super) fn doubt_directory(&self) {
        self.learned().directory_is_doubtful = true;
    }

    pub(super) fn set_account_url(&self, url: Option<&str>) {
        self.learned().account_url = url.map(str::to_owned);
    }

    pub(super) fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// The account's key: the one that was given, or the one that it was replaced by.
    pub fn account_key(&self) -> Key {
        self.learned().account_key.clone()
    }

    /// Signs with another key from now on.
    pub(super) fn change_account_key(&self, key: Key, now: Time) {
        let mut learned = self.learned();
        (learned.account_key, learned.key_changed_at) = (key, Some(now));
    }

    /// Was the account's key changed less than this time ago, by this client?
    pub(super) fn has_changed_key_within(&self, time: Duration, now: Time) -> bool {
        // A clock that was put back since then says nothing.
        self.learned().key_changed_at.is_some_and(|at| now >= at && now.since(at) < time)
    }

    pub(super) fn policy(&self) -> &UrlPolicy {
        &self.0.policy
    }

    pub(super) fn nonces(&self) -> &NoncePool {
        &self.0.nonces
    }

    /// Sent with every request.
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

/// RFC 9110 section 12.5.4.
fn check_languages(languages: &str) -> Result<()> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"-*,;=. ".contains(&b);
    match !languages.trim().is_empty() && languages.len() <= 200 && languages.bytes().all(sound) {
        true => Ok(()),
        false => Err(Error::invalid_argument(
            "accept_language is not a list of languages like \"de, en;q=0.5\"",
        )),
    }
}

/// That of another CA is not a matter of allowed_hosts: it would tell one CA of the account at another.
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

/// A contact is a URL; a mailto has one address and no header fields (RFC 8555 section 7.3).
fn check_contact(contact: &str) -> Result<()> {
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
