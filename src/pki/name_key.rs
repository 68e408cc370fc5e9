//! A number that is equal for names that are the same name to OpenSSL, to find candidates without
//! reading each name with OpenSSL.
//!
//! OpenSSL compares names (RFC 5280 section 7.1) after it has converted strings to UTF-8, letters to
//! lower case, and white space to one space between words.

use openssl::x509::X509NameRef;

use super::der::{Reader, SEQUENCE, SET};

const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
/// Strings with one byte for each letter, which OpenSSL takes for Latin-1: NumericString,
/// PrintableString, T61String, IA5String.
const LATIN_1: [u8; 4] = [0x12, 0x13, 0x14, 0x16];
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

/// Returns the key of a name that OpenSSL has read, in whatever encoding.
pub(crate) fn key_of(name: &X509NameRef) -> u64 {
    name.entries().fold(0, |sum, entry| {
        let key = match entry.data().to_string() {
            Ok(text) => text_key(text.as_bytes()),
            Err(_) => text_key(entry.data().as_slice()),
        };
        sum.wrapping_add(key)
    })
}

/// Returns the key of a name in DER. `None` if it cannot be read.
pub(crate) fn name_key(name: &[u8]) -> Option<u64> {
    let mut sum = 0u64;
    let mut names = Reader(Reader(name).expect(SEQUENCE)?.content);
    while !names.is_at_end() {
        let mut set = Reader(names.expect(SET)?.content);
        while !set.is_at_end() {
            let mut attribute = Reader(set.expect(SEQUENCE)?.content);
            attribute.expect(OID)?;
            let value = attribute.next()?;
            let width = match value.tag {
                UNIVERSAL_STRING => 4,
                BMP_STRING => 2,
                tag if LATIN_1.contains(&tag) => 1,
                UTF8_STRING => 0,
                _ => return None,
            };
            sum = sum.wrapping_add(match (width, value.content.is_ascii()) {
                (0, _) | (1, true) => text_key(value.content),
                _ => text_key(wide(value.content, width)?.as_bytes()),
            });
        }
    }
    Some(sum)
}

/// Converts letters of some bytes each to UTF-8.
fn wide(content: &[u8], width: usize) -> Option<String> {
    let code = |unit: &[u8]| unit.iter().fold(0, |code, byte| code << 8 | u32::from(*byte));
    content.chunks(width).map(|unit| char::from_u32(code(unit))).collect()
}

/// FNV-1a of an attribute's text. The sum over a name's attributes does not depend on their order, which
/// may be another one inside a set.
fn text_key(text: &[u8]) -> u64 {
    // The vertical tab is white space to OpenSSL, and not to Rust.
    let is_letter = |byte: &u8| !byte.is_ascii_whitespace() && *byte != 0x0b;
    let letters = text.iter().filter(|byte| is_letter(byte));
    letters.map(u8::to_ascii_lowercase).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use openssl::x509::X509Name;

    use super::super::der::{element, of};
    use super::*;

    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const COUNTRY: &[u8] = &[0x55, 4, 6];

    /// A name with one attribute, as DER.
    fn name(attribute: &[u8], tag: u8, text: &str) -> Vec<u8> {
        let content: Vec<u8> = match tag {
            tag if LATIN_1.contains(&tag) => {
                text.chars().map(|c| u8::try_from(c).unwrap()).collect()
            }
            BMP_STRING => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            UNIVERSAL_STRING => text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
            _ => text.as_bytes().to_vec(),
        };
        let pair = of(SEQUENCE, &[&element(OID, attribute), &element(tag, &content)]);
        element(SEQUENCE, &element(SET, &pair))
    }

    fn assert_same(one: &[u8], other: &[u8]) {
        let [first, second] = [one, other].map(|name| X509Name::from_der(name).unwrap());
        assert_eq!(first.try_cmp(&second).unwrap(), Ordering::Equal, "{one:?} {other:?}");
        assert_eq!(name_key(one).unwrap(), name_key(other).unwrap(), "{one:?} {other:?}");
        assert_eq!(key_of(&first), name_key(one).unwrap());
        assert_eq!(key_of(&second), name_key(other).unwrap());
    }

    #[test]
    fn names_that_are_equal_to_openssl_have_one_key() {
        let one = name(COMMON_NAME, UTF8_STRING, "The  Root\u{e9} X1");
        for (tag, text) in [
            (UTF8_STRING, " the root\u{e9} x1 "),
            (BMP_STRING, "THE ROOT\u{e9} X1"),
            (UNIVERSAL_STRING, "The\u{b}Root\u{e9} X1"),
            (LATIN_1[1], "The Root\u{e9} X1"),
            (LATIN_1[2], "The Root\u{e9} X1"),
        ] {
            assert_same(&one, &name(COMMON_NAME, tag, text));
        }
        let one = name(COUNTRY, UTF8_STRING, "US");
        for tag in [LATIN_1[1], LATIN_1[3], BMP_STRING] {
            assert_same(&one, &name(COUNTRY, tag, "us"));
        }
    }

    #[test]
    fn other_names_have_other_keys() {
        let names = [
            name(COMMON_NAME, UTF8_STRING, "Root X1"),
            name(COMMON_NAME, UTF8_STRING, "Root X2"),
            element(SEQUENCE, &[]),
        ];
        for (n, one) in names.iter().enumerate() {
            for other in &names[n + 1..] {
                assert_ne!(name_key(one).unwrap(), name_key(other).unwrap());
            }
        }
    }

    #[test]
    fn the_order_inside_a_set_does_not_matter() {
        let attribute = |letter| [0x30, 8, 6, 3, 0x55, 4, 3, 0x0c, 1, letter];
        let set = |one, other| {
            let mut name = vec![0x30, 22, 0x31, 20];
            name.extend(attribute(one));
            name.extend(attribute(other));
            name
        };
        assert_eq!(name_key(&set(b'a', b'b')), name_key(&set(b'b', b'a')));
        assert_ne!(name_key(&set(b'a', b'b')), name_key(&set(b'a', b'c')));
        assert_eq!(name_key(&set(b'a', b'b')[..20]), None);
    }
}
