//! An operation: a flow in progress, and what it asks of its host.

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

    /// Says in the transcript which flow this is, and with what options.
    pub(super) fn record_start(self, flow: &str, options: Option<Line>) -> Operation<T> {
        self.io.note_flow(flow, options);
        self
    }

    /// The same operation with another result.
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

    /// Advances the operation as far as it goes at `now` and tells the next step. Once it has
    /// failed, each poll gives the same error.
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

    /// The answer to the request with this id, to be fed in.
    pub fn reply(&self, request_id: u64) -> Reply<'_> {
        Reply::new(&self.io, request_id)
    }

    /// A request that has been given out and not been answered.
    pub fn request(&self, id: u64) -> Option<Arc<Request>> {
        self.io.effects().unanswered(id)
    }

    /// Answers [`Step::Sign`]: the signature, or why there is none. ECDSA signatures may be in DER
    /// or in JOSE's form; a wrong one ends the operation with
    /// [`ErrorKind::Crypto`].
    pub fn signed(&self, id: u64, outcome: Result<Vec<u8>, String>) -> Result<()> {
        self.io.signed(id, outcome)
    }

    /// Answers [`Step::Publish`]: every challenge is in place, or why not. The operation then ends
    /// with [`ErrorKind::Host`], by way of [`Step::Unpublish`].
    pub fn published(&self, outcome: Result<(), String>) -> Result<()> {
        self.io.published(outcome)
    }

    /// Before [`Operation::published`]: what the n-th challenge is answered with, a JSON object (RFC
    /// 8555 section 7.5.1). For the types that want more than an empty one
    /// ([`ChallengeType::takes_payload`]).
    ///
    /// [`ChallengeType::takes_payload`]: super::ChallengeType::takes_payload
    pub fn respond_with(&self, n: usize, payload: &[u8]) -> Result<()> {
        self.io.respond_with(n, payload)
    }

    /// Ends the operation at its next poll, by way of [`Step::Unpublish`] if need be. Any thread.
    pub fn cancel(&self) {
        self.io.cancel();
    }

    /// Has `waker` woken, on whatever thread, whenever an answer or a cancellation comes in (at
    /// once when it has been canceled before): the next poll will then get further. `None`: nobody
    /// is woken, as at first.
    pub fn set_waker(&self, waker: Option<Waker>) {
        self.io.set_waker(waker);
    }

    /// Host and port of the CA's directory.
    #[cfg(all(feature = "http", unix))]
    pub(crate) fn ca(&self) -> (&str, u16) {
        let directory = self.client.policy().directory();
        (directory.host(), directory.port())
    }

    /// The result, once, after [`Step::Done`].
    pub fn take(&self) -> Option<T> {
        match self.run.try_lock().as_deref_mut() {
            Ok(Run::Done(value)) => value.take(),
            _ => None,
        }
    }

    /// Where the flow is, in a word: `"directory"`, `"nonce"`, `"account"`, `"order"`,
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

/// Such a failure may lie in what the directory says: the next operation asks for it anew, lest one
/// false answer spoil a client for good.
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
