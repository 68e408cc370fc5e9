//! Identifiers of a certificate: DNS names, IP addresses, identifiers of devices.
//!
//! RFC 8555 section 9.7.7 (dns), RFC 8738 (ip).

use std::net::IpAddr;

use serde::Serialize;

use super::{Members, Resource, idna};
use crate::error::{Error, Result};
use crate::text::printable;
use crate::url::ends_in_number;

/// Maximum length of a DNS name; RFC 1035 section 2.3.4.
pub(crate) const MAX_DNS_NAME: usize = 253;

/// Maximum length of an identifier's name: there must be room for "_acme-challenge." before it.
const MAX_NAME: usize = MAX_DNS_NAME - "_acme-challenge.".len();

/// Types of identifiers of devices, RFC 4043 and RFC 4108, as draft-ietf-acme-device-attest uses them. A
/// name of the program has the type and a colon before the identifier.
const DEVICE_TYPES: [&str; 2] = ["permanent-identifier", "hardware-module"];

/// An identifier object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Identifier {
    #[serde(rename = "type")]
    pub type_: String,
    pub value: String,
}

impl Resource for Identifier {
    fn read(members: &Members<'_>) -> Option<Identifier> {
        Some(Identifier { type_: members.text("type")?, value: members.text("value")? })
    }
}

impl Identifier {
    /// Reads a name as a person writes it: a DNS name (also with a wildcard), an IP address, or a device's
    /// identifier behind its type, `permanent-identifier:...` or `hardware-module:...`. The result is
    /// canonical: A-labels, lower case, no dot at the end, addresses in their shortest form.
    pub(crate) fn from_name(name: &str) -> Result<Identifier> {
        if let Some((type_, value)) = name.split_once(':') {
            let graphic = value.bytes().all(|b| b.is_ascii_graphic());
            if DEVICE_TYPES.contains(&type_) && graphic && (1..=255).contains(&value.len()) {
                return Ok(Identifier { type_: type_.to_owned(), value: value.to_owned() });
            }
        }
        let refuse = |why: &str| {
            let shown = printable(name, 300);
            Err(Error::invalid_argument(format!("the name \"{shown}\" {why}")).about(&shown))
        };
        if let Ok(address) = name.parse::<IpAddr>() {
            return match fault_of(address) {
                Some(why) => refuse(why),
                None => Ok(Identifier { type_: "ip".to_owned(), value: address.to_string() }),
            };
        }
        let labels = name.strip_suffix('.').unwrap_or(name).split('.').map(idna::to_ascii);
        let value = match labels.collect::<Result<Vec<String>, _>>() {
            Ok(labels) => labels.join("."),
            Err(why) => return refuse(why),
        };
        let host = value.strip_prefix("*.").unwrap_or(&value);
        if host.is_empty() {
            return refuse("is empty");
        }
        if host.len() > MAX_NAME {
            return refuse("is too long for a DNS name");
        }
        if host.contains('*') {
            return refuse("has a wildcard that is not its whole first label");
        }
        // Without the dot or the wildcard it may be an address, such as "127.0.0.1." or "*.127.0.0.1".
        if host.parse::<IpAddr>().is_ok() || !host.split('.').all(is_label) {
            return refuse("is neither a DNS name nor an IP address");
        }
        if ends_in_number(host) {
            return refuse("is not an IP address, and not a DNS name, because it ends in a number");
        }
        Ok(Identifier { type_: "dns".to_owned(), value })
    }

    /// An identifier from the CA in the form of [`Identifier::from_name`], for comparing.
    pub(crate) fn canonical(&self) -> Identifier {
        match Identifier::from_name(&self.value) {
            Ok(canonical) if canonical.type_ == self.type_ => canonical,
            _ => self.clone(),
        }
    }

    /// The name without `*.`.
    pub(crate) fn host(&self) -> &str {
        self.value.strip_prefix("*.").unwrap_or(&self.value)
    }

    pub(crate) fn is_wildcard(&self) -> bool {
        self.value.starts_with("*.")
    }

    /// Type and value.
    pub(crate) fn pair(&self) -> (&str, &str) {
        (&self.type_, &self.value)
    }

    pub(crate) fn is_of_device(&self) -> bool {
        DEVICE_TYPES.contains(&self.type_.as_str())
    }

    /// Whether it is a DNS name below this one.
    pub(crate) fn is_below(&self, ancestor: &str) -> bool {
        let rest = self.host().strip_suffix(ancestor);
        self.type_ == "dns" && rest.is_some_and(|rest| rest.ends_with('.'))
    }
}

/// Returns why no CA can certify this address.
fn fault_of(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() || address.is_multicast() => {
            Some("is the address of no host")
        }
        IpAddr::V4(address) if address.is_broadcast() => Some("is the address of no host"),
        // RFC 4291 section 2.5.5. A CA may take it for the IPv4 address, and certify that.
        IpAddr::V6(address) if !address.is_loopback() && address.to_ipv4().is_some() => {
            Some("is an IPv4 address in the form of IPv6; write it as IPv4")
        }
        _ => None,
    }
}

/// Whether it has only letters, digits and inner hyphens; RFC 5890 section 2.3.1.
pub(super) fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_canonical() {
        for (name, type_, value) in [
            ("Example.ORG", "dns", "example.org"),
            ("example.org.", "dns", "example.org"),
            ("*.example.org", "dns", "*.example.org"),
            ("xn--bcher-kva.example", "dns", "xn--bcher-kva.example"),
            ("*.Bücher.example", "dns", "*.xn--bcher-kva.example"),
            ("localhost", "dns", "localhost"),
            ("192.0.2.7", "ip", "192.0.2.7"),
            ("2001:DB8:0:0::1", "ip", "2001:db8::1"),
            ("::1", "ip", "::1"),
            ("0x.example", "dns", "0x.example"),
            ("1.2.3.example", "dns", "1.2.3.example"),
            ("example.1a", "dns", "example.1a"),
            ("4.3.2.1.in-addr.arpa", "dns", "4.3.2.1.in-addr.arpa"),
            ("permanent-identifier:SN/7", "permanent-identifier", "SN/7"),
        ] {
            let identifier = Identifier::from_name(name).unwrap();
            assert_eq!((identifier.type_.as_str(), identifier.value.as_str()), (type_, value));
        }
    }

    #[test]
    fn o36_r17_what_is_no_name() {
        let long = ["a".repeat(60).as_str(); 5].join(".");
        for bad in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "a_b.c",
            "a b",
            "a*.b",
            "*.*.b",
            "*b.c",
            "bü cher.example",
            "a/b",
            "../x",
            "a\0b",
            "[::1]",
            "1.2.3.4/24",
            "permanent-identifier:",
            "permanent-identifier:a b",
            // Numbers at the end: programs read such names as IPv4 addresses.
            "1.2.3",
            "127.1",
            "10.0.0.256",
            "1.2.3.4.5",
            "1.2.3.4.",
            "1.2.3.",
            "*.1.2.3",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "example.0x",
            "example.0xA",
            "example.007",
            // Addresses that no CA can certify as they are.
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.7",
            "::FFFF:c000:207",
            "0:0:0:0:0:ffff:c000:0207",
            "::192.0.2.7",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "fe80::1%eth0",
            "email:a@example.org",
            &"a".repeat(64),
            &long,
        ] {
            let error = Identifier::from_name(bad).unwrap_err();
            assert!(error.to_string().contains("the name"), "{bad:?}");
        }
    }
}
