//! A number that is equal for names that are the same name to OpenSSL, to find candidates without
//! reading each name with OpenSSL.
//!
//! OpenSSL compares names (RFC 5280 section 7.1) after it has converted strings to UTF-8, letters to
//! lower case, and white space to one space between words.

use super::der::{Reader, SEQUENCE, SET};

const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

/// Returns the key of a name, which is DER. `None` if it cannot be read.
pub(crate) fn name_key(name: &[u8]) -> Option<u64> {
    let mut key = Hash::default();
    let mut names = Reader(Reader(name).expect(SEQUENCE)?.content);
    while !names.is_at_end() {
        // The attributes of one set may have another order in another encoding.
        let mut sum = 0u64;
        let mut set = Reader(names.expect(SET)?.content);
        while !set.is_at_end() {
            let mut attribute = Reader(set.expect(SEQUENCE)?.content);
            let mut hash = Hash::default();
            hash.add(attribute.expect(OID)?.content);
            let value = attribute.next()?;
            add_text(&mut hash, value.tag, value.content)?;
            sum = sum.wrapping_add(hash.0);
        }
        key.add(&sum.to_be_bytes());
    }
    Some(key.0)
}

fn add_text(hash: &mut Hash, tag: u8, content: &[u8]) -> Option<()> {
    // OpenSSL takes T61String for Latin-1.
    let width = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => {
            content.iter().for_each(|byte| hash.add_letter(*byte));
            return Some(());
        }
        T61_STRING => 1,
        BMP_STRING => 2,
        UNIVERSAL_STRING => 4,
        _ => {
            hash.add(content);
            return Some(());
        }
    };
    for unit in content.chunks(width) {
        let code = unit.iter().fold(0, |code, byte| code << 8 | u32::from(*byte));
        let letter = char::from_u32(code)?;
        letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| hash.add_letter(byte));
    }
    Some(())
}

/// FNV-1a.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add_letter(&mut self, byte: u8) {
        // The vertical tab is white space to OpenSSL, and not to Rust.
        if !byte.is_ascii_whitespace() && byte != 0x0b {
            self.add(&[byte.to_ascii_lowercase()]);
        }
    }
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
            T61_STRING => text.chars().map(|c| u8::try_from(c).unwrap()).collect(),
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
    }

    #[test]
    fn names_that_are_equal_to_openssl_have_one_key() {
        let one = name(COMMON_NAME, UTF8_STRING, "The  Root\u{e9} X1");
        for (tag, text) in [
            (UTF8_STRING, " the root\u{e9} x1 "),
            (BMP_STRING, "THE ROOT\u{e9} X1"),
            (UNIVERSAL_STRING, "The\u{b}Root\u{e9} X1"),
            (T61_STRING, "The Root\u{e9} X1"),
        ] {
            assert_same(&one, &name(COMMON_NAME, tag, text));
        }
        let one = name(COUNTRY, UTF8_STRING, "US");
        for tag in [PRINTABLE_STRING, IA5_STRING, BMP_STRING] {
            assert_same(&one, &name(COUNTRY, tag, "us"));
        }
    }

    #[test]
    fn other_names_have_other_keys() {
        let names = [
            name(COMMON_NAME, UTF8_STRING, "Root X1"),
            name(COMMON_NAME, UTF8_STRING, "Root X2"),
            name(COUNTRY, UTF8_STRING, "Root X1"),
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
