//! The limits of questions about names that clients ask for.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::engine::KeepOptions;
use crate::resource::identifier::Identifier;
use crate::time::Time;

/// Maximum number of names that the program is asked about in a minute.
const MAX_ASKED: usize = 600;
const MINUTE: Duration = Duration::from_secs(60);
/// Maximum number of names that were added in an hour. The limits of the CA hold besides.
const MAX_ADDED: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);
/// Duration for which a name that the program has refused is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Maximum number of names that are remembered as refused.
const MAX_REFUSED: usize = 10_000;

/// Options and state of certificates on demand.
pub(super) struct OnDemand {
    pub(super) options: KeepOptions,
    /// Names about which to ask the program next.
    pub(super) questions: VecDeque<String>,
    /// Names that the program has refused, and until when.
    refused: HashMap<String, Time>,
    /// The times of the last questions, and of the last names that were added.
    asked: VecDeque<Time>,
    pub(super) added: VecDeque<Time>,
}

impl OnDemand {
    pub(super) fn new(options: KeepOptions) -> OnDemand {
        OnDemand {
            options,
            questions: VecDeque::new(),
            refused: HashMap::new(),
            asked: VecDeque::new(),
            added: VecDeque::new(),
        }
    }

    /// Whether the program may be asked about this name now.
    pub(super) fn takes(&mut self, name: &str, now: Time) -> bool {
        let is_new = !self.questions.iter().any(|known| known == name);
        is_new
            && is_host_name(name)
            && self.refused.get(name).is_none_or(|until| *until <= now)
            && has_room(&mut self.added, MAX_ADDED, HOUR, now)
            && take_room(&mut self.asked, MAX_ASKED, MINUTE, now)
    }

    pub(super) fn refuse(&mut self, name: String, now: Time) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.retain(|_, until| *until > now);
        }
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(name, now.after(REFUSED_FOR));
    }
}

/// Whether a client's server name can be one of a certificate from a CA: at least two labels, no wildcard, no
/// address.
fn is_host_name(name: &str) -> bool {
    let is_dns = Identifier::from_name(name).is_ok_and(|found| found.value == name);
    is_dns
        && name.contains('.')
        && !name.starts_with('*')
        && name.parse::<std::net::IpAddr>().is_err()
}

fn has_room(times: &mut VecDeque<Time>, most: usize, within: Duration, now: Time) -> bool {
    times.retain(|at| *at <= now && now.since(*at) < within); // the clock may have been ahead
    times.len() < most
}

fn take_room(times: &mut VecDeque<Time>, most: usize, within: Duration, now: Time) -> bool {
    let has_room = has_room(times, most, within, now);
    if has_room {
        times.push_back(now);
    }
    has_room
}
