//! The types of challenge, and everything that differs between them, in one table.

use super::identifier::{Identifier, MAX_DNS_NAME};
use crate::pki::sha256;

/// The types of challenge that can be solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChallengeType {
    /// A file on port 80 of the host; RFC 8555 section 8.3. Not for wildcards.
    Http01,
    /// A TXT record; RFC 8555 section 8.4. Also for wildcards. Not for IP addresses.
    Dns01,
    /// A certificate in a handshake on port 443; RFC 8737. Not for wildcards.
    TlsAlpn01,
    /// As dns-01, at a name of the account's own, so that several accounts can solve challenges for
    /// one name; draft-ietf-acme-dns-account-label.
    DnsAccount01,
    /// A TXT record that names the account and stays; draft-ietf-acme-dns-persist. It is published
    /// but never removed.
    DnsPersist01,
    /// A request signed by a hidden service's key, for `.onion` names; RFC 9799. The program makes
    /// the payload of the response.
    OnionCsr01,
    /// A device's attestation, for identifiers of devices; draft-ietf-acme-device-attest. The program
    /// makes the payload of the response.
    DeviceAttest01,
}

/// One row of the table.
struct TypeFacts {
    kind: ChallengeType,
    /// The name in ACME.
    name: &'static str,
    /// Whether the CA's challenge object has a token. Without a token there is no key authorization.
    has_token: bool,
    published: Published,
    /// Whether the published record stays after the validation.
    is_persistent: bool,
    validates: Validates,
}

/// The thing that the program publishes for a challenge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Published {
    /// The key authorization, as a file at `/.well-known/acme-challenge/TOKEN`.
    HttpFile,
    /// A certificate with the digest of the key authorization.
    TlsCertificate,
    /// A TXT record at the identifier's name with this prefix, and its content.
    TxtRecord(Prefix, Content),
    /// Nothing. The program gives the payload of the response instead.
    Payload,
}

/// The labels before the identifier in the name of a TXT record ([`ChallengeType::record_prefix`]).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    /// `_acme-challenge.`
    AcmeChallenge,
    /// `_LABEL._acme-challenge.`, with a label that is made from the account's URL.
    OfAccount,
    /// `_validation-persist.`
    ValidationPersist,
}

/// The content of a TXT record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The digest of the key authorization, in base64url.
    Digest,
    /// The CA's name and the account's URL.
    AccountUrl,
}

/// The identifiers that a type can validate.
#[derive(Clone, Copy)]
enum Validates {
    /// DNS names without a wildcard, and IP addresses (RFC 8738 section 7).
    Hosts,
    /// DNS names, also with a wildcard, if the name of the TXT record is not too long.
    DnsNames,
    /// DNS names under `.onion`.
    OnionNames,
    /// Identifiers of devices.
    Devices,
}

use ChallengeType::*;

const TYPES: &[TypeFacts] = &[
    // RFC 8555 section 8.3.
    TypeFacts {
        kind: Http01,
        name: "http-01",
        has_token: true,
        published: Published::HttpFile,
        is_persistent: false,
        validates: Validates::Hosts,
    },
    // RFC 8555 section 8.4.
    TypeFacts {
        kind: Dns01,
        name: "dns-01",
        has_token: true,
        published: Published::TxtRecord(Prefix::AcmeChallenge, Content::Digest),
        is_persistent: false,
        validates: Validates::DnsNames,
    },
    // RFC 8737 section 3.
    TypeFacts {
        kind: TlsAlpn01,
        name: "tls-alpn-01",
        has_token: true,
        published: Published::TlsCertificate,
        is_persistent: false,
        validates: Validates::Hosts,
    },
    // draft-ietf-acme-dns-account-label.
    TypeFacts {
        kind: DnsAccount01,
        name: "dns-account-01",
        has_token: true,
        published: Published::TxtRecord(Prefix::OfAccount, Content::Digest),
        is_persistent: false,
        validates: Validates::DnsNames,
    },
    // draft-ietf-acme-dns-persist.
    TypeFacts {
        kind: DnsPersist01,
        name: "dns-persist-01",
        has_token: false,
        published: Published::TxtRecord(Prefix::ValidationPersist, Content::AccountUrl),
        is_persistent: true,
        validates: Validates::DnsNames,
    },
    // RFC 9799 section 3.
    TypeFacts {
        kind: OnionCsr01,
        name: "onion-csr-01",
        has_token: false,
        published: Published::Payload,
        is_persistent: false,
        validates: Validates::OnionNames,
    },
    // draft-ietf-acme-device-attest.
    TypeFacts {
        kind: DeviceAttest01,
        name: "device-attest-01",
        has_token: true,
        published: Published::Payload,
        is_persistent: false,
        validates: Validates::Devices,
    },
];

impl ChallengeType {
    fn facts(self) -> &'static TypeFacts {
        // The compiler checks this index. A type without a row would be the first one.
        #[allow(clippy::indexing_slicing)]
        const FIRST: &TypeFacts = &TYPES[0];
        TYPES.iter().find(|facts| facts.kind == self).unwrap_or(FIRST)
    }

    /// The name in ACME, such as `"http-01"`.
    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<ChallengeType> {
        TYPES.iter().find(|facts| facts.name == name).map(|facts| facts.kind)
    }

    /// Whether the program makes the payload of the response ([`Operation::respond_with`]).
    ///
    /// [`Operation::respond_with`]: crate::engine::Operation::respond_with
    pub fn takes_payload(self) -> bool {
        self.facts().published == Published::Payload
    }

    /// Whether the published record stays after the validation.
    pub fn is_persistent(self) -> bool {
        self.facts().is_persistent
    }

    pub(crate) fn has_token(self) -> bool {
        self.facts().has_token
    }

    /// Whether a challenge of this type can validate this identifier.
    pub(crate) fn can_validate(self, identifier: &Identifier) -> bool {
        let is_dns = identifier.type_ == "dns";
        let name = identifier.host();
        match self.facts().validates {
            Validates::Hosts => (is_dns || identifier.type_ == "ip") && !identifier.is_wildcard(),
            Validates::DnsNames => {
                let prefix = self.record_prefix("").unwrap_or_default();
                is_dns && prefix.len() + name.len() <= MAX_DNS_NAME
            }
            Validates::OnionNames => is_dns && name.ends_with(".onion"),
            Validates::Devices => identifier.is_of_device(),
        }
    }

    /// The labels before the identifier in the name of the TXT record. `None` for types without one.
    pub(crate) fn record_prefix(self, account_url: &str) -> Option<String> {
        let Published::TxtRecord(prefix, _) = self.facts().published else { return None };
        Some(match prefix {
            Prefix::AcmeChallenge => "_acme-challenge.".to_owned(),
            Prefix::ValidationPersist => "_validation-persist.".to_owned(),
            Prefix::OfAccount => {
                let hash = sha256(account_url.as_bytes());
                format!("_{}._acme-challenge.", base32(hash.get(..10).unwrap_or_default()))
            }
        })
    }

    /// The content of the TXT record. `None` for types without one.
    pub(crate) fn record_content(self) -> Option<Content> {
        match self.facts().published {
            Published::TxtRecord(_, content) => Some(content),
            _ => None,
        }
    }

    /// Whether the key authorization is published as a file.
    pub(crate) fn is_http_file(self) -> bool {
        self.facts().published == Published::HttpFile
    }

    /// Whether a certificate with the digest of the key authorization is published.
    pub(crate) fn is_tls_certificate(self) -> bool {
        self.facts().published == Published::TlsCertificate
    }
}

/// RFC 4648 section 6, in lower case, of a multiple of five bytes: no padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let quintet = |chunk: &[u8], n: usize| {
        let bits = chunk.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        ALPHABET.get((bits >> (35 - 5 * n)) as usize & 31).copied().unwrap_or_default()
    };
    bytes.chunks(5).flat_map(|chunk| (0..8).map(move |n| char::from(quintet(chunk, n)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new variant does not compile until it stands here: then add its row to the table.
    fn row(kind: ChallengeType) -> usize {
        match kind {
            Http01 => 0,
            Dns01 => 1,
            TlsAlpn01 => 2,
            DnsAccount01 => 3,
            DnsPersist01 => 4,
            OnionCsr01 => 5,
            DeviceAttest01 => 6,
        }
    }

    #[test]
    fn each_type_has_one_row_and_one_name() {
        assert!(TYPES.iter().map(|facts| row(facts.kind)).eq(0..=row(DeviceAttest01)));
        for facts in TYPES {
            let (kind, name) = (facts.kind, facts.name);
            assert_eq!((kind.as_str(), ChallengeType::from_name(name)), (name, Some(kind)));
            // Without a token there is nothing to put in a file or in a certificate.
            let needs_token = kind.is_http_file() || kind.is_tls_certificate();
            assert!(kind.has_token() || !needs_token, "{name}");
        }
        assert_eq!(ChallengeType::from_name("http-02"), None);
    }

    #[test]
    fn names_and_types_go_together() {
        let able = |name: &str| -> Vec<&str> {
            let identifier = Identifier::from_name(name).unwrap();
            let able = TYPES.iter().filter(|facts| facts.kind.can_validate(&identifier));
            able.map(|facts| facts.name).collect()
        };
        let dns = ["dns-01", "dns-account-01", "dns-persist-01"];
        assert_eq!(able("*.example.org"), dns);
        assert_eq!(able("192.0.2.7"), ["http-01", "tls-alpn-01"]);
        assert_eq!(able("permanent-identifier:A-1"), ["device-attest-01"]);
        assert!(able("*.abc.onion").contains(&"onion-csr-01"));
        let long = format!("{}.{}", [["a"; 57].concat().as_str(); 3].join("."), ["b"; 60].concat());
        assert_eq!(long.len(), 234);
        assert_eq!(able(&format!("*.{long}")), ["dns-01"]);
    }
}
