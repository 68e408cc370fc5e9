//! Obtaining a certificate, from order to download. RFC 8555 sections 7.1 and 7.4.

use std::time::Duration;

use super::challenge::ChallengeType;
use super::client::{Client, TIME_LIMIT};
use super::exchange::{Answered, Call, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::jose::jws::KeyReference;
use crate::pki::{CertificateChain, Key, KeyType, SigningRequest};
use crate::request::NewOrder;
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};

/// More than any CA takes.
const MAX_NAMES: usize = 1000;

/// What certificate is wanted, and how to prove the right to it.
#[derive(Clone, Debug)]
pub struct OrderOptions {
    /// DNS names, `*.` wildcards, IP addresses. With `csr` they may be left out.
    pub names: Vec<String>,
    /// Acceptable types of challenge, best first. Default: http-01.
    pub challenge_types: Vec<ChallengeType>,
    /// The certificate's key, stored before; default: a fresh P-256 key.
    pub key: Option<Key>,
    /// A request made elsewhere; excludes `key`.
    pub csr: Option<SigningRequest>,
    /// Resume the order at this URL ([`Operation::order_url`](super::Operation::order_url)).
    pub order_url: Option<String>,
    /// Give up after this long, the time that publishing takes not counted. Default: 600 s.
    pub time_limit: Duration,
}

impl OrderOptions {
    /// The defaults for these names.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> OrderOptions {
        OrderOptions {
            names: names.into_iter().map(Into::into).collect(),
            challenge_types: vec![ChallengeType::Http01],
            key: None,
            csr: None,
            order_url: None,
            time_limit: TIME_LIMIT,
        }
    }

    /// Refuses what cannot work, before anything is sent.
    pub(super) fn plan(self, client: &Client) -> Result<Plan> {
        let refuse = |why: &str| Err(Error::invalid_argument(why));
        let names = match &self.csr {
            Some(csr) if self.names.is_empty() => csr.names().to_vec(),
            _ => self.names,
        };
        let identifiers = canonical(&names)?;
        if self.challenge_types.is_empty() {
            return refuse("there is no challenge type to choose from");
        }
        for identifier in &identifiers {
            if !self.challenge_types.iter().any(|kind| can_prove(*kind, identifier)) {
                let why = match identifier.is_wildcard() {
                    true => "a wildcard can be proven by dns-01 only",
                    false => "an IP address cannot be proven by dns-01",
                };
                return Err(Error::invalid_argument(format!("{}: {why}", identifier.value))
                    .about(&identifier.value));
            }
        }
        if let Some(url) = &self.order_url {
            client
                .policy()
                .check(url)
                .map_err(|e| Error::invalid_argument(format!("order_url: {e}")))?;
        }
        if self.time_limit.is_zero() {
            return refuse("the time limit is zero");
        }
        let (key, csr) = match (self.key, self.csr) {
            (Some(_), Some(_)) => return refuse("a certificate key and a csr exclude each other"),
            (None, Some(csr)) => {
                let mut asked = identifiers.clone();
                let mut named = canonical(csr.names())?;
                asked.sort_unstable();
                named.sort_unstable();
                if asked != named {
                    return refuse("the names of the csr are not the names of the order");
                }
                (None, csr)
            }
            (key, None) => {
                let key = key.map_or_else(|| Key::generate(KeyType::P256), Ok)?;
                let values: Vec<String> = identifiers.iter().map(|id| id.value.clone()).collect();
                let csr = SigningRequest::create(&key, &values)?;
                (Some(key), csr)
            }
        };
        // RFC 8555 section 11.1: "the account key pair [must not be] the certificate's".
        if csr.public_key().public_eq(client.account_key().pkey()) {
            return refuse("the certificate's key is the account's key; use another one");
        }
        Ok(Plan {
            identifiers,
            challenge_types: self.challenge_types,
            key,
            csr,
            order_url: self.order_url,
        })
    }
}

/// An order that can work.
pub(crate) struct Plan {
    pub identifiers: Vec<Identifier>,
    pub challenge_types: Vec<ChallengeType>,
    pub key: Option<Key>,
    pub csr: SigningRequest,
    pub order_url: Option<String>,
}

fn canonical(names: &[String]) -> Result<Vec<Identifier>> {
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(Error::invalid_argument(format!(
            "an order has 1 to {MAX_NAMES} names, not {}",
            names.len()
        )));
    }
    let mut identifiers: Vec<Identifier> = Vec::with_capacity(names.len());
    for name in names {
        let identifier = Identifier::from_name(name)?;
        if identifiers.contains(&identifier) {
            let why = format!("the name {} stands twice in the order", identifier.value);
            return Err(Error::invalid_argument(why).about(&identifier.value));
        }
        identifiers.push(identifier);
    }
    Ok(identifiers)
}

/// RFC 8555 sections 8.3 and 8.4, RFC 8737 section 3, RFC 8738 section 7.
pub(super) fn can_prove(kind: ChallengeType, identifier: &Identifier) -> bool {
    match kind {
        ChallengeType::Dns01 => identifier.type_ == "dns",
        ChallengeType::Http01 | ChallengeType::TlsAlpn01 => !identifier.is_wildcard(),
    }
}

/// A certificate as it was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain, checked: its key is the one asked for, its names are the order's.
    pub chain: CertificateChain,
    /// Its private key; `None` when a CSR was made elsewhere.
    pub key: Option<Key>,
    /// The order it comes from.
    pub order_url: String,
}

impl Session {
    /// The whole of an issuance.
    pub(crate) async fn obtain(&self, plan: Plan) -> Result<Issued> {
        let mut account = self.account_url().await?;
        let resumed = plan.order_url.is_some();
        let (url, order) = match &plan.order_url {
            Some(url) => (url.clone(), self.order(url, &account).await?),
            None => match self.new_order(&plan.identifiers, &account).await {
                Err(error) if error.kind() == ErrorKind::Account => {
                    // The CA has lost the account (Pebble does at each start): once more, from the
                    // beginning, with the same key.
                    self.client.set_account_url(None);
                    account = self.account_url().await?;
                    self.new_order(&plan.identifiers, &account).await?
                }
                outcome => outcome?,
            },
        };
        // Some CAs give out an old order again, finished with a key that we may not have.
        let reused = !resumed && order.value.status == OrderStatus::Valid;
        match self.complete(&plan, url, order, &account).await {
            Err(error) if reused && error.kind() == ErrorKind::Certificate => {
                log::warn!("{error}; ordering once more");
                let (url, order) = self.new_order(&plan.identifiers, &account).await?;
                self.complete(&plan, url, order, &account).await
            }
            outcome => outcome,
        }
    }

    /// newOrder. When the answer is lost it is sent once more: a CA that made the order twice keeps
    /// one that nobody uses, and many give out the first one again.
    pub(crate) async fn new_order(
        &self,
        identifiers: &[Identifier],
        account: &str,
    ) -> Result<(String, Answered<Order>)> {
        let directory = self.directory().await?;
        self.io.enter("order");
        let call =
            Call { doing: "creating the order", url: directory.new_order()?, repeatable: false };
        let payload = NewOrder { identifiers };
        let submit = || self.submit(&call, KeyReference::Kid(account), &payload, "an order");
        let order: Answered<Order> = match submit().await {
            Err(error) if error.is_lost() => {
                self.io.sleep(Duration::from_secs(1)).await.map_err(|e| e.after(&error))?;
                submit().await?
            }
            outcome => outcome?,
        };
        let url = order.created_at(self, &call)?;
        self.io.note_order(&url);
        Ok((url, order))
    }

    pub(crate) async fn order(&self, url: &str, account: &str) -> Result<Answered<Order>> {
        self.io.note_order(url);
        self.fetch("fetching the order", url, account, "an order").await
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
        order.value.check_identifiers(&plan.identifiers).map_err(at)?;
        let order = match order.value.status {
            OrderStatus::Pending => self.authorize(plan, &url, &order.value, account).await?,
            _ => order,
        };
        let certificate = self.finalize(plan, &url, order, account).await?;
        let chain = self.download(&certificate, account).await?;
        let check = || {
            if !chain.is_for(plan.csr.public_key()) {
                let why = "the CA issued a certificate for a key that is not ours";
                return Err(Error::new(ErrorKind::Certificate, why));
            }
            let names: Vec<String> = plan.identifiers.iter().map(|id| id.value.clone()).collect();
            chain.verify(&names)
        };
        check().map_err(|e| e.doing("checking the certificate").at(&certificate))?;
        Ok(Issued { chain, key: plan.key.clone(), order_url: url })
    }
}
