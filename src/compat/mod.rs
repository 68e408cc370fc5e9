//! The API of acme-micro 0.14: blocking, one step of an issuance at a time.
//!
//! The crate's root re-exports it at the paths that it had. Nothing else in the library uses it.

pub mod api;
pub mod order;

mod account;
mod authorization;
mod certificate;
mod directory;
mod flows;
mod runner;

pub use account::{Account, RevocationReason};
pub use certificate::{Certificate, create_p256_key, create_p384_key, create_rsa_key};
pub use directory::{Directory, DirectoryUrl};
