//! The built-in HTTPS client: a blocking one over the system's OpenSSL.
//!
//! `client` sends one request, `outcome` is its result, `connect` resolves names and opens
//! connections, `proxy` and `socks` speak with proxies, `tls` is TLS, and `tls_config` what TLS
//! trusts.

pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod proxy;
mod socks;
mod tls;
mod tls_config;

pub use client::HttpClient;
pub use options::{HttpOptions, IpVersion};
