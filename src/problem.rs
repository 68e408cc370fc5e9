//! Problem documents: refusals of a CA.
//!
//! RFC 9457; RFC 8555 sections 6.7 and 6.7.1; the error types of RFC 8555 section 6.7 and later
//! registrations, with what each means for a retry.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use crate::text::printable;

/// The prefix of every ACME error type.
const ACME_ERROR: &str = "urn:ietf:params:acme:error:";
/// Maximum number of sub-problems to keep of one document.
const MAX_SUBPROBLEMS: usize = 100;
/// Maximum length of a detail in bytes; the rest is cut.
const MAX_DETAIL: usize = 1024;
/// Maximum length of a problem's text in bytes.
const MAX_TEXT: usize = 2048;
/// Maximum length of a URL in a detail. Let's Encrypt's link that lifts a pause names every paused
/// name, so it has some thousand characters.
const MAX_HELP_URL: usize = 8192;
/// Maximum depth of nested sub-problems; RFC 8555 defines one level.
const MAX_NESTING: usize = 4;

/// A problem document (RFC 9457), or one of its sub-problems (RFC 8555 section 6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    type_: String,
    detail: Option<String>,
    instance: Option<String>,
    identifier: Option<String>,
    help_url: Option<String>,
    subproblems: Vec<Problem>,
    /// Number of sub-problems in the document.
    subproblem_count: usize,
    json: String,
}

impl Problem {
    /// Reads a body as a problem document; `None` for other bodies. Malformed text is repaired, so
    /// that the error type is not lost.
    pub(crate) fn parse(body: &[u8]) -> Option<Problem> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let json = serde_json::from_slice(body);
        Problem::from_json(&json.or_else(|_| serde_json::from_str(&repaired(body))).ok()?)
    }

    /// Reads the problem document in a response with a success status; `None` for other bodies.
    pub(crate) fn in_success(body: &[u8]) -> Option<Problem> {
        // Nearly all bodies have no such type, and are not read twice.
        let has_type = std::str::from_utf8(body).is_ok_and(|text| text.contains(ACME_ERROR));
        has_type.then(|| Problem::parse(body))?.filter(|problem| problem.name().is_some())
    }

    /// Reads the `error` member of an order or challenge, or a whole document.
    pub(crate) fn from_json(value: &Value) -> Option<Problem> {
        Problem::nested(value, 0)
    }

    fn nested(value: &Value, depth: usize) -> Option<Problem> {
        let members = value.as_object()?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if text("type").is_none() && text("detail").is_none() {
            return None;
        }
        let identifier = members.get("identifier").and_then(|id| id.get("value"));
        let subproblems = members.get("subproblems").and_then(Value::as_array);
        Some(Problem {
            type_: printable(text("type").unwrap_or("about:blank"), MAX_DETAIL),
            detail: text("detail").map(|detail| printable(detail, MAX_DETAIL)),
            instance: text("instance").map(|url| printable(url, MAX_DETAIL)),
            identifier: identifier.and_then(Value::as_str).map(|id| printable(id, 255)),
            help_url: help_url(text("instance"), text("detail")),
            subproblems: match subproblems {
                Some(list) if depth < MAX_NESTING => list
                    .iter()
                    .take(MAX_SUBPROBLEMS)
                    .filter_map(|sub| Problem::nested(sub, depth + 1))
                    .collect(),
                _ => Vec::new(),
            },
            subproblem_count: subproblems.map_or(0, Vec::len),
            json: value.to_string(),
        })
    }

    /// The type URN as the CA sent it, `urn:ietf:params:acme:error:...`.
    pub fn type_urn(&self) -> &str {
        &self.type_
    }

    /// The last part of an ACME type URN, such as `badNonce`; `None` for other types.
    pub fn name(&self) -> Option<&str> {
        self.type_.strip_prefix(ACME_ERROR)
    }

    /// The CA's text for a person; control characters are escaped.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// A URL with more about this occurrence: terms of service, or a form that unpauses the account.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// URL of a page that helps the user: its `instance`, or the first https URL in its whole
    /// detail or in one of its sub-problems.
    pub(crate) fn help_url(&self) -> Option<&str> {
        let of_subproblem = || self.subproblems.iter().find_map(Problem::help_url);
        self.help_url.as_deref().or_else(of_subproblem)
    }

    /// Makes one problem of the problems of several identifiers.
    pub(crate) fn compound(parts: &[(&str, Option<&Problem>)]) -> Option<Problem> {
        let count = parts.len();
        let mut json =
            format!(r#"{{"type":"{ACME_ERROR}compound","detail":"{count} names failed""#);
        json.push_str(r#","subproblems":["#);
        for (n, (identifier, problem)) in parts.iter().enumerate() {
            // Leave the object open, to add a member.
            let own = problem.and_then(|problem| problem.json.strip_suffix('}'));
            json.push_str(if n == 0 { "" } else { "," });
            json.push_str(own.unwrap_or(r#"{"type":"about:blank""#));
            let kind = if identifier.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
            let value = Value::from(*identifier);
            json.push_str(&format!(r#","identifier":{{"type":"{kind}","value":{value}}}}}"#));
        }
        json.push_str("]}");
        Problem::parse(json.as_bytes())
    }

    /// The identifier that the sub-problem is about.
    pub fn identifier(&self) -> Option<&str> {
        self.identifier.as_deref()
    }

    /// The problems of single identifiers; at most 100 are kept.
    pub fn subproblems(&self) -> &[Problem] {
        &self.subproblems
    }

    /// The whole document as JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The identifier that the problem is about, if it is exactly one.
    pub(crate) fn only_identifier(&self) -> Option<String> {
        match (&self.identifier, self.subproblems.as_slice()) {
            (Some(identifier), _) => Some(identifier.clone()),
            (None, [only]) => only.identifier.clone(),
            _ => None,
        }
    }

    /// Whether the CA found that another key than the account's signed the request. RFC 8555 has no
    /// type of its own for that. A wrong HMAC key of an external account binding has a similar text, and
    /// is another fault: the key stays wrong.
    pub(crate) fn is_about_signature(&self) -> bool {
        // CA quirk (Boulder, Pebble): they use "malformed" or "unauthorized", with this text.
        let detail = self.detail.as_deref().unwrap_or_default();
        matches!(self.name(), Some("malformed" | "unauthorized"))
            && detail.contains("JWS verification error")
            && !detail.contains("external account")
    }

    fn summary(&self) -> String {
        let name = self.name().unwrap_or(&self.type_);
        self.detail.as_ref().map_or(name.to_owned(), |detail| format!("{name}: {detail}"))
    }

    /// Whether the same request will fail again. The table has every type (RFC 8555 section 6.7,
    /// RFC 9773 section 7.4, RFC 9891); for unknown types the HTTP status decides.
    pub(crate) fn is_permanent(&self, http_status: u16) -> bool {
        // CA quirk (Boulder): the server keeps an account's key for some seconds after it was
        // changed.
        if self.is_about_signature() {
            return false;
        }
        match self.name() {
            Some(
                "badNonce" | "caa" | "connection" | "dns" | "incorrectResponse" | "orderNotReady"
                | "rateLimited" | "serverInternal" | "tls",
            ) => false,
            // A compound is permanent if one of its parts is.
            Some("compound") => self.subproblems.iter().any(|sub| sub.is_permanent(http_status)),
            Some(
                "accountDoesNotExist"
                | "agreementRequired"
                | "alreadyReplaced"
                | "alreadyRevoked"
                | "badCSR"
                | "badPublicKey"
                | "badRevocationReason"
                | "badSignatureAlgorithm"
                | "externalAccountRequired"
                | "invalidContact"
                | "invalidProfile"
                | "malformed"
                | "onionCAARequired"
                | "rejectedIdentifier"
                | "unsupportedContact"
                | "unsupportedIdentifier"
                | "userActionRequired",
            ) => true,
            _ => is_permanent_status(http_status),
        }
    }
}

/// Returns an instance or the first https URL in a detail, without punctuation behind it.
fn help_url(instance: Option<&str>, detail: Option<&str>) -> Option<String> {
    let instance = instance.filter(|url| url.starts_with("https://"));
    let url = instance.or_else(|| {
        // CA quirk (Let's Encrypt): the page that lifts a pause is named in the text only.
        let detail = detail?;
        let url = detail.get(detail.find("https://")?..)?.split_ascii_whitespace().next()?;
        let url = url.split(['"', '<', '>', ')', '\'']).next()?;
        Some(url.trim_end_matches(['.', ',', ';', ':']))
    });
    url.filter(|url| url.len() <= MAX_HELP_URL).map(|url| printable(url, MAX_HELP_URL))
}

/// Whether an HTTP status alone means that a retry fails.
pub(crate) fn is_permanent_status(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 425 | 429)
}

/// `badNonce: JWS has an invalid anti-replay nonce`, and the texts of the first sub-problems.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.summary();
        for sub in self.subproblems.iter().take(3) {
            let identifier = sub.identifier().unwrap_or("?");
            text.push_str(&format!("; {identifier}: {}", sub.summary()));
        }
        f.write_str(&printable(&text, MAX_TEXT))?;
        match self.subproblem_count {
            0..=3 => Ok(()),
            n => write!(f, "; and {} more", n - 3),
        }
    }
}

/// Returns a body with U+FFFD in place of invalid UTF-8 and of half surrogate pairs.
fn repaired(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut parts = text.split("\\u");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_surrogate = matches!(
            part.as_bytes(),
            [b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', _, _, ..]
        );
        let rest = part.get(4..).filter(|_| is_surrogate);
        out.push_str(if rest.is_some() { "\\ufffd" } else { "\\u" });
        out.push_str(rest.unwrap_or(part));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_with_subproblems() {
        let body = br#"{"type":"urn:ietf:params:acme:error:malformed","detail":"Some of the names",
            "status":400,"subproblems":[
            {"type":"urn:ietf:params:acme:error:malformed","detail":"Invalid underscore",
             "identifier":{"type":"dns","value":"_example.org"}},
            {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"No",
             "identifier":{"type":"dns","value":"example.net"}}]}"#;
        let problem = Problem::parse(body).unwrap();
        assert_eq!(problem.name(), Some("malformed"));
        assert_eq!(problem.subproblems().len(), 2);
        assert_eq!(problem.subproblems()[1].identifier(), Some("example.net"));
        assert_eq!(problem.only_identifier(), None);
        assert_eq!(
            problem.to_string(),
            "malformed: Some of the names; _example.org: malformed: Invalid underscore; \
             example.net: rejectedIdentifier: No"
        );
    }

    #[test]
    fn what_is_no_problem_document() {
        for body in ["", "<html>", "[]", "null", "{}", r#"{"error":"x"}"#, r#"{"type":7}"#] {
            assert_eq!(Problem::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn members_of_the_wrong_type_are_ignored() {
        let body = br#"{"type":null,"detail":"x","status":"429","subproblems":{"a":1},
            "identifier":"dns","instance":7}"#;
        let problem = Problem::parse(body).unwrap();
        assert_eq!(problem.type_urn(), "about:blank");
        assert_eq!(problem.identifier(), None);
    }

    #[test]
    fn p04_p05_wire_text_cannot_break_a_log_line() {
        let json = r#"{"type":"t","detail":"a\nb\u001b[31m\u202e\u0000%s%n"}"#;
        let text = Problem::parse(json.as_bytes()).unwrap().to_string();
        assert_eq!(text, r"t: a\u{a}b\u{1b}[31m\u{202e}\u{0}%s%n");
        assert_eq!(printable(&"x".repeat(2000), 10), "xxxxxxxxxx…");
    }

    #[test]
    fn p04_broken_text_does_not_hide_what_went_wrong() {
        let bad_nonce = format!("{ACME_ERROR}badNonce");
        for (detail, shown) in [
            (&b"na\xefve \xff"[..], "na\u{fffd}ve \u{fffd}"),
            (br"half \ud800 of it", "half \u{fffd} of it"),
            (br"\uDFFF\uDbff", "\u{fffd}\u{fffd}"),
            (br"\ud83d\ude00", "\u{1f600}"),
            (br"C:\\users\ud800", "C:\\users\u{fffd}"),
            ("\u{1f600}".as_bytes(), "\u{1f600}"),
            (br"\u0000", r"\u{0}"),
        ] {
            let mut body = format!(r#"{{"type":"{bad_nonce}","detail":""#).into_bytes();
            body.extend_from_slice(detail);
            body.extend_from_slice(b"\"}");
            let problem = Problem::parse(&body).unwrap();
            assert_eq!(problem.name(), Some("badNonce"), "{shown}");
            assert_eq!(problem.detail(), Some(shown));
            let marked = [b"\xef\xbb\xbf", body.as_slice()].concat();
            assert_eq!(Problem::parse(&marked), Some(problem));
        }
        for broken in [r"\u", r"\ud8", r"\ud80", r"\ug000", r"\ud800\"] {
            let body = format!(r#"{{"type":"{bad_nonce}","detail":"{broken}"}}"#);
            assert_eq!(Problem::parse(body.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn p06_many_and_deep_subproblems_are_cut() {
        let sub = r#"{"type":"a","subproblems":["#;
        let deep = format!("{}{}", sub.repeat(50), "]}".repeat(50));
        let problem = Problem::parse(deep.as_bytes()).unwrap();
        let mut depth = 0;
        let mut at = &problem;
        while let Some(next) = at.subproblems().first() {
            (at, depth) = (next, depth + 1);
        }
        assert_eq!(depth, MAX_NESTING);
        let many =
            format!(r#"{{"type":"a","subproblems":[{}]}}"#, [r#"{"type":"b"}"#; 500].join(","));
        assert_eq!(Problem::parse(many.as_bytes()).unwrap().subproblems().len(), MAX_SUBPROBLEMS);
    }

    #[test]
    fn p14_a_compound_is_permanent_when_one_part_is() {
        let with = |name: &str| {
            let json = format!(
                r#"{{"type":"{ACME_ERROR}compound","subproblems":[
                {{"type":"{ACME_ERROR}dns"}},{{"type":"{ACME_ERROR}{name}"}}]}}"#
            );
            Problem::parse(json.as_bytes()).unwrap().is_permanent(403)
        };
        assert!(with("rejectedIdentifier"));
        assert!(!with("connection"));
    }
}
