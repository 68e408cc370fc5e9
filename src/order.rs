//! From an order to a certificate, step by step: the module `order` of acme-micro 0.14.

pub use crate::client::authorization::{Auth, Challenge};
pub use crate::client::order::{CertOrder, CsrOrder, NewOrder};
