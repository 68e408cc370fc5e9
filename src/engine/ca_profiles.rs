//! Limits of a CA's profiles that are not in its directory. With them the library refuses an order that
//! cannot work before the first request.

use crate::error::{Error, Result};
use crate::resource::identifier::Identifier;

/// CA quirk (Let's Encrypt): its profiles, with the maximum number of names and whether IP addresses are
/// allowed. These limits are on its web site, and not in its directory.
const LETS_ENCRYPT: [(&str, usize, bool); 3] =
    [("classic", 100, false), ("tlsserver", 25, false), ("shortlived", 25, true)];

/// The profile of an order that names no profile.
const LETS_ENCRYPT_DEFAULT: &str = "classic";

/// Refuses more names than the profile allows, and IP addresses where it does not allow them.
pub(super) fn check(host: &str, profile: Option<&str>, identifiers: &[Identifier]) -> Result<()> {
    if !host.ends_with(".letsencrypt.org") {
        return Ok(());
    }
    let profile = profile.unwrap_or(LETS_ENCRYPT_DEFAULT);
    let Some((_, most, addresses)) = LETS_ENCRYPT.iter().find(|(name, _, _)| *name == profile)
    else {
        return Ok(());
    };
    if identifiers.len() > *most {
        return Err(Error::invalid_argument(format!(
            "a certificate of this CA's profile {profile} has {most} names at most, not {}",
            identifiers.len()
        )));
    }
    match identifiers.iter().find(|identifier| identifier.type_ == "ip" && !addresses) {
        Some(address) => Err(Error::invalid_argument(format!(
            "{} is an IP address; this CA's profile for those is shortlived, not {profile}",
            address.value
        ))
        .about(&address.value)),
        None => Ok(()),
    }
}
