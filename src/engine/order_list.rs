//! The orders of an account, if the CA lists them. RFC 8555 section 7.1.2.1.

use super::exchange::{Call, Identity, Session};
use super::limits::MAX_PAGES;
use crate::error::{Error, ErrorKind, Result};
use crate::resource;
use crate::resource::order_list::OrderList;

impl Session {
    /// Fetches the URLs of the account's orders. All CAs with a list include the pending orders; other
    /// orders may be missing.
    pub(crate) async fn orders(&self) -> Result<Vec<String>> {
        let found = self.find_account().await?;
        let doing = "listing the orders";
        let mut next = found.account.orders.ok_or_else(|| {
            let why = "this CA does not list an account's orders";
            Error::new(ErrorKind::Unsupported, why).doing(doing).at(&found.url)
        })?;
        self.io.set_state("order-list");
        let mut orders = Vec::new();
        for _ in 0..MAX_PAGES {
            let call = Call { doing, url: &next, repeatable: true };
            let in_context = |e: Error| e.doing(call.doing).at(call.url);
            let response = self.post(&call, Identity::Account(&found.url), b"").await?;
            let list: OrderList =
                resource::parse("a list of orders", &response.body).map_err(in_context)?;
            for url in list.orders {
                self.client.policy().check(&url).map_err(in_context)?;
                orders.push(url);
            }
            match response.headers.links("next", 1).first() {
                Some(link) => next = self.client.policy().check(&next)?.join(link),
                None => return Ok(orders),
            }
        }
        let why = format!("the list of orders has more than {MAX_PAGES} pages");
        Err(Error::protocol(why).doing(doing).at(&next))
    }
}
