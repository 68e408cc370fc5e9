//! What certificate is wanted: options, checked before anything is sent.

use std::time::Duration;

use openssl::pkey::{PKey, Public};

use super::challenge::ChallengeType;
use super::client::{Client, TIME_LIMIT};
use super::limits;
use crate::error::{Error, Result};
use crate::pki::{
    CertificateChain, ChainPreference, Key, KeyType, SigningRequest, UnsignedRequest, same_names,
};
use crate::resource::identifier::Identifier;
use crate::time::Time;

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
    /// When the certificate is to start and to stop being valid; few CAs take it (RFC 8555 section
    /// 7.4).
    pub not_before: Option<Time>,
    /// See `not_before`.
    pub not_after: Option<Time>,
    /// A profile that the CA offers ([`Client::profiles`]).
    pub profile: Option<String>,
    /// Go on without the profile when the CA does not offer it or refuses it.
    pub profile_optional: bool,
    /// The certificate that is being renewed: named in the order (RFC 9773 section 5), where the CA
    /// takes that.
    pub replaces: Option<CertificateChain>,
    /// Which of several chains is wanted. Default: the CA's own choice.
    pub chain: Option<ChainPreference>,
    /// Ask for the TLS feature extension "must staple" (RFC 7633).
    pub must_staple: bool,
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
            not_before: None,
            not_after: None,
            profile: None,
            profile_optional: false,
            replaces: None,
            chain: None,
            must_staple: false,
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
        if let (Some(start), Some(end)) = (self.not_before, self.not_after) {
            if end <= start {
                return refuse("not_after is not after not_before");
            }
        }
        limits::check(client.policy().directory().host(), self.profile.as_deref(), &identifiers)?;
        let (key, request) = match (self.key, self.csr) {
            (Some(_), Some(_)) => return refuse("a certificate key and a csr exclude each other"),
            (None, Some(_)) if self.must_staple => {
                return refuse("must_staple is for the maker of the csr to ask for");
            }
            (None, Some(csr)) => {
                if !same_names(&identifiers, &canonical(csr.names())?) {
                    return refuse("the names of the csr are not the names of the order");
                }
                (None, CertificateRequest::Made(csr))
            }
            (key, None) => {
                let key = key.map_or_else(|| Key::generate(KeyType::P256), Ok)?;
                let names: Vec<String> = identifiers.iter().map(|id| id.value.clone()).collect();
                let request = UnsignedRequest::new(&key, &names, self.must_staple)?;
                (Some(key), CertificateRequest::Unsigned(request))
            }
        };
        // RFC 8555 section 11.1: "the account key pair [must not be] the certificate's".
        if request.public_key().public_eq(client.account_key().public_key()) {
            return refuse("the certificate's key is the account's key; use another one");
        }
        Ok(Plan {
            identifiers,
            challenge_types: self.challenge_types,
            key,
            request,
            order_url: self.order_url,
            not_before: self.not_before,
            not_after: self.not_after,
            profile: self.profile,
            profile_optional: self.profile_optional,
            replaces: self.replaces,
            chain: self.chain,
        })
    }
}

/// An order that can work.
pub(crate) struct Plan {
    pub identifiers: Vec<Identifier>,
    pub challenge_types: Vec<ChallengeType>,
    pub key: Option<Key>,
    pub request: CertificateRequest,
    pub order_url: Option<String>,
    pub not_before: Option<Time>,
    pub not_after: Option<Time>,
    pub profile: Option<String>,
    pub profile_optional: bool,
    pub replaces: Option<CertificateChain>,
    pub chain: Option<ChainPreference>,
}

/// The request to finalize with.
pub(crate) enum CertificateRequest {
    /// Made elsewhere.
    Made(SigningRequest),
    /// To be signed by the key, wherever that is.
    Unsigned(UnsignedRequest),
}

impl CertificateRequest {
    pub(super) fn public_key(&self) -> &PKey<Public> {
        match self {
            CertificateRequest::Made(request) => request.public_key(),
            CertificateRequest::Unsigned(request) => request.key().public_key(),
        }
    }
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
