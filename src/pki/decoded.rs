//! Certificates that OpenSSL has decoded: reading one, and checking who issued it.
//!
//! RFC 5280 section 6.1.3.

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::x509::{X509, X509VerifyResult};

use super::provider;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::decode_without_key;

/// Minimum number of bits of an RSA key; smaller keys are broken, or soon will be.
const MIN_RSA_BITS: u32 = 2048;

/// Digests whose signatures can be forged.
const WEAK_DIGESTS: [Nid; 4] = [Nid::MD5, Nid::MD5_SHA1, Nid::SHA1, Nid::RIPEMD160];

/// Reads a certificate that is DER to the last byte. Another program may read trailing bytes, or
/// encodings that are not DER, in another way.
pub(super) fn certificate(der: &[u8]) -> Result<X509> {
    strict(X509::from_der(der), der)
}

/// As [`certificate`], but the certificate's key is not decoded.
pub(super) fn certificate_without_key(der: &[u8]) -> Result<X509> {
    strict(decode_without_key(der), der)
}

fn strict(decoded: std::result::Result<X509, ErrorStack>, der: &[u8]) -> Result<X509> {
    let certificate = decoded.map_err(|_| damaged())?;
    match certificate.to_der()? == der {
        true => Ok(certificate),
        false => Err(damaged()),
    }
}

/// Checks certificate `n` of a chain, which is for `key`, and that the next one issued it.
pub(super) fn verify_one(
    n: usize,
    certificate: &X509,
    key: &PKeyRef<Public>,
    issuer: Option<&X509>,
) -> Result<()> {
    let refuse = |why: &str| {
        let why = format!("certificate {n} of the chain {why}");
        Err(Error::new(ErrorKind::Certificate, why))
    };
    if key.id() == Id::RSA && key.bits() < MIN_RSA_BITS {
        return refuse("has a weak key");
    }
    // The signature of a root on itself proves nothing, however strong it is.
    if !is_issued_by(certificate, certificate) && has_weak_signature(certificate) {
        return refuse("has a weak signature");
    }
    match issuer.is_none_or(|issuer| is_issued_by(certificate, issuer)) {
        true => Ok(()),
        false => Err(not_signed(n)),
    }
}

fn not_signed(n: usize) -> Error {
    let why = format!("certificate {n} of the chain is not signed by the next one");
    provider::refusal(ErrorKind::Certificate, &why)
}

/// Whether one certificate issued another, by name and key (RFC 5280 section 6.1.3 (a)), and by key
/// identifier if there is one.
pub(super) fn is_issued_by(certificate: &X509, issuer: &X509) -> bool {
    issuer.issued(certificate) == X509VerifyResult::OK
        && issuer.public_key().is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
}

fn has_weak_signature(certificate: &X509) -> bool {
    let algorithm = certificate.signature_algorithm().object().nid();
    let digest = algorithm.signature_algorithms().map(|algorithms| algorithms.digest);
    digest.is_some_and(|digest| WEAK_DIGESTS.contains(&digest))
}

pub(super) fn malformed(why: &str) -> Error {
    Error::new(ErrorKind::Parse, format!("not a PEM certificate chain: {why}"))
}

pub(super) fn damaged() -> Error {
    malformed("one of its certificates is damaged")
}
