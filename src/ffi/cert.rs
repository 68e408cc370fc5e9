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

/// A chain, with its texts for C.
pub struct CertState {
    chain: CertificateChain,
    pem: CString,
    names: Vec<CString>,
    serial: CString,
    fingerprint: CString,
    ari_id: Option<CString>,
    key: Option<OwnedKey>,
}

/// A key handle that its owner shows and frees.
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

    pub(super) fn chain(&self) -> &CertificateChain {
        &self.chain
    }
}

/// Reads a PEM chain, leaf first. Anything but certificates in it is refused.
/// @param pem The chain's text; read during the call only.
/// @param size Number of bytes, without a NUL at the end.
/// @param cert Out: the chain, which you free with acme_cert_free(). It has no key.
/// @return ACME_OK; ACME_ERR_PARSE: no chain, or something else in it.
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

/// Makes the self-signed certificate that a tls-alpn-01 challenge wants (RFC 8737), to be shown in
/// handshakes that negotiate "acme-tls/1". key NULL: a fresh one, see acme_cert_key().
/// @param challenge What acme_op_challenge() or a publish callback shows right now.
/// @param key The key to certify, kept as far as it is needed; NULL: a fresh P-256 key.
/// @param cert Out: the certificate, which you free with acme_cert_free().
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
        // SAFETY: not NULL and aligned; a challenge that an operation shows right now (rule 3 of the header).
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

/// The whole chain as PEM.
/// @param cert The certificate.
/// @return Text, valid until cert is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_chain_pem(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).map(|cert| &cert.pem))
}

/// The index-th certificate of the chain as DER, 0 the leaf; NULL past the end. size may be NULL.
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

/// The certificate's private key; NULL when it was parsed, or ordered with a CSR made elsewhere.
/// @param cert The certificate.
/// @return Borrowed, valid until cert is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_key(cert: *const acme_cert_t) -> *const acme_key_t {
    peek(cert).and_then(|cert| cert.key.as_ref()).map_or(null(), OwnedKey::handle)
}

/// Whether this is the leaf's key: 1 or 0. For a certificate and a key that were stored.
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

/// The index-th subject alternative name (DNS name or IP address); NULL past the end.
/// @param cert The certificate.
/// @param index From 0.
/// @return Text, valid until cert is freed; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_name(cert: *const acme_cert_t, index: usize) -> *const c_char {
    pointer_to(peek(cert).and_then(|cert| cert.names.get(index)))
}

/// The leaf's serial number, in lower-case hexadecimal digits.
/// @param cert The certificate.
/// @return Text, valid until cert is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_serial(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).map(|cert| &cert.serial))
}

/// SHA-256 of the leaf, in lower-case hexadecimal digits.
/// @param cert The certificate.
/// @return 64 characters, valid until cert is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_fingerprint(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).map(|cert| &cert.fingerprint))
}

/// Kind of the leaf's key: an ACME_KEY_* value; 0 when it is none of those.
/// @param cert The certificate.
/// @return An ACME_KEY_* value, or 0.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_key_type(cert: *const acme_cert_t) -> c_int {
    key_type(peek(cert).and_then(|cert| cert.chain.key_type()))
}

/// Identifier for renewal information (RFC 9773 section 4.1); NULL when the leaf has no authority key
/// identifier.
/// @param cert The certificate.
/// @return Text, valid until cert is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_ari_id(cert: *const acme_cert_t) -> *const c_char {
    pointer_to(peek(cert).and_then(|cert| cert.ari_id.as_ref()))
}

/// When the leaf starts to be valid; 0 for NULL.
/// @param cert The certificate.
/// @return Milliseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_not_before(cert: *const acme_cert_t) -> acme_time_t {
    peek(cert).map_or(0, |cert| cert.chain.not_before().as_millis())
}

/// When the leaf expires; 0 for NULL.
/// @param cert The certificate.
/// @return Milliseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_not_after(cert: *const acme_cert_t) -> acme_time_t {
    peek(cert).map_or(0, |cert| cert.chain.not_after().as_millis())
}

/// Whole days until the leaf expires, from now (0: the system clock); negative once it has.
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
/// @param cert The certificate; NULL is fine. A key that acme_cert_key() gave goes with it.
#[unsafe(no_mangle)]
pub extern "C" fn acme_cert_free(cert: *mut acme_cert_t) {
    release(cert);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
