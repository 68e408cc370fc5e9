//! Certificates for names that clients ask for, and that the program allows one by one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::event::{ManagerEvent, ManagerEventKind};
use super::table::State;
use super::{Difference, Manager, Reverse};
use crate::engine::KeepOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::resource::identifier::Identifier;
use crate::store::names::canonical;
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
    options: KeepOptions,
    /// Names about which to ask the program next.
    questions: VecDeque<String>,
    /// Names that the program has refused, and until when.
    refused: HashMap<String, Time>,
    /// The times of the last questions, and of the last names that were added.
    asked: VecDeque<Time>,
    added: VecDeque<Time>,
}

impl OnDemand {
    /// Whether the program may be asked about this name now.
    fn takes(&mut self, name: &str, now: Time) -> bool {
        let is_new = !self.questions.iter().any(|known| known == name);
        is_new
            && is_host_name(name)
            && self.refused.get(name).is_none_or(|until| *until <= now)
            && has_room(&mut self.added, MAX_ADDED, HOUR, now)
            && take_room(&mut self.asked, MAX_ASKED, MINUTE, now)
    }

    fn refuse(&mut self, name: String, now: Time) {
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

impl Manager {
    /// Obtains certificates on demand: for each name that a client asks for ([`Served::find`](super::Served::find))
    /// and that has no certificate, [`Act::Ask`](super::Act::Ask) asks the program. The same before each renewal.
    /// `options` are those of all these certificates; they have no names.
    pub fn on_demand(&mut self, options: KeepOptions) -> Result<()> {
        if !options.order.names.is_empty() || options.name.is_some() {
            return Err(Error::invalid_argument("a certificate on demand has no names yet"));
        }
        let mut example = options.clone();
        example.order.names = vec!["on-demand.example".to_owned()];
        for ca in &self.cas {
            example.check(&ca.client)?;
        }
        self.on_demand = Some(OnDemand {
            options,
            questions: VecDeque::new(),
            refused: HashMap::new(),
            asked: VecDeque::new(),
            added: VecDeque::new(),
        });
        self.served.set_on_demand();
        Ok(())
    }

    /// Takes in a name that a client has asked for, and that no certificate has.
    pub(super) fn demand(&mut self, name: &str, now: Time) {
        if let Some(demand) = &mut self.on_demand {
            if demand.takes(name, now) {
                demand.questions.push_back(name.to_owned());
            }
        }
    }

    /// Asks about a certificate on demand before it is renewed.
    pub(super) fn ask_again(&mut self, id: u32) {
        let name = self.table.get(id).map(|entry| entry.name().to_owned());
        if let (Some(name), Some(demand)) = (name, &mut self.on_demand) {
            demand.questions.push_back(name);
        }
    }

    /// Returns the name about which to ask the program.
    pub(super) fn question(&mut self) -> Option<String> {
        self.on_demand.as_mut()?.questions.pop_front()
    }

    /// Takes in the program's answer to [`Act::Ask`](super::Act::Ask).
    pub fn answer(&mut self, name: &str, is_allowed: bool, now: Time) {
        let name = canonical(name);
        let known = self.table.find(&name);
        match (known, is_allowed) {
            (None, true) => {
                let Some(demand) = &mut self.on_demand else { return };
                demand.added.push_back(now);
                let mut options = demand.options.clone();
                options.order.names = vec![name.clone()];
                match self.table.add(options) {
                    Ok((id, Difference::New)) => {
                        if let Some(entry) = self.table.get_mut(id) {
                            entry.on_demand = true;
                        }
                        self.unread.push(id);
                    }
                    Ok(_) => {}
                    Err(error) => self.tell(ManagerEvent::failed(name, error, None)),
                }
            }
            (None, false) => {
                if let Some(demand) = &mut self.on_demand {
                    demand.refuse(name, now);
                }
            }
            (Some(id), true) => {
                if let Some(entry) = self.table.get_mut(id).filter(|e| e.state == State::Asking) {
                    entry.state = State::Queued;
                    self.queue.push(Reverse((entry.not_after, id)));
                }
            }
            (Some(id), false) => {
                if self.table.get(id).is_some_and(|entry| entry.state == State::Asking) {
                    self.remove(&name);
                    let why = "the program does not want this certificate any more";
                    let error = Error::new(ErrorKind::Host, why);
                    let mut event = ManagerEvent::failed(name.clone(), error, None);
                    event.kind = ManagerEventKind::Stopped;
                    self.tell(event);
                    if let Some(demand) = &mut self.on_demand {
                        demand.refuse(name, now);
                    }
                }
            }
        }
    }
}
