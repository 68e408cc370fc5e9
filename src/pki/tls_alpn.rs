//! The self-signed certificate for a tls-alpn-01 challenge.
//!
//! RFC 8737 section 3: one subject alternative name, and the digest of the key authorization in a
//! critical acmeIdentifier extension.

use std::net::IpAddr;
use std::time::Duration;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Extension, X509Name};

use super::{CertificateChain, Key};
use crate::error::Result;
use crate::time::Time;

/// id-pe-acmeIdentifier, RFC 8737 section 3.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";
/// Time between the start of the validity and now, in case clocks differ. The CA ignores the validity.
const BACKDATED: Duration = Duration::from_secs(3600);
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Creates the certificate for `identifier` (a DNS name or an IP address) with the digest of the
/// key authorization, to present in handshakes that negotiate the protocol `acme-tls/1`.
pub fn tls_alpn_certificate(
    identifier: &str,
    digest: &[u8; 32],
    key: &Key,
    now: Time,
) -> Result<CertificateChain> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let serial = BigNum::from_u32(1)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    let name = X509Name::builder()?.build();
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    let start = (now.as_millis() / 1000).saturating_sub(seconds(BACKDATED));
    builder.set_not_before(&*Asn1Time::from_unix(start)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(start.saturating_add(seconds(LIFETIME)))?)?;
    builder.set_pubkey(key.public_key())?;

    let mut san = SubjectAlternativeName::new();
    match identifier.parse::<IpAddr>() {
        Ok(_) => san.ip(identifier),
        Err(_) => san.dns(identifier),
    };
    let san = san.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(san)?;

    // Authorization ::= OCTET STRING (SIZE (32))
    let mut value = vec![0x04, 32];
    value.extend_from_slice(digest);
    let oid = Asn1Object::from_str(ACME_IDENTIFIER)?;
    let value = Asn1OctetString::new_from_bytes(&value)?;
    builder.append_extension(X509Extension::new_from_der(&oid, true, &value)?)?;

    builder.sign(key.private_key()?, key.kind().digest())?;
    CertificateChain::parse(&builder.build().to_pem()?)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::KeyType;
    use super::*;

    #[test]
    fn t16_the_extension_is_critical_and_holds_the_digest() {
        let key = Key::generate(KeyType::P256).unwrap();
        let now = Time::from_millis(1_795_530_245_000);
        for name in ["example.org", "192.0.2.7", "2001:db8::1", &"a.".repeat(60)[..119]] {
            let chain = tls_alpn_certificate(name, &[7; 32], &key, now).unwrap();
            assert_eq!(chain.names(), [name]);
            assert!(chain.not_before() < now && now < chain.not_after());
            // OID, critical TRUE, OCTET STRING of an OCTET STRING of 32 bytes.
            let mut der = vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 0x04, 34, 0x04, 32];
            der.extend([7; 32]);
            assert!(chain.ders()[0].windows(der.len()).any(|window| window == der));
            // OpenSSL reads the certificate: one name, no common name, signed by its own key.
            let read = X509::from_der(&chain.ders()[0]).unwrap();
            assert_eq!(read.subject_alt_names().unwrap().len(), 1);
            assert_eq!(read.subject_name().entries().count(), 0);
            assert!(read.verify(key.public_key()).unwrap());
        }
    }
}
