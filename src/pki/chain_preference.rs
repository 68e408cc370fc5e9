//! The preferred one of several chains for one certificate. RFC 8555 section 7.4.2.

use super::CertificateChain;
use crate::error::{Error, Result};

/// A property by which a chain is chosen. CAs change their chains without notice, so this is only a
/// preference: if no chain has the property, the CA's own choice stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainPreference {
    /// The chain's root has this common name.
    Root(String),
    /// One of the chain's issuers has this common name.
    Issuer(String),
    /// One of the chain's issuers has this key identifier.
    KeyIdentifier(Vec<u8>),
    /// The chain has the fewest bytes.
    Smallest,
}

impl ChainPreference {
    /// Makes a preference for a key identifier, in hexadecimal digits with or without colons.
    pub fn key_identifier(hex: &str) -> Result<ChainPreference> {
        let refuse = || Error::invalid_argument("the key identifier is not in hexadecimal digits");
        let digits: String = hex.chars().filter(|c| *c != ':').collect();
        let digit =
            |n: usize| digits.get(n..n + 2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = |n: usize| u8::from_str_radix(digit(n)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        bytes.filter(|b| !b.is_empty()).map(ChainPreference::KeyIdentifier).ok_or_else(refuse)
    }

    /// Whether a chain has the property. "Smallest" is a property of no single chain.
    pub(crate) fn is_met_by(&self, chain: &CertificateChain) -> bool {
        match self {
            ChainPreference::Root(name) => chain.root_name().as_ref() == Some(name),
            ChainPreference::Issuer(name) => chain.issuer_names().contains(name),
            ChainPreference::KeyIdentifier(id) => chain.issuer_key_ids().contains(id),
            ChainPreference::Smallest => false,
        }
    }
}
