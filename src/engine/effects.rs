//! The desk between a flow and its host: what has been asked for, what has been said, what has been
//! answered. Plain data; `io` is how a flow waits at it.

use std::sync::Arc;
use std::time::Duration;

use super::challenge::Challenge;
use super::response::{PartialResponse, Response};
use super::step::{Method, Request, Step, ToSign};
use super::transcript::{Line, Transcript};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::problem::printable;
use crate::time::Time;
use crate::url::Url;

/// What lies between a flow and its host.
pub(super) struct Effects {
    /// The host's clock at the last poll.
    clock: Time,
    /// Time as the flow sees it: goes on from poll to poll, never back, whatever the clock does.
    pub now: Time,
    pub timeout: Duration,
    /// Set by the first poll; moved on by the time that publishing takes.
    pub deadline: Option<Time>,
    /// The earliest moment that anything waits for; gathered anew in each poll.
    wake: Option<Time>,
    /// Something happened that an earlier part of the flow may be waiting for.
    pub needs_repoll: bool,
    pub state: &'static str,
    pub order_url: Option<String>,
    pub cancellation_is_noted: bool,
    /// No spare request is said before: the last one has failed.
    pub spare_after: Time,
    /// When the last request that failed is tried again.
    pub next_retry: Time,
    /// Is more at stake than one request?
    pub is_patient: bool,
    /// The operation has fetched the directory itself.
    pub knows_directory: bool,
    /// A part of the flow is about to.
    pub fetches_directory: bool,
    pub random: u64,
    last_id: u64,
    requests: Vec<Outstanding>,
    signings: Vec<Signing>,
    /// Requests and signatures under way whose answer nobody wants any more.
    discarded: Vec<u64>,
    pub solving: Option<Solving>,
    /// What is being written down, for whom it is wanted.
    pub transcript: Option<Box<Transcript>>,
}

/// A request that the flow awaits the answer of.
struct Outstanding {
    request: Arc<Request>,
    /// Only to be sent when the host has nothing else to send.
    spare: bool,
    issued: bool,
    partial: PartialResponse,
    response: Option<Result<Response>>,
}

/// Something that the host is to sign.
struct Signing {
    to_sign: Arc<ToSign>,
    issued: bool,
    signature: Option<Result<Vec<u8>, String>>,
}

/// Challenges that the host is to publish or to take down.
pub(super) struct Solving {
    pub challenges: Arc<[Challenge]>,
    pub publish: bool,
    pub issued_at: Option<Time>,
    /// What the host wants the challenges to be answered with, of the types that take it.
    pub payloads: Vec<Option<Vec<u8>>>,
    pub outcome: Option<Result<(), String>>,
}

impl Effects {
    /// `seed` feeds the jitter of delays: the same seed and answers give the same run.
    pub(super) fn new(timeout: Duration, seed: u64) -> Effects {
        Effects {
            clock: Time::default(),
            now: Time::default(),
            timeout,
            deadline: None,
            wake: None,
            needs_repoll: false,
            state: "new",
            order_url: None,
            cancellation_is_noted: false,
            spare_after: Time::from_millis(i64::MIN),
            next_retry: Time::from_millis(i64::MIN),
            is_patient: false,
            knows_directory: false,
            fetches_directory: false,
            random: seed,
            last_id: 0,
            requests: Vec::new(),
            signings: Vec::new(),
            discarded: Vec::new(),
            solving: None,
            transcript: None,
        }
    }
}

/// The host's side.
impl Effects {
    pub(super) fn begin_poll(&mut self, clock: Time) {
        if self.deadline.is_none() {
            (self.clock, self.now) = (clock, clock);
            self.deadline = Some(clock.after(self.timeout));
        }
        self.now = self.now.after(clock.since(self.clock));
        self.clock = clock;
        self.wake = None;
        self.needs_repoll = false;
    }

    pub(super) fn take_needs_repoll(&mut self) -> bool {
        std::mem::take(&mut self.needs_repoll)
    }

    /// The first thing that has not been said to the host yet.
    pub(super) fn next_step(&mut self) -> Step {
        if let Some(request) = self.issue_request(false) {
            return Step::Request(request);
        }
        if let Some(signing) = self.signings.iter_mut().find(|signing| !signing.issued) {
            signing.issued = true;
            return Step::Sign(signing.to_sign.clone());
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

    /// Where the flow is, in a word.
    pub(super) fn state(&self) -> &'static str {
        let waits_for_nonce = !self.requests.is_empty() && self.requests.iter().all(|r| r.spare);
        if waits_for_nonce { "nonce" } else { self.state }
    }

    pub(super) fn unanswered(&self, id: u64) -> Option<Arc<Request>> {
        let outstanding = self.requests.iter().find(|o| o.request.id == id)?;
        (outstanding.issued && outstanding.response.is_none()).then(|| outstanding.request.clone())
    }

    /// Takes in a piece of an answer. A piece that breaks a limit ends the answer.
    pub(super) fn receive(
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

    pub(super) fn end_response(&mut self, id: u64, end: Result<u16, &str>) -> Result<()> {
        let Some(outstanding) = self.awaiting(id)? else {
            self.discarded.retain(|gone| *gone != id);
            return Ok(());
        };
        let partial = std::mem::take(&mut outstanding.partial);
        outstanding.response = Some(match end {
            Ok(status) => Ok(partial.end(status)),
            Err(why) => {
                let why = format!("no answer: {}", printable(why, 500));
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
    pub(super) fn note(&mut self, line: impl FnOnce() -> Line) {
        if let Some(transcript) = &mut self.transcript {
            transcript.add(line());
        }
    }

    pub(super) fn end_signing(&mut self, id: u64, outcome: Result<Vec<u8>, String>) -> Result<()> {
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

    /// Takes what the n-th challenge is to be answered with.
    pub(super) fn take_payload(&mut self, n: usize, payload: Vec<u8>) -> Result<()> {
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
            (Some(_), _) => misuse("a challenge of this type is answered without a payload"),
            (None, _) => misuse("there is no challenge with this number"),
        }
    }

    pub(super) fn end_publish(&mut self, outcome: Result<(), String>) -> Result<()> {
        match &mut self.solving {
            Some(solving)
                if solving.publish && solving.issued_at.is_some() && solving.outcome.is_none() =>
            {
                solving.outcome = Some(outcome);
                Ok(())
            }
            // Canceled while the host was publishing: it is told to take them down.
            Some(solving) if !solving.publish => Ok(()),
            _ => Err(Error::new(ErrorKind::Misuse, "nothing is waiting to be published")),
        }
    }
}

/// The flow's side.
impl Effects {
    /// Puts a request on the desk and gives its id.
    pub(super) fn add_request(
        &mut self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        spare: bool,
    ) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let request = Arc::new(Request { id, method, url, headers, body });
        let partial = PartialResponse::default();
        let outstanding = Outstanding { request, spare, issued: false, partial, response: None };
        // Most often it is the only one, and there may be a hundred thousand orders.
        self.requests.reserve_exact(1);
        self.requests.push(outstanding);
        id
    }

    pub(super) fn add_challenges(&mut self, challenges: Arc<[Challenge]>, publish: bool) {
        self.state = if publish { "publish" } else { "unpublish" };
        let payloads = challenges.iter().map(|_| None).collect();
        self.solving =
            Some(Solving { challenges, publish, issued_at: None, payloads, outcome: None });
    }

    /// Puts something to be signed on the desk and gives its id.
    pub(super) fn add_signing(&mut self, key: &Key, input: &[u8]) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let to_sign = Arc::new(ToSign { id, key: key.clone(), input: input.to_vec() });
        self.signings.push(Signing { to_sign, issued: false, signature: None });
        id
    }

    pub(super) fn take_signature(&mut self, id: u64) -> Option<Result<Vec<u8>, String>> {
        let at = self.signings.iter().position(|signing| signing.to_sign.id == id)?;
        let signature = self.signings.get_mut(at)?.signature.take()?;
        self.signings.remove(at);
        Some(signature)
    }

    /// Takes back challenges that the host has not been told of: it need not take them down.
    pub(super) fn withdraw_challenges(&mut self) -> bool {
        let not_issued = self.solving.as_ref().is_some_and(|solving| solving.issued_at.is_none());
        if not_issued {
            self.solving = None;
        }
        not_issued
    }

    /// Nobody wants the answer any more. One that is under way is ignored when it comes.
    pub(super) fn forget(&mut self, id: u64) {
        let (requests, signings) = (&self.requests, &self.signings);
        let sent = requests.iter().any(|o| o.request.id == id && o.issued && o.response.is_none());
        let signed =
            signings.iter().any(|s| s.to_sign.id == id && s.issued && s.signature.is_none());
        if sent || signed {
            self.discarded.push(id);
        }
        self.requests.retain(|outstanding| outstanding.request.id != id);
        self.signings.retain(|signing| signing.to_sign.id != id);
    }

    pub(super) fn wake_at(&mut self, time: Time) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// No optional newNonce request goes out before this time.
    pub(super) fn delay_spares_until(&mut self, time: Time) {
        self.spare_after = self.spare_after.max(time);
    }

    /// From now on a CA that is out of reach is asked again for longer: challenges go up, or an order is
    /// at stake.
    pub(super) fn begin_patience(&mut self, now: Time) {
        self.is_patient = true;
        self.next_retry = now;
    }

    /// Requests after a failure wait for the retries that the failure has cut off.
    pub(super) fn delay_retries_until(&mut self, time: Time) {
        self.next_retry = self.next_retry.max(time);
    }

    pub(super) fn is_publishing(&self) -> bool {
        self.solving.as_ref().is_some_and(|solving| solving.publish && solving.outcome.is_none())
    }

    /// The time that publishing took does not count.
    pub(super) fn resume_deadline(&mut self) {
        let took = self.solving.as_ref().and_then(|s| s.issued_at).map(|at| self.now.since(at));
        self.deadline = self.deadline.map(|deadline| deadline.after(took.unwrap_or_default()));
        self.solving = None;
    }

    pub(super) fn is_issued(&self, id: u64) -> bool {
        self.requests.iter().any(|o| o.request.id == id && o.issued)
    }

    pub(super) fn take_response(&mut self, id: u64) -> Option<Result<Response>> {
        let at = self.requests.iter().position(|outstanding| outstanding.request.id == id)?;
        let response = self.requests.get_mut(at)?.response.take()?;
        self.requests.remove(at);
        Some(response)
    }

    fn issue_request(&mut self, spare: bool) -> Option<Arc<Request>> {
        let not_issued = |o: &&mut Outstanding| !o.issued && o.spare == spare;
        let outstanding = self.requests.iter_mut().find(not_issued)?;
        outstanding.issued = true;
        Some(outstanding.request.clone())
    }

    /// The request that an answer is for; `None` when nobody wants the answer any more.
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
                Some(_) => misuse("has been answered already"),
            },
            None => misuse("is not waiting for an answer"),
        }
    }
}
