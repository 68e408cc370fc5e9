//! Results of an operation: the order's URL and key, the certificate, renewal information, URLs.

use std::ffi::c_char;
use std::ptr::{from_ref, null, null_mut};

use super::cert::OwnedKey;
use super::convert::pointer_to;
use super::guard::catch;
use super::handle::{give, peek};
use super::op::OpState;
use super::types::{acme_cert_t, acme_key_t, acme_op_t, acme_renewal_info_t};

/// Returns the order's URL, for resuming the order after a restart; NULL before the CA has created
/// it.
/// @param op The operation.
/// @return Text, valid until the next poll, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_order_url(op: *const acme_op_t) -> *const c_char {
    peek(op).map_or(null(), OpState::order_url)
}

/// Returns the certificate's key, at any time: store it before the CA issues a certificate for it.
/// NULL for an order with a CSR made elsewhere, and for operations of other kinds.
/// @param op The operation.
/// @return Borrowed, valid until op is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_key(op: *const acme_op_t) -> *const acme_key_t {
    let key = |op: &OpState| op.key.as_ref().map(OwnedKey::handle);
    peek(op).and_then(key).unwrap_or(null())
}

/// Takes the certificate out of a finished order. NULL if the renewal was not due (only_if_due) and
/// the client has no store, or if the certificate was taken before. With a store there is also a
/// certificate if only its last write failed (ACME_ERR_STORE): the next operation stores it.
/// @param op The operation.
/// @return The certificate, to free with acme_cert_free(), or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_take_cert(op: *mut acme_op_t) -> *mut acme_cert_t {
    let cert = || Ok(peek(op).and_then(OpState::take_cert).map_or(null_mut(), give));
    catch(cert).unwrap_or(null_mut())
}

/// Returns when to renew, after ACME_STEP_DONE of acme_begin_renewal_info(), or of an order with
/// only_if_due whose renewal was not due; else NULL.
/// @param op The operation.
/// @return Borrowed, valid until op is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_renewal_info(op: *const acme_op_t) -> *const acme_renewal_info_t {
    let pointer = |op: &OpState| op.views().renewal_info.as_ref().map(|i| from_ref(&i.c));
    peek(op).and_then(pointer).unwrap_or(null())
}

/// Returns the index-th URL, after ACME_STEP_DONE of acme_begin_authorize() or
/// acme_begin_list_orders(); NULL past the end.
/// @param op The operation.
/// @param index From 0; authorizations are in the order of the names.
/// @return Text, valid until op is freed; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_url(op: *const acme_op_t, index: usize) -> *const c_char {
    let url = |op: &OpState| pointer_to(op.views().urls.get(index));
    peek(op).map_or(null(), url)
}
