//! Certificate signing requests.
//!
//! RFC 2986; RFC 8555 section 7.4: the names are in the subjectAltName extension. A request made here has
//! no common name: it is optional, has 64 characters at most, and CAs are dropping it.

use std::net::IpAddr;

use openssl::nid::Nid;
use openssl::x509::X509Req;

use super::chain::names_of;
use super::der::{self, BIT_STRING, OCTET_STRING, SEQUENCE, SET};
use super::key::Key;
use super::key_type::KeyType;
use super::provider;
use super::requested_key::RequestedKey;
use super::signature;
use super::weak_keys;
use crate::error::{Error, ErrorKind, Result};
use crate::text::is_pem;

/// Object identifiers in DER: id-ce-subjectAltName (RFC 5280), id-pe-tlsfeature (RFC 7633),
/// extensionRequest (RFC 2985 section 5.4.2).
const SUBJECT_ALT_NAME: &[u8] = &[6, 3, 0x55, 0x1d, 0x11];
const TLS_FEATURE: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 24];
const EXTENSION_REQUEST: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
/// A sequence with one feature, status_request (5).
const STATUS_REQUEST: &[u8] = &[0x30, 3, 2, 1, 5];
/// Version 1, and an empty subject.
const VERSION: &[u8] = &[2, 1, 0];
const NO_SUBJECT: &[u8] = &[0x30, 0];
/// Tags of a GeneralName (RFC 5280 section 4.2.1.6) and of a request's attributes.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
const ATTRIBUTES: u8 = 0xa0;

/// A certificate signing request (PKCS#10).
#[derive(Clone, Debug)]
pub struct SigningRequest {
    requested: RequestedKey,
    der: Vec<u8>,
    names: Vec<String>,
}

/// A request without its signature.
pub(crate) struct UnsignedRequest {
    key: Key,
    requested: RequestedKey,
    info: Vec<u8>,
    names: Vec<String>,
}

impl UnsignedRequest {
    /// Makes a request for `names` (DNS names, wildcards, IP addresses) and `key`; with
    /// `must_staple` it has the TLS feature extension (RFC 7633).
    pub(crate) fn new(key: &Key, names: &[String], must_staple: bool) -> Result<UnsignedRequest> {
        if names.is_empty() {
            return Err(Error::invalid_argument("a signing request needs at least one name"));
        }
        let general: Vec<Vec<u8>> = names.iter().map(|name| general_name(name)).collect();
        let mut extensions =
            extension(SUBJECT_ALT_NAME, &der::element(SEQUENCE, &general.concat()));
        if must_staple {
            extensions.extend(extension(TLS_FEATURE, STATUS_REQUEST));
        }
        let extensions = der::element(SET, &der::element(SEQUENCE, &extensions));
        let attribute = der::of(SEQUENCE, &[EXTENSION_REQUEST, &extensions]);
        let requested = RequestedKey::new(key.public_key().clone())?;
        let attributes = der::element(ATTRIBUTES, &attribute);
        let info = der::of(SEQUENCE, &[VERSION, NO_SUBJECT, requested.info(), &attributes]);
        let names = names.iter().map(|name| as_read(name)).collect();
        Ok(UnsignedRequest { key: key.clone(), requested, info, names })
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn requested_key(&self) -> &RequestedKey {
        &self.requested
    }

    /// The bytes to sign.
    pub(crate) fn input(&self) -> &[u8] {
        &self.info
    }

    /// Adds the signature, in JOSE's form, without verifying it: this process has just made or
    /// accepted it ([`Key::accept`]), and verifying takes longer than signing.
    pub(crate) fn signed(&self, signature: &[u8]) -> Result<SigningRequest> {
        let kind = self.key.kind();
        // The first byte of a bit string counts its unused bits.
        let signature = der::of(BIT_STRING, &[&[0], &signature::to_x509(kind, signature)?]);
        Ok(SigningRequest {
            requested: self.requested.clone(),
            der: der::of(SEQUENCE, &[&self.info, algorithm(kind), &signature]),
            names: self.names.clone(),
        })
    }
}

fn general_name(name: &str) -> Vec<u8> {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => der::element(IP_ADDRESS, &address.octets()),
        Ok(IpAddr::V6(address)) => der::element(IP_ADDRESS, &address.octets()),
        Err(_) => der::element(DNS_NAME, name.as_bytes()),
    }
}

/// Returns a name in the form that certificates have: an IP address can be written in several ways.
fn as_read(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    der::of(SEQUENCE, &[oid, &der::element(OCTET_STRING, value)])
}

/// AlgorithmIdentifier of the signature: RFC 5758 section 3.2 (ECDSA), RFC 4055 section 5 (RSA),
/// RFC 8410 section 3 (Ed25519).
fn algorithm(kind: KeyType) -> &'static [u8] {
    match kind {
        KeyType::P256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        KeyType::P384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
        KeyType::P521 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
        KeyType::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0]
        }
    }
}

impl SigningRequest {
    /// Makes a request for `names` (DNS names, wildcards, IP addresses), signed with `key`.
    pub fn create(key: &Key, names: &[String]) -> Result<SigningRequest> {
        let request = UnsignedRequest::new(key, names, false)?;
        request.signed(&key.sign(request.input())?)
    }

    /// Reads a PEM or DER request made elsewhere.
    pub fn parse(data: &[u8]) -> Result<SigningRequest> {
        let parsed = if is_pem(data) { X509Req::from_pem(data) } else { X509Req::from_der(data) };
        let malformed = || {
            provider::refusal(
                ErrorKind::Parse,
                "not a certificate signing request in PEM or DER (PKCS#10)",
            )
        };
        let request = parsed.map_err(|_| malformed())?;
        let key = request.public_key().map_err(|_| malformed())?;
        if !request.verify(&key).unwrap_or(false) {
            let why = "the signing request's own signature is wrong";
            return Err(provider::refusal(ErrorKind::Crypto, why));
        }
        weak_keys::check_requested(&key)?;
        SigningRequest::from_request(&request)
    }

    fn from_request(request: &X509Req) -> Result<SigningRequest> {
        let mut names = requested_names(request)?;
        if names.is_empty() {
            names.extend(common_name(request));
        }
        Ok(SigningRequest {
            requested: RequestedKey::new(request.public_key()?)?,
            der: request.to_der()?,
            names,
        })
    }

    /// The request as DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The requested names: DNS names and IP addresses. Without any in the subjectAltName extension it
    /// is the common name.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The public key to certify.
    pub(crate) fn requested_key(&self) -> &RequestedKey {
        &self.requested
    }
}

/// Reads the requested subjectAltName. OpenSSL's bindings read that extension only from
/// certificates, so this copies the request's extensions into an unsigned certificate.
fn requested_names(request: &X509Req) -> Result<Vec<String>> {
    let mut shell = openssl::x509::X509::builder()?;
    let Ok(extensions) = request.extensions() else { return Ok(Vec::new()) };
    for extension in extensions {
        shell.append_extension(extension)?;
    }
    Ok(names_of(&shell.build()))
}

/// Returns the common name: "Identifiers of type "dns" MUST appear either in the commonName portion of the
/// requested subject name or in an extensionRequest attribute" (RFC 8555 section 7.4).
fn common_name(request: &X509Req) -> Option<String> {
    let name = request.subject_name().entries_by_nid(Nid::COMMONNAME).last()?;
    let name = name.data().to_string().ok()?;
    name.parse::<IpAddr>().is_err().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::hash::MessageDigest;
    use openssl::x509::{X509NameBuilder, X509ReqBuilder};

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn j06_a_request_names_what_was_asked_for_and_reads_back() {
        let asked = names(&["example.org", "*.example.org", "192.0.2.7", "2001:DB8:0::1"]);
        for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa2048, KeyType::Ed25519] {
            let key = Key::generate(kind).unwrap();
            let request = SigningRequest::create(&key, &asked).unwrap();
            let again = SigningRequest::parse(request.der()).unwrap();
            assert_eq!(again.names()[..3], asked[..3]);
            assert_eq!(again.names()[3], "2001:db8::1");
            assert_eq!(again.names(), request.names());
            assert!(again.requested.key().public_eq(request.requested.key()));
            assert!(again.requested.key().public_eq(key.public_key()));
            let parsed = X509Req::from_der(request.der()).unwrap();
            assert!(parsed.subject_name().entries().next().is_none());
            let pem = parsed.to_pem().unwrap();
            assert_eq!(SigningRequest::parse(&pem).unwrap().der(), request.der());
        }
    }

    #[test]
    fn j06_ten_thousand_requests_are_what_openssl_reads() {
        let key = Key::generate(KeyType::P256).unwrap();
        let mut random = 7u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..10_000 {
            let asked: Vec<String> = (0..=next(8))
                .map(|n| match next(5) {
                    0 => format!("*.w{n}.{}.example", next(1000)),
                    1 => format!("192.0.{}.{}", next(256), next(256)),
                    2 => {
                        std::net::Ipv6Addr::from(u128::from(next(1 << 31)) << next(96)).to_string()
                    }
                    // A-label of an international name, and a name longer than a common name may
                    // be.
                    3 => format!("xn--bcher-kva.{}.example", next(1000)),
                    _ => format!("{}{n}.{}.example", "a".repeat(1 + next(50) as usize), next(1000)),
                })
                .collect();
            let request = SigningRequest::create(&key, &asked).unwrap();
            let parsed = X509Req::from_der(request.der()).unwrap();
            assert!(parsed.verify(key.public_key()).unwrap());
            assert!(parsed.subject_name().entries().next().is_none(), "no common name at all");
            assert_eq!(parsed.to_der().unwrap(), request.der(), "DER, and not just BER");
            let mut read = requested_names(&parsed).unwrap();
            let mut asked = asked;
            read.sort();
            asked.sort();
            assert_eq!(read, asked);
        }
    }

    #[test]
    fn what_is_refused_and_how() {
        let key = Key::generate(KeyType::P256).unwrap();
        let kind = |result: Result<SigningRequest>| result.unwrap_err().kind();
        assert_eq!(kind(SigningRequest::create(&key, &[])), ErrorKind::InvalidArgument);
        assert_eq!(kind(SigningRequest::parse(b"")), ErrorKind::Parse);
        let request = SigningRequest::create(&key, &names(&["example.org"])).unwrap();
        let mut der = request.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(kind(SigningRequest::parse(&der)), ErrorKind::Crypto);
    }

    fn with_common_names(common_names: &[&str]) -> SigningRequest {
        let key = Key::generate(KeyType::P256).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_nid(Nid::ORGANIZATIONNAME, "Example").unwrap();
        for name in common_names {
            subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        }
        let mut request = X509ReqBuilder::new().unwrap();
        request.set_subject_name(&subject.build()).unwrap();
        request.set_pubkey(key.public_key()).unwrap();
        request.sign(key.private_key().unwrap(), MessageDigest::sha256()).unwrap();
        SigningRequest::parse(&request.build().to_der().unwrap()).unwrap()
    }

    #[test]
    fn o37_r22_a_common_name_is_the_name_of_a_request_without_a_subject_alt_name() {
        assert_eq!(with_common_names(&["Example.org"]).names(), ["Example.org"]);
        assert_eq!(with_common_names(&["*.example.org"]).names(), ["*.example.org"]);
        assert_eq!(with_common_names(&["old.example", "example.org"]).names(), ["example.org"]);
        // An IP address has to be in the subjectAltName (RFC 8738 section 3).
        assert!(with_common_names(&["192.0.2.7"]).names().is_empty());
        assert!(with_common_names(&[]).names().is_empty());
    }
}
