//! Two parts of a certificate, read without OpenSSL, which would decode the certificate's key.
//!
//! RFC 5280 section 4.1.

use super::der::{BIT_STRING, INTEGER, Reader, SEQUENCE};

/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;

/// Parts of a certificate, as DER.
pub(crate) struct Outline<'a> {
    #[cfg_attr(not(feature = "http"), allow(dead_code))]
    pub(crate) subject: &'a [u8],
    /// The SubjectPublicKeyInfo.
    pub(super) key: &'a [u8],
}

impl<'a> Outline<'a> {
    /// Reads a certificate. `None` if it is not DER; OpenSSL may still be able to read it.
    pub(crate) fn read(der: &'a [u8]) -> Option<Outline<'a>> {
        let mut file = Reader(der);
        let mut certificate = Reader(file.expect(SEQUENCE)?.content);
        let mut parts = Reader(certificate.expect(SEQUENCE)?.content);
        certificate.expect(SEQUENCE)?; // the signature's algorithm
        certificate.expect(BIT_STRING)?;
        parts.optional(VERSION)?;
        parts.expect(INTEGER)?;
        parts.expect(SEQUENCE)?; // the signature's algorithm
        parts.expect(SEQUENCE)?; // the issuer
        parts.expect(SEQUENCE)?; // the validity
        let subject = parts.expect(SEQUENCE)?.bytes;
        let key = parts.expect(SEQUENCE)?.bytes;
        (file.is_at_end() && certificate.is_at_end()).then_some(Outline { subject, key })
    }
}
