//! An order, one type for each of its states: the module `order` of acme-micro 0.14. RFC 8555
//! section 7.4.

use std::time::Duration;

use anyhow::Context as _;
use openssl::pkey::{self, PKey};

use super::api::ApiOrder;
pub use super::authorization::{Auth, Challenge};
use super::certificate::Certificate;
use super::runner::{Runner, to_anyhow};
use crate::pki::{Key, SigningRequest};
use crate::resource::order::{Order, OrderStatus};

/// An order with its URL.
struct Placed {
    runner: Runner,
    url: String,
    order: Order,
    api: ApiOrder,
}

impl Placed {
    fn new(runner: Runner, url: String, order: Order) -> Placed {
        let api = ApiOrder::from(&order);
        Placed { runner, url, order, api }
    }

    fn copy(&self) -> Placed {
        Placed::new(self.runner.clone(), self.url.clone(), self.order.clone())
    }
}

/// An order that waits for its authorizations.
pub struct NewOrder(Placed);

impl NewOrder {
    pub(super) fn new(runner: Runner, url: String, order: Order) -> NewOrder {
        NewOrder(Placed::new(runner, url, order))
    }

    /// Whether all authorizations were valid at the last [`NewOrder::refresh`].
    pub fn is_validated(&self) -> bool {
        matches!(self.0.order.status, OrderStatus::Ready | OrderStatus::Valid)
    }

    /// The order for the next step, if all authorizations are valid.
    pub fn confirm_validations(&self) -> Option<CsrOrder> {
        self.is_validated().then(|| CsrOrder(self.0.copy()))
    }

    /// Fetches the order again.
    pub fn refresh(&mut self) -> anyhow::Result<()> {
        let url = self.0.url.clone();
        let order =
            self.0.runner.run(move |session| async move { session.fetch_order(&url).await })?;
        self.0 = Placed::new(self.0.runner.clone(), self.0.url.clone(), order);
        Ok(())
    }

    /// The authorizations, one for each name.
    pub fn authorizations(&self) -> anyhow::Result<Vec<Auth>> {
        let order = self.0.order.clone();
        let authorizations =
            self.0.runner.run(|session| async move { session.authorizations(&order).await })?;
        let auth = |(url, authorization)| Auth::new(self.0.runner.clone(), url, &authorization);
        Ok(authorizations.into_iter().map(auth).collect())
    }

    /// The order object of the CA.
    pub fn api_order(&self) -> &ApiOrder {
        &self.0.api
    }
}

/// An order that is ready for a certificate request.
pub struct CsrOrder(Placed);

impl CsrOrder {
    /// Finalizes the order with a private key given as PEM; see [`CsrOrder::finalize_pkey`].
    pub fn finalize(self, private_key_pem: &str, delay: Duration) -> anyhow::Result<CertOrder> {
        let key =
            Key::parse(private_key_pem.as_bytes()).context("Error reading private key PEM")?;
        self.finalize_key(&key, delay)
    }

    /// Finalizes the order: requests the certificate for this key, and polls every `delay`, or with
    /// the delay of the CA's Retry-After, until it is issued; for 600 seconds at most.
    pub fn finalize_pkey(
        self,
        private_key: PKey<pkey::Private>,
        delay: Duration,
    ) -> anyhow::Result<CertOrder> {
        self.finalize_key(&Key::from_pkey(private_key)?, delay)
    }

    fn finalize_key(self, key: &Key, delay: Duration) -> anyhow::Result<CertOrder> {
        let Placed { runner, url, order, .. } = self.0;
        let names: Vec<String> = order.identifiers.iter().map(|id| id.value.clone()).collect();
        let csr = SigningRequest::create(key, &names)?;
        let (at, request) = (url.clone(), csr.clone());
        let order = runner.run(move |session| async move {
            session.finalize_order(&request, &at, &order, delay).await
        })?;
        if order.status != OrderStatus::Valid {
            let text = format!("Order is in status: {:?}", ApiOrder::from(&order).status);
            return Err(to_anyhow(order.not_valid(&url)).context(text));
        }
        Ok(CertOrder { placed: Placed::new(runner, url, order), key: key.clone(), csr })
    }

    /// The order object of the CA.
    pub fn api_order(&self) -> &ApiOrder {
        &self.0.api
    }
}

/// An order whose certificate has been issued.
pub struct CertOrder {
    placed: Placed,
    key: Key,
    csr: SigningRequest,
}

impl CertOrder {
    /// Downloads the certificate, and checks its key and its names.
    pub fn download_cert(self) -> anyhow::Result<Certificate> {
        let (order, csr) = (self.placed.order, self.csr);
        let chain = self
            .placed
            .runner
            .run(|session| async move { session.certificate_of(&order, &csr).await })?;
        Ok(Certificate::new(self.key.to_pem()?, chain.pem().to_owned()))
    }

    /// The order object of the CA.
    pub fn api_order(&self) -> &ApiOrder {
        &self.placed.api
    }
}
