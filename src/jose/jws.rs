//! The signed body of every POST: a JWS in flattened JSON serialization.
//!
//! RFC 7515 section 7.2.2; RFC 8555 section 6.2 (protected header: `alg`, `nonce`, `url`, and
//! exactly one of `jwk` and `kid`).

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base64url;
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;

/// The reference to the signing key in the protected header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyReference<'a> {
    /// The account's URL (RFC 8555 section 6.2).
    Kid(&'a str),
    /// The public key itself: newAccount, and revocation by the certificate's key.
    Jwk,
}

/// A protected header. A member that is `None` is absent.
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

/// A JWS without its signature. The key may be outside the process.
pub(crate) struct Unsigned {
    /// The signing input (RFC 7515 section 5.1): protected header and payload in base64url, with a dot
    /// between them.
    input: String,
}

impl Unsigned {
    /// Makes the body of a request. The payload is empty for POST-as-GET (RFC 8555 section 6.3).
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

    /// Makes the inner JWS of a key change, for the new key. It has a URL and no nonce (RFC 8555 section
    /// 7.3.5).
    pub(crate) fn key_change(key: &Key, url: &str, payload: &[u8]) -> Result<Unsigned> {
        let (alg, jwk) = (key.kind().algorithm(), raw(key.jwk())?);
        Unsigned::new(&Protected { alg, jwk: Some(&jwk), kid: None, nonce: None, url }, payload)
    }

    pub(super) fn new(protected: &Protected<'_>, payload: &[u8]) -> Result<Unsigned> {
        let protected = base64url::encode(serde_json::to_vec(protected).map_err(internal)?);
        Ok(Unsigned { input: format!("{protected}.{}", base64url::encode(payload)) })
    }

    /// The signing input.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.as_bytes()
    }

    /// Returns the flattened JSON serialization with this signature, which is in JOSE's form.
    pub(crate) fn signed(&self, signature: &[u8]) -> Vec<u8> {
        // Base64url has no character that JSON escapes.
        let (protected, payload) = self.input.split_once('.').unwrap_or_default();
        let signature = base64url::encode(signature);
        format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#)
            .into_bytes()
    }
}

/// Makes an embedded value of JSON that this library has written.
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
    use openssl::hash::MessageDigest;
    use openssl::pkey::{Id, PKey};
    use openssl::rsa::RsaPrivateKeyBuilder;
    use openssl::sign::Verifier;
    use serde_json::Value;

    fn decode(value: &Value) -> Vec<u8> {
        base64url::decode_pasted(value.as_str().unwrap()).unwrap()
    }

    #[test]
    fn j03_the_protected_header_has_exactly_one_key_reference() {
        let key = Key::generate(KeyType::P256).unwrap();
        for (reference, has, lacks) in
            [(KeyReference::Jwk, "jwk", "kid"), (KeyReference::Kid("https://ca/1"), "kid", "jwk")]
        {
            let jws = Unsigned::request(&key, reference, "https://ca/x", "n1", b"").unwrap();
            let jws = jws.signed(&key.sign(jws.input()).unwrap());
            let jws: Value = serde_json::from_slice(&jws).unwrap();
            let header: Value = serde_json::from_slice(&decode(&jws["protected"])).unwrap();
            assert_eq!(header["alg"], "ES256");
            assert_eq!(header["url"], "https://ca/x");
            assert_eq!(header["nonce"], "n1");
            assert!(header.get(has).is_some() && header.get(lacks).is_none());
            assert_eq!(jws["payload"], "");
        }
    }

    /// Panics unless OpenSSL accepts the signature. Returns whether r or s starts with a zero byte.
    fn verify(key: &Key, message: &[u8], signature: &[u8]) -> bool {
        let (width, digest) = match key.kind() {
            KeyType::P256 => (32, MessageDigest::sha256()),
            KeyType::P384 => (48, MessageDigest::sha384()),
            KeyType::P521 => (66, MessageDigest::sha512()),
            _ => (0, MessageDigest::sha256()),
        };
        let mut verifier = match key.kind() {
            KeyType::Ed25519 => Verifier::new_without_digest(key.public_key()),
            _ => Verifier::new(digest, key.public_key()),
        }
        .unwrap();
        if width == 0 {
            assert!(verifier.verify_oneshot(signature, message).unwrap(), "{:?}", key.kind());
            return false;
        }
        assert_eq!(signature.len(), 2 * width);
        let (r, s) = signature.split_at(width);
        let number = |bytes| BigNum::from_slice(bytes).unwrap();
        let der = EcdsaSig::from_private_components(number(r), number(s)).unwrap();
        assert!(verifier.verify_oneshot(&der.to_der().unwrap(), message).unwrap());
        r[0] == 0 || s[0] == 0
    }

    /// Makes this number of signatures and checks them. Returns how many start with a zero byte.
    fn sign_and_verify(kind: KeyType, count: usize) -> usize {
        let (mut key, mut short) = (Key::generate(kind).unwrap(), 0);
        for n in 0..count {
            // A new key for each hundred signatures.
            if n % 100 == 99 && matches!(kind, KeyType::P256 | KeyType::Ed25519) {
                key = Key::generate(kind).unwrap();
            }
            let message = format!("eyJ9.{n}");
            let signature = key.sign(message.as_bytes()).unwrap();
            short += usize::from(verify(&key, message.as_bytes(), &signature));
        }
        short
    }

    // The slow key types get a small share of the signatures.
    #[test]
    fn j01_j05_a_hundred_thousand_signatures_have_full_width_and_verify() {
        let all = crate::pki::tests::signatures_to_test();
        let some = |kinds: &[(KeyType, usize)]| -> usize {
            kinds.iter().map(|(kind, share)| sign_and_verify(*kind, all * share / 1000)).sum()
        };
        let (p256, others) = std::thread::scope(|scope| {
            let p256 = scope.spawn(|| some(&[(KeyType::P256, 649)]));
            let others = some(&[
                (KeyType::P256, 200),
                (KeyType::Ed25519, 144),
                (KeyType::P384, 2),
                (KeyType::P521, 2),
                (KeyType::Rsa2048, 1),
                (KeyType::Rsa3072, 1),
                (KeyType::Rsa4096, 1),
            ]);
            (p256.join().unwrap(), others)
        });
        assert!(p256 > all / 500 && others > 0, "{p256} {others}: no zero bytes to lose");
    }

    /// RFC 7515 appendix A.2: RSASSA-PKCS1-v1_5 signs the same text the same way each time.
    #[test]
    fn rfc_7515_appendix_a_2() {
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1\
                 Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpa\
                 SHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4\
                 LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let d = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwV\
                 ol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzj\
                 kn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaF\
                 QT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
        let p = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0H\
                 w_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
        let q = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7T\
                 jeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
        let input = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9l\
                     eGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF\
                         5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK\
                         5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqt\
                         FZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB\
                         p0igcN_IoypGlUPQGe77Rw";
        let number =
            |text: &str| BigNum::from_slice(&base64url::decode_pasted(text).unwrap()).unwrap();
        let e = BigNum::from_u32(65537).unwrap();
        let (p, q) = (number(p), number(q));
        let rsa = RsaPrivateKeyBuilder::new(number(n), e, number(d)).unwrap();
        let rsa = rsa.set_factors(p, q).unwrap().build();
        let key = Key::from_pkey(PKey::from_rsa(rsa).unwrap()).unwrap();
        assert_eq!(base64url::encode(key.sign(input.as_bytes()).unwrap()), signature);
    }

    /// RFC 8037 appendix A.4: so does Ed25519.
    #[test]
    fn rfc_8037_appendix_a_4() {
        let d = base64url::decode_pasted("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = PKey::private_key_from_raw_bytes(&d, Id::ED25519).unwrap();
        let key = Key::from_pkey(key).unwrap();
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_M\
                         uM0KAg";
        assert_eq!(base64url::encode(key.sign(input.as_bytes()).unwrap()), signature);
    }
}
