//! The desk between a flow and its host: what has been asked for, what has been said, what has been
//! answered. Plain data; `io` is how a flow waits at it.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Gathering, Response};
use super::challenge::Challenge;
use super::operation::{Method, Request, Step, ToSign};
use super::transcript::{Line, Transcript};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::text::printable;
use crate::time::Time;
use crate::url::Url;

/// What lies between a flow and its host.
pub(super) struct Desk {
    /// The host's clock at the last poll.
    clock: Time,
    /// Time as the flow sees it: goes on from poll to poll, never back, whatever the clock does.
    pub now: Time,
    pub time_limit: Duration,
    /// Set by the first poll; moved on by the time that publishing takes.
    pub deadline: Option<Time>,
    /// The earliest moment that anything waits for; gathered anew in each poll.
    wake: Option<Time>,
    /// Something happened that an earlier part of the flow may be waiting for.
    pub unsettled: bool,
    pub place: &'static str,
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
    pub asks_directory: bool,
    pub random: u64,
    last_id: u64,
    requests: Vec<Outstanding>,
    signings: Vec<Signing>,
    /// Requests and signatures under way whose answer nobody wants any more.
    abandoned: Vec<u64>,
    pub solving: Option<Solving>,
    /// What is being written down, for whom it is wanted.
    pub transcript: Option<Box<Transcript>>,
}

/// A request that the flow awaits the answer of.
struct Outstanding {
    request: Arc<Request>,
    /// Only to be sent when the host has nothing else to send.
    spare: bool,
    said: bool,
    gathering: Gathering,
    answer: Option<Result<Response>>,
}

/// Something that the host is to sign.
struct Signing {
    to_sign: Arc<ToSign>,
    said: bool,
    answer: Option<Result<Vec<u8>, String>>,
}

/// Challenges that the host is to publish or to take down.
pub(super) struct Solving {
    pub challenges: Arc<[Challenge]>,
    pub publish: bool,
    pub said_at: Option<Time>,
    /// What the host wants the challenges to be answered with, of the types that take it.
    pub payloads: Vec<Option<Vec<u8>>>,
    pub answer: Option<Result<(), String>>,
}

impl Desk {
    /// `seed` feeds the jitter of delays: the same seed and answers give the same run.
    pub(super) fn new(time_limit: Duration, seed: u64) -> Desk {
        Desk {
            clock: Time::default(),
            now: Time::default(),
            time_limit,
            deadline: None,
            wake: None,
            unsettled: false,
            place: "new",
            order_url: None,
            cancellation_is_noted: false,
            spare_after: Time::from_millis(i64::MIN),
            next_retry: Time::from_millis(i64::MIN),
            is_patient: false,
            knows_directory: false,
            asks_directory: false,
            random: seed,
            last_id: 0,
            requests: Vec::new(),
            signings: Vec::new(),
            abandoned: Vec::new(),
            solving: None,
            transcript: None,
        }
    }
}

/// The host's side.
impl Desk {
    pub(super) fn begin_poll(&mut self, clock: Time) {
        if self.deadline.is_none() {
            (self.clock, self.now) = (clock, clock);
            self.deadline = Some(clock.after(self.time_limit));
        }
        self.now = self.now.after(clock.since(self.clock));
        self.clock = clock;
        self.wake = None;
        self.unsettled = false;
    }

    pub(super) fn is_unsettled(&mut self) -> bool {
        std::mem::take(&mut self.unsettled)
    }

    /// The first thing that has not been said to the host yet.
    pub(super) fn next_step(&mut self) -> Step {
        if let Some(request) = self.say_request(false) {
            return Step::Request(request);
        }
        if let Some(signing) = self.signings.iter_mut().find(|signing| !signing.said) {
            signing.said = true;
            return Step::Sign(signing.to_sign.clone());
        }
        let now = self.now;
        if let Some(solving) = self.solving.as_mut().filter(|solving| solving.said_at.is_none()) {
            solving.said_at = Some(now);
            let challenges = solving.challenges.clone();
            return match solving.publish {
                true => Step::Publish(challenges),
                false => Step::Unpublish(challenges),
            };
        }
        if now >= self.spare_after {
            if let Some(request) = self.say_request(true) {
                return Step::Request(request);
            }
        } else if self.requests.iter().any(|o| o.spare && !o.said) {
            self.wake_at(self.spare_after);
        }
        Step::Wait(self.wake.map(|wake| wake.since(now)))
    }

    /// Where the flow is, in a word.
    pub(super) fn place(&self) -> &'static str {
        let waits_for_nonce = !self.requests.is_empty() && self.requests.iter().all(|r| r.spare);
        if waits_for_nonce { "nonce" } else { self.place }
    }

    pub(super) fn unanswered(&self, id: u64) -> Option<Arc<Request>> {
        let outstanding = self.requests.iter().find(|o| o.request.id == id)?;
        (outstanding.said && outstanding.answer.is_none()).then(|| outstanding.request.clone())
    }

    /// Takes in a piece of an answer. A piece that breaks a limit ends the answer.
    pub(super) fn gather(
        &mut self,
        id: u64,
        add: impl FnOnce(&mut Gathering) -> Result<()>,
    ) -> Result<()> {
        let Some(outstanding) = self.awaiting(id)? else { return Ok(()) };
        if let Err(error) = add(&mut outstanding.gathering) {
            outstanding.answer = Some(Err(error.clone()));
            self.note_answer(id);
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn end_answer(&mut self, id: u64, end: Result<u16, &str>) -> Result<()> {
        let Some(outstanding) = self.awaiting(id)? else {
            self.abandoned.retain(|gone| *gone != id);
            return Ok(());
        };
        let gathering = std::mem::take(&mut outstanding.gathering);
        outstanding.answer = Some(match end {
            Ok(status) => Ok(gathering.end(status)),
            Err(why) => {
                let why = format!("no answer: {}", printable(why, 500));
                Err(Error::new(ErrorKind::Transport, why))
            }
        });
        self.note_answer(id);
        Ok(())
    }

    fn note_answer(&mut self, id: u64) {
        let Some(transcript) = &mut self.transcript else { return };
        let answered = self.requests.iter().find(|o| o.request.id == id);
        if let Some(answer) = answered.and_then(|outstanding| outstanding.answer.as_ref()) {
            transcript.answer(id, answer);
        }
    }

    /// Adds a line to the transcript.
    pub(super) fn note(&mut self, line: impl FnOnce() -> Line) {
        if let Some(transcript) = &mut self.transcript {
            transcript.add(line());
        }
    }

    pub(super) fn answer_signing(
        &mut self,
        id: u64,
        outcome: Result<Vec<u8>, String>,
    ) -> Result<()> {
        if self.abandoned.contains(&id) {
            self.abandoned.retain(|gone| *gone != id);
            return Ok(());
        }
        match self.signings.iter_mut().find(|signing| signing.to_sign.id == id) {
            Some(signing) if signing.said && signing.answer.is_none() => {
                signing.answer = Some(outcome);
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
        let Some(solving) = self.solving.as_mut().filter(|s| s.publish && s.answer.is_none())
        else {
            return misuse("nothing is waiting to be published");
        };
        match (solving.challenges.get(n), solving.payloads.get_mut(n)) {
            (Some(challenge), Some(place)) if challenge.kind().takes_payload() => {
                *place = Some(payload);
                Ok(())
            }
            (Some(_), _) => misuse("a challenge of this type is answered without a payload"),
            (None, _) => misuse("there is no challenge with this number"),
        }
    }

    pub(super) fn answer_publish(&mut self, outcome: Result<(), String>) -> Result<()> {
        match &mut self.solving {
            Some(solving)
                if solving.publish && solving.said_at.is_some() && solving.answer.is_none() =>
            {
                solving.answer = Some(outcome);
                Ok(())
            }
            // Canceled while the host was publishing: it is told to take them down.
            Some(solving) if !solving.publish => Ok(()),
            _ => Err(Error::new(ErrorKind::Misuse, "nothing is waiting to be published")),
        }
    }
}

/// The flow's side.
impl Desk {
    /// Puts a request on the desk and gives its id.
    pub(super) fn put_request(
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
        let gathering = Gathering::default();
        let outstanding = Outstanding { request, spare, said: false, gathering, answer: None };
        // Most often it is the only one, and there may be a hundred thousand orders.
        self.requests.reserve_exact(1);
        self.requests.push(outstanding);
        id
    }

    pub(super) fn put_challenges(&mut self, challenges: Arc<[Challenge]>, publish: bool) {
        self.place = if publish { "publish" } else { "unpublish" };
        let payloads = challenges.iter().map(|_| None).collect();
        self.solving = Some(Solving { challenges, publish, said_at: None, payloads, answer: None });
    }

    /// Puts something to be signed on the desk and gives its id.
    pub(super) fn put_signing(&mut self, key: &Key, input: &[u8]) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let to_sign = Arc::new(ToSign { id, key: key.clone(), input: input.to_vec() });
        self.signings.push(Signing { to_sign, said: false, answer: None });
        id
    }

    pub(super) fn take_signature(&mut self, id: u64) -> Option<Result<Vec<u8>, String>> {
        let at = self.signings.iter().position(|signing| signing.to_sign.id == id)?;
        let answer = self.signings.get_mut(at)?.answer.take()?;
        self.signings.remove(at);
        Some(answer)
    }

    /// Takes back challenges that the host has not been told of: it need not take them down.
    pub(super) fn withdraw_challenges(&mut self) -> bool {
        let unsaid = self.solving.as_ref().is_some_and(|solving| solving.said_at.is_none());
        if unsaid {
            self.solving = None;
        }
        unsaid
    }

    /// Nobody wants the answer any more. One that is under way is ignored when it comes.
    pub(super) fn forget(&mut self, id: u64) {
        let (requests, signings) = (&self.requests, &self.signings);
        let sent = requests.iter().any(|o| o.request.id == id && o.said && o.answer.is_none());
        let signed = signings.iter().any(|s| s.to_sign.id == id && s.said && s.answer.is_none());
        if sent || signed {
            self.abandoned.push(id);
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
        self.solving.as_ref().is_some_and(|solving| solving.publish && solving.answer.is_none())
    }

    /// The time that publishing took does not count.
    pub(super) fn resume_deadline(&mut self) {
        let took = self.solving.as_ref().and_then(|s| s.said_at).map(|at| self.now.since(at));
        self.deadline = self.deadline.map(|deadline| deadline.after(took.unwrap_or_default()));
        self.solving = None;
    }

    pub(super) fn is_said(&self, id: u64) -> bool {
        self.requests.iter().any(|o| o.request.id == id && o.said)
    }

    pub(super) fn take_answer(&mut self, id: u64) -> Option<Result<Response>> {
        let at = self.requests.iter().position(|outstanding| outstanding.request.id == id)?;
        let answer = self.requests.get_mut(at)?.answer.take()?;
        self.requests.remove(at);
        Some(answer)
    }

    fn say_request(&mut self, spare: bool) -> Option<Arc<Request>> {
        let unsaid = |o: &&mut Outstanding| !o.said && o.spare == spare;
        let outstanding = self.requests.iter_mut().find(unsaid)?;
        outstanding.said = true;
        Some(outstanding.request.clone())
    }

    /// The request that an answer is for; `None` when nobody wants the answer any more.
    fn awaiting(&mut self, id: u64) -> Result<Option<&mut Outstanding>> {
        let misuse = |why: &str| Err(Error::new(ErrorKind::Misuse, format!("request {id} {why}")));
        if self.abandoned.contains(&id) {
            return Ok(None);
        }
        match self.requests.iter_mut().find(|o| o.request.id == id) {
            Some(outstanding) if !outstanding.said => misuse("has not been given out"),
            Some(outstanding) => match &outstanding.answer {
                None => Ok(Some(outstanding)),
                Some(Err(error)) if error.kind() == ErrorKind::Protocol => Err(error.clone()),
                Some(_) => misuse("has been answered already"),
            },
            None => misuse("is not waiting for an answer"),
        }
    }
}
