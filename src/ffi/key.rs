//! Keys of accounts and certificates.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use safer_ffi::derive_ReprC;
use zeroize::Zeroize;

use super::convert::{Out, bytes, c_text, pointer_to, text};
use super::guard::guard;
use super::handle::{give, handle, peek, release};
use super::status::acme_status_t;
use super::types::acme_key_t;
use crate::error::{Error, Result};
use crate::pki::{Key, KeyType};

handle!(acme_key_t, KeyState, b"acme_key");

/// Kinds of key.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum acme_key_type_t {
    /// ECDSA on NIST P-256: small, fast, accepted by every CA.
    ACME_KEY_P256 = 1,
    /// ECDSA on NIST P-384.
    ACME_KEY_P384 = 2,
    /// ECDSA on NIST P-521; public CAs do not certify it.
    ACME_KEY_P521 = 3,
    /// RSA, 2048 bits.
    ACME_KEY_RSA2048 = 10,
    /// RSA, 3072 bits.
    ACME_KEY_RSA3072 = 11,
    /// RSA, 4096 bits.
    ACME_KEY_RSA4096 = 12,
    /// Ed25519, for private CAs.
    ACME_KEY_ED25519 = 20,
}

use acme_key_type_t::*;

/// Returns the ACME_KEY_* value of a kind; 0 for no kind.
pub(super) fn key_type(kind: Option<KeyType>) -> c_int {
    TYPES.iter().find(|(_, of)| Some(*of) == kind).map_or(0, |(code, _)| *code as c_int)
}

/// Returns the kind of an ACME_KEY_* value; `None` for 0.
pub(super) fn key_type_of(code: usize) -> Result<Option<KeyType>> {
    if code == 0 {
        return Ok(None);
    }
    let known = TYPES.iter().find(|(known, _)| *known as usize == code);
    let why =
        || Error::invalid_argument(format!("key_type is {code}, which is no ACME_KEY_* value"));
    known.map(|(_, kind)| Some(*kind)).ok_or_else(why)
}

const TYPES: [(acme_key_type_t, KeyType); 7] = [
    (ACME_KEY_P256, KeyType::P256),
    (ACME_KEY_P384, KeyType::P384),
    (ACME_KEY_P521, KeyType::P521),
    (ACME_KEY_RSA2048, KeyType::Rsa2048),
    (ACME_KEY_RSA3072, KeyType::Rsa3072),
    (ACME_KEY_RSA4096, KeyType::Rsa4096),
    (ACME_KEY_ED25519, KeyType::Ed25519),
];

/// A key with its texts for C; the PEM is made at the first call that needs it.
pub struct KeyState {
    pub(super) key: Key,
    thumbprint: CString,
    pem: OnceLock<CString>,
}

impl KeyState {
    pub(super) fn new(key: Key) -> KeyState {
        KeyState { thumbprint: c_text(key.thumbprint()), pem: OnceLock::new(), key }
    }
}

impl Drop for KeyState {
    fn drop(&mut self) {
        if let Some(pem) = self.pem.take() {
            pem.into_bytes().zeroize();
        }
    }
}

/// Generates a key of an ACME_KEY_* type. An RSA key takes up to seconds: do not
/// generate one on an event loop's thread.
/// @param type An ACME_KEY_* value.
/// @param key Out: the key, to free with acme_key_free().
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: type is another value; ACME_ERR_CRYPTO: OpenSSL
///   refuses.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_key_generate(r#type: c_int, key: *mut *mut acme_key_t) -> acme_status_t {
    guard(|| {
        let out = Out::handle(key, "key")?;
        let kind = TYPES.iter().find(|(code, _)| *code as c_int == r#type);
        let (_, kind) = kind.ok_or_else(|| {
            Error::invalid_argument(format!("type is {type}, which is no ACME_KEY_* value"))
        })?;
        out.set(give(KeyState::new(Key::generate(*kind)?)));
        Ok(())
    })
}

/// Reads an unencrypted key in PEM or DER (PKCS#8, SEC 1, PKCS#1). An EC key with explicit curve
/// parameters, which CAs refuse, becomes a key of the named curve.
/// @param data The key's text or bytes; read during the call only.
/// @param size Number of bytes, without a NUL at the end.
/// @param key Out: the key, to free with acme_key_free().
/// @return ACME_OK; ACME_ERR_PARSE: not a key; ACME_ERR_UNSUPPORTED: an encrypted key, or one of no
///   ACME_KEY_* type; ACME_ERR_CRYPTO: its parts do not belong together.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_key_parse(
    data: *const c_void,
    size: usize,
    key: *mut *mut acme_key_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(key, "key")?;
        out.set(give(KeyState::new(Key::parse(bytes(data, size, "data")?)?)));
        Ok(())
    })
}

/// Reads a PEM key that is encrypted with a passphrase.
/// @param data The key's text; read during the call only.
/// @param size Number of bytes, without a NUL at the end.
/// @param passphrase The passphrase; read during the call only.
/// @param key Out: the key, to free with acme_key_free().
/// @return As acme_key_parse(); ACME_ERR_CRYPTO also when the passphrase is wrong.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_key_parse_encrypted(
    data: *const c_void,
    size: usize,
    passphrase: *const c_char,
    key: *mut *mut acme_key_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(key, "key")?;
        let data = bytes(data, size, "data")?;
        let parsed = Key::parse_encrypted(data, text(passphrase, "passphrase")?)?;
        out.set(give(KeyState::new(parsed)));
        Ok(())
    })
}

/// Makes a key whose private half is outside the process, in an HSM, a KMS or an agent, from its
/// public half, PEM or DER (SubjectPublicKeyInfo). Operations that use it return ACME_STEP_SIGN,
/// and acme_op_run() calls the sign callback. Its acme_key_pem() is NULL.
/// @param data The public key's text or bytes; read during the call only.
/// @param size Number of bytes, without a NUL at the end.
/// @param key Out: the key, to free with acme_key_free().
/// @return ACME_OK; ACME_ERR_PARSE: not a public key; ACME_ERR_UNSUPPORTED: of no ACME_KEY_* type.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_key_from_public(
    data: *const c_void,
    size: usize,
    key: *mut *mut acme_key_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(key, "key")?;
        out.set(give(KeyState::new(Key::external(bytes(data, size, "data")?)?)));
        Ok(())
    })
}

/// Returns the key as PKCS#8 PEM. Secret: store it with mode 0600. Valid until the handle is freed,
/// and wiped then.
/// @param key The key.
/// @return Text, valid until key is freed; NULL for NULL, and for a key from
///   acme_key_from_public().
#[unsafe(no_mangle)]
pub extern "C" fn acme_key_pem(key: *const acme_key_t) -> *const c_char {
    let Some(key) = peek(key) else { return std::ptr::null() };
    if key.pem.get().is_none() {
        let pem = || -> Result<()> {
            let _ = key.pem.set(c_text(&*key.key.to_pem()?));
            Ok(())
        };
        let _ = super::guard::catch(pem);
    }
    pointer_to(key.pem.get())
}

/// Returns the kind of a key: an ACME_KEY_* value; 0 for NULL.
/// @param key The key.
/// @return An ACME_KEY_* value; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_key_type(key: *const acme_key_t) -> c_int {
    key_type(peek(key).map(|key| key.key.kind()))
}

/// Returns the RFC 7638 thumbprint, base64url. A stateless http-01 responder sends the token, a dot
/// and this. Not secret.
/// @param key The key.
/// @return 43 characters, valid until key is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_key_thumbprint(key: *const acme_key_t) -> *const c_char {
    pointer_to(peek(key).map(|key| &key.thumbprint))
}

/// Frees the handle. Operations and clients that use the key keep working.
/// @param key The key; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_key_free(key: *mut acme_key_t) {
    release(key);
}
