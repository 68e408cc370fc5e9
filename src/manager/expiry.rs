//! When a certificate is about to expire, or has expired.

use std::time::Duration;

use super::table::{Entry, Warning};
use crate::time::Time;

/// The part of its lifetime that is left of a certificate when the program is warned.
const SHARE: u32 = 6;
/// The time that is left of it, if its lifetime is not known.
const LEFT: Duration = Duration::from_secs(7 * 24 * 3600);

/// When the next warning may be due. Renewals do not move this time back: a search that finds nothing costs
/// little, and finds the next time.
#[derive(Default)]
pub(super) struct Expiry(pub(super) Option<Time>);

impl Expiry {
    /// Takes in the certificate in use.
    pub(super) fn note(&mut self, entry: &Entry) {
        self.0 = self.0.into_iter().chain(entry.next_warning().map(|(at, _)| at)).min();
    }

    /// When to search.
    pub(super) fn at(&self) -> Option<Time> {
        self.0
    }
}

impl Entry {
    /// The next warning, and when.
    pub(super) fn next_warning(&self) -> Option<(Time, Warning)> {
        if !self.has_certificate() {
            return None;
        }
        let left = self.lifetime() / SHARE;
        let left = if left.is_zero() { LEFT } else { left };
        let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        match self.warned {
            Warning::None => {
                let at = self.not_after.as_millis().saturating_sub(left);
                Some((Time::from_millis(at), Warning::Expiring))
            }
            Warning::Expiring => Some((self.not_after, Warning::Expired)),
            Warning::Expired => None,
        }
    }
}
