//! Reads signed requests as a strict server does, with OpenSSL instead of the library's own code.
//!
//! RFC 7515, RFC 7518, RFC 8037, RFC 8555 section 6.2.

use std::cell::RefCell;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use openssl::sign::{Signer, Verifier};
use serde_json::Value;

/// Decodes base64url without padding; anything else fails the test.
pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap_or_else(|e| panic!("not base64url: {text:?} ({e})"))
}

pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The three parts of a JWS in flattened JSON serialization, and the bytes that were signed.
pub struct Jws {
    pub protected: Value,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
    pub input: String,
}

impl Jws {
    pub fn parse(value: &Value) -> Jws {
        let members = value.as_object().expect("a JWS is a JSON object");
        let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["payload", "protected", "signature"], "the members of a JWS");
        let text = |name: &str| members[name].as_str().expect("the parts of a JWS are strings");
        Jws {
            protected: serde_json::from_slice(&decode(text("protected"))).expect("a JSON header"),
            payload: decode(text("payload")),
            signature: decode(text("signature")),
            input: format!("{}.{}", text("protected"), text("payload")),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.protected[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.protected))
    }

    /// Fails the test unless the signature is by this public key.
    pub fn verify(&self, jwk: &Value) {
        assert!(self.is_by(jwk), "the signature is wrong: {}", self.protected);
    }

    /// Whether the signature is by this key, which may be of another kind. A signature that is too
    /// short fails the test.
    pub fn is_by(&self, jwk: &Value) -> bool {
        thread_local! {
            // Caches keys: OpenSSL takes as long to read a key as to verify with it.
            static KEYS: RefCell<HashMap<String, PKey<Public>>> = RefCell::default();
        }
        let key = KEYS.with_borrow_mut(|keys| {
            keys.entry(jwk.to_string()).or_insert_with(|| public_key(jwk)).clone()
        });
        let (input, signature) = (self.input.as_bytes(), &self.signature);
        match self.header("alg") {
            "ES256" => ecdsa(&key, "P-256", jwk, MessageDigest::sha256(), input, signature, 32),
            "ES384" => ecdsa(&key, "P-384", jwk, MessageDigest::sha384(), input, signature, 48),
            "ES512" => ecdsa(&key, "P-521", jwk, MessageDigest::sha512(), input, signature, 66),
            "RS256" => {
                let mut verifier = Verifier::new(MessageDigest::sha256(), &key).unwrap();
                verifier.verify_oneshot(signature, input).unwrap_or(false)
            }
            "EdDSA" => {
                let mut verifier = Verifier::new_without_digest(&key).unwrap();
                verifier.verify_oneshot(signature, input).unwrap_or(false)
            }
            other => panic!("unknown algorithm {other}"),
        }
    }

    pub fn verify_mac(&self, mac_key: &[u8]) {
        assert_eq!(self.header("alg"), "HS256");
        let key = PKey::hmac(mac_key).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        let expected = signer.sign_oneshot_to_vec(self.input.as_bytes()).unwrap();
        assert_eq!(self.signature, expected, "the HMAC of the external account binding is wrong");
    }
}

fn ecdsa(
    key: &PKey<Public>,
    curve: &str,
    jwk: &Value,
    digest: MessageDigest,
    input: &[u8],
    signature: &[u8],
    width: usize,
) -> bool {
    assert_eq!(jwk["crv"], curve);
    assert_eq!(signature.len(), 2 * width, "an ECDSA signature has full width");
    let (r, s) = signature.split_at(width);
    let number = |bytes| BigNum::from_slice(bytes).unwrap();
    let signature = EcdsaSig::from_private_components(number(r), number(s)).unwrap();
    signature.verify(&hash(digest, input).unwrap(), &key.ec_key().unwrap()).unwrap()
}

/// Returns the OpenSSL key of a JSON Web Key.
pub fn public_key(jwk: &Value) -> PKey<Public> {
    let bytes = |name: &str| decode(jwk[name].as_str().unwrap_or_else(|| panic!("{name}: {jwk}")));
    let number = |name: &str| BigNum::from_slice(&bytes(name)).unwrap();
    match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
        (Some("EC"), Some(curve)) => {
            let (nid, width) = match curve {
                "P-256" => (Nid::X9_62_PRIME256V1, 32),
                "P-384" => (Nid::SECP384R1, 48),
                "P-521" => (Nid::SECP521R1, 66),
                _ => panic!("unknown curve {curve}"),
            };
            assert_eq!((bytes("x").len(), bytes("y").len()), (width, width), "{jwk}");
            let group = EcGroup::from_curve_name(nid).unwrap();
            let (x, y) = (number("x"), number("y"));
            let key = EcKey::from_public_key_affine_coordinates(&group, &x, &y).unwrap();
            PKey::from_ec_key(key).unwrap()
        }
        (Some("RSA"), _) => {
            PKey::from_rsa(Rsa::from_public_components(number("n"), number("e")).unwrap()).unwrap()
        }
        (Some("OKP"), Some("Ed25519")) => {
            PKey::public_key_from_raw_bytes(&bytes("x"), Id::ED25519).unwrap()
        }
        other => panic!("unknown kind of key {other:?}"),
    }
}

/// Returns the thumbprint of a JSON Web Key (RFC 7638).
pub fn thumbprint(jwk: &Value) -> String {
    let members: &[&str] = match jwk["kty"].as_str() {
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("RSA") => &["e", "kty", "n"],
        _ => &["crv", "kty", "x"],
    };
    let members: Vec<String> =
        members.iter().map(|name| format!("\"{name}\":{}", jwk[*name])).collect();
    let canonical = format!("{{{}}}", members.join(","));
    encode(&openssl::sha::sha256(canonical.as_bytes()))
}
