//! The parts of a certificate, read without OpenSSL, which would decode its key.
//!
//! RFC 5280 section 4.1 and 4.2.1.

use std::net::IpAddr;

use openssl::asn1::Asn1Time;

use super::der::{BIT_STRING, Element, INTEGER, OCTET_STRING, Reader, SEQUENCE};
use crate::time::Time;

const BOOLEAN: u8 = 0x01;
const OID: u8 = 0x06;
const NULL: &[u8] = &[5, 0];
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Optional parts of a certificate: `[0] EXPLICIT Version`, `[1]` and `[2]` unique identifiers, `[3]
/// EXPLICIT Extensions`.
const VERSION: u8 = 0xa0;
const UNIQUE_IDS: [u8; 2] = [0x81, 0x82];
const EXTENSIONS: u8 = 0xa3;
/// `[2] dNSName` and `[7] iPAddress` of a GeneralName.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// `[0] keyIdentifier` of an AuthorityKeyIdentifier.
const KEY_IDENTIFIER: u8 = 0x80;

/// Object identifiers of extensions: id-ce and one number.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// id-kp-serverAuth.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// keyCertSign, in the first byte of a KeyUsage.
const KEY_CERT_SIGN: u8 = 0x04;

/// Maximum depth of elements in an extension.
const MAX_DEPTH: u8 = 10;

/// The parts of a certificate. Names, the key and the validity are DER; nothing is verified.
pub(crate) struct View<'a> {
    /// The signed part.
    pub(super) signed: &'a [u8],
    /// The content octets of the serial number.
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(super) public_key: &'a [u8],
    /// The signature and its algorithm.
    pub(super) signature: &'a [u8],
    pub(super) algorithm: &'a [u8],
    validity: &'a [u8],
    extensions: Extensions<'a>,
}

/// The extensions of a certificate or of a request: the content of a sequence.
pub(super) struct Extensions<'a>(pub(super) &'a [u8]);

impl<'a> View<'a> {
    /// Reads a certificate. `None` if it is not DER; OpenSSL may still be able to read it.
    pub(crate) fn read(der: &'a [u8]) -> Option<View<'a>> {
        let mut file = Reader(der);
        let mut certificate = Reader(file.expect(SEQUENCE)?.content);
        let signed = certificate.expect(SEQUENCE)?;
        let algorithm = algorithm(&mut certificate)?;
        let signature = certificate.expect(BIT_STRING)?.content.strip_prefix(&[0])?;
        let mut parts = Reader(signed.content);
        if let Some(version) = parts.optional(VERSION)? {
            let [INTEGER, 1, 0..=2] = *version.content else { return None };
        }
        let serial = parts.expect(INTEGER)?.content;
        let inner_algorithm = self::algorithm(&mut parts)?;
        let view = View {
            signed: signed.bytes,
            serial,
            issuer: parts.expect(SEQUENCE)?.bytes,
            validity: parts.expect(SEQUENCE)?.content,
            subject: parts.expect(SEQUENCE)?.bytes,
            public_key: public_key(&mut parts)?,
            signature,
            algorithm,
            extensions: {
                parts.optional(UNIQUE_IDS[0])?;
                parts.optional(UNIQUE_IDS[1])?;
                Extensions(match parts.optional(EXTENSIONS)? {
                    Some(extensions) => Reader(extensions.content).expect(SEQUENCE)?.content,
                    None => &[],
                })
            },
        };
        let is_whole = file.is_at_end() && certificate.is_at_end() && parts.is_at_end();
        let is_shortest = !matches!(serial, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..]);
        let is_sound = is_whole && is_shortest && view.extensions.are_sound();
        (is_sound && inner_algorithm == algorithm).then_some(view)
    }

    /// The start and the end of the validity.
    pub(super) fn validity(&self) -> Option<(Time, Time)> {
        let mut times = Reader(self.validity);
        Some((time_of(&times.next()?)?, time_of(&times.next()?)?))
    }

    /// The subject alternative names: DNS names and IP addresses.
    pub(super) fn names(&self) -> Vec<String> {
        self.extensions.names()
    }

    /// The key identifier of the issuer's key.
    pub(super) fn authority_key_id(&self) -> Option<&'a [u8]> {
        let mut parts = Reader(self.extensions.get(AUTHORITY_KEY_IDENTIFIER)?);
        Some(Reader(parts.expect(SEQUENCE)?.content).expect(KEY_IDENTIFIER)?.content)
    }

    /// Whether the issuer is named by key identifier alone, or not at all.
    pub(super) fn has_plain_authority(&self) -> bool {
        let has = self.extensions.iter().any(|extension| extension.0 == AUTHORITY_KEY_IDENTIFIER);
        let size = self.authority_key_id().map(<[u8]>::len);
        let whole = self.extensions.get(AUTHORITY_KEY_IDENTIFIER).map(<[u8]>::len);
        // Two short headers around the identifier.
        !has || whole.is_some() && whole == size.map(|size| size + 4)
    }

    /// Whether the certificate is a CA's (RFC 5280 section 4.2.1.9), or its key may sign
    /// certificates (section 4.2.1.3).
    pub(super) fn is_ca(&self) -> bool {
        let is_ca = || {
            let mut value = Reader(self.extensions.get(BASIC_CONSTRAINTS)?);
            let flag = Reader(value.expect(SEQUENCE)?.content).expect(BOOLEAN)?;
            Some(flag.content != [0])
        };
        let may_sign = || {
            let usage = Reader(self.extensions.get(KEY_USAGE)?).expect(BIT_STRING)?;
            Some(usage.content.get(1)? & KEY_CERT_SIGN != 0)
        };
        is_ca().unwrap_or(false) || may_sign().unwrap_or(false)
    }

    /// Whether a TLS server may have it: it is for servers, or does not say what it is for.
    pub(super) fn is_for_servers(&self) -> bool {
        let is_listed = |value| {
            let mut purposes = Reader(Reader(value).expect(SEQUENCE)?.content);
            while !purposes.is_at_end() {
                if purposes.expect(OID)?.content == SERVER_AUTH {
                    return Some(true);
                }
            }
            Some(false)
        };
        self.extensions.get(EXTENDED_KEY_USAGE).is_none_or(|value| is_listed(value).unwrap_or(true))
    }

    /// Whether the values of all extensions are DER, and each extension is there once.
    pub(super) fn has_plain_extensions(&self) -> bool {
        self.extensions.iter().all(|(oid, value, _)| {
            self.extensions.get(oid).is_some() && is_well_formed(value, MAX_DEPTH)
        })
    }
}

impl<'a> Extensions<'a> {
    /// The subject alternative names: DNS names and IP addresses.
    pub(super) fn names(&self) -> Vec<String> {
        self.get(SUBJECT_ALT_NAME).and_then(names_in).unwrap_or_default()
    }

    /// The value of an extension. `None` if it is missing, or there twice.
    fn get(&self, oid: &[u8]) -> Option<&'a [u8]> {
        let mut found = self.iter().filter(|extension| extension.0 == oid);
        let value = found.next()?.1;
        found.next().is_none().then_some(value)
    }

    /// Whether all of them are DER.
    fn are_sound(&self) -> bool {
        self.iter().map(|(.., size)| size).sum::<usize>() == self.0.len()
    }

    /// The object identifier, the value and the whole size of each, up to one that is not DER.
    fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], usize)> {
        let mut all = Reader(self.0);
        std::iter::from_fn(move || {
            let whole = all.expect(SEQUENCE)?;
            let mut extension = Reader(whole.content);
            let oid = oid(&mut extension)?;
            if extension.optional(BOOLEAN)?.is_some_and(|critical| critical.content.len() != 1) {
                return None;
            }
            let value = extension.expect(OCTET_STRING)?.content;
            extension.is_at_end().then_some((oid, value, whole.bytes.len()))
        })
    }
}

/// Reads an object identifier: groups of bytes, of which all but the last have their first bit set, and
/// which are as short as possible (X.690 section 8.19).
fn oid<'a>(parts: &mut Reader<'a>) -> Option<&'a [u8]> {
    let oid = parts.expect(OID)?.content;
    let mut is_first = true;
    for byte in oid {
        if is_first && *byte == 0x80 {
            return None;
        }
        is_first = byte & 0x80 == 0;
    }
    (is_first && !oid.is_empty()).then_some(oid)
}

/// Reads an AlgorithmIdentifier (RFC 5280 section 4.1.1.2). Its parameters are absent, NULL, the name
/// of a curve, or a sequence, such as those of RSA-PSS.
fn algorithm<'a>(parts: &mut Reader<'a>) -> Option<&'a [u8]> {
    let algorithm = parts.expect(SEQUENCE)?;
    let mut inner = Reader(algorithm.content);
    oid(&mut inner)?;
    let is_sound = match inner.0.first() {
        None => true,
        Some(&OID) => oid(&mut inner).is_some(),
        Some(&SEQUENCE) => inner.next().is_some(),
        Some(_) => inner.next().is_some_and(|parameters| parameters.bytes == NULL),
    };
    (is_sound && inner.is_at_end()).then_some(algorithm.bytes)
}

/// Reads a SubjectPublicKeyInfo.
fn public_key<'a>(parts: &mut Reader<'a>) -> Option<&'a [u8]> {
    let info = parts.expect(SEQUENCE)?;
    let mut inner = Reader(info.content);
    algorithm(&mut inner)?;
    let [0, ..] = *inner.expect(BIT_STRING)?.content else { return None };
    inner.is_at_end().then_some(info.bytes)
}

/// Returns a certificate's subject, as DER. `None` if the certificate is not DER.
#[cfg(feature = "http")]
pub(crate) fn subject_of(der: &[u8]) -> Option<&[u8]> {
    View::read(der).map(|view| view.subject)
}

/// Returns the DNS names and IP addresses in GeneralNames. `None` if they are not DER.
fn names_in(value: &[u8]) -> Option<Vec<String>> {
    let mut all = Reader(Reader(value).expect(SEQUENCE)?.content);
    let mut names = Vec::new();
    while !all.is_at_end() {
        let name = all.next()?;
        match name.tag {
            DNS_NAME => names.extend(std::str::from_utf8(name.content).map(str::to_owned)),
            IP_ADDRESS => names.push(address(name.content)),
            _ => {}
        }
    }
    Some(names)
}

fn address(bytes: &[u8]) -> String {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(bytes), _) => IpAddr::from(bytes).to_string(),
        (_, Ok(bytes)) => IpAddr::from(bytes).to_string(),
        // Unknown forms are listed, too, because they are in the certificate.
        _ => format!("{bytes:02x?}"),
    }
}

/// Reads a time in the form of RFC 5280 section 4.1.2.5: to the second, in UTC.
fn time_of(element: &Element<'_>) -> Option<Time> {
    let (digits, b'Z') = element.content.split_last().map(|(zone, digits)| (digits, *zone))? else {
        return None;
    };
    let is_sound = matches!((element.tag, digits.len()), (UTC_TIME, 12) | (GENERALIZED_TIME, 14));
    if !is_sound || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let time = Asn1Time::from_str(std::str::from_utf8(element.content).ok()?).ok()?;
    let since = Asn1Time::from_unix(0).ok()?.diff(&time).ok()?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    Some(Time::from_millis(seconds * 1000))
}

/// Whether bytes are complete elements, and constructed ones consist of such.
fn is_well_formed(bytes: &[u8], depth: u8) -> bool {
    const CONSTRUCTED: u8 = 0x20;
    let mut elements = Reader(bytes);
    while !elements.is_at_end() {
        match elements.next() {
            Some(element) if element.tag & CONSTRUCTED == 0 => {}
            Some(element) if depth > 0 && is_well_formed(element.content, depth - 1) => {}
            _ => return false,
        }
    }
    true
}
