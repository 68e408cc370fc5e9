//! An authorization: the CA's view of one identifier. RFC 8555 section 7.1.4.

use serde::Deserialize;

use super::challenge::Challenge;
use super::identifier::Identifier;
use super::{lenient, lenient_list, states};

states! {
    /// An authorization's status.
    AuthorizationStatus {
        "pending" => Pending,
        "valid" => Valid,
        "invalid" => Invalid,
        "deactivated" => Deactivated,
        "expired" => Expired,
        "revoked" => Revoked,
    }
}

/// An authorization object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authorization {
    pub identifier: Identifier,
    #[serde(default)]
    pub status: AuthorizationStatus,
    #[serde(default, deserialize_with = "lenient")]
    pub expires: Option<String>,
    #[serde(default, deserialize_with = "lenient_list")]
    pub challenges: Vec<Challenge>,
    #[serde(default, deserialize_with = "lenient")]
    pub wildcard: Option<bool>,
}

impl Authorization {
    /// The identifier as the order names it: with "*." for a wildcard (RFC 8555 section 7.1.4).
    pub(crate) fn ordered_identifier(&self) -> Identifier {
        let mut identifier = self.identifier.canonical();
        if self.wildcard == Some(true) && !identifier.is_wildcard() {
            identifier.value.insert_str(0, "*.");
        }
        identifier
    }
}
