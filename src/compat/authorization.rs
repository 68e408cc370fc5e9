//! An authorization, and the challenges that prove control. RFC 8555 sections 7.1.4, 7.5 and 8.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::api::{ApiAuth, ApiChallenge};
use super::runner::Runner;
use crate::engine::{self, ChallengeType};
use crate::error::Error as AcmeError;
use crate::error::ErrorKind;
use crate::resource;
use crate::resource::authorization::Authorization;

/// A challenge by a file on a web server.
#[doc(hidden)]
pub struct Http;

/// A challenge by a DNS record.
#[doc(hidden)]
pub struct Dns;

/// A challenge by a TLS handshake.
#[doc(hidden)]
pub struct TlsAlpn;

/// The authorization of one name.
pub struct Auth {
    runner: Runner,
    url: String,
    api: ApiAuth,
    authorization: Authorization,
}

impl Auth {
    pub(super) fn new(runner: Runner, url: String, authorization: &Authorization) -> Auth {
        let api = ApiAuth::from(authorization);
        Auth { runner, url, api, authorization: authorization.clone() }
    }

    /// The name, without the `*.` of a wildcard.
    pub fn domain_name(&self) -> &str {
        &self.api.identifier.value
    }

    /// Whether the CA still needs a challenge for the name.
    pub fn need_challenge(&self) -> bool {
        !self.api.is_status_valid()
    }

    /// The http-01 challenge, if the CA offers one.
    pub fn http_challenge(&self) -> Option<Challenge<Http>> {
        self.challenge(ChallengeType::Http01)
    }

    /// The dns-01 challenge, if the CA offers one.
    pub fn dns_challenge(&self) -> Option<Challenge<Dns>> {
        self.challenge(ChallengeType::Dns01)
    }

    /// The tls-alpn-01 challenge, if the CA offers one.
    pub fn tls_alpn_challenge(&self) -> Option<Challenge<TlsAlpn>> {
        self.challenge(ChallengeType::TlsAlpn01)
    }

    fn challenge<A>(&self, kind: ChallengeType) -> Option<Challenge<A>> {
        let mut offered = self.authorization.challenges.iter();
        let found = offered.find(|challenge| challenge.type_ == kind.as_str())?;
        Some(Challenge {
            runner: self.runner.clone(),
            authorization_url: self.url.clone(),
            domain: self.domain_name().to_owned(),
            kind,
            api: ApiChallenge::from(found),
            challenge: found.clone(),
            _type: PhantomData,
        })
    }

    /// The authorization object of the CA.
    pub fn api_auth(&self) -> &ApiAuth {
        &self.api
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("url", &self.url).field("api", &self.api).finish()
    }
}

/// A challenge. Publish its proof, then call [`Challenge::validate`].
pub struct Challenge<A> {
    runner: Runner,
    authorization_url: String,
    domain: String,
    kind: ChallengeType,
    api: ApiChallenge,
    challenge: resource::challenge::Challenge,
    _type: PhantomData<A>,
}

impl Challenge<Http> {
    /// The token: the path to serve is `/.well-known/acme-challenge/` and this. A CA may send a
    /// token that is not base64url: [`Challenge::http_proof`] fails then, so call that first.
    pub fn http_token(&self) -> &str {
        self.challenge.checked_token().unwrap_or_default()
    }

    /// The key authorization: the exact body to serve at that path.
    pub fn http_proof(&self) -> anyhow::Result<String> {
        Ok(self.proof()?.key_authorization().to_owned())
    }
}

impl Challenge<Dns> {
    /// The content of a TXT record at `_acme-challenge.` and the name.
    pub fn dns_proof(&self) -> anyhow::Result<String> {
        Ok(self.proof()?.dns_value().unwrap_or_default().to_owned())
    }
}

impl Challenge<TlsAlpn> {
    /// The digest for the acmeIdentifier extension; see
    /// [`tls_alpn_certificate`](crate::tls_alpn_certificate).
    pub fn tls_alpn_proof(&self) -> anyhow::Result<[u8; 32]> {
        Ok(self.proof()?.digest())
    }
}

impl<A> Challenge<A> {
    /// Whether the challenge is pending.
    pub fn need_validate(&self) -> bool {
        self.api.is_status_pending()
    }

    /// Responds to the challenge, and polls every `delay`, or with the delay of the CA's Retry-After,
    /// until the CA has validated it; for 600 seconds at most.
    pub fn validate(&self, delay: Duration) -> anyhow::Result<()> {
        let (challenge, authorization) = (self.api.url.clone(), self.authorization_url.clone());
        let validated = self.runner.run(move |session| async move {
            session.validate(&challenge, &authorization, delay).await
        });
        validated.map_err(failure)
    }

    /// The challenge object of the CA.
    pub fn api_challenge(&self) -> &ApiChallenge {
        &self.api
    }

    fn proof(&self) -> Result<engine::Challenge, AcmeError> {
        let key = self.runner.client().account_key();
        let token = self.challenge.checked_token()?;
        Ok(engine::Challenge::new(self.kind, &self.domain, token, key.thumbprint()))
    }
}

/// A failed challenge in the words of 0.14, with the whole error inside.
fn failure(error: anyhow::Error) -> anyhow::Error {
    let why = match error.downcast_ref::<AcmeError>() {
        Some(failed) if failed.kind() == ErrorKind::Challenge => match failed.problem() {
            Some(problem) => format!("Failed: {}", problem.detail().unwrap_or(problem.type_urn())),
            None => "Validation failed and no error found".to_owned(),
        },
        _ => return error,
    };
    error.context(format!("Validation failed: {why:?}"))
}
