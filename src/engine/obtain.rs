//! Obtaining a certificate, from the order to the download. RFC 8555 sections 7.1 and 7.4.

use super::exchange::{Fetched, Session};
use super::failures::invalid_order;
use super::finalize::Finalized;
use super::limits::{DELAY_AFTER_CA_FAULT, MAX_ROUNDS};
use super::order_options::{Plan, are_names_of};
use super::renewal_info::RenewalInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::{CertificateChain, Key};
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};
use crate::text::printable;

/// An issued certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain. It has been checked: its key is the requested one, its names are the order's.
    pub chain: CertificateChain,
    /// The certificate's private key; `None` when the CSR was made elsewhere.
    pub key: Option<Key>,
    /// The URL of the order.
    pub order_url: String,
    /// Whether it is the preferred chain; `true` without a preference.
    pub preference_met: bool,
}

/// The outcome of a renewal.
#[derive(Clone, Debug)]
pub enum Renewal {
    /// The renewal is not due yet; no order was placed.
    NotDue(RenewalInfo),
    /// The new certificate.
    Renewed(Issued),
}

impl Session {
    /// Renews the replaced certificate if that is due, or if the order is for other names.
    pub(crate) async fn renew(&self, plan: Plan) -> Result<Renewal> {
        if let Some(chain) = &plan.options.replaces {
            if let Some(info) = self.renewal_not_due(&plan.identifiers.ordered, chain).await? {
                return Ok(Renewal::NotDue(info));
            }
        }
        self.obtain(plan).await.map(Renewal::Renewed)
    }

    /// Returns when to renew the certificate, if that is not due and the order is for the same names.
    pub(super) async fn renewal_not_due(
        &self,
        ordered: &[Identifier],
        chain: &CertificateChain,
    ) -> Result<Option<RenewalInfo>> {
        if !are_names_of(ordered, chain.names()).unwrap_or(false) {
            return Ok(None);
        }
        let directory = self.directory().await;
        let info = match &directory {
            Ok(_) => self.renewal_info(chain).await?,
            Err(_) => RenewalInfo::by_lifetime(chain, self.io.now()),
        };
        if !info.is_due(self.io.now()) {
            return Ok(Some(info));
        }
        // A failed directory is not fetched a second time.
        directory.map(|_| None)
    }

    /// Runs a whole issuance.
    pub(crate) async fn obtain(&self, plan: Plan) -> Result<Issued> {
        let mut account = self.account_url().await?;
        Box::pin(self.keep_account()).await;
        let resumed = match &plan.options.order_url {
            Some(url) => self.resume(&plan, url, &account).await?,
            None => None,
        };
        let resuming = resumed.is_some();
        let (url, order) = match resumed {
            Some(found) => found,
            None => match self.new_order(&plan, &account).await {
                Err(error) if error.is_problem("accountDoesNotExist") => {
                    // CA quirk (Pebble): it forgets its accounts when it ends. Register again with the
                    // same key.
                    self.client.set_account_url(None);
                    account = self.account_url().await?;
                    self.new_order(&plan, &account).await?
                }
                Err(error) => return Err(self.explain_key_mismatch(error, &account).await),
                Ok(placed) => placed,
            },
        };
        // An old order: resumed, or returned again by the CA. It may have been finalized with a key that
        // we do not have, or lack an authorization that has expired.
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
            // A fault of the CA itself made the order fail.
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

    /// Fetches the order at this URL. `None`: the order is gone or cannot be used, and a new one has to
    /// be placed. So a host can keep an order's URL until it has the certificate, also after failures.
    async fn resume(
        &self,
        plan: &Plan,
        url: &str,
        account: &str,
    ) -> Result<Option<(String, Fetched<Order>)>> {
        self.io.set_state("order");
        let order: Fetched<Order> =
            match self.fetch("fetching the order", url, account, "an order").await {
                Err(error) if is_forgotten(&error) && error.url() == Some(url) => {
                    log::warn!("{error}; ordering anew");
                    return Ok(None);
                }
                outcome => outcome?,
            };
        let of_no_use = match order.value.status {
            OrderStatus::Invalid => Err(invalid_order(&order.value, url)),
            _ => order.value.check_identifiers(&plan.identifiers.ordered),
        };
        if let Err(error) = of_no_use {
            log::warn!("not resuming {}: {error}; ordering anew", printable(url, 500));
            return Ok(None);
        }
        Box::pin(self.note_order(url)).await?;
        Ok(Some((url.to_owned(), order)))
    }

    /// Fetches the order, which must still be for the same names.
    pub(super) async fn order(
        &self,
        plan: &Plan,
        url: &str,
        account: &str,
    ) -> Result<Fetched<Order>> {
        let order: Fetched<Order> =
            self.fetch("fetching the order", url, account, "an order").await?;
        let same = order.value.check_identifiers(&plan.identifiers.ordered);
        same.map_err(|e| e.doing("reading the order").at(url))?;
        Ok(order)
    }

    /// Continues an order, in any status, until it has its certificate.
    async fn complete(
        &self,
        plan: &Plan,
        url: String,
        order: Fetched<Order>,
        account: &str,
    ) -> Result<Issued> {
        let at = |e: Error| e.doing("reading the order").at(&url);
        let mut order = match order.value.status {
            OrderStatus::Unknown => self.order(plan, &url, account).await?,
            _ => order,
        };
        order.value.check_identifiers(&plan.identifiers.ordered).map_err(at)?;
        for _ in 0..MAX_ROUNDS {
            if order.value.status == OrderStatus::Pending {
                order = self.authorize_order(plan, &url, &order.value, account).await?;
            }
            match self.finalize(plan, &url, order, account).await? {
                Finalized::Certificate(at) => {
                    let (chain, preference_met) = self.certificate(plan, &at, account).await?;
                    let key = plan.options.key.clone();
                    return Ok(Issued { chain, key, order_url: url, preference_met });
                }
                Finalized::Pending(again) => order = *again,
            }
        }
        let why = "the order is pending again and again";
        Err(Error::new(ErrorKind::Timeout, why).doing("finalizing the order").at(&url))
    }

    async fn authorize_order(
        &self,
        plan: &Plan,
        url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Fetched<Order>> {
        let outcome = self.authorize(plan, url, order, account).await;
        // After other failures the order can be resumed.
        let given_up = [ErrorKind::Challenge, ErrorKind::Order, ErrorKind::Host];
        let is_given_up = |e: &Error| given_up.contains(&e.kind()) || e.is_ca_fault();
        if plan.options.abandon_on_failure && outcome.as_ref().is_err_and(is_given_up) {
            self.deactivate_after_failure(order, account).await;
        }
        outcome
    }
}

/// Whether the CA no longer knows the order, or not as an order of this account: it has expired, or the
/// account is lost.
fn is_forgotten(error: &Error) -> bool {
    match error.http_status() {
        Some(404 | 410) => true,
        Some(401) => false, // the account is deactivated
        _ => error.is_problem("unauthorized") || error.is_problem("accountDoesNotExist"),
    }
}
