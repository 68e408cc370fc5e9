//! An authorization: the CA's view of one identifier. RFC 8555 section 7.1.4.

use super::challenge::Challenge;
use super::identifier::Identifier;
use super::{Members, Resource, states};

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
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub identifier: Identifier,
    pub status: AuthorizationStatus,
    pub expires: Option<String>,
    pub challenges: Vec<Challenge>,
    pub wildcard: Option<bool>,
    /// Whether the authorization is also valid for all subdomains of the name (RFC 9444 section 4.1).
    pub subdomain_auth_allowed: bool,
}

impl Resource for Authorization {
    fn read(members: &Members<'_>) -> Option<Authorization> {
        Some(Authorization {
            identifier: members.resource("identifier")?,
            status: members.value("status").into(),
            expires: members.text("expires"),
            challenges: members.resources("challenges"),
            wildcard: members.flag("wildcard"),
            subdomain_auth_allowed: members.flag("subdomainAuthAllowed") == Some(true),
        })
    }

    fn has_known_status(&self) -> bool {
        self.status != AuthorizationStatus::Unknown
    }
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
