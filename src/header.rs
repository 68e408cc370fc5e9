//! The header fields of one response: limited in size, and only those that ACME uses.
//!
//! RFC 8555 sections 6.5 (Replay-Nonce) and 7.4.2 (Link), RFC 8288 (Link), RFC 9110 (Location,
//! Retry-After, Date).

use crate::base64url::is_base64url;

/// Maximum size of all header fields of a response, names and values.
pub(crate) const MAX_SIZE: usize = 64 * 1024;
/// Maximum number of header lines of a response, interim responses (1xx) included.
const MAX_LINES: usize = 128;
/// Maximum length of a nonce; longer ones are ignored.
const MAX_NONCE: usize = 512;

/// Names of the fields to keep.
const KEPT: [&str; 6] = ["content-type", "date", "link", "location", "replay-nonce", "retry-after"];

/// The header fields of a response, added one at a time.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    kept: Vec<(&'static str, String)>,
    size: usize,
    lines: usize,
}

/// The error for a header that is larger than a CA has reason to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Headers {
    /// Adds one field as received. Drops values that are not UTF-8: no field of ACME has such a
    /// value.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooLarge> {
        self.size = self.size.saturating_add(name.len()).saturating_add(value.len());
        self.lines = self.lines.saturating_add(1);
        if self.size > MAX_SIZE || self.lines > MAX_LINES {
            return Err(TooLarge);
        }
        let kept = KEPT.iter().find(|kept| kept.as_bytes().eq_ignore_ascii_case(name));
        if let (Some(kept), Ok(value)) = (kept, std::str::from_utf8(value)) {
            self.kept.push((kept, value.trim().to_owned()));
        }
        Ok(())
    }

    /// The kept fields, unchanged.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.kept.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The last value of a field: an HTTP client may pass those of interim responses, too.
    pub(crate) fn last(&self, name: &'static str) -> Option<&str> {
        self.all(name).next_back()
    }

    fn all(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &str> {
        self.kept.iter().filter(move |(kept, _)| *kept == name).map(|(_, value)| value.as_str())
    }

    /// The targets of links with this relation, at most `max` (RFC 8288 section 3). Skips malformed
    /// links.
    pub(crate) fn links(&self, relation: &str, max: usize) -> Vec<&str> {
        let links =
            self.all("link").flat_map(|value| value.split(", <").flat_map(|v| v.split(",<")));
        links.filter_map(|link| link_target(link, relation)).take(max).collect()
    }

    /// The nonce, if there is a usable one. "Clients MUST ignore invalid Replay-Nonce values"
    /// (RFC 8555 section 6.5.1).
    pub(crate) fn nonce(&self) -> Option<&str> {
        self.all("replay-nonce").find(|nonce| nonce.len() <= MAX_NONCE && is_base64url(nonce))
    }
}

/// Returns the target of one link, whose "<" may be cut off, if it has the relation.
fn link_target<'a>(link: &'a str, relation: &str) -> Option<&'a str> {
    let (target, parameters) = link.trim().trim_start_matches('<').split_once('>')?;
    let is_relation = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && relations.any(|word| word.eq_ignore_ascii_case(relation))
        })
    };
    parameters.split(';').any(is_relation).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_the_last_value_wins() {
        let mut headers = Headers::default();
        headers.add(b"LOCATION", b" https://ca/1 ").unwrap();
        headers.add(b"location", b"https://ca/2").unwrap();
        headers.add(b"Set-Cookie", b"x").unwrap();
        assert_eq!(headers.last("location"), Some("https://ca/2"));
        assert_eq!(headers.last("set-cookie"), None);
    }

    #[test]
    fn a_bad_nonce_value_is_ignored() {
        for bad in ["", "a b", "a\r\nb", "a=", "\"a\"", "ü", &"a".repeat(MAX_NONCE + 1)] {
            let mut headers = Headers::default();
            headers.add(b"Replay-Nonce", bad.as_bytes()).unwrap();
            assert_eq!(headers.nonce(), None, "{bad:?}");
            headers.add(b"Replay-Nonce", b"good-1").unwrap();
            assert_eq!(headers.nonce(), Some("good-1"));
        }
    }

    #[test]
    fn links_are_found_in_one_header_or_many() {
        let mut headers = Headers::default();
        let value = br#"<https://ca/dir>;rel="index", <https://ca/1>; title="a, b"; rel=alternate"#;
        headers.add(b"Link", value).unwrap();
        headers.add(b"link", b"<https://ca/2>;rel=\"up alternate\"").unwrap();
        for junk in ["", "<", ">", "<>", "https://ca/3; rel=alternate", "<https://ca/4>; rel"] {
            headers.add(b"Link", junk.as_bytes()).unwrap();
        }
        assert_eq!(headers.links("alternate", 8), ["https://ca/1", "https://ca/2"]);
        assert_eq!(headers.links("alternate", 1), ["https://ca/1"]);
        assert_eq!(headers.links("index", 8), ["https://ca/dir"]);
    }

    #[test]
    fn the_limits_hold() {
        let mut headers = Headers::default();
        for _ in 0..MAX_LINES {
            headers.add(b"x", b"y").unwrap();
        }
        assert_eq!(headers.add(b"x", b"y"), Err(TooLarge));
        assert_eq!(Headers::default().add(b"x", &vec![b'y'; MAX_SIZE]), Err(TooLarge));
    }
}
