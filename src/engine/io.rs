//! How a flow waits for its host: each *effect* that it awaits here, the host sees as a [`Step`]
//! and answers.
//!
//! Cancellation and the time limit are checked in one place, where an effect is awaited.
//!
//! [`Step`]: super::Step

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use super::answer::Response;
use super::challenge::Challenge;
use super::desk::Desk;
use super::operation::{Method, Step};
use super::transcript::{self, Line};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::text::printable;
use crate::time::Time;
use crate::url::Url;

/// A desk, and the way to it from both sides. Clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Io(Arc<Shared>);

struct Shared {
    canceled: AtomicBool,
    waker: Mutex<Option<Waker>>,
    desk: Mutex<Desk>,
}

impl Io {
    pub(super) fn new(time_limit: Duration, seed: u64) -> Io {
        let desk = Mutex::new(Desk::new(time_limit, seed));
        Io(Arc::new(Shared { canceled: AtomicBool::new(false), waker: Mutex::new(None), desk }))
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        // No code that holds this lock can leave the desk half changed.
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May be called by a signal handler, in the middle of whatever this thread does with the desk: it
    /// waits for no lock. Who has the waker's looks at `canceled` next, or wakes the host anyway.
    pub(super) fn cancel(&self) {
        self.0.canceled.store(true, Ordering::SeqCst);
        let waker = self.0.waker.try_lock().ok().and_then(|waker| waker.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds the cancellation to the transcript, at the poll that notices it.
    pub(super) fn note_cancellation(&self) {
        if self.0.canceled.load(Ordering::SeqCst) {
            let mut desk = self.desk();
            if !std::mem::replace(&mut desk.cancellation_is_noted, true) {
                desk.note(|| Line::default().flag("canceled", true));
            }
        }
    }

    pub(super) fn set_waker(&self, waker: Option<Waker>) {
        *self.waker() = waker;
        if self.0.canceled.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Adds a line to the transcript, and hands it over.
    pub(super) fn note(&self, line: impl FnOnce() -> Line) {
        self.desk().note(line);
        self.write();
    }

    pub(super) fn note_step(&self, now: Time, step: &Result<Step>) {
        if let Some(transcript) = &mut self.desk().transcript {
            transcript.step(now, step);
        }
        self.write();
    }

    pub(super) fn note_flow(&self, flow: &str, options: Option<Line>) {
        self.note(|| options.unwrap_or_default().text("flow", Some(flow)));
    }

    pub(super) fn signed(&self, id: u64, outcome: Result<Vec<u8>, String>) -> Result<()> {
        self.note(|| {
            let failed = outcome.as_ref().err().map(String::as_str);
            Line::default().number("signed", Some(id as i64)).text("failed", failed)
        });
        let answered = self.desk().answer_signing(id, outcome);
        self.wake();
        answered
    }

    pub(super) fn published(&self, outcome: Result<(), String>) -> Result<()> {
        self.note(|| {
            let failed = outcome.as_ref().err().map(String::as_str);
            Line::default().flag("published", true).text("failed", failed)
        });
        let answered = self.desk().answer_publish(outcome);
        self.wake();
        answered
    }

    pub(super) fn respond_with(&self, n: usize, payload: &[u8]) -> Result<()> {
        let Ok(Value::Object(_)) = serde_json::from_slice(payload) else {
            return Err(Error::invalid_argument("the payload is not a JSON object"));
        };
        self.note(|| {
            let payload = transcript::concealed(payload).unwrap_or_default();
            Line::default().number("respond_with", Some(n as i64)).raw("payload", &payload)
        });
        self.desk().take_payload(n, payload.to_vec())
    }

    /// Hands over what was added to the transcript.
    pub(super) fn write(&self) {
        let lines = self.desk().transcript.as_mut().map(|transcript| transcript.taken());
        transcript::write(lines.unwrap_or_default());
    }

    /// Says that a poll is useful now. No lock is held while the host's waker runs.
    pub(super) fn wake(&self) {
        self.write();
        let waker = self.waker().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flow's side.
impl Io {
    pub(super) fn now(&self) -> Time {
        self.desk().now
    }

    /// A number below `bound` (which is not 0), for jitter; SplitMix64.
    pub(super) fn random(&self, bound: u64) -> u64 {
        let mut desk = self.desk();
        desk.random = desk.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = desk.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Repeats a lost request for longer: more than one request is at stake.
    #[cfg(feature = "http")]
    pub(crate) fn be_patient(&self) {
        self.desk().is_patient = true;
    }

    /// Names where the flow is.
    pub(crate) fn enter(&self, place: &'static str) {
        self.desk().place = place;
    }

    pub(super) fn note_order(&self, url: &str) {
        self.desk().order_url = Some(url.to_owned());
    }

    /// Has the whole flow looked at again in this poll.
    pub(super) fn unsettle(&self) {
        self.desk().unsettled = true;
    }

    /// Awaits an effect: asks `answer` at each poll, until it has one or the operation must end.
    async fn effect<T>(&self, mut answer: impl FnMut(&mut Desk) -> Option<T>) -> Result<T> {
        poll_fn(|_| {
            let mut desk = self.desk();
            if let Some(value) = answer(&mut desk) {
                return Poll::Ready(Ok(value));
            }
            if self.0.canceled.load(Ordering::Relaxed) {
                let why = "the operation was canceled";
                return Poll::Ready(Err(Error::new(ErrorKind::Canceled, why)));
            }
            if let Some(deadline) = desk.deadline.filter(|_| !desk.is_publishing()) {
                if desk.now >= deadline {
                    let limit = desk.time_limit.as_secs();
                    let why = format!("the operation's time limit of {limit} s ran out");
                    return Poll::Ready(Err(Error::new(ErrorKind::Timeout, why)));
                }
                desk.wake_at(deadline);
            }
            Poll::Pending
        })
        .await
    }

    /// Is more at stake than one request: an order, or challenges that are up?
    pub(super) fn is_patient(&self) -> bool {
        let desk = self.desk();
        desk.is_patient || desk.order_url.is_some()
    }

    /// Does the operation's time limit leave more than this?
    pub(super) fn has_time_for(&self, delay: Duration) -> bool {
        let desk = self.desk();
        desk.deadline.is_none_or(|deadline| deadline.since(desk.now) > delay)
    }

    /// Waits for so long.
    pub(crate) async fn sleep(&self, delay: Duration) -> Result<()> {
        let until = self.now().after(delay);
        let awake = |desk: &mut Desk| {
            let over = desk.now >= until;
            if !over {
                desk.wake_at(until);
            }
            over.then_some(())
        };
        self.effect(awake).await
    }

    /// Has a request sent and awaits the answer. "No answer" is [`ErrorKind::Transport`].
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> Result<Response> {
        let asked = self.ask(method, url, headers, body, false);
        self.effect(|desk| desk.take_answer(asked.id)).await?
    }

    /// Has a GET sent if the host finds nothing else to do, unless `needless` gets a value before.
    pub(super) async fn send_spare<T>(
        &self,
        url: Url,
        headers: Vec<(&'static str, String)>,
        mut needless: impl FnMut(Time) -> Option<T>,
    ) -> Result<Result<Response, T>> {
        let asked = self.ask(Method::Get, url, headers, Vec::new(), true);
        self.effect(|desk| match desk.is_said(asked.id) {
            true => desk.take_answer(asked.id).map(|answer| answer.map(Ok)),
            false => needless(desk.now).map(|value| Ok(Err(value))),
        })
        .await?
    }

    fn ask(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        spare: bool,
    ) -> Asked<'_> {
        let id = self.desk().put_request(method, url, headers, body, spare);
        Asked { io: self, id }
    }

    /// The turn to ask for the directory. Where several parts of the flow miss it, one asks, and the
    /// others find it when their turns come.
    pub(super) async fn directory_turn(&self) -> Result<DirectoryTurn<'_>> {
        let is_free = |desk: &mut Desk| !std::mem::replace(&mut desk.asks_directory, true);
        self.effect(|desk| is_free(desk).then_some(())).await?;
        Ok(DirectoryTurn(self))
    }

    /// Has the host sign with a key that is outside the process. The signature is unchecked.
    pub(super) async fn sign(&self, key: &Key, input: &[u8]) -> Result<Vec<u8>> {
        let id = self.desk().put_signing(key, input);
        let asked = Asked { io: self, id };
        let answer = self.effect(|desk| desk.take_signature(asked.id)).await?;
        answer.map_err(|why| {
            let why = format!("the host could not sign: {}", printable(&why, 500));
            Error::new(ErrorKind::Host, why)
        })
    }

    /// Publishes the challenges, runs `body` with what the host wants each to be answered with, and
    /// takes those that do not stay down again on every way out.
    pub(super) async fn with_published<T, F>(
        &self,
        challenges: Arc<[Challenge]>,
        body: impl FnOnce(Vec<Option<Vec<u8>>>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let outcome = async { body(self.publish(challenges.clone()).await?).await };
        let outcome = outcome.await;
        if !self.desk().withdraw_challenges() {
            let passing = match challenges.iter().any(Challenge::is_persistent) {
                true => challenges.iter().filter(|one| !one.is_persistent()).cloned().collect(),
                false => challenges,
            };
            if !passing.is_empty() {
                self.unpublish(passing).await;
            }
        }
        outcome
    }

    async fn publish(&self, challenges: Arc<[Challenge]>) -> Result<Vec<Option<Vec<u8>>>> {
        self.desk().put_challenges(challenges, true);
        let published = self.effect(|desk| {
            let solving = desk.solving.as_mut()?;
            let answer = solving.answer.take()?;
            let payloads = std::mem::take(&mut solving.payloads);
            desk.resume_deadline();
            Some(answer.map(|()| payloads))
        });
        published.await?.map_err(|why| {
            let why = format!("the host could not publish a challenge: {}", printable(&why, 500));
            Error::new(ErrorKind::Host, why)
        })
    }

    /// Not an [`Io::effect`]: neither cancellation nor the deadline may skip it. The host's next
    /// poll is its answer.
    async fn unpublish(&self, challenges: Arc<[Challenge]>) {
        self.desk().put_challenges(challenges, false);
        poll_fn(|_| {
            let mut desk = self.desk();
            if desk.solving.as_ref().is_none_or(|solving| solving.said_at.is_some()) {
                desk.solving = None;
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

pub(super) struct DirectoryTurn<'a>(&'a Io);

impl Drop for DirectoryTurn<'_> {
    fn drop(&mut self) {
        self.0.desk().asks_directory = false;
        self.0.unsettle();
    }
}

/// A request in the books for as long as its answer is awaited.
struct Asked<'a> {
    io: &'a Io,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.io.desk().forget(self.id);
    }
}
