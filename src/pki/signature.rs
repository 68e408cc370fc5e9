//! Signatures in their two forms. JOSE writes the two integers of ECDSA in full width, one after the
//! other (RFC 7518 section 3.4); X.509, TLS and most HSMs write them in DER (RFC 3279).

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::pkey::{PKeyRef, Private, Public};
use openssl::sign::{Signer, Verifier};

use super::key_type::KeyType;
use super::provider;
use crate::error::{Error, ErrorKind, Result};

/// Signs, and returns the signature in JOSE's form.
pub(super) fn sign(key: &PKeyRef<Private>, kind: KeyType, input: &[u8]) -> Result<Vec<u8>> {
    let Some(curve) = kind.curve() else {
        let mut signer = match kind {
            KeyType::Ed25519 => Signer::new_without_digest(key)?,
            kind => Signer::new(kind.digest(), key)?,
        };
        return Ok(signer.sign_oneshot_to_vec(input)?);
    };
    let digest = openssl::hash::hash(kind.digest(), input)?;
    let signature = EcdsaSig::sign(&digest, &*key.ec_key()?)?;
    joined(&signature, curve.width)
}

/// Verifies a signature in either form, and returns it in JOSE's form.
pub(super) fn accept(
    key: &PKeyRef<Public>,
    kind: KeyType,
    input: &[u8],
    given: &[u8],
) -> Result<Vec<u8>> {
    let wrong = || {
        let why = "the signature that the host gave is not one of the key over the input";
        provider::refusal(ErrorKind::Crypto, why)
    };
    let Some(curve) = kind.curve() else {
        let mut verifier = match kind {
            KeyType::Ed25519 => Verifier::new_without_digest(key)?,
            kind => Verifier::new(kind.digest(), key)?,
        };
        let right = verifier.verify_oneshot(given, input).unwrap_or(false);
        return if right { Ok(given.to_vec()) } else { Err(wrong()) };
    };
    let digest = openssl::hash::hash(kind.digest(), input)?;
    let ec = key.ec_key()?;
    let right = |signature: &EcdsaSig| signature.verify(&digest, &ec).unwrap_or(false);
    let forms = [split(given, curve.width), EcdsaSig::from_der(given).ok()];
    match forms.into_iter().flatten().find(right) {
        Some(signature) => joined(&signature, curve.width),
        None => Err(wrong()),
    }
}

/// Converts a signature from JOSE's form to DER.
pub(super) fn to_x509(kind: KeyType, signature: &[u8]) -> Result<Vec<u8>> {
    let Some(curve) = kind.curve() else { return Ok(signature.to_vec()) };
    let parts = split(signature, curve.width);
    let parts = parts.ok_or_else(|| Error::new(ErrorKind::Crypto, "not a JOSE signature"))?;
    Ok(parts.to_der()?)
}

fn split(bytes: &[u8], width: i32) -> Option<EcdsaSig> {
    let width = usize::try_from(width).ok().filter(|width| bytes.len() == 2 * width)?;
    let (r, s) = bytes.split_at_checked(width)?;
    let (r, s) = (BigNum::from_slice(r).ok()?, BigNum::from_slice(s).ok()?);
    EcdsaSig::from_private_components(r, s).ok()
}

fn joined(signature: &EcdsaSig, width: i32) -> Result<Vec<u8>> {
    let mut bytes = signature.r().to_vec_padded(width)?;
    bytes.extend(signature.s().to_vec_padded(width)?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;

    #[test]
    fn both_forms_are_accepted_and_wrong_ones_are_not() {
        for kind in
            [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Rsa2048, KeyType::Ed25519]
        {
            let key = Key::generate(kind).unwrap();
            let jose = key.sign(b"input").unwrap();
            let x509 = to_x509(kind, &jose).unwrap();
            assert_eq!(key.accept(b"input", &jose).unwrap(), jose);
            assert_eq!(key.accept(b"input", &x509).unwrap(), jose);
            for wrong in [&b""[..], &[0; 64], &jose[1..], &x509[..x509.len() - 1]] {
                let error = key.accept(b"input", wrong).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Crypto);
            }
            assert!(key.accept(b"other", &jose).is_err());
        }
    }
}
