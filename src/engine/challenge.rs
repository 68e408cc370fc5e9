//! A challenge for the program to publish, in all forms that it needs. The types are a table in
//! `resource/challenge_type.rs`.
//!
//! RFC 8555 section 8.1 (key authorization), 8.3 (http-01), 8.4 (dns-01); RFC 8737 (tls-alpn-01);
//! draft-ietf-acme-dns-account-label (dns-account-01); draft-ietf-acme-dns-persist (dns-persist-01);
//! RFC 9799 (onion-csr-01); draft-ietf-acme-device-attest (device-attest-01).

use std::fmt;
use std::net::IpAddr;

use crate::base64url;
use crate::error::{Error, Result};
use crate::pki::sha256;
use crate::resource::challenge::Challenge as Offer;
pub use crate::resource::challenge_type::ChallengeType;
use crate::resource::challenge_type::Content;
use crate::resource::identifier::Identifier;
use crate::store::journal::PublishedChallenge;

/// Path of a key authorization at a web server, before the token (RFC 8555 section 8.3).
pub(super) const HTTP01_PATH: &str = "/.well-known/acme-challenge/";

/// A challenge to publish.
#[derive(Clone)]
pub struct Challenge {
    kind: ChallengeType,
    identifier: String,
    token: String,
    key_authorization: String,
    record: Option<(String, String)>,
    json: Option<String>,
}

impl Challenge {
    /// Makes a challenge of a type whose TXT record, if it has one, is at the same name for every
    /// account. `token` has been checked to be base64url.
    #[cfg(any(test, feature = "http"))]
    pub(crate) fn new(
        kind: ChallengeType,
        identifier: &str,
        token: &str,
        thumbprint: &str,
    ) -> Challenge {
        let mut made = Challenge::without_record(kind, identifier, token, thumbprint);
        made.record = made.record_with("", base64url::encode(made.digest()));
        made
    }

    fn without_record(
        kind: ChallengeType,
        identifier: &str,
        token: &str,
        thumbprint: &str,
    ) -> Challenge {
        let key_authorization = match kind.has_token() {
            true => format!("{token}.{thumbprint}"),
            false => String::new(),
        };
        let (identifier, token) = (identifier.to_owned(), token.to_owned());
        Challenge { kind, identifier, token, key_authorization, record: None, json: None }
    }

    /// Makes the challenge that a CA offers, as the account with this URL has to publish it. `below`:
    /// whether the challenge also validates the subdomains of the name.
    pub(super) fn offered(
        kind: ChallengeType,
        offer: &Offer,
        identifier: &Identifier,
        below: bool,
        account_url: &str,
        thumbprint: &str,
    ) -> Result<Challenge> {
        let token = match kind.has_token() {
            true => offer.checked_token()?,
            false => "",
        };
        let mut made = Challenge::without_record(kind, identifier.host(), token, thumbprint);
        let content = match kind.record_content() {
            Some(Content::Digest) => Some(base64url::encode(made.digest())),
            Some(Content::AccountUrl) => Some(persistent_value(offer, account_url, below)?),
            None => None,
        };
        made.record = content.and_then(|content| made.record_with(account_url, content));
        made.json.clone_from(&offer.json);
        Ok(made)
    }

    /// Restores a challenge that an earlier run has published, for the host to remove.
    pub(super) fn left(
        kind: ChallengeType,
        left: &PublishedChallenge,
        thumbprint: &str,
    ) -> Challenge {
        let mut made = Challenge::without_record(kind, &left.identifier, &left.token, thumbprint);
        let content = base64url::encode(made.digest());
        made.record = left.dns_name.clone().map(|name| (name, content));
        made
    }

    /// Returns what an operation after a crash needs to remove it.
    pub(super) fn to_journal(&self) -> PublishedChallenge {
        PublishedChallenge {
            token: self.token.clone(),
            kind: self.kind.as_str().to_owned(),
            identifier: self.identifier.clone(),
            dns_name: self.dns_name().map(str::to_owned),
        }
    }

    /// Name and content of the TXT record, for the types that have one.
    fn record_with(&self, account_url: &str, content: String) -> Option<(String, String)> {
        Some((self.kind.record_prefix(account_url)? + &self.identifier, content))
    }

    /// Its type.
    pub fn kind(&self) -> ChallengeType {
        self.kind
    }

    /// The DNS name (without `*.`) or IP address that the CA validates.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The token: base64url, checked, at least 22 characters. Empty for the types that have none:
    /// dns-persist-01 and onion-csr-01.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// http-01: the exact body to serve. It is secret until it is published: keep it out of logs
    /// until then. Empty for the types that have no token.
    pub fn key_authorization(&self) -> &str {
        &self.key_authorization
    }

    /// http-01: the path to serve it at, on port 80 of the identifier.
    pub fn http_path(&self) -> Option<String> {
        self.kind.is_http_file().then(|| format!("{HTTP01_PATH}{}", self.token))
    }

    /// dns-01, dns-account-01 and dns-persist-01: name of the TXT record.
    pub fn dns_name(&self) -> Option<&str> {
        self.record.as_ref().map(|(name, _)| name.as_str())
    }

    /// dns-01, dns-account-01 and dns-persist-01: content of the TXT record.
    pub fn dns_value(&self) -> Option<&str> {
        self.record.as_ref().map(|(_, value)| value.as_str())
    }

    /// tls-alpn-01: SHA-256 of the key authorization; see
    /// [`tls_alpn_certificate`](crate::tls_alpn_certificate).
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.key_authorization.as_bytes())
    }

    /// tls-alpn-01: the server name in the CA's handshake: the DNS name, or the reverse name of an IP
    /// address (RFC 8738 section 6).
    pub fn tls_server_name(&self) -> Option<String> {
        self.kind.is_tls_certificate().then(|| match self.identifier.parse() {
            Ok(address) => reverse_name(address),
            Err(_) => self.identifier.clone(),
        })
    }

    /// onion-csr-01 and device-attest-01: the challenge object as JSON. The program makes the payload of
    /// the response from it.
    pub fn json(&self) -> Option<&str> {
        self.json.as_deref()
    }

    /// Whether the record stays published after the validation, for later orders.
    pub fn is_persistent(&self) -> bool {
        self.kind.is_persistent()
    }
}

/// Makes the content of a dns-persist-01 record. It names our account as we know it. If it named the
/// account that the CA's challenge names, a CA could make us authorize another account.
fn persistent_value(offer: &Offer, account_url: &str, below: bool) -> Result<String> {
    if offer.account_uri.as_deref().is_some_and(|uri| uri != account_url) {
        let why = "the CA's dns-persist-01 challenge is for another account than ours";
        return Err(Error::protocol(why));
    }
    // RFC 8659 section 4.2: the end of a parameter.
    if account_url.contains(';') {
        let why = "the account's URL has a semicolon, which a dns-persist-01 record cannot hold";
        return Err(Error::protocol(why));
    }
    let policy = if below { "; policy=wildcard" } else { "" };
    Ok(format!("{}; accounturi={account_url}{policy}", offer.issuer_domain_name()?))
}

/// RFC 1035 section 3.5, RFC 3596 section 2.5.
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Shows neither the key authorization nor anything that is made from it.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({} for {})", self.kind.as_str(), self.identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::ChallengeType::*;
    use super::*;

    // The token and thumbprint of RFC 8555 sections 8.1 and 8.3.
    const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    const THUMBPRINT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

    fn offered(kind: ChallengeType, name: &str, json: serde_json::Value) -> Result<Challenge> {
        let mut object = serde_json::json!({
            "type": kind.as_str(), "url": "https://ca.example/c", "token": TOKEN,
        });
        for (name, value) in json.as_object().unwrap() {
            object[name] = value.clone();
        }
        let offer = crate::resource::parse("a challenge", object.to_string().as_bytes()).unwrap();
        let identifier = Identifier::from_name(name).unwrap();
        let account = "https://example.com/acme/acct/ExampleAccount";
        Challenge::offered(kind, &offer, &identifier, identifier.is_wildcard(), account, THUMBPRINT)
    }

    #[test]
    fn t10_t15_one_token_in_its_forms() {
        let challenge = Challenge::new(Dns01, "www.example.org", TOKEN, THUMBPRINT);
        let authorization = format!("{TOKEN}.{THUMBPRINT}");
        assert_eq!(challenge.key_authorization(), authorization);
        assert_eq!(challenge.dns_name(), Some("_acme-challenge.www.example.org"));
        let digest = base64url::encode(sha256(authorization.as_bytes()));
        assert_eq!(challenge.dns_value(), Some(digest.as_str()));
        assert_eq!(challenge.http_path(), None);
        assert!(!format!("{challenge:?}").contains(THUMBPRINT));
        let challenge = Challenge::new(Http01, "www.example.org", TOKEN, THUMBPRINT);
        let path = format!("/.well-known/acme-challenge/{TOKEN}");
        assert_eq!((challenge.http_path(), challenge.dns_name()), (Some(path), None));
    }

    #[test]
    fn the_record_of_an_account_has_a_name_of_its_own() {
        // The example of draft-ietf-acme-dns-account-label.
        let challenge = offered(DnsAccount01, "example.org", serde_json::json!({})).unwrap();
        let name = "_ujmmovf2vn55tgye._acme-challenge.example.org";
        assert_eq!(challenge.dns_name(), Some(name));
        let same = Challenge::new(Dns01, "example.org", TOKEN, THUMBPRINT);
        assert_eq!(challenge.dns_value(), same.dns_value());
    }

    #[test]
    fn a_persistent_record_names_the_account_that_we_know() {
        let names = serde_json::json!({"issuer-domain-names": ["ca.example"], "token": null});
        let challenge = offered(DnsPersist01, "*.example.org", names.clone()).unwrap();
        assert_eq!(challenge.dns_name(), Some("_validation-persist.example.org"));
        let value = "ca.example; accounturi=https://example.com/acme/acct/ExampleAccount; \
                     policy=wildcard";
        assert_eq!(challenge.dns_value(), Some(value));
        assert_eq!((challenge.token(), challenge.key_authorization()), ("", ""));
        assert!(challenge.is_persistent());
        for (name, bad) in [
            ("accounturi", serde_json::json!("https://example.com/acme/acct/Other")),
            ("issuer-domain-names", serde_json::json!([])),
            ("issuer-domain-names", serde_json::json!(["ca.example; policy=wildcard"])),
            ("issuer-domain-names", serde_json::json!(["a\" \"b"])),
        ] {
            let mut json = names.clone();
            json[name] = bad;
            assert!(offered(DnsPersist01, "example.org", json).is_err());
        }
    }

    #[test]
    fn t16_an_address_is_asked_for_by_its_reverse_name() {
        let name =
            |host: &str| Challenge::new(TlsAlpn01, host, TOKEN, THUMBPRINT).tls_server_name();
        assert_eq!(name("example.org").as_deref(), Some("example.org"));
        assert_eq!(name("192.0.2.7").as_deref(), Some("7.2.0.192.in-addr.arpa"));
        // The example of RFC 3596 section 2.5.
        assert_eq!(
            name("4321:0:1:2:3:4:567:89ab").as_deref(),
            Some("b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa")
        );
    }
}
