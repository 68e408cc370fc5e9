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
    match Identifier::from_name(name) {
        Ok(identifier) => identifier.value,
        Err(_) => match name.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.trim_end_matches('.').to_ascii_lowercase(),
        },
    }
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
