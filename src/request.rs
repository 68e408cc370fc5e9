//! What we say: the payloads of RFC 8555, apart from what the CA says (`resource`).

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::resource::identifier::Identifier;

/// A payload as it is signed.
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

/// newOrder, RFC 8555 section 7.4.
#[derive(Serialize)]
pub(crate) struct NewOrder<'a> {
    pub identifiers: &'a [Identifier],
}

/// Says that a challenge is ready: an empty object, RFC 8555 section 7.5.1.
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
