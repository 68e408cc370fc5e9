//! The driver: operations carried out on threads of the library, callbacks on the host's.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use safer_ffi::derive_ReprC;

use super::convert::{Options, Out, read_options};
use super::guard::{catch, fail, guard};
use super::handle::{borrow, give, handle, peek, release};
use super::http_client::{Driver, Event, new_driver};
use super::op::OpState;
use super::status::acme_status_t;
use super::types::acme_op_t;
use crate::error::{Error, ErrorKind, Result};

/// The most threads, and requests, that may be asked for.
const MOST: usize = 256;

/// Carries out operations with the built-in HTTPS client, on a few threads of its own. To your event
/// loop it is one file descriptor and one call: watch acme_driver_fd() for reading, and call
/// acme_driver_dispatch() when it is readable.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_driver_t {
    _private: [u8; 0],
}

handle!(acme_driver_t, DriverState, b"acmedrvr");

/// Options for acme_driver_new(). Zero means default; a NULL pointer: all defaults.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_driver_options_t {
    /// sizeof(acme_driver_options_t), set by ACME_DRIVER_OPTIONS_INIT.
    pub size: usize,
    /// Threads that send requests, each one at a time: 1 to 256, default 8. One more keeps the
    /// time. They are started when needed, end when they have been idle for 15 seconds, and
    /// receive no signals.
    pub max_threads: usize,
    /// Requests under way at once to one host and port, and as many connections: 1 to 256, default
    /// 4. While it is smaller than max_threads, a CA that hangs does not hold up the others.
    pub max_requests_per_ca: usize,
}

/// Called with the operation that it is about. It may call anything on it but poll, run and free.
pub type acme_op_fn = Option<unsafe extern "C" fn(op: *mut acme_op_t, user: *mut c_void)>;

/// Called when the operation has finished and left the driver: take the result, free it. status is
/// ACME_OK, or what went wrong; acme_op_error() says it in full.
pub type acme_op_done_fn =
    Option<unsafe extern "C" fn(op: *mut acme_op_t, status: acme_status_t, user: *mut c_void)>;

/// Callbacks for acme_driver_add(): what happens to one operation. All of them are called from
/// acme_driver_dispatch() and acme_driver_free() only, on the thread that calls those.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_driver_callbacks_t {
    /// sizeof(acme_driver_callbacks_t), set by ACME_DRIVER_CALLBACKS_INIT.
    pub size: usize,
    /// Required. Called once for each acme_driver_add() that gave ACME_OK, last of all.
    pub done: acme_op_done_fn,
    /// Publish each acme_op_challenge(), and call acme_op_published() when all are in place: here,
    /// or later, on any thread. What acme_op_challenge() shows stays until done. Required when there
    /// is something to publish.
    pub publish: acme_op_fn,
    /// Take the same challenges down. Follows publish, once, whatever came of that; also while
    /// publishing is still going on.
    pub unpublish: acme_op_fn,
    /// Sign acme_op_sign_request(), which is shown until this returns; answer with
    /// acme_op_signed() or acme_op_sign_failed(): here, or later, on any thread. For keys that are
    /// outside the process.
    pub sign: acme_op_fn,
    /// Handed to each of them.
    pub user: *mut c_void,
}

// SAFETY: integers, raw pointers and nullable function pointers: all zero is a value of each.
unsafe impl Options for acme_driver_options_t {}
// SAFETY: as above.
unsafe impl Options for acme_driver_callbacks_t {}

/// A driver, and who is at work with it.
pub struct DriverState {
    driver: Mutex<Driver<Added>>,
    fd: c_int,
    /// Callbacks are being called.
    dispatching: AtomicBool,
    /// It is being freed: it takes no operation any more.
    ending: AtomicBool,
    /// The process that has its threads.
    process: u32,
}

/// An operation in a driver, as C knows it.
#[derive(Clone, Copy)]
struct Added {
    op: *mut acme_op_t,
    callbacks: acme_driver_callbacks_t,
}

impl DriverState {
    fn driver(&self) -> MutexGuard<'_, Driver<Added>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        match self.process == std::process::id() {
            true => Ok(()),
            false => Err(misuse("this driver's threads are in another process, before fork()")),
        }
    }

    /// Calls back for all that has happened. No lock is held meanwhile.
    fn dispatch(&self) {
        loop {
            let event = self.driver().next_event();
            let Some((added, event)) = event else { break };
            added.tell(event);
        }
    }
}

impl Added {
    fn tell(self, event: Event) {
        let op: Result<&OpState> = borrow(self.op, "op");
        // Nobody can free it while it is in the driver.
        let Ok(op) = op else { return };
        match event {
            Event::Publish(challenges) => {
                op.set_challenges(&challenges);
                if !self.call(self.callbacks.publish) {
                    let why = "there is no publish callback".to_owned();
                    let _ = op.operation.published(Err(why));
                }
            }
            Event::Unpublish(_) => {
                // They are shown already; another thread may be looking at them.
                self.call(self.callbacks.unpublish);
            }
            Event::Sign(to_sign) => {
                op.set_sign_request(&to_sign);
                if !self.call(self.callbacks.sign) {
                    let why = "there is no sign callback".to_owned();
                    let _ = op.operation.signed(to_sign.id, Err(why));
                }
            }
            Event::Done(outcome) => {
                let status = match &outcome {
                    Ok(()) => acme_status_t::ACME_OK,
                    Err(error) => error.kind().into(),
                };
                op.store_outcome(&outcome);
                op.release();
                if let Some(done) = self.callbacks.done {
                    // SAFETY: the host's own function with the host's own pointers.
                    unsafe { done(self.op, status, self.callbacks.user) }
                }
            }
        }
    }

    fn call(&self, callback: acme_op_fn) -> bool {
        // SAFETY: the host's own function with the host's own pointers; the operation cannot be
        // freed while it is in the driver.
        callback.map(|callback| unsafe { callback(self.op, self.callbacks.user) }).is_some()
    }
}

/// Makes a driver: a file descriptor, no threads yet. options may be NULL.
/// @param options Read during the call only; NULL: all defaults.
/// @param driver Out: the driver, which you free with acme_driver_free().
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: a member is above 256; ACME_ERR_HOST: the system
///   has no descriptor left; ACME_ERR_UNSUPPORTED: the library has no HTTP client.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_driver_new(
    options: *const acme_driver_options_t,
    driver: *mut *mut acme_driver_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(driver, "driver")?;
        let mut given = acme_driver_options_t { size: 0, max_threads: 0, max_requests_per_ca: 0 };
        if !options.is_null() {
            given = read_options(options, "options")?;
        }
        if given.max_threads > MOST || given.max_requests_per_ca > MOST {
            let why = "max_threads or max_requests_per_ca is above 256";
            return Err(Error::invalid_argument(why));
        }
        let (driver, fd) = new_driver(given.max_threads, given.max_requests_per_ca)?;
        out.set(give(DriverState {
            driver: Mutex::new(driver),
            fd,
            dispatching: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            process: std::process::id(),
        }));
        Ok(())
    })
}

/// The descriptor to watch for reading, level- or edge-triggered; it stays the same and stays the
/// driver's: do not read from it or close it. -1 for NULL.
/// @param driver The driver.
/// @return A descriptor, valid until driver is freed; -1 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_driver_fd(driver: *const acme_driver_t) -> c_int {
    peek(driver).map_or(-1, |state: &DriverState| state.fd)
}

/// Hands an operation that has been begun and not been polled to the driver, which carries it out.
/// It stays yours, to be freed when done has been called, but until then acme_op_poll(),
/// acme_op_run() and acme_op_free() on it are ACME_ERR_MISUSE. acme_op_cancel(), acme_op_published()
/// and acme_op_signed() may be called on any thread. It starts when its CA has nothing more urgent
/// to do, so its time limit does not run while thousands are before it. Any thread, and callbacks.
/// @param driver The driver.
/// @param op The operation, begun and not polled yet. The client that it came from decides how it
///   connects.
/// @param callbacks Read during the call only; done is required.
/// @return ACME_OK; ACME_ERR_MISUSE: op is in other hands, or the driver is being freed or of
///   another process; ACME_ERR_HOST: the system has no thread left. Unless it is ACME_OK, no
///   callback comes.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_driver_add(
    driver: *mut acme_driver_t,
    op: *mut acme_op_t,
    callbacks: *const acme_driver_callbacks_t,
) -> acme_status_t {
    guard(|| {
        let state: &DriverState = borrow(driver, "driver")?;
        state.check()?;
        let added: &OpState = borrow(op, "op")?;
        let callbacks: acme_driver_callbacks_t = read_options(callbacks, "callbacks")?;
        if callbacks.done.is_none() {
            return Err(Error::invalid_argument("callbacks->done is NULL"));
        }
        added.acquire()?;
        let mut driver = state.driver();
        // With the lock, so that it is either refused or seen by acme_driver_free().
        let taken = match state.ending.load(Ordering::Acquire) {
            true => Err(misuse("this driver is being freed")),
            false => added.http.add_to(&mut driver, &added.operation, Added { op, callbacks }),
        };
        taken.inspect_err(|_| added.release())
    })
}

/// Number of operations in the driver.
/// @param driver The driver.
/// @return Those whose done has not been called; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_driver_count(driver: *const acme_driver_t) -> usize {
    peek(driver).map_or(0, |state: &DriverState| state.driver().len())
}

/// Goes on with every operation that can go on, and calls back. Does not block: after about a
/// millisecond it leaves the rest for the next call, and the descriptor readable. Calling it when
/// that is not readable does no harm. One thread at a time, and not from a callback.
/// @param driver The driver.
/// @return ACME_OK, whatever came of the operations; ACME_ERR_MISUSE: from a callback, beside
///   another dispatch, or in a child of fork().
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_driver_dispatch(driver: *mut acme_driver_t) -> acme_status_t {
    guard(|| {
        let state: &DriverState = borrow(driver, "driver")?;
        state.check()?;
        let _dispatching = Dispatching::start(&state.dispatching)?;
        state.dispatch();
        Ok(())
    })
}

/// Frees the driver. Operations still in it are canceled first: unpublish and done are called for
/// them as always, from within. Requests under way are interrupted; what cannot be is a name
/// resolution or a TCP connect (10 seconds, or a third of request_timeout_s if that is longer), and
/// is waited for. When this returns no thread, connection or descriptor is left. From a callback it
/// does nothing but set ACME_ERR_MISUSE. In a child that fork() made it does nothing: the threads are
/// not there.
/// @param driver The driver; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_driver_free(driver: *mut acme_driver_t) {
    let Some(state) = peek(driver) else { return };
    let ended = catch(|| {
        state.check()?;
        let _dispatching = Dispatching::start(&state.dispatching)?;
        let driver = state.driver();
        state.ending.store(true, Ordering::Release);
        driver.cancel_all();
        drop(driver);
        while !state.driver().is_empty() {
            state.dispatch();
        }
        Ok(())
    });
    match ended {
        Ok(()) => release(driver),
        Err(error) => {
            fail(error);
        }
    }
}

fn misuse(why: &str) -> Error {
    Error::new(ErrorKind::Misuse, why)
}

/// Marks a driver as being dispatched; the mark goes on every way out.
struct Dispatching<'a>(&'a AtomicBool);

impl Dispatching<'_> {
    fn start(mark: &AtomicBool) -> Result<Dispatching<'_>> {
        match mark.swap(true, Ordering::AcqRel) {
            true => Err(misuse("this driver is calling back, or is used by another thread")),
            false => Ok(Dispatching(mark)),
        }
    }
}

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
