//! Finds out whether OpenSSL can work at all. A configuration file can leave it without a provider of
//! algorithms, and each key then looks malformed.

use openssl::pkey::PKey;
use openssl::rand::rand_bytes;

use crate::error::{Error, ErrorKind, Result};

/// The generator of P-256, as a public key.
const PUBLIC_KEY: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
    \x03\x01\x07\x03\x42\x00\x04\
    \x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\
    \x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96\
    \x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\
    \x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5";

/// Returns the error for input that OpenSSL cannot read: it is the input's fault only if OpenSSL can read
/// a key, and make random numbers.
pub(super) fn refusal(kind: ErrorKind, why: &str) -> Error {
    works().err().unwrap_or_else(|| Error::new(kind, why))
}

fn works() -> Result<()> {
    rand_bytes(&mut [0])?;
    PKey::public_key_from_der(PUBLIC_KEY).map(|_| ()).map_err(|_| {
        let why = "OpenSSL has no provider that reads keys; check OPENSSL_CONF and FIPS mode";
        Error::new(ErrorKind::Crypto, why)
    })
}
