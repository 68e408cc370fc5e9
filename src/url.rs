//! Which URLs are asked: every one that a CA hands out is https and on the directory's own host,
//! unless the host program allows more.
//!
//! RFC 8555 section 6.1 (HTTPS); section 10.4 (a server that makes its clients ask elsewhere).

use std::net::IpAddr;

use crate::error::{Error, ErrorKind, Result};
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
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['"', '<', '>', '\\']) {
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

    fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Does it lead to this machine, or to its own link, where clouds have what knows the machine's
    /// secrets (169.254.169.254)?
    fn is_nearby(&self) -> bool {
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
fn bare_host(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// Whether a host is an address in an unusual form, such as 0x7f.1 or 2130706433. Resolvers accept
/// these, but an honest CA does not use them.
fn is_disguised_address(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    };
    is_number && host.parse::<IpAddr>().is_err()
}

/// A URL for a message. One that we would not ask is shown without what may be a password.
pub(crate) fn shown(text: &str, max: usize) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) if Url::parse(text).is_err() => format!("...@{}", printable(rest, max)),
        _ => printable(text, max),
    }
}

/// Decides which URLs may be asked.
#[derive(Clone, Debug)]
pub(crate) struct UrlPolicy {
    directory: Url,
    allowed_hosts: Vec<String>,
    allow_http_loopback: bool,
}

impl UrlPolicy {
    /// A policy around the directory's URL, which itself has to satisfy it.
    pub(crate) fn new(
        directory: &str,
        allowed_hosts: &[String],
        allow_http_loopback: bool,
    ) -> Result<UrlPolicy> {
        let url = Url::parse(directory).map_err(|why| {
            let shown = shown(directory, 200);
            Error::invalid_argument(format!("the directory URL \"{shown}\" {why}"))
        })?;
        let policy = UrlPolicy {
            directory: url.clone(),
            allowed_hosts: allowed_hosts.iter().map(|host| bare_host(host)).collect(),
            allow_http_loopback,
        };
        policy.admit(&url)?;
        Ok(policy)
    }

    pub(crate) fn directory(&self) -> &Url {
        &self.directory
    }

    /// Lets a URL of the CA pass, or says why not.
    pub(crate) fn check(&self, text: &str) -> Result<Url> {
        let url = Url::parse(text).map_err(|why| {
            let shown = shown(text, 200);
            Error::new(ErrorKind::Policy, format!("the CA's URL \"{shown}\" {why}"))
        })?;
        self.admit(&url)?;
        Ok(url)
    }

    fn admit(&self, url: &Url) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Policy, why).at(url.as_str()));
        let secure = url.https || self.allow_http_loopback && url.is_loopback();
        if !secure {
            return refuse(format!(
                "{} is not https; plain http is possible for loopback addresses only, with \
                 allow_http_loopback",
                url.as_str()
            ));
        }
        if url.host != self.directory.host && !self.allowed_hosts.contains(&url.host) {
            return refuse(format!(
                "the CA names a URL on {}, but its directory is on {}; list the host in \
                 allowed_hosts if that is right",
                url.host, self.directory.host
            ));
        }
        if url.is_nearby() && !self.directory.is_nearby() {
            return refuse(format!(
                "the CA names a URL on {}, which is this machine or next to it, but its directory \
                 is on {}",
                url.host, self.directory.host
            ));
        }
        Ok(())
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

    #[test]
    fn only_https_on_the_directorys_host() {
        let policy = UrlPolicy::new("https://ca.example/dir", &[], false).unwrap();
        assert!(policy.check("https://CA.example/x").is_ok());
        for bad in [
            "http://ca.example/x",
            "https://evil.example/",
            "https://ca.example.evil/",
            "https://169.254.169.254/",
            "https://[fe80::1]/",
            "https://127.0.0.1/",
            "http://127.0.0.1/",
            "https://ca.example./x",
            "https://0x7f.1/",
        ] {
            assert_eq!(policy.check(bad).unwrap_err().kind(), ErrorKind::Policy, "{bad}");
        }
        let text = policy.check("https://evil.example/x").unwrap_err().to_string();
        assert!(text.contains("evil.example") && text.contains("ca.example"), "{text}");
        assert!(text.contains("allowed_hosts"), "{text}");
    }

    #[test]
    fn d09_what_is_nearby_is_for_a_directory_that_is_nearby_too() {
        let hosts = [
            "169.254.169.254",
            "[FE80::1]",
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "::1",
            "0.0.0.0",
            "[::]",
            "fd00:ec2::254",
            "localhost",
            "LOCALHOST.",
            "x.localhost",
        ];
        let listed = hosts.map(str::to_owned);
        let url = |host: &str| match host.contains(':') && !host.starts_with('[') {
            true => format!("https://[{host}]/x"),
            false => format!("https://{host}/x"),
        };
        for (directory, may) in [
            ("https://ca.example/dir", false),
            ("https://192.0.2.1/dir", false),
            ("https://10.0.0.1/dir", false),
            ("https://127.0.0.2/dir", true),
            ("https://localhost/dir", true),
            ("https://[fe80::2]/dir", true),
        ] {
            let policy = UrlPolicy::new(directory, &listed, false).unwrap();
            for host in &hosts {
                let checked = policy.check(&url(host));
                assert_eq!(checked.is_ok(), may, "{directory} {host}");
                assert!(may || checked.unwrap_err().kind() == ErrorKind::Policy);
            }
        }
        // A network of one's own is not nearby: an operator may list it.
        let hosts = ["10.1.2.3".to_owned(), "fd12:3456::1".to_owned()];
        let policy = UrlPolicy::new("https://ca.example/dir", &hosts, false).unwrap();
        assert!(policy.check("https://10.1.2.3/x").is_ok());
        assert!(policy.check("https://[fd12:3456::1]/x").is_ok());
    }

    #[test]
    fn more_by_option_only() {
        let hosts = ["API.ca.example".to_owned()];
        let policy = UrlPolicy::new("https://ca.example/dir", &hosts, false).unwrap();
        assert!(policy.check("https://api.ca.example/x").is_ok());
        let loopback = "http://127.0.0.1:14000/dir";
        assert!(UrlPolicy::new(loopback, &[], false).is_err());
        let policy = UrlPolicy::new(loopback, &[], true).unwrap();
        assert!(policy.check("http://127.0.0.1:14000/x").is_ok());
        assert!(UrlPolicy::new("http://ca.example/dir", &[], true).is_err());
    }
}
