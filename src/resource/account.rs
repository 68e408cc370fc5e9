//! An account as the CA shows it. RFC 8555 section 7.1.2.

use serde::Deserialize;

use super::{lenient, lenient_list, states};

states! {
    /// An account's status.
    AccountStatus { "valid" => Valid, "deactivated" => Deactivated, "revoked" => Revoked }
}

/// An account object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    #[serde(default, deserialize_with = "lenient")]
    pub status: Option<AccountStatus>,
    #[serde(default, deserialize_with = "lenient_list")]
    pub contact: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub terms_of_service_agreed: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    pub orders: Option<String>,
}
