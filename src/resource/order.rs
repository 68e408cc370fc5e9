//! An order at the CA. RFC 8555 section 7.1.3; its statuses: section 7.1.6.

use serde_json::{Map, Value};

use super::identifier::Identifier;
use super::{Members, Resource, states};
use crate::error::{Error, Result};
use crate::pki::same_names;
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
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub status: OrderStatus,
    pub expires: Option<String>,
    pub identifiers: Vec<Identifier>,
    pub not_before: Option<String>,
    pub not_after: Option<String>,
    pub error: Option<Problem>,
    pub authorizations: Vec<String>,
    pub finalize: Option<String>,
    pub certificate: Option<String>,
}

impl Resource for Order {
    fn read(members: &Members<'_>) -> Option<Order> {
        Some(Order {
            status: members.value("status").into(),
            expires: members.text("expires"),
            identifiers: members.resources("identifiers"),
            not_before: members.text("notBefore"),
            not_after: members.text("notAfter"),
            error: members.value("error").and_then(Problem::from_json),
            authorizations: members.texts("authorizations"),
            finalize: members.text("finalize"),
            certificate: members.text("certificate"),
        })
    }

    fn has_known_status(&self) -> bool {
        self.status != OrderStatus::Unknown
    }
}

impl Order {
    /// The URLs of its authorizations, each once: a CA may name one for several identifiers. A response
    /// of 1 MiB may list hundreds of thousands, so a map finds the duplicates.
    pub(crate) fn distinct_authorizations(&self) -> Vec<&String> {
        let mut seen = Map::new();
        let is_new = |url: &&String| seen.insert((*url).clone(), Value::Null).is_none();
        self.authorizations.iter().filter(is_new).collect()
    }

    /// Checks that it is an order for exactly these canonical identifiers.
    pub(crate) fn check_identifiers(&self, asked: &[Identifier]) -> Result<()> {
        let named: Vec<Identifier> = self.identifiers.iter().map(Identifier::canonical).collect();
        let issued = named.iter().map(Identifier::pair).collect();
        if same_names(issued, asked.iter().map(Identifier::pair).collect()) {
            return Ok(());
        }
        let list = |ids: &[Identifier]| {
            ids.iter().map(|id| id.value.as_str()).collect::<Vec<_>>().join(", ")
        };
        Err(Error::protocol(format!(
            "the CA's order is for {} instead of {}",
            crate::text::printable(&list(&named), 300),
            list(asked)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If each of the 100,000 URLs were compared with all others, this test would exceed its time limit.
    #[test]
    fn authorizations_come_once_and_in_order_however_many() {
        let count = 100_000;
        let urls: Vec<String> = (0..count).chain(0..count).map(|n| n.to_string()).collect();
        let body = serde_json::json!({"status": "pending", "authorizations": urls}).to_string();
        let order: Order = super::super::parse("an order", body.as_bytes()).unwrap();
        let distinct = order.distinct_authorizations();
        assert_eq!(distinct.len(), count);
        assert!(distinct.iter().enumerate().all(|(n, url)| **url == n.to_string()));
    }
}
