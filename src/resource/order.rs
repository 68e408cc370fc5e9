//! An order. RFC 8555 section 7.1.3; its states: section 7.1.6.

use serde::Deserialize;

use super::identifier::Identifier;
use super::{lenient, lenient_list, states};
use crate::error::{Error, Result};
use crate::problem::Problem;

states! {
    /// An order's status.
    OrderStatus {
        "pending" => Pending,
        "ready" => Ready,
        "processing" => Processing,
        "valid" => Valid,
        "invalid" => Invalid,
    }
}

/// An order object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    #[serde(default)]
    pub status: OrderStatus,
    #[serde(default, deserialize_with = "lenient")]
    pub expires: Option<String>,
    #[serde(default, deserialize_with = "lenient_list")]
    pub identifiers: Vec<Identifier>,
    #[serde(default, deserialize_with = "lenient")]
    pub not_before: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub not_after: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub error: Option<Problem>,
    #[serde(default, deserialize_with = "lenient_list")]
    pub authorizations: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub finalize: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub certificate: Option<String>,
}

impl Order {
    /// Is it an order for exactly these identifiers (canonical)?
    pub(crate) fn check_identifiers(&self, asked: &[Identifier]) -> Result<()> {
        let mut named: Vec<Identifier> =
            self.identifiers.iter().map(Identifier::canonical).collect();
        let mut asked = asked.to_vec();
        named.sort();
        named.dedup();
        asked.sort();
        if named == asked {
            return Ok(());
        }
        let list = |ids: &[Identifier]| {
            ids.iter().map(|id| id.value.as_str()).collect::<Vec<_>>().join(", ")
        };
        Err(Error::protocol(format!(
            "the CA's order is for {} instead of {}",
            crate::problem::printable(&list(&named), 300),
            list(&asked)
        )))
    }
}
