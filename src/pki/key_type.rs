//! Kinds of key, and the algorithms that go with them. RFC 7518 sections 3.1 and 6.2, RFC 8037.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKeyRef};

/// Kinds of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on NIST P-256: small, fast, accepted by every CA. The default.
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
    /// Size in bytes of a coordinate, and of each integer of a signature.
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

    pub(super) fn rsa_bits(self) -> Option<u32> {
        match self {
            KeyType::Rsa2048 => Some(2048),
            KeyType::Rsa3072 => Some(3072),
            KeyType::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    pub(super) fn of<T: HasPublic>(key: &PKeyRef<T>) -> Option<KeyType> {
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

    /// The digest for signatures, in a JWS (RFC 7518 section 3.1) and in a CSR.
    pub(crate) fn digest(self) -> MessageDigest {
        match self {
            KeyType::P384 => MessageDigest::sha384(),
            KeyType::P521 => MessageDigest::sha512(),
            // Ed25519 hashes on its own: OpenSSL requires an explicit "no digest".
            KeyType::Ed25519 => MessageDigest::null(),
            _ => MessageDigest::sha256(),
        }
    }

    /// The name of the JWS algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            KeyType::P256 => "ES256",
            KeyType::P384 => "ES384",
            KeyType::P521 => "ES512",
            KeyType::Ed25519 => "EdDSA",
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => "RS256",
        }
    }
}
