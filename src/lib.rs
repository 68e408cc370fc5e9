//! acme-micro gets TLS certificates from Let's Encrypt, or any other CA that speaks ACME (RFC
//! 8555), inside your program.
//!
//! # A certificate in one sitting
//!
//! An order goes from one type to the next; each type has the methods of its step only:
//!
#![cfg_attr(feature = "http", doc = "```no_run")]
#![cfg_attr(not(feature = "http"), doc = "```ignore")]
//! use std::time::Duration;
//! use acme_micro::{Certificate, Directory, DirectoryUrl, Result, create_p384_key};
//!
//! fn request_cert() -> Result<Certificate> {
//!     // Staging is for trying things; DirectoryUrl::LetsEncrypt for the certificate you want.
//!     let directory = Directory::from_url(DirectoryUrl::LetsEncryptStaging)?;
//!     let contact = vec!["mailto:you@example.org".to_owned()];
//!
//!     // An account is its key. Keep it, and next time:
//!     // let account = directory.load_account(&pem, contact)?;
//!     let account = directory.register_account(contact)?;
//!     let pem = account.acme_private_key_pem()?;
//! #   drop(pem);
//!
//!     let mut order = account.new_order("example.org", &["www.example.org"])?;
//!     let order = loop {
//!         // The CA may still accept an earlier validation of a name.
//!         if let Some(order) = order.confirm_validations() {
//!             break order;
//!         }
//!         for auth in order.authorizations()? {
//!             if !auth.need_challenge() {
//!                 continue;
//!             }
//!             let challenge = auth.http_challenge().expect("a CA that offers http-01");
//!             // Have your web server answer http://<name>/.well-known/acme-challenge/<token>
//!             // with the proof, exactly:
//!             let (token, proof) = (challenge.http_token(), challenge.http_proof()?);
//!             std::fs::write(format!("/var/www/.well-known/acme-challenge/{token}"), proof)?;
//!             challenge.validate(Duration::from_secs(5))?;
//!         }
//!         order.refresh()?;
//!     };
//!
//!     let order = order.finalize_pkey(create_p384_key()?, Duration::from_secs(5))?;
//!     let certificate = order.download_cert()?;
//!     println!("{} days left", certificate.valid_days_left()?);
//!     Ok(certificate)
//! }
//! ```
//!
//! This is the API of acme-micro 0.14. Each call blocks, for 600 seconds at most. An error from the
//! CA or the network holds an [`AcmeError`] (`downcast_ref`): what was tried, on which name, whether
//! and when a retry makes sense, and the CA's whole problem document.
//!
//! # On an event loop
//!
//! The module [`engine`] is the same protocol as operations that do no I/O: a program polls them, and
//! does the steps that they return. It has features that the API above lacks: renewal information,
//! profiles, account changes, keys outside the process. [`run`] is a blocking driver for one operation,
//! and `HttpClient` sends requests for programs without an HTTP client; `HttpOptions` are its proxy,
//! roots and timeout. A `driver` sends the requests of any number of operations on threads of its own,
//! and is one file descriptor to an event loop.
//!
//! # From C and Python
//!
//! The feature `capi` adds the C functions of `acme_micro.h` to a shared library, which the Python
//! package in `bindings/python` uses.
//!
//! # Features
//!
//! - `http` (default): the built-in HTTPS client, over the system's OpenSSL and with its roots, and
//!   with it the API of 0.14. Without it the library opens no socket.
//! - `capi`: the C functions.
//! - `vendored`: compiles OpenSSL in; the roots are still the system's.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

/// `log::debug!` for a build that compiles it out. The feature `capi` does so, because the HTTP
/// client's lines at that level contain whole requests, and cost 14 KB.
macro_rules! debug {
    ($($line:tt)+) => {
        if log::Level::Debug <= log::max_level() {
            let mut record = log::Record::builder();
            record.level(log::Level::Debug).target(module_path!());
            log::logger().log(&record.args(format_args!($($line)+)).build());
        }
    };
}

mod base64url;
// The hosts of the engine read the clock, and sleep; see clippy.toml.
#[allow(clippy::disallowed_methods)]
mod blocking;
#[allow(clippy::disallowed_methods)]
mod clock;
#[cfg(feature = "http")]
mod compat;
#[cfg(all(feature = "http", unix))]
#[allow(clippy::disallowed_methods)]
pub mod driver;
pub mod engine;
mod error;
mod ffi;
#[cfg(unix)]
#[allow(clippy::disallowed_methods)]
mod folder;
#[cfg(any(test, fuzzing))]
#[path = "../tests/fuzz/targets/mod.rs"]
pub mod fuzz;
mod header;
mod jose;
pub mod manager;
mod pki;
mod problem;
mod request;
mod resource;
pub mod store;
#[allow(unsafe_code, clippy::disallowed_methods)]
mod sys;
mod text;
mod time;
#[cfg(feature = "http")]
#[allow(clippy::disallowed_methods)]
mod transport;
mod url;

#[cfg(feature = "http")]
pub use anyhow::{Error, Result};
pub use blocking::{Host, keep_fresh, run};
#[cfg(feature = "http")]
pub use compat::{
    Account, Certificate, Directory, DirectoryUrl, RevocationReason, api, create_p256_key,
    create_p384_key, create_rsa_key, order,
};
pub use error::{Error as AcmeError, ErrorKind};
#[cfg(unix)]
pub use folder::{CertificateFiles, DirectoryStore};
pub use jose::eab::{ExternalAccount, MacAlgorithm};
pub use pki::{
    CertificateChain, ChainPreference, Key, KeyType, SigningRequest, tls_alpn_certificate,
};
pub use problem::Problem;
pub use time::Time;
#[cfg(feature = "http")]
pub use transport::{HttpClient, HttpOptions, IpVersion};
