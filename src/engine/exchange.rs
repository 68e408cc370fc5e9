//! One logical request: nonce, signature, sending, judging the response, trying again.
//!
//! RFC 8555 sections 6.2 to 6.7.
//!
//! Only this file repeats a request blindly: after `badNonce`, a lost response, a rate limit or a change of
//! the key. Requests that may have taken effect (`Call::repeatable` is false) are sent again by their flows,
//! after a fetch has shown whether they took effect, or with another payload:
//!
//! - `authorize.rs`: a response to a challenge,
//! - `finalize.rs`: the CSR,
//! - `new_order.rs`: newOrder, once, and again without `replaces` or an optional profile,
//! - `register.rs`: newAccount, to find an account that an earlier attempt has created,
//! - `obtain.rs`: a new order in place of one that cannot be completed,
//! - `obtain.rs` and `pre_authorize.rs`: newOrder or newAuthz, once more after the account was registered
//!   again,
//! - `certificate.rs`: a download that is not ready,
//! - `key_change.rs` and `update_account.rs`: a key change and a deactivation,
//! - `compat/flows.rs`: the same for the API of 0.14.
//!
//! `with_directory` repeats a request at the URL of a newer directory. The built-in HTTP client sends a
//! GET again when the server has closed a kept connection, and never a POST. `retry.rs` decides when to try again;
//! the numbers are in `limits.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::io::Io;
use super::limits::{
    KEY_CHANGE_TIME, MAX_FETCHES_OF_UNKNOWN_STATUS, MAX_REDIRECTS, MAX_RESPONSES_WITHOUT_NONCE,
    UNKNOWN_STATUS_DELAY,
};
use super::response::Response;
use super::retry::{Circumstances, RetryState};
use super::step::Method;
use super::stored_certificate::StoredCertificate;
use crate::error::{Error, ErrorKind, Result};
use crate::jose::jws::{self, KeyReference};
use crate::pki::Key;
use crate::problem::Problem;
use crate::resource::directory::Directory;
use crate::resource::{self, Resource};
use crate::text::printable;
use crate::time;
use crate::url::Url;

/// The client and the operation of a flow. Flows are methods of this.
#[derive(Clone)]
pub(crate) struct Session {
    pub client: Client,
    pub io: Io,
    /// The record in the store, in which the order in progress is noted.
    pub stored: Option<Arc<StoredCertificate>>,
}

/// A request: its URL, and its name in errors.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub doing: &'static str,
    pub url: &'a str,
    /// Whether it may be sent again when the response was lost. It may have taken effect already.
    pub repeatable: bool,
}

/// The signer of a request (RFC 8555 section 6.2).
#[derive(Clone, Copy)]
pub(crate) enum Identity<'a> {
    /// The account with this URL, by its key.
    Account(&'a str),
    /// A key that the CA may not know: the request contains the public key.
    Key(&'a Key),
}

/// A resource, and the header fields about it.
pub(crate) struct Fetched<T> {
    pub value: T,
    pub location: Option<String>,
    pub retry_after: Option<Duration>,
}

impl Session {
    /// The directory; fetched once per client.
    pub(crate) async fn directory(&self) -> Result<Arc<Directory>> {
        if let Some(directory) = self.client.directory() {
            return Ok(directory);
        }
        // Boxed because it is rare: otherwise every request of a flow would reserve memory for it.
        Box::pin(self.fetch_directory()).await
    }

    async fn fetch_directory(&self) -> Result<Arc<Directory>> {
        let _turn = self.io.directory_turn().await?;
        if let Some(directory) = self.client.directory() {
            return Ok(directory);
        }
        self.io.set_state("directory");
        let url = self.client.policy().directory().clone();
        let call = Call { doing: "fetching the directory", url: url.as_str(), repeatable: true };
        let fetched = async {
            let response = self.get(&call, url.clone()).await?;
            resource::parse::<Directory>("a directory", &response.body)?.check()
        };
        let directory =
            Arc::new(fetched.await.map_err(|e| e.doing(call.doing).at(call.url).unsent())?);
        if let (Some(now), Some(earlier)) =
            (directory.terms_of_service(), &self.client.options().agreed_terms_url)
        {
            if now != earlier {
                let (now, earlier) = (printable(now, 500), printable(earlier, 500));
                log::warn!("the CA's terms of service are {now} now, no longer {earlier}");
            }
        }
        self.client.set_directory(directory.clone());
        self.io.effects().knows_directory = true;
        Ok(directory)
    }

    /// Sends a request to a URL of the directory. A CA that has moved the URL responds with 404 or 410:
    /// a directory from before this operation is then fetched again, and if it has changed, the
    /// request goes to its new URL.
    pub(super) async fn with_directory<T, F>(
        &self,
        request: impl Fn(Arc<Directory>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let known = self.directory().await?;
        match request(known.clone()).await {
            Err(error) if matches!(error.http_status(), Some(404 | 410)) => {
                if !self.io.effects().knows_directory {
                    self.client.replace_directory(&known);
                }
                match self.directory().await {
                    Ok(directory) if directory != known => {
                        log::warn!("{error}; the directory is another one by now");
                        request(directory).await
                    }
                    Ok(_) => Err(error),
                    Err(failed) => Err(failed.after(&error)),
                }
            }
            outcome => outcome,
        }
    }

    /// Fetches a resource by POST-as-GET (RFC 8555 section 6.3). A resource with an unknown status is
    /// fetched again: a status of the CA's own may pass.
    pub(crate) async fn fetch<T: Resource>(
        &self,
        doing: &'static str,
        url: &str,
        account: &str,
        what: &str,
    ) -> Result<Fetched<T>> {
        let call = Call { doing, url, repeatable: true };
        for _ in 0..MAX_FETCHES_OF_UNKNOWN_STATUS {
            let fetched: Fetched<T> =
                self.submit(&call, Identity::Account(account), b"", what).await?;
            if fetched.value.has_known_status() {
                return Ok(fetched);
            }
            self.io.sleep(UNKNOWN_STATUS_DELAY).await.map_err(|e| e.doing(doing).at(url))?;
        }
        let why = format!("{what} without a status of RFC 8555");
        Err(Error::protocol(why).doing(doing).at(url))
    }

    /// POSTs a payload and reads a resource from the response.
    pub(crate) async fn submit<T: Resource>(
        &self,
        call: &Call<'_>,
        identity: Identity<'_>,
        payload: &[u8],
        what: &str,
    ) -> Result<Fetched<T>> {
        let response = self.post(call, identity, payload).await?;
        self.read(call, what, &response)
    }

    /// Sends one logical signed request.
    pub(crate) async fn post(
        &self,
        call: &Call<'_>,
        identity: Identity<'_>,
        payload: &[u8],
    ) -> Result<Response> {
        let in_context = |e: Error| e.doing(call.doing).at(call.url);
        let url = self.client.policy().check(call.url).map_err(in_context)?;
        let mut retry = RetryState::default();
        loop {
            let nonce = self.nonce().await.map_err(|e| in_context(e).unsent())?;
            let (key, reference) = match identity {
                Identity::Account(url) => (self.client.account_key(), KeyReference::Kid(url)),
                Identity::Key(key) => (key.clone(), KeyReference::Jwk),
            };
            let jws = jws::Unsigned::request(&key, reference, call.url, &nonce, payload);
            let jws = jws.map_err(in_context)?;
            let signature = self.sign(&key, jws.input()).await.map_err(in_context)?;
            let body = jws.signed(&signature);
            let mut headers = self.client.headers();
            headers.push(("Content-Type", "application/jose+json".to_owned()));
            self.client.count_request();
            let sent = self.io.send(Method::Post, url.clone(), headers, body).await;
            let sent = sent.inspect(|response| self.keep_nonce(response));
            let error = match sent.and_then(|response| self.judge(call.url, response)) {
                Ok(response) => return Ok(response),
                Err(error) => in_context(error),
            };
            if error.is_lost() && !call.repeatable {
                return Err(error);
            }
            self.delay_or_fail(&mut retry, error).await?;
        }
    }

    /// Signs in JOSE's form: by OpenSSL, or by the host when the key is outside the process.
    pub(super) async fn sign(&self, key: &Key, input: &[u8]) -> Result<Vec<u8>> {
        match key.is_external() {
            true => key.accept(input, &self.io.sign(key, input).await?),
            false => key.sign(input),
        }
    }

    /// Sends one logical GET. Redirects are followed if the URL policy allows their targets.
    pub(super) async fn get(&self, call: &Call<'_>, mut url: Url) -> Result<Response> {
        let (mut retry, mut redirects) = (RetryState::default(), 0);
        loop {
            self.client.count_request();
            let sent =
                self.io.send(Method::Get, url.clone(), self.client.headers(), Vec::new()).await;
            let error = match sent {
                Ok(response) if (300..400).contains(&response.status) => {
                    redirects += 1;
                    url = self.redirect(&url, &response, redirects)?;
                    continue;
                }
                sent => match sent.and_then(|response| self.judge(url.as_str(), response)) {
                    Ok(response) => return Ok(response),
                    Err(error) => error.doing(call.doing).at(call.url),
                },
            };
            self.delay_or_fail(&mut retry, error).await?;
        }
    }

    fn redirect(&self, from: &Url, response: &Response, count: usize) -> Result<Url> {
        let refuse = |why: String| Error::new(ErrorKind::Policy, why);
        if count > MAX_REDIRECTS {
            return Err(refuse(format!("more than {MAX_REDIRECTS} redirects")));
        }
        let location = response
            .headers
            .last("location")
            .ok_or_else(|| refuse(format!("HTTP status {} without a Location", response.status)))?;
        self.client.policy().check(&from.join(location))
    }

    /// Returns an unused nonce: from the pool, or from newNonce (by GET, so that a host's HTTP client
    /// needs no HEAD; RFC 8555 section 7.2). While other requests are in flight, a response may bring a
    /// nonce. So the GET is a spare request, issued only if the host has nothing else to send.
    async fn nonce(&self) -> Result<String> {
        match self.client.nonces().take(self.io.now()) {
            Some(nonce) => Ok(nonce),
            None => self.with_directory(|directory| self.new_nonce(directory)).await,
        }
    }

    async fn new_nonce(&self, directory: Arc<Directory>) -> Result<String> {
        let pool = self.client.nonces();
        let url = self.client.policy().check(directory.new_nonce()?)?;
        let (mut retry, mut nonceless) = (RetryState::default(), 0);
        loop {
            let spare =
                self.io.send_spare(url.clone(), self.client.headers(), |now| pool.take(now)).await;
            let judged = match spare {
                Ok(Err(nonce)) => return Ok(nonce),
                Ok(Ok(response)) => {
                    self.client.count_request();
                    self.judge(url.as_str(), response)
                }
                Err(error) => Err(error),
            };
            let in_context = |e: Error| e.doing("fetching a nonce").at(url.as_str());
            match judged.map(|response| response.headers.nonce().map(str::to_owned)) {
                Err(error) => {
                    let error = in_context(error);
                    let delay = self.delay(&mut retry, &error)?;
                    // The operation's other requests fetch no nonce in this time either.
                    let until = self.io.now().after(delay);
                    self.io.effects().delay_spares_until(until);
                    self.io.sleep(delay).await.map_err(|ended| ended.after(&error))?;
                }
                Ok(Some(nonce)) => return Ok(nonce),
                Ok(None) => {
                    nonceless += 1;
                    if nonceless == MAX_RESPONSES_WITHOUT_NONCE {
                        return Err(in_context(Error::protocol(
                            "the responses have no usable nonce",
                        )));
                    }
                }
            }
        }
    }

    /// Keeps the nonce of a response, also of an error response (RFC 8555 section 6.5).
    fn keep_nonce(&self, response: &Response) {
        if let Some(nonce) = response.headers.nonce() {
            self.client.nonces().put(nonce, self.io.now());
            self.io.request_repoll();
        }
    }

    /// Returns a successful response, and makes an error of any other.
    fn judge(&self, url: &str, response: Response) -> Result<Response> {
        debug!("{url}: HTTP status {}", response.status);
        let status = response.status;
        if (200..300).contains(&status) {
            // A problem document is an error also with a success status: nothing else has such a type.
            return match Problem::in_success(&response.body) {
                Some(problem) => Err(Error::refused(problem, status)),
                None => Ok(response),
            };
        }
        if (300..400).contains(&status) {
            let why = format!("HTTP status {status}: a signed request is not sent elsewhere");
            return Err(Error::new(ErrorKind::Policy, why).with_http_status(status));
        }
        let retry_after = self.retry_after(&response);
        let mut error = match Problem::parse(&response.body) {
            Some(problem) => Error::refused(problem, status),
            None => {
                let text = printable(&String::from_utf8_lossy(&response.body), 80);
                let kind = if status >= 500 { ErrorKind::Server } else { ErrorKind::Problem };
                Error::new(kind, format!("HTTP status {status}: {text:?}")).with_http_status(status)
            }
        };
        if status == 429 || status == 503 && retry_after.is_some() {
            error = error.with_kind(ErrorKind::RateLimited);
        }
        // The response for a deactivated account (RFC 8555 section 7.3.6).
        if status == 401 && error.is_problem("unauthorized") {
            error = error.with_kind(ErrorKind::Account);
        }
        // A conflict of keys: Location names the account (RFC 8555 section 7.3.5).
        if let Some(url) = response.headers.last("location").filter(|_| status == 409) {
            error = error.noting(&format!("it belongs to {}", printable(url, 500)));
        }
        if let Some(help) = response.headers.links("help", 1).first() {
            error = error.with_help(help);
        }
        Err(error.with_retry_at(retry_after.map(|delay| self.io.now().after(delay))))
    }

    async fn delay_or_fail(&self, retry: &mut RetryState, error: Error) -> Result<()> {
        let delay = self.delay(retry, &error)?;
        self.io.sleep(delay).await.map_err(|ended| ended.after(&error))
    }

    /// Returns the delay until the next try. Fails with the error when there is no next try.
    fn delay(&self, retry: &mut RetryState, error: &Error) -> Result<Duration> {
        let now = self.io.now();
        let (has_order, has_new_key) =
            (self.io.is_patient(), self.client.has_changed_key_within(KEY_CHANGE_TIME, now));
        let circumstances = Circumstances { has_order, has_new_key };
        let delay = retry.after(error, now, circumstances, |bound| self.io.random(bound));
        if let Some(delay) = delay {
            self.io.effects().delay_retries_until(now.after(delay));
        }
        match delay {
            Some(delay) => {
                debug!("trying again in {} ms: {error}", delay.as_millis());
                Ok(delay)
            }
            None => {
                debug!("giving up: {error}");
                Err(error.clone())
            }
        }
    }

    /// Reads a resource. If the response has a Location, the request has made something or belongs to it, even
    /// if the body cannot be read: then it counts as an object without members.
    fn read<T: Resource>(
        &self,
        call: &Call<'_>,
        what: &str,
        response: &Response,
    ) -> Result<Fetched<T>> {
        let location = response.headers.last("location");
        let body = match &response.body {
            body if location.is_some() && !resource::is_object(body) => b"{}",
            body => body.as_slice(),
        };
        let value = resource::parse(what, body);
        Ok(Fetched {
            value: value.map_err(|e| e.doing(call.doing).at(call.url))?,
            location: location.map(str::to_owned),
            retry_after: self.retry_after(response),
        })
    }

    pub(super) fn retry_after(&self, response: &Response) -> Option<Duration> {
        let value = response.headers.last("retry-after")?;
        time::retry_after(value, response.headers.last("date"), self.io.now())
    }
}

impl<T> Fetched<T> {
    /// Returns the URL of the resource that a POST created; "the server MUST return its URL in the Location header"
    /// (RFC 8555 sections 7.3 and 7.4).
    pub(crate) fn created_at(&self, session: &Session, call: &Call<'_>) -> Result<String> {
        let in_context = |e: Error| e.doing(call.doing).at(call.url);
        let location = self.location.as_deref();
        let location =
            location.ok_or_else(|| in_context(Error::protocol("the response has no Location")))?;
        session.client.policy().check(location).map_err(in_context)?;
        Ok(location.to_owned())
    }
}
