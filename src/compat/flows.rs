//! The parts of an issuance as separate flows, for the API of acme-micro 0.14.

use std::time::Duration;

use crate::engine::certificate::Download;
use crate::engine::exchange::{Call, Fetched, Identity, Session};
use crate::engine::failures::{failure, invalid_order};
use crate::engine::finalize;
use crate::engine::join::join_bounded;
use crate::engine::limits::{
    MAX_FETCHES_WITHOUT_CERTIFICATE, MAX_LOST_RESPONSES, MAX_RETRY_AFTER, MIN_CALLER_POLL_DELAY,
};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, SigningRequest};
use crate::request::{self, Named, NewOrder, Respond};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::ChallengeStatus;
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};

impl Session {
    /// Places an order for these names.
    pub(crate) async fn order_names(
        &self,
        identifiers: &[Identifier],
    ) -> Result<(String, Fetched<Order>)> {
        let account = self.account_url().await?;
        self.io.set_state("order");
        let (not_before, not_after, replaces, profile) = (None, None, None, None);
        let identifiers = identifiers.iter().map(Named::plain).collect();
        let payload = NewOrder { identifiers, not_before, not_after, replaces, profile };
        self.place_order(&payload, &account).await
    }

    /// Fetches an order.
    pub(crate) async fn fetch_order(&self, url: &str) -> Result<Order> {
        let account = self.account_url().await?;
        Ok(self.fetch("fetching the order", url, &account, "an order").await?.value)
    }

    /// Fetches all authorizations of an order, in its sequence.
    pub(crate) async fn authorizations(
        &self,
        order: &Order,
    ) -> Result<Vec<(String, Authorization)>> {
        let account = &self.account_url().await?;
        self.io.set_state("authorization");
        let fetches = order
            .authorizations
            .iter()
            .map(|url| async move { Ok((url.clone(), self.authorization(url, account).await?)) });
        join_bounded(fetches).await
    }

    /// Responds to one challenge, and polls its authorization until it is decided (RFC 8555 section
    /// 7.5.1). After a lost response it fetches the authorization before it tries again.
    pub(crate) async fn validate(
        &self,
        challenge_url: &str,
        authorization_url: &str,
        delay: Duration,
    ) -> Result<()> {
        let account = self.account_url().await?;
        self.io.set_state("challenge");
        self.io.be_patient();
        let (mut responded, mut lost) = (false, 0);
        loop {
            let mut refusal = None;
            if !responded {
                match self.send_response(challenge_url, &account).await {
                    Ok(()) => responded = true,
                    // The authorization tells whether it took effect.
                    Err(error) if error.is_lost() && lost < MAX_LOST_RESPONSES => lost += 1,
                    // CA quirk (Boulder): a challenge that is being validated stays pending, and a
                    // second response is a conflict.
                    Err(error) if error.http_status() == Some(409) => responded = true,
                    // The refusal may only mean that the challenge is decided already.
                    Err(error) if error.problem().is_some() => refusal = Some(error),
                    Err(error) => return Err(error),
                }
            }
            let fetched = self.fetch_authorization(authorization_url, &account).await?;
            match (fetched.value.status, refusal) {
                (AuthorizationStatus::Valid, _) => return Ok(()),
                (AuthorizationStatus::Pending, Some(refusal)) => return Err(refusal),
                (AuthorizationStatus::Pending, None) => {
                    responded |= has_response(&fetched.value, challenge_url);
                    let place =
                        |e: Error| e.doing("waiting for the authorization").at(authorization_url);
                    self.wait(delay, fetched.retry_after).await.map_err(place)?;
                }
                _ => return Err(failure(&fetched.value).at(challenge_url)),
            }
        }
    }

    async fn fetch_authorization(
        &self,
        url: &str,
        account: &str,
    ) -> Result<Fetched<Authorization>> {
        self.fetch("fetching the authorization", url, account, "an authorization").await
    }

    /// Tells the CA that a challenge is published.
    async fn send_response(&self, url: &str, account: &str) -> Result<()> {
        let call = Call { doing: "responding to the challenge", url, repeatable: false };
        let payload = request::json(&Respond {})?;
        self.post(&call, Identity::Account(account), &payload).await.map(|_| ())
    }

    /// Sends the CSR, and polls the order until it is decided (RFC 8555 section 7.4). After a lost
    /// response it fetches the order before it sends the CSR again.
    pub(crate) async fn finalize_order(
        &self,
        csr: &SigningRequest,
        url: &str,
        order: &Order,
        delay: Duration,
    ) -> Result<Order> {
        let account = self.account_url().await?;
        self.io.set_state("finalize");
        self.io.be_patient();
        let payload = finalize::payload(csr)?;
        let (mut asked, mut lost, mut late) = (false, 0, 0);
        loop {
            if !asked {
                match self.send_csr(&payload, url, order, &account).await {
                    Ok(answer) if has_certificate(&answer.value) => return Ok(answer.value),
                    Ok(_) => asked = true,
                    // The order tells whether it took effect.
                    Err(error)
                        if (error.is_lost() || error.is_unread()) && lost < MAX_LOST_RESPONSES =>
                    {
                        lost += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            let doing = "waiting for the certificate";
            let fetched: Fetched<Order> = self.fetch(doing, url, &account, "an order").await?;
            match fetched.value.status {
                OrderStatus::Processing => asked = true,
                OrderStatus::Ready if !asked => {}
                OrderStatus::Ready | OrderStatus::Valid
                    if fetched.value.certificate.is_none()
                        && late < MAX_FETCHES_WITHOUT_CERTIFICATE =>
                {
                    asked = true;
                    late += 1;
                }
                _ => return Ok(fetched.value),
            }
            self.wait(delay, fetched.retry_after).await.map_err(|e| e.doing(doing).at(url))?;
        }
    }

    /// Downloads the certificate of a valid order, and checks it against its CSR.
    pub(crate) async fn certificate_of(
        &self,
        order: &Order,
        csr: &SigningRequest,
    ) -> Result<CertificateChain> {
        let account = self.account_url().await?;
        let url = order.certificate.as_deref().ok_or_else(|| {
            Error::protocol("the order is valid, but has no URL of a certificate")
        })?;
        let Download { chain, now, .. } = self.download(url, &account).await?;
        chain
            .verify(csr.requested_key(), csr.names(), now)
            .map_err(|e| e.doing("checking the certificate").at(url))?;
        Ok(chain)
    }

    /// Waits for the caller's delay, or the CA's Retry-After if that is longer.
    async fn wait(&self, delay: Duration, retry_after: Option<Duration>) -> Result<()> {
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        self.io.sleep(delay.max(asked).max(MIN_CALLER_POLL_DELAY)).await
    }
}

fn has_certificate(order: &Order) -> bool {
    order.status == OrderStatus::Valid && order.certificate.is_some()
}

/// Whether the CA has received the response to this challenge.
fn has_response(authorization: &Authorization, challenge_url: &str) -> bool {
    let decided = |status| !matches!(status, ChallengeStatus::Pending | ChallengeStatus::Unknown);
    authorization.challenges.iter().any(|c| c.url == challenge_url && decided(c.status))
}

impl Order {
    /// Makes the error for an order without a certificate: its status is not `valid`.
    pub(crate) fn not_valid(&self, url: &str) -> Error {
        if self.status == OrderStatus::Invalid {
            return invalid_order(self, url);
        }
        let why = format!("the order is {} after it was finalized", self.status.as_str());
        Error::new(ErrorKind::Order, why).doing("waiting for the certificate").at(url)
    }
}
