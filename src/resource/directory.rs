//! The directory: the URLs of the CA's other resources. RFC 8555 section 7.1.1.

use super::{Members, Resource};
use crate::error::{Error, ErrorKind, Result};

/// The directory object. A URL that the CA leaves out is an error only for the flow that needs it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Directory {
    pub new_nonce: Option<String>,
    pub new_account: Option<String>,
    pub new_order: Option<String>,
    pub new_authz: Option<String>,
    pub revoke_cert: Option<String>,
    pub key_change: Option<String>,
    pub renewal_info: Option<String>,
    pub meta: Option<Meta>,
}

/// The directory's `meta` member.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Meta {
    pub terms_of_service: Option<String>,
    pub website: Option<String>,
    pub caa_identities: Option<Vec<String>>,
    pub external_account_required: Option<bool>,
    /// Whether a name can be authorized by a name above it (RFC 9444 section 4.4).
    pub subdomain_auth_allowed: Option<bool>,
    /// Profiles of certificates, each with its description (draft-ietf-acme-profiles).
    pub profiles: Vec<(String, String)>,
}

impl Resource for Directory {
    fn read(members: &Members<'_>) -> Option<Directory> {
        Some(Directory {
            new_nonce: members.text("newNonce"),
            new_account: members.text("newAccount"),
            new_order: members.text("newOrder"),
            new_authz: members.text("newAuthz"),
            revoke_cert: members.text("revokeCert"),
            key_change: members.text("keyChange"),
            renewal_info: members.text("renewalInfo"),
            meta: members.resource("meta"),
        })
    }
}

impl Resource for Meta {
    fn read(members: &Members<'_>) -> Option<Meta> {
        Some(Meta {
            terms_of_service: members.text("termsOfService"),
            website: members.text("website"),
            caa_identities: members.value("caaIdentities").map(|_| members.texts("caaIdentities")),
            external_account_required: members.flag("externalAccountRequired"),
            subdomain_auth_allowed: members.flag("subdomainAuthAllowed"),
            profiles: members.named_texts("profiles"),
        })
    }
}

impl Directory {
    /// Checks that the three URLs are there that every order needs.
    pub(crate) fn check(self) -> Result<Directory> {
        self.new_nonce()?;
        self.new_account()?;
        self.new_order()?;
        Ok(self)
    }

    pub(crate) fn new_nonce(&self) -> Result<&str> {
        required("newNonce", self.new_nonce.as_deref())
    }

    pub(crate) fn new_account(&self) -> Result<&str> {
        required("newAccount", self.new_account.as_deref())
    }

    pub(crate) fn new_order(&self) -> Result<&str> {
        required("newOrder", self.new_order.as_deref())
    }

    pub(crate) fn revoke_cert(&self) -> Result<&str> {
        self.revoke_cert.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this CA does not offer revocation (revokeCert)")
        })
    }

    pub(crate) fn terms_of_service(&self) -> Option<&str> {
        self.meta.as_ref()?.terms_of_service.as_deref()
    }

    /// The CA's profiles, each with its description.
    pub(crate) fn profiles(&self) -> &[(String, String)] {
        self.meta.as_ref().map_or(&[], |meta| &meta.profiles)
    }

    pub(crate) fn new_authz(&self) -> Result<&str> {
        self.new_authz.as_deref().ok_or_else(|| {
            let why = "this CA authorizes nothing ahead of an order (newAuthz)";
            Error::new(ErrorKind::Unsupported, why)
        })
    }

    /// Fails if the directory does not state that a name can be authorized by a name above it.
    pub(crate) fn check_subdomains(&self) -> Result<()> {
        let meta = self.meta.as_ref();
        match meta.is_some_and(|meta| meta.subdomain_auth_allowed == Some(true)) {
            true => Ok(()),
            false => {
                let why = "this CA does not let one name prove those below it (RFC 9444)";
                Err(Error::new(ErrorKind::Unsupported, why))
            }
        }
    }

    pub(crate) fn external_account_required(&self) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.external_account_required == Some(true))
    }
}

fn required<'a>(name: &str, url: Option<&'a str>) -> Result<&'a str> {
    url.ok_or_else(|| Error::protocol(format!("the directory has no {name}")))
}
