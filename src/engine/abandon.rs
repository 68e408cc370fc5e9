//! Giving up authorizations that nobody is going to use: an account may leave only so many pending.
//! RFC 8555 section 7.5.2.

use super::concurrently::concurrently;
use super::exchange::{Call, Identity, Session};
use crate::error::Result;
use crate::request::{self, Deactivate};
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::order::Order;

impl Session {
    /// Deactivates an authorization, for good: whoever orders its name has to prove it anew.
    pub(crate) async fn deactivate_authorization(&self, url: &str) -> Result<()> {
        let account = self.known_account_url().await?;
        self.io.enter("authorization");
        self.deactivate(url, &account).await
    }

    /// Deactivates what is still pending of an order's authorizations.
    pub(crate) async fn abandon_order(&self, url: &str) -> Result<()> {
        let account = self.known_account_url().await?;
        self.io.enter("order");
        let order = self.fetch::<Order>("fetching the order", url, &account, "an order").await?;
        self.deactivate_pending(&order.value, &account).await
    }

    /// The same after a failure, which is what the host is told of.
    pub(super) async fn give_up(&self, order: &Order, account: &str) {
        if let Err(error) = self.deactivate_pending(order, account).await {
            log::warn!("authorizations stay pending: {error}");
        }
    }

    async fn deactivate_pending(&self, order: &Order, account: &str) -> Result<()> {
        self.io.enter("authorization");
        let each = order.authorizations.iter().map(|url| async move {
            match self.authorization(url, account).await?.status {
                AuthorizationStatus::Pending => self.deactivate(url, account).await,
                _ => Ok(()),
            }
        });
        concurrently(each).await.map(|_| ())
    }

    async fn deactivate(&self, url: &str, account: &str) -> Result<()> {
        let call = Call { doing: "deactivating the authorization", url, repeatable: true };
        let identity = Identity::Account(account);
        let payload = request::json(&Deactivate::new())?;
        self.submit::<Authorization>(&call, identity, &payload, "an authorization").await?;
        Ok(())
    }
}
