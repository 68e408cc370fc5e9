//! Absolute URLs, and the part of a URL that a message may contain.

use std::net::IpAddr;

use crate::text::printable;

/// Maximum length of a URL. No CA has a reason for longer ones.
const MAX_LENGTH: usize = 4096;

/// Address of AWS's metadata service, which other clouds have at 169.254.169.254.
const AWS_METADATA: [u16; 8] = [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];

/// An absolute http or https URL, kept byte for byte, because a JWS contains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    text: String,
    host: String,
    port: u16,
    path_at: usize,
    https: bool,
}

impl Url {
    /// Reads an absolute URL. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Url, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("is longer than 4096 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\".contains(&b)) {
            return Err("has characters that a URL cannot have");
        }
        if text.contains('#') {
            return Err("has a fragment");
        }
        let uri: http::Uri = text.parse().map_err(|_| "is not a URL")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err("is neither https nor http"),
            None => return Err("is not absolute"),
        };
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user name in it");
        }
        let host = bare_host(authority.host());
        if is_disguised_address(&host) {
            return Err("has an address that is not written like 192.0.2.1");
        }
        let port = match authority.as_str().get(authority.host().len()..) {
            None | Some("") => Some(if https { 443 } else { 80 }),
            Some(port) => port.trim_start_matches(':').parse().ok().filter(|port| *port != 0),
        };
        let path_at = text.find("://").map_or(0, |at| at + 3) + authority.as_str().len();
        Ok(Url {
            host,
            port: port.ok_or("has a port that is out of range")?,
            path_at,
            https,
            text: text.to_owned(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Host name or address, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Resolves a reference in the header of this URL's response: it may be an absolute path (RFC
    /// 9110 section 10.2.2, RFC 8288 section 3.1).
    pub(crate) fn join(&self, reference: &str) -> String {
        match reference.starts_with('/') && !reference.starts_with("//") {
            true => self.text.get(..self.path_at).unwrap_or_default().to_owned() + reference,
            false => reference.to_owned(),
        }
    }

    /// Path and query, at least "/".
    pub(crate) fn path(&self) -> String {
        match self.text.get(self.path_at..).unwrap_or_default() {
            rest if rest.starts_with('/') => rest.to_owned(),
            rest => format!("/{rest}"),
        }
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Whether the host is a loopback address or `localhost`.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether the host is this machine, or is on the local link. There, clouds have a service that
    /// knows the machine's secrets (169.254.169.254).
    pub(crate) fn is_nearby(&self) -> bool {
        let host = self.host.trim_end_matches('.');
        let Ok(address) = host.parse::<IpAddr>() else {
            return host == "localhost" || host.ends_with(".localhost");
        };
        let address = address.to_canonical();
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => {
                address.is_unicast_link_local() || address.segments() == AWS_METADATA
            }
        };
        address.is_loopback() || address.is_unspecified() || is_link_local
    }
}

/// Returns a host in lower case, without the brackets of an IPv6 address.
pub(crate) fn bare_host(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// Whether a host is an address in an unusual form, such as 0x7f.1 or 2130706433. An honest CA does not
/// use them.
fn is_disguised_address(host: &str) -> bool {
    ends_in_number(host) && host.parse::<IpAddr>().is_err()
}

/// Whether the last label is a number, decimal or hexadecimal. No top-level domain is one (RFC 3696 section
/// 2), and resolvers read such a name as an IPv4 address: `127.1`, `0x7f.1`.
pub(crate) fn ends_in_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Returns a URL for a message. If it is not a valid URL, the text before "@" is removed, because it
/// may be a password.
pub(crate) fn shown(text: &str, max: usize) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) if Url::parse(text).is_err() => format!("...@{}", printable(rest, max)),
        _ => printable(text, max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_parts() {
        let url = Url::parse("https://CA.example:14000/a/%2F?x=1").unwrap();
        assert_eq!((url.host(), url.port()), ("ca.example", 14000));
        assert_eq!(url.path(), "/a/%2F?x=1");
        assert_eq!(url.as_str(), "https://CA.example:14000/a/%2F?x=1");
        let url = Url::parse("https://[2001:db8::1]").unwrap();
        assert_eq!((url.host(), url.port(), url.path().as_str()), ("2001:db8::1", 443, "/"));
        assert_eq!(Url::parse("http://ca.example?q").unwrap().path(), "/?q");
    }

    #[test]
    fn what_is_no_url() {
        let long = format!("https://ca/{}", "a".repeat(MAX_LENGTH));
        for bad in [
            "",
            "/x",
            "ca.example",
            "ftp://ca/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://user@ca/",
            "https://u:p@ca/",
            "https://ca/#f",
            "https://ca/a b",
            "https://ca/\r\nX: y",
            "https://ca/\0",
            "https://cä/",
            "https://ca:0/",
            "https://ca:99999/",
            "https://ca\\@evil/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://127.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.1./",
            &long,
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }
}
