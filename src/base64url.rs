//! base64url without padding, the alphabet of everything in ACME.
//!
//! RFC 4648 section 5, RFC 7515 section 2.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Encodes without padding.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes text as people paste it: either alphabet, with or without padding or white space around
/// it.
pub(crate) fn decode_pasted(text: &str) -> Option<Vec<u8>> {
    const URL_SAFE_ANY: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text = text.trim();
    let bare = text.trim_end_matches('=');
    URL_SAFE_ANY.decode(text).or_else(|_| STANDARD_NO_PAD.decode(bare)).ok()
}

/// Whether `text` is not empty and has base64url characters only.
pub(crate) fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j04_every_length_survives_and_none_is_padded() {
        for n in 0..=1000usize {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 7 + n) as u8).collect();
            let text = encode(&bytes);
            assert!(!text.contains(['=', '+', '/']));
            let theirs = openssl::base64::encode_block(&bytes).replace('+', "-").replace('/', "_");
            assert_eq!(text, theirs.trim_end_matches('='));
            assert_eq!(decode_pasted(&text).unwrap(), bytes);
        }
    }

    #[test]
    fn pasted_text_may_be_padded_or_standard() {
        assert_eq!(decode_pasted(" -_8= \n").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode_pasted("+/8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode_pasted("a b"), None);
    }

    #[test]
    fn only_the_alphabet_passes() {
        assert!(is_base64url("aZ09-_"));
        for bad in ["", "a/b", "a+b", "a=", "..", "a\0", "a b", "ａ"] {
            assert!(!is_base64url(bad), "{bad:?}");
        }
    }
}
