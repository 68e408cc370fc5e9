//! One way to prove control of an identifier. RFC 8555 sections 7.1.5 and 8.

use serde_json::Value;

use super::identifier::is_label;
use super::{Members, Resource, states};
use crate::base64url::is_base64url;
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::text::printable;

/// 128 bits in base64url: "it MUST have at least 128 bits of entropy" (RFC 8555 section 8.3).
const MIN_TOKEN: usize = 22;
const MAX_TOKEN: usize = 512;

/// Can it be a token? RFC 8555 section 8.3.
pub(crate) fn is_token(text: &str) -> bool {
    is_base64url(text) && (MIN_TOKEN..=MAX_TOKEN).contains(&text.len())
}

states! {
    /// A challenge's status.
    ChallengeStatus {
        "pending" => Pending,
        "processing" => Processing,
        "valid" => Valid,
        "invalid" => Invalid,
    }
}

/// A challenge object. Types that have no token (dns-persist-01) lack it.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub type_: String,
    pub url: String,
    pub status: ChallengeStatus,
    pub token: Option<String>,
    pub validated: Option<String>,
    pub error: Option<Problem>,
    /// dns-persist-01: the names by which a record may call this CA.
    pub issuer_domain_names: Vec<String>,
    /// dns-persist-01: the account that the CA expects to be named.
    pub account_uri: Option<String>,
    /// The whole object, of the types whose answer the host makes from it.
    pub json: Option<String>,
}

impl Resource for Challenge {
    fn read(members: &Members<'_>) -> Option<Challenge> {
        Some(Challenge {
            type_: members.text("type")?,
            url: members.text("url")?,
            status: members.value("status").into(),
            token: members.text("token"),
            validated: members.text("validated"),
            error: members.value("error").and_then(Problem::from_json),
            issuer_domain_names: members.texts("issuer-domain-names"),
            account_uri: members.text("accounturi"),
            json: match members.value("type").and_then(Value::as_str) {
                Some("onion-csr-01" | "device-attest-01") => Some(members.json()),
                _ => None,
            },
        })
    }
}

impl Challenge {
    /// The name by which a dns-persist-01 record calls this CA: the first that it offers and that is
    /// one. It becomes part of a DNS record, so what is not a DNS name goes no further than here.
    pub(crate) fn issuer_domain_name(&self) -> Result<&str> {
        let is_name = |name: &&String| name.len() <= 253 && name.split('.').all(is_label);
        let first = self.issuer_domain_names.iter().find(is_name);
        first.map(String::as_str).ok_or_else(|| {
            let why = "the CA's dns-persist-01 challenge has no usable issuer-domain-names";
            Error::protocol(why)
        })
    }

    /// The token, once it is known to be one. It becomes part of a path and of a file name: what is
    /// not base64url goes no further than here.
    pub(crate) fn checked_token(&self) -> Result<&str> {
        let token = self.token.as_deref().unwrap_or_default();
        if is_token(token) {
            return Ok(token);
        }
        Err(Error::protocol(format!(
            "the CA's {} challenge has a bad token: \"{}\"",
            printable(&self.type_, 40),
            printable(token, 80)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(json: &str) -> Challenge {
        super::super::parse("a challenge", json.as_bytes()).unwrap()
    }

    #[test]
    fn t01_only_base64url_of_128_bits_passes_as_a_token() {
        let with = |token: &str| {
            let json =
                serde_json::json!({"type": "http-01", "url": "https://ca/c", "token": token});
            challenge(&json.to_string()).checked_token().map(str::to_owned)
        };
        assert!(with("LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0").is_ok());
        let long = "a".repeat(MAX_TOKEN + 1);
        for bad in [
            "",
            "short",
            "../../../../etc/cron.d/xxxxxxxx",
            "/absolute/path/that/is/long",
            &long,
            "aaaaaaaaaaaaaaaaaaaaa\r\nSet-Cookie",
            "aaaaaaaaaaaaaaaaaaaaaaaaa=",
            "$(id)aaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaaaaaaa\0a",
            "ａａａａａａａａａａａａａａａａａａａａａａａａ",
            "%2e%2e%2faaaaaaaaaaaaaaaaa",
        ] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nonsense_in_members_is_as_good_as_absent() {
        let c = challenge(
            r#"{"type":"dns-persist-01","url":"u","status":"new","token":null,"error":5,"x":[]}"#,
        );
        assert_eq!(c.status, ChallengeStatus::Unknown);
        assert!(c.token.is_none() && c.error.is_none());
        assert!(c.checked_token().is_err());
    }
}
