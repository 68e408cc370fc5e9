//! From an order that is ready to its certificate. RFC 8555 sections 7.4 and 7.4.2.

use super::Polls;
use super::authorize::invalid_order;
use super::exchange::{Answered, Call, Session};
use super::obtain::Plan;
use crate::base64url;
use crate::error::{Error, ErrorKind, Result};
use crate::jose::jws::KeyReference;
use crate::pki::{CertificateChain, SigningRequest};
use crate::request::Finalize;
use crate::resource::order::{Order, OrderStatus};

/// A CA may say "valid" a moment before it says where the certificate is.
const LOOKS_FOR_CERTIFICATE: u32 = 3;

impl Session {
    /// Brings an order to `valid`, whatever state it is in, and gives the certificate's URL.
    pub(super) async fn finalize(
        &self,
        plan: &Plan,
        url: &str,
        mut order: Answered<Order>,
        account: &str,
    ) -> Result<String> {
        self.io.enter("finalize");
        let (mut polls, mut lacking) = (Polls::default(), 0);
        let place = |e: Error| e.doing("waiting for the certificate").at(url);
        let mut asked = false;
        loop {
            match order.value.status {
                // Sent again only after a look at the order has shown that it is still ready.
                OrderStatus::Ready if !asked => {
                    asked = true;
                    if let Some(answer) = self.ask(&plan.csr, url, &order.value, account).await? {
                        order = answer;
                        continue;
                    }
                }
                OrderStatus::Valid => match order.value.certificate.take() {
                    Some(certificate) => return Ok(certificate),
                    None if lacking == LOOKS_FOR_CERTIFICATE => {
                        let why = "the order is valid but names no certificate";
                        return Err(place(Error::protocol(why)));
                    }
                    None => lacking += 1,
                },
                OrderStatus::Invalid => return Err(invalid_order(&order.value, url)),
                OrderStatus::Unknown => {
                    return Err(place(Error::protocol("the order has no status of RFC 8555")));
                }
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {}
            }
            let delay = polls.next(order.retry_after, self.io.now()).map_err(place)?;
            self.io.sleep(delay).await.map_err(place)?;
            order = self.order(url, account).await?;
            order.value.check_identifiers(&plan.identifiers).map_err(place)?;
            asked = false;
        }
    }

    /// Sends the CSR. `None`: it is not known whether that took effect, or it was too early; the
    /// order will show.
    pub(crate) async fn ask(
        &self,
        csr: &SigningRequest,
        order_url: &str,
        order: &Order,
        account: &str,
    ) -> Result<Option<Answered<Order>>> {
        let finalize = order.finalize.as_deref().ok_or_else(|| {
            Error::protocol("the order is ready but has no finalize URL")
                .doing("finalizing the order")
                .at(order_url)
        })?;
        let call = Call { doing: "finalizing the order", url: finalize, repeatable: false };
        let payload = Finalize { csr: base64url::encode(csr.der()) };
        match self.submit(&call, KeyReference::Kid(account), &payload, "an order").await {
            Ok(order) => Ok(Some(order)),
            Err(error) if error.is_lost() || error.is_problem("orderNotReady") => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn download(&self, url: &str, account: &str) -> Result<CertificateChain> {
        self.io.enter("certificate");
        let call = Call { doing: "downloading the certificate", url, repeatable: true };
        let response = self.post(&call, KeyReference::Kid(account), b"").await?;
        CertificateChain::parse(&response.body)
            .map_err(|e| e.with_kind(ErrorKind::Certificate).doing(call.doing).at(url))
    }
}
