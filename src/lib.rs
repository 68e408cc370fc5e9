//! acme-micro: get, renew and serve TLS certificates (ACME, RFC 8555) inside your program.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod base64url;
mod client;
pub mod engine;
mod error;
mod ffi;
mod header;
#[cfg(feature = "http")]
mod http;
mod jose;
mod pki;
mod problem;
mod request;
mod resource;
mod time;
#[cfg(feature = "http")]
mod tls;
mod url;

pub use error::{Error as AcmeError, ErrorKind};
pub use jose::eab::{ExternalAccount, MacAlgorithm};
pub use pki::{
    CertificateChain, ChainPreference, Key, KeyType, SigningRequest, tls_alpn_certificate,
};
pub use problem::Problem;
pub use time::Time;
