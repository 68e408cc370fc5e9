//! The parts of a certificate, read without OpenSSL, which would decode its key.
//!
//! RFC 5280 section 4.1.

use super::der::{BIT_STRING, INTEGER, Reader, SEQUENCE};

/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;

/// The parts of a certificate. `None` of it is verified.
pub(crate) struct View<'a> {
    /// The subject's name, as DER.
    pub(crate) subject: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads a certificate. `None` if it is not DER; OpenSSL may still be able to read it.
    pub(crate) fn read(der: &'a [u8]) -> Option<View<'a>> {
        let mut file = Reader(der);
        let mut certificate = Reader(file.expect(SEQUENCE)?.content);
        let mut tbs = Reader(certificate.expect(SEQUENCE)?.content);
        certificate.expect(SEQUENCE)?;
        certificate.expect(BIT_STRING)?;
        tbs.optional(VERSION)?;
        tbs.expect(INTEGER)?;
        tbs.expect(SEQUENCE)?; // the signature's algorithm
        tbs.expect(SEQUENCE)?; // the issuer
        tbs.expect(SEQUENCE)?; // the validity
        let subject = tbs.expect(SEQUENCE)?.bytes;
        (file.is_at_end() && certificate.is_at_end()).then_some(View { subject })
    }
}

/// Returns a certificate's subject, as DER. `None` if the certificate is not DER.
pub(crate) fn subject_of(der: &[u8]) -> Option<&[u8]> {
    View::read(der).map(|view| view.subject)
}
