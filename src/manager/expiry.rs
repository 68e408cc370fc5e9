//! Warnings about certificates that are about to expire, or have expired.

use std::time::Duration;

use super::Manager;
use super::event::{ManagerEvent, ManagerEventKind};
use super::table::{Entry, State, Warning};
use crate::time::Time;

/// The part of its lifetime that is left of a certificate when the program is warned.
const SHARE: u32 = 6;
/// The time that is left of it, if its lifetime is not known.
const LEFT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Minimum delay between two searches.
const INTERVAL: Duration = Duration::from_secs(60);

/// When the next warning may be due. Renewals do not move this time back: a search that finds nothing costs
/// little, and finds the next time.
#[derive(Default)]
pub(super) struct Expiry(Option<Time>);

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
    fn next_warning(&self) -> Option<(Time, Warning)> {
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

impl Manager {
    /// Warns about certificates whose time has come.
    pub(super) fn warn(&mut self, now: Time) {
        if self.expiry.0.is_none_or(|at| at > now) {
            return;
        }
        let (mut next, mut events) = (None, Vec::new());
        for id in self.table.ids() {
            let Some(entry) = self.table.get_mut(id) else { continue };
            while let Some((at, warning)) = entry.next_warning() {
                if at > now {
                    next = next.into_iter().chain([at]).min();
                    break;
                }
                entry.warned = warning;
                // Of a certificate that has expired already, only that is told.
                let is_last = entry.next_warning().is_none_or(|(at, _)| at > now);
                // A record that has just been read may be renewed at once: that is told first.
                if is_last {
                    let kind = match warning {
                        Warning::Expired => ManagerEventKind::Expired,
                        _ => ManagerEventKind::Expiring,
                    };
                    let mut event = ManagerEvent::new(kind, entry.name().to_owned());
                    event.not_after = Some(entry.not_after);
                    event.next_try =
                        Some(entry.due).filter(|due| entry.state == State::Idle && *due > now);
                    events.push((entry.issuer, event));
                }
            }
        }
        self.expiry.0 = next.map(|next: Time| next.max(now.after(INTERVAL)));
        for (ca, event) in events {
            self.tell_of(ca, event);
        }
    }
}
