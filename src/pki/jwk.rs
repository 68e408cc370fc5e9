//! The public half of a key as a JSON Web Key, and its thumbprint.
//!
//! RFC 7517, RFC 7518 section 6, RFC 7638. Coordinates have the full width of the curve: "the
//! length of this octet string MUST be the full size of a coordinate" (RFC 7518 section 6.2.1.2).

use openssl::bn::{BigNum, BigNumContext};
use openssl::pkey::{HasPublic, PKeyRef};

use super::key_type::KeyType;
use super::sha256::sha256;
use crate::base64url;
use crate::error::Result;

/// Returns the key as canonical JSON: members in order, no white space (RFC 7638 section 3.3).
pub(crate) fn canonical<T: HasPublic>(key: &PKeyRef<T>, kind: KeyType) -> Result<String> {
    if let Some(curve) = kind.curve() {
        let ec = key.ec_key()?;
        let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
        let mut context = BigNumContext::new()?;
        ec.public_key().affine_coordinates(ec.group(), &mut x, &mut y, &mut context)?;
        let x = base64url::encode(x.to_vec_padded(curve.width)?);
        let y = base64url::encode(y.to_vec_padded(curve.width)?);
        return Ok(format!(r#"{{"crv":"{}","kty":"EC","x":"{x}","y":"{y}"}}"#, curve.name));
    }
    if kind == KeyType::Ed25519 {
        let x = base64url::encode(key.raw_public_key()?);
        return Ok(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
    }
    let rsa = key.rsa()?;
    let e = base64url::encode(rsa.e().to_vec());
    let n = base64url::encode(rsa.n().to_vec());
    Ok(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#))
}

/// Returns the RFC 7638 thumbprint of a canonical key, base64url.
pub(crate) fn thumbprint(canonical: &str) -> String {
    base64url::encode(sha256(canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Key;
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    #[test]
    fn t14_rfc_7638_section_3_1() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS\
                 oc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ\
                 R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTW\
                 hAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let n = BigNum::from_slice(&base64url::decode_pasted(n).unwrap()).unwrap();
        let e = BigNum::from_u32(65537).unwrap();
        let key = PKey::from_rsa(Rsa::from_public_components(n, e).unwrap()).unwrap();
        let json = canonical(&key, KeyType::Rsa2048).unwrap();
        assert_eq!(thumbprint(&json), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn rfc_8037_appendix_a_3() {
        let x = base64url::decode_pasted("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = PKey::public_key_from_raw_bytes(&x, openssl::pkey::Id::ED25519).unwrap();
        let json = canonical(&key, KeyType::Ed25519).unwrap();
        assert_eq!(thumbprint(&json), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn t14_every_kind_of_key_has_the_thumbprint_of_its_canonical_form() {
        let e3 = Rsa::generate_with_e(2048, &BigNum::from_u32(3).unwrap()).unwrap();
        let keys = [
            Key::from_pkey(PKey::from_rsa(e3).unwrap()).unwrap(),
            Key::generate(KeyType::Rsa2048).unwrap(),
            Key::generate(KeyType::P256).unwrap(),
            Key::generate(KeyType::P384).unwrap(),
            Key::generate(KeyType::Ed25519).unwrap(),
        ];
        for (key, members) in keys.iter().zip([
            r#"{"e":"Aw","kty":"RSA","n":"#,
            r#"{"e":"AQAB","kty":"RSA","n":"#,
            r#"{"crv":"P-256","kty":"EC","x":"#,
            r#"{"crv":"P-384","kty":"EC","x":"#,
            r#"{"crv":"Ed25519","kty":"OKP","x":"#,
        ]) {
            assert!(key.jwk().starts_with(members), "{}", key.jwk());
            assert_eq!(key.thumbprint(), thumbprint(key.jwk()));
            let json: serde_json::Value = serde_json::from_str(key.jwk()).unwrap();
            let size = |name: &str| {
                base64url::decode_pasted(json[name].as_str().unwrap_or_default()).unwrap().len()
            };
            let sizes = [size("n"), size("x"), size("y")];
            let right = [[256, 0, 0], [0, 32, 32], [0, 48, 48], [0, 32, 0]];
            assert!(right.contains(&sizes), "{sizes:?}");
        }
    }

    /// The private key `d` on P-256, chosen so that a coordinate starts with a zero byte.
    fn p256(d: u32) -> Key {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let d = BigNum::from_u32(d).unwrap();
        let mut point = EcPoint::new(&group).unwrap();
        point.mul_generator2(&group, &d, &mut BigNumContext::new().unwrap()).unwrap();
        let key = EcKey::from_private_components(&group, &d, &point).unwrap();
        Key::from_pkey(PKey::from_ec_key(key).unwrap()).unwrap()
    }

    #[test]
    fn j01_t14_coordinates_with_leading_zero_bytes_keep_their_width() {
        let mut short = 0;
        for d in 1..u32::try_from(crate::pki::tests::signatures_to_test() / 20).unwrap() {
            let key = p256(d);
            let json: serde_json::Value = serde_json::from_str(key.jwk()).unwrap();
            for name in ["x", "y"] {
                let bytes = base64url::decode_pasted(json[name].as_str().unwrap()).unwrap();
                assert_eq!(bytes.len(), 32, "private key {d}");
                short += usize::from(bytes[0] == 0);
            }
        }
        assert!(short > 0, "no coordinate had a leading zero byte: the test shows nothing");
    }
}
