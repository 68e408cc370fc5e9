//! Operations: polling, steps, challenges, signatures. Responses are in `op_response.rs`, results
//! in `op_result.rs`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{from_ref, null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use safer_ffi::derive_ReprC;

use super::cert::{CertState, OwnedKey};
use super::client::ClientState;
use super::convert::{bytes, c_text, check_pointer, optional_text, pointer_to};
use super::error::acme_error_t;
use super::guard::{catch, fail, guard};
use super::handle::{borrow, handle, peek, release};
use super::http_client::BuiltInHttp;
use super::outcome::Outcome;
use super::status::acme_status_t;
use super::types::{
    acme_challenge_t, acme_http_request_t, acme_op_t, acme_sign_request_t, acme_time_t,
};
use super::views::{ChallengeView, RenewalInfoView, RequestView, SignRequestView};
use crate::clock::SteadyClock;
use crate::engine::{Challenge, Operation, Request, Step, StoreAccess, ToSign, Tried};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::time::Time;

handle!(acme_op_t, OpState, b"acme__op");

/// The next step of an operation, from acme_op_poll().
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_step_t {
    /// Finished with success: take the result, free the operation.
    ACME_STEP_DONE = 0,
    /// Send acme_op_request(), pass the response to acme_op_response_*(), poll again. Returned once
    /// for each request; more requests may follow before the response.
    ACME_STEP_REQUEST = 1,
    /// Wait for acme_op_wait_ms() milliseconds. Polling earlier does no harm.
    ACME_STEP_WAIT = 2,
    /// Publish each acme_op_challenge(), call acme_op_published() when all are in place, poll.
    /// Returned once.
    ACME_STEP_PUBLISH = 3,
    /// Remove the same challenges, poll. Returned once, before success and failure alike.
    ACME_STEP_UNPUBLISH = 4,
    /// Sign acme_op_sign_request() with the key that is outside the process, pass the signature to
    /// acme_op_signed(), poll. Returned once for each signature.
    ACME_STEP_SIGN = 5,
    /// Call acme_op_access_store(), on any thread, and poll. It may block. Only operations of a
    /// client with a store have this step.
    ACME_STEP_STORE = 6,
}

use acme_step_t::*;

/// Called with the result of an attempt of a manager; dropped if the attempt is freed before its end.
pub(super) type Report = Box<dyn FnOnce(Result<Tried>) + Send>;

/// An operation of any kind, with the views that C has of it.
pub struct OpState {
    pub(super) operation: Arc<Operation<Outcome>>,
    pub(super) http: BuiltInHttp,
    pub(super) key: Option<OwnedKey>,
    /// acme_op_run() or a driver runs the operation: other calls may not poll, run or free it.
    running: AtomicBool,
    user: AtomicPtr<c_void>,
    clock: OnceLock<SteadyClock>,
    views: Mutex<Views>,
}

#[derive(Default)]
pub(super) struct Views {
    request: Option<Box<RequestView>>,
    /// Replaced as a whole, so that the pointers that C has stay valid.
    challenges: Vec<ChallengeView>,
    /// Views of challenges from before, which another thread may be reading.
    earlier_challenges: Vec<Vec<ChallengeView>>,
    wait_ms: i64,
    to_sign: Option<Box<SignRequestView>>,
    access: Option<Arc<StoreAccess>>,
    /// Why the certificate is not in the store.
    not_stored: Option<Error>,
    order_url: Option<CString>,
    error: Option<Box<acme_error_t>>,
    cert: Option<CertState>,
    pub(super) renewal_info: Option<Box<RenewalInfoView>>,
    pub(super) urls: Vec<CString>,
    /// For an attempt that the program carries out.
    pub(super) report: Option<Report>,
}

impl OpState {
    pub(super) fn begin(
        client: &ClientState,
        operation: Operation<Outcome>,
        key: Option<Key>,
    ) -> OpState {
        OpState {
            operation: Arc::new(operation),
            http: client.http.clone(),
            key: key.map(OwnedKey::new),
            running: AtomicBool::new(false),
            user: AtomicPtr::new(null_mut()),
            clock: OnceLock::new(),
            views: Mutex::new(Views::default()),
        }
    }

    pub(super) fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the challenges that acme_op_challenge() returns until the next ones.
    pub(super) fn set_challenges(&self, challenges: &[Challenge]) {
        self.views().challenges = challenges.iter().map(ChallengeView::new).collect();
    }

    /// Sets the challenges to remove, unless they are those that were set to be published: the challenges of an
    /// earlier run, for instance.
    pub(super) fn set_challenges_to_remove(&self, challenges: &[Challenge]) {
        let mut views = self.views();
        let new: Vec<_> = challenges.iter().map(ChallengeView::new).collect();
        let is_set = |one: &ChallengeView| views.challenges.iter().any(|c| c.texts == one.texts);
        if !new.iter().all(is_set) {
            let earlier = std::mem::replace(&mut views.challenges, new);
            views.earlier_challenges.push(earlier);
        }
    }

    pub(super) fn set_request(&self, request: &Arc<Request>) -> *const acme_http_request_t {
        let request = Box::new(RequestView::new(request));
        let pointer = from_ref(&request.c);
        self.views().request = Some(request);
        pointer
    }

    pub(super) fn set_sign_request(&self, to_sign: &Arc<ToSign>) -> *const acme_sign_request_t {
        let to_sign = Box::new(SignRequestView::new(to_sign));
        let pointer = from_ref(&to_sign.c);
        self.views().to_sign = Some(to_sign);
        pointer
    }

    /// Takes the result. A certificate that could not be stored is there, although the operation has failed.
    fn take_result(&self) -> Result<()> {
        let mut views = self.views();
        match self.operation.take() {
            Some(Outcome::Kept(kept)) => {
                views.cert = Some(CertState::new(kept.chain, Some(kept.key)));
                let info = kept.not_due.as_ref().map(RenewalInfoView::new);
                views.renewal_info = info.map(Box::new);
                views.not_stored = kept.stored.err();
            }
            Some(Outcome::Certificate(issued)) => {
                views.cert = Some(CertState::new(issued.chain, issued.key));
            }
            Some(Outcome::RenewalInfo(info)) => {
                views.renewal_info = Some(Box::new(RenewalInfoView::new(&info)));
            }
            Some(Outcome::Urls(urls)) => views.urls = urls.iter().map(c_text).collect(),
            Some(Outcome::Tried(tried)) => {
                drop(views);
                self.report(Ok(*tried));
                return Ok(());
            }
            Some(Outcome::Done) | None => {}
        }
        views.not_stored.clone().map_or(Ok(()), Err)
    }

    /// Tells the manager of an attempt how it has ended. Holds no lock of this operation meanwhile.
    fn report(&self, outcome: Result<Tried>) {
        let report = self.views().report.take();
        if let Some(report) = report {
            report(outcome);
        }
    }

    pub(super) fn take_outcome(&self) -> Option<Outcome> {
        self.operation.take()
    }

    pub(super) fn take_access(&self) -> Option<Arc<StoreAccess>> {
        self.views().access.take()
    }

    pub(super) fn take_cert(&self) -> Option<CertState> {
        self.views().cert.take()
    }

    fn store_error(&self, error: &Error) {
        if error.kind() == ErrorKind::Misuse {
            return;
        }
        self.views().error.get_or_insert_with(|| Box::new(acme_error_t::new(error.clone())));
        self.report(Err(error.clone()));
    }

    pub(super) fn challenge(&self, index: usize) -> *const acme_challenge_t {
        self.views().challenges.get(index).map_or(null(), |challenge| from_ref(&challenge.c))
    }

    /// Returns the order's URL; NULL before the CA has created the order.
    pub(super) fn order_url(&self) -> *const c_char {
        let url = self.operation.order_url().map(c_text);
        let mut views = self.views();
        if views.order_url != url {
            views.order_url = url;
        }
        pointer_to(views.order_url.as_ref())
    }

    /// Stores the result of the operation, or why it failed.
    pub(super) fn store_outcome(&self, outcome: Result<()>) -> Result<()> {
        outcome.and_then(|()| self.take_result()).inspect_err(|error| self.store_error(error))
    }

    /// Reserves the operation for the caller: until `release()`, other calls may not poll, run or
    /// free it.
    pub(super) fn acquire(&self) -> Result<()> {
        match self.running.swap(true, Ordering::AcqRel) {
            true => Err(busy()),
            false => Ok(()),
        }
    }

    pub(super) fn release(&self) {
        self.running.store(false, Ordering::Release);
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    fn step(&self, now: acme_time_t) -> Result<acme_step_t> {
        if self.is_running() {
            return Err(busy());
        }
        // Views are valid until the next poll. With thousands of operations they take the most
        // memory.
        let request = std::mem::take(&mut self.views().request);
        drop((request, std::mem::take(&mut self.views().to_sign)));
        let now = match now {
            0 => self.clock.get_or_init(SteadyClock::new).now(),
            now => Time::from_millis(now),
        };
        match self.operation.poll(now)? {
            Step::Request(request) => {
                self.set_request(&request);
                Ok(ACME_STEP_REQUEST)
            }
            Step::Sign(to_sign) => {
                self.set_sign_request(&to_sign);
                Ok(ACME_STEP_SIGN)
            }
            Step::Wait(delay) => {
                let clamp =
                    |d: Duration| i64::from(i32::try_from(d.as_millis()).unwrap_or(i32::MAX));
                self.views().wait_ms = delay.map_or(-1, clamp);
                Ok(ACME_STEP_WAIT)
            }
            Step::Publish(challenges) => {
                self.set_challenges(&challenges);
                Ok(ACME_STEP_PUBLISH)
            }
            Step::Unpublish(challenges) => {
                self.set_challenges(&challenges);
                Ok(ACME_STEP_UNPUBLISH)
            }
            Step::Store(access) => {
                self.views().access = Some(access);
                Ok(ACME_STEP_STORE)
            }
            Step::Done => {
                self.take_result()?;
                Ok(ACME_STEP_DONE)
            }
        }
    }
}

fn busy() -> Error {
    let why = "acme_op_run() or a driver is running the operation";
    Error::new(ErrorKind::Misuse, why)
}

/// Advances the operation and returns the next step. > 0: an ACME_STEP_* for the caller to do. 0:
/// done. < 0: failed with that ACME_ERR_*; see acme_op_error(). With now = 0 the library reads the
/// system clock at the first such poll only, and measures the time from there: setting the clock
/// does no harm.
/// @param op The operation. One thread at a time.
/// @param now Milliseconds since 1970, or 0. A time before that of the last poll counts as that
///   time.
/// @return An ACME_STEP_* value, 0 (ACME_STEP_DONE) among them, or a negative ACME_ERR_* value;
///   ACME_ERR_MISUSE while acme_op_run() or a driver runs the operation, which does not end it.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_op_poll(op: *mut acme_op_t, now: acme_time_t) -> c_int {
    let mut step = ACME_STEP_WAIT;
    let status = guard(|| {
        let op: &OpState = borrow(op, "op")?;
        step = catch(|| op.step(now)).inspect_err(|error| op.store_error(error))?;
        Ok(())
    });
    if status == acme_status_t::ACME_OK { step as c_int } else { status as c_int }
}

/// Returns the request to send, at ACME_STEP_REQUEST. Keep its id for the response.
/// @param op The operation.
/// @return Borrowed, until the next poll; NULL after any other step.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_request(op: *const acme_op_t) -> *const acme_http_request_t {
    let pointer = |op: &OpState| op.views().request.as_ref().map(|r| from_ref(&r.c));
    peek(op).and_then(pointer).unwrap_or(null())
}

/// Returns the time from a poll that returned ACME_STEP_WAIT to the next useful poll, in
/// milliseconds, at most 2147483647; -1: not before a response, a signature or acme_op_published()
/// arrives.
/// @param op The operation.
/// @return Milliseconds, 0 to 2147483647, or -1; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_wait_ms(op: *const acme_op_t) -> i64 {
    peek(op).map_or(0, |op: &OpState| op.views().wait_ms)
}

/// Returns the index-th challenge, at ACME_STEP_PUBLISH and ACME_STEP_UNPUBLISH; NULL past the end.
/// @param op The operation.
/// @param index From 0.
/// @return Borrowed, until the next poll or, while a driver runs the operation, until done; NULL
///   past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_challenge(op: *const acme_op_t, index: usize) -> *const acme_challenge_t {
    peek(op).map_or(null(), |op: &OpState| op.challenge(index))
}

/// Sets the payload of the response to a challenge (RFC 8555 section 7.5.1), before
/// acme_op_published(), for the types that need one: "onion-csr-01" (RFC 9799) and
/// "device-attest-01".
/// @param op The operation.
/// @param challenge A pointer from acme_op_challenge(); a copy of the struct is refused.
/// @param json The payload, a JSON object; copied.
/// @param size Number of bytes.
/// @return ACME_OK; ACME_ERR_MISUSE: op has no such challenge now, is not publishing, or the type
///   has no payload; ACME_ERR_INVALID_ARGUMENT: json is not a JSON object.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_respond_with(
    op: *mut acme_op_t,
    challenge: *const acme_challenge_t,
    json: *const c_void,
    size: usize,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        check_pointer(challenge, "challenge")?;
        let json = bytes(json, size, "json")?;
        let position = |views: &Views| {
            views.challenges.iter().position(|one| std::ptr::eq(&raw const one.c, challenge))
        };
        let index = position(&op.views()).ok_or_else(|| {
            Error::new(ErrorKind::Misuse, "challenge is not one that op shows right now")
        })?;
        op.operation.respond_with(index, json)
    })
}

/// Reports that every challenge is in place, or that publishing failed. After a failure the next
/// step is ACME_STEP_UNPUBLISH; then the operation ends with ACME_ERR_HOST. While a driver runs op,
/// any thread may call this.
/// @param op The operation.
/// @param failure NULL: all are in place. Else the reason, for the message of the error; copied.
/// @return ACME_OK; ACME_ERR_MISUSE: the operation is not publishing.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_published(op: *mut acme_op_t, failure: *const c_char) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let failure = optional_text(failure, "failure")?;
        op.operation.published(failure.map_or(Ok(()), |why| Err(why.to_owned())))
    })
}

/// Cancels the operation: it ends at its next poll, after ACME_STEP_UNPUBLISH if challenges are
/// published. Any thread and any signal handler may call this: the function takes no lock and
/// allocates nothing.
/// @param op The operation, which must not be freed meanwhile; NULL is fine. An operation that has
///   ended does not change.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_cancel(op: *const acme_op_t) {
    if let Some(op) = peek(op) {
        op.operation.cancel();
    }
}

/// Returns the error of a failed operation; NULL before and without a failure.
/// @param op The operation.
/// @return Borrowed, until op is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_error(op: *const acme_op_t) -> *const acme_error_t {
    let pointer = |op: &OpState| op.views().error.as_deref().map(from_ref);
    peek(op).and_then(pointer).unwrap_or(null())
}

/// Returns the operation's state as one word, for a status page: "new", "directory", "nonce",
/// "account", "order", "authorization", "publish", "challenge", "unpublish", "finalize",
/// "certificate", "revocation", "key-change", "renewal-info", "order-list". Static text.
/// @param op The operation.
/// @return Static text; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_state(op: *const acme_op_t) -> *const c_char {
    const STATES: [&std::ffi::CStr; 15] = [
        c"new",
        c"directory",
        c"nonce",
        c"account",
        c"order",
        c"authorization",
        c"publish",
        c"challenge",
        c"unpublish",
        c"finalize",
        c"certificate",
        c"revocation",
        c"key-change",
        c"renewal-info",
        c"order-list",
    ];
    let Some(op) = peek(op) else { return null() };
    let state = op.operation.state().as_bytes();
    STATES.iter().find(|text| text.to_bytes() == state).map_or(null(), |text| text.as_ptr())
}

/// Returns what to sign, at ACME_STEP_SIGN. Keep its id for acme_op_signed().
/// @param op The operation.
/// @return Borrowed, until the next poll; NULL after any other step.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_sign_request(op: *const acme_op_t) -> *const acme_sign_request_t {
    let pointer = |op: &OpState| op.views().to_sign.as_ref().map(|s| from_ref(&s.c));
    peek(op).and_then(pointer).unwrap_or(null())
}

/// Passes the signature for acme_op_sign_request() to the operation: ECDSA in DER, or the two
/// integers in full width. A wrong signature ends the operation with ACME_ERR_CRYPTO. While a
/// driver runs op, any thread may call this.
/// @param op The operation.
/// @param sign_id The id of the acme_sign_request_t.
/// @param signature The signature's bytes; copied.
/// @param size Size of signature in bytes.
/// @return ACME_OK; ACME_ERR_MISUSE: the operation needs no such signature.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_signed(
    op: *mut acme_op_t,
    sign_id: u64,
    signature: *const c_void,
    size: usize,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let signature = bytes(signature, size, "signature")?;
        op.operation.signed(sign_id, Ok(signature.to_vec()))
    })
}

/// Reports that signing failed: the operation ends with ACME_ERR_HOST. While a driver runs op, any
/// thread may call this.
/// @param op The operation.
/// @param sign_id The id of the acme_sign_request_t.
/// @param why Reason, for the message of the error; copied. NULL: unknown.
/// @return ACME_OK; ACME_ERR_MISUSE: the operation needs no such signature.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_sign_failed(
    op: *mut acme_op_t,
    sign_id: u64,
    why: *const c_char,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let why = optional_text(why, "why")?.unwrap_or("unknown reason");
        op.operation.signed(sign_id, Err(why.to_owned()))
    })
}

/// Sets a pointer of the caller's, which stays with the operation.
/// @param op The operation; NULL is fine.
/// @param user The pointer; may be NULL. The library never reads through it.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_set_user_data(op: *mut acme_op_t, user: *mut c_void) {
    if let Some(op) = peek(op) {
        op.user.store(user, Ordering::Release);
    }
}

/// Returns the pointer set by acme_op_set_user_data(); NULL at first.
/// @param op The operation.
/// @return The pointer, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_user_data(op: *const acme_op_t) -> *mut c_void {
    peek(op).map_or(null_mut(), |op| op.user.load(Ordering::Acquire))
}

/// Frees the operation, at any time. Challenges that are still published are the caller's to
/// remove. While acme_op_run() or a driver runs the operation, this function only sets
/// ACME_ERR_MISUSE.
/// @param op The operation; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_free(op: *mut acme_op_t) {
    if peek(op).is_some_and(OpState::is_running) {
        fail(busy());
        return;
    }
    release(op);
}
