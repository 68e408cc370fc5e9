//! The parts of an issuance one at a time, for callers that go from one to the next themselves: the
//! API of acme-micro 0.14.

use std::time::Duration;

use super::authorize::failure;
use super::concurrently::concurrently;
use super::exchange::{Answered, Call, Identity, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, SigningRequest};
use crate::request::{self, NewOrder, Respond};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};

/// The least time between two looks, whatever the caller says.
const MIN_PACE: Duration = Duration::from_millis(100);
/// The longest Retry-After that is waited for.
const MAX_PACE: Duration = Duration::from_secs(60);

impl Session {
    /// Places an order for these names.
    pub(crate) async fn order_names(
        &self,
        identifiers: &[Identifier],
    ) -> Result<(String, Answered<Order>)> {
        let account = self.account_url().await?;
        let directory = self.directory().await?;
        self.io.enter("order");
        let (not_before, not_after, replaces, profile) = (None, None, None, None);
        let payload = NewOrder { identifiers, not_before, not_after, replaces, profile };
        self.place_order(&directory, &payload, &account).await
    }

    /// Looks at an order.
    pub(crate) async fn look_at_order(&self, url: &str) -> Result<Order> {
        let account = self.account_url().await?;
        Ok(self.fetch("fetching the order", url, &account, "an order").await?.value)
    }

    /// Looks at all authorizations of an order, in its own sequence.
    pub(crate) async fn authorizations(
        &self,
        order: &Order,
    ) -> Result<Vec<(String, Authorization)>> {
        let account = &self.account_url().await?;
        self.io.enter("authorization");
        let looks = order
            .authorizations
            .iter()
            .map(|url| async move { Ok((url.clone(), self.authorization(url, account).await?)) });
        concurrently(looks).await
    }

    /// Answers one challenge, and looks at its authorization until it is decided.
    pub(crate) async fn validate(
        &self,
        challenge_url: &str,
        authorization_url: &str,
        delay: Duration,
    ) -> Result<()> {
        let account = self.account_url().await?;
        self.io.enter("challenge");
        let doing = "answering the challenge";
        let call = Call { doing, url: challenge_url, repeatable: false };
        let payload = request::json(&Respond {})?;
        match self.post(&call, Identity::Account(&account), &payload).await {
            // Whether it took effect, the authorization shows.
            Err(error) if !error.is_lost() => return Err(error),
            _ => {}
        }
        loop {
            let doing = "fetching the authorization";
            let look: Answered<Authorization> =
                self.fetch(doing, authorization_url, &account, "an authorization").await?;
            match look.value.status {
                AuthorizationStatus::Valid => return Ok(()),
                AuthorizationStatus::Pending => self.wait(delay, look.retry_after).await?,
                _ => return Err(failure(&look.value).at(challenge_url)),
            }
        }
    }

    /// Sends the CSR, and looks at the order until the certificate is there.
    pub(crate) async fn finalize_order(
        &self,
        csr: &SigningRequest,
        url: &str,
        order: &Order,
        delay: Duration,
    ) -> Result<Order> {
        let account = self.account_url().await?;
        self.io.enter("finalize");
        match self.ask(csr, url, order, &account).await {
            Ok(answer) if answer.value.status == OrderStatus::Valid => return Ok(answer.value),
            // Whether it took effect, the order shows.
            Err(error) if !error.is_lost() => return Err(error),
            _ => {}
        }
        loop {
            let doing = "waiting for the certificate";
            let look: Answered<Order> = self.fetch(doing, url, &account, "an order").await?;
            match look.value.status {
                OrderStatus::Processing => self.wait(delay, look.retry_after).await?,
                _ => return Ok(look.value),
            }
        }
    }

    /// The certificate of an order that is valid, checked against the request it was issued for.
    pub(crate) async fn certificate_of(
        &self,
        order: &Order,
        csr: &SigningRequest,
    ) -> Result<CertificateChain> {
        let account = self.account_url().await?;
        let url = order.certificate.as_deref().ok_or_else(|| Error::protocol("certificate url"))?;
        let (chain, _, now) = self.download(url, &account).await?;
        let check = || match chain.is_for(csr.public_key()) {
            true => chain.verify(csr.names(), now),
            false => {
                let why = "the CA issued a certificate for a key that is not ours";
                Err(Error::new(ErrorKind::Certificate, why))
            }
        };
        check().map_err(|e| e.doing("checking the certificate").at(url))?;
        Ok(chain)
    }

    /// The caller's pace, unless the CA asks for a slower one.
    async fn wait(&self, delay: Duration, retry_after: Option<Duration>) -> Result<()> {
        let asked = retry_after.unwrap_or_default().min(MAX_PACE);
        self.io.sleep(delay.max(asked).max(MIN_PACE)).await
    }
}
