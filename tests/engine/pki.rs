//! A test CA's certificates, made with OpenSSL.

use std::sync::OnceLock;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private, Public};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameRef};

/// A certificate authority: a root, or an intermediate signed by it.
pub struct Authority {
    pub key: PKey<Private>,
    pub certificate: X509,
}

/// A change to a certificate before it is signed.
pub type Shape = fn(&mut X509Builder);

/// Contents of a certificate.
pub struct Contents<'a> {
    pub subject: &'a str,
    pub names: &'a [&'a str],
    pub is_ca: bool,
    /// Start and end of its validity in seconds after [`super::script::START`].
    pub from: i64,
    pub until: i64,
    pub digest: MessageDigest,
    /// Whether it names its issuer's key.
    pub names_authority: bool,
    /// A further change before it is signed.
    pub shape: Shape,
}

impl Default for Contents<'_> {
    fn default() -> Self {
        Contents {
            subject: "",
            names: &[],
            is_ca: false,
            from: -3600,
            until: 90 * 86_400,
            digest: MessageDigest::sha256(),
            names_authority: true,
            shape: |_| {},
        }
    }
}

pub fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

pub fn public(key: &PKeyRef<impl HasPublic>) -> PKey<Public> {
    PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap()
}

pub fn name(common_name: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    if !common_name.is_empty() {
        name.append_entry_by_text("CN", common_name).unwrap();
    }
    name.build()
}

/// Creates a certificate for `key`, signed with `signer`.
pub fn certificate(
    key: &PKeyRef<impl HasPublic>,
    contents: &Contents<'_>,
    issuer: &X509NameRef,
    signer: &PKeyRef<Private>,
) -> X509 {
    let start = super::script::START / 1000;
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, openssl::bn::MsbOption::MAYBE_ZERO, false).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    builder.set_subject_name(&name(contents.subject)).unwrap();
    builder.set_issuer_name(issuer).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(start + contents.from).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(start + contents.until).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    if contents.is_ca {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    if !contents.names.is_empty() {
        let mut san = SubjectAlternativeName::new();
        for name in contents.names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => san.ip(name),
                Err(_) => san.dns(name),
            };
        }
        let san = san.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(san).unwrap();
    }
    if contents.names_authority {
        // The authorityKeyIdentifier (RFC 5280 section 4.2.1.1) of the signer's key.
        let id = &openssl::sha::sha256(&signer.public_key_to_der().unwrap())[..20];
        extend(&mut builder, "2.5.29.35", false, &[&[0x30, 22, 0x80, 20], id].concat());
    }
    (contents.shape)(&mut builder);
    builder.sign(signer, contents.digest).unwrap();
    builder.build()
}

/// Adds an extension with this DER as its value.
pub fn extend(builder: &mut X509Builder, oid: &str, critical: bool, value: &[u8]) {
    let oid = Asn1Object::from_str(oid).unwrap();
    let value = Asn1OctetString::new_from_bytes(value).unwrap();
    let extension = X509Extension::new_from_der(&oid, critical, &value).unwrap();
    builder.append_extension(extension).unwrap();
}

pub fn root() -> &'static Authority {
    static ROOT: OnceLock<Authority> = OnceLock::new();
    ROOT.get_or_init(|| {
        let key = new_key();
        let contents = Contents { subject: "Test Root", is_ca: true, ..Contents::default() };
        let certificate = certificate(&key, &contents, &name("Test Root"), &key);
        Authority { key, certificate }
    })
}

pub fn intermediate() -> &'static Authority {
    static INTERMEDIATE: OnceLock<Authority> = OnceLock::new();
    INTERMEDIATE.get_or_init(|| {
        let key = new_key();
        let contents =
            Contents { subject: "Test Intermediate", is_ca: true, ..Contents::default() };
        let root = root();
        let certificate = certificate(&key, &contents, root.certificate.subject_name(), &root.key);
        Authority { key, certificate }
    })
}

/// Returns a leaf as a correct CA issues it, signed by the intermediate.
pub fn leaf(key: &PKeyRef<impl HasPublic>, contents: &Contents<'_>) -> X509 {
    let issuer = intermediate();
    certificate(key, contents, issuer.certificate.subject_name(), &issuer.key)
}

/// Returns a chain as PEM.
pub fn pem(chain: &[&X509]) -> Vec<u8> {
    chain.iter().flat_map(|certificate| certificate.to_pem().unwrap()).collect()
}

/// Returns the chain of a correct CA: the leaf and its intermediate.
pub fn sound_chain(key: &PKeyRef<impl HasPublic>, names: &[&str]) -> Vec<u8> {
    let leaf = leaf(key, &Contents { names, ..Contents::default() });
    pem(&[&leaf, &intermediate().certificate])
}
