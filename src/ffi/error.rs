//! Errors as objects, always borrowed, and the last error of each thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

use safer_ffi::derive_ReprC;

use super::convert::{c_text, pointer_to};
use super::status::acme_status_t;
use super::types::acme_time_t;
use crate::error::{Error, ErrorKind};
use crate::problem::Problem;

/// An error, with the CA's problem document if it sent one. Always borrowed.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_error_t {
    status: acme_status_t,
    message: CString,
    permanent: bool,
    retry_at: acme_time_t,
    url: Option<CString>,
    identifier: Option<CString>,
    problem_type: Option<CString>,
    problem_json: Option<CString>,
    help_url: Option<CString>,
    subproblems: Vec<acme_error_t>,
}

impl acme_error_t {
    pub(super) fn new(error: Error) -> acme_error_t {
        let problem = error.problem();
        acme_error_t {
            status: error.kind().into(),
            message: c_text(error.to_string()),
            permanent: error.is_permanent(),
            retry_at: error.retry_at().map_or(0, |time| time.as_millis()),
            url: error.url().map(c_text),
            identifier: error.identifier().map(c_text),
            problem_type: problem.map(|p| c_text(p.type_urn())),
            problem_json: problem.map(|p| c_text(p.json())),
            help_url: error.help_url().map(c_text),
            subproblems: problem.map_or(Vec::new(), |p| {
                p.subproblems().iter().map(|sub| acme_error_t::subproblem(sub, &error)).collect()
            }),
        }
    }

    fn subproblem(problem: &Problem, whole: &Error) -> acme_error_t {
        acme_error_t {
            status: ErrorKind::of(problem).into(),
            message: c_text(problem.to_string()),
            permanent: problem.is_permanent(whole.http_status().unwrap_or(0)),
            retry_at: 0,
            url: None,
            identifier: problem.identifier().map(c_text),
            problem_type: Some(c_text(problem.type_urn())),
            problem_json: Some(c_text(problem.json())),
            help_url: problem.help_url().map(c_text),
            subproblems: Vec::new(),
        }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<Option<Box<acme_error_t>>> = const { RefCell::new(None) };
}

/// Sets the error that acme_last_error() returns on this thread; `None` after a success.
pub(super) fn set_last_error(error: Option<Box<acme_error_t>>) {
    // Fails only while the thread ends; no later call reads the error.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = error);
}

pub(super) fn last_error() -> *const acme_error_t {
    let last = LAST_ERROR.try_with(|last| last.borrow().as_deref().map(std::ptr::from_ref));
    last.ok().flatten().unwrap_or(std::ptr::null())
}

/// Returns the error of the last fallible call on this thread; NULL if it succeeded. Fallible
/// functions are those that return acme_status_t, and acme_op_poll(). No other function changes the
/// last error, except acme_op_free() and acme_driver_free() when they refuse.
/// @return Borrowed, until the next fallible call on this thread. NULL: the last one succeeded.
#[unsafe(no_mangle)]
pub extern "C" fn acme_last_error() -> *const acme_error_t {
    last_error()
}

/// Returns an error's status code; ACME_OK for NULL.
/// @param error From acme_last_error(), acme_op_error() or acme_error_subproblem(); may be NULL.
/// @return An ACME_ERR_* value; ACME_OK for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_status(error: Option<&acme_error_t>) -> acme_status_t {
    error.map_or(acme_status_t::ACME_OK, |error| error.status)
}

/// Returns an error in one line, for a log or a user: what was tried, on what, and why it failed.
/// @param error The error; may be NULL.
/// @return Text, valid as long as the error is; NULL for NULL. It contains no secret.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_message(error: Option<&acme_error_t>) -> *const c_char {
    pointer_to(error.map(|error| &error.message))
}

/// Whether the same request will fail again until its input changes; if not, a retry may help.
/// @param error The error; may be NULL.
/// @return 1 or 0; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_is_permanent(error: Option<&acme_error_t>) -> c_int {
    error.is_some_and(|error| error.permanent).into()
}

/// Returns the earliest time worth a retry (from Retry-After); 0 if the CA named none.
/// @param error The error; may be NULL.
/// @return Milliseconds since 1970; 0: none.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_retry_at(error: Option<&acme_error_t>) -> acme_time_t {
    error.map_or(0, |error| error.retry_at)
}

/// Returns the URL of the failed request; NULL for other errors.
/// @param error The error; may be NULL.
/// @return Text, valid as long as the error is, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_url(error: Option<&acme_error_t>) -> *const c_char {
    pointer_to(error.and_then(|error| error.url.as_ref()))
}

/// Returns the DNS name or IP address concerned; NULL if the error concerns no single name.
/// @param error The error; may be NULL.
/// @return Text, valid as long as the error is, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_identifier(error: Option<&acme_error_t>) -> *const c_char {
    pointer_to(error.and_then(|error| error.identifier.as_ref()))
}

/// Returns the problem's type URN (RFC 8555 section 6.7), such as "urn:ietf:params:acme:error:caa";
/// NULL if the CA sent no problem document.
/// @param error The error; may be NULL.
/// @return Text, valid as long as the error is, or NULL. Untrusted text of the CA.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_problem_type(error: Option<&acme_error_t>) -> *const c_char {
    pointer_to(error.and_then(|error| error.problem_type.as_ref()))
}

/// Returns the whole problem document (RFC 9457) as JSON; NULL if the CA sent none.
/// @param error The error; may be NULL.
/// @return Text, valid as long as the error is, or NULL. Untrusted text of the CA.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_problem_json(error: Option<&acme_error_t>) -> *const c_char {
    pointer_to(error.and_then(|error| error.problem_json.as_ref()))
}

/// Returns the URL of a page that helps the user: the CA's terms, a form that unpauses the account,
/// or an explanation of limits. NULL if the CA named no page. It is an https URL, but the CA chose
/// it: show it, do not fetch it.
/// @param error The error; may be NULL.
/// @return Text, valid as long as the error is, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_help_url(error: Option<&acme_error_t>) -> *const c_char {
    pointer_to(error.and_then(|error| error.help_url.as_ref()))
}

/// Returns the number of subproblems (RFC 8555 section 6.7.1); at most 100 are kept.
/// @param error The error; may be NULL.
/// @return 0 to 100; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_subproblem_count(error: Option<&acme_error_t>) -> usize {
    error.map_or(0, |error| error.subproblems.len())
}

/// Returns the index-th subproblem, itself an error; NULL past the end.
/// @param error The error; may be NULL.
/// @param index From 0.
/// @return Borrowed, valid as long as error is; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_error_subproblem(
    error: Option<&acme_error_t>,
    index: usize,
) -> *const acme_error_t {
    error.and_then(|error| error.subproblems.get(index)).map_or(null(), std::ptr::from_ref)
}
