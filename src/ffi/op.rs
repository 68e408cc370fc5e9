//! Operations: begin, poll, answer.

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
use crate::engine::{Challenge, Operation, Request, Step, ToSign};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::time::Time;

handle!(acme_op_t, OpState, b"acme__op");

/// What acme_op_poll() asks of you.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_step_t {
    /// Finished well: take the result, free the operation.
    ACME_STEP_DONE = 0,
    /// Send acme_op_request(), feed the answer to acme_op_response_*(), poll again. Said once a
    /// request; more may come before it is answered.
    ACME_STEP_REQUEST = 1,
    /// Nothing to do for acme_op_wait_ms() milliseconds. Polling earlier does no harm.
    ACME_STEP_WAIT = 2,
    /// Publish each acme_op_challenge(), call acme_op_published() when all are in place, poll.
    /// Said once.
    ACME_STEP_PUBLISH = 3,
    /// Take the same challenges down, poll. Said once, before success and failure alike.
    ACME_STEP_UNPUBLISH = 4,
    /// Sign acme_op_sign_request() with the key that is outside the process, answer with
    /// acme_op_signed(), poll. Said once a signature.
    ACME_STEP_SIGN = 5,
}

use acme_step_t::*;

/// An operation of any kind, and what it shows right now.
pub struct OpState {
    pub(super) operation: Arc<Operation<Outcome>>,
    pub(super) http: BuiltInHttp,
    pub(super) key: Option<OwnedKey>,
    /// acme_op_run() or a driver has it in hand: nobody else may poll, run or free it.
    running: AtomicBool,
    user: AtomicPtr<c_void>,
    clock: OnceLock<SteadyClock>,
    views: Mutex<Views>,
}

#[derive(Default)]
pub(super) struct Views {
    request: Option<Box<RequestView>>,
    /// Replaced as a whole: what C points into stays where it is.
    challenges: Vec<ChallengeView>,
    wait_ms: i64,
    to_sign: Option<Box<SignRequestView>>,
    order_url: Option<CString>,
    error: Option<Box<acme_error_t>>,
    cert: Option<CertState>,
    pub(super) renewal_info: Option<Box<RenewalInfoView>>,
    pub(super) urls: Vec<CString>,
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

    /// Shows challenges; they stay for acme_op_challenge() until the next ones.
    pub(super) fn set_challenges(&self, challenges: &[Challenge]) {
        self.views().challenges = challenges.iter().map(ChallengeView::new).collect();
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

    fn store_result(&self) {
        let mut views = self.views();
        match self.operation.take() {
            Some(Outcome::Certificate(issued)) => {
                views.cert = Some(CertState::new(issued.chain, issued.key));
            }
            Some(Outcome::RenewalInfo(info)) => {
                views.renewal_info = Some(Box::new(RenewalInfoView::new(&info)));
            }
            Some(Outcome::Urls(urls)) => views.urls = urls.iter().map(c_text).collect(),
            Some(Outcome::Done) | None => {}
        }
    }

    pub(super) fn take_cert(&self) -> Option<CertState> {
        self.views().cert.take()
    }

    fn store_error(&self, error: &Error) {
        let mut views = self.views();
        if error.kind() != ErrorKind::Misuse && views.error.is_none() {
            views.error = Some(Box::new(acme_error_t::new(error.clone())));
        }
    }

    pub(super) fn challenge(&self, index: usize) -> *const acme_challenge_t {
        self.views().challenges.get(index).map_or(null(), |challenge| from_ref(&challenge.c))
    }

    /// Shows the order's URL, as far as there is one by now.
    pub(super) fn order_url(&self) -> *const c_char {
        let url = self.operation.order_url().map(c_text);
        let mut views = self.views();
        if views.order_url != url {
            views.order_url = url;
        }
        pointer_to(views.order_url.as_ref())
    }

    /// Keeps what has come of the operation, or why nothing.
    pub(super) fn store_outcome(&self, outcome: &Result<()>) {
        match outcome {
            Ok(()) => self.store_result(),
            Err(error) => self.store_error(error),
        }
    }

    /// Only whoever has it in hand polls it, and nobody frees it.
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
        // Valid until the next poll: with thousands of operations in flight this is most of them.
        let op = std::mem::take(&mut self.views().request);
        drop((op, std::mem::take(&mut self.views().to_sign)));
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
            Step::Done => {
                self.store_result();
                Ok(ACME_STEP_DONE)
            }
        }
    }
}

fn busy() -> Error {
    let why = "the operation is in the hands of acme_op_run() or of a driver";
    Error::new(ErrorKind::Misuse, why)
}

/// Advances the operation and says what to do next. now: 0 for the system clock, which may be set
/// meanwhile: it is read at the first such poll only, and time goes on from there. > 0: an
/// ACME_STEP_* for you to do. 0: done. < 0: failed, an ACME_ERR_*; see acme_op_error().
/// @param op The operation. One thread at a time.
/// @param now Milliseconds since 1970, or 0. It goes on from poll to poll; one that lies before
///   the last is taken as that.
/// @return An ACME_STEP_* value, 0 (ACME_STEP_DONE) among them, or a negative ACME_ERR_* value;
///   ACME_ERR_MISUSE when acme_op_run() or a driver has the operation in hand, which does not end
///   it.
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

/// The request to send, at ACME_STEP_REQUEST. Keep its id for the answer.
/// @param op The operation.
/// @return Borrowed, until the next poll; NULL when the last poll said something else.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_request(op: *const acme_op_t) -> *const acme_http_request_t {
    let pointer = |op: &OpState| op.views().request.as_ref().map(|r| from_ref(&r.c));
    peek(op).and_then(pointer).unwrap_or(null())
}

/// How many milliseconds after the poll that said ACME_STEP_WAIT the next one is useful, at most
/// 2147483647; -1: not before you answer something.
/// @param op The operation.
/// @return Milliseconds, 0 to 2147483647, or -1; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_wait_ms(op: *const acme_op_t) -> i64 {
    peek(op).map_or(0, |op: &OpState| op.views().wait_ms)
}

/// The index-th challenge, at ACME_STEP_PUBLISH and ACME_STEP_UNPUBLISH; NULL past the end.
/// @param op The operation.
/// @param index From 0.
/// @return Borrowed, until the next poll, while a driver has the operation until done; NULL past
///   the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_challenge(op: *const acme_op_t, index: usize) -> *const acme_challenge_t {
    peek(op).map_or(null(), |op: &OpState| op.challenge(index))
}

/// Hands over the payload of the answer to a challenge, before acme_op_published(), for the types whose
/// answer has one that you make: "onion-csr-01" (RFC 9799) and "device-attest-01".
/// @param op The operation.
/// @param challenge One that op shows right now; a copy of it is none.
/// @param json The payload, a JSON object; copied.
/// @param size Number of bytes.
/// @return ACME_OK; ACME_ERR_MISUSE: op does not show this challenge, is not publishing, or the
///   type has no payload; ACME_ERR_INVALID_ARGUMENT: it is no JSON object.
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

/// Says that every challenge is in place, or why not: the operation then ends with ACME_ERR_HOST, by
/// way of ACME_STEP_UNPUBLISH. Any thread while a driver has it.
/// @param op The operation.
/// @param failure NULL: all are in place. Else why not, for the message of the error; copied.
/// @return ACME_OK; ACME_ERR_MISUSE: nothing is waiting to be published.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_published(op: *mut acme_op_t, failure: *const c_char) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let failure = optional_text(failure, "failure")?;
        op.operation.published(failure.map_or(Ok(()), |why| Err(why.to_owned())))
    })
}

/// Ends the operation at its next poll, by way of ACME_STEP_UNPUBLISH if need be. From any thread,
/// and from a signal handler: it takes no lock and allocates nothing.
/// @param op The operation, which must not be freed meanwhile; NULL is fine. One that has ended
///   stays as it is.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_cancel(op: *const acme_op_t) {
    if let Some(op) = peek(op) {
        op.operation.cancel();
    }
}

/// Why the operation failed; NULL while it has not.
/// @param op The operation.
/// @return Borrowed, until op is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_error(op: *const acme_op_t) -> *const acme_error_t {
    let pointer = |op: &OpState| op.views().error.as_deref().map(from_ref);
    peek(op).and_then(pointer).unwrap_or(null())
}

/// One word for a status page: "new", "directory", "nonce", "account", "order", "authorization",
/// "publish", "challenge", "unpublish", "finalize", "certificate", "revocation", "key-change",
/// "renewal-info", "order-list". Static text.
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

/// What to sign, at ACME_STEP_SIGN. Keep its id for the answer.
/// @param op The operation.
/// @return Borrowed, until the next poll; NULL when the last poll said something else.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_sign_request(op: *const acme_op_t) -> *const acme_sign_request_t {
    let pointer = |op: &OpState| op.views().to_sign.as_ref().map(|s| from_ref(&s.c));
    peek(op).and_then(pointer).unwrap_or(null())
}

/// Hands over the signature that acme_op_sign_request() asks for; ECDSA in DER, or the two integers in
/// full width. One that is not right ends the operation with ACME_ERR_CRYPTO. Any thread while a driver
/// has it.
/// @param op The operation.
/// @param sign_id The id of the acme_sign_request_t that is being answered.
/// @param signature The signature's bytes; copied.
/// @param size Number of them.
/// @return ACME_OK; ACME_ERR_MISUSE: no such signature is asked for.
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

/// Says that there is no signature, and why: the operation ends with ACME_ERR_HOST. Any thread while a
/// driver has it.
/// @param op The operation.
/// @param sign_id The id of the acme_sign_request_t that is being answered.
/// @param why For the message of the error; copied. NULL: unknown.
/// @return ACME_OK; ACME_ERR_MISUSE: no such signature is asked for.
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

/// Sets a pointer of yours, which travels with the operation.
/// @param op The operation; NULL is fine.
/// @param user The pointer; may be NULL. The library never looks at what it points to.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_set_user_data(op: *mut acme_op_t, user: *mut c_void) {
    if let Some(op) = peek(op) {
        op.user.store(user, Ordering::Release);
    }
}

/// The pointer set by acme_op_set_user_data(); NULL at first.
/// @param op The operation.
/// @return The pointer, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_user_data(op: *const acme_op_t) -> *mut c_void {
    peek(op).map_or(null_mut(), |op| op.user.load(Ordering::Acquire))
}

/// Frees the operation, at any moment. Challenges still published are then yours to take down. While
/// acme_op_run() or a driver has it in hand it does nothing but set ACME_ERR_MISUSE.
/// @param op The operation; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_free(op: *mut acme_op_t) {
    if peek(op).is_some_and(OpState::is_running) {
        fail(busy());
        return;
    }
    release(op);
}
