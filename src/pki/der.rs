//! A small writer and a small reader of DER (X.690). OpenSSL's bindings cannot write a request that is
//! signed elsewhere, and OpenSSL decodes the key of each certificate that it reads.

pub(super) const INTEGER: u8 = 0x02;
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

/// Reads elements one after the other. `None` for what is not DER.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// One element: all of its bytes, its tag and its content.
pub(super) struct Element<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the next element.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, &first) = (self.0.first()?, self.0.get(1)?);
        // A tag of several bytes is not in a certificate.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let octets = match first {
            0x81..=0x84 => usize::from(first & 0x7f),
            0..=0x7f => 0,
            _ => return None,
        };
        let long = self.0.get(2..2 + octets)?;
        let length = match octets {
            0 => usize::from(first),
            _ => long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        // DER: the shortest form.
        if octets > 0 && (length < 0x80 || long.first() == Some(&0)) {
            return None;
        }
        let end = (2 + octets).checked_add(length)?;
        let (bytes, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(Element { bytes, tag, content: bytes.get(2 + octets..)? })
    }

    /// Reads an element with this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// Reads an element, if the next one has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Option<Element<'a>>> {
        match self.0.first() == Some(&tag) {
            true => self.next().map(Some),
            false => Some(None),
        }
    }
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
