//! The host's side of the effects: the steps that a poll returns, and the changes by the host's replies.

use std::sync::Arc;

use super::{Effects, Outstanding};
use crate::engine::response::PartialResponse;
use crate::engine::step::{Request, Step};
use crate::engine::transcript::Line;
use crate::error::{Error, ErrorKind, Result};
use crate::text::printable;
use crate::time::Time;

impl Effects {
    /// Takes in the host's time. The first poll sets the deadline.
    pub(in crate::engine) fn begin_poll(&mut self, clock: Time) {
        if self.deadline.is_none() {
            (self.clock, self.now) = (clock, clock);
            self.deadline = Some(clock.after(self.timeout));
        }
        self.now = self.now.after(clock.since(self.clock));
        self.clock = clock;
        self.wake = None;
        self.needs_repoll = false;
    }

    pub(in crate::engine) fn take_needs_repoll(&mut self) -> bool {
        std::mem::take(&mut self.needs_repoll)
    }

    /// Issues the first effect that the host does not have yet. Spare requests come last.
    pub(in crate::engine) fn next_step(&mut self) -> Step {
        if let Some(request) = self.issue_request(false) {
            return Step::Request(request);
        }
        if let Some(signing) = self.signings.iter_mut().find(|signing| !signing.issued) {
            signing.issued = true;
            return Step::Sign(signing.to_sign.clone());
        }
        if let Some(access) = self.accesses.iter_mut().find(|access| !access.issued) {
            access.issued = true;
            return Step::Store(access.access.clone());
        }
        let now = self.now;
        if let Some(solving) = self.solving.as_mut().filter(|solving| solving.issued_at.is_none()) {
            solving.issued_at = Some(now);
            let challenges = solving.challenges.clone();
            return match solving.publish {
                true => Step::Publish(challenges),
                false => Step::Unpublish(challenges),
            };
        }
        if now >= self.spare_after {
            if let Some(request) = self.issue_request(true) {
                return Step::Request(request);
            }
        } else if self.requests.iter().any(|o| o.spare && !o.issued) {
            self.wake_at(self.spare_after);
        }
        Step::Wait(self.wake.map(|wake| wake.since(now)))
    }

    /// The public state; `"nonce"` while every request of the flow is for a nonce.
    pub(in crate::engine) fn state(&self) -> &'static str {
        let waits_for_nonce = !self.requests.is_empty() && self.requests.iter().all(|r| r.spare);
        if waits_for_nonce { "nonce" } else { self.state }
    }

    /// The request with this id, if it was issued and has no response yet.
    pub(in crate::engine) fn unanswered(&self, id: u64) -> Option<Arc<Request>> {
        let outstanding = self.requests.iter().find(|o| o.request.id == id)?;
        (outstanding.issued && outstanding.response.is_none()).then(|| outstanding.request.clone())
    }

    /// Takes in a part of a response. A part that exceeds a limit ends the response with an error.
    pub(in crate::engine) fn receive(
        &mut self,
        id: u64,
        add: impl FnOnce(&mut PartialResponse) -> Result<()>,
    ) -> Result<()> {
        let Some(outstanding) = self.awaiting(id)? else { return Ok(()) };
        if let Err(error) = add(&mut outstanding.partial) {
            outstanding.response = Some(Err(error.clone()));
            self.note_response(id);
            return Err(error);
        }
        Ok(())
    }

    /// Ends a response: with its HTTP status, or with the reason why no response came.
    pub(in crate::engine) fn end_response(
        &mut self,
        id: u64,
        end: Result<u16, &str>,
    ) -> Result<()> {
        let Some(outstanding) = self.awaiting(id)? else {
            self.discarded.retain(|gone| *gone != id);
            return Ok(());
        };
        let partial = std::mem::take(&mut outstanding.partial);
        outstanding.response = Some(match end {
            Ok(status) => Ok(partial.end(status)),
            Err(why) => {
                let why = format!("no response: {}", printable(why, 500));
                Err(Error::new(ErrorKind::Transport, why))
            }
        });
        self.note_response(id);
        Ok(())
    }

    fn note_response(&mut self, id: u64) {
        let Some(transcript) = &mut self.transcript else { return };
        let found = self.requests.iter().find(|o| o.request.id == id);
        if let Some(response) = found.and_then(|outstanding| outstanding.response.as_ref()) {
            transcript.response(id, response);
        }
    }

    /// Adds a line to the transcript.
    pub(in crate::engine) fn note(&mut self, line: impl FnOnce() -> Line) {
        if let Some(transcript) = &mut self.transcript {
            transcript.add(line());
        }
    }

    pub(in crate::engine) fn end_signing(
        &mut self,
        id: u64,
        outcome: Result<Vec<u8>, String>,
    ) -> Result<()> {
        if self.discarded.contains(&id) {
            self.discarded.retain(|gone| *gone != id);
            return Ok(());
        }
        match self.signings.iter_mut().find(|signing| signing.to_sign.id == id) {
            Some(signing) if signing.issued && signing.signature.is_none() => {
                signing.signature = Some(outcome);
                Ok(())
            }
            _ => {
                let why = format!("nothing with the id {id} is waiting to be signed");
                Err(Error::new(ErrorKind::Misuse, why))
            }
        }
    }

    /// Takes the payload of the response to the n-th challenge.
    pub(in crate::engine) fn take_payload(&mut self, n: usize, payload: Vec<u8>) -> Result<()> {
        let misuse = |why: &str| Err(Error::new(ErrorKind::Misuse, why));
        let Some(solving) = self.solving.as_mut().filter(|s| s.publish && s.outcome.is_none())
        else {
            return misuse("nothing is waiting to be published");
        };
        match (solving.challenges.get(n), solving.payloads.get_mut(n)) {
            (Some(challenge), Some(payload_slot)) if challenge.kind().takes_payload() => {
                *payload_slot = Some(payload);
                Ok(())
            }
            (Some(_), _) => misuse("the response to a challenge of this type has no payload"),
            (None, _) => misuse("there is no challenge with this number"),
        }
    }

    pub(in crate::engine) fn end_publish(&mut self, outcome: Result<(), String>) -> Result<()> {
        match &mut self.solving {
            Some(solving)
                if solving.publish && solving.issued_at.is_some() && solving.outcome.is_none() =>
            {
                solving.outcome = Some(outcome);
                Ok(())
            }
            // Canceled while the host was publishing: the next step removes them.
            Some(solving) if !solving.publish => Ok(()),
            _ => Err(Error::new(ErrorKind::Misuse, "nothing is waiting to be published")),
        }
    }

    fn issue_request(&mut self, spare: bool) -> Option<Arc<Request>> {
        let not_issued = |o: &&mut Outstanding| !o.issued && o.spare == spare;
        let outstanding = self.requests.iter_mut().find(not_issued)?;
        outstanding.issued = true;
        Some(outstanding.request.clone())
    }

    /// The request that a response belongs to. `None`: the flow no longer awaits it.
    fn awaiting(&mut self, id: u64) -> Result<Option<&mut Outstanding>> {
        let misuse = |why: &str| Err(Error::new(ErrorKind::Misuse, format!("request {id} {why}")));
        if self.discarded.contains(&id) {
            return Ok(None);
        }
        match self.requests.iter_mut().find(|o| o.request.id == id) {
            Some(outstanding) if !outstanding.issued => misuse("has not been given out"),
            Some(outstanding) => match &outstanding.response {
                None => Ok(Some(outstanding)),
                Some(Err(error)) if error.kind() == ErrorKind::Protocol => Err(error.clone()),
                Some(_) => misuse("has its response already"),
            },
            None => misuse("is not waiting for a response"),
        }
    }
}
