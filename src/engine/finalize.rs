//! Finalizing a ready order, until its certificate has a URL. RFC 8555 section 7.4.

use super::exchange::{Call, Fetched, Identity, Session};
use super::failures::invalid_order;
use super::limits::{MAX_FETCHES_WITHOUT_CERTIFICATE, MAX_LOST_RESPONSES, POLLS_PER_REVIEW};
use super::order_options::{CertificateRequest, Plan};
use super::retry::{Polls, delay_after_lost};
use crate::base64url;
use crate::error::{Error, Result};
use crate::pki::SigningRequest;
use crate::request::{self, Finalize};
use crate::resource::order::{Order, OrderStatus};
use crate::text::printable;

/// The outcome of finalization.
pub(super) enum Finalized {
    /// The certificate is at this URL.
    Certificate(String),
    /// The order is pending: it needs an authorization again.
    Pending(Box<Fetched<Order>>),
}

impl Session {
    /// Continues an order, in any status, until it is `valid`. Returns the certificate's URL, or the order if
    /// it stays pending.
    pub(super) async fn finalize(
        &self,
        plan: &Plan,
        url: &str,
        mut order: Fetched<Order>,
        account: &str,
    ) -> Result<Finalized> {
        self.io.set_state("finalize");
        // Only the payload is kept while the CA works; the parsed CSR with its key is dropped here.
        let payload = payload(&self.signing_request(plan).await?)?;
        let (mut polls, mut lacking) = (Polls::default(), 0);
        let in_context = |e: Error| e.doing("waiting for the certificate").at(url);
        let (mut sent, mut lost) = (false, 0);
        loop {
            match order.value.status {
                // The CSR is sent again only after a fetch has shown that the order is still ready.
                OrderStatus::Ready if !sent => {
                    sent = true;
                    match self.send_csr(&payload, url, &order.value, account).await {
                        Ok(fetched)
                            if fetched.value.status != OrderStatus::Unknown
                                && self.is_about(plan, url, &fetched)? =>
                        {
                            order = fetched;
                            continue;
                        }
                        Ok(_) => {}
                        // Too early: the order becomes ready later.
                        Err(error) if error.is_problem("orderNotReady") => {}
                        // The order will show whether the request took effect.
                        Err(error)
                            if (error.is_lost() || error.is_unread())
                                && lost < MAX_LOST_RESPONSES =>
                        {
                            lost += 1;
                            order.retry_after = delay_after_lost(&error, self.io.now())?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                OrderStatus::Valid => match order.value.certificate.take() {
                    Some(certificate) => return Ok(Finalized::Certificate(certificate)),
                    // CA quirk (several): an order is valid a moment before it names its certificate.
                    None if lacking == MAX_FETCHES_WITHOUT_CERTIFICATE => {
                        let why = "the order is valid but names no certificate";
                        return Err(in_context(Error::protocol(why)));
                    }
                    None => lacking += 1,
                },
                OrderStatus::Invalid => return Err(invalid_order(&order.value, url)),
                OrderStatus::Pending if polls.count() == POLLS_PER_REVIEW => {
                    return Ok(Finalized::Pending(Box::new(order)));
                }
                // Nothing to do in this status; fetch the order again.
                OrderStatus::Unknown
                | OrderStatus::Pending
                | OrderStatus::Ready
                | OrderStatus::Processing => {}
            }
            let delay = polls.next(order.retry_after, self.io.now()).map_err(in_context)?;
            self.io.sleep(delay).await.map_err(in_context)?;
            match self.order(plan, url, account).await {
                Ok(fetched) => (order, sent) = (fetched, false),
                // The CA may have issued the certificate: fetch the order again.
                Err(error) if error.is_unread() && lost < MAX_LOST_RESPONSES => lost += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the response to finalize is our order. An order for other names is an error. Another order
    /// for the same names is ignored.
    fn is_about(&self, plan: &Plan, url: &str, fetched: &Fetched<Order>) -> Result<bool> {
        let same = fetched.value.check_identifiers(&plan.identifiers.ordered);
        same.map_err(|e| e.doing("finalizing the order").at(url))?;
        let base = self.client.policy().check(url)?;
        let location = fetched.location.as_deref().map(|location| base.join(location));
        let ours = location.is_none_or(|location| location == url);
        if !ours {
            log::warn!("the response to finalize is another order than {}", printable(url, 500));
        }
        Ok(ours)
    }

    async fn signing_request(&self, plan: &Plan) -> Result<SigningRequest> {
        match &plan.request {
            CertificateRequest::Made(request) => Ok(request.clone()),
            CertificateRequest::Unsigned(request) => {
                let signature = self.sign(request.key(), request.input()).await;
                let request = signature.and_then(|signature| request.signed(&signature));
                request.map_err(|e| e.doing("signing the certificate request"))
            }
        }
    }

    /// Sends the CSR to the order's finalize URL.
    pub(crate) async fn send_csr(
        &self,
        payload: &[u8],
        order_url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Fetched<Order>> {
        let finalize = order.finalize.as_deref().ok_or_else(|| {
            Error::protocol("the order is ready but has no finalize URL")
                .doing("finalizing the order")
                .at(order_url)
                .unsent()
        })?;
        let call = Call { doing: "finalizing the order", url: finalize, repeatable: false };
        self.submit(&call, Identity::Account(account), payload, "an order").await
    }
}

/// The payload of the finalize request (RFC 8555 section 7.4).
pub(crate) fn payload(csr: &SigningRequest) -> Result<Vec<u8>> {
    request::json(&Finalize { csr: base64url::encode(csr.der()) })
}
