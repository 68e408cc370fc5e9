//! An operation: a flow in progress, which its host polls for the next step.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use super::client::Client;
use super::io::Io;
use super::reply::Reply;
use super::step::{Request, Step};
use super::transcript::Line;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// A flow in progress. May be shared; polled by one thread at a time.
pub struct Operation<T> {
    client: Client,
    io: Io,
    run: Mutex<Run<T>>,
}

type Flow<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

enum Run<T> {
    Going(Flow<T>),
    Done(Option<T>),
    Failed(Error),
}

impl<T> Operation<T> {
    pub(super) fn new<F>(client: Client, io: Io, flow: F) -> Operation<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Operation { client, io, run: Mutex::new(Run::Going(Box::pin(flow))) }
    }

    /// Writes the flow's name and its options to the transcript.
    pub(super) fn record_start(self, flow: &str, options: Option<Line>) -> Operation<T> {
        self.io.note_flow(flow, options);
        self
    }

    /// Returns the same operation with another result: `change` converts it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Operation<U>
    where
        T: Send + 'static,
    {
        let run = match self.run.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Run::Going(flow) => Run::Going(Box::pin(async move { flow.await.map(change) }) as _),
            Run::Done(value) => Run::Done(value.map(change)),
            Run::Failed(error) => Run::Failed(error),
        };
        Operation { client: self.client, io: self.io, run: Mutex::new(run) }
    }

    /// Advances the operation as far as possible at `now` and returns the next step. After a failure
    /// each poll returns the same error.
    pub fn poll(&self, now: Time) -> Result<Step> {
        let mut run = match self.run.try_lock() {
            Ok(run) => run,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Misuse,
                    "the operation is being polled already, by another thread or from a callback",
                ));
            }
            Err(TryLockError::Poisoned(_)) => {
                return Err(Error::new(ErrorKind::Panic, "the operation ended in a bug earlier"));
            }
        };
        let flow = match &mut *run {
            Run::Going(flow) => flow,
            Run::Done(_) => return Ok(Step::Done),
            Run::Failed(error) => return Err(error.clone()),
        };
        self.io.note_cancellation();
        self.io.effects().begin_poll(now);
        let mut context = Context::from_waker(Waker::noop());
        let step = loop {
            match flow.as_mut().poll(&mut context) {
                Poll::Pending if self.io.effects().take_needs_repoll() => {}
                Poll::Pending => break Ok(self.io.effects().next_step()),
                Poll::Ready(Ok(value)) => {
                    *run = Run::Done(Some(value));
                    break Ok(Step::Done);
                }
                Poll::Ready(Err(error)) => {
                    if may_be_for_directory(&error) {
                        self.client.doubt_directory();
                    }
                    *run = Run::Failed(error.clone());
                    break Err(error);
                }
            }
        };
        self.io.note_step(now, &step);
        step
    }

    /// Begins to feed in the response to the request with this id.
    pub fn reply(&self, request_id: u64) -> Reply<'_> {
        Reply::new(&self.io, request_id)
    }

    /// The request with this id, if it was returned as a step and has no response yet.
    pub fn request(&self, id: u64) -> Option<Arc<Request>> {
        self.io.effects().unanswered(id)
    }

    /// Ends [`Step::Sign`]: takes the signature, or the reason why the host cannot sign. An ECDSA signature may
    /// be in DER or in JOSE's form. A wrong signature ends the operation with [`ErrorKind::Crypto`].
    pub fn signed(&self, id: u64, outcome: Result<Vec<u8>, String>) -> Result<()> {
        self.io.signed(id, outcome)
    }

    /// Ends [`Step::Publish`]: all challenges are published, or the reason why not. After a failure the
    /// operation returns [`Step::Unpublish`] and ends with [`ErrorKind::Host`].
    pub fn published(&self, outcome: Result<(), String>) -> Result<()> {
        self.io.published(outcome)
    }

    /// Sets the payload of the response to the n-th challenge, a JSON object (RFC 8555 section 7.5.1).
    /// Call it before [`Operation::published`], for the types whose payload is not an empty object
    /// ([`ChallengeType::takes_payload`]).
    ///
    /// [`ChallengeType::takes_payload`]: super::ChallengeType::takes_payload
    pub fn respond_with(&self, n: usize, payload: &[u8]) -> Result<()> {
        self.io.respond_with(n, payload)
    }

    /// Ends the operation at its next poll, after [`Step::Unpublish`] if challenges are published. Any
    /// thread may call it.
    pub fn cancel(&self) {
        self.io.cancel();
    }

    /// Sets the waker. It is woken, on any thread, when a reply or a cancellation comes in (at once if
    /// the operation has been canceled before): the next poll will then get further. `None` removes the
    /// waker; a new operation has none.
    pub fn set_waker(&self, waker: Option<Waker>) {
        self.io.set_waker(waker);
    }

    /// Host and port of the CA's directory.
    #[cfg(all(feature = "http", unix))]
    pub(crate) fn ca(&self) -> (&str, u16) {
        let directory = self.client.policy().directory();
        (directory.host(), directory.port())
    }

    /// Takes the result after [`Step::Done`]; once.
    pub fn take(&self) -> Option<T> {
        match self.run.try_lock().as_deref_mut() {
            Ok(Run::Done(value)) => value.take(),
            _ => None,
        }
    }

    /// The result after [`Step::Done`]; an error if it was taken before.
    pub(crate) fn result(&self) -> Result<T> {
        let taken = || Error::new(ErrorKind::Misuse, "the result was taken before");
        self.take().ok_or_else(taken)
    }

    /// The state of the flow, in a word: `"directory"`, `"nonce"`, `"account"`, `"order"`,
    /// `"authorization"`, `"publish"`, `"challenge"`, `"unpublish"`, `"finalize"`, `"certificate"`,
    /// `"revocation"`, `"key-change"`, `"renewal-info"`, `"order-list"`.
    pub fn state(&self) -> &'static str {
        self.io.effects().state()
    }

    /// The order's URL, to resume it after a restart; `None` before there is one.
    pub fn order_url(&self) -> Option<String> {
        self.io.effects().order_url.clone()
    }
}

/// Whether the directory may be the cause of the failure. The next operation then fetches it again, so
/// that one wrong response does not make the client useless.
fn may_be_for_directory(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::EabRequired
            | ErrorKind::Policy
            | ErrorKind::Protocol
            | ErrorKind::Terms
            | ErrorKind::Unsupported
    )
}
