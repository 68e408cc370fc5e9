//! Keys, certificate signing requests and certificates; OpenSSL does the cryptography.
//!
//! RFC 5280, RFC 2986, RFC 8737.

mod chain;
mod chain_preference;
mod csr;
mod decoded;
mod der;
mod issuers;
mod jwk;
mod key;
mod key_type;
#[cfg(feature = "http")]
mod name_key;
mod named_curve;
mod outline;
mod pkcs8;
mod provider;
mod requested_key;
mod sha256;
mod signature;
mod tls_alpn;
mod weak_keys;

pub use chain::CertificateChain;
pub(crate) use chain::same_names;
pub use chain_preference::ChainPreference;
pub use csr::SigningRequest;
pub(crate) use csr::UnsignedRequest;
pub(crate) use issuers::KnownIssuers;
pub use key::Key;
pub use key_type::KeyType;
pub(crate) use requested_key::RequestedKey;
pub(crate) use sha256::sha256;
pub use tls_alpn::tls_alpn_certificate;
#[cfg(feature = "http")]
pub(crate) use {
    name_key::{key_of, name_key},
    outline::Outline,
};

#[cfg(test)]
pub(crate) mod tests {
    /// Returns the number of signatures to test: 100,000, or the number in ACME_SIGNATURES.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn signatures_to_test() -> usize {
        std::env::var("ACME_SIGNATURES").map_or(100_000, |all| all.parse().unwrap())
    }
}
