//! Keys of accounts and certificates. A private key is in OpenSSL, which wipes it, or outside the
//! process: then the library has the public half only, and the host signs.
//!
//! RFC 5208 and 5958 (PKCS#8), RFC 5915 (SEC 1), RFC 8017 (PKCS#1).

use std::fmt;
use std::sync::Arc;

use openssl::ec::{EcGroup, EcKey};
use openssl::pkey::{Id, PKey, Private, Public};
use openssl::rsa::Rsa;
use zeroize::Zeroizing;

use super::jwk;
use super::key_type::KeyType;
use super::named_curve;
use super::pkcs8;
use super::provider;
use super::signature;
use super::weak_keys;
use crate::error::{Error, ErrorKind, Result};
use crate::text::is_pem;

/// A key. Clones share it, so they are cheap.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    /// The private half; `None` if it is outside the process.
    private: Option<PKey<Private>>,
    public: PKey<Public>,
    kind: KeyType,
    jwk: String,
    thumbprint: String,
}

impl Key {
    /// Generates a key. RSA takes up to seconds of CPU time.
    pub fn generate(kind: KeyType) -> Result<Key> {
        let pkey = match (kind.curve(), kind.rsa_bits()) {
            (Some(curve), _) => {
                PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve.nid)?)?)?
            }
            (None, Some(bits)) => PKey::from_rsa(Rsa::generate(bits)?)?,
            (None, None) => PKey::generate_ed25519()?,
        };
        // No check is necessary: OpenSSL has just generated it.
        Key::of_private(pkey)
    }

    /// Reads a PEM or DER key: PKCS#8, SEC 1 or PKCS#1. A PEM file may contain other things, such
    /// as a certificate, but no second key.
    pub fn parse(data: &[u8]) -> Result<Key> {
        Key::parse_with(data, None)
    }

    /// Reads a PEM key that is encrypted with a passphrase (PKCS#8, or OpenSSL's older form).
    pub fn parse_encrypted(data: &[u8], passphrase: &str) -> Result<Key> {
        Key::parse_with(data, Some(passphrase))
    }

    fn parse_with(data: &[u8], passphrase: Option<&str>) -> Result<Key> {
        if keys_in(data) > 1 {
            let why = "there is more than one private key in this; which one is meant is not said";
            return Err(Error::invalid_argument(why));
        }
        // Without this callback OpenSSL would ask for a passphrase on the terminal.
        let mut encrypted = false;
        let parsed = if is_pem(data) {
            PKey::private_key_from_pem_callback(data, |buffer| {
                encrypted = true;
                let passphrase = passphrase.unwrap_or_default().as_bytes();
                match buffer.get_mut(..passphrase.len()) {
                    Some(place) if !place.is_empty() => place.copy_from_slice(passphrase),
                    _ => return Err(openssl::error::ErrorStack::get()),
                }
                Ok(passphrase.len())
            })
        } else {
            PKey::private_key_from_der(data)
        };
        let refuse = |kind: ErrorKind, why: &str| Err(Error::new(kind, why));
        match (parsed, passphrase) {
            (Ok(pkey), _) => Key::from_pkey(pkey),
            (Err(_), None) if encrypted => refuse(
                ErrorKind::Unsupported,
                "the key is encrypted with a passphrase, and none was given",
            ),
            (Err(_), Some(_)) if encrypted => {
                refuse(ErrorKind::Crypto, "the key cannot be decrypted with this passphrase")
            }
            (Err(_), _) => Err(provider::refusal(
                ErrorKind::Parse,
                "not a private key in PEM or DER (PKCS#8, SEC 1 or PKCS#1)",
            )),
        }
    }

    /// Makes a key of an OpenSSL one.
    pub fn from_pkey(pkey: PKey<Private>) -> Result<Key> {
        // A key from OpenSSL's reader makes a second copy of itself once it is used as an EC key.
        let pkey = match pkey.id() {
            Id::EC => PKey::from_ec_key(pkey.ec_key()?)?,
            _ => pkey,
        };
        check(&pkey)?;
        Key::of_private(pkey)
    }

    fn of_private(pkey: PKey<Private>) -> Result<Key> {
        // Conversion by DER would take longer than generating the key, in OpenSSL's decoders.
        let public = match pkey.ec_key() {
            Ok(ec) => PKey::from_ec_key(EcKey::from_public_key(ec.group(), ec.public_key())?)?,
            Err(_) => PKey::public_key_from_der(&pkey.public_key_to_der()?)?,
        };
        Key::new(Some(pkey), public)
    }

    /// Makes a key whose private half is elsewhere, in an HSM, a KMS or an agent, from its public
    /// half, PEM or DER (SubjectPublicKeyInfo). Operations that use it ask the host to sign
    /// ([`Step::Sign`](crate::engine::Step::Sign)).
    pub fn external(public: &[u8]) -> Result<Key> {
        let parsed = match is_pem(public) {
            true => PKey::public_key_from_pem(public),
            false => PKey::public_key_from_der(public),
        };
        let public = parsed
            .map_err(|_| provider::refusal(ErrorKind::Parse, "not a public key in PEM or DER"))?;
        Key::new(None, public)
    }

    fn new(private: Option<PKey<Private>>, public: PKey<Public>) -> Result<Key> {
        let kind = weak_keys::kind_of(&public)?;
        let public = named_curve::named(public, kind)?;
        let jwk = jwk::canonical(&public, kind)?;
        let thumbprint = jwk::thumbprint(&jwk);
        Ok(Key(Arc::new(Inner { private, public, kind, jwk, thumbprint })))
    }

    /// The kind of the key.
    pub fn kind(&self) -> KeyType {
        self.0.kind
    }

    /// Whether the private half is outside the process.
    pub fn is_external(&self) -> bool {
        self.0.private.is_none()
    }

    /// The private key as PKCS#8 PEM. Secret; wiped from memory when dropped.
    pub fn to_pem(&self) -> Result<Zeroizing<String>> {
        let private = self.private_key()?;
        if let Ok(ec) = private.ec_key() {
            if let Some(pem) = pkcs8::pem(&ec, self.0.kind)? {
                return Ok(pem);
            }
        }
        let pem = Zeroizing::new(private.private_key_to_pem_pkcs8()?);
        // PEM is ASCII.
        Ok(Zeroizing::new(String::from_utf8_lossy(&pem).into_owned()))
    }

    /// RFC 7638 thumbprint of the public key, base64url.
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// The private half, unless it is outside the process.
    pub fn private_key(&self) -> Result<&PKey<Private>> {
        self.0.private.as_ref().ok_or_else(|| {
            let why = "the private key is outside the process, and this needs it here";
            Error::new(ErrorKind::Unsupported, why)
        })
    }

    /// The public half.
    pub fn public_key(&self) -> &PKey<Public> {
        &self.0.public
    }

    /// The public key as canonical JSON.
    pub(crate) fn jwk(&self) -> &str {
        &self.0.jwk
    }

    /// Signs, and returns the signature in JOSE's form (RFC 7518 section 3).
    pub(crate) fn sign(&self, input: &[u8]) -> Result<Vec<u8>> {
        signature::sign(self.private_key()?, self.0.kind, input)
    }

    /// Verifies a signature that was made elsewhere, in DER or in JOSE's form, and returns it in
    /// JOSE's form.
    pub(crate) fn accept(&self, input: &[u8], given: &[u8]) -> Result<Vec<u8>> {
        signature::accept(&self.0.public, self.0.kind, input, given)
    }
}

/// Returns the number of private keys in a PEM file. Each has a first and a last line.
fn keys_in(data: &[u8]) -> usize {
    const END: &[u8] = b" PRIVATE KEY-----";
    data.windows(END.len()).filter(|window| *window == END).count().div_ceil(2)
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
        false => {
            let why = "the parts of the key do not belong together";
            Err(provider::refusal(ErrorKind::Crypto, why))
        }
    }
}

/// Contains no part of the private key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, thumbprint {})", self.0.kind, self.0.thumbprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::nid::Nid;

    #[test]
    fn every_kind_can_be_made_written_and_read() {
        for kind in
            [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Rsa2048, KeyType::Ed25519]
        {
            let key = Key::generate(kind).unwrap();
            assert_eq!(key.kind(), kind);
            let pem = key.to_pem().unwrap();
            assert_eq!(
                pem.as_bytes(),
                key.private_key().unwrap().private_key_to_pem_pkcs8().unwrap()
            );
            let again = Key::parse(pem.as_bytes()).unwrap();
            assert!(again.public_key().public_eq(key.public_key()));
            assert_eq!(again.thumbprint(), key.thumbprint());
            let der = key.private_key().unwrap().private_key_to_der().unwrap();
            assert!(Key::parse(&der).unwrap().public_key().public_eq(key.public_key()));
        }
    }

    #[test]
    fn old_forms_are_read() {
        let ec = Key::generate(KeyType::P384).unwrap();
        let sec1 = ec.private_key().unwrap().ec_key().unwrap().private_key_to_pem().unwrap();
        assert!(sec1.starts_with(b"-----BEGIN EC PRIVATE KEY-----"));
        assert!(Key::parse(&sec1).unwrap().public_key().public_eq(ec.public_key()));
        let rsa = Key::generate(KeyType::Rsa2048).unwrap();
        let pkcs1 = rsa.private_key().unwrap().rsa().unwrap().private_key_to_pem().unwrap();
        assert!(pkcs1.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
        assert!(Key::parse(&pkcs1).unwrap().public_key().public_eq(rsa.public_key()));
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
        let encrypted =
            key.private_key().unwrap().private_key_to_pem_pkcs8_passphrase(cipher, b"x").unwrap();
        assert_eq!(kind(&encrypted), ErrorKind::Unsupported);
        assert_eq!(Key::parse_encrypted(&encrypted, "x").unwrap().thumbprint(), key.thumbprint());
        for wrong in ["", "y", &"long".repeat(1000)] {
            let error = Key::parse_encrypted(&encrypted, wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Crypto);
        }
    }

    #[test]
    fn debug_output_has_nothing_secret() {
        let key = Key::generate(KeyType::P256).unwrap();
        assert_eq!(format!("{key:?}"), format!("Key(P256, thumbprint {})", key.thumbprint()));
    }
}
