//! The payloads of requests (RFC 8555). The objects of responses are in `resource`.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::resource::identifier::Identifier;

/// Returns a payload as JSON, for signing.
pub(crate) fn json(payload: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(payload)
        .map_err(|error| Error::new(ErrorKind::Panic, format!("cannot serialize: {error}")))
}

/// newAccount, RFC 8555 section 7.3.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewAccount<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub contact: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_return_existing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<Box<RawValue>>,
}

impl NewAccount<'_> {
    /// Finds an account and creates none, RFC 8555 section 7.3.1.
    pub(crate) fn find() -> NewAccount<'static> {
        NewAccount {
            contact: &[],
            terms_of_service_agreed: false,
            only_return_existing: true,
            external_account_binding: None,
        }
    }
}

/// A change of contacts, RFC 8555 section 7.3.2. An empty list removes them all.
#[derive(Serialize)]
pub(crate) struct UpdateContacts<'a> {
    pub contact: &'a [String],
}

/// Deactivation of an account or an authorization, RFC 8555 sections 7.3.6 and 7.5.2.
#[derive(Serialize)]
pub(crate) struct Deactivate {
    pub status: &'static str,
}

impl Deactivate {
    pub(crate) fn new() -> Deactivate {
        Deactivate { status: "deactivated" }
    }
}

/// The inner payload of a key change, RFC 8555 section 7.3.5.
#[derive(Serialize)]
pub(crate) struct KeyChange<'a> {
    pub account: &'a str,
    #[serde(rename = "oldKey")]
    pub old_key: Box<RawValue>,
}

/// An identifier in a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Named<'a> {
    #[serde(flatten)]
    pub identifier: &'a Identifier,
    /// The parent domain to validate in its place, RFC 9444 section 4.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ancestor_domain: Option<&'a str>,
    /// The authorization covers subdomains, too, RFC 9444 section 4.2.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub subdomain_auth_allowed: bool,
}

impl<'a> Named<'a> {
    /// An identifier without options.
    pub(crate) fn plain(identifier: &'a Identifier) -> Named<'a> {
        Named { identifier, ancestor_domain: None, subdomain_auth_allowed: false }
    }
}

/// newAuthz, RFC 8555 section 7.4.1.
#[derive(Serialize)]
pub(crate) struct NewAuthorization<'a> {
    pub identifier: Named<'a>,
}

/// newOrder, RFC 8555 section 7.4.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewOrder<'a> {
    pub identifiers: Vec<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// RFC 9773 section 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<&'a str>,
    /// draft-ietf-acme-profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<&'a str>,
}

/// Says that a challenge is ready: an empty object, RFC 8555 section 7.5.1.
#[cfg(feature = "http")]
#[derive(Serialize)]
pub(crate) struct Respond {}

/// Finalize, RFC 8555 section 7.4.
#[derive(Serialize)]
pub(crate) struct Finalize {
    /// The request as DER in base64url.
    pub csr: String,
}

/// Revocation, RFC 8555 section 7.6.
#[derive(Serialize)]
pub(crate) struct Revoke {
    /// The certificate as DER in base64url.
    pub certificate: String,
    pub reason: u32,
}
