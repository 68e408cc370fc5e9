//! A challenge at the CA. RFC 8555 sections 7.1.5 and 8.

use super::challenge_type::ChallengeType;
use super::identifier::{MAX_DNS_NAME, is_label};
use super::{Members, Resource, states};
use crate::base64url::is_base64url;
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::text::printable;

/// Minimum length of a token: 128 bits in base64url. "It MUST have at least 128 bits of entropy" (RFC 8555
/// section 8.3).
const MIN_TOKEN: usize = 22;
/// Maximum length of a token. Tokens become parts of file names and paths.
const MAX_TOKEN: usize = 512;

/// Whether the text can be a token; RFC 8555 section 8.3.
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

/// A challenge object.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub type_: String,
    pub url: String,
    pub status: ChallengeStatus,
    pub token: Option<String>,
    pub validated: Option<String>,
    pub error: Option<Problem>,
    /// dns-persist-01: the names of this CA that a record may use.
    pub issuer_domain_names: Vec<String>,
    /// dns-persist-01: the account that the CA expects in the record.
    pub account_uri: Option<String>,
    /// The whole object, for the types whose response the program makes from it.
    pub json: Option<String>,
}

impl Resource for Challenge {
    fn read(members: &Members<'_>) -> Option<Challenge> {
        let type_ = members.text("type")?;
        let kind = ChallengeType::from_name(&type_);
        Some(Challenge {
            type_,
            url: members.text("url")?,
            status: members.value("status").into(),
            token: members.text("token"),
            validated: members.text("validated"),
            error: members.value("error").and_then(Problem::from_json),
            issuer_domain_names: members.texts("issuer-domain-names"),
            account_uri: members.text("accounturi"),
            json: kind.is_some_and(ChallengeType::takes_payload).then(|| members.json()),
        })
    }
}

impl Challenge {
    /// Returns the CA's name for a dns-persist-01 record: the first of its names that is a DNS name. It
    /// becomes part of a DNS record, so other text is refused here.
    pub(crate) fn issuer_domain_name(&self) -> Result<&str> {
        let is_name = |name: &&String| name.len() <= MAX_DNS_NAME && name.split('.').all(is_label);
        let first = self.issuer_domain_names.iter().find(is_name);
        first.map(String::as_str).ok_or_else(|| {
            let why = "the CA's dns-persist-01 challenge has no usable issuer-domain-names";
            Error::protocol(why)
        })
    }

    /// Returns the token after checking it. It becomes part of a path and of a file name, so text that is
    /// not base64url is refused here.
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
