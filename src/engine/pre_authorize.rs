//! Proving names ahead of an order. RFC 8555 section 7.4.1; RFC 9444 section 4.2 (for the names
//! below them, too).

use std::sync::Arc;
use std::time::Duration;

use super::Polls;
use super::authorize::{Proof, failure};
use super::challenge::ChallengeType;
use super::client::TIME_LIMIT;
use super::exchange::{Answered, Call, Identity, Session};
use super::identifiers::Claim;
use super::join::join_bounded;
use crate::error::{Error, Result};
use crate::request::{self, Named, NewAuthorization};
use crate::resource::Resource;
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::directory::Directory;
use crate::resource::identifier::Identifier;

/// What is to be proven ahead of an order, and how.
#[derive(Clone, Debug)]
pub struct AuthorizeOptions {
    /// DNS names and IP addresses. Not wildcards: they can be proven by an order only.
    pub names: Vec<String>,
    /// Acceptable types of challenge, best first. Default: http-01.
    pub challenge_types: Vec<ChallengeType>,
    /// Each name is to prove those below it, too, where the CA takes that (RFC 9444).
    pub subdomains: bool,
    /// Give up after this long, the time that publishing takes not counted. Default: 600 s.
    pub time_limit: Duration,
}

impl AuthorizeOptions {
    /// The defaults for these names.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> AuthorizeOptions {
        AuthorizeOptions {
            names: names.into_iter().map(Into::into).collect(),
            challenge_types: vec![ChallengeType::Http01],
            subdomains: false,
            time_limit: TIME_LIMIT,
        }
    }

    /// Refuses what cannot work, before anything is sent.
    pub(super) fn claim(self) -> Result<Claim> {
        let claim = Claim::new(&self.names, self.challenge_types, &[], None)?;
        let refuse = |why: &str, identifier: &Identifier| {
            let why = format!("{}: {why}", identifier.value);
            Err(Error::invalid_argument(why).about(&identifier.value))
        };
        match claim.identifiers.iter().find(|id| id.is_wildcard() || id.type_ != "dns") {
            Some(id) if id.is_wildcard() => refuse("a wildcard is proven by its order only", id),
            Some(id) if self.subdomains => refuse("only a DNS name has names below it", id),
            _ if self.time_limit.is_zero() => {
                Err(Error::invalid_argument("the time limit is zero"))
            }
            _ => Ok(claim),
        }
    }
}

impl Session {
    /// Has every name become proven. Gives the URLs of their authorizations.
    pub(crate) async fn pre_authorize(
        &self,
        claim: Claim,
        subdomains: bool,
    ) -> Result<Vec<String>> {
        let mut account = self.account_url().await?;
        let directory = self.directory().await?;
        if subdomains {
            let allowed = directory.check_subdomains();
            allowed.map_err(|e| e.doing("creating an authorization"))?;
        }
        let made = match self.new_authorizations(&claim, subdomains, &account).await {
            Err(error) if error.is_problem("accountDoesNotExist") => {
                // As in an issuance: the CA has lost the account.
                self.client.set_account_url(None);
                account = self.account_url().await?;
                self.new_authorizations(&claim, subdomains, &account).await?
            }
            outcome => outcome?,
        };
        let account = &account;
        let mut proofs = Vec::new();
        for (url, authorization) in &made {
            proofs.extend(self.choose(&claim, url, authorization, account)?);
        }
        if !proofs.is_empty() {
            self.prove(proofs, account, None).await?;
        }
        Ok(made.into_iter().map(|(url, _)| url).collect())
    }

    async fn new_authorizations(
        &self,
        claim: &Claim,
        subdomains: bool,
        account: &str,
    ) -> Result<Vec<(String, Authorization)>> {
        self.io.enter("authorization");
        let made = claim.identifiers.iter().map(|identifier| async move {
            let made = self.by_directory(|directory| {
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
        // A second one, when the first one's answer was lost, is a CA's to reuse or forget.
        let call = Call { doing, url: directory.new_authz()?, repeatable: true };
        let identity = Identity::Account(account);
        let answer =
            self.submit(&call, identity, &request::json(&payload)?, "an authorization").await;
        let answer: Answered<Authorization> = answer.map_err(|e| e.about(&identifier.value))?;
        let url = answer.created_at(self, &call)?;
        let authorization = match answer.value.has_known_status() {
            true => answer.value,
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

    /// Looks at one authorization until it is decided.
    pub(super) async fn await_decided(&self, proof: &mut Proof, account: &str) -> Result<()> {
        let url = &proof.authorization_url.clone();
        let place = |e: Error| e.doing("waiting for the authorization").at(url);
        let (mut polls, mut retry_after) = (Polls::default(), None);
        loop {
            let delay = polls.next(retry_after, self.io.now()).map_err(place)?;
            self.io.sleep(delay).await.map_err(place)?;
            let look: Answered<Authorization> =
                self.fetch("fetching the authorization", url, account, "an authorization").await?;
            match look.value.status {
                AuthorizationStatus::Valid => return Ok(()),
                AuthorizationStatus::Pending => {
                    if proof.review_is_due(&polls, self.io.now()) {
                        self.respond_again(proof, &look.value, account).await?;
                    }
                    retry_after = look.retry_after;
                }
                _ => return Err(failure(&look.value).at(url)),
            }
        }
    }
}
