//! The directory: where everything else is. RFC 8555 section 7.1.1.

use serde::Deserialize;

use super::lenient;
use crate::error::{Error, ErrorKind, Result};

/// The directory object. Whatever a CA leaves out is missed only by what needs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Directory {
    #[serde(default, deserialize_with = "lenient")]
    pub new_nonce: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub new_account: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub new_order: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub new_authz: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub revoke_cert: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub key_change: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub meta: Option<Meta>,
}

/// The directory's `meta` member.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    #[serde(default, deserialize_with = "lenient")]
    pub terms_of_service: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub website: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub caa_identities: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient")]
    pub external_account_required: Option<bool>,
}

impl Directory {
    /// The three that nothing works without.
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

    pub(crate) fn external_account_required(&self) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.external_account_required == Some(true))
    }
}

fn required<'a>(name: &str, url: Option<&'a str>) -> Result<&'a str> {
    url.ok_or_else(|| Error::protocol(format!("the directory has no {name}")))
}
