//! The record of a certificate: its key, its chain, the order in progress, and when to renew it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::schedule::{self, Schedule};
use super::{FORMAT, members, take_text, to_json, unusable};
use crate::error::{ErrorKind, Result};
use crate::pki::{CertificateChain, Key};

/// A certificate that is kept fresh. All of it is one record, so that key and chain always fit.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct CertificateRecord {
    /// The URL of the directory of the CA; `None`: it is not known which CA issued the chain.
    pub ca: Option<String>,
    /// PEM.
    pub key: Option<Zeroizing<String>>,
    /// PEM: the key of the order in progress, if each renewal has a new one.
    pub next_key: Option<Zeroizing<String>>,
    /// PEM, leaf first.
    pub chain: Option<String>,
    /// The order in progress, as `journal` has it.
    pub order: Option<String>,
    pub schedule: Option<Schedule>,
}

#[derive(Serialize)]
struct Json<'a> {
    format: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<schedule::Json<'a>>,
}

impl CertificateRecord {
    /// Reads the value of the record `name`.
    pub(crate) fn parse(name: &str, value: &[u8]) -> Result<CertificateRecord> {
        let mut members = members(name, value)?;
        Ok(CertificateRecord {
            schedule: members.get("schedule").and_then(Value::as_object).map(Schedule::read),
            ca: take_text(&mut members, "ca"),
            key: take_text(&mut members, "key").map(Zeroizing::new),
            next_key: take_text(&mut members, "next_key").map(Zeroizing::new),
            chain: take_text(&mut members, "chain"),
            order: take_text(&mut members, "order"),
        })
    }

    pub(crate) fn value(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        to_json(
            name,
            &Json {
                format: FORMAT,
                ca: self.ca.as_deref(),
                key: self.key.as_ref().map(|key| key.as_str()),
                next_key: self.next_key.as_ref().map(|key| key.as_str()),
                chain: self.chain.as_deref(),
                order: self.order.as_deref(),
                schedule: self.schedule.as_ref().map(Schedule::json),
            },
        )
    }

    /// Returns the certificate and its key, if there are both and they fit.
    pub(crate) fn usable(&self, name: &str) -> Option<(CertificateChain, Key)> {
        let found = self.checked(name);
        found.inspect_err(|error| log::warn!("{error}")).ok().flatten()
    }

    /// The same. A key or a chain is an error if it cannot be read because of OpenSSL's configuration, for
    /// instance, and so is a damaged key.
    pub(crate) fn checked(&self, name: &str) -> Result<Option<(CertificateChain, Key)>> {
        let Some(chain) = &self.chain else { return Ok(None) };
        let chain = match CertificateChain::parse(chain.as_bytes()) {
            Ok(chain) => chain,
            Err(error) if error.kind() == ErrorKind::Parse => {
                log::warn!("{name}: the stored chain: {error}");
                return Ok(None);
            }
            Err(error) => return Err(unusable(name, &format!("its chain: {error}"))),
        };
        let public = chain.public_key();
        let public = public.map_err(|e| unusable(name, &format!("its chain: {e}")))?;
        // A crash of a store that keeps key and chain apart can leave the new key in the other place.
        let mut unreadable = None;
        for pem in [&self.key, &self.next_key].into_iter().flatten() {
            match Key::parse(pem.as_bytes()) {
                Ok(key) if public.public_eq(key.public_key()) => return Ok(Some((chain, key))),
                Ok(_) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        match unreadable {
            Some(error) => Err(unusable(name, &format!("its key: {error}"))),
            None => {
                log::warn!("{name}: the stored chain is for another key");
                Ok(None)
            }
        }
    }
}

/// Shows no key.
impl fmt::Debug for CertificateRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRecord")
            .field("ca", &self.ca)
            .field("key", &self.key.is_some())
            .field("next_key", &self.next_key.is_some())
            .field("chain", &self.chain.is_some())
            .field("order", &self.order.is_some())
            .field("schedule", &self.schedule)
            .finish()
    }
}
