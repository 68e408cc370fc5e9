//! Authorizing names before an order. RFC 8555 section 7.4.1; RFC 9444 section 4.2 (for the names
//! below them, too).

use std::sync::Arc;
use std::time::Duration;

use super::challenge::ChallengeType;
use super::exchange::{Call, Fetched, Identity, Session};
use super::failures::failure;
use super::identifiers::IdentifierPlan;
use super::join::join_bounded;
use super::limits::DEFAULT_TIMEOUT;
use super::pending_challenge::PendingChallenge;
use super::retry::Polls;
use crate::error::{Error, Result};
use crate::request::{self, Named, NewAuthorization};
use crate::resource::Resource;
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::directory::Directory;
use crate::resource::identifier::Identifier;

/// Options of an authorization before an order.
#[derive(Clone, Debug)]
pub struct AuthorizeOptions {
    /// DNS names and IP addresses. Wildcards are authorized by an order only.
    pub names: Vec<String>,
    /// Acceptable types of challenge, best first. Default: http-01.
    pub challenge_types: Vec<ChallengeType>,
    /// Makes each authorization valid for the names below, too, if the CA supports that (RFC 9444).
    pub subdomains: bool,
    /// Timeout of the operation, not counting the time that publishing takes. Default: 600 s.
    pub timeout: Duration,
}

impl AuthorizeOptions {
    /// The defaults for these names.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> AuthorizeOptions {
        AuthorizeOptions {
            names: names.into_iter().map(Into::into).collect(),
            challenge_types: vec![ChallengeType::Http01],
            subdomains: false,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Refuses options that cannot work, before anything is sent.
    pub(super) fn plan(self) -> Result<IdentifierPlan> {
        let identifiers = IdentifierPlan::new(&self.names, self.challenge_types, &[], None)?;
        let refuse = |why: &str, identifier: &Identifier| {
            let why = format!("{}: {why}", identifier.value);
            Err(Error::invalid_argument(why).about(&identifier.value))
        };
        match identifiers.ordered.iter().find(|id| id.is_wildcard() || id.type_ != "dns") {
            Some(id) if id.is_wildcard() => refuse("a wildcard is proven by its order only", id),
            Some(id) if self.subdomains => refuse("only a DNS name has names below it", id),
            _ if self.timeout.is_zero() => Err(Error::invalid_argument("the time limit is zero")),
            _ => Ok(identifiers),
        }
    }
}

impl Session {
    /// Makes an authorization of every name valid. Returns their URLs.
    pub(crate) async fn pre_authorize(
        &self,
        identifiers: IdentifierPlan,
        subdomains: bool,
    ) -> Result<Vec<String>> {
        let mut account = self.account_url().await?;
        let directory = self.directory().await?;
        if subdomains {
            let allowed = directory.check_subdomains();
            allowed.map_err(|e| e.doing("creating an authorization"))?;
        }
        let made = match self.new_authorizations(&identifiers, subdomains, &account).await {
            Err(error) if error.is_problem("accountDoesNotExist") => {
                // CA quirk (Pebble): it forgets its accounts when it ends, as in `obtain`.
                self.client.set_account_url(None);
                account = self.account_url().await?;
                self.new_authorizations(&identifiers, subdomains, &account).await?
            }
            outcome => outcome?,
        };
        let account = &account;
        let mut pending = Vec::new();
        for (url, authorization) in &made {
            pending.extend(self.choose(&identifiers, url, authorization, account)?);
        }
        if !pending.is_empty() {
            self.solve(pending, account, None).await?;
        }
        Ok(made.into_iter().map(|(url, _)| url).collect())
    }

    async fn new_authorizations(
        &self,
        identifiers: &IdentifierPlan,
        subdomains: bool,
        account: &str,
    ) -> Result<Vec<(String, Authorization)>> {
        self.io.set_state("authorization");
        let made = identifiers.ordered.iter().map(|identifier| async move {
            let made = self.with_directory(|directory| {
                self.new_authorization(directory, identifier, subdomains, account)
            });
            made.await.map_err(|e| e.doing("creating an authorization"))
        });
        join_bounded(made).await
    }

    async fn new_authorization(
        &self,
        directory: Arc<Directory>,
        identifier: &Identifier,
        subdomains: bool,
        account: &str,
    ) -> Result<(String, Authorization)> {
        let named = Named { subdomain_auth_allowed: subdomains, ..Named::plain(identifier) };
        let payload = NewAuthorization { identifier: named };
        let doing = "creating an authorization";
        // Repeatable: if the response is lost, a second authorization does no harm. The CA reuses or drops
        // the first.
        let call = Call { doing, url: directory.new_authz()?, repeatable: true };
        let identity = Identity::Account(account);
        let fetched =
            self.submit(&call, identity, &request::json(&payload)?, "an authorization").await;
        let fetched: Fetched<Authorization> = fetched.map_err(|e| e.about(&identifier.value))?;
        let url = fetched.created_at(self, &call)?;
        let authorization = match fetched.value.has_known_status() {
            true => fetched.value,
            false => self.authorization(&url, account).await?,
        };
        let why = match authorization.ordered_identifier() == *identifier {
            false => "the CA's authorization is for another name",
            true if subdomains && !authorization.subdomain_auth_allowed => {
                "the CA's authorization does not prove the names below"
            }
            true => return Ok((url, authorization)),
        };
        Err(Error::protocol(why).doing(doing).at(&url).about(&identifier.value))
    }

    /// Polls one authorization until it is no longer pending.
    pub(super) async fn await_decided(
        &self,
        challenge: &mut PendingChallenge,
        account: &str,
    ) -> Result<()> {
        let url = &challenge.authorization_url.clone();
        let in_context = |e: Error| e.doing("waiting for the authorization").at(url);
        let (mut polls, mut retry_after) = (Polls::default(), None);
        loop {
            let delay = polls.next(retry_after, self.io.now()).map_err(in_context)?;
            self.io.sleep(delay).await.map_err(in_context)?;
            let fetched: Fetched<Authorization> =
                self.fetch("fetching the authorization", url, account, "an authorization").await?;
            match fetched.value.status {
                AuthorizationStatus::Valid => return Ok(()),
                AuthorizationStatus::Pending => {
                    if challenge.review_is_due(&polls, self.io.now()) {
                        self.respond_again(challenge, &fetched.value, account).await?;
                    }
                    retry_after = fetched.retry_after;
                }
                _ => return Err(failure(&fetched.value).at(url)),
            }
        }
    }
}
