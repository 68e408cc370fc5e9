//! Attempts: which begins next, and what their ends mean.

use std::cmp::Reverse;

use super::ca::{self, Task};
use super::event::{ManagerEvent, ManagerEventKind};
use super::table::{Entry, State};
use super::{Manager, Ticket, limits};
use crate::engine::{Kept, Operation, Tried};
use crate::error::{Error, ErrorKind, Result};
use crate::store::schedule::Schedule;
use crate::time::Time;

/// Maximum number of certificates in the queue that are passed over because their CA is paused.
const MAX_PASSED_OVER: usize = 100;

impl Manager {
    /// Begins the attempt that is the most urgent.
    pub(super) fn begin(&mut self, now: Time) -> Option<(Ticket, Operation<Tried>)> {
        let mut passed_over = Vec::new();
        let begun = loop {
            if passed_over.len() == MAX_PASSED_OVER {
                break None;
            }
            let Some(Reverse((end, id))) = self.queue.pop() else { break None };
            let Some(entry) = self.table.get(id).filter(|entry| entry.state == State::Queued)
            else {
                continue;
            };
            match ca::choose(&self.cas, entry, now) {
                Task::Wait => passed_over.push(Reverse((end, id))),
                Task::At(ca) => {
                    if let Some(begun) = self.begin_at(ca, id, now) {
                        break Some(begun);
                    }
                }
            }
        };
        self.queue.extend(passed_over);
        begun
    }

    fn begin_at(&mut self, number: u8, id: u32, now: Time) -> Option<(Ticket, Operation<Tried>)> {
        let ca = self.cas.get_mut(usize::from(number))?;
        let entry = self.table.get_mut(id)?;
        // A first certificate counts against the CA's limit of orders; a renewal does not.
        if !entry.has_certificate() || entry.issuer != number {
            if let Some(free_at) = ca.budget.next_order(now) {
                self.set_timer(id, free_at);
                return None;
            }
        }
        let mut options = entry.options();
        options.renew_now = std::mem::take(&mut entry.renew_now);
        options.failures = entry.failures.into();
        options.forget_failures = std::mem::take(&mut entry.forgets);
        if entry.has_certificate() && entry.issuer != number {
            options.newer_than = Some(entry.not_before());
        }
        // A profile is one of the preferred CA.
        options.order.profile_optional |= number > 0;
        (entry.state, entry.is_changed) = (State::Working, false);
        let (generation, renew_now) = (entry.generation, options.renew_now);
        let ticket = Ticket { id, generation, ca: number, renew_now };
        match ca.client.keep_tried(options) {
            Ok(operation) => {
                ca.attempts += 1;
                self.attempts += 1;
                self.counters.attempts += 1;
                Some((ticket, operation))
            }
            Err(error) => {
                self.give_up(id, number, error);
                None
            }
        }
    }

    fn give_up(&mut self, id: u32, ca: u8, error: Error) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.state = State::Stopped;
            let name = entry.name().to_owned();
            let mut event = ManagerEvent::failed(name, error, None);
            event.kind = ManagerEventKind::Stopped;
            self.tell_of(ca, event);
        }
    }

    /// Takes in the end of an attempt. An error means that the operation did not get as far as its record.
    pub fn finished(&mut self, ticket: Ticket, outcome: Result<Tried>, now: Time) {
        let (outcome, schedule) = match outcome {
            Ok(tried) => (tried.outcome, Some(tried.schedule)),
            Err(error) => (Err(error), None),
        };
        self.attempts = self.attempts.saturating_sub(1);
        self.take_health(ticket, &outcome, now);
        let Some(entry) = self.table.current(ticket.id, ticket.generation) else { return };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Canceled => {
                // The manager stops: the next one goes on with the order.
                entry.renew_now |= ticket.renew_now;
                self.set_timer(ticket.id, Time::from_millis(i64::MIN));
            }
            Ok(kept) => self.succeeded(ticket, kept, &schedule.unwrap_or_default()),
            Err(error) => {
                entry.renew_now |= ticket.renew_now;
                let schedule = schedule.unwrap_or_else(|| {
                    let failures = u32::from(entry.failures);
                    let mut schedule = Schedule { failures, ..Schedule::default() };
                    schedule.follow_failure(&error, None, now);
                    schedule
                });
                self.failed(ticket, error, &schedule, now);
            }
        }
    }

    /// Takes in what an attempt shows of its CA.
    fn take_health(&mut self, ticket: Ticket, outcome: &Result<Kept>, now: Time) {
        let Some(ca) = self.cas.get_mut(ticket.ca()) else { return };
        ca.attempts = ca.attempts.saturating_sub(1);
        if !ca.health.end(ticket.id, outcome, now) {
            return;
        }
        let kind = match ca.health.ends() {
            Some(_) => ManagerEventKind::CaPaused,
            None => ManagerEventKind::CaResumed,
        };
        let mut event = ManagerEvent::new(kind, String::new());
        event.next_try = ca.health.ends();
        event.error = outcome.as_ref().err().filter(|_| event.next_try.is_some()).cloned();
        self.tell_of(ticket.ca, event);
    }

    fn succeeded(&mut self, ticket: Ticket, kept: Kept, schedule: &Schedule) {
        let Some(entry) = self.table.get_mut(ticket.id) else { return };
        let name = entry.name().to_owned();
        let not_after = kept.chain.not_after();
        let kind = match (&kept.not_due, entry.has_certificate()) {
            // Another program has renewed it.
            (Some(_), _) if entry.not_after != not_after => ManagerEventKind::Loaded,
            (Some(_), _) => ManagerEventKind::NotDue,
            (None, false) => ManagerEventKind::Obtained,
            (None, true) => ManagerEventKind::Renewed,
        };
        match kind {
            ManagerEventKind::Obtained => self.counters.obtained += 1,
            ManagerEventKind::Renewed => self.counters.renewed += 1,
            _ => self.counters.not_due += 1,
        }
        (entry.next_ca, entry.error) = (0, None);
        let next = entry.take_schedule(schedule);
        entry.set_certificate(ticket.ca, kept.chain.not_before(), not_after);
        self.expiry.note(entry);
        self.served.set(ticket.id, &kept.chain, &kept.key);
        // The program may have asked for another one meanwhile, or changed the options.
        let is_wanted = entry.renew_now || entry.is_changed;
        let at = if is_wanted { Time::from_millis(i64::MIN) } else { next };
        let mut event = ManagerEvent::with_certificate(kind, name, kept.chain, kept.key);
        event.next_try = Some(next);
        event.error = kept.stored.err();
        self.tell_of(ticket.ca, event);
        self.set_timer(ticket.id, at);
    }

    fn failed(&mut self, ticket: Ticket, error: Error, schedule: &Schedule, now: Time) {
        let Ticket { id, ca, .. } = ticket;
        self.failures.note(error.kind());
        let Some(entry) = self.table.get_mut(id) else { return };
        let name = entry.name().to_owned();
        entry.failures = u8::try_from(schedule.failures).unwrap_or(u8::MAX);
        entry.error = Some(error.clone());
        let not_after = entry.not_after;
        let mut event = ManagerEvent::failed(name, error.clone(), None);
        event.not_after = Some(not_after).filter(|_| entry.has_certificate());
        if entry.is_changed || entry.forgets {
            // The program has changed something meanwhile.
            self.tell_of(ca, event);
            self.set_timer(id, Time::from_millis(i64::MIN));
            return;
        }
        let next_ca = ca::next_after(&self.cas, ca, entry, &error, now);
        entry.next_ca = next_ca.unwrap_or(0);
        if next_ca.is_some() {
            event.kind = ManagerEventKind::OtherCa;
            self.tell_of(ca, event);
            self.set_timer(id, Time::from_millis(i64::MIN));
            return;
        }
        if limits::is_hopeless(&error, entry.failures, not_after > now) {
            self.give_up(id, ca, error);
            return;
        }
        // A fault of the CA says nothing about this certificate: it is tried again when the pause ends.
        let at_ca = self.cas.get(usize::from(ca));
        let next = at_ca.map_or(schedule.due(), |ca| ca.health.next_try(&error, schedule.due()));
        let next = limits::plausible(next, now);
        event.next_try = Some(next);
        self.tell_of(ca, event);
        self.set_timer(id, next);
    }
}

impl Entry {
    /// Takes the counter and the moments from a schedule; returns the moment at which something is to be done.
    pub(super) fn take_schedule(&mut self, schedule: &Schedule) -> Time {
        self.failures = u8::try_from(schedule.failures).unwrap_or(u8::MAX);
        self.renew_at = schedule.renew_at.unwrap_or_default();
        schedule.due()
    }
}
