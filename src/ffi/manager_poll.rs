//! Managers that the program polls, with its own HTTP client and threads.

use std::ffi::c_int;
use std::sync::{Arc, Weak};

use safer_ffi::derive_ReprC;

use super::convert::Out;
use super::driver::Dispatching;
use super::guard::guard;
use super::handle::{borrow, peek};
use super::manager::{ACTS_AT_ONCE, ManagerState, Task, acme_manager_t, locked};
use super::op::OpState;
use super::status::acme_status_t;
use super::types::acme_op_t;
use crate::engine::Tried;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Ticket;

/// The next task of a program that polls a manager, from acme_manager_poll().
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_manager_step_t {
    /// Nothing to do for *wait_ms milliseconds.
    ACME_MANAGER_WAIT = 0,
    /// Carry out *op, and poll the manager again at once: more operations may run at the same time.
    ACME_MANAGER_OPERATION = 1,
    /// Call acme_manager_load() once, on any thread, and poll the manager again at once and after that
    /// call.
    ACME_MANAGER_LOAD = 2,
}

use acme_manager_step_t::*;

/// An attempt that the program carries out. If it is freed before its end, the attempt has failed.
struct Attempt {
    manager: Weak<ManagerState>,
    ticket: Option<Ticket>,
}

impl Attempt {
    fn end(&mut self, outcome: Result<Tried>) {
        if let (Some(manager), Some(ticket)) = (self.manager.upgrade(), self.ticket.take()) {
            manager.ended(ticket, outcome);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.end(Err(Error::new(ErrorKind::Host, "the program freed the attempt")));
        }
    }
}

/// Works for the manager without a driver, for programs with an HTTP client of their own: tells the
/// events, and returns the next task. Does not block. Poll also when *wait_ms milliseconds have passed,
/// when an operation has ended, and after acme_manager_add() and acme_manager_renew(); with certificates
/// on demand, or more than max_loaded, also after acme_manager_cert() has returned NULL.
///
/// An operation is one attempt: carry it out to its end with acme_op_poll(), as any operation, or with
/// acme_op_run(); then free it. The manager learns its result by itself. If the operation is freed before its
/// end, that is a failure (ACME_ERR_HOST), and the next attempt comes later. acme_op_cancel() is not
/// a failure: the attempt begins anew. The manager keeps the result: acme_op_take_cert() returns NULL.
/// @param manager The manager, without a driver. One thread at a time, and not from a callback.
/// @param op Out: an operation, to free with acme_op_free(), also after the manager; NULL: no operation.
/// @param wait_ms Out: milliseconds until the next poll, at most 300000; 0 with other steps.
/// @return > 0: an ACME_MANAGER_* value; 0: ACME_MANAGER_WAIT; < 0: ACME_ERR_INVALID_ARGUMENT, or
///   ACME_ERR_MISUSE: the manager has a driver, or is calling back.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_manager_poll(
    manager: *mut acme_manager_t,
    op: *mut *mut acme_op_t,
    wait_ms: *mut c_int,
) -> c_int {
    let mut step = ACME_MANAGER_WAIT;
    let status = guard(|| {
        let (op, wait) = (Out::handle(op, "op")?, Out::new(wait_ms, "wait_ms")?);
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let _polling = Dispatching::start(&state.running)?;
        state.begin_polling()?;
        let (mut left, mut wait_ms) = (ACTS_AT_ONCE, 0);
        match state.next_task(&mut left) {
            Task::Wait(delay) => wait_ms = c_int::try_from(delay.as_millis()).unwrap_or(c_int::MAX),
            Task::Load(job) => {
                locked(&state.jobs).push(job);
                step = ACME_MANAGER_LOAD;
            }
            Task::Attempt(ticket, attempt) => {
                let mut end = Attempt { manager: Arc::downgrade(state), ticket: Some(ticket) };
                if let Some(known) = peek(attempt) {
                    let known: &OpState = known;
                    known.views().report = Some(Box::new(move |outcome| end.end(outcome)));
                }
                op.set(attempt);
                step = ACME_MANAGER_OPERATION;
            }
        }
        wait.set(wait_ms);
        Ok(())
    });
    if status == acme_status_t::ACME_OK { step as c_int } else { status as c_int }
}

/// Reads from the store what the manager needs, after ACME_MANAGER_LOAD. Blocks as long as the store
/// does. Any thread; several calls may run at the same time.
/// @param manager The manager. Do not free it meanwhile.
/// @return ACME_OK, also if the store failed, which an event tells; ACME_ERR_MISUSE: there is nothing to read.
#[unsafe(no_mangle)]
pub extern "C" fn acme_manager_load(manager: *mut acme_manager_t) -> acme_status_t {
    guard(|| {
        let state = &borrow::<acme_manager_t>(manager, "manager")?.shared;
        let job = locked(&state.jobs).pop();
        let none = || Error::new(ErrorKind::Misuse, "acme_manager_poll() has not asked for this");
        job.ok_or_else(none)?.perform();
        Ok(())
    })
}
