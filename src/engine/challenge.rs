//! A challenge for the host to publish: one token, and the forms it takes.
//!
//! RFC 8555 section 8.1 (key authorization), 8.3 (http-01), 8.4 (dns-01); RFC 8737 (tls-alpn-01).

use std::fmt;

use openssl::sha::sha256;

use crate::base64url;

/// The types of challenge that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChallengeType {
    /// A file on port 80 of the host; RFC 8555 section 8.3. Not for wildcards.
    Http01,
    /// A TXT record; RFC 8555 section 8.4. The only one for wildcards. Not for IP addresses.
    Dns01,
    /// A certificate in a handshake on port 443; RFC 8737. Not for wildcards.
    TlsAlpn01,
}

impl ChallengeType {
    /// Its name in ACME: `"http-01"`, `"dns-01"`, `"tls-alpn-01"`.
    pub fn as_str(self) -> &'static str {
        match self {
            ChallengeType::Http01 => "http-01",
            ChallengeType::Dns01 => "dns-01",
            ChallengeType::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<ChallengeType> {
        [ChallengeType::Http01, ChallengeType::Dns01, ChallengeType::TlsAlpn01]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// A challenge to publish.
#[derive(Clone)]
pub struct Challenge {
    kind: ChallengeType,
    identifier: String,
    token: String,
    key_authorization: String,
}

impl Challenge {
    /// `token` has been checked to be base64url.
    pub(crate) fn new(
        kind: ChallengeType,
        identifier: &str,
        token: &str,
        thumbprint: &str,
    ) -> Challenge {
        Challenge {
            kind,
            identifier: identifier.to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.{thumbprint}"),
        }
    }

    /// Its type.
    pub fn kind(&self) -> ChallengeType {
        self.kind
    }

    /// The DNS name (without `*.`) or IP address to be proven.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The token: base64url, checked, at least 22 characters.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// http-01: the body to serve, exactly. Not secret once published; keep it out of logs before.
    pub fn key_authorization(&self) -> &str {
        &self.key_authorization
    }

    /// http-01: the path to serve it at, on port 80 of the identifier.
    pub fn http_path(&self) -> String {
        format!("/.well-known/acme-challenge/{}", self.token)
    }

    /// dns-01: name of the TXT record.
    pub fn dns_name(&self) -> String {
        format!("_acme-challenge.{}", self.identifier)
    }

    /// dns-01: content of the TXT record.
    pub fn dns_value(&self) -> String {
        base64url::encode(self.digest())
    }

    /// tls-alpn-01: SHA-256 of the key authorization; see
    /// [`tls_alpn_certificate`](crate::tls_alpn_certificate).
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.key_authorization.as_bytes())
    }
}

/// Shows neither the key authorization nor what is made of it.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({} for {})", self.kind.as_str(), self.identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_in_its_forms() {
        // The token and thumbprint of RFC 8555 sections 8.1 and 8.3.
        let token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        let thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
        let challenge = Challenge::new(ChallengeType::Dns01, "www.example.org", token, thumbprint);
        let authorization = format!("{token}.{thumbprint}");
        assert_eq!(challenge.key_authorization(), authorization);
        assert_eq!(challenge.http_path(), format!("/.well-known/acme-challenge/{token}"));
        assert_eq!(challenge.dns_name(), "_acme-challenge.www.example.org");
        assert_eq!(challenge.dns_value(), base64url::encode(sha256(authorization.as_bytes())));
        assert!(!format!("{challenge:?}").contains(thumbprint));
    }
}
