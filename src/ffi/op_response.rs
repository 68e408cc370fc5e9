//! Responses to the requests of an operation, fed in by a host with its own HTTP client.

use std::ffi::{c_char, c_int, c_void};

use super::convert::{bytes, optional_text};
use super::guard::guard;
use super::handle::borrow;
use super::op::OpState;
use super::status::acme_status_t;
use super::types::acme_op_t;

/// Hands over one header field of the answer to a request. Pass them all, in the order they came; space
/// around the value is ignored.
/// @param op The operation. While a driver has it, nobody else answers its requests.
/// @param request_id The id of the request that is being answered.
/// @param name The field's name, in any case; need not end in a NUL.
/// @param name_size Bytes of name.
/// @param value The field's value; need not end in a NUL.
/// @param value_size Bytes of value.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request is waiting for its answer;
///   ACME_ERR_PROTOCOL: the answer is over a limit, and the rest need not be fed.
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

/// Hands over some bytes of an answer's body; call as often as bytes arrive. Over 1 MiB in all:
/// ACME_ERR_PROTOCOL, and the rest need not be fed.
/// @param op The operation.
/// @param request_id The id of the request that is being answered.
/// @param data The next bytes of the body, with no transfer or content encoding; copied.
/// @param size Number of them; 0 is fine.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request is waiting for its answer;
///   ACME_ERR_PROTOCOL: more than 1 MiB.
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

/// Says that an answer is complete, and its HTTP status. Do not follow 3xx yourself.
/// @param op The operation.
/// @param request_id The id of the request that is being answered.
/// @param http_status 200 to 599.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request is waiting for its answer;
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

/// Says that no complete answer came, and why. The operation tries again as it sees fit.
/// @param op The operation.
/// @param request_id The id of the request that is being answered.
/// @param why For the message of the error that may come of it; copied. NULL: unknown.
/// @return ACME_OK; ACME_ERR_MISUSE: no such request is waiting for its answer.
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
