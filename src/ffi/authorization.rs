//! Functions that begin an operation of authorizations and orders: pre-authorize, deactivate, list.

use std::ffi::c_char;
use std::time::Duration;

use super::begin::{acceptable_types, begin};
use super::client::acme_client_t;
use super::convert::{flag, read_options, text, texts};
use super::outcome::Outcome;
use super::status::acme_status_t;
use super::types::{acme_authorize_options_t, acme_op_t};
use crate::engine::AuthorizeOptions;
use crate::error::Result;

/// Authorizes names before an order (RFC 8555 section 7.4.1), with the same steps as an order up to
/// its challenges. Afterwards acme_op_url() has the URL of each name's authorization.
/// ACME_ERR_UNSUPPORTED if the CA does not offer it; Let's Encrypt does not.
/// @param client The client. It may be freed before the operation.
/// @param options Read during the call only.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: the message names the member and the reason;
///   ACME_ERR_UNSUPPORTED: this library does not know a member.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_authorize(
    client: *const acme_client_t,
    options: *const acme_authorize_options_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let options = authorize_options(&read_options(options, "options")?)?;
        Ok(client.engine.authorize(options)?.map(Outcome::Urls))
    })
}

fn authorize_options(given: &acme_authorize_options_t) -> Result<AuthorizeOptions> {
    let mut options = AuthorizeOptions::new(texts(given.names, given.name_count, "names")?);
    let types = acceptable_types(given.challenge_types, given.challenge_type_count)?;
    options.challenge_types = types.unwrap_or(options.challenge_types);
    options.subdomains = flag(given.subdomains, "subdomains")?;
    if given.timeout_s > 0 {
        options.timeout = Duration::from_secs(given.timeout_s as u64);
    }
    Ok(options)
}

/// Deactivates an authorization permanently (RFC 8555 section 7.5.2): the next order of its name
/// has to pass a challenge again.
/// @param client The client. It may be freed before the operation.
/// @param authorization_url URL from acme_op_url(); copied.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: not a URL of this CA.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_deactivate_authorization(
    client: *const acme_client_t,
    authorization_url: *const c_char,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let url = text(authorization_url, "authorization_url")?;
        Ok(client.engine.deactivate_authorization(url)?.map(|()| Outcome::Done))
    })
}

/// Deactivates the pending authorizations of an order that will not be resumed: CAs limit how many
/// an account may leave pending.
/// @param client The client. It may be freed before the operation.
/// @param order_url URL from acme_op_order_url(); copied.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: not a URL of this CA.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_abandon_order(
    client: *const acme_client_t,
    order_url: *const c_char,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let url = text(order_url, "order_url")?;
        Ok(client.engine.abandon_order(url)?.map(|()| Outcome::Done))
    })
}

/// Lists the account's orders, at least the pending ones (RFC 8555 section 7.1.2.1). Afterwards
/// acme_op_url() has their URLs. ACME_ERR_UNSUPPORTED if the CA keeps no list; Let's Encrypt does
/// not.
/// @param client The client. It may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_list_orders(
    client: *const acme_client_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| Ok(client.engine.orders().map(Outcome::Urls)))
}
