//! One logical request: with a nonce, signed, sent, tried again where that is right. All retry logic
//! of the library is here.
//!
//! RFC 8555 sections 6.2 to 6.7.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Response;
use super::backoff::{Circumstances, KEY_CHANGE_DELAY, Tries};
use super::client::Client;
use super::io::Io;
use super::operation::Method;
use crate::error::{Error, ErrorKind, Result};
use crate::jose::jws::{self, KeyReference};
use crate::pki::Key;
use crate::problem::Problem;
use crate::resource::directory::Directory;
use crate::resource::{self, Resource};
use crate::text::printable;
use crate::time;
use crate::url::Url;

/// Redirects followed, for GET only: a signed request names its URL.
const MAX_REDIRECTS: usize = 3;
/// Answers of newNonce without a usable nonce, after which there is no hope.
const MAX_NONCELESS: usize = 3;
/// Looks at a resource whose state is none of RFC 8555, and the time between them.
const MAX_STATELESS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a flow works with: a client, and the desk to its operation's host.
#[derive(Clone)]
pub(crate) struct Session {
    pub client: Client,
    pub io: Io,
}

/// What is asked, and how to speak of it when it fails.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub doing: &'static str,
    pub url: &'a str,
    /// May it be sent again when the answer was lost, so that it may have taken effect already?
    pub repeatable: bool,
}

/// Who signs a request (RFC 8555 section 6.2).
#[derive(Clone, Copy)]
pub(crate) enum Identity<'a> {
    /// The account with this URL, by its key.
    Account(&'a str),
    /// A key that the CA need not know: it is sent along.
    Key(&'a Key),
}

/// A resource as it came, with what the header said about it.
pub(crate) struct Answered<T> {
    pub value: T,
    pub location: Option<String>,
    pub retry_after: Option<Duration>,
}

impl Session {
    /// The directory; asked for once a client.
    pub(crate) async fn directory(&self) -> Result<Arc<Directory>> {
        if let Some(directory) = self.client.directory() {
            return Ok(directory);
        }
        // Boxed: it is rare, and each request of a flow would have room for it.
        Box::pin(self.ask_directory()).await
    }

    async fn ask_directory(&self) -> Result<Arc<Directory>> {
        let _turn = self.io.directory_turn().await?;
        if let Some(directory) = self.client.directory() {
            return Ok(directory);
        }
        self.io.enter("directory");
        let url = self.client.policy().directory().clone();
        let call = Call { doing: "fetching the directory", url: url.as_str(), repeatable: true };
        let fetched = async {
            let response = self.get(&call, url.clone()).await?;
            resource::parse::<Directory>("a directory", &response.body)?.check()
        };
        let directory =
            Arc::new(fetched.await.map_err(|e| e.doing(call.doing).at(call.url).unsent())?);
        if let (Some(now), Some(earlier)) =
            (directory.terms_of_service(), &self.client.options().agreed_terms)
        {
            if now != earlier {
                let (now, earlier) = (printable(now, 500), printable(earlier, 500));
                log::warn!("the CA's terms of service are {now} now, no longer {earlier}");
            }
        }
        self.client.set_directory(directory.clone());
        self.io.desk().knows_directory = true;
        Ok(directory)
    }

    /// Asks at a URL of the directory. A CA that has moved it answers 404 or 410 there: a directory
    /// from before this operation is then fetched anew, and if it is another one it is asked there.
    pub(super) async fn by_directory<T, F>(&self, ask: impl Fn(Arc<Directory>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let known = self.directory().await?;
        match ask(known.clone()).await {
            Err(error) if matches!(error.http_status(), Some(404 | 410)) => {
                if !self.io.desk().knows_directory {
                    self.client.replace_directory(&known);
                }
                match self.directory().await {
                    Ok(directory) if directory != known => {
                        log::warn!("{error}; the directory is another one by now");
                        ask(directory).await
                    }
                    Ok(_) => Err(error),
                    Err(failed) => Err(failed.after(&error)),
                }
            }
            outcome => outcome,
        }
    }

    /// POST-as-GET: fetches a resource (RFC 8555 section 6.3), in a state that we know: one of the
    /// CA's own may pass.
    pub(crate) async fn fetch<T: Resource>(
        &self,
        doing: &'static str,
        url: &str,
        account: &str,
        what: &str,
    ) -> Result<Answered<T>> {
        let call = Call { doing, url, repeatable: true };
        for _ in 0..MAX_STATELESS {
            let answer: Answered<T> =
                self.submit(&call, Identity::Account(account), b"", what).await?;
            if answer.value.has_known_status() {
                return Ok(answer);
            }
            self.io.sleep(LOOK_AGAIN).await.map_err(|e| e.doing(doing).at(url))?;
        }
        let why = format!("{what} without a status of RFC 8555");
        Err(Error::protocol(why).doing(doing).at(url))
    }

    /// POSTs a payload and reads a resource from the answer.
    pub(crate) async fn submit<T: Resource>(
        &self,
        call: &Call<'_>,
        identity: Identity<'_>,
        payload: &[u8],
        what: &str,
    ) -> Result<Answered<T>> {
        let response = self.post(call, identity, payload).await?;
        self.read(call, what, &response)
    }

    /// One logical signed request.
    pub(crate) async fn post(
        &self,
        call: &Call<'_>,
        identity: Identity<'_>,
        payload: &[u8],
    ) -> Result<Response> {
        let place = |e: Error| e.doing(call.doing).at(call.url);
        let url = self.client.policy().check(call.url).map_err(place)?;
        let mut tries = Tries::default();
        loop {
            let nonce = self.nonce().await.map_err(|e| place(e).unsent())?;
            let (key, reference) = match identity {
                Identity::Account(url) => (self.client.account_key(), KeyReference::Kid(url)),
                Identity::Key(key) => (key.clone(), KeyReference::Jwk),
            };
            let jws = jws::Unsigned::request(&key, reference, call.url, &nonce, payload);
            let jws = jws.map_err(place)?;
            let signature = self.sign(&key, jws.input()).await.map_err(place)?;
            let body = jws.signed(&signature).map_err(place)?;
            let mut headers = self.client.headers();
            headers.push(("Content-Type", "application/jose+json".to_owned()));
            let sent = self.io.send(Method::Post, url.clone(), headers, body).await;
            let sent = sent.inspect(|response| self.keep_nonce(response));
            let error = match sent.and_then(|response| self.judge(call.url, response)) {
                Ok(response) => return Ok(response),
                Err(error) => place(error),
            };
            if error.is_lost() && !call.repeatable {
                return Err(error);
            }
            self.delay_or_fail(&mut tries, error).await?;
        }
    }

    /// A signature in JOSE's form: by OpenSSL, or by the host when the key is outside the process.
    pub(super) async fn sign(&self, key: &Key, input: &[u8]) -> Result<Vec<u8>> {
        match key.is_external() {
            true => key.accept(input, &self.io.sign(key, input).await?),
            false => key.sign(input),
        }
    }

    /// One logical GET; redirects are followed where the URL policy lets them lead.
    pub(super) async fn get(&self, call: &Call<'_>, mut url: Url) -> Result<Response> {
        let (mut tries, mut redirects) = (Tries::default(), 0);
        loop {
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
            self.delay_or_fail(&mut tries, error).await?;
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

    /// A nonce that nobody has used: from the pool, or from newNonce (by GET: a host's HTTP client
    /// then needs no HEAD; RFC 8555 section 7.2). While other requests are under way, one of their
    /// answers may bring it: the GET goes out only if the host has nothing else to send.
    async fn nonce(&self) -> Result<String> {
        match self.client.nonces().take(self.io.now()) {
            Some(nonce) => Ok(nonce),
            None => self.by_directory(|directory| self.new_nonce(directory)).await,
        }
    }

    async fn new_nonce(&self, directory: Arc<Directory>) -> Result<String> {
        let pool = self.client.nonces();
        let url = self.client.policy().check(directory.new_nonce()?)?;
        let (mut tries, mut nonceless) = (Tries::default(), 0);
        loop {
            let spare =
                self.io.send_spare(url.clone(), self.client.headers(), |now| pool.take(now)).await;
            let judged = match spare {
                Ok(Err(nonce)) => return Ok(nonce),
                Ok(Ok(response)) => self.judge(url.as_str(), response),
                Err(error) => Err(error),
            };
            let place = |e: Error| e.doing("fetching a nonce").at(url.as_str());
            match judged.map(|response| response.headers.nonce().map(str::to_owned)) {
                Err(error) => {
                    let error = place(error);
                    let delay = self.delay(&mut tries, &error)?;
                    // The operation's other requests do not ask for one meanwhile either.
                    let until = self.io.now().after(delay);
                    self.io.desk().delay_spares_until(until);
                    self.io.sleep(delay).await.map_err(|ended| ended.after(&error))?;
                }
                Ok(Some(nonce)) => return Ok(nonce),
                Ok(None) => {
                    nonceless += 1;
                    if nonceless == MAX_NONCELESS {
                        return Err(place(Error::protocol("the answers have no usable nonce")));
                    }
                }
            }
        }
    }

    /// Keeps the nonce of an answer; those of refusals count, too (RFC 8555 section 6.5).
    fn keep_nonce(&self, response: &Response) {
        if let Some(nonce) = response.headers.nonce() {
            self.client.nonces().put(nonce, self.io.now());
            self.io.unsettle();
        }
    }

    /// Tells success from failure.
    fn judge(&self, url: &str, response: Response) -> Result<Response> {
        debug!("{url}: HTTP status {}", response.status);
        let status = response.status;
        if (200..300).contains(&status) {
            // Under whatever status: nothing else has such a type.
            let problem = Problem::parse(&response.body).filter(|p| p.name().is_some());
            return match problem {
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
                let shown = printable(&String::from_utf8_lossy(&response.body), 80);
                let kind = if status >= 500 { ErrorKind::Server } else { ErrorKind::Problem };
                Error::new(kind, format!("HTTP status {status}: {shown:?}"))
                    .with_http_status(status)
            }
        };
        if status == 429 || status == 503 && retry_after.is_some() {
            error = error.with_kind(ErrorKind::RateLimited);
        }
        // So a deactivated account is answered (RFC 8555 section 7.3.6).
        if status == 401 && error.is_problem("unauthorized") {
            error = error.with_kind(ErrorKind::Account);
        }
        // RFC 8555 section 7.3.5.
        if let Some(url) = response.headers.last("location").filter(|_| status == 409) {
            error = error.noting(&format!("it belongs to {}", printable(url, 500)));
        }
        if let Some(help) = response.headers.links("help", 1).first() {
            error = error.with_help(help);
        }
        Err(error.with_retry_at(retry_after.map(|delay| self.io.now().after(delay))))
    }

    async fn delay_or_fail(&self, tries: &mut Tries, error: Error) -> Result<()> {
        let delay = self.delay(tries, &error)?;
        self.io.sleep(delay).await.map_err(|ended| ended.after(&error))
    }

    /// The delay until the next try; fails when there is to be none.
    fn delay(&self, tries: &mut Tries, error: &Error) -> Result<Duration> {
        let now = self.io.now();
        let (has_order, has_new_key) =
            (self.io.is_patient(), self.client.has_changed_key_within(KEY_CHANGE_DELAY, now));
        let circumstances = Circumstances { has_order, has_new_key };
        let delay = tries.after(error, now, circumstances, |bound| self.io.random(bound));
        if let Some(delay) = delay {
            self.io.desk().delay_retries_until(now.after(delay));
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

    fn read<T: Resource>(
        &self,
        call: &Call<'_>,
        what: &str,
        response: &Response,
    ) -> Result<Answered<T>> {
        let value = resource::parse(what, &response.body);
        Ok(Answered {
            value: value.map_err(|e| e.doing(call.doing).at(call.url))?,
            location: response.headers.last("location").map(str::to_owned),
            retry_after: self.retry_after(response),
        })
    }

    pub(super) fn retry_after(&self, response: &Response) -> Option<Duration> {
        let value = response.headers.last("retry-after")?;
        time::retry_after(value, response.headers.last("date"), self.io.now())
    }
}

impl<T> Answered<T> {
    /// The URL of what a POST made; "the server MUST return its URL in the Location header"
    /// (RFC 8555 sections 7.3 and 7.4).
    pub(crate) fn created_at(&self, session: &Session, call: &Call<'_>) -> Result<String> {
        let place = |e: Error| e.doing(call.doing).at(call.url);
        let location = self.location.as_deref();
        let location =
            location.ok_or_else(|| place(Error::protocol("the answer has no Location")))?;
        session.client.policy().check(location).map_err(place)?;
        Ok(location.to_owned())
    }
}
