//! Functions of OpenSSL that the crate `openssl` does not have, as safe Rust. Beside the C ABI in
//! `ffi`, this is the only unsafe code.

#[cfg(feature = "http")]
mod lookup;
mod without_key;

#[cfg(feature = "http")]
pub(crate) use lookup::{
    Find, add_default_store, add_lookup, default_cert_dirs, default_cert_file,
};
pub(crate) use without_key::decode_without_key;
