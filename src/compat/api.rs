//! The CA's resources as plain structs: the module `api` of acme-micro 0.14.
//!
//! RFC 8555 section 7.1. Reading is tolerant: a text that a CA omits is empty.
#![allow(non_snake_case, non_camel_case_types)]

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::problem::Problem;
use crate::resource::account::Account;
use crate::resource::authorization::{Authorization, AuthorizationStatus};
use crate::resource::challenge::{Challenge, ChallengeStatus};
use crate::resource::directory::{Directory, Meta};
use crate::resource::identifier::Identifier;
use crate::resource::order::{Order, OrderStatus};

/// Reads a member; null counts as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Returns a status as text; `None` if it is missing, or unknown to RFC 8555 (section 7.1.6).
fn known<T: PartialEq>(status: T, unknown: T, text: &str) -> Option<String> {
    (status != unknown).then(|| text.to_owned())
}

/// The type of a problem without one (RFC 9457 section 3.1).
fn about_blank() -> String {
    "about:blank".to_owned()
}

/// The payload of POST-as-GET: the empty string (RFC 8555 section 6.3).
pub struct ApiEmptyString;

impl Serialize for ApiEmptyString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

/// The payload of the response to a challenge: the empty object (RFC 8555 section 7.5.1).
pub struct ApiEmptyObject;

impl Serialize for ApiEmptyObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(std::iter::empty::<((), ())>())
    }
}

/// A problem document (RFC 9457; RFC 8555 section 6.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ApiProblem {
    /// The type URN.
    #[serde(rename = "type", default = "about_blank")]
    pub _type: String,
    /// The CA's text for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The problems of single identifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subproblems: Option<Vec<ApiSubproblem>>,
}

impl ApiProblem {
    /// Is it about a nonce that was not good?
    pub fn is_bad_nonce(&self) -> bool {
        self._type == "urn:ietf:params:acme:error:badNonce"
    }

    /// Is it about a signature that did not verify, in the words of Let's Encrypt?
    pub fn is_jwt_verification_error(&self) -> bool {
        (self._type == "urn:acme:error:malformed"
            || self._type == "urn:ietf:params:acme:error:malformed")
            && self.detail.as_deref() == Some("JWS verification error")
    }
}

/// `type: detail`.
impl fmt::Display for ApiProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self._type),
            None => f.write_str(&self._type),
        }
    }
}

impl From<ApiProblem> for anyhow::Error {
    fn from(problem: ApiProblem) -> anyhow::Error {
        // The error has the problem's text, and `downcast_ref` returns the problem.
        anyhow::Error::msg(problem)
    }
}

impl From<&Problem> for ApiProblem {
    fn from(problem: &Problem) -> ApiProblem {
        let subproblems = problem.subproblems().iter().map(ApiSubproblem::from);
        ApiProblem {
            _type: problem.type_urn().to_owned(),
            detail: problem.detail().map(str::to_owned),
            subproblems: Some(subproblems.collect()).filter(|list: &Vec<_>| !list.is_empty()),
        }
    }
}

/// A part of a problem document (RFC 8555 section 6.7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ApiSubproblem {
    /// The type URN.
    #[serde(rename = "type", default = "about_blank")]
    pub _type: String,
    /// The CA's text for a person.
    pub detail: Option<String>,
    /// The identifier that it is about.
    pub identifier: Option<ApiIdentifier>,
}

impl From<&Problem> for ApiSubproblem {
    fn from(problem: &Problem) -> ApiSubproblem {
        let identifier = |value: &str| Identifier::from_name(value).ok().map(ApiIdentifier::from);
        ApiSubproblem {
            _type: problem.type_urn().to_owned(),
            detail: problem.detail().map(str::to_owned),
            identifier: problem.identifier().and_then(identifier),
        }
    }
}

/// The directory (RFC 8555 section 7.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ApiDirectory {
    /// URL of new nonces.
    #[serde(default, deserialize_with = "or_default")]
    pub newNonce: String,
    /// URL to create accounts.
    #[serde(default, deserialize_with = "or_default")]
    pub newAccount: String,
    /// URL to create orders.
    #[serde(default, deserialize_with = "or_default")]
    pub newOrder: String,
    /// URL to create authorizations without an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newAuthz: Option<String>,
    /// URL to revoke certificates.
    #[serde(default, deserialize_with = "or_default")]
    pub revokeCert: String,
    /// URL to change account keys.
    #[serde(default, deserialize_with = "or_default")]
    pub keyChange: String,
    /// More about the CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<ApiDirectoryMeta>,
}

impl From<&Directory> for ApiDirectory {
    fn from(directory: &Directory) -> ApiDirectory {
        let text = |url: &Option<String>| url.clone().unwrap_or_default();
        ApiDirectory {
            newNonce: text(&directory.new_nonce),
            newAccount: text(&directory.new_account),
            newOrder: text(&directory.new_order),
            newAuthz: directory.new_authz.clone(),
            revokeCert: text(&directory.revoke_cert),
            keyChange: text(&directory.key_change),
            meta: directory.meta.as_ref().map(ApiDirectoryMeta::from),
        }
    }
}

/// The directory's `meta` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ApiDirectoryMeta {
    /// The terms of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termsOfService: Option<String>,
    /// The CA's web site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// Names that mean this CA in CAA records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caaIdentities: Option<Vec<String>>,
    /// Does a new account need an external account binding?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub externalAccountRequired: Option<bool>,
}

impl ApiDirectoryMeta {
    /// Does a new account need an external account binding?
    pub fn externalAccountRequired(&self) -> bool {
        self.externalAccountRequired.unwrap_or(false)
    }
}

impl From<&Meta> for ApiDirectoryMeta {
    fn from(meta: &Meta) -> ApiDirectoryMeta {
        ApiDirectoryMeta {
            termsOfService: meta.terms_of_service.clone(),
            website: meta.website.clone(),
            caaIdentities: meta.caa_identities.clone(),
            externalAccountRequired: meta.external_account_required,
        }
    }
}

/// An account (RFC 8555 section 7.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ApiAccount {
    /// `valid`, `deactivated` or `revoked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Contact URLs.
    #[serde(default, deserialize_with = "or_default")]
    pub contact: Vec<String>,
    /// Has it agreed to the terms of service?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termsOfServiceAgreed: Option<bool>,
    /// URL of the list of its orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orders: Option<String>,
}

impl ApiAccount {
    /// Is it valid?
    pub fn is_status_valid(&self) -> bool {
        self.status.as_deref() == Some("valid")
    }

    /// Has it been deactivated by its owner?
    pub fn is_status_deactivated(&self) -> bool {
        self.status.as_deref() == Some("deactivated")
    }

    /// Has it been revoked by the CA?
    pub fn is_status_revoked(&self) -> bool {
        self.status.as_deref() == Some("revoked")
    }

    /// Has it agreed to the terms of service?
    pub fn termsOfServiceAgreed(&self) -> bool {
        self.termsOfServiceAgreed.unwrap_or(false)
    }
}

impl From<&Account> for ApiAccount {
    fn from(account: &Account) -> ApiAccount {
        ApiAccount {
            status: account.status.map(|status| status.as_str().to_owned()),
            contact: account.contact.clone(),
            termsOfServiceAgreed: account.terms_of_service_agreed,
            orders: account.orders.clone(),
        }
    }
}

/// An order (RFC 8555 section 7.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ApiOrder {
    /// `pending`, `ready`, `processing`, `valid` or `invalid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Time when the order expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The identifier, or the identifiers, that it is for.
    #[serde(default, deserialize_with = "or_default")]
    pub identifiers: Vec<ApiIdentifier>,
    /// Requested start of the certificate's validity.
    pub notBefore: Option<String>,
    /// Requested end of the certificate's validity.
    pub notAfter: Option<String>,
    /// Reason why it is invalid.
    pub error: Option<ApiProblem>,
    /// URLs of its authorizations.
    pub authorizations: Option<Vec<String>>,
    /// URL to finalize it.
    #[serde(default, deserialize_with = "or_default")]
    pub finalize: String,
    /// URL of the certificate.
    pub certificate: Option<String>,
}

impl ApiOrder {
    /// Does it wait for authorizations?
    pub fn is_status_pending(&self) -> bool {
        self.status.as_deref() == Some("pending")
    }

    /// Can it be finalized?
    pub fn is_status_ready(&self) -> bool {
        self.status.as_deref() == Some("ready")
    }

    /// Is the certificate being issued?
    pub fn is_status_processing(&self) -> bool {
        self.status.as_deref() == Some("processing")
    }

    /// Has the certificate been issued?
    pub fn is_status_valid(&self) -> bool {
        self.status.as_deref() == Some("valid")
    }

    /// Has it failed?
    pub fn is_status_invalid(&self) -> bool {
        self.status.as_deref() == Some("invalid")
    }

    /// The names that it is for.
    pub fn domains(&self) -> Vec<&str> {
        self.identifiers.iter().map(|identifier| identifier.value.as_str()).collect()
    }
}

impl From<&Order> for ApiOrder {
    fn from(order: &Order) -> ApiOrder {
        ApiOrder {
            status: known(order.status, OrderStatus::Unknown, order.status.as_str()),
            expires: order.expires.clone(),
            identifiers: order.identifiers.iter().cloned().map(ApiIdentifier::from).collect(),
            notBefore: order.not_before.clone(),
            notAfter: order.not_after.clone(),
            error: order.error.as_ref().map(ApiProblem::from),
            authorizations: Some(order.authorizations.clone()),
            finalize: order.finalize.clone().unwrap_or_default(),
            certificate: order.certificate.clone(),
        }
    }
}

/// An identifier (RFC 8555 section 9.7.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiIdentifier {
    /// `dns` or `ip`.
    #[serde(rename = "type")]
    pub _type: String,
    /// The name or address.
    pub value: String,
}

impl ApiIdentifier {
    /// Is it a DNS name?
    pub fn is_type_dns(&self) -> bool {
        self._type == "dns"
    }
}

impl From<Identifier> for ApiIdentifier {
    fn from(identifier: Identifier) -> ApiIdentifier {
        ApiIdentifier { _type: identifier.type_, value: identifier.value }
    }
}

/// An authorization (RFC 8555 section 7.1.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiAuth {
    /// The identifier, or the identifiers, that it is for.
    pub identifier: ApiIdentifier,
    /// `pending`, `valid`, `invalid`, `deactivated`, `expired` or `revoked`.
    pub status: Option<String>,
    /// Time when it expires.
    pub expires: Option<String>,
    /// The challenges that the CA offers.
    #[serde(default, deserialize_with = "or_default")]
    pub challenges: Vec<ApiChallenge>,
    /// Is it for a wildcard?
    pub wildcard: Option<bool>,
}

impl ApiAuth {
    /// Does it wait for a challenge?
    pub fn is_status_pending(&self) -> bool {
        self.status.as_deref() == Some("pending")
    }

    /// Is it valid?
    pub fn is_status_valid(&self) -> bool {
        self.status.as_deref() == Some("valid")
    }

    /// Has a challenge failed?
    pub fn is_status_invalid(&self) -> bool {
        self.status.as_deref() == Some("invalid")
    }

    /// Has it been deactivated by the account?
    pub fn is_status_deactivated(&self) -> bool {
        self.status.as_deref() == Some("deactivated")
    }

    /// Has it ended?
    pub fn is_status_expired(&self) -> bool {
        self.status.as_deref() == Some("expired")
    }

    /// Has it been revoked by the CA?
    pub fn is_status_revoked(&self) -> bool {
        self.status.as_deref() == Some("revoked")
    }

    /// Is it for a wildcard?
    pub fn wildcard(&self) -> bool {
        self.wildcard.unwrap_or(false)
    }

    /// The http-01 challenge.
    pub fn http_challenge(&self) -> Option<&ApiChallenge> {
        self.challenge("http-01")
    }

    /// The dns-01 challenge.
    pub fn dns_challenge(&self) -> Option<&ApiChallenge> {
        self.challenge("dns-01")
    }

    /// The tls-alpn-01 challenge.
    pub fn tls_alpn_challenge(&self) -> Option<&ApiChallenge> {
        self.challenge("tls-alpn-01")
    }

    fn challenge(&self, kind: &str) -> Option<&ApiChallenge> {
        self.challenges.iter().find(|challenge| challenge._type == kind)
    }
}

impl From<&Authorization> for ApiAuth {
    fn from(authorization: &Authorization) -> ApiAuth {
        let status = authorization.status;
        ApiAuth {
            identifier: authorization.identifier.clone().into(),
            status: known(status, AuthorizationStatus::Unknown, status.as_str()),
            expires: authorization.expires.clone(),
            challenges: authorization.challenges.iter().map(ApiChallenge::from).collect(),
            wildcard: authorization.wildcard,
        }
    }
}

/// A challenge (RFC 8555 section 7.1.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiChallenge {
    /// URL to respond at.
    pub url: String,
    /// Its type, such as `http-01`.
    #[serde(rename = "type")]
    pub _type: String,
    /// `pending`, `processing`, `valid` or `invalid`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// The token; empty for types that have none.
    #[serde(default, deserialize_with = "or_default")]
    pub token: String,
    /// When it was validated.
    pub validated: Option<String>,
    /// Why it failed.
    pub error: Option<ApiProblem>,
}

impl ApiChallenge {
    /// Is it pending?
    pub fn is_status_pending(&self) -> bool {
        self.status == "pending"
    }

    /// Is the CA validating it?
    pub fn is_status_processing(&self) -> bool {
        self.status == "processing"
    }

    /// Has it succeeded?
    pub fn is_status_valid(&self) -> bool {
        self.status == "valid"
    }

    /// Has it failed?
    pub fn is_status_invalid(&self) -> bool {
        self.status == "invalid"
    }
}

impl From<&Challenge> for ApiChallenge {
    fn from(challenge: &Challenge) -> ApiChallenge {
        let status = challenge.status;
        ApiChallenge {
            url: challenge.url.clone(),
            _type: challenge.type_.clone(),
            status: known(status, ChallengeStatus::Unknown, status.as_str()).unwrap_or_default(),
            token: challenge.token.clone().unwrap_or_default(),
            validated: challenge.validated.clone(),
            error: challenge.error.as_ref().map(ApiProblem::from),
        }
    }
}

/// The payload of finalize (RFC 8555 section 7.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFinalize {
    /// The CSR as DER in base64url.
    pub csr: String,
}

/// The payload of a revocation (RFC 8555 section 7.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRevocation {
    /// The certificate as DER in base64url.
    pub certificate: String,
    /// The reason code (RFC 5280 section 5.3.1).
    pub reason: usize,
}
