//! Warnings about certificates that are about to expire, or have expired.

use std::time::Duration;

use super::Manager;
use super::event::{ManagerEvent, ManagerEventKind};
use super::table::{State, Warning};
use crate::time::Time;

/// Minimum delay between two searches.
const INTERVAL: Duration = Duration::from_secs(60);

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
