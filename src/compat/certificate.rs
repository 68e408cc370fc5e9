//! A certificate with its key, as text.

use std::fmt;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::time::Time;

/// A certificate chain and the private key of its leaf.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    private_key: Zeroizing<String>,
    certificate: String,
}

impl Certificate {
    pub(super) fn new(private_key: Zeroizing<String>, certificate: String) -> Certificate {
        Certificate { private_key, certificate }
    }

    /// Reads a private key and a chain as PEM.
    pub fn parse(private_key: String, certificate: String) -> anyhow::Result<Certificate> {
        let private_key = Zeroizing::new(private_key);
        X509::from_pem(certificate.as_bytes())?;
        read_key(&private_key)?;
        Ok(Certificate { private_key, certificate })
    }

    /// The private key as PEM. Secret.
    pub fn private_key(&self) -> &str {
        &self.private_key
    }

    /// The private key as DER: SEC 1 for EC keys, PKCS#1 for RSA. Secret.
    pub fn private_key_der(&self) -> anyhow::Result<Vec<u8>> {
        Ok(read_key(&self.private_key)?.private_key_to_der()?)
    }

    /// The chain as PEM, leaf first.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The leaf as DER.
    pub fn certificate_der(&self) -> anyhow::Result<Vec<u8>> {
        Ok(X509::from_pem(self.certificate.as_bytes())?.to_der()?)
    }

    /// Whole days until the leaf expires: 0 on the last day and on the first one after it, negative
    /// from then on.
    pub fn valid_days_left(&self) -> anyhow::Result<i64> {
        let leaf = X509::from_pem(self.certificate.as_bytes())?;
        let now = Asn1Time::from_unix(Time::now().as_millis().div_euclid(1000))?;
        // Days and seconds have the same sign: the days are cut off towards zero.
        Ok(now.diff(leaf.not_after())?.days.into())
    }
}

/// Contains the certificate, and nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = &self.certificate;
        f.debug_struct("Certificate").field("certificate", certificate).finish_non_exhaustive()
    }
}

/// Reads a key. Refuses an encrypted one: without this callback OpenSSL would ask for its
/// passphrase on the terminal.
fn read_key(pem: &str) -> Result<PKey<Private>, ErrorStack> {
    PKey::private_key_from_pem_callback(pem.as_bytes(), |_| Err(ErrorStack::get()))
}

/// Makes a key for a certificate: ECDSA on P-256.
pub fn create_p256_key() -> anyhow::Result<PKey<Private>> {
    create_ec_key(Nid::X9_62_PRIME256V1)
}

/// Makes a key for a certificate: ECDSA on P-384.
pub fn create_p384_key() -> anyhow::Result<PKey<Private>> {
    create_ec_key(Nid::SECP384R1)
}

/// Makes a key for a certificate: RSA with this many bits. It takes up to seconds.
pub fn create_rsa_key(bits: u32) -> anyhow::Result<PKey<Private>> {
    Ok(PKey::from_rsa(Rsa::generate(bits)?)?)
}

fn create_ec_key(curve: Nid) -> anyhow::Result<PKey<Private>> {
    Ok(PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve)?)?)?)
}
