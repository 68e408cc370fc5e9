//! Authorizations and orders by themselves: proven ahead, given up, listed.

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

/// Proves names ahead of an order (RFC 8555 section 7.4.1): steps as those of an order, up to the
/// proof. Then acme_op_url() has the URL of each name's authorization. ACME_ERR_UNSUPPORTED where
/// the CA does not offer it; Let's Encrypt does not.
/// @param client The client; operations keep what they need of it.
/// @param options Read during the call only.
/// @param op Out: the operation, which you free with acme_op_free(). No request has been sent.
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: the message says which member, and why;
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
        options.time_limit = Duration::from_secs(given.timeout_s as u64);
    }
    Ok(options)
}

/// Deactivates the authorization at this URL, for good (RFC 8555 section 7.5.2): whoever orders its
/// name has to prove it anew.
/// @param client The client; operations keep what they need of it.
/// @param authorization_url What acme_op_url() said; copied.
/// @param op Out: the operation, which you free with acme_op_free(). No request has been sent.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: it is no URL of this CA's.
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

/// Deactivates what is still pending of the authorizations of the order at this URL, for an order
/// that is not going to be resumed: CAs limit how many an account may leave pending.
/// @param client The client; operations keep what they need of it.
/// @param order_url What acme_op_order_url() said; copied.
/// @param op Out: the operation, which you free with acme_op_free(). No request has been sent.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: it is no URL of this CA's.
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

/// Lists the account's orders, those that are pending at least (RFC 8555 section 7.1.2.1). Then
/// acme_op_url() has their URLs. ACME_ERR_UNSUPPORTED where the CA keeps no list; Let's Encrypt does
/// not.
/// @param client The client; operations keep what they need of it.
/// @param op Out: the operation, which you free with acme_op_free(). No request has been sent.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_list_orders(
    client: *const acme_client_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| Ok(client.engine.orders().map(Outcome::Urls)))
}
