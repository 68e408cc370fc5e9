//! Results of an operation: the order's URL and key, the certificate, renewal information, URLs.

use std::ffi::c_char;
use std::ptr::{from_ref, null, null_mut};

use super::cert::OwnedKey;
use super::convert::pointer_to;
use super::guard::catch;
use super::handle::{give, peek};
use super::op::OpState;
use super::types::{acme_cert_t, acme_key_t, acme_op_t, acme_renewal_info_t};

/// The order's URL, to resume it after a restart; NULL before there is one.
/// @param op The operation.
/// @return Text, valid until the next poll, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_order_url(op: *const acme_op_t) -> *const c_char {
    peek(op).map_or(null(), OpState::order_url)
}

/// The certificate's key, from the beginning: store it before the CA issues a certificate for it.
/// NULL when the order is for a CSR made elsewhere, or the operation is no order.
/// @param op The operation.
/// @return Borrowed, valid until op is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_key(op: *const acme_op_t) -> *const acme_key_t {
    let key = |op: &OpState| op.key.as_ref().map(OwnedKey::handle);
    peek(op).and_then(key).unwrap_or(null())
}

/// The certificate, now yours, after ACME_STEP_DONE of an order; NULL when there is none (none was
/// due), or it has been taken.
/// @param op The operation.
/// @return The certificate, which you free with acme_cert_free(), or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_take_cert(op: *mut acme_op_t) -> *mut acme_cert_t {
    let cert = || Ok(peek(op).and_then(OpState::take_cert).map_or(null_mut(), give));
    catch(cert).unwrap_or(null_mut())
}

/// When to renew, after ACME_STEP_DONE of acme_begin_renewal_info(), or of an order with only_if_due
/// that was not; else NULL.
/// @param op The operation.
/// @return Borrowed, valid until op is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_renewal_info(op: *const acme_op_t) -> *const acme_renewal_info_t {
    let pointer = |op: &OpState| op.views().renewal_info.as_ref().map(|i| from_ref(&i.c));
    peek(op).and_then(pointer).unwrap_or(null())
}

/// The index-th URL, after ACME_STEP_DONE of acme_begin_authorize() or acme_begin_list_orders(); NULL
/// past the end.
/// @param op The operation.
/// @param index From 0; authorizations are in the order of the names.
/// @return Text, valid until op is freed; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_url(op: *const acme_op_t, index: usize) -> *const c_char {
    let url = |op: &OpState| pointer_to(op.views().urls.get(index));
    peek(op).map_or(null(), url)
}
