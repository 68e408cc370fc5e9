//! Responses to the requests of an operation, fed in by a host with its own HTTP client.

use std::ffi::{c_char, c_int, c_void};

use super::convert::{bytes, optional_text};
use super::guard::guard;
use super::handle::borrow;
use super::op::OpState;
use super::status::acme_status_t;
use super::types::acme_op_t;

/// Adds one header field of a response. Pass all fields, in the order of the response; white space
/// around the value is ignored.
/// @param op The operation. While a driver runs it, only the driver may respond to its requests.
/// @param request_id The id of the request.
/// @param name The field's name, in upper or lower case; a NUL at its end is not necessary.
/// @param name_size Size of name in bytes.
/// @param value The field's value; a NUL at its end is not necessary.
/// @param value_size Size of value in bytes.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request waits for a response; ACME_ERR_PROTOCOL: the
///   response exceeds a limit, and its rest is not necessary.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_response_header(
    op: *mut acme_op_t,
    request_id: u64,
    name: *const c_char,
    name_size: usize,
    value: *const c_char,
    value_size: usize,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let name = bytes(name.cast(), name_size, "name")?;
        let value = bytes(value.cast(), value_size, "value")?;
        op.operation.reply(request_id).header(name, value)
    })
}

/// Adds bytes of a response's body; call it as often as bytes arrive. More than 1 MiB in total is
/// ACME_ERR_PROTOCOL, and the rest is not necessary.
/// @param op The operation.
/// @param request_id The id of the request.
/// @param data The next bytes of the body, without transfer or content encoding; copied.
/// @param size Size of data in bytes; 0 is fine.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request waits for a response; ACME_ERR_PROTOCOL: more
///   than 1 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_response_body(
    op: *mut acme_op_t,
    request_id: u64,
    data: *const c_void,
    size: usize,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        op.operation.reply(request_id).body(bytes(data, size, "data")?)
    })
}

/// Completes a response, with its HTTP status. Do not follow redirects (3xx).
/// @param op The operation.
/// @param request_id The id of the request.
/// @param http_status HTTP status, 200 to 599.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request waits for a response;
///   ACME_ERR_INVALID_ARGUMENT: another status.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_response_end(
    op: *mut acme_op_t,
    request_id: u64,
    http_status: c_int,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        op.operation.reply(request_id).end(u16::try_from(http_status).unwrap_or(0))
    })
}

/// Reports that no complete response arrived, and why. The operation decides whether to try again.
/// @param op The operation.
/// @param request_id The id of the request.
/// @param why Reason, for the message of an error; copied. NULL: unknown.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request waits for a response.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_response_failed(
    op: *mut acme_op_t,
    request_id: u64,
    why: *const c_char,
) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let why = optional_text(why, "why")?.unwrap_or("unknown reason");
        op.operation.reply(request_id).failed(why)
    })
}
