//! The record of an account: its key and its URL at one CA.

use std::fmt;

use serde::Serialize;
use zeroize::Zeroizing;

use super::{FORMAT, members, take_text, to_json};
use crate::error::Result;

/// An account.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct AccountRecord {
    /// The URL of the CA's directory; `None`: it was not noted, by an older program.
    pub ca: Option<String>,
    /// PEM.
    pub key: Option<Zeroizing<String>>,
    pub url: Option<String>,
}

#[derive(Serialize)]
struct Json<'a> {
    format: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

impl AccountRecord {
    /// Reads the value of the record `name`.
    pub(crate) fn parse(name: &str, value: &[u8]) -> Result<AccountRecord> {
        let mut members = members(name, value)?;
        Ok(AccountRecord {
            ca: take_text(&mut members, "ca"),
            key: take_text(&mut members, "key").map(Zeroizing::new),
            url: take_text(&mut members, "url"),
        })
    }

    pub(crate) fn value(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.key.as_ref().map(|key| key.as_str());
        let (ca, url) = (self.ca.as_deref(), self.url.as_deref());
        to_json(name, &Json { format: FORMAT, ca, key, url })
    }
}

/// Shows no key.
impl fmt::Debug for AccountRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountRecord({:?}, {:?}, key: {})", self.ca, self.url, self.key.is_some())
    }
}
