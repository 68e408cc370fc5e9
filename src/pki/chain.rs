//! The certificate chain that a CA issues, and whether it is what was asked for.
//!
//! RFC 8555 sections 7.4.2 and 9.1 (application/pem-certificate-chain), 11.4; RFC 5280.

use std::net::IpAddr;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKeyRef, Public};
use openssl::x509::X509;

use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// Certificates in a chain; public CAs send two to four.
const MAX_CERTIFICATES: usize = 10;

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
        let text = str::from_utf8(pem).map_err(|_| malformed("it is not text"))?;
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

    /// Is the leaf for this public key?
    pub(crate) fn is_for(&self, key: &PKeyRef<Public>) -> bool {
        let leaf = self.certificates.first().and_then(|leaf| leaf.public_key().ok());
        leaf.is_some_and(|public| public.public_eq(key))
    }

    /// Checks that the leaf is for exactly `names` (canonical) and that each certificate is signed
    /// by the next.
    pub(crate) fn verify(&self, names: &[String]) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Certificate, why));
        let mut issued: Vec<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
        let mut asked = names.to_vec();
        issued.sort_unstable();
        asked.sort_unstable();
        if issued != asked {
            return refuse(format!(
                "the CA issued a certificate for {} instead of {}",
                issued.join(", "),
                asked.join(", ")
            ));
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

    fn certificate(name: &str) -> String {
        let key = Key::generate(KeyType::P256).unwrap();
        tls_alpn_certificate(name, &[7; 32], &key, Time::from_millis(0)).unwrap().pem().to_owned()
    }

    #[test]
    fn line_ends_and_blank_lines_are_normalized() {
        let pem = certificate("example.org");
        let odd = format!("\r\n\n{}\n\n", pem.replace('\n', "\r\n"));
        let chain = CertificateChain::parse(odd.as_bytes()).unwrap();
        assert_eq!(chain.pem(), pem);
        assert_eq!(chain.names(), ["example.org"]);
        assert!(CertificateChain::parse(pem.trim_end().as_bytes()).is_ok());
    }

    #[test]
    fn nothing_but_certificates_is_let_through() {
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

    #[test]
    fn names_and_signatures_are_checked() {
        let asked = ["example.org".to_owned()];
        let chain = CertificateChain::parse(certificate("example.org").as_bytes()).unwrap();
        chain.verify(&asked).unwrap();
        let other = ["example.org".to_owned(), "www.example.org".to_owned()];
        assert_eq!(chain.verify(&other).unwrap_err().kind(), ErrorKind::Certificate);
        let unrelated = certificate("example.org") + &certificate("example.net");
        let chain = CertificateChain::parse(unrelated.as_bytes()).unwrap();
        assert_eq!(chain.verify(&asked).unwrap_err().kind(), ErrorKind::Certificate);
    }
}
