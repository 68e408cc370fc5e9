//! Beginning operations: one method of [`Client`] for each flow.

use std::time::Duration;

use super::client::{Client, check_contact};
use super::exchange::Session;
use super::io::Io;
use super::keep::{KeepOptions, Kept, Tried};
use super::limits::DEFAULT_TIMEOUT;
use super::obtain::{Issued, Renewal};
use super::operation::Operation;
use super::order_options::OrderOptions;
use super::pre_authorize::AuthorizeOptions;
use super::register::Registered;
use super::renewal_info::RenewalInfo;
use super::revoke::RevocationReason;
use super::transcript::{Line, Transcript};
use crate::error::{Error, Result};
use crate::pki::{CertificateChain, Key};

impl Client {
    /// Registers the account, or finds it when the CA knows the key (RFC 8555 section 7.3).
    pub fn register(&self) -> Operation<Registered> {
        self.start(DEFAULT_TIMEOUT, |session| async move { session.register().await })
            .record_start("register", None)
    }

    /// Finds the account of the key, and creates none (RFC 8555 section 7.3.1). For a key that the CA
    /// does not know the error is [`ErrorKind::Account`](crate::ErrorKind::Account).
    pub fn find_account(&self) -> Operation<Registered> {
        self.start(DEFAULT_TIMEOUT, |session| async move { session.find_account().await })
            .record_start("find_account", None)
    }

    /// Replaces the account's contacts (RFC 8555 section 7.3.2); an empty list removes them.
    pub fn update_contacts(&self, contacts: Vec<String>) -> Result<Operation<()>> {
        contacts.iter().try_for_each(|contact| check_contact(contact))?;
        Ok(self.start(DEFAULT_TIMEOUT, |session| async move {
            session.update_contacts(&contacts).await
        }))
    }

    /// Replaces the account's key (RFC 8555 section 7.3.5). Store the new key before, and delete the
    /// old one after. If the program ends in between, run the operation again with the old key.
    pub fn change_key(&self, new: &Key) -> Operation<()> {
        let new = new.clone();
        self.start(DEFAULT_TIMEOUT, |session| async move { session.change_key(&new).await })
    }

    /// Deactivates the account permanently (RFC 8555 section 7.3.6).
    pub fn deactivate_account(&self) -> Operation<()> {
        self.start(DEFAULT_TIMEOUT, |session| async move { session.deactivate_account().await })
    }

    /// Fetches from the CA when to renew (RFC 9773). Without this information, the certificate's
    /// lifetime decides.
    pub fn renewal_info(&self, chain: &CertificateChain) -> Operation<RenewalInfo> {
        let chain = chain.clone();
        self.start(DEFAULT_TIMEOUT, |session| async move { session.renewal_info(&chain).await })
    }

    /// Renews [`OrderOptions::replaces`] if its renewal is due, by the CA's renewal information or by
    /// the certificate's lifetime.
    pub fn renew(&self, options: OrderOptions) -> Result<Operation<Renewal>> {
        if options.replaces.is_none() {
            return Err(Error::invalid_argument("there is no certificate to renew (replaces)"));
        }
        let timeout = options.timeout;
        let line = Transcript::is_wanted().then(|| options.to_transcript());
        let plan = options.plan(self)?;
        let operation = self.start(timeout, |session| async move { session.renew(plan).await });
        Ok(operation.record_start("renew", line))
    }

    /// Obtains a certificate (RFC 8555 section 7.1): account if needed, order, challenges,
    /// finalize, download. Options that cannot work are refused here, before anything is sent.
    pub fn obtain(&self, options: OrderOptions) -> Result<Operation<Issued>> {
        let timeout = options.timeout;
        let line = Transcript::is_wanted().then(|| options.to_transcript());
        let plan = options.plan(self)?;
        let operation = self.start(timeout, |session| async move { session.obtain(plan).await });
        Ok(operation.record_start("obtain", line))
    }

    /// Returns the certificate in the client's store if its renewal is not due; otherwise obtains one and stores
    /// it. After a crash, the next such operation goes on with the same order.
    pub fn keep(&self, options: KeepOptions) -> Result<Operation<Kept>> {
        let (store, name) = options.check(self)?;
        let timeout = options.order.timeout;
        let line = Transcript::is_wanted().then(|| options.order.to_transcript());
        let operation =
            self.start(timeout, |session| async move { session.keep(store, name, options).await });
        Ok(operation.record_start("keep", line))
    }

    /// The same for a manager: also stores when to renew the certificate or to try again.
    pub(crate) fn keep_tried(&self, options: KeepOptions) -> Result<Operation<Tried>> {
        let (store, name) = options.check(self)?;
        let timeout = options.order.timeout;
        Ok(self.start(
            timeout,
            |session| async move { session.keep_tried(store, name, options).await },
        ))
    }

    /// Obtains authorizations before an order, if the CA supports that (RFC 8555 section 7.4.1). The
    /// result is their URLs.
    pub fn authorize(&self, options: AuthorizeOptions) -> Result<Operation<Vec<String>>> {
        let (timeout, subdomains) = (options.timeout, options.subdomains);
        let identifiers = options.plan()?;
        Ok(self.start(timeout, move |session| async move {
            session.pre_authorize(identifiers, subdomains).await
        }))
    }

    /// Deactivates an authorization permanently (RFC 8555 section 7.5.2).
    pub fn deactivate_authorization(&self, url: &str) -> Result<Operation<()>> {
        let url = self.argument_url("authorization_url", url)?;
        Ok(self.start(DEFAULT_TIMEOUT, |session| async move {
            session.deactivate_authorization(&url).await
        }))
    }

    /// Deactivates the pending authorizations of an order that will not be resumed: CAs limit how
    /// many an account may leave pending.
    pub fn abandon_order(&self, url: &str) -> Result<Operation<()>> {
        let url = self.argument_url("order_url", url)?;
        Ok(self.start(DEFAULT_TIMEOUT, |session| async move { session.abandon_order(&url).await }))
    }

    /// Lists the URLs of the account's orders, if the CA supports that (RFC 8555 section 7.1.2.1).
    pub fn orders(&self) -> Operation<Vec<String>> {
        self.start(DEFAULT_TIMEOUT, |session| async move { session.orders().await })
    }

    /// Revokes a certificate (RFC 8555 section 7.6). The account that ordered it signs the request, or
    /// `key`, which is then the certificate's key.
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
        Ok(self.start(DEFAULT_TIMEOUT, move |session| async move {
            session.revoke(&leaf, reason as u32, key.as_ref()).await
        }))
    }

    /// Starts a flow as an operation.
    pub(crate) fn start<T, F>(
        &self,
        timeout: Duration,
        flow: impl FnOnce(Session) -> F,
    ) -> Operation<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let io = self.io(timeout);
        let session = Session { client: self.clone(), io: io.clone(), stored: None };
        Operation::new(self.clone(), io, flow(session))
    }

    /// Makes the `Io` of an operation.
    fn io(&self, timeout: Duration) -> Io {
        let seed = self.next_seed();
        let io = Io::new(timeout, seed);
        let transcript = Transcript::begin(seed, self.account_key().thumbprint());
        if transcript.is_some() {
            io.effects().transcript = transcript;
            io.note(|| self.to_transcript(timeout));
        }
        io
    }

    /// The first line of a transcript: everything about the client that is needed to repeat the run.
    fn to_transcript(&self, timeout: Duration) -> Line {
        let options = self.options();
        Line::default()
            .text("begin", Some(env!("CARGO_PKG_VERSION")))
            .text("directory", Some(&options.directory_url))
            .text("account_url", self.account_url().as_deref())
            .texts("contacts", &options.contacts)
            .flag("terms_agreed", options.terms_agreed)
            .text("agreed_terms_url", options.agreed_terms_url.as_deref())
            .flag("external_account", options.external_account.is_some())
            .texts("allowed_hosts", &options.allowed_hosts)
            .flag("allow_http_loopback", options.allow_http_loopback)
            .number("timeout_s", i64::try_from(timeout.as_secs()).ok())
    }
}
