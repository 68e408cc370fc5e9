//! Keys and certificates that are the same in each run of a seed: private keys come from the seed,
//! and the CA signs with Ed25519, which is deterministic.

use std::sync::OnceLock;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Extension, X509Name};

use super::rng::Rng;

/// Returns a P-256 key from the seed.
pub fn key(rng: &mut Rng) -> acme_micro::Key {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let mut bytes = rng.bytes::<32>();
    bytes[0] = 0x7f; // below the order of the curve
    let number = BigNum::from_slice(&bytes).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let mut point = EcPoint::new(&group).unwrap();
    point.mul_generator2(&group, &number, &mut context).unwrap();
    let key = EcKey::from_private_components(&group, &number, &point).unwrap();
    acme_micro::Key::from_pkey(PKey::from_ec_key(key).unwrap()).unwrap()
}

struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// Returns the intermediate that signs leaves.
fn issuer() -> &'static Authority {
    static ISSUER: OnceLock<Authority> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let key = |n| PKey::private_key_from_raw_bytes(&[n; 32], Id::ED25519).unwrap();
        let (root, intermediate) = (key(1), key(2));
        // From 2020 to 2090.
        let valid = (1_577_836_800, 3_786_912_000);
        let certificate = certificate(&intermediate, "Intermediate", "Root", &[], 1, valid, &root);
        Authority { key: intermediate, certificate }
    })
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    if !common_name.is_empty() {
        name.append_entry_by_text("CN", common_name).unwrap();
    }
    name.build()
}

/// Creates a certificate; without `names` it is one of a CA.
fn certificate(
    key: &PKeyRef<impl HasPublic>,
    subject: &str,
    issuer: &str,
    names: &[String],
    serial: u64,
    (from, until): (i64, i64),
    signer: &PKeyRef<Private>,
) -> X509 {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_slice(&serial.to_be_bytes()).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_issuer_name(&name(issuer)).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(from).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(until).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    if names.is_empty() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    } else {
        let mut san = SubjectAlternativeName::new();
        names.iter().for_each(|name| {
            san.dns(name);
        });
        let san = san.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(san).unwrap();
    }
    // The authorityKeyIdentifier (RFC 5280 section 4.2.1.1) of the signer's key.
    let id = &openssl::sha::sha256(&signer.public_key_to_der().unwrap())[..20];
    let value = Asn1OctetString::new_from_bytes(&[&[0x30, 22, 0x80, 20], id].concat()).unwrap();
    let oid = Asn1Object::from_str("2.5.29.35").unwrap();
    builder.append_extension(X509Extension::new_from_der(&oid, false, &value).unwrap()).unwrap();
    builder.sign(signer, MessageDigest::null()).unwrap();
    builder.build()
}

/// Returns a leaf with its intermediate as PEM. `valid`: seconds since 1970.
pub fn chain(
    key: &PKeyRef<impl HasPublic>,
    names: &[String],
    serial: u64,
    valid: (i64, i64),
) -> Vec<u8> {
    let issuer = issuer();
    let leaf = certificate(key, "", "Intermediate", names, serial, valid, &issuer.key);
    [leaf.to_pem().unwrap(), issuer.certificate.to_pem().unwrap()].concat()
}
