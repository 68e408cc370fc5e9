//! An account at the CA. RFC 8555 section 7.1.2.

use super::{Members, Resource, states};

states! {
    /// An account's status.
    AccountStatus { "valid" => Valid, "deactivated" => Deactivated, "revoked" => Revoked }
}

/// An account object.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub status: Option<AccountStatus>,
    pub contact: Vec<String>,
    pub terms_of_service_agreed: Option<bool>,
    pub orders: Option<String>,
}

impl Resource for Account {
    fn read(members: &Members<'_>) -> Option<Account> {
        Some(Account {
            status: members.value("status").map(|status| Some(status).into()),
            contact: members.texts("contact"),
            terms_of_service_agreed: members.flag("termsOfServiceAgreed"),
            orders: members.text("orders"),
        })
    }
}
