//! Private keys, an account's or a certificate's. They live in OpenSSL, which wipes them.
//!
//! RFC 5208 and 5958 (PKCS#8), RFC 5915 (SEC 1), RFC 8017 (PKCS#1); algorithms: RFC 7518.

use std::fmt;
use std::sync::Arc;

use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::jose::jwk;

/// Kinds of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on NIST P-256: small, quick, taken by every CA. The default.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521. Public CAs do not certify it.
    P521,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
    /// Ed25519, for private CAs.
    Ed25519,
}

/// A curve of RFC 7518 section 6.2.1.1.
pub(crate) struct Curve {
    pub nid: Nid,
    pub name: &'static str,
    /// Bytes of a coordinate, and of each integer of a signature.
    pub width: i32,
}

impl KeyType {
    pub(crate) fn curve(self) -> Option<Curve> {
        let (nid, name, width) = match self {
            KeyType::P256 => (Nid::X9_62_PRIME256V1, "P-256", 32),
            KeyType::P384 => (Nid::SECP384R1, "P-384", 48),
            KeyType::P521 => (Nid::SECP521R1, "P-521", 66),
            _ => return None,
        };
        Some(Curve { nid, name, width })
    }

    fn rsa_bits(self) -> Option<u32> {
        match self {
            KeyType::Rsa2048 => Some(2048),
            KeyType::Rsa3072 => Some(3072),
            KeyType::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    fn of(key: &PKey<Private>) -> Option<KeyType> {
        match key.id() {
            Id::EC => {
                let nid = key.ec_key().ok()?.group().curve_name()?;
                [KeyType::P256, KeyType::P384, KeyType::P521]
                    .into_iter()
                    .find(|kind| kind.curve().is_some_and(|curve| curve.nid == nid))
            }
            Id::RSA => [KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096]
                .into_iter()
                .find(|kind| kind.rsa_bits() == Some(key.bits())),
            Id::ED25519 => Some(KeyType::Ed25519),
            _ => None,
        }
    }

    /// The digest that goes with it, in a JWS (RFC 7518 section 3.1) as in a CSR.
    pub(crate) fn digest(self) -> MessageDigest {
        match self {
            KeyType::P384 => MessageDigest::sha384(),
            KeyType::P521 => MessageDigest::sha512(),
            // Ed25519 hashes by itself: OpenSSL wants "no digest" said so.
            KeyType::Ed25519 => MessageDigest::null(),
            _ => MessageDigest::sha256(),
        }
    }
}

/// A private key. Cheap to clone: clones share one key.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    pkey: PKey<Private>,
    kind: KeyType,
    jwk: String,
    thumbprint: String,
}

impl Key {
    /// Makes a fresh key. RSA takes up to seconds of CPU time.
    pub fn generate(kind: KeyType) -> Result<Key> {
        let pkey = match (kind.curve(), kind.rsa_bits()) {
            (Some(curve), _) => {
                PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve.nid)?)?)?
            }
            (None, Some(bits)) => PKey::from_rsa(Rsa::generate(bits)?)?,
            (None, None) => PKey::generate_ed25519()?,
        };
        Key::from_pkey(pkey)
    }

    /// Reads a PEM or DER key: PKCS#8, SEC 1 or PKCS#1.
    pub fn parse(data: &[u8]) -> Result<Key> {
        let pem = data.windows(11).any(|window| window == b"-----BEGIN ");
        // Without a callback of ours OpenSSL would ask for a passphrase on the terminal.
        let mut encrypted = false;
        let parsed = if pem {
            PKey::private_key_from_pem_callback(data, |_| {
                encrypted = true;
                Err(openssl::error::ErrorStack::get())
            })
        } else {
            PKey::private_key_from_der(data)
        };
        match parsed {
            Ok(pkey) => Key::from_pkey(pkey),
            Err(_) if encrypted => Err(Error::new(
                ErrorKind::Unsupported,
                "the key is encrypted with a passphrase; decrypt it first (openssl pkey)",
            )),
            Err(_) => Err(Error::new(
                ErrorKind::Parse,
                "not a private key in PEM or DER (PKCS#8, SEC 1 or PKCS#1)",
            )),
        }
    }

    /// Takes a key that OpenSSL already holds.
    pub fn from_pkey(pkey: PKey<Private>) -> Result<Key> {
        let kind = KeyType::of(&pkey).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a key of this kind ({} bits) is not supported; use EC P-256, P-384 or P-521, \
                     RSA with 2048, 3072 or 4096 bits, or Ed25519",
                    pkey.bits()
                ),
            )
        })?;
        check(&pkey)?;
        let jwk = jwk::canonical(&pkey, kind)?;
        let thumbprint = jwk::thumbprint(&jwk);
        Ok(Key(Arc::new(Inner { pkey, kind, jwk, thumbprint })))
    }

    /// Its kind.
    pub fn kind(&self) -> KeyType {
        self.0.kind
    }

    /// The private key as PKCS#8 PEM. Secret; wiped from memory when dropped.
    pub fn to_pem(&self) -> Result<Zeroizing<String>> {
        let pem = Zeroizing::new(self.0.pkey.private_key_to_pem_pkcs8()?);
        // PEM is ASCII.
        Ok(Zeroizing::new(String::from_utf8_lossy(&pem).into_owned()))
    }

    /// RFC 7638 thumbprint of the public key, base64url.
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// The OpenSSL key.
    pub fn pkey(&self) -> &PKey<Private> {
        &self.0.pkey
    }

    /// The public key as canonical JSON.
    pub(crate) fn jwk(&self) -> &str {
        &self.0.jwk
    }

    /// Name of its JWS algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.0.kind {
            KeyType::P256 => "ES256",
            KeyType::P384 => "ES384",
            KeyType::P521 => "ES512",
            KeyType::Ed25519 => "EdDSA",
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => "RS256",
        }
    }

    /// Signs as a JWS wants it: for ECDSA the two integers in full width, one after the other
    /// (RFC 7518 section 3.4), not the DER that TLS uses.
    pub(crate) fn sign(&self, input: &[u8]) -> Result<Vec<u8>> {
        let pkey = &self.0.pkey;
        let Some(curve) = self.0.kind.curve() else {
            let mut signer = match self.0.kind {
                KeyType::Ed25519 => Signer::new_without_digest(pkey)?,
                kind => Signer::new(kind.digest(), pkey)?,
            };
            return Ok(signer.sign_oneshot_to_vec(input)?);
        };
        let digest = openssl::hash::hash(self.0.kind.digest(), input)?;
        let signature = EcdsaSig::sign(&digest, &*pkey.ec_key()?)?;
        let mut bytes = signature.r().to_vec_padded(curve.width)?;
        bytes.extend(signature.s().to_vec_padded(curve.width)?);
        Ok(bytes)
    }
}

/// Refuses a key whose parts do not belong together.
fn check(pkey: &PKey<Private>) -> Result<()> {
    let sound = match pkey.id() {
        Id::EC => pkey.ec_key()?.check_key().is_ok(),
        Id::RSA => pkey.rsa()?.check_key().unwrap_or(false),
        _ => true,
    };
    match sound {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Crypto, "the parts of the key do not belong together")),
    }
}

/// Shows no part of the private key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, thumbprint {})", self.0.kind, self.0.thumbprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_made_written_and_read() {
        for kind in
            [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Rsa2048, KeyType::Ed25519]
        {
            let key = Key::generate(kind).unwrap();
            assert_eq!(key.kind(), kind);
            let again = Key::parse(key.to_pem().unwrap().as_bytes()).unwrap();
            assert!(again.pkey().public_eq(key.pkey()));
            assert_eq!(again.thumbprint(), key.thumbprint());
            let der = key.pkey().private_key_to_der().unwrap();
            assert!(Key::parse(&der).unwrap().pkey().public_eq(key.pkey()));
        }
    }

    #[test]
    fn old_forms_are_read() {
        let ec = Key::generate(KeyType::P384).unwrap();
        let sec1 = ec.pkey().ec_key().unwrap().private_key_to_pem().unwrap();
        assert!(sec1.starts_with(b"-----BEGIN EC PRIVATE KEY-----"));
        assert!(Key::parse(&sec1).unwrap().pkey().public_eq(ec.pkey()));
        let rsa = Key::generate(KeyType::Rsa2048).unwrap();
        let pkcs1 = rsa.pkey().rsa().unwrap().private_key_to_pem().unwrap();
        assert!(pkcs1.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
        assert!(Key::parse(&pkcs1).unwrap().pkey().public_eq(rsa.pkey()));
    }

    #[test]
    fn what_is_refused_and_how() {
        let kind = |data: &[u8]| Key::parse(data).unwrap_err().kind();
        assert_eq!(kind(b""), ErrorKind::Parse);
        assert_eq!(
            kind(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            ErrorKind::Parse
        );
        assert_eq!(kind(&[0x30; 64]), ErrorKind::Parse);
        let weak = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
        assert_eq!(kind(&weak.private_key_to_pem_pkcs8().unwrap()), ErrorKind::Unsupported);
        let odd = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP256K1).unwrap()).unwrap();
        let odd = PKey::from_ec_key(odd).unwrap();
        assert_eq!(kind(&odd.private_key_to_pem_pkcs8().unwrap()), ErrorKind::Unsupported);
        let key = Key::generate(KeyType::P256).unwrap();
        let cipher = openssl::symm::Cipher::aes_256_cbc();
        let encrypted = key.pkey().private_key_to_pem_pkcs8_passphrase(cipher, b"x").unwrap();
        assert_eq!(kind(&encrypted), ErrorKind::Unsupported);
    }

    #[test]
    fn debug_output_has_nothing_secret() {
        let key = Key::generate(KeyType::P256).unwrap();
        assert_eq!(format!("{key:?}"), format!("Key(P256, thumbprint {})", key.thumbprint()));
    }
}
