//! Status codes: the error kinds as numbers.

use std::ffi::{CStr, c_char, c_int};

use safer_ffi::derive_ReprC;

use crate::error::ErrorKind;

/// Status codes. Values are never renumbered or reused.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum acme_status_t {
    /// Success.
    ACME_OK = 0,
    /// An argument is NULL, out of range or malformed. Nothing was sent.
    ACME_ERR_INVALID_ARGUMENT = -1,
    /// The handle's state does not allow the call, or a callback of the handle makes it.
    ACME_ERR_MISUSE = -2,
    /// The library lacks this feature, or the CA does not offer it.
    ACME_ERR_UNSUPPORTED = -3,
    /// The library caught a bug of its own. The handle is unusable; free it.
    ACME_ERR_PANIC = -4,
    /// Input is not valid PEM, DER or base64url.
    ACME_ERR_PARSE = -10,
    /// A cryptographic operation failed.
    ACME_ERR_CRYPTO = -11,
    /// No HTTP response: name resolution, TCP, TLS or the timeout of one request.
    ACME_ERR_TRANSPORT = -20,
    /// The CA's response violates RFC 8555 or exceeds a limit.
    ACME_ERR_PROTOCOL = -21,
    /// The operation's own timeout expired, or the CA needs longer; see acme_error_retry_at().
    ACME_ERR_TIMEOUT = -22,
    /// A URL or redirect was refused: not https, or on a host that was not allowed.
    ACME_ERR_POLICY = -23,
    /// The CA failed: serverInternal or HTTP status 5xx, in a response, a challenge or an order. A
    /// retry may help. 503 with a Retry-After is ACME_ERR_RATE_LIMITED.
    ACME_ERR_SERVER = -24,
    /// The CA refused with a problem document; see acme_error_problem_type().
    ACME_ERR_PROBLEM = -30,
    /// The CA refused for now; see acme_error_retry_at().
    ACME_ERR_RATE_LIMITED = -31,
    /// The CA requires agreement to its terms of service.
    ACME_ERR_TERMS = -32,
    /// The CA requires an external account binding.
    ACME_ERR_EAB_REQUIRED = -33,
    /// The account is unknown, deactivated or revoked.
    ACME_ERR_ACCOUNT = -34,
    /// The CA tried a challenge and it failed; see acme_error_identifier().
    ACME_ERR_CHALLENGE = -35,
    /// The order became invalid, or the CA rejects one of its names.
    ACME_ERR_ORDER = -36,
    /// The CA issued another certificate than the requested one.
    ACME_ERR_CERTIFICATE = -37,
    /// The program could not publish a challenge, or its callback failed; or the system has no
    /// thread or descriptor left for an acme_driver_t.
    ACME_ERR_HOST = -40,
    /// acme_op_cancel() was called, or acme_driver_free() while the driver ran the operation.
    ACME_ERR_CANCELED = -41,
    /// A store could not read or write a record, or a record cannot be used. Its old content is
    /// unchanged.
    ACME_ERR_STORE = -42,
    /// Another program or thread has changed the same record of a store meanwhile.
    ACME_ERR_CONFLICT = -43,
}

use acme_status_t::*;

/// Every code, its error kind and its text.
const TABLE: &[(acme_status_t, Option<ErrorKind>, &CStr)] = &[
    (ACME_OK, None, c"success"),
    (ACME_ERR_INVALID_ARGUMENT, Some(ErrorKind::InvalidArgument), c"invalid argument"),
    (ACME_ERR_MISUSE, Some(ErrorKind::Misuse), c"the call does not fit the handle's state"),
    (ACME_ERR_UNSUPPORTED, Some(ErrorKind::Unsupported), c"not supported"),
    (ACME_ERR_PANIC, Some(ErrorKind::Panic), c"a bug in the library"),
    (ACME_ERR_PARSE, Some(ErrorKind::Parse), c"input cannot be parsed"),
    (ACME_ERR_CRYPTO, Some(ErrorKind::Crypto), c"a cryptographic operation failed"),
    (ACME_ERR_TRANSPORT, Some(ErrorKind::Transport), c"no response from the CA"),
    (ACME_ERR_PROTOCOL, Some(ErrorKind::Protocol), c"the CA's response breaks the protocol"),
    (ACME_ERR_TIMEOUT, Some(ErrorKind::Timeout), c"the time limit ran out"),
    (ACME_ERR_POLICY, Some(ErrorKind::Policy), c"a URL was refused"),
    (ACME_ERR_SERVER, Some(ErrorKind::Server), c"the CA failed"),
    (ACME_ERR_PROBLEM, Some(ErrorKind::Problem), c"the CA refused"),
    (ACME_ERR_RATE_LIMITED, Some(ErrorKind::RateLimited), c"the CA refused for now"),
    (ACME_ERR_TERMS, Some(ErrorKind::Terms), c"the terms of service are not agreed to"),
    (ACME_ERR_EAB_REQUIRED, Some(ErrorKind::EabRequired), c"the CA wants an external account"),
    (ACME_ERR_ACCOUNT, Some(ErrorKind::Account), c"the account is not usable"),
    (ACME_ERR_CHALLENGE, Some(ErrorKind::Challenge), c"a challenge failed"),
    (ACME_ERR_ORDER, Some(ErrorKind::Order), c"the order failed"),
    (
        ACME_ERR_CERTIFICATE,
        Some(ErrorKind::Certificate),
        c"the certificate is not what was asked for",
    ),
    (ACME_ERR_HOST, Some(ErrorKind::Host), c"the host program could not do its part"),
    (ACME_ERR_CANCELED, Some(ErrorKind::Canceled), c"canceled"),
    (ACME_ERR_STORE, Some(ErrorKind::Store), c"a store failed"),
    (ACME_ERR_CONFLICT, Some(ErrorKind::Conflict), c"another program changed the record"),
];

impl From<ErrorKind> for acme_status_t {
    fn from(kind: ErrorKind) -> acme_status_t {
        let entry = TABLE.iter().find(|(_, of, _)| *of == Some(kind));
        entry.map_or(ACME_ERR_PANIC, |(status, _, _)| *status)
    }
}

/// Returns the English text for a status code; never NULL.
/// @param status An ACME_* status code, or any other number.
/// @return Static text without a full stop; "unknown status" for any other number.
#[unsafe(no_mangle)]
pub extern "C" fn acme_strerror(status: c_int) -> *const c_char {
    let entry = TABLE.iter().find(|(code, _, _)| *code as c_int == status);
    entry.map_or(c"unknown status", |(_, _, text)| text).as_ptr()
}
