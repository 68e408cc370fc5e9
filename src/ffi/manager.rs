//! Managers: certificates that stay fresh by themselves.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{from_ref, null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use safer_ffi::derive_ReprC;

use super::begin::keep_options;
use super::cert::CertState;
use super::client::{ClientState, acme_client_t, utf8, write_body};
use super::convert::{Options, Out, bytes, c_text, optional_text, pointer_to, read_options, text};
use super::driver::{DriverState, Worker, acme_driver_t, acme_op_fn, run_until};
use super::error::acme_error_t;
use super::guard::{catch, fail, guard};
use super::handle::{borrow, give, handle, peek, release};
use super::op::OpState;
use super::outcome::Outcome;
use super::status::acme_status_t;
use super::types::{acme_cert_t, acme_op_t, acme_order_options_t, acme_time_t};
use crate::engine::Tried;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{
    Act, LoadJob, Loaded, Manager, ManagerEvent, ManagerEventKind, ManagerOptions, Served, Ticket,
};
use crate::time::Time;

/// Maximum number of acts in one dispatch: the rest waits for the next one.
pub(super) const ACTS_AT_ONCE: usize = 256;

/// Keeps any number of certificates of a client fresh: obtains them, asks the CA when to renew them (RFC
/// 9773), renews them, and stores them in the client's store. A driver does its work, or the program:
/// see acme_manager_poll().
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_manager_t {
    _private: [u8; 0],
}

handle!(acme_manager_t, ManagerHandle, b"acmemngr");

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
    /// The CA failed, see the error. The attempt goes on with the next CA of acme_manager_add_ca().
    ACME_EVENT_OTHER_CA = 7,
    /// A sixth of the certificate's lifetime is left, and it is not renewed.
    ACME_EVENT_EXPIRING = 8,
    /// The certificate has expired.
    ACME_EVENT_EXPIRED = 9,
    /// The CA does not answer, or limits all certificates; see the error. One attempt at a time probes it,
    /// the first one at next_try. The event has no name.
    ACME_EVENT_CA_PAUSED = 10,
    /// The CA answers again. The event has no name.
    ACME_EVENT_CA_RESUMED = 11,
}

use acme_event_type_t::*;

/// An event of a certificate, or of a CA. All pointers are valid during the callback.
#[derive_ReprC]
#[repr(C)]
pub struct acme_event_t {
    /// An ACME_EVENT_* value.
    pub r#type: c_int,
    /// Name of the certificate in the store; empty: the event is of a CA.
    pub name: *const c_char,
    /// The certificate with its key; NULL unless the type is LOADED, OBTAINED, RENEWED or NOT_DUE.
    pub cert: *const acme_cert_t,
    /// Why the attempt failed; for a new certificate: why it is not in the store. NULL: no failure.
    pub error: *const acme_error_t,
    /// When the CA is asked again, or the next attempt begins; 0: not known, or never.
    pub next_try: acme_time_t,
    /// End of the validity of the certificate in use; 0: not known, or no certificate.
    pub not_after: acme_time_t,
    /// The CA: the URL of its directory.
    pub ca: *const c_char,
}

/// Called for an event of a manager.
pub type acme_event_fn =
    Option<unsafe extern "C" fn(event: *const acme_event_t, user: *mut c_void)>;

/// Called with a certificate that servers are to use from now on, with its key.
pub type acme_serve_fn = Option<unsafe extern "C" fn(cert: *const acme_cert_t, user: *mut c_void)>;

/// Decides whether a certificate is to be obtained for this name, which a client has sent; returns 1: yes.
pub type acme_ask_fn =
    Option<unsafe extern "C" fn(name: *const c_char, user: *mut c_void) -> c_int>;

/// Takes text; returns 0, or another value to end.
pub type acme_write_fn =
    Option<unsafe extern "C" fn(text: *const c_char, size: usize, user: *mut c_void) -> c_int>;

/// Options for acme_manager_new(). Zero means default. All callbacks are called by
/// acme_driver_dispatch(), acme_manager_run() or acme_manager_poll(), on the thread that calls it. They
/// may call any function except these three and the free functions of the manager and its driver.
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
    /// acme_manager_http01_answer(), which needs no publishing. Not called for operations of
    /// acme_manager_poll(), whose steps the program sees.
    pub publish: acme_op_fn,
    /// Removes the challenges of publish; may be NULL.
    pub unpublish: acme_op_fn,
    /// Passed to serve, publish and unpublish.
    pub serve_user: *mut c_void,
    /// Maximum number of attempts at the same time; default 10.
    pub max_attempts: usize,
    /// Maximum number of certificates in memory; default 1000. With more, a certificate is read from
    /// the store when acme_manager_cert() first asks for it.
    pub max_loaded: usize,
}

// SAFETY: integers, raw pointers and nullable function pointers: all zero is a value of each.
unsafe impl Options for acme_manager_options_t {}
const _: () = assert!(size_of::<acme_manager_options_t>() == 10 * size_of::<*const c_void>());

/// The handle that C has.
pub struct ManagerHandle {
    pub(super) shared: Arc<ManagerState>,
}

/// A manager. Its driver shares it.
pub struct ManagerState {
    manager: Mutex<Manager>,
    served: Arc<Served>,
    /// The client of each CA.
    clients: Mutex<Vec<ClientState>>,
    options: acme_manager_options_t,
    /// Records that threads have read from the store.
    loaded: Arc<Mutex<Vec<Loaded>>>,
    /// Jobs for acme_manager_load().
    pub(super) jobs: Mutex<Vec<Loading>>,
    driver: Mutex<Attachment>,
    /// The program's decision about certificates on demand.
    ask: Mutex<Option<Ask>>,
    /// It is being freed: there are no more events, and no more attempts.
    ending: AtomicBool,
    stopped: AtomicBool,
    /// acme_manager_run() or acme_manager_poll() is working.
    pub(super) running: AtomicBool,
}

/// A function of the host, and its pointer.
struct Ask {
    ask: unsafe extern "C" fn(name: *const c_char, user: *mut c_void) -> c_int,
    user: *mut c_void,
}

#[derive(Default)]
struct Attachment {
    /// The driver that works for the manager; NULL: none.
    driver: DriverPointer,
    /// The program polls the manager itself.
    is_polled: bool,
    notify: Option<Box<dyn Fn() + Send + Sync>>,
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

fn has_driver() -> Error {
    Error::new(ErrorKind::Misuse, "the manager has a driver already")
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ManagerState {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Lets a driver work for this manager.
    pub(super) fn start(self: &Arc<Self>, driver: *mut acme_driver_t) -> Result<()> {
        let state: &DriverState = borrow(driver, "driver")?;
        let mut attachment = locked(&self.driver);
        if attachment.is_polled {
            return Err(Error::new(ErrorKind::Misuse, "acme_manager_poll() works for the manager"));
        }
        if !attachment.driver.0.is_null() || self.is_ending() {
            return Err(has_driver());
        }
        let notify = state.attach(self.clone() as Arc<dyn Worker>)?;
        notify();
        (attachment.driver, attachment.notify) = (DriverPointer(driver), Some(notify));
        Ok(())
    }

    /// Refuses a manager with a driver; from now on the program polls the manager.
    pub(super) fn begin_polling(&self) -> Result<()> {
        let mut attachment = locked(&self.driver);
        if !attachment.driver.0.is_null() {
            return Err(has_driver());
        }
        attachment.is_polled = true;
        Ok(())
    }

    fn notify(&self) {
        if let Some(notify) = &locked(&self.driver).notify {
            notify();
        }
    }

    /// Asks the program whether it wants a certificate for this name.
    fn ask(&self, name: &str) -> bool {
        let Some((ask, user)) = locked(&self.ask).as_ref().map(|known| (known.ask, known.user))
        else {
            return false;
        };
        let name: CString = c_text(name);
        // SAFETY: the host's own function with the host's own pointer; the name is valid until it returns.
        unsafe { ask(name.as_ptr(), user) == 1 }
    }

    fn tell(&self, event: ManagerEvent) {
        let (name, ca): (CString, CString) = (c_text(&event.name), c_text(&event.ca));
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
                not_after: event.not_after.map_or(0, Time::as_millis),
                ca: pointer_to(Some(&ca)),
            };
            // SAFETY: the host's own function with the host's own pointer; the event is valid until it
            // returns.
            unsafe { tell(&raw const event, self.options.user) }
        }
        release(cert);
    }
}

/// A job for a thread. If it is dropped, or ends in a bug of the store, its records count as not read.
pub(super) struct Loading {
    job: Option<LoadJob>,
    inbox: Arc<Mutex<Vec<Loaded>>>,
}

impl Loading {
    pub(super) fn perform(&mut self) {
        let loaded = self.job.as_ref().map(LoadJob::perform).unwrap_or_default();
        self.job = None;
        locked(&self.inbox).extend(loaded);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            locked(&self.inbox).extend(job.failed("it could not be read"));
        }
    }
}

/// An act that is not done on the thread of the callbacks.
pub(super) enum Task {
    Load(Loading),
    Attempt(Ticket, *mut acme_op_t),
    Wait(Duration),
}

impl ManagerState {
    /// Does what is to be done on this thread, and returns the next task for others. `left`: the number of acts
    /// that this call and the following ones may do.
    pub(super) fn next_task(&self, left: &mut usize) -> Task {
        while *left > 0 && !self.is_ending() {
            *left -= 1;
            let (now, loaded) = (Time::now(), std::mem::take(&mut *locked(&self.loaded)));
            let act = {
                let mut manager = locked(&self.manager);
                manager.loaded(loaded, now);
                manager.poll(now)
            };
            match act {
                Act::Tell(event) => self.tell(event),
                Act::Ask(name) => {
                    let is_allowed = self.ask(&name);
                    locked(&self.manager).answer(&name, is_allowed, now);
                }
                Act::Load(job) => {
                    return Task::Load(Loading { job: Some(job), inbox: self.loaded.clone() });
                }
                Act::Attempt(ticket, operation) => {
                    let operation = operation.map(|tried| Outcome::Tried(Box::new(tried)));
                    let clients = locked(&self.clients);
                    let Some(client) = clients.get(ticket.ca()) else { continue };
                    return Task::Attempt(ticket, give(OpState::begin(client, operation, None)));
                }
                Act::Wait(delay) => return Task::Wait(delay),
            }
        }
        match self.is_ending() {
            true => Task::Wait(Duration::MAX),
            false => Task::Wait(Duration::ZERO),
        }
    }

    /// Takes in the end of an attempt.
    pub(super) fn ended(&self, ticket: Ticket, outcome: Result<Tried>) {
        locked(&self.manager).finished(ticket, outcome, Time::now());
    }
}

impl Worker for ManagerState {
    fn work(self: Arc<Self>, driver: &DriverState) -> Duration {
        let mut left = ACTS_AT_ONCE;
        loop {
            match self.next_task(&mut left) {
                Task::Load(mut job) => driver.call(Box::new(move || job.perform())),
                Task::Attempt(ticket, op) => {
                    if let Err(error) = driver.add_attempt(op, self.clone(), ticket) {
                        self.ended(ticket, Err(error));
                        release(op);
                        continue;
                    }
                    locked(&self.driver).attempts.push(OpPointer(op));
                }
                Task::Wait(delay) => return delay,
            }
        }
    }

    fn finished(&self, op: *mut acme_op_t, ticket: Ticket, outcome: Result<()>) {
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
        self.ended(ticket, tried);
    }

    fn publish(&self, op: *mut acme_op_t) {
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

    fn unpublish(&self, op: *mut acme_op_t) {
        if let Some(unpublish) = self.options.unpublish {
            // SAFETY: as above.
            unsafe { unpublish(op, self.options.serve_user) }
        }
    }

    fn cancel(&self) {
        for op in &locked(&self.driver).attempts {
            if let Some(state) = peek(op.0) {
                let state: &OpState = state;
                state.operation.cancel();
            }
        }
    }

    fn detach(&self) {
        let mut attachment = locked(&self.driver);
        (attachment.driver, attachment.notify) = (DriverPointer::default(), None);
    }

    fn has_attempts(&self) -> bool {
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
        ManagerEventKind::OtherCa => ACME_EVENT_OTHER_CA,
        ManagerEventKind::Expiring => ACME_EVENT_EXPIRING,
        ManagerEventKind::Expired => ACME_EVENT_EXPIRED,
        ManagerEventKind::CaPaused => ACME_EVENT_CA_PAUSED,
        ManagerEventKind::CaResumed => ACME_EVENT_CA_RESUMED,
    }
}

/// Creates a manager without certificates. It does nothing before acme_manager_start(),
/// acme_manager_run() or acme_manager_poll().
/// @param options Read during the call only.
/// @param manager Out: the manager, to free with acme_manager_free().
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: a member is missing, or the client has no store.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_new(
    options: *const acme_manager_options_t,
    manager: *mut *mut acme_manager_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(manager, "manager")?;
        let options: acme_manager_options_t = read_options(options, "options")?;
        let client: &ClientState = borrow(options.client, "options->client")?;
        let mut settings = ManagerOptions::default();
        if options.max_attempts > 0 {
            settings.max_attempts = options.max_attempts;
        }
        if options.max_loaded > 0 {
            settings.max_loaded = options.max_loaded;
        }
        settings.load_all = options.serve.is_some();
        let made = Manager::new(&client.engine, settings)?;
        let shared = Arc::new(ManagerState {
            served: made.served(),
            manager: Mutex::new(made),
            clients: Mutex::new(vec![client.share()]),
            options: acme_manager_options_t { client: null(), ..options },
            loaded: Arc::default(),
            jobs: Mutex::default(),
            driver: Mutex::default(),
            ask: Mutex::default(),
            ending: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            running: AtomicBool::new(false),
        });
        out.set(give(ManagerHandle { shared }));
        Ok(())
    })
}

/// Adds a CA, to which the manager goes if the CAs before it fail: at once with a certificate that is
/// missing or about to expire, with others after six hours. It has an account and a store of its own (see
/// acme_client_options_t), and the next renewal begins with the first CA again. A profile is ordered
/// from a CA added here only if the CA offers it.
/// @param manager The manager, without certificates.
/// @param client The CA. It may be freed before the manager.
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: the client has no store, or the manager has this CA or 16
///   CAs; ACME_ERR_MISUSE: the manager has certificates.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_add_ca(
    manager: *mut acme_manager_t,
    client: *const acme_client_t,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let client: &ClientState = borrow(client, "client")?;
        let mut clients = locked(&state.clients);
        locked(&state.manager).add_ca(&client.engine)?;
        clients.push(client.share());
        Ok(())
    })
}

/// Adds a certificate, or changes the options of the one with this name in the store. Any thread, and any
/// callback.
/// @param manager The manager.
/// @param order Options of the order, as for acme_begin_order() with a store; only_if_due has no
///   meaning here. Read during the call only.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: the message names the member and the reason.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_add(
    manager: *mut acme_manager_t,
    order: *const acme_order_options_t,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let options = keep_options(&read_options(order, "order")?)?;
        locked(&state.manager).add(options)?;
        state.notify();
        Ok(())
    })
}

/// Obtains certificates on demand: when acme_manager_cert() finds no certificate for a name of at least two
/// labels, the manager asks the program whether it wants one; if so, it obtains and keeps one for this name. Before
/// each renewal it asks again; if the program then refuses, ACME_EVENT_STOPPED follows. A client may send any
/// name: allow only names that you serve. The manager asks about at most 600 names a minute, adds at most
/// 100 an hour, and does not ask again about a name that was refused for ten minutes.
/// @param manager The manager.
/// @param order Options of these orders, as for acme_manager_add(), without names and name. Read during the
///   call only.
/// @param ask Called as the callbacks of acme_manager_options_t are. It must not block: to decide later, return 0,
///   and call acme_manager_add() then.
/// @param user Passed to ask.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: the message names the member and the reason.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_on_demand(
    manager: *mut acme_manager_t,
    order: *const acme_order_options_t,
    ask: acme_ask_fn,
    user: *mut c_void,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let options = keep_options(&read_options(order, "order")?)?;
        let ask = ask.ok_or_else(|| Error::invalid_argument("ask is NULL"))?;
        locked(&state.manager).on_demand(options)?;
        *locked(&state.ask) = Some(Ask { ask, user });
        Ok(())
    })
}

/// Removes a certificate. Its files or records stay in the store. Any thread, and any callback.
/// @param manager The manager.
/// @param name The certificate's name in the store.
/// @return ACME_OK, also without such a certificate; or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_remove(
    manager: *mut acme_manager_t,
    name: *const c_char,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        locked(&state.manager).remove(text(name, "name")?);
        Ok(())
    })
}

/// Renews a certificate now, although that is not due; begins anew after ACME_EVENT_STOPPED. Any thread,
/// and any callback.
/// @param manager The manager.
/// @param name The certificate's name in the store.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: the manager has no certificate of this name.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_renew(
    manager: *mut acme_manager_t,
    name: *const c_char,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        locked(&state.manager).renew_now(text(name, "name")?)?;
        state.notify();
        Ok(())
    })
}

/// Returns the number of certificates.
/// @param manager The manager.
/// @return Number of certificates; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_count(manager: *const acme_manager_t) -> usize {
    peek(manager).map_or(0, |handle: &ManagerHandle| locked(&handle.shared.manager).len())
}

/// Returns the certificate for a client's server name: by exact name, then by wildcard. Any thread.
/// @param manager The manager.
/// @param server_name The name that the client sent; NULL: no certificate.
/// @return The certificate with its key, to free with acme_cert_free(); NULL: no certificate is for this name, or
///   it is being read from the store, and ACME_EVENT_LOADED follows.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_cert(
    manager: *const acme_manager_t,
    server_name: *const c_char,
) -> *mut acme_cert_t {
    let find = || {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let found =
            optional_text(server_name, "server_name")?.and_then(|name| state.served.find(name));
        if state.served.has_wanted() {
            state.notify();
        }
        Ok(found.map_or(null_mut(), |(chain, key)| give(CertState::new(chain, Some(key)))))
    };
    catch(find).unwrap_or(null_mut())
}

/// Writes the body of the response to a CA's http-01 request (RFC 8555 section 8.3) for any CA of the
/// manager, also if another program that shares the store has the order. A program that calls this function
/// for every such request needs no publish callback for http-01. For other paths the function returns
/// 0: respond as usual. Any thread.
/// @param manager The manager. It knows the accounts in the store once it has read its first certificate. With
///   several CAs, the challenge of another program counts as one of a CA at which this manager is ordering.
/// @param path The request's path, without a query; a NUL at its end is not necessary.
/// @param size Size of path in bytes.
/// @param body Out: the body of the response, without a NUL at its end.
/// @param room Space at body in bytes; 1024 are always enough.
/// @return Bytes written to body; 0: this is not the path of a challenge, or room is too small.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_http01_answer(
    manager: *const acme_manager_t,
    path: *const c_char,
    size: usize,
    body: *mut c_char,
    room: usize,
) -> usize {
    write_body(body, room, || {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let path = utf8(bytes(path.cast(), size, "path")?);
        Ok(locked(&state.manager).http01_answer(path))
    })
}

/// Writes a JSON object about a certificate, or an array about all: name, state ("valid", "expired",
/// "missing", "stopped" or "loading"), names, ca, not_after, renew_at and next_try (RFC 3339, if known),
/// failures in a row, and the last error, if the last attempt failed. Any thread.
/// @param manager The manager.
/// @param name The certificate's name in the store; NULL: all.
/// @param write Called once with the whole text, which has no NUL at its end.
/// @param user Passed to write.
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: there is no such certificate; ACME_ERR_HOST: write
///   did not return 0.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_status(
    manager: *const acme_manager_t,
    name: *const c_char,
    write: acme_write_fn,
    user: *mut c_void,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let name = optional_text(name, "name")?;
        let text = locked(&state.manager).status(name, Time::now())?;
        write_text(&text, write, user)
    })
}

/// Writes metrics as OpenMetrics 1.0 text: certificates by state, attempts and their results, failures by
/// kind, requests and a pause of each CA, the times of the next attempt and of the first expiry: if nothing
/// works from now on, that is when the first name has no certificate. Any thread.
/// @param manager The manager.
/// @param write Called once with the whole text, which has no NUL at its end.
/// @param user Passed to write.
/// @return ACME_OK, ACME_ERR_INVALID_ARGUMENT, or ACME_ERR_HOST: write did not return 0.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_metrics(
    manager: *const acme_manager_t,
    write: acme_write_fn,
    user: *mut c_void,
) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let text = locked(&state.manager).metrics(Time::now());
        write_text(&text, write, user)
    })
}

fn write_text(text: &str, write: acme_write_fn, user: *mut c_void) -> Result<()> {
    let write = write.ok_or_else(|| Error::invalid_argument("write is NULL"))?;
    // SAFETY: the host's own function with the host's own pointer; the text is valid until it returns.
    match unsafe { write(text.as_ptr().cast(), text.len(), user) } {
        0 => Ok(()),
        code => Err(Error::new(ErrorKind::Host, format!("the write function gave {code}"))),
    }
}

/// Lets a driver work for the manager: from now on acme_driver_dispatch() reads the store, orders and
/// renews. Several managers may share a driver.
/// @param manager The manager, without a driver.
/// @param driver The driver. If it is freed first, the manager stops.
/// @return ACME_OK; ACME_ERR_MISUSE: the manager has a driver, or was polled; ACME_ERR_HOST: the system
///   has no thread left.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_start(
    manager: *mut acme_manager_t,
    driver: *mut acme_driver_t,
) -> acme_status_t {
    guard(|| borrow::<acme_manager_t>(manager, "manager")?.shared.start(driver))
}

/// Works until acme_manager_stop(), for programs without an event loop. Blocking; the callbacks are called
/// on this thread.
/// @param manager The manager, without a driver.
/// @return ACME_OK after acme_manager_stop(); ACME_ERR_MISUSE: the manager has a driver, or was polled;
///   ACME_ERR_HOST: the system has no thread or descriptor left; ACME_ERR_UNSUPPORTED: the library has
///   no HTTP client.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_run(manager: *mut acme_manager_t) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let state = state.clone(); // lives until the end of this call, in any case
        if state.running.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Misuse, "the manager is running already"));
        }
        let ended = run_until(&state.stopped, |driver| {
            state.start(driver)?;
            Ok(state.clone() as Arc<dyn Worker>)
        });
        state.running.store(false, Ordering::Release);
        ended?;
        state.stopped.store(false, Ordering::Release);
        Ok(())
    })
}

/// Ends acme_manager_run() within a quarter of a second, after the challenges that are published were
/// removed; if it does not run, the next one at once. Any thread and any signal handler may call this: the function takes no lock.
/// @param manager The manager; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_stop(manager: *const acme_manager_t) {
    if let Some(handle) = peek(manager) {
        let handle: &ManagerHandle = handle;
        handle.shared.stopped.store(true, Ordering::Release);
    }
}

/// Frees the manager. It first cancels the attempts under way, and removes their challenges; their orders
/// stay in the store, and the next manager goes on with them. It waits until the store has taken what an attempt
/// writes, a minute at most. There are no more events. From a callback, and while another thread dispatches the
/// driver or is in acme_manager_run(), this function only sets ACME_ERR_MISUSE. In a child of fork() it frees
/// nothing. Operations of acme_manager_poll() stay: the program ends and frees them as before, or later.
/// @param manager The manager; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_free(manager: *mut acme_manager_t) {
    let Some(handle) = peek(manager) else { return };
    let handle: &ManagerHandle = handle;
    let ended = catch(|| {
        if handle.shared.running.load(Ordering::Acquire) {
            let why = "acme_manager_run() or acme_manager_poll() is working for the manager";
            return Err(Error::new(ErrorKind::Misuse, why));
        }
        let driver = locked(&handle.shared.driver).driver;
        match peek(driver.0) {
            Some(state) => {
                handle.shared.ending.store(true, Ordering::Release);
                let manager: Arc<dyn Worker> = handle.shared.clone();
                let freed = DriverState::free_manager(state, &manager);
                freed.inspect_err(|_| handle.shared.ending.store(false, Ordering::Release))
            }
            None => Ok(()),
        }
    });
    match ended {
        Ok(()) => release(manager),
        Err(error) => {
            fail(error);
        }
    }
}
