//! Managers: certificates that stay fresh by themselves.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use safer_ffi::derive_ReprC;

use super::begin::keep_options;
use super::cert::CertState;
use super::client::ClientState;
use super::convert::{Out, optional_text, read_options, text};
use super::driver::{DriverState, run_manager, start_manager};
use super::guard::{catch, fail, guard};
use super::handle::{borrow, give, handle, peek, release};
use super::managed::{ManagerState, acme_manager_options_t, acme_write_fn, locked};
use super::status::acme_status_t;
use super::types::{acme_cert_t, acme_driver_t, acme_order_options_t};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// Keeps any number of certificates of a client fresh: obtains them, asks the CA when to renew them (RFC
/// 9773), renews them, and stores them in the client's store. A driver does its work.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_manager_t {
    _private: [u8; 0],
}

handle!(acme_manager_t, ManagerHandle, b"acmemngr");

/// The handle that C has.
pub struct ManagerHandle {
    shared: Arc<ManagerState>,
}

/// Creates a manager without certificates. It does nothing before acme_manager_start() or
/// acme_manager_run().
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
        let shared = Arc::new(ManagerState::new(client, options)?);
        out.set(give(ManagerHandle { shared }));
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

/// Removes a certificate. Its files or records stay in the store. Any thread, and any callback.
/// @param manager The manager.
/// @param name The certificate's name in the store.
/// @return ACME_OK, also if the manager has no such certificate; or ACME_ERR_INVALID_ARGUMENT.
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
/// @return The certificate with its key, to free with acme_cert_free(); NULL: no certificate
///   is for this name.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_cert(
    manager: *const acme_manager_t,
    server_name: *const c_char,
) -> *mut acme_cert_t {
    let find = || {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let found =
            optional_text(server_name, "server_name")?.and_then(|name| state.served.find(name));
        Ok(found.map_or(null_mut(), |(chain, key)| give(CertState::new(chain, Some(key)))))
    };
    catch(find).unwrap_or(null_mut())
}

/// Writes a JSON object about a certificate, or an array about all: name, state ("valid", "expired",
/// "missing", "stopped" or "loading"), not_after and next_try (RFC 3339), failures in a row. Any
/// thread.
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

/// Writes metrics as OpenMetrics 1.0 text: certificates by state, attempts and their results, the time
/// at which the first certificate expires. Any thread.
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
/// @return ACME_OK; ACME_ERR_MISUSE: the manager has a driver; ACME_ERR_HOST: the system has no thread
///   left.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_start(
    manager: *mut acme_manager_t,
    driver: *mut acme_driver_t,
) -> acme_status_t {
    guard(|| start_manager(&borrow::<acme_manager_t>(manager, "manager")?.shared, driver))
}

/// Works until acme_manager_stop(), for programs without an event loop. Blocking; the callbacks are called
/// on this thread.
/// @param manager The manager, without a driver.
/// @return ACME_OK after acme_manager_stop(); ACME_ERR_MISUSE: the manager has a driver; ACME_ERR_HOST:
///   the system has no thread or descriptor left; ACME_ERR_UNSUPPORTED: the library has no HTTP client.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_run(manager: *mut acme_manager_t) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        run_manager(state, &state.stopped)?;
        state.stopped.store(false, Ordering::Release);
        Ok(())
    })
}

/// Ends acme_manager_run() within a quarter of a second, after the challenges that are published were
/// removed. Any thread and any signal handler may call this: the function takes no lock.
/// @param manager The manager; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_stop(manager: *const acme_manager_t) {
    if let Some(handle) = peek(manager) {
        let handle: &ManagerHandle = handle;
        handle.shared.stopped.store(true, Ordering::Release);
    }
}

/// Frees the manager. It first cancels the attempts under way, and removes their challenges; their orders
/// stay in the store, and the next manager goes on with them. There are no more events. From a callback this
/// function only sets ACME_ERR_MISUSE. In a child of fork() it frees nothing.
/// @param manager The manager; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_free(manager: *mut acme_manager_t) {
    let Some(handle) = peek(manager) else { return };
    let handle: &ManagerHandle = handle;
    let ended = catch(|| match peek(handle.shared.driver()) {
        Some(state) => DriverState::free_manager(state, &handle.shared),
        None => Ok(()),
    });
    match ended {
        Ok(()) => release(manager),
        Err(error) => {
            fail(error);
        }
    }
}
