//! Obtaining a certificate, from order to download. RFC 8555 sections 7.1 and 7.4.

use std::time::Duration;

use super::authorize::invalid_order;
use super::exchange::{Answered, Session};
use super::finalize::Finalized;
use super::order_options::Plan;
use super::renewal_info::RenewalInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, Key};
use crate::resource::order::{Order, OrderStatus};
use crate::text::printable;

/// Times that an order's names are proven: some may have to be again while it is finalized.
const MAX_ROUNDS: u32 = 3;

/// Delay before the one new order after the CA itself made the first one fail (`serverInternal`).
const DELAY_AFTER_CA_FAULT: Duration = Duration::from_secs(60);

/// A certificate as it was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain, checked: its key is the one asked for, its names are the order's.
    pub chain: CertificateChain,
    /// Its private key; `None` when a CSR was made elsewhere.
    pub key: Option<Key>,
    /// The order it comes from.
    pub order_url: String,
    /// Is it the chain that was preferred? `true` when any would do.
    pub preference_met: bool,
}

/// What came of a renewal.
#[derive(Clone, Debug)]
pub enum Renewal {
    /// It is not time yet; nothing was ordered.
    NotDue(RenewalInfo),
    /// The new certificate.
    Renewed(Issued),
}

impl Session {
    /// Renews `plan.replaces` if it is time to, or if other names are wanted by now.
    pub(crate) async fn renew(&self, plan: Plan) -> Result<Renewal> {
        if let Some(chain) = plan.replaces.as_ref().filter(|chain| plan.is_for_names_of(chain)) {
            let directory = self.directory().await;
            let info = match &directory {
                Ok(_) => self.renewal_info(chain).await?,
                Err(_) => RenewalInfo::by_lifetime(chain, self.io.now()),
            };
            if !info.is_due(self.io.now()) {
                return Ok(Renewal::NotDue(info));
            }
            // A CA that refuses its directory is not asked for it twice.
            directory?;
        }
        self.obtain(plan).await.map(Renewal::Renewed)
    }

    /// The whole of an issuance.
    pub(crate) async fn obtain(&self, plan: Plan) -> Result<Issued> {
        let mut account = self.account_url().await?;
        let resumed = match &plan.order_url {
            Some(url) => self.resume(&plan, url, &account).await?,
            None => None,
        };
        let resuming = resumed.is_some();
        let (url, order) = match resumed {
            Some(found) => found,
            None => match self.new_order(&plan, &account).await {
                Err(error) if error.is_problem("accountDoesNotExist") => {
                    // The CA has lost the account (Pebble does at each start): once more, from the
                    // beginning, with the same key.
                    self.client.set_account_url(None);
                    account = self.account_url().await?;
                    self.new_order(&plan, &account).await?
                }
                Err(error) => return Err(self.explained(error, &account).await),
                Ok(placed) => placed,
            },
        };
        // One from before: resumed, or given out again by the CA. It may have been finished with a
        // key that we do not have, or lack an authorization that has run out.
        let is_old = resuming || order.value.status == OrderStatus::Valid;
        match self.complete(&plan, url, order, &account).await {
            Err(error)
                if is_old
                    && error.retry_at().is_none()
                    && matches!(error.kind(), ErrorKind::Certificate | ErrorKind::Order) =>
            {
                log::warn!("{error}; ordering once more");
                let (url, order) = self.new_order(&plan, &account).await?;
                self.complete(&plan, url, order, &account).await
            }
            // The order failed because the CA did.
            Err(error)
                if error.is_ca_fault()
                    && error.retry_at().is_none()
                    && self.io.has_time_for(DELAY_AFTER_CA_FAULT) =>
            {
                log::warn!("{error}; ordering once more in a minute");
                let waited = self.io.sleep(DELAY_AFTER_CA_FAULT).await;
                waited.map_err(|ended| ended.after(&error))?;
                let again = async {
                    let (url, order) = self.new_order(&plan, &account).await?;
                    self.complete(&plan, url, order, &account).await
                };
                again.await.map_err(|second| second.after(&error))
            }
            outcome => outcome,
        }
    }

    /// The order at this URL; `None`: it leads nowhere any more, and another one has to be placed. So
    /// a host may keep an order's URL until it has the certificate, whatever happens.
    async fn resume(
        &self,
        plan: &Plan,
        url: &str,
        account: &str,
    ) -> Result<Option<(String, Answered<Order>)>> {
        self.io.enter("order");
        let order: Answered<Order> =
            match self.fetch("fetching the order", url, account, "an order").await {
                Err(error) if is_forgotten(&error) && error.url() == Some(url) => {
                    log::warn!("{error}; ordering anew");
                    return Ok(None);
                }
                outcome => outcome?,
            };
        let of_no_use = match order.value.status {
            OrderStatus::Invalid => Err(invalid_order(&order.value, url)),
            _ => order.value.check_identifiers(&plan.claim.identifiers),
        };
        if let Err(error) = of_no_use {
            log::warn!("not resuming {}: {error}; ordering anew", printable(url, 500));
            return Ok(None);
        }
        self.io.note_order(url);
        Ok(Some((url.to_owned(), order)))
    }

    /// Looks at the order, which has to be for the same names still.
    pub(super) async fn order(
        &self,
        plan: &Plan,
        url: &str,
        account: &str,
    ) -> Result<Answered<Order>> {
        let order: Answered<Order> =
            self.fetch("fetching the order", url, account, "an order").await?;
        let same = order.value.check_identifiers(&plan.claim.identifiers);
        same.map_err(|e| e.doing("reading the order").at(url))?;
        Ok(order)
    }

    /// Takes an order, whatever its state, to a certificate.
    async fn complete(
        &self,
        plan: &Plan,
        url: String,
        order: Answered<Order>,
        account: &str,
    ) -> Result<Issued> {
        let at = |e: Error| e.doing("reading the order").at(&url);
        order.value.check_identifiers(&plan.claim.identifiers).map_err(at)?;
        let order = match order.value.status {
            OrderStatus::Unknown => self.order(plan, &url, account).await?,
            _ => order,
        };
        let mut order = order;
        for _ in 0..MAX_ROUNDS {
            if order.value.status == OrderStatus::Pending {
                order = self.prove_order(plan, &url, &order.value, account).await?;
            }
            match self.finalize(plan, &url, order, account).await? {
                Finalized::Certificate(at) => {
                    let (chain, preference_met) = self.certificate(plan, &at, account).await?;
                    let key = plan.key.clone();
                    return Ok(Issued { chain, key, order_url: url, preference_met });
                }
                Finalized::Pending(again) => order = *again,
            }
        }
        let why = "the order is pending again and again";
        Err(Error::new(ErrorKind::Timeout, why).doing("finalizing the order").at(&url))
    }

    async fn prove_order(
        &self,
        plan: &Plan,
        url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Answered<Order>> {
        let outcome = self.authorize(plan, url, order, account).await;
        // What failed otherwise may be resumed.
        let given_up = [ErrorKind::Challenge, ErrorKind::Order, ErrorKind::Host];
        let is_given_up = |e: &Error| given_up.contains(&e.kind()) || e.is_ca_fault();
        if plan.abandon_on_failure && outcome.as_ref().is_err_and(is_given_up) {
            self.give_up(order, account).await;
        }
        outcome
    }
}

/// The CA knows an order no more, or not as this account's: it has run out, or the account is lost.
fn is_forgotten(error: &Error) -> bool {
    match error.http_status() {
        Some(404 | 410) => true,
        Some(401) => false, // the account is deactivated
        _ => error.is_problem("unauthorized") || error.is_problem("accountDoesNotExist"),
    }
}
