//! Responses to a CA's http-01 requests, for programs with an HTTP server of their own. RFC 8555 section
//! 8.3.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::challenge::{Challenge, HTTP01_PATH};
use crate::base64url::is_base64url;
use crate::resource::challenge::is_token;

/// Returns the body of the response to a request for this path, from the account's thumbprint
/// ([`Key::thumbprint`](crate::Key::thumbprint)) alone. A server with this function needs no connection
/// to the program that orders; but it lets the account obtain certificates for every name that resolves
/// to it. `None`: no challenge has such a path. A query is not part of the path.
pub fn http01_answer(thumbprint: &str, path: &str) -> Option<String> {
    let token = path.strip_prefix(HTTP01_PATH).filter(|token| is_token(token))?;
    // SHA-256 in base64url (RFC 7638).
    if thumbprint.len() != 43 || !is_base64url(thumbprint) {
        return None;
    }
    Some(format!("{token}.{thumbprint}"))
}

/// The challenges of a client's operations that are published now.
#[derive(Default)]
pub(super) struct Published(Mutex<Vec<Arc<[Challenge]>>>);

impl Published {
    fn challenges(&self) -> MutexGuard<'_, Vec<Arc<[Challenge]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP01_PATH)?;
        let is_it = |one: &&Challenge| one.kind().is_http_file() && one.token() == token;
        let challenges = self.challenges();
        let found = challenges.iter().flat_map(|ours| ours.iter()).find(is_it)?;
        Some(found.key_authorization().to_owned())
    }

    /// Adds these challenges until the returned value is dropped.
    pub(super) fn add(&self, challenges: &Arc<[Challenge]>) -> Guard<'_> {
        self.challenges().push(challenges.clone());
        Guard { published: self, ours: challenges.clone() }
    }
}

/// Challenges in a [`Published`]; dropping this removes them.
pub(super) struct Guard<'a> {
    published: &'a Published,
    ours: Arc<[Challenge]>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.published.challenges().retain(|known| !Arc::ptr_eq(known, &self.ours));
    }
}

#[cfg(test)]
mod tests {
    use super::super::challenge::ChallengeType;
    use super::*;

    const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    #[test]
    fn only_what_could_be_a_challenge_is_answered() {
        let thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
        let answer = |path: &str| http01_answer(thumbprint, path);
        let path = format!("{HTTP01_PATH}{TOKEN}");
        assert_eq!(answer(&path), Some(format!("{TOKEN}.{thumbprint}")));
        for bad in ["", "thumb", &thumbprint[1..], &format!("{}=", &thumbprint[1..])] {
            assert_eq!(http01_answer(bad, &path), None, "{bad}");
        }
        for bad in [
            "",
            "/",
            HTTP01_PATH,
            TOKEN,
            &format!("{path}/"),
            &format!("{path}?x=1"),
            &format!("{path}=",),
            &format!("/{path}"),
            &format!("{HTTP01_PATH}../../etc/passwd"),
            &format!("{HTTP01_PATH}<script>aaaaaaaaaaaaaaaaaaaaaa"),
            &format!("{HTTP01_PATH}short"),
            &format!("{HTTP01_PATH}{}", "a".repeat(513)),
        ] {
            assert_eq!(answer(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_challenge_is_answered_for_as_long_as_it_is_published() {
        let published = Published::default();
        let make = |kind| Challenge::new(kind, "example.org", TOKEN, "thumb");
        let path = format!("{HTTP01_PATH}{TOKEN}");
        let both = [make(ChallengeType::Http01), make(ChallengeType::Dns01)];
        let one = published.add(&Arc::from(both));
        let two = published.add(&Arc::from([make(ChallengeType::Http01)]));
        drop(one);
        assert_eq!(published.answer(&path), Some(format!("{TOKEN}.thumb")));
        assert_eq!(published.answer("/x"), None);
        drop(two);
        assert_eq!(published.answer(&path), None);
    }
}
