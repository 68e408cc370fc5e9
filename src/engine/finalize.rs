//! From an order that is ready to its certificate. RFC 8555 sections 7.4 and 7.4.2.

use super::Polls;
use super::authorize::{POLLS_A_REVIEW, invalid_order};
use super::backoff::delay_after_lost;
use super::exchange::{Answered, Call, Identity, Session};
use super::order_options::{CertificateRequest, Plan};
use crate::base64url;
use crate::error::{Error, Result};
use crate::pki::SigningRequest;
use crate::request::{self, Finalize};
use crate::resource::order::{Order, OrderStatus};
use crate::text::printable;

/// Answers to finalize that may be lost before the CA is taken to be broken.
const LOST_FINALIZES: u32 = 3;

/// A CA may say "valid" a moment before it says where the certificate is.
const LOOKS_FOR_CERTIFICATE: u32 = 3;

/// What came of it.
pub(super) enum Finalized {
    /// The certificate is at this URL.
    Certificate(String),
    /// The order is pending: something is to be proven, still or again.
    Pending(Box<Answered<Order>>),
}

impl Session {
    /// Brings an order to `valid`, whatever state it is in, and gives the certificate's URL; or the
    /// order, when it stays pending.
    pub(super) async fn finalize(
        &self,
        plan: &Plan,
        url: &str,
        mut order: Answered<Order>,
        account: &str,
    ) -> Result<Finalized> {
        self.io.enter("finalize");
        // The request itself, with its parsed key, is not kept for as long as the CA takes.
        let payload = payload(&self.signing_request(plan).await?)?;
        let (mut polls, mut lacking) = (Polls::default(), 0);
        let place = |e: Error| e.doing("waiting for the certificate").at(url);
        let (mut asked, mut lost) = (false, 0);
        loop {
            match order.value.status {
                // Sent again only after a look at the order has shown that it is still ready.
                OrderStatus::Ready if !asked => {
                    asked = true;
                    match self.ask(&payload, url, &order.value, account).await {
                        Ok(answer) if self.is_about(plan, url, &answer)? => {
                            order = answer;
                            continue;
                        }
                        Ok(_) => {}
                        // Too early: the order will be ready for it.
                        Err(error) if error.is_problem("orderNotReady") => {}
                        // Whether it took effect, the order will show.
                        Err(error) if error.is_lost() && lost < LOST_FINALIZES => {
                            lost += 1;
                            order.retry_after = delay_after_lost(&error, self.io.now())?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                OrderStatus::Valid => match order.value.certificate.take() {
                    Some(certificate) => return Ok(Finalized::Certificate(certificate)),
                    None if lacking == LOOKS_FOR_CERTIFICATE => {
                        let why = "the order is valid but names no certificate";
                        return Err(place(Error::protocol(why)));
                    }
                    None => lacking += 1,
                },
                OrderStatus::Invalid => return Err(invalid_order(&order.value, url)),
                OrderStatus::Pending if polls.count() == POLLS_A_REVIEW => {
                    return Ok(Finalized::Pending(Box::new(order)));
                }
                // A state that none of ours is: the next look decides.
                OrderStatus::Unknown
                | OrderStatus::Pending
                | OrderStatus::Ready
                | OrderStatus::Processing => {}
            }
            let delay = polls.next(order.retry_after, self.io.now()).map_err(place)?;
            self.io.sleep(delay).await.map_err(place)?;
            order = self.order(plan, url, account).await?;
            asked = false;
        }
    }

    /// Is it our order that finalize was answered with? One for other names is an error; another one
    /// for the same names is not believed.
    fn is_about(&self, plan: &Plan, url: &str, answer: &Answered<Order>) -> Result<bool> {
        let same = answer.value.check_identifiers(&plan.claim.identifiers);
        same.map_err(|e| e.doing("finalizing the order").at(url))?;
        let base = self.client.policy().check(url)?;
        let location = answer.location.as_deref().map(|location| base.join(location));
        let ours = location.is_none_or(|location| location == url);
        if !ours {
            log::warn!("finalize was answered with another order than {}", printable(url, 500));
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

    /// Sends the CSR.
    pub(crate) async fn ask(
        &self,
        payload: &[u8],
        order_url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Answered<Order>> {
        let finalize = order.finalize.as_deref().ok_or_else(|| {
            Error::protocol("the order is ready but has no finalize URL")
                .doing("finalizing the order")
                .at(order_url)
        })?;
        let call = Call { doing: "finalizing the order", url: finalize, repeatable: false };
        self.submit(&call, Identity::Account(account), payload, "an order").await
    }
}

/// What finalize is asked with (RFC 8555 section 7.4).
pub(crate) fn payload(csr: &SigningRequest) -> Result<Vec<u8>> {
    request::json(&Finalize { csr: base64url::encode(csr.der()) })
}
