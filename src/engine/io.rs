//! How a flow waits for its host. Each *effect* that a flow awaits here is a [`Step`] for the host.
//!
//! # Theory of operation
//!
//! **Parts.** A flow is an `async fn`. [`Operation`] owns its future and polls it by hand. [`Effects`] is
//! the plain data between the flow and the host. `Io` is the handle to it that both sides have.
//!
//! **A poll.** [`Operation::poll`] sets the time and polls the future. Each part of the flow that waits
//! (a flow can have several, see `join.rs`) checks whether its reply is there, and if not, adds its
//! effect, or has added it before. When the future is pending, the poll issues the first effect that
//! the host does not have yet. If the host has all of them, the step is `Wait` until the earliest time
//! that a part waits for. An effect is issued once; the next poll issues the next one.
//!
//! **Polled again.** The futures ignore their wakers: the host's next poll polls the whole flow. Within a
//! poll, a later part can produce something that an earlier part needs: a nonce, or the turn to fetch
//! the directory. The later part then calls [`Io::request_repoll`], and the flow is polled once more
//! before a step is issued. Otherwise the host would be told to wait although a request is ready.
//!
//! **Spare requests.** Each signed request needs a nonce, and each response brings one. A part without a
//! nonce adds a *spare* newNonce request. It is issued only when the host has nothing else to send and
//! polls again while other requests are in flight. If a nonce comes first, the spare request is dropped.
//! So a host that sends one request at a time pays for no extra nonces, and one that can send several
//! gets them. After a failed spare request, the next one waits until `Effects::spare_after`.
//!
//! **The end.** [`Io::effect`] is the one place that checks cancellation and the deadline. Every wait of a
//! flow goes through it, except `unpublish`: published challenges are removed on every way out.
//!
//! **Locks.** There are two: of the effects and of the waker. Each is held for a few lines, never both,
//! and no code of the program runs meanwhile: the waker and the log are called without locks. While the
//! effects are locked, no other lock is taken but the nonce pool's ([`Io::send_spare`]). `cancel` may be
//! called by a signal handler, so it waits for no lock (it only *tries* the waker's). One statement must
//! not contain two of `effects()`, `now()`, `random()`, ...: a temporary guard lives until the end of its
//! statement, so the second would wait for the first forever.
//!
//! [`Step`]: super::Step
//! [`Operation`]: super::Operation
//! [`Operation::poll`]: super::Operation::poll

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use super::challenge::Challenge;
use super::effects::Effects;
use super::limits::STORE_PATIENCE;
use super::response::Response;
use super::step::{Method, Step};
use super::store_access::{Action, Answer, StoreAccess};
use super::transcript::{self, Line};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::store::Store;
use crate::text::printable;
use crate::time::Time;
use crate::url::Url;

/// The handle to the effects of one operation. Clones share them.
#[derive(Clone)]
pub(crate) struct Io(Arc<Shared>);

struct Shared {
    canceled: AtomicBool,
    waker: Mutex<Option<Waker>>,
    effects: Mutex<Effects>,
}

impl Io {
    pub(super) fn new(timeout: Duration, seed: u64) -> Io {
        let effects = Mutex::new(Effects::new(timeout, seed));
        Io(Arc::new(Shared { canceled: AtomicBool::new(false), waker: Mutex::new(None), effects }))
    }

    pub(super) fn effects(&self) -> MutexGuard<'_, Effects> {
        // No code that holds this lock can panic between two changes that belong together.
        self.0.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Async-signal-safe: waits for no lock. If another thread holds the waker's lock, that thread checks
    /// `canceled` afterwards ([`Io::set_waker`]) or wakes the host anyway ([`Io::wake`]).
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
            let mut effects = self.effects();
            if !std::mem::replace(&mut effects.cancellation_is_noted, true) {
                effects.note(|| Line::default().flag("canceled", true));
            }
        }
    }

    pub(super) fn set_waker(&self, waker: Option<Waker>) {
        *self.waker() = waker;
        if self.0.canceled.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Adds a line to the transcript, and writes it to the log.
    pub(super) fn note(&self, line: impl FnOnce() -> Line) {
        self.effects().note(line);
        self.write();
    }

    pub(super) fn note_step(&self, now: Time, step: &Result<Step>) {
        if let Some(transcript) = &mut self.effects().transcript {
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
        let taken = self.effects().end_signing(id, outcome);
        self.wake();
        taken
    }

    pub(super) fn published(&self, outcome: Result<(), String>) -> Result<()> {
        self.note(|| {
            let failed = outcome.as_ref().err().map(String::as_str);
            Line::default().flag("published", true).text("failed", failed)
        });
        let taken = self.effects().end_publish(outcome);
        self.wake();
        taken
    }

    pub(super) fn respond_with(&self, n: usize, payload: &[u8]) -> Result<()> {
        let Ok(Value::Object(_)) = serde_json::from_slice(payload) else {
            return Err(Error::invalid_argument("the payload is not a JSON object"));
        };
        self.note(|| {
            let payload = transcript::concealed(payload).unwrap_or_default();
            Line::default().number("respond_with", Some(n as i64)).raw("payload", &payload)
        });
        self.effects().take_payload(n, payload.to_vec())
    }

    /// Writes the new lines of the transcript to the log.
    pub(super) fn write(&self) {
        let lines = self.effects().transcript.as_mut().map(|transcript| transcript.taken());
        transcript::write(lines.unwrap_or_default());
    }

    /// Wakes the host: a poll is useful now. No lock is held while its waker runs.
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
        self.effects().now
    }

    /// A number below `bound` (which is not 0), for jitter; SplitMix64.
    pub(super) fn random(&self, bound: u64) -> u64 {
        let mut effects = self.effects();
        effects.random = effects.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = effects.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Makes retries go on for longer: more than one request is at stake.
    #[cfg(feature = "http")]
    pub(crate) fn be_patient(&self) {
        self.effects().is_patient = true;
    }

    /// Sets the public state.
    pub(crate) fn set_state(&self, state: &'static str) {
        self.effects().state = state;
    }

    pub(super) fn note_order(&self, url: &str) {
        self.effects().order_url = Some(url.to_owned());
    }

    /// Has the whole flow polled once more in this poll.
    pub(super) fn request_repoll(&self) {
        self.effects().needs_repoll = true;
    }

    /// Awaits an effect: calls `ready` at each poll until it returns a value, or the operation must end.
    async fn effect<T>(&self, mut ready: impl FnMut(&mut Effects) -> Option<T>) -> Result<T> {
        poll_fn(|_| {
            let mut effects = self.effects();
            if let Some(value) = ready(&mut effects) {
                return Poll::Ready(Ok(value));
            }
            if self.0.canceled.load(Ordering::Relaxed) {
                let why = "the operation was canceled";
                return Poll::Ready(Err(Error::new(ErrorKind::Canceled, why)));
            }
            if let Some(deadline) = effects.deadline.filter(|_| !effects.is_publishing()) {
                if effects.now >= deadline {
                    let limit = effects.timeout.as_secs();
                    let why = format!("the operation's time limit of {limit} s ran out");
                    return Poll::Ready(Err(Error::new(ErrorKind::Timeout, why)));
                }
                effects.wake_at(deadline);
            }
            Poll::Pending
        })
        .await
    }

    /// Whether retries go on for longer: there is an order, or challenges are published.
    pub(super) fn is_patient(&self) -> bool {
        let effects = self.effects();
        effects.is_patient || effects.order_url.is_some()
    }

    /// Whether more time than this is left before the deadline.
    pub(super) fn has_time_for(&self, delay: Duration) -> bool {
        let effects = self.effects();
        effects.deadline.is_none_or(|deadline| deadline.since(effects.now) > delay)
    }

    /// Waits for this long.
    pub(crate) async fn sleep(&self, delay: Duration) -> Result<()> {
        let until = self.now().after(delay);
        let awake = |effects: &mut Effects| {
            let over = effects.now >= until;
            if !over {
                effects.wake_at(until);
            }
            over.then_some(())
        };
        self.effect(awake).await
    }

    /// Sends a request by the host and awaits the response. Without one the error is
    /// [`ErrorKind::Transport`].
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> Result<Response> {
        let awaited = self.queue_request(method, url, headers, body, false);
        self.effect(|effects| effects.take_response(awaited.id)).await?
    }

    /// Sends a spare GET, unless `needless` returns a value before the request is issued.
    pub(super) async fn send_spare<T>(
        &self,
        url: Url,
        headers: Vec<(&'static str, String)>,
        mut needless: impl FnMut(Time) -> Option<T>,
    ) -> Result<Result<Response, T>> {
        let awaited = self.queue_request(Method::Get, url, headers, Vec::new(), true);
        self.effect(|effects| match effects.is_issued(awaited.id) {
            true => effects.take_response(awaited.id).map(|response| response.map(Ok)),
            false => needless(effects.now).map(|value| Ok(Err(value))),
        })
        .await?
    }

    fn queue_request(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        spare: bool,
    ) -> Awaited<'_> {
        let id = self.effects().add_request(method, url, headers, body, spare);
        Awaited { io: self, id }
    }

    /// Waits for the turn to fetch the directory. When several parts of the flow lack it, one fetches
    /// it, and the others find it when their turns come.
    pub(super) async fn directory_turn(&self) -> Result<DirectoryTurn<'_>> {
        let is_free =
            |effects: &mut Effects| !std::mem::replace(&mut effects.fetches_directory, true);
        self.effect(|effects| is_free(effects).then_some(())).await?;
        Ok(DirectoryTurn(self))
    }

    /// Signs by the host, with a key that is outside the process. The signature is unchecked.
    pub(super) async fn sign(&self, key: &Key, input: &[u8]) -> Result<Vec<u8>> {
        let id = self.effects().add_signing(key, input);
        let awaited = Awaited { io: self, id };
        let signature = self.effect(|effects| effects.take_signature(awaited.id)).await?;
        signature.map_err(|why| {
            let why = format!("the host could not sign: {}", printable(&why, 500));
            Error::new(ErrorKind::Host, why)
        })
    }

    /// Accesses a record by the host. Neither cancellation nor the deadline ends a write: the store has
    /// [`STORE_PATIENCE`] to answer.
    pub(super) async fn access(
        &self,
        store: &Arc<dyn Store>,
        record: &str,
        action: Action,
    ) -> Result<Answer> {
        let is_write = matches!(action, Action::Put(..));
        let io = self.clone();
        let access = StoreAccess::new(store.clone(), record, action, move || io.wake());
        let access = Arc::new(access);
        self.effects().add_access(access.clone());
        let awaited = AwaitedAccess { io: self, access };
        if !is_write {
            return self.effect(|_| awaited.access.take()).await?;
        }
        let until = self.now().after(STORE_PATIENCE);
        poll_fn(|_| {
            if let Some(answer) = awaited.access.take() {
                return Poll::Ready(answer);
            }
            let mut effects = self.effects();
            if effects.now >= until {
                let why = format!("the store has not answered for {} s", STORE_PATIENCE.as_secs());
                return Poll::Ready(Err(Error::new(ErrorKind::Store, why)));
            }
            effects.wake_at(until);
            Poll::Pending
        })
        .await
    }

    /// Publishes the challenges, runs `body` with the payloads that the host gives for them, and removes
    /// the challenges on every way out, except persistent ones.
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
        if !self.effects().withdraw_challenges() {
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
        self.effects().add_challenges(challenges, true);
        let published = self.effect(|effects| {
            let solving = effects.solving.as_mut()?;
            let outcome = solving.outcome.take()?;
            let payloads = std::mem::take(&mut solving.payloads);
            effects.resume_deadline();
            Some(outcome.map(|()| payloads))
        });
        published.await?.map_err(|why| {
            let why = format!("the host could not publish a challenge: {}", printable(&why, 500));
            Error::new(ErrorKind::Host, why)
        })
    }

    /// Removes challenges. Not an [`Io::effect`]: neither cancellation nor the deadline may skip it. The
    /// host's next poll means that it has removed them.
    pub(super) async fn unpublish(&self, challenges: Arc<[Challenge]>) {
        self.effects().add_challenges(challenges, false);
        poll_fn(|_| {
            let mut effects = self.effects();
            if effects.solving.as_ref().is_none_or(|solving| solving.issued_at.is_some()) {
                effects.solving = None;
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

/// The turn to fetch the directory; it ends when this is dropped.
pub(super) struct DirectoryTurn<'a>(&'a Io);

impl Drop for DirectoryTurn<'_> {
    fn drop(&mut self) {
        self.0.effects().fetches_directory = false;
        self.0.request_repoll();
    }
}

/// An access to a store that is awaited. Dropping this removes it from the effects.
struct AwaitedAccess<'a> {
    io: &'a Io,
    access: Arc<StoreAccess>,
}

impl Drop for AwaitedAccess<'_> {
    fn drop(&mut self) {
        self.io.effects().forget_access(&self.access);
    }
}

/// A request or a signature that is awaited. Dropping this removes it from the effects.
struct Awaited<'a> {
    io: &'a Io,
    id: u64,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.io.effects().forget(self.id);
    }
}
