//! A small writer of DER (X.690). OpenSSL's bindings cannot write a request that is signed
//! elsewhere.

pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Returns one element: tag, length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut element = vec![tag];
    match (content.len(), u8::try_from(length.len())) {
        (0..=127, _) => element.push(u8::try_from(content.len()).unwrap_or(0)),
        (_, Ok(octets)) => {
            element.push(0x80 | octets);
            element.extend(length);
        }
        (_, Err(_)) => {}
    }
    element.extend_from_slice(content);
    element
}

/// Returns an element that consists of others, which may be secret.
pub(super) fn of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &zeroize::Zeroizing::new(parts.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_byte_or_more() {
        assert_eq!(element(4, b""), [4, 0]);
        assert_eq!(element(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(element(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
        assert_eq!(of(SEQUENCE, &[&[1], &[2, 3]]), [0x30, 3, 1, 2, 3]);
    }
}
