//! Which of several chains for one certificate is wanted. RFC 8555 section 7.4.2.

use super::CertificateChain;
use crate::error::{Error, Result};

/// A property that a chain is chosen by. CAs change their chains without notice, so nothing here
/// pins one: where none has the property, the CA's own choice stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainPreference {
    /// The root that the chain leads to has this common name.
    Root(String),
    /// One of the chain's certificates is issued by this common name.
    Issuer(String),
    /// One of the chain's issuers has this key identifier.
    KeyIdentifier(Vec<u8>),
    /// The fewest bytes.
    Smallest,
}

impl ChainPreference {
    /// A key identifier from hexadecimal digits, with colons between or not.
    pub fn key_identifier(hex: &str) -> Result<ChainPreference> {
        let refuse = || Error::invalid_argument("the key identifier is not in hexadecimal digits");
        let digits: String = hex.chars().filter(|c| *c != ':').collect();
        let digit =
            |n: usize| digits.get(n..n + 2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = |n: usize| u8::from_str_radix(digit(n)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        bytes.filter(|b| !b.is_empty()).map(ChainPreference::KeyIdentifier).ok_or_else(refuse)
    }

    /// Has the chain the property? "Smallest" is nothing that a chain can be by itself.
    pub(crate) fn is_met_by(&self, chain: &CertificateChain) -> bool {
        match self {
            ChainPreference::Root(name) => chain.root_name().as_ref() == Some(name),
            ChainPreference::Issuer(name) => chain.issuer_names().contains(name),
            ChainPreference::KeyIdentifier(id) => chain.issuer_key_ids().contains(id),
            ChainPreference::Smallest => false,
        }
    }
}
