//! Deactivating authorizations that will not be used: CAs limit how many an account may leave pending.
//! RFC 8555 section 7.5.2.

use super::exchange::{Call, Identity, Session};
use super::limits::MAX_NAMES;
use crate::error::{ErrorKind, Result};
use crate::request::{self, Deactivate};
use crate::resource::authorization::AuthorizationStatus;
use crate::resource::order::Order;

impl Session {
    /// Deactivates an authorization permanently. The next order of its name needs a new one.
    pub(crate) async fn deactivate_authorization(&self, url: &str) -> Result<()> {
        let account = self.known_account_url().await?;
        self.io.set_state("authorization");
        self.deactivate(url, &account).await
    }

    /// Deactivates the pending authorizations of an order.
    pub(crate) async fn abandon_order(&self, url: &str) -> Result<()> {
        let account = self.known_account_url().await?;
        self.io.set_state("order");
        let order = self.fetch::<Order>("fetching the order", url, &account, "an order").await?;
        self.deactivate_pending(&order.value, &account).await
    }

    /// Does the same after a failure. An error here is only logged: the host gets the first failure.
    pub(super) async fn deactivate_after_failure(&self, order: &Order, account: &str) {
        if let Err(error) = self.deactivate_pending(order, account).await {
            log::warn!("authorizations stay pending: {error}");
        }
    }

    async fn deactivate_pending(&self, order: &Order, account: &str) -> Result<()> {
        self.io.set_state("authorization");
        let mut failure = None;
        for url in order.distinct_authorizations().into_iter().take(MAX_NAMES) {
            // An error for one authorization does not keep the others pending.
            match self.deactivate_if_pending(url, account).await {
                Err(error) if matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Timeout) => {
                    return Err(error);
                }
                outcome => failure = failure.or(outcome.err()),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn deactivate_if_pending(&self, url: &str, account: &str) -> Result<()> {
        match self.authorization(url, account).await?.status {
            AuthorizationStatus::Pending => self.deactivate(url, account).await,
            _ => Ok(()),
        }
    }

    async fn deactivate(&self, url: &str, account: &str) -> Result<()> {
        let call = Call { doing: "deactivating the authorization", url, repeatable: true };
        let identity = Identity::Account(account);
        let payload = request::json(&Deactivate::new())?;
        self.post(&call, identity, &payload).await.map(|_| ())
    }
}
