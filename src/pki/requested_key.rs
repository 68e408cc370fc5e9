//! The key that a certificate is requested for.

use openssl::pkey::{PKey, PKeyRef, Public};

use crate::error::Result;

/// A public key, decoded and encoded.
#[derive(Clone, Debug)]
pub(crate) struct RequestedKey {
    key: PKey<Public>,
    /// Its SubjectPublicKeyInfo, as DER.
    info: Vec<u8>,
}

impl RequestedKey {
    pub(crate) fn new(key: PKey<Public>) -> Result<RequestedKey> {
        Ok(RequestedKey { info: key.public_key_to_der()?, key })
    }

    pub(crate) fn key(&self) -> &PKeyRef<Public> {
        &self.key
    }

    /// Its SubjectPublicKeyInfo, as DER.
    pub(super) fn info(&self) -> &[u8] {
        &self.info
    }
}
