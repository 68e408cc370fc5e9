//! An EC key as PKCS#8 in PEM. OpenSSL's own writer would leave copies of the key in freed memory.
//!
//! RFC 5208, RFC 5915, RFC 7468 section 10.

use openssl::bn::BigNumContext;
use openssl::ec::{EcGroupRef, EcKeyRef, EcPointRef, PointConversionForm};
use openssl::pkey::{Private, Public};
use zeroize::Zeroizing;

use super::der::{self, BIT_STRING, OCTET_STRING, SEQUENCE};
use super::key_type::KeyType;
use crate::error::Result;

/// id-ecPublicKey with the curve (RFC 5480 section 2.1.1).
const P256: &[u8] = &[
    0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
];
const P384: &[u8] =
    &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34];
const P521: &[u8] =
    &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 35];
/// The public key inside of ECPrivateKey.
const PUBLIC_KEY: u8 = 0xa1;
/// Number of bytes in a PEM line of 64 characters.
const BYTES_A_LINE: usize = 48;

/// Returns the key as PEM; `None` if its curve is not supported.
pub(super) fn pem(key: &EcKeyRef<Private>, kind: KeyType) -> Result<Option<Zeroizing<String>>> {
    let (Some(algorithm), Some(curve)) = (algorithm(kind), kind.curve()) else { return Ok(None) };
    let scalar = Zeroizing::new(key.private_key().to_vec_padded(curve.width)?);
    let public = der::element(PUBLIC_KEY, &point(key.group(), key.public_key())?);
    let octets = Zeroizing::new(der::element(OCTET_STRING, &scalar));
    let private = Zeroizing::new(der::of(SEQUENCE, &[&[2, 1, 1], &octets, &public]));
    let private = Zeroizing::new(der::element(OCTET_STRING, &private));
    let whole = Zeroizing::new(der::of(SEQUENCE, &[&[2, 1, 0], algorithm, &private]));

    // Reserve the full size: a reallocation would free the old buffer without wiping it.
    let mut text = Zeroizing::new(String::with_capacity(2 * whole.len() + 128));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for bytes in whole.chunks(BYTES_A_LINE) {
        text.push_str(&Zeroizing::new(openssl::base64::encode_block(bytes)));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    Ok(Some(text))
}

/// Returns the public key as SubjectPublicKeyInfo (RFC 5480).
pub(super) fn public_key(key: &EcKeyRef<Public>, kind: KeyType) -> Result<Vec<u8>> {
    let point = point(key.group(), key.public_key())?;
    Ok(der::of(SEQUENCE, &[algorithm(kind).unwrap_or_default(), &point]))
}

fn algorithm(kind: KeyType) -> Option<&'static [u8]> {
    match kind {
        KeyType::P256 => Some(P256),
        KeyType::P384 => Some(P384),
        KeyType::P521 => Some(P521),
        _ => None,
    }
}

/// Returns the point as a bit string.
fn point(group: &EcGroupRef, point: &EcPointRef) -> Result<Vec<u8>> {
    let (form, mut context) = (PointConversionForm::UNCOMPRESSED, BigNumContext::new()?);
    Ok(der::of(BIT_STRING, &[&[0], &point.to_bytes(group, form, &mut context)?]))
}
