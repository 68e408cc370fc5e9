//! Options of an order, and the check of them before anything is sent.

use std::mem::take;
use std::time::Duration;

use super::ca_profiles;
use super::challenge::ChallengeType;
use super::client::Client;
use super::identifiers::IdentifierPlan;
use super::limits::DEFAULT_TIMEOUT;
use super::transcript::Line;
use crate::error::{Error, Result};
use crate::pki::{
    CertificateChain, ChainPreference, Key, KeyType, RequestedKey, SigningRequest, UnsignedRequest,
    same_names,
};
use crate::resource::identifier::Identifier;
use crate::time::Time;

/// The reason why a CSR without names is refused.
const NAMELESS: &str = "the csr has no subjectAltName and no common name with a name to certify";

/// Options of an order: the certificate, and the challenge types for its names.
#[derive(Clone, Debug)]
pub struct OrderOptions {
    /// DNS names, `*.` wildcards, IP addresses. Optional with `csr`.
    pub names: Vec<String>,
    /// Acceptable types of challenge, best first. Default: http-01.
    pub challenge_types: Vec<ChallengeType>,
    /// Challenge types of single names, in place of `challenge_types`.
    pub challenge_by_name: Vec<(String, ChallengeType)>,
    /// A name above some of `names` that is authorized in their place, if the CA supports that (RFC
    /// 9444).
    pub ancestor_domain: Option<String>,
    /// The certificate's key; store it first. Default: a fresh P-256 key.
    pub key: Option<Key>,
    /// A CSR that was made elsewhere; excludes `key`.
    pub csr: Option<SigningRequest>,
    /// Start of the certificate's validity; few CAs support it (RFC 8555 section 7.4).
    pub not_before: Option<Time>,
    /// End of the certificate's validity; few CAs support it.
    pub not_after: Option<Time>,
    /// The certificate's profile, one that the CA offers ([`Client::profiles`]).
    pub profile: Option<String>,
    /// Orders without the profile if the CA does not offer it or refuses it.
    pub profile_optional: bool,
    /// The certificate that is being renewed. The order names it if the CA supports that (RFC 9773
    /// section 5).
    pub replaces: Option<CertificateChain>,
    /// The preferred one of several chains. Default: the CA's own choice.
    pub preferred_chain: Option<ChainPreference>,
    /// Requests the TLS feature extension "must staple" (RFC 7633).
    pub must_staple: bool,
    /// The URL of an order to resume ([`Operation::order_url`](super::Operation::order_url)). A new
    /// order is placed if that order has failed or is gone, or is for other names or another key.
    pub order_url: Option<String>,
    /// Deactivates the order's other pending authorizations if a challenge fails or cannot be published:
    /// CAs limit how many an account may leave pending (RFC 8555 section 7.5.2). The order cannot be
    /// resumed then. After other failures, which a later try may repair, the authorizations stay.
    pub abandon_on_failure: bool,
    /// Timeout of the operation, not counting the time that publishing takes. Default: 600 s.
    pub timeout: Duration,
}

impl OrderOptions {
    /// The defaults for these names.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> OrderOptions {
        OrderOptions {
            names: names.into_iter().map(Into::into).collect(),
            challenge_types: vec![ChallengeType::Http01],
            challenge_by_name: Vec::new(),
            ancestor_domain: None,
            key: None,
            csr: None,
            not_before: None,
            not_after: None,
            profile: None,
            profile_optional: false,
            replaces: None,
            preferred_chain: None,
            must_staple: false,
            order_url: None,
            abandon_on_failure: false,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The options as a line of the transcript, without the key. The CSR is in a later line.
    pub(super) fn to_transcript(&self) -> Line {
        let types = self.challenge_types.iter().map(|kind| kind.as_str().to_owned());
        let by_name =
            self.challenge_by_name.iter().map(|(name, kind)| format!("{} {name}", kind.as_str()));
        let chain = self.preferred_chain.as_ref().map(|chain| format!("{chain:?}"));
        Line::default()
            .texts("names", &self.names)
            .texts("challenge_types", &types.collect::<Vec<_>>())
            .texts("challenge_by_name", &by_name.collect::<Vec<_>>())
            .text("ancestor_domain", self.ancestor_domain.as_deref())
            .number("not_before", self.not_before.map(Time::as_millis))
            .number("not_after", self.not_after.map(Time::as_millis))
            .text("profile", self.profile.as_deref())
            .flag("profile_optional", self.profile_optional)
            .text("replaces", self.replaces.as_ref().map(CertificateChain::pem))
            .text("chain", chain.as_deref())
            .text("order_url", self.order_url.as_deref())
            .flag("abandon_on_failure", self.abandon_on_failure)
    }

    /// Checks the options without the key and the CSR; returns what is ordered.
    pub(super) fn identifiers(&mut self, client: &Client) -> Result<IdentifierPlan> {
        let refuse = |why: &str| Err(Error::invalid_argument(why));
        let names = match &self.csr {
            Some(csr) if self.names.is_empty() && csr.names().is_empty() => {
                return refuse(NAMELESS);
            }
            Some(csr) if self.names.is_empty() => csr.names().to_vec(),
            _ => take(&mut self.names),
        };
        let identifiers = IdentifierPlan::new(
            &names,
            take(&mut self.challenge_types),
            &take(&mut self.challenge_by_name),
            self.ancestor_domain.take().as_deref(),
        )?;
        let ordered = &identifiers.ordered;
        if let Some(url) = &self.order_url {
            client.argument_url("order_url", url)?;
        }
        if self.timeout.is_zero() {
            return refuse("the time limit is zero");
        }
        if let (Some(start), Some(end)) = (self.not_before, self.not_after) {
            if end <= start {
                return refuse("not_after is not after not_before");
            }
        }
        ca_profiles::check(client.policy().directory().host(), self.profile.as_deref(), ordered)?;
        Ok(identifiers)
    }

    /// Refuses options that cannot work, before anything is sent.
    pub(super) fn plan(mut self, client: &Client) -> Result<Plan> {
        let refuse = |why: &str| Err(Error::invalid_argument(why));
        let identifiers = self.identifiers(client)?;
        let ordered = &identifiers.ordered;
        let request = match (self.key.take(), self.csr.take()) {
            (Some(_), Some(_)) => return refuse("a certificate key and a csr exclude each other"),
            (None, Some(_)) if self.must_staple => {
                return refuse("must_staple is for the maker of the csr to ask for");
            }
            (None, Some(csr)) => made_elsewhere(csr, ordered)?,
            (key, None) => {
                let key = key.map_or_else(|| Key::generate(KeyType::P256), Ok)?;
                let request = CertificateRequest::new(&key, ordered, self.must_staple)?;
                self.key = Some(key);
                request
            }
        };
        // RFC 8555 section 11.1: "the account key pair [must not be] the certificate's".
        if request.requested_key().key().public_eq(client.account_key().public_key()) {
            return refuse("the certificate's key is the account's key; use another one");
        }
        Ok(Plan { identifiers, request, options: Box::new(self) })
    }
}

/// A checked order.
pub(crate) struct Plan {
    pub identifiers: IdentifierPlan,
    pub request: CertificateRequest,
    /// The options after the check. The names, the challenge types and the CSR have moved to the
    /// members above. `key` is `None` only when the CSR was made elsewhere.
    pub options: Box<OrderOptions>,
}

/// The CSR to finalize with.
pub(crate) enum CertificateRequest {
    /// A CSR that was made elsewhere.
    Made(SigningRequest),
    /// A CSR that the key signs later, inside or outside the process.
    Unsigned(UnsignedRequest),
}

impl CertificateRequest {
    fn new(key: &Key, identifiers: &[Identifier], must_staple: bool) -> Result<CertificateRequest> {
        if identifiers.iter().any(Identifier::is_of_device) {
            let why = "a certificate for a device needs a csr that was made elsewhere";
            return Err(Error::invalid_argument(why));
        }
        let names: Vec<String> = identifiers.iter().map(|id| id.value.clone()).collect();
        let request = UnsignedRequest::new(key, &names, must_staple)?;
        Ok(CertificateRequest::Unsigned(request))
    }

    pub(super) fn requested_key(&self) -> &RequestedKey {
        match self {
            CertificateRequest::Made(request) => request.requested_key(),
            CertificateRequest::Unsigned(request) => request.requested_key(),
        }
    }
}

/// Checks a CSR that was made elsewhere: it must be for the names of the order. Identifiers of devices
/// are not checked; only its maker and the CA understand them.
fn made_elsewhere(csr: SigningRequest, identifiers: &[Identifier]) -> Result<CertificateRequest> {
    match are_names_of(identifiers, csr.names())? {
        true => Ok(CertificateRequest::Made(csr)),
        false if csr.names().is_empty() => Err(Error::invalid_argument(NAMELESS)),
        false => {
            let why = "the names of the csr are not the names of the order";
            Err(Error::invalid_argument(why))
        }
    }
}

pub(super) fn are_names_of(identifiers: &[Identifier], names: &[String]) -> Result<bool> {
    let named = names.iter().map(|name| Identifier::from_name(name));
    let named = named.collect::<Result<Vec<_>>>()?;
    let ordered = identifiers.iter().filter(|id| !id.is_of_device());
    Ok(same_names(
        ordered.map(Identifier::pair).collect(),
        named.iter().map(Identifier::pair).collect(),
    ))
}
