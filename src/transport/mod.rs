//! The built-in HTTPS client: a blocking one over the system's OpenSSL.
//!
//! `client` sends one request, `sent` is its response or the failure, `connect` resolves names and
//! opens connections, `proxy` and `socks` speak with proxies, `tls` is TLS, and `tls_config` its
//! configuration: the client certificate and the trusted `roots`, which are in `bundle` files.

mod bundle;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod options;
pub(crate) mod proxy;
mod roots;
pub(crate) mod sent;
mod socks;
mod steady_timeouts;
mod tls;
mod tls_config;

pub use client::HttpClient;
pub use options::{HttpOptions, IpVersion};
