//! Certificate signing requests.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use super::convert::{Out, bytes, texts};
use super::guard::guard;
use super::handle::{borrow, give, handle, peek, release};
use super::status::acme_status_t;
use super::types::{acme_csr_t, acme_key_t};
use crate::pki::SigningRequest;

handle!(acme_csr_t, SigningRequest, b"acme_csr");

/// Creates a request for names (DNS names, wildcards, IP addresses), signed with key. The names are
/// in the subjectAltName extension; there is no common name.
/// @param key The key to certify, with its private half: not from acme_key_from_public().
/// @param names The names, at least 1; copied without a change.
/// @param count Number of names.
/// @param csr Out: the request, to free with acme_csr_free().
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: no names; ACME_ERR_UNSUPPORTED: the key is outside
///   the process.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_csr_create(
    key: *const acme_key_t,
    names: *const *const c_char,
    count: usize,
    csr: *mut *mut acme_csr_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(csr, "csr")?;
        let key = &borrow(key, "key")?.key;
        let names = texts(names, count, "names")?.into_iter().map(str::to_owned);
        out.set(give(SigningRequest::create(key, &names.collect::<Vec<_>>())?));
        Ok(())
    })
}

/// Reads a PEM or DER request made elsewhere, so that the key never enters the library.
/// @param data The request's text or bytes; read during the call only.
/// @param size Number of bytes, without a NUL at the end.
/// @param csr Out: the request, to free with acme_csr_free().
/// @return ACME_OK; ACME_ERR_PARSE: not a request; ACME_ERR_CRYPTO: its signature is wrong;
///   ACME_ERR_UNSUPPORTED: CAs refuse its key, such as RSA with 1024 bits, another curve than P-256,
///   P-384 and P-521, or explicit curve parameters.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_csr_parse(
    data: *const c_void,
    size: usize,
    csr: *mut *mut acme_csr_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(csr, "csr")?;
        out.set(give(SigningRequest::parse(bytes(data, size, "data")?)?));
        Ok(())
    })
}

/// Returns the request as DER.
/// @param csr The request.
/// @param size Out: number of bytes; 0 when the request is NULL. May be NULL.
/// @return The bytes, valid until csr is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_csr_der(csr: *const acme_csr_t, size: *mut usize) -> *const u8 {
    let der = peek(csr).map(SigningRequest::der);
    if let Ok(out) = Out::new(size, "size") {
        out.set(der.map_or(0, <[u8]>::len));
    }
    der.map_or(null(), <[u8]>::as_ptr)
}

/// Frees the handle. Operations that use the request keep working.
/// @param csr The request; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_csr_free(csr: *mut acme_csr_t) {
    release(csr);
}
