//! Certificate chains.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null;

use super::convert::{Out, bytes, c_text, check_pointer, pointer_to, text};
use super::guard::guard;
use super::handle::{borrow, give, handle, peek, release};
use super::key::{KeyState, key_type};
use super::status::acme_status_t;
use super::types::{acme_cert_t, acme_challenge_t, acme_key_t, acme_time_t, moment};
use crate::pki::{CertificateChain, Key, KeyType, tls_alpn_certificate};
use crate::time::Time;

handle!(acme_cert_t, CertState, b"acmecert");

const MILLIS_A_DAY: i64 = 24 * 3600 * 1000;

/// A chain with its texts for C.
pub struct CertState {
    chain: CertificateChain,
    pem: CString,
    names: Vec<CString>,
    serial: CString,
    fingerprint: CString,
    ari_id: Option<CString>,
    key: Option<OwnedKey>,
}

/// A key handle that its owner lends to C and frees.
pub(super) struct OwnedKey(*mut acme_key_t);

// SAFETY: a handle may move between threads and be read by many (rule 5 of the header).
unsafe impl Send for OwnedKey {}
// SAFETY: as above.
unsafe impl Sync for OwnedKey {}

impl OwnedKey {
    pub(super) fn new(key: Key) -> OwnedKey {
        OwnedKey(give(KeyState::new(key)))
    }

    pub(super) fn handle(&self) -> *const acme_key_t {
        self.0
    }
}

impl Drop for OwnedKey {
    fn drop(&mut self) {
        release(self.0);
    }
}

impl CertState {
    pub(super) fn new(chain: CertificateChain, key: Option<Key>) -> CertState {
        CertState {
            pem: c_text(chain.pem()),
            names: chain.names().iter().map(c_text).collect(),
            serial: c_text(hex(&chain.serial().unwrap_or_default())),
            fingerprint: c_text(hex(&chain.fingerprint())),
            ari_id: chain.renewal_id().map(c_text),
            key: key.map(OwnedKey::new),
            chain,
        }
    }

    /// Returns the key, if the library has it.
    pub(super) fn key(&self) -> Option<&Key> {
        let key = self.key.as_ref()?;
        peek(key.handle()).map(|state: &KeyState| &state.key)
    }

    pub(super) fn chain(&self) -> &CertificateChain {
        &self.chain
    }
}

/// Reads a PEM chain, leaf first. It may contain certificates only.
/// @param pem The chain's text; read during the call only.
/// @param size Number of bytes, without a NUL at the end.
/// @param cert Out: the chain, to free with acme_cert_free(). It has no key.
/// @return ACME_OK; ACME_ERR_PARSE: not a chain, or other things in it.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_cert_parse(
    pem: *const c_void,
    size: usize,
    cert: *mut *mut acme_cert_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(cert, "cert")?;
        let chain = CertificateChain::parse(bytes(pem, size, "pem")?)?;
        out.set(give(CertState::new(chain, None)));
        Ok(())
    })
}

/// Creates the self-signed certificate for a tls-alpn-01 challenge (RFC 8737), to present in
/// handshakes that negotiate "acme-tls/1".
/// @param challenge A challenge from acme_op_challenge() or of a publish callback, while it is
///   valid.
/// @param key The key to certify; NULL: a fresh P-256 key, see acme_cert_key().
/// @param cert Out: the certificate, to free with acme_cert_free().
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: the challenge is of a type without a token;
///   ACME_ERR_UNSUPPORTED: the key is outside the process.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_cert_create_tls_alpn(
    challenge: *const acme_challenge_t,
    key: *const acme_key_t,
    cert: *mut *mut acme_cert_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(cert, "cert")?;
        check_pointer(challenge, "challenge")?;
        // SAFETY: not NULL and aligned; a challenge that an operation lends right now (rule 3 of
        // the header).
        let challenge = unsafe { &*challenge };
        let identifier = text(challenge.identifier, "challenge->identifier")?;
        let digest = bytes(challenge.tls_alpn_digest.cast(), 32, "challenge->tls_alpn_digest")?;
        let digest: [u8; 32] = digest.try_into().unwrap_or_default();
        let key = match key.is_null() {
            true => Key::generate(KeyType::P256)?,
            false => borrow(key, "key")?.key.clone(),
        };
        let chain = tls_alpn_certificate(identifier, &digest, &key, Time::now())?;
        out.set(give(CertState::new(chain, Some(key))));
        Ok(())
    })
}

/// Returns the whole chain as PEM.
/// @param cert The certificate.
/// @return Text, valid until cert is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_chain_pem(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).map(|cert| &cert.pem))
}

/// Returns the index-th certificate of the chain as DER; NULL past the end. Index 0 is the leaf.
/// @param cert The certificate.
/// @param index From 0, the leaf, towards the root.
/// @param size Out: number of bytes; 0 past the end. May be NULL.
/// @return The bytes, valid until cert is freed; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_der(
    cert: *const acme_cert_t,
    index: usize,
    size: *mut usize,
) -> *const u8 {
    let der = peek(cert).and_then(|cert| cert.chain.ders().get(index));
    if let Ok(out) = Out::new(size, "size") {
        out.set(der.map_or(0, Vec::len));
    }
    der.map_or(null(), Vec::as_ptr)
}

/// Returns the certificate's private key; NULL if the certificate was parsed, or ordered with a CSR
/// made elsewhere.
/// @param cert The certificate.
/// @return Borrowed, valid until cert is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_key(cert: *const acme_cert_t) -> *const acme_key_t {
    peek(cert).and_then(|cert| cert.key.as_ref()).map_or(null(), OwnedKey::handle)
}

/// Whether key is the leaf's: 1 or 0. For a stored certificate and a stored key.
/// @param cert The certificate.
/// @param key The key.
/// @return 1 or 0; 0 when either is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_is_for(cert: *const acme_cert_t, key: *const acme_key_t) -> c_int {
    match (peek(cert), peek(key)) {
        (Some(cert), Some(key)) => c_int::from(cert.chain.is_for_key(&key.key)),
        _ => 0,
    }
}

/// Returns the index-th subject alternative name (DNS name or IP address); NULL past the end.
/// @param cert The certificate.
/// @param index From 0.
/// @return Text, valid until cert is freed; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_name(cert: *const acme_cert_t, index: usize) -> *const c_char {
    pointer_to(peek(cert).and_then(|cert| cert.names.get(index)))
}

/// Returns the leaf's serial number, in lower-case hexadecimal digits.
/// @param cert The certificate.
/// @return Text, valid until cert is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_serial(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).map(|cert| &cert.serial))
}

/// Returns the SHA-256 of the leaf, in lower-case hexadecimal digits.
/// @param cert The certificate.
/// @return 64 characters, valid until cert is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_fingerprint(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).map(|cert| &cert.fingerprint))
}

/// Returns the kind of the leaf's key: an ACME_KEY_* value; 0 for another kind.
/// @param cert The certificate.
/// @return An ACME_KEY_* value, or 0.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_key_type(cert: *const acme_cert_t) -> c_int {
    key_type(peek(cert).and_then(|cert| cert.chain.key_type()))
}

/// Returns the identifier for renewal information (RFC 9773 section 4.1); NULL if the leaf has no
/// authority key identifier.
/// @param cert The certificate.
/// @return Text, valid until cert is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_ari_id(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).and_then(|cert| cert.ari_id.as_ref()))
}

/// Returns the start of the leaf's validity; 0 for NULL.
/// @param cert The certificate.
/// @return Milliseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_not_before(cert: *const acme_cert_t) -> acme_time_t {
    peek(cert).map_or(0, |cert| cert.chain.not_before().as_millis())
}

/// Returns the end of the leaf's validity; 0 for NULL.
/// @param cert The certificate.
/// @return Milliseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_not_after(cert: *const acme_cert_t) -> acme_time_t {
    peek(cert).map_or(0, |cert| cert.chain.not_after().as_millis())
}

/// Returns the whole days until the leaf expires; negative once it has expired.
/// @param cert The certificate.
/// @param now Milliseconds since 1970; 0: the system clock.
/// @return Days, rounded down; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_days_left(cert: *const acme_cert_t, now: acme_time_t) -> c_int {
    let Some(cert) = peek(cert) else { return 0 };
    let left = cert.chain.not_after().as_millis().saturating_sub(moment(now).as_millis());
    c_int::try_from(left.div_euclid(MILLIS_A_DAY)).unwrap_or(c_int::MAX)
}

/// Frees the handle.
/// @param cert The certificate; NULL is fine. The key from acme_cert_key() is freed with it.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_free(cert: *mut acme_cert_t) {
    release(cert);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
