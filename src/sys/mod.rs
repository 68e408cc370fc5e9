//! Functions of OpenSSL that the crate `openssl` does not have, as safe Rust. Beside the C ABI in
//! `ffi`, this is the only unsafe code.

mod lookup;

pub(crate) use lookup::{Find, add_default_store, add_lookup, default_cert_file};
