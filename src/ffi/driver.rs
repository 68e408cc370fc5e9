//! The driver: operations carried out on threads of the library, callbacks on the host's.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use safer_ffi::derive_ReprC;

use super::convert::{Options, Out, read_options};
use super::guard::{catch, fail, guard};
use super::handle::{borrow, give, handle, peek, release};
use super::http_client::{Driver, Event, new_driver};
use super::op::OpState;
use super::status::acme_status_t;
use super::types::acme_op_t;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Ticket;

/// Maximum value of an option: of the number of threads, and of the number of requests to one CA.
const MOST: usize = 256;
/// Interval in which acme_manager_run() looks whether it is to stop.
const STOP_INTERVAL_MS: c_int = 250;

/// Runs operations with the built-in HTTPS client, on a few threads of its own. An event loop sees
/// one file descriptor and one call: watch acme_driver_fd() for reading, and call
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
    /// Maximum number of threads that send requests, one at a time each: 1 to 256, default 8. One
    /// more thread waits for timers. Threads start when needed, end after 15 idle seconds, and
    /// receive no signals.
    pub max_threads: usize,
    /// Maximum number of concurrent requests to one host and port, each with a connection: 1 to
    /// 256, default 4. If it is smaller than max_threads, a CA that hangs does not delay the
    /// others.
    pub max_requests_per_ca: usize,
}

/// Called for one operation. It may call any function for op except poll, run and free.
pub type acme_op_fn = Option<unsafe extern "C" fn(op: *mut acme_op_t, user: *mut c_void)>;

/// Called when op has finished and left the driver: take the result and free op. status is ACME_OK
/// or an error; acme_op_error() has the details.
pub type acme_op_done_fn =
    Option<unsafe extern "C" fn(op: *mut acme_op_t, status: acme_status_t, user: *mut c_void)>;

/// Callbacks for acme_driver_add(), for the events of one operation. Only acme_driver_dispatch()
/// and acme_driver_free() call them, on the thread that calls those functions.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_driver_callbacks_t {
    /// sizeof(acme_driver_callbacks_t), set by ACME_DRIVER_CALLBACKS_INIT.
    pub size: usize,
    /// Required. Called once for each acme_driver_add() that returned ACME_OK, as the last
    /// callback.
    pub done: acme_op_done_fn,
    /// Publishes each acme_op_challenge(), and calls acme_op_published() when all are in place:
    /// before it returns or later, on any thread. The challenges stay valid until done. Required if
    /// the operation has challenges to publish.
    pub publish: acme_op_fn,
    /// Removes the challenges of publish. Called once after publish, whether that succeeded or failed;
    /// also while publishing is still in progress.
    pub unpublish: acme_op_fn,
    /// Signs acme_op_sign_request(), which is valid until this callback returns, and calls
    /// acme_op_signed() or acme_op_sign_failed(): before it returns or later, on any thread. For
    /// keys that are outside the process.
    pub sign: acme_op_fn,
    /// Pointer to pass to every callback.
    pub user: *mut c_void,
}

// SAFETY: integers, raw pointers and nullable function pointers: all zero is a value of each.
unsafe impl Options for acme_driver_options_t {}
// SAFETY: as above.
unsafe impl Options for acme_driver_callbacks_t {}

/// A driver, and its state for the checks of calls.
pub struct DriverState {
    driver: Mutex<Driver<Added>>,
    fd: c_int,
    /// A thread dispatches the driver: callbacks may be running.
    dispatching: AtomicBool,
    /// acme_driver_free() has begun: the driver accepts no more operations.
    ending: AtomicBool,
    /// The managers that it works for.
    managers: Mutex<Vec<Arc<dyn Worker>>>,
    /// The process that has its threads.
    process: u32,
}

/// A manager, as its driver sees it.
pub(super) trait Worker: Send + Sync {
    /// Does what is to be done; returns the time until the next call.
    fn work(self: Arc<Self>, driver: &DriverState) -> Duration;
    /// Publishes, or removes, the challenges of an attempt.
    fn publish(&self, op: *mut acme_op_t);
    fn unpublish(&self, op: *mut acme_op_t);
    /// Takes in the end of an attempt, and frees it.
    fn finished(&self, op: *mut acme_op_t, ticket: Ticket, outcome: Result<()>);
    /// Cancels all attempts.
    fn cancel(&self);
    fn has_attempts(&self) -> bool;
    /// The driver works for it no longer.
    fn detach(&self);
}

/// An operation in a driver.
#[derive(Clone)]
enum Added {
    /// As C passed it in.
    Host(*mut acme_op_t, acme_driver_callbacks_t),
    /// An attempt of a manager.
    Attempt(*mut acme_op_t, Arc<dyn Worker>, Ticket),
}

impl DriverState {
    fn new(max_threads: usize, max_requests_per_ca: usize) -> Result<DriverState> {
        let (driver, fd) = new_driver(max_threads, max_requests_per_ca)?;
        Ok(DriverState {
            driver: Mutex::new(driver),
            fd,
            dispatching: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            managers: Mutex::default(),
            process: std::process::id(),
        })
    }

    fn driver(&self) -> MutexGuard<'_, Driver<Added>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        match self.process == std::process::id() {
            true => Ok(()),
            false => Err(misuse("this driver's threads are in another process, before fork()")),
        }
    }

    /// Calls back for every event, and works for the managers. No lock is held during a callback.
    fn dispatch(&self) {
        loop {
            let event = self.driver().next_event();
            let Some((added, event)) = event else { break };
            added.call_back(event);
        }
        let managers = self.managers().clone();
        if managers.is_empty() {
            return;
        }
        let wait = managers.iter().map(|manager| manager.clone().work(self)).min();
        if let Err(error) = self.driver().set_alarm(wait) {
            log::error!("{error}");
        }
    }

    fn managers(&self) -> MutexGuard<'_, Vec<Arc<dyn Worker>>> {
        self.managers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works for a manager from now on; returns a function that makes the descriptor readable.
    pub(super) fn attach(&self, manager: Arc<dyn Worker>) -> Result<Box<dyn Fn() + Send + Sync>> {
        self.check()?;
        let mut driver = self.driver();
        if self.ending.load(Ordering::Acquire) {
            return Err(misuse("this driver is being freed"));
        }
        driver.set_alarm(Some(Duration::ZERO))?;
        self.managers().push(manager);
        Ok(driver.notifier())
    }

    /// Does work that may block on a thread.
    pub(super) fn call(&self, work: Box<dyn FnOnce() + Send>) {
        self.driver().call(work);
    }

    /// Adds an attempt of a manager.
    pub(super) fn add_attempt(
        &self,
        op: *mut acme_op_t,
        manager: Arc<dyn Worker>,
        ticket: Ticket,
    ) -> Result<()> {
        let added: &OpState = borrow(op, "op")?;
        added.acquire()?;
        let mut driver = self.driver();
        let payload = Added::Attempt(op, manager, ticket);
        let taken = added.http.add_to(&mut driver, &added.operation, payload);
        taken.inspect_err(|_| added.release())
    }

    /// Ends the attempts of a manager, and no longer works for it.
    pub(super) fn free_manager(&self, manager: &Arc<dyn Worker>) -> Result<()> {
        self.check()?;
        let _dispatching = Dispatching::start(&self.dispatching)?;
        self.end_attempts(manager);
        Ok(())
    }

    /// Cancels the attempts of a manager, runs them to their end, and detaches it.
    fn end_attempts(&self, manager: &Arc<dyn Worker>) {
        self.managers().retain(|known| !Arc::ptr_eq(known, manager));
        manager.cancel();
        while manager.has_attempts() {
            wait_until_readable(self.fd); // a store may take its time
            self.dispatch();
        }
        manager.detach();
    }
}

/// Waits until a descriptor is readable, for STOP_INTERVAL_MS at most.
#[cfg(unix)]
fn wait_until_readable(fd: c_int) {
    let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid structure.
    unsafe { libc::poll(&raw mut ready, 1, STOP_INTERVAL_MS) };
}

/// Without descriptors there is no driver.
#[cfg(not(unix))]
fn wait_until_readable(_fd: c_int) {}

/// Creates a driver, lets `start` give it work, and dispatches it until `stopped`.
pub(super) fn run_until(
    stopped: &AtomicBool,
    start: impl FnOnce(*mut acme_driver_t) -> Result<Arc<dyn Worker>>,
) -> Result<()> {
    let driver: *mut acme_driver_t = give(DriverState::new(0, 0)?);
    let run = || {
        let state: &DriverState = borrow(driver, "driver")?;
        let worker = start(driver)?;
        while !stopped.load(Ordering::Acquire) {
            wait_until_readable(state.fd);
            let _dispatching = Dispatching::start(&state.dispatching)?;
            state.dispatch();
        }
        let _dispatching = Dispatching::start(&state.dispatching)?;
        state.end_attempts(&worker);
        Ok(())
    };
    let outcome = run();
    acme_driver_free(driver);
    outcome
}

impl Added {
    fn call_back(self, event: Event) {
        match self {
            Added::Host(op, callbacks) => HostOp { op, callbacks }.call_back(event),
            Added::Attempt(op, manager, ticket) => attempt_event(op, &*manager, ticket, event),
        }
    }
}

/// Passes an event of an attempt on to its manager.
fn attempt_event(op: *mut acme_op_t, manager: &dyn Worker, ticket: Ticket, event: Event) {
    let Ok(state) = borrow::<acme_op_t>(op, "op") else { return };
    match event {
        Event::Publish(challenges) => {
            state.set_challenges(&challenges);
            manager.publish(op);
        }
        Event::Unpublish(challenges) => {
            state.set_challenges_to_remove(&challenges);
            manager.unpublish(op);
        }
        Event::Sign(to_sign) => {
            let why = "a store has no keys outside the process".to_owned();
            let _ = state.operation.signed(to_sign.id, Err(why));
        }
        Event::Done(outcome) => {
            state.release();
            manager.finished(op, ticket, outcome);
        }
    }
}

/// An operation, as C passed it in.
struct HostOp {
    op: *mut acme_op_t,
    callbacks: acme_driver_callbacks_t,
}

impl HostOp {
    fn call_back(self, event: Event) {
        let op: Result<&OpState> = borrow(self.op, "op");
        // The host cannot free the operation while it is in the driver.
        let Ok(op) = op else { return };
        match event {
            Event::Publish(challenges) => {
                op.set_challenges(&challenges);
                if !self.call(self.callbacks.publish) {
                    let why = "there is no publish callback".to_owned();
                    let _ = op.operation.published(Err(why));
                }
            }
            Event::Unpublish(challenges) => {
                // The views stay as they are if possible: another thread may be reading them.
                op.set_challenges_to_remove(&challenges);
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
                let status = match op.store_outcome(outcome) {
                    Ok(()) => acme_status_t::ACME_OK,
                    Err(error) => error.kind().into(),
                };
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

/// Creates a driver: a file descriptor, no threads yet. options may be NULL.
/// @param options Read during the call only; NULL: all defaults.
/// @param driver Out: the driver, to free with acme_driver_free().
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
        out.set(give(DriverState::new(given.max_threads, given.max_requests_per_ca)?));
        Ok(())
    })
}

/// Returns the descriptor to watch for reading, level- or edge-triggered. It never changes, and
/// belongs to the driver: do not read from it or close it. -1 for NULL.
/// @param driver The driver.
/// @return A descriptor, valid until driver is freed; -1 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_driver_fd(driver: *const acme_driver_t) -> c_int {
    peek(driver).map_or(-1, |state: &DriverState| state.fd)
}

/// Adds an operation that has been begun and not been polled; the driver runs it. The caller still
/// owns op and frees it after done. Until then acme_op_poll(), acme_op_run() and acme_op_free() on
/// it are ACME_ERR_MISUSE. acme_op_cancel(), acme_op_published() and acme_op_signed() may be called
/// on any thread. The operation starts when its CA has capacity, so its timeout does not run while
/// thousands of operations are before it. Any thread and any callback may call this.
/// @param driver The driver.
/// @param op The operation, begun and not polled yet. Its client decides how it connects.
/// @param callbacks Read during the call only; done is required.
/// @return ACME_OK; ACME_ERR_MISUSE: op is running already, or the driver is being freed or belongs
///   to another process; ACME_ERR_HOST: the system has no thread left. After any other value than
///   ACME_OK no callback is called.
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
        // Under the lock, so that either the operation is refused, or acme_driver_free() finds it.
        let taken = match state.ending.load(Ordering::Acquire) {
            true => Err(misuse("this driver is being freed")),
            false => added.http.add_to(&mut driver, &added.operation, Added::Host(op, callbacks)),
        };
        taken.inspect_err(|_| added.release())
    })
}

/// Returns the number of operations in the driver.
/// @param driver The driver.
/// @return Number of operations whose done has not been called; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_driver_count(driver: *const acme_driver_t) -> usize {
    peek(driver).map_or(0, |state: &DriverState| state.driver().len())
}

/// Advances every operation that can advance, and calls the callbacks. Does not block: after about
/// a millisecond it leaves the rest for the next call, and the descriptor readable. A call while
/// the descriptor is not readable does no harm. One thread at a time, and not from a callback.
/// @param driver The driver.
/// @return ACME_OK, also when operations failed; ACME_ERR_MISUSE: from a callback, during another
///   dispatch, or in a child of fork().
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

/// Frees the driver. It first cancels the operations that are still in it, and calls their
/// unpublish and done as always. It interrupts requests, but waits for a name resolution or a TCP
/// connect to end (at most 10 seconds, or a third of request_timeout_s if that is longer). When
/// this returns, no thread, connection or descriptor of the driver is left. From a callback this
/// function only sets ACME_ERR_MISUSE. In a child of fork() it does nothing, because the threads
/// are in the parent.
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
        let managers = state.managers().clone();
        managers.iter().for_each(|manager| state.end_attempts(manager));
        while !state.driver().is_empty() {
            wait_until_readable(state.fd);
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

/// Marks a driver as being dispatched, or a manager as being polled, until it is dropped.
pub(super) struct Dispatching<'a>(&'a AtomicBool);

impl Dispatching<'_> {
    pub(super) fn start(mark: &AtomicBool) -> Result<Dispatching<'_>> {
        match mark.swap(true, Ordering::AcqRel) {
            true => Err(misuse("it is calling back, or is used by another thread")),
            false => Ok(Dispatching(mark)),
        }
    }
}

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
