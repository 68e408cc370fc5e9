//! Certificates for names that clients ask for, and that the program allows one by one.

use std::cmp::Reverse;

use super::Manager;
use super::event::{ManagerEvent, ManagerEventKind};
use super::on_demand::OnDemand;
use super::table::{Difference, State};
use crate::engine::KeepOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::store::names::canonical;
use crate::time::Time;

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
        self.on_demand = Some(OnDemand::new(options));
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
