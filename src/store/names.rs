//! The names of records.

use super::unusable;
use crate::base64url;
use crate::error::Result;
use crate::pki::sha256;
use crate::resource::identifier::Identifier;

/// Prefix of the names of certificates.
pub(crate) const CERTIFICATES: &str = "certificate/";

const MAX_NAME: usize = 255;

/// Returns the name that stands for a CA in the names of records: host and path of its directory.
pub(crate) fn ca_name(directory_url: &str) -> String {
    let rest = directory_url.split_once("://").map_or(directory_url, |(_, rest)| rest);
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".:-".contains(c) { c } else { '_' };
    rest.trim_end_matches('/').chars().map(plain).collect()
}

/// Returns the name of an account's record.
pub(crate) fn account(directory_url: &str) -> String {
    format!("account/{}", ca_name(directory_url))
}

/// Returns the name of a certificate's record. `name` is usually the first of the certificate's names.
pub(crate) fn certificate(directory_url: &str, name: &str) -> Result<String> {
    let name = canonical(name);
    if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
        let why = "the name of a stored certificate is empty, too long, or has control characters";
        return Err(unusable(&name, why));
    }
    Ok(format!("{CERTIFICATES}{}/{name}", ca_name(directory_url)))
}

/// Splits the name of a record into the kind, the CA and the rest.
pub(crate) fn split(record: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = record.split_once('/')?;
    let (ca, name) = rest.split_once('/').unwrap_or((rest, ""));
    Some((kind, ca, name))
}

/// Returns the one spelling of a name: small letters, A-labels, the short form of an IPv6 address, no final
/// dot. A text that is no identifier is only written in small letters.
pub(crate) fn canonical(name: &str) -> String {
    if is_plain(name) {
        return name.to_owned();
    }
    match Identifier::from_name(name) {
        Ok(identifier) => identifier.value,
        Err(_) => match name.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.trim_end_matches('.').to_ascii_lowercase(),
        },
    }
}

/// Whether parsing cannot change a name: nearly all names are so, and a manager reads each several times.
fn is_plain(name: &str) -> bool {
    let changes = |byte: u8| !byte.is_ascii() || byte.is_ascii_uppercase() || byte == b':';
    !name.ends_with('.') && !name.bytes().any(changes)
}

/// Returns a digest of names, in whatever order and spelling they are.
pub(crate) fn digest<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.map(canonical).collect();
    names.sort_unstable();
    names.dedup();
    let digest = sha256(names.join("\n").as_bytes());
    base64url::encode(digest.get(..12).unwrap_or_default())
}

/// Whether two URLs of directories are the same: the case of letters, and the usual port, do not count.
pub(crate) fn is_same_directory(a: &str, b: &str) -> bool {
    is_same(a, b, ":443/", "/")
}

/// The same for two names of CAs.
pub(crate) fn is_same_name(a: &str, b: &str) -> bool {
    is_same(a, b, ":443_", "_")
}

fn is_same(a: &str, b: &str, port: &str, end: &str) -> bool {
    a.replacen(port, end, 1).eq_ignore_ascii_case(&b.replacen(port, end, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_its_own_canonical_form() {
        let labels =
            ["a", "xn--bcher-kva", "127", "0", "*", "a_b", "-", "", "a b", "255", "1e3", "%"];
        for one in labels {
            for two in labels {
                for name in [one.to_owned(), format!("{one}.{two}"), format!("127.0.{one}.{two}")] {
                    let parsed = Identifier::from_name(&name).map(|identifier| identifier.value);
                    assert!(
                        !is_plain(&name) || parsed.is_err() || parsed.unwrap() == name,
                        "{name}"
                    );
                    let lower = name.trim_end_matches('.').to_ascii_lowercase();
                    assert!(!is_plain(&name) || lower == name, "{name}");
                }
            }
        }
        for name in ["A.example", "a.example.", "b\u{fc}cher.example", "2001:db8::1", "::FFFF"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
