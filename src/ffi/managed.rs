//! The state of a manager between its program, which has callbacks, and the driver that works for it.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{from_ref, null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use safer_ffi::derive_ReprC;

use super::cert::CertState;
use super::client::{ClientState, acme_client_t};
use super::convert::{Options, c_text, pointer_to};
use super::error::acme_error_t;
use super::handle::{give, peek, release};
use super::op::OpState;
use super::outcome::Outcome;
use super::types::{acme_cert_t, acme_driver_t, acme_op_fn, acme_op_t, acme_time_t};
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{
    Act, Loaded, Manager, ManagerEvent, ManagerEventKind, ManagerOptions, Served, Ticket,
};
use crate::time::Time;

/// Maximum number of acts in one dispatch: the rest waits for the next one.
const ACTS_AT_ONCE: usize = 256;

/// Types of events of a manager.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_event_type_t {
    /// The certificate was read from the store: use it.
    ACME_EVENT_LOADED = 1,
    /// The first certificate of this name was issued: use it.
    ACME_EVENT_OBTAINED = 2,
    /// A new certificate was issued: use it.
    ACME_EVENT_RENEWED = 3,
    /// The CA was asked, and the renewal is not due.
    ACME_EVENT_NOT_DUE = 4,
    /// An attempt failed. The certificate in use, if any, stays; the next attempt is at next_try.
    ACME_EVENT_FAILED = 5,
    /// Attempts have ended, because they cannot succeed or have failed for weeks.
    /// acme_manager_renew(), or acme_manager_add() with other options, begins anew.
    ACME_EVENT_STOPPED = 6,
}

use acme_event_type_t::*;

/// An event of one certificate. All pointers are valid during the callback.
#[derive_ReprC]
#[repr(C)]
pub struct acme_event_t {
    /// An ACME_EVENT_* value.
    pub r#type: c_int,
    /// Name of the certificate in the store.
    pub name: *const c_char,
    /// The certificate with its key; NULL for ACME_EVENT_FAILED and ACME_EVENT_STOPPED.
    pub cert: *const acme_cert_t,
    /// Why the attempt failed; for a new certificate: why it is not in the store. NULL: no failure.
    pub error: *const acme_error_t,
    /// When the CA is asked again, or the next attempt begins; 0: not known, or never.
    pub next_try: acme_time_t,
}

/// Called for an event of a manager.
pub type acme_event_fn =
    Option<unsafe extern "C" fn(event: *const acme_event_t, user: *mut c_void)>;

/// Called with a certificate that servers are to use from now on, with its key.
pub type acme_serve_fn = Option<unsafe extern "C" fn(cert: *const acme_cert_t, user: *mut c_void)>;

/// Takes text; returns 0, or another value to end.
pub type acme_write_fn =
    Option<unsafe extern "C" fn(text: *const c_char, size: usize, user: *mut c_void) -> c_int>;

/// Options for acme_manager_new(). Zero means default. All callbacks are called by
/// acme_driver_dispatch() or acme_manager_run(), on the thread that calls it. They may call any
/// function except these two and the free functions of the manager and its driver.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_manager_options_t {
    /// sizeof(acme_manager_options_t), set by ACME_MANAGER_OPTIONS_INIT.
    pub size: usize,
    /// Required: the account, with a store (see acme_client_options_t). It may be freed before the
    /// manager.
    pub client: *const acme_client_t,
    /// Called for each event; may be NULL.
    pub event: acme_event_fn,
    /// Passed to event.
    pub user: *mut c_void,
    /// Called with each certificate to use from now on: after it was read from the store, and after it
    /// was issued; may be NULL. acme_openssl_manage() sets it.
    pub serve: acme_serve_fn,
    /// Publishes each acme_op_challenge() and calls acme_op_published(), as in
    /// acme_driver_callbacks_t. NULL: the program responds to http-01 with
    /// acme_client_http01_answer(), which needs no publishing.
    pub publish: acme_op_fn,
    /// Removes the challenges of publish; may be NULL.
    pub unpublish: acme_op_fn,
    /// Passed to serve, publish and unpublish.
    pub serve_user: *mut c_void,
    /// Maximum number of attempts at the same time; default 10.
    pub max_attempts: usize,
}

// SAFETY: integers, raw pointers and nullable function pointers: all zero is a value of each.
unsafe impl Options for acme_manager_options_t {}
const _: () = assert!(size_of::<acme_manager_options_t>() == 9 * size_of::<*const c_void>());

/// Wakes a driver. Any thread may call it.
pub(super) type Notify = Box<dyn Fn() + Send + Sync>;

/// A driver, as a manager uses it.
pub(super) trait Worker {
    /// Does work that may block on a thread.
    fn call(&self, work: Box<dyn FnOnce() + Send>);

    /// Adds an attempt.
    fn add_attempt(
        &self,
        op: *mut acme_op_t,
        manager: Arc<ManagerState>,
        ticket: Ticket,
    ) -> Result<()>;
}

/// A manager. Its driver shares it.
pub struct ManagerState {
    pub(super) manager: Mutex<Manager>,
    pub(super) served: Arc<Served>,
    client: ClientState,
    options: acme_manager_options_t,
    /// The records that threads have read from the store.
    loaded: Arc<Mutex<Vec<Loaded>>>,
    driver: Mutex<Attachment>,
    /// It is being freed: there are no more events, and no more attempts.
    ending: AtomicBool,
    pub(super) stopped: AtomicBool,
}

#[derive(Default)]
struct Attachment {
    /// The driver that works for the manager; NULL: none.
    driver: DriverPointer,
    notify: Option<Notify>,
    attempts: Vec<OpPointer>,
}

#[derive(Clone, Copy)]
struct DriverPointer(*mut acme_driver_t);

#[derive(Clone, Copy, PartialEq)]
struct OpPointer(*mut acme_op_t);

impl Default for DriverPointer {
    fn default() -> DriverPointer {
        DriverPointer(null_mut())
    }
}

// SAFETY: handles may move between threads; every use goes through their checks.
unsafe impl Send for DriverPointer {}
// SAFETY: as above.
unsafe impl Send for OpPointer {}
// SAFETY: the options' pointers are the host's, and are only passed to its own functions, on the thread
// that dispatches; the other members are Send.
unsafe impl Send for ManagerState {}
// SAFETY: as above; the options never change.
unsafe impl Sync for ManagerState {}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ManagerState {
    pub(super) fn new(
        client: &ClientState,
        options: acme_manager_options_t,
    ) -> Result<ManagerState> {
        let mut settings = ManagerOptions::default();
        if options.max_attempts > 0 {
            settings.max_attempts = options.max_attempts;
        }
        let made = Manager::new(&client.engine, settings)?;
        Ok(ManagerState {
            served: made.served(),
            manager: Mutex::new(made),
            client: client.share(),
            options: acme_manager_options_t { client: null(), ..options },
            loaded: Arc::default(),
            driver: Mutex::default(),
            ending: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        })
    }

    /// The driver that works for this manager; NULL: none.
    pub(super) fn driver(&self) -> *mut acme_driver_t {
        locked(&self.driver).driver.0
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Lets a driver work for this manager; `attach` returns the function that wakes the driver.
    pub(super) fn start(
        &self,
        driver: *mut acme_driver_t,
        attach: impl FnOnce() -> Result<Notify>,
    ) -> Result<()> {
        let mut attachment = locked(&self.driver);
        if !attachment.driver.0.is_null() || self.is_ending() {
            return Err(Error::new(ErrorKind::Misuse, "the manager has a driver already"));
        }
        let notify = attach()?;
        notify();
        (attachment.driver, attachment.notify) = (DriverPointer(driver), Some(notify));
        Ok(())
    }

    pub(super) fn notify(&self) {
        if let Some(notify) = &locked(&self.driver).notify {
            notify();
        }
    }

    /// Does what the manager asks for; returns the time until it asks again.
    pub(super) fn work(self: &Arc<Self>, driver: &impl Worker) -> Duration {
        for _ in 0..ACTS_AT_ONCE {
            if self.is_ending() {
                break;
            }
            let (now, loaded) = (Time::now(), std::mem::take(&mut *locked(&self.loaded)));
            let act = {
                let mut manager = locked(&self.manager);
                manager.loaded(loaded, now);
                manager.poll(now)
            };
            match act {
                Act::Tell(event) => self.tell(event),
                Act::Load(job) => {
                    let inbox = self.loaded.clone();
                    driver.call(Box::new(move || locked(&inbox).extend(job.perform())));
                }
                Act::Attempt(ticket, operation) => {
                    let operation = operation.map(|tried| Outcome::Tried(Box::new(tried)));
                    let op: *mut acme_op_t = give(OpState::begin(&self.client, operation, None));
                    if let Err(error) = driver.add_attempt(op, self.clone(), ticket) {
                        locked(&self.manager).finished(ticket, Err(error), now);
                        release(op);
                        continue;
                    }
                    locked(&self.driver).attempts.push(OpPointer(op));
                }
                Act::Wait(delay) => return delay,
            }
        }
        match self.is_ending() {
            true => Duration::MAX,
            false => Duration::ZERO,
        }
    }

    /// Takes in the end of an attempt.
    pub(super) fn finished(&self, op: *mut acme_op_t, ticket: Ticket, outcome: Result<()>) {
        let tried = match (outcome, peek(op)) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(state)) => match OpState::take_outcome(state) {
                Some(Outcome::Tried(tried)) => Ok(*tried),
                _ => Err(Error::new(ErrorKind::Panic, "an attempt without a result")),
            },
            (Ok(()), None) => Err(Error::new(ErrorKind::Misuse, "the program freed an attempt")),
        };
        locked(&self.driver).attempts.retain(|known| *known != OpPointer(op));
        release(op);
        locked(&self.manager).finished(ticket, tried, Time::now());
    }

    pub(super) fn publish(&self, op: *mut acme_op_t) {
        match (self.options.publish, peek(op)) {
            // SAFETY: the host's own function with the host's own pointer; the operation stays until done.
            (Some(publish), _) => unsafe { publish(op, self.options.serve_user) },
            (None, Some(state)) => {
                let state: &OpState = state;
                let _ = state.operation.published(Ok(()));
            }
            (None, None) => {}
        }
    }

    pub(super) fn unpublish(&self, op: *mut acme_op_t) {
        if let Some(unpublish) = self.options.unpublish {
            // SAFETY: as above.
            unsafe { unpublish(op, self.options.serve_user) }
        }
    }

    fn tell(&self, event: ManagerEvent) {
        let name: CString = c_text(&event.name);
        let cert: *mut acme_cert_t = match event.certificate {
            Some((chain, key)) => give(CertState::new(chain, Some(key))),
            None => null_mut(),
        };
        let error = event.error.map(acme_error_t::new);
        let is_new = matches!(
            event.kind,
            ManagerEventKind::Loaded | ManagerEventKind::Obtained | ManagerEventKind::Renewed
        );
        if let Some(serve) = self.options.serve.filter(|_| is_new && !cert.is_null()) {
            // SAFETY: the host's own function with the host's own pointer; cert is valid until below.
            unsafe { serve(cert, self.options.serve_user) }
        }
        if let Some(tell) = self.options.event {
            let event = acme_event_t {
                r#type: code(event.kind) as c_int,
                name: pointer_to(Some(&name)),
                cert,
                error: error.as_ref().map_or(null(), from_ref),
                next_try: event.next_try.map_or(0, Time::as_millis),
            };
            // SAFETY: the host's own function with the host's own pointer; the event is valid until it
            // returns.
            unsafe { tell(&raw const event, self.options.user) }
        }
        release(cert);
    }

    /// Tells no more events, and begins no more attempts.
    pub(super) fn close(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Cancels all attempts.
    pub(super) fn cancel(&self) {
        for op in &locked(&self.driver).attempts {
            if let Some(state) = peek(op.0) {
                let state: &OpState = state;
                state.operation.cancel();
            }
        }
    }

    pub(super) fn detach(&self) {
        let mut attachment = locked(&self.driver);
        (attachment.driver, attachment.notify) = (DriverPointer::default(), None);
    }

    pub(super) fn has_attempts(&self) -> bool {
        !locked(&self.driver).attempts.is_empty()
    }
}

fn code(kind: ManagerEventKind) -> acme_event_type_t {
    match kind {
        ManagerEventKind::Loaded => ACME_EVENT_LOADED,
        ManagerEventKind::Obtained => ACME_EVENT_OBTAINED,
        ManagerEventKind::Renewed => ACME_EVENT_RENEWED,
        ManagerEventKind::NotDue => ACME_EVENT_NOT_DUE,
        ManagerEventKind::Failed => ACME_EVENT_FAILED,
        ManagerEventKind::Stopped => ACME_EVENT_STOPPED,
    }
}
