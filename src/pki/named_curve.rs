//! EC keys whose file spells out the parameters of their curve. "specifiedCurve MUST NOT be used in PKIX"
//! (RFC 5480 section 2.1.1), so CAs refuse them. If the parameters are those of a curve with a name, the
//! public key is read again with that name; nothing is written from the private key but its number.

use openssl::ec::{Asn1Flag, EcGroupRef};
use openssl::pkey::{PKey, Public};

use super::key_type::KeyType;
use super::pkcs8;
use crate::error::Result;

/// Whether the parameters are spelled out.
pub(super) fn is_explicit(group: &EcGroupRef) -> bool {
    group.asn1_flag() != Asn1Flag::NAMED_CURVE
}

/// Returns the public key with the name of its curve.
pub(super) fn named(key: PKey<Public>, kind: KeyType) -> Result<PKey<Public>> {
    let Ok(ec) = key.ec_key() else { return Ok(key) };
    match is_explicit(ec.group()) {
        true => Ok(PKey::public_key_from_der(&pkcs8::public_key(&ec, kind)?)?),
        false => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Key, KeyType, SigningRequest};
    use crate::error::ErrorKind;
    use openssl::ec::{Asn1Flag, EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::x509::{X509Req, X509ReqBuilder};

    const CURVES: [(Nid, KeyType); 3] = [
        (Nid::X9_62_PRIME256V1, KeyType::P256),
        (Nid::SECP384R1, KeyType::P384),
        (Nid::SECP521R1, KeyType::P521),
    ];

    fn explicit(curve: Nid) -> PKey<Private> {
        let mut group = EcGroup::from_curve_name(curve).unwrap();
        group.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    /// Checks that everything that is made of the key names the curve.
    fn names_its_curve(key: &Key, kind: KeyType) {
        assert_eq!(key.kind(), kind);
        let named = Key::generate(kind).unwrap().public_key().public_key_to_der().unwrap();
        assert_eq!(key.public_key().public_key_to_der().unwrap().len(), named.len());
        if !key.is_external() {
            let csr = SigningRequest::create(key, &["example.org".to_owned()]).unwrap();
            let text = X509Req::from_der(csr.der()).unwrap().to_text().unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("ASN1 OID: ") && !text.contains("prime-field"), "{text}");
            let again = Key::parse(key.to_pem().unwrap().as_bytes()).unwrap();
            assert_eq!(again.thumbprint(), key.thumbprint());
        }
    }

    #[test]
    fn s18_r12_a_key_with_explicit_parameters_becomes_one_of_the_named_curve() {
        for (curve, kind) in CURVES {
            let pkey = explicit(curve);
            let ec = pkey.ec_key().unwrap();
            for file in [
                pkey.private_key_to_pem_pkcs8().unwrap(),
                pkey.private_key_to_der().unwrap(),
                ec.private_key_to_pem().unwrap(),
                ec.private_key_to_der().unwrap(),
            ] {
                let key = Key::parse(&file).unwrap();
                names_its_curve(&key, kind);
                let width = kind.curve().unwrap().width as usize;
                assert_eq!(key.sign(b"x").unwrap().len(), 2 * width);
            }
            for file in [pkey.public_key_to_pem().unwrap(), pkey.public_key_to_der().unwrap()] {
                names_its_curve(&Key::external(&file).unwrap(), kind);
            }
            names_its_curve(&Key::from_pkey(pkey).unwrap(), kind);
        }
    }

    #[test]
    fn s18_r12_explicit_parameters_of_no_supported_curve_are_refused() {
        let pkey = explicit(Nid::SECP256K1);
        for error in [
            Key::parse(&pkey.private_key_to_der().unwrap()).unwrap_err(),
            Key::external(&pkey.public_key_to_der().unwrap()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn s18_r12_a_csr_whose_key_has_explicit_parameters_is_refused() {
        for (curve, _) in CURVES {
            let pkey = explicit(curve);
            let mut csr = X509ReqBuilder::new().unwrap();
            csr.set_pubkey(&pkey).unwrap();
            csr.sign(&pkey, MessageDigest::sha256()).unwrap();
            let error = SigningRequest::parse(&csr.build().to_der().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("-param_enc named_curve"), "{error}");
        }
    }
}
