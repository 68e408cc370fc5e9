//! Which of several chains for one certificate is wanted. RFC 8555 section 7.4.2.

use super::CertificateChain;

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
