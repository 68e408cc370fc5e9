//! The certificate chain that a CA issues, and whether it is what was asked for.
//!
//! RFC 8555 sections 7.4.2 and 9.1 (application/pem-certificate-chain), 11.4; RFC 5280.

use std::net::IpAddr;
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::nid::Nid;
use openssl::pkey::{PKeyRef, Public};
use openssl::sha::sha256;
use openssl::x509::{X509, X509NameRef};

use super::key::Key;
use super::key_type::KeyType;
use crate::base64url;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// Certificates in a chain; public CAs send two to four.
const MAX_CERTIFICATES: usize = 10;

/// How far in the future a fresh certificate may start: the CA's clock and ours differ.
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
}

impl CertificateChain {
    /// Reads a PEM chain, leaf first. Anything but certificates and blank lines in it is refused:
    /// "clients MUST verify that the certificate chain contains only certificates" (RFC 8555
    /// section 11.4), since what follows may be loaded by a program that is less strict.
    pub fn parse(pem: &[u8]) -> Result<CertificateChain> {
        let text = std::str::from_utf8(pem).map_err(|_| malformed("it is not text"))?;
        let blocks = blocks(text)?;
        let mut certificates = Vec::new();
        for block in &blocks {
            let certificate = X509::from_pem(block.as_bytes())
                .map_err(|_| malformed("one of its certificates is damaged"))?;
            certificates.push(certificate);
        }
        let leaf =
            certificates.first().ok_or_else(|| malformed("there is no certificate in it"))?;
        Ok(CertificateChain {
            names: names_of(leaf),
            not_before: time_of(leaf.not_before())?,
            not_after: time_of(leaf.not_after())?,
            ders: certificates.iter().map(|c| c.to_der()).collect::<Result<_, _>>()?,
            pem: blocks.concat(),
            certificates,
        })
    }

    /// The whole chain as PEM: `\n` line ends, no blank lines.
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

    /// When the leaf starts to be valid.
    pub fn not_before(&self) -> Time {
        self.not_before
    }

    /// When the leaf expires.
    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// The leaf's serial number, as the bytes of its DER integer.
    pub fn serial(&self) -> Result<Vec<u8>> {
        let mut bytes = self.leaf()?.serial_number().to_bn()?.to_vec();
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
        KeyType::of(&*self.leaf().ok()?.public_key().ok()?)
    }

    /// The identifier that renewal information is asked for by: the authority key identifier and
    /// the serial number (RFC 9773 section 4.1). `None`: the leaf has no authority key identifier.
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

    /// Is the leaf for this public key?
    pub(crate) fn is_for(&self, key: &PKeyRef<Public>) -> bool {
        self.leaf().is_ok_and(|leaf| leaf.public_key().is_ok_and(|public| public.public_eq(key)))
    }

    /// Is the leaf for this key?
    pub(crate) fn is_for_key(&self, key: &Key) -> bool {
        self.leaf().is_ok_and(|leaf| leaf.public_key().is_ok_and(|p| p.public_eq(key.public_key())))
    }

    /// Checks that the leaf is for exactly `names` (canonical) and valid at `now`, give or take a
    /// clock that is a day off, and that each certificate is signed by the next.
    pub(crate) fn verify(&self, names: &[String], now: Time) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Certificate, why));
        let (start, end) = (self.not_before, self.not_after);
        if end <= start || end <= now || start > now.after(MAX_SKEW) {
            return refuse(format!(
                "the CA issued a certificate that is valid from {start} to {end}"
            ));
        }
        let issued: Vec<String> = self.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if !same_names(&issued, names) {
            return refuse(format!(
                "the CA issued a certificate for {} instead of {}",
                self.names.join(", "),
                names.join(", ")
            ));
        }
        if self.ders.first().is_some_and(|leaf| is_ca(leaf)) {
            return refuse("the CA issued a certificate that is itself a CA's".to_owned());
        }
        for (n, pair) in self.certificates.windows(2).enumerate() {
            let [certificate, issuer] = pair else { continue };
            let key = issuer.public_key()?;
            if !certificate.verify(&key).unwrap_or(false) {
                return refuse(format!(
                    "certificate {n} of the chain is not signed by the next one"
                ));
            }
        }
        Ok(())
    }
}

/// Does the certificate say that it is a CA's (RFC 5280 section 4.2.1.9)? OpenSSL's bindings do not
/// tell, so its basicConstraints extension is looked for in the DER.
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

/// Are these the same, in whatever order? There are a thousand at most.
pub(crate) fn same_names<T: PartialEq>(some: &[T], others: &[T]) -> bool {
    some.iter().all(|name| others.contains(name)) && others.iter().all(|name| some.contains(name))
}

fn common_name(name: &X509NameRef) -> Option<String> {
    let entry = name.entries_by_nid(Nid::COMMONNAME).next()?;
    entry.data().to_string().ok()
}

fn malformed(why: &str) -> Error {
    Error::new(ErrorKind::Parse, format!("not a PEM certificate chain: {why}"))
}

/// Cuts the text into one normalized PEM block a certificate, in one pass.
fn blocks(text: &str) -> Result<Vec<String>> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        match (inside, line) {
            (_, "") => continue,
            (false, BEGIN) if blocks.len() == MAX_CERTIFICATES => {
                return Err(malformed("it has more than 10 certificates"));
            }
            (false, BEGIN) => {
                inside = true;
                blocks.push(String::new());
            }
            (true, END) => inside = false,
            (true, base64) if base64.bytes().all(is_base64) => {}
            _ => return Err(malformed("there is something in it that is not a certificate")),
        }
        if let Some(block) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
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
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| IpAddr::from(b).to_string()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|b| IpAddr::from(b).to_string()),
    };
    names
        .iter()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(dns), _) => Some(dns.to_owned()),
            (None, Some(bytes)) => address(bytes),
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
    use super::super::{Key, KeyType, tls_alpn_certificate};
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
    fn c08_names_and_signatures_are_checked() {
        let asked = ["example.org".to_owned()];
        let chain = CertificateChain::parse(certificate("example.org").as_bytes()).unwrap();
        chain.verify(&asked, NOW).unwrap();
        let other = ["example.org".to_owned(), "www.example.org".to_owned()];
        assert_eq!(chain.verify(&other, NOW).unwrap_err().kind(), ErrorKind::Certificate);
        let unrelated = certificate("example.org") + &certificate("example.net");
        let chain = CertificateChain::parse(unrelated.as_bytes()).unwrap();
        assert_eq!(chain.verify(&asked, NOW).unwrap_err().kind(), ErrorKind::Certificate);
    }
}
