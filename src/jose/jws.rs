//! The signed body of every POST: a JWS in flattened JSON serialization.
//!
//! RFC 7515 section 7.2.2; RFC 8555 section 6.2 (protected header: `alg`, `nonce`, `url`, and
//! exactly one of `jwk` and `kid`).

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base64url;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;

/// Which key signed: by account URL, or in full where the CA cannot know it yet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyReference<'a> {
    /// The account's URL (RFC 8555 section 6.2).
    Kid(&'a str),
    /// The public key itself: newAccount, and revocation by the certificate's key.
    Jwk,
}

/// A protected header. A field that is `None` is absent.
#[derive(Serialize)]
pub(super) struct Protected<'a> {
    pub alg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwk: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
    pub url: &'a str,
}

/// A JWS that is still to be signed: by a key of ours, or by one outside the process.
pub(crate) struct Unsigned {
    /// Protected header and payload in base64url, with a dot between: what the signature is over
    /// (RFC 7515 section 5.1).
    input: String,
}

impl Unsigned {
    /// The body of one request: this payload (empty for POST-as-GET, RFC 8555 section 6.3), this
    /// URL, this nonce.
    pub(crate) fn request(
        key: &Key,
        reference: KeyReference<'_>,
        url: &str,
        nonce: &str,
        payload: &[u8],
    ) -> Result<Unsigned> {
        let (jwk, kid) = match reference {
            KeyReference::Jwk => (Some(raw(key.jwk())?), None),
            KeyReference::Kid(kid) => (None, Some(kid)),
        };
        let (alg, jwk) = (key.kind().algorithm(), jwk.as_deref());
        Unsigned::new(&Protected { alg, jwk, kid, nonce: Some(nonce), url }, payload)
    }

    /// The inner JWS of a key change, for the new key: it has a URL but no nonce (RFC 8555 section
    /// 7.3.5).
    pub(crate) fn key_change(key: &Key, url: &str, payload: &[u8]) -> Result<Unsigned> {
        let (alg, jwk) = (key.kind().algorithm(), raw(key.jwk())?);
        Unsigned::new(&Protected { alg, jwk: Some(&jwk), kid: None, nonce: None, url }, payload)
    }

    pub(super) fn new(protected: &Protected<'_>, payload: &[u8]) -> Result<Unsigned> {
        let protected = base64url::encode(serde_json::to_vec(protected).map_err(internal)?);
        Ok(Unsigned { input: format!("{protected}.{}", base64url::encode(payload)) })
    }

    /// What the signature is over.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.as_bytes()
    }

    /// The flattened JSON serialization, with the signature in JOSE's form.
    pub(crate) fn signed(&self, signature: &[u8]) -> Result<Vec<u8>> {
        let (protected, payload) = self.input.split_once('.').unwrap_or_default();
        let signature = &base64url::encode(signature);
        serde_json::to_vec(&Flattened { protected, payload, signature }).map_err(internal)
    }
}

/// The flattened JSON serialization.
#[derive(Serialize)]
struct Flattened<'a> {
    protected: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// Canonical JSON of ours as a value to embed.
pub(crate) fn raw(json: &str) -> Result<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).map_err(internal)
}

fn internal(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Crypto, format!("cannot serialize the JWS: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::KeyType;
    use openssl::bn::BigNum;
    use openssl::ecdsa::EcdsaSig;
    use openssl::sha::sha256;
    use serde_json::Value;

    fn decode(value: &Value) -> Vec<u8> {
        base64url::decode_pasted(value.as_str().unwrap()).unwrap()
    }

    #[test]
    fn the_protected_header_has_exactly_one_key_reference() {
        let key = Key::generate(KeyType::P256).unwrap();
        for (reference, has, lacks) in
            [(KeyReference::Jwk, "jwk", "kid"), (KeyReference::Kid("https://ca/1"), "kid", "jwk")]
        {
            let jws = Unsigned::request(&key, reference, "https://ca/x", "n1", b"").unwrap();
            let jws = jws.signed(&key.sign(jws.input()).unwrap()).unwrap();
            let jws: Value = serde_json::from_slice(&jws).unwrap();
            let header: Value = serde_json::from_slice(&decode(&jws["protected"])).unwrap();
            assert_eq!(header["alg"], "ES256");
            assert_eq!(header["url"], "https://ca/x");
            assert_eq!(header["nonce"], "n1");
            assert!(header.get(has).is_some() && header.get(lacks).is_none());
            assert_eq!(jws["payload"], "");
        }
    }

    #[test]
    fn ecdsa_signatures_have_full_width_and_verify() {
        let key = Key::generate(KeyType::P256).unwrap();
        let ec = key.public_key().ec_key().unwrap();
        let mut short = 0;
        for n in 0..2000u32 {
            let message = n.to_be_bytes();
            let signature = key.sign(&message).unwrap();
            assert_eq!(signature.len(), 64);
            let (r, s) = signature.split_at(32);
            short += usize::from(r[0] == 0 || s[0] == 0);
            let number = |bytes| BigNum::from_slice(bytes).unwrap();
            let der = EcdsaSig::from_private_components(number(r), number(s)).unwrap();
            assert!(der.verify(&sha256(&message), &ec).unwrap());
        }
        assert!(short > 0, "no integer had a leading zero byte: the test shows nothing");
    }
}
