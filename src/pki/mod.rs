//! Keys, certificate signing requests and certificates; OpenSSL does the cryptography.
//!
//! RFC 5280, RFC 2986, RFC 8737.

mod chain;
mod csr;
mod key;
mod tls_alpn;

pub use chain::CertificateChain;
pub use csr::SigningRequest;
pub use key::{Key, KeyType};
pub use tls_alpn::tls_alpn_certificate;
