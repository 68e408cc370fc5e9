//! Which URLs are requested: https, and on the directory's own host, unless the program allows more.
//!
//! RFC 8555 section 6.1 (HTTPS); section 10.4 (a server that sends its clients elsewhere).

use crate::error::{Error, ErrorKind, Result};
use crate::url::{Url, bare_host, shown};

/// Decides which URLs may be requested.
#[derive(Clone, Debug)]
pub(crate) struct UrlPolicy {
    directory: Url,
    allowed_hosts: Vec<String>,
    allow_http_loopback: bool,
}

impl UrlPolicy {
    /// Makes a policy from the directory's URL, which must satisfy it itself.
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

    /// Checks a URL of the CA. The error says why it is not allowed.
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
        let secure = url.is_https() || self.allow_http_loopback && url.is_loopback();
        if !secure {
            return refuse(format!(
                "{} is not https; plain http is possible for loopback addresses only, with \
                 allow_http_loopback",
                url.as_str()
            ));
        }
        let (host, ours) = (url.host(), self.directory.host());
        if host != ours && !self.allowed_hosts.iter().any(|allowed| allowed == host) {
            return refuse(format!(
                "the CA names a URL on {host}, but its directory is on {ours}; list the host in \
                 allowed_hosts if that is right"
            ));
        }
        if url.is_nearby() && !self.directory.is_nearby() {
            return refuse(format!(
                "the CA names a URL on {host}, which is this machine or next to it, but its directory \
                 is on {ours}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
