//! Certificate chains, and the check that a chain is the requested one.
//!
//! RFC 8555 sections 7.4.2 and 9.1 (application/pem-certificate-chain), 11.4; RFC 5280.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::{Hasher, MessageDigest};
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Public};
use openssl::x509::{X509, X509ExtendedKeyUsage, X509KeyUsage, X509NameRef};

use super::decoded::{
    certificate, certificate_without_key, damaged, is_issued_by, malformed, verify_one,
};
use super::issuers::{Issuers, KnownIssuers};
use super::key::Key;
use super::key_type::KeyType;
use super::outline::Outline;
use super::requested_key::RequestedKey;
use super::sha256::sha256;
use crate::base64url;
use crate::error::{Error, ErrorKind, Result};
use crate::text::printable;
use crate::time::Time;

/// Maximum number of certificates in a chain; public CAs send two to four.
const MAX_CERTIFICATES: usize = 10;

/// Maximum size of a certificate in bytes of DER; one with a hundred names has 5,000.
const MAX_CERTIFICATE: usize = 256 * 1024;

/// Maximum difference between the CA's clock and ours. The validity of a new certificate may start
/// this much in the future.
const MAX_SKEW: Duration = Duration::from_secs(24 * 3600);

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A certificate chain, leaf first.
#[derive(Clone, Debug)]
pub struct CertificateChain {
    pem: String,
    certificates: Vec<X509>,
    ders: Vec<Vec<u8>>,
    names: Vec<String>,
    not_before: Time,
    not_after: Time,
    issuers: Arc<Issuers>,
}

impl CertificateChain {
    /// Reads a PEM chain, leaf first. Refuses everything but certificates and blank lines: "clients
    /// MUST verify that the certificate chain contains only certificates" (RFC 8555 section 11.4),
    /// because a less strict program may load the rest.
    pub fn parse(pem: &[u8]) -> Result<CertificateChain> {
        CertificateChain::read(pem, None)
    }

    /// As [`CertificateChain::parse`], for a chain that [`CertificateChain::verify`] checks next.
    /// Known issuers are not decoded and verified again, and the key of their leaf is not decoded:
    /// it should be the requested one, byte for byte.
    pub(crate) fn parse_issued(pem: &[u8], known: &KnownIssuers) -> Result<CertificateChain> {
        CertificateChain::read(pem, Some(known))
    }

    fn read(pem: &[u8], known: Option<&KnownIssuers>) -> Result<CertificateChain> {
        let text = std::str::from_utf8(pem).map_err(|_| malformed("it is not text"))?;
        let blocks = blocks(text)?;
        let ders = blocks.iter().map(|block| der(block)).collect::<Result<Vec<_>>>()?;
        let Some((leaf, others)) = ders.split_first() else {
            return Err(malformed("there is no certificate in it"));
        };
        let issuers = match known {
            Some(known) => known.read(others)?,
            None => Arc::new(Issuers::read(others)?),
        };
        let leaf = match issuers.are_verified() {
            true => certificate_without_key(leaf)?,
            false => certificate(leaf)?,
        };
        Ok(CertificateChain {
            names: names_of(&leaf),
            not_before: time_of(leaf.not_before())?,
            not_after: time_of(leaf.not_after())?,
            pem: ders.iter().map(|der| pem_of(der)).collect(),
            certificates: [&[leaf], issuers.certificates()].concat(),
            issuers,
            ders,
        })
    }

    /// The whole chain as PEM: `\n` line ends, 64 characters a line, no blank lines.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Each certificate as DER, leaf first.
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.ders
    }

    /// The leaf's subject alternative names: DNS names and IP addresses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The start of the leaf's validity.
    pub fn not_before(&self) -> Time {
        self.not_before
    }

    /// The end of the leaf's validity.
    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// The leaf's serial number, as the bytes of its DER integer. A negative one, which RFC 5280
    /// section 4.1.2.2 forbids, is an error.
    pub fn serial(&self) -> Result<Vec<u8>> {
        let number = self.leaf()?.serial_number().to_bn()?;
        if number.is_negative() {
            return Err(Error::new(
                ErrorKind::Parse,
                "the certificate's serial number is negative",
            ));
        }
        let mut bytes = number.to_vec();
        // DER: the first bit of a positive number is 0.
        if bytes.first().is_none_or(|first| first & 0x80 != 0) {
            bytes.insert(0, 0);
        }
        Ok(bytes)
    }

    /// SHA-256 of the leaf.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(self.ders.first().map_or(&[], Vec::as_slice))
    }

    /// The kind of the leaf's key, if it is one that [`Key`](crate::Key) knows.
    pub fn key_type(&self) -> Option<KeyType> {
        KeyType::of(&*self.public_key().ok()?)
    }

    /// The identifier for renewal information: the authority key identifier and the serial number
    /// (RFC 9773 section 4.1). `None` if the leaf has no authority key identifier or no valid
    /// serial number.
    pub fn renewal_id(&self) -> Option<String> {
        let authority = self.leaf().ok()?.authority_key_id()?;
        let serial = base64url::encode(self.serial().ok()?);
        Some(format!("{}.{serial}", base64url::encode(authority.as_slice())))
    }

    /// The common name of the topmost certificate's issuer: the root that the chain leads to.
    pub fn root_name(&self) -> Option<String> {
        let top = self.certificates.last()?;
        common_name(top.issuer_name())
    }

    /// The common name of each certificate's issuer, the leaf's first.
    pub(crate) fn issuer_names(&self) -> Vec<String> {
        self.certificates.iter().filter_map(|c| common_name(c.issuer_name())).collect()
    }

    /// The key identifier of each certificate's issuer, the leaf's first.
    pub(crate) fn issuer_key_ids(&self) -> Vec<Vec<u8>> {
        let id = |c: &X509| Some(c.authority_key_id()?.as_slice().to_vec());
        self.certificates.iter().filter_map(id).collect()
    }

    fn leaf(&self) -> Result<&X509> {
        self.certificates.first().ok_or_else(|| malformed("there is no certificate in it"))
    }

    /// The leaf's SubjectPublicKeyInfo, as DER.
    fn key_info(&self) -> Option<&[u8]> {
        Outline::read(self.ders.first()?).map(|outline| outline.key)
    }

    /// The leaf's public key.
    pub(crate) fn public_key(&self) -> Result<PKey<Public>> {
        // The leaf's key may not be decoded yet.
        let decode = |_| PKey::public_key_from_der(self.key_info().unwrap_or_default());
        // This function of OpenSSL does not say that its provider is missing, but others do.
        let cause = |error| Hasher::new(MessageDigest::sha256()).err().unwrap_or(error);
        Ok(self.leaf()?.public_key().or_else(decode).map_err(cause)?)
    }

    /// Whether the leaf is for this key.
    pub fn is_for_key(&self, key: &Key) -> bool {
        self.public_key().is_ok_and(|public| public.public_eq(key.public_key()))
    }

    /// Checks that the leaf is for the requested key and exactly `names` (canonical), that it is
    /// valid at `now`, with a tolerance of one day, and that each certificate is signed by the next.
    pub(crate) fn verify(&self, asked: &RequestedKey, names: &[String], now: Time) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Certificate, why));
        if self.key_info() != Some(asked.info())
            && !self.public_key().is_ok_and(|public| public.public_eq(asked.key()))
        {
            return refuse("the CA issued a certificate for a key that is not ours".to_owned());
        }
        if !self.is_valid_at(now) {
            let (start, end) = (self.not_before, self.not_after);
            let why = "the CA issued a certificate that is valid from";
            return refuse(format!("{why} {start} to {end}, and it is {now}"));
        }
        let issued: Vec<String> = self.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if !same_names(without_type(&issued), without_type(names)) {
            return refuse(format!(
                "the CA issued a certificate for {} instead of {}",
                printable(&self.names.join(", "), 300),
                printable(&names.join(", "), 300)
            ));
        }
        let leaf = self.leaf()?;
        if self.ders.first().is_some_and(|leaf| is_ca(leaf)) || may_sign_certificates(leaf) {
            return refuse("the CA issued a certificate that is itself a CA's".to_owned());
        }
        let purposes = leaf.extended_key_usage();
        if purposes.is_some_and(|purposes| !purposes.contains(X509ExtendedKeyUsage::SSL_SERVER)) {
            log::warn!(
                "the certificate for {} is not for servers",
                printable(&names.join(", "), 300)
            );
        }
        self.verify_signatures(asked.key())
    }

    /// Whether it is valid at that time, or soon after.
    pub(crate) fn is_valid_at(&self, now: Time) -> bool {
        let (start, end) = (self.not_before, self.not_after);
        start < end && now < end && start <= now.after(MAX_SKEW)
    }

    /// Checks that the next certificate issued each one, with a signature that cannot be forged.
    /// `key` is the leaf's.
    fn verify_signatures(&self, key: &PKeyRef<Public>) -> Result<()> {
        verify_one(0, self.leaf()?, key, self.certificates.get(1))?;
        self.issuers.verify()
    }

    /// Returns this chain with another one at its end, if that continues this one.
    pub(crate) fn followed_by(&self, issuers: &CertificateChain) -> Result<CertificateChain> {
        let longer = CertificateChain::parse((self.pem.clone() + &issuers.pem).as_bytes())?;
        longer.verify_signatures(&*longer.public_key()?)?;
        Ok(longer)
    }

    /// Whether its last certificate is self-issued.
    pub(crate) fn ends_in_root(&self) -> bool {
        self.certificates.last().is_some_and(|last| is_issued_by(last, last))
    }
}

/// RFC 5280 section 4.2.1.3.
fn may_sign_certificates(certificate: &X509) -> bool {
    let usage = certificate.key_usage();
    usage.is_some_and(|usage| usage.contains(X509KeyUsage::KEY_CERT_SIGN))
}

/// Whether the certificate is a CA's (RFC 5280 section 4.2.1.9). OpenSSL's bindings lack
/// this, so the function searches the DER for the basicConstraints extension.
fn is_ca(der: &[u8]) -> bool {
    const BASIC_CONSTRAINTS: &[u8] = &[6, 3, 0x55, 0x1d, 0x13];
    const CRITICAL: &[u8] = &[1, 1, 0xff];
    const CA_TRUE: &[u8] = &[1, 1, 0xff];
    let at = der.windows(BASIC_CONSTRAINTS.len()).position(|bytes| bytes == BASIC_CONSTRAINTS);
    let value = at.and_then(|at| der.get(at + BASIC_CONSTRAINTS.len()..)).unwrap_or_default();
    let value = value.strip_prefix(CRITICAL).unwrap_or(value);
    // OCTET STRING, length, SEQUENCE, length, then the flag if it is not its default.
    value.get(4..).is_some_and(|content| content.starts_with(CA_TRUE))
}

/// Returns names as [`same_names`] compares them.
fn without_type(names: &[String]) -> Vec<(&str, &str)> {
    names.iter().map(|name| ("", name.as_str())).collect()
}

/// Whether a list has exactly the names that were asked for, each with its type, in any order and any
/// number. Only the second list is sorted: the first one is the CA's, and may be long.
pub(crate) fn same_names<'a>(
    named: Vec<(&'a str, &'a str)>,
    asked: Vec<(&'a str, &'a str)>,
) -> bool {
    let mut missing: Vec<((&str, &str), bool)> = Vec::with_capacity(asked.len());
    for name in asked {
        if let Err(place) = missing.binary_search_by_key(&name, |(asked, _)| *asked) {
            missing.insert(place, (name, true));
        }
    }
    let all_asked = named.into_iter().all(|name| {
        let found = missing.binary_search_by_key(&name, |(asked, _)| *asked).ok();
        found
            .and_then(|place| missing.get_mut(place))
            .map(|(_, is_missing)| *is_missing = false)
            .is_some()
    });
    all_asked && !missing.iter().any(|(_, is_missing)| *is_missing)
}

fn common_name(name: &X509NameRef) -> Option<String> {
    let entry = name.entries_by_nid(Nid::COMMONNAME).next()?;
    entry.data().to_string().ok()
}

/// The content of one PEM block.
fn der(base64: &str) -> Result<Vec<u8>> {
    let der = openssl::base64::decode_block(base64).map_err(|_| damaged())?;
    match der.len() > MAX_CERTIFICATE {
        true => Err(malformed("one of its certificates is larger than 256 KiB")),
        false => Ok(der),
    }
}

/// One certificate as PEM (RFC 7468).
fn pem_of(der: &[u8]) -> String {
    let base64 = openssl::base64::encode_block(der);
    let mut pem = format!("{BEGIN}\n");
    for line in base64.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + END + "\n"
}

/// Cuts the text into the base64 of each certificate, in one pass.
fn blocks(text: &str) -> Result<Vec<String>> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        match (inside, line) {
            (_, "") => {}
            (false, BEGIN) if blocks.len() == MAX_CERTIFICATES => {
                return Err(malformed("it has more than 10 certificates"));
            }
            (false, BEGIN) => {
                inside = true;
                blocks.push(String::new());
            }
            (true, END) => inside = false,
            (true, base64) if base64.bytes().all(is_base64) => {
                if let Some(block) = blocks.last_mut() {
                    block.push_str(base64);
                }
            }
            _ => return Err(malformed("there is something in it that is not a certificate")),
        }
    }
    match inside {
        true => Err(malformed("it ends in the middle of a certificate")),
        false => Ok(blocks),
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// The subject alternative names of a certificate.
pub(super) fn names_of(certificate: &X509) -> Vec<String> {
    let Some(names) = certificate.subject_alt_names() else { return Vec::new() };
    let address = |bytes: &[u8]| match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(bytes), _) => IpAddr::from(bytes).to_string(),
        (_, Ok(bytes)) => IpAddr::from(bytes).to_string(),
        // Unknown forms are listed, too, because they are in the certificate.
        _ => format!("{bytes:02x?}"),
    };
    names
        .iter()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(dns), _) => Some(dns.to_owned()),
            (None, Some(bytes)) => Some(address(bytes)),
            (None, None) => None,
        })
        .collect()
}

fn time_of(time: &Asn1TimeRef) -> Result<Time> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    Ok(Time::from_millis(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use super::super::{Key, KeyType, SigningRequest, tls_alpn_certificate};
    use super::*;

    const NOW: Time = Time::from_millis(1_795_530_245_000);

    fn certificate(name: &str) -> String {
        let key = Key::generate(KeyType::P256).unwrap();
        tls_alpn_certificate(name, &[7; 32], &key, NOW).unwrap().pem().to_owned()
    }

    #[test]
    fn c04_line_ends_and_blank_lines_are_normalized() {
        let pem = certificate("example.org");
        let odd = format!("\r\n\n{}\n\n", pem.replace('\n', "\r\n"));
        let chain = CertificateChain::parse(odd.as_bytes()).unwrap();
        assert_eq!(chain.pem(), pem);
        assert_eq!(chain.names(), ["example.org"]);
        assert!(CertificateChain::parse(pem.trim_end().as_bytes()).is_ok());
    }

    #[test]
    fn c03_nothing_but_certificates_is_let_through() {
        let pem = certificate("example.org");
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let many = pem.repeat(MAX_CERTIFICATES + 1);
        for bad in [
            String::new(),
            "<html>".to_owned(),
            r#"{"type":"urn:ietf:params:acme:error:malformed"}"#.to_owned(),
            format!("{pem}{key}"),
            format!("{key}{pem}"),
            format!("subject=x\n{pem}"),
            format!("{pem}----BEGIN certificate----\n"),
            pem.replace("END CERTIFICATE", "END X"),
            pem.replacen('M', "\0", 1),
            pem[..pem.len() / 2].to_owned(),
            format!("{BEGIN}\nAAAA\n{END}\n"),
            many,
        ] {
            let error = CertificateChain::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Parse, "{bad}");
        }
    }

    /// RFC 9773 appendix A: a serial number whose first bit is set has a zero byte before it.
    #[test]
    fn r11_rfc_9773_appendix_a() {
        let pem = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
";
        let chain = CertificateChain::parse(pem.as_bytes()).unwrap();
        let id = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
        assert_eq!(chain.renewal_id().as_deref(), Some(id));
    }

    #[test]
    fn r11_the_serial_is_as_in_der_and_the_key_identifier_has_any_length() {
        let key = Key::generate(KeyType::P256).unwrap();
        // "The content octets of the DER encoding" (RFC 9773 section 4.1): signed, and no shorter.
        for (serial, octets) in [
            (&[0x7f][..], &[0x7f][..]),
            (&[0x80], &[0, 0x80]),
            (&[0, 0, 1], &[1]),
            (&[1, 0], &[1, 0]),
            (&[0xff; 19], &[&[0][..], &[0xff; 19]].concat()),
            (&[0x12; 20], &[0x12; 20]),
        ] {
            for id in [&[0xa5; 20][..], &[0x5a; 32], &[7]] {
                let mut builder = X509::builder().unwrap();
                let serial = openssl::bn::BigNum::from_slice(serial).unwrap();
                builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
                let day = |n| openssl::asn1::Asn1Time::days_from_now(n).unwrap();
                builder.set_not_before(&day(0)).unwrap();
                builder.set_not_after(&day(1)).unwrap();
                builder.set_pubkey(key.public_key()).unwrap();
                let size = id.len() as u8;
                let value = [&[0x30, size + 2, 0x80, size], id].concat();
                let value = openssl::asn1::Asn1OctetString::new_from_bytes(&value).unwrap();
                let oid = openssl::asn1::Asn1Object::from_str("2.5.29.35").unwrap();
                let id_of_issuer =
                    openssl::x509::X509Extension::new_from_der(&oid, false, &value).unwrap();
                builder.append_extension(id_of_issuer).unwrap();
                let digest = openssl::hash::MessageDigest::sha256();
                builder.sign(key.private_key().unwrap(), digest).unwrap();
                let chain = CertificateChain::parse(&builder.build().to_pem().unwrap()).unwrap();
                let wanted = format!("{}.{}", base64url::encode(id), base64url::encode(octets));
                assert_eq!(chain.renewal_id(), Some(wanted));
            }
        }
    }

    #[test]
    fn names_are_the_same_in_any_order_and_number_and_only_then() {
        let same = |named: &str, asked: &str| {
            let pairs = |names| str::split(names, ' ').map(|name| ("dns", name)).collect();
            same_names(pairs(named), pairs(asked))
        };
        assert!(same("a b c", "c a b") && same("a a b", "b a") && same("b a", "a b b"));
        assert!(!same("a b", "a b c") && !same("a b c", "a b") && !same("a a", "a b"));
        assert!(!same_names(vec![("dns", "a")], vec![("ip", "a")]));
        assert!(same_names(vec![], vec![]) && !same_names(vec![], vec![("dns", "a")]));
    }

    #[test]
    fn c08_names_and_signatures_are_checked() {
        let asked = ["example.org".to_owned()];
        let key = Key::generate(KeyType::P256).unwrap();
        let request = SigningRequest::create(&key, &asked).unwrap();
        let certificate =
            |name, key| tls_alpn_certificate(name, &[7; 32], key, NOW).unwrap().pem().to_owned();
        let known = KnownIssuers::default();
        let parse = |pem: &str| CertificateChain::parse_issued(pem.as_bytes(), &known).unwrap();
        let verify = |pem: &str, names: &[String]| {
            // Twice: then the issuers are known.
            let verdicts = [(); 2].map(|()| {
                parse(pem).verify(request.requested_key(), names, NOW).map_err(|e| e.kind())
            });
            assert_eq!(verdicts[0], verdicts[1]);
            verdicts[0]
        };
        let right = certificate("example.org", &key);
        verify(&right, &asked).unwrap();
        // The leaf's key is decoded when it is asked for.
        let pair = right.clone() + &right;
        verify(&pair, &asked).unwrap();
        let chain = parse(&pair);
        assert!(chain.leaf().unwrap().public_key().is_err());
        assert!(chain.is_for_key(&key) && chain.key_type() == Some(KeyType::P256));
        let other = ["example.org".to_owned(), "www.example.org".to_owned()];
        assert_eq!(verify(&right, &other), Err(ErrorKind::Certificate));
        let other_key = Key::generate(KeyType::P256).unwrap();
        let unrelated = right + &certificate("example.net", &other_key);
        assert_eq!(verify(&unrelated, &asked), Err(ErrorKind::Certificate));
        let foreign = certificate("example.org", &other_key);
        assert_eq!(verify(&foreign, &asked), Err(ErrorKind::Certificate));
        assert_eq!(verify(&(foreign.clone() + &foreign), &asked), Err(ErrorKind::Certificate));
    }
}
