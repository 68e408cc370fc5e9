//! Functions that begin an operation of an account, an order or a certificate.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use safer_ffi::derive_ReprC;

use super::cert::CertState;
use super::client::{ClientState, acme_client_t};
use super::convert::{Out, flag, optional_text, optional_texts, read_options, text, texts};
use super::guard::guard;
use super::handle::{borrow, give};
use super::key::{KeyState, key_type_of};
use super::op::OpState;
use super::outcome::Outcome;
use super::status::acme_status_t;
use super::types::{acme_cert_t, acme_csr_t, acme_key_t, acme_op_t, acme_order_options_t};
use crate::engine::{
    ChallengeType, KeepOptions, Operation, OrderOptions, Renewal, RevocationReason,
};
use crate::error::{Error, Result};
use crate::pki::{CertificateChain, ChainPreference, Key, KeyType, SigningRequest};
use crate::time::Time;

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_revocation_reason_t {
    /// No reason given.
    ACME_REVOKE_UNSPECIFIED = 0,
    /// Others know the private key, or may know it.
    ACME_REVOKE_KEY_COMPROMISE = 1,
    /// Others know the key of the CA that issued it. This value and those above 5 are for private
    /// CAs.
    ACME_REVOKE_CA_COMPROMISE = 2,
    /// The names changed owner.
    ACME_REVOKE_AFFILIATION_CHANGED = 3,
    /// There is a new certificate.
    ACME_REVOKE_SUPERSEDED = 4,
    /// The service ended.
    ACME_REVOKE_CESSATION_OF_OPERATION = 5,
    /// The certificate is suspended for now.
    ACME_REVOKE_CERTIFICATE_HOLD = 6,
    /// The certificate is no longer suspended.
    ACME_REVOKE_REMOVE_FROM_CRL = 8,
    /// A privilege in the certificate was withdrawn.
    ACME_REVOKE_PRIVILEGE_WITHDRAWN = 9,
    /// Others know the key of an attribute authority.
    ACME_REVOKE_AA_COMPROMISE = 10,
}

use acme_revocation_reason_t::*;

const REASONS: [(acme_revocation_reason_t, RevocationReason); 10] = [
    (ACME_REVOKE_UNSPECIFIED, RevocationReason::Unspecified),
    (ACME_REVOKE_KEY_COMPROMISE, RevocationReason::KeyCompromise),
    (ACME_REVOKE_CA_COMPROMISE, RevocationReason::CaCompromise),
    (ACME_REVOKE_AFFILIATION_CHANGED, RevocationReason::AffiliationChanged),
    (ACME_REVOKE_SUPERSEDED, RevocationReason::Superseded),
    (ACME_REVOKE_CESSATION_OF_OPERATION, RevocationReason::CessationOfOperation),
    (ACME_REVOKE_CERTIFICATE_HOLD, RevocationReason::CertificateHold),
    (ACME_REVOKE_REMOVE_FROM_CRL, RevocationReason::RemoveFromCrl),
    (ACME_REVOKE_PRIVILEGE_WITHDRAWN, RevocationReason::PrivilegeWithdrawn),
    (ACME_REVOKE_AA_COMPROMISE, RevocationReason::AaCompromise),
];

/// Meaning of preferred_chain (RFC 8555 section 7.4.2).
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_chain_by_t {
    /// Common name of the root that the chain leads to.
    ACME_CHAIN_BY_ROOT = 0,
    /// Common name of any issuer in the chain.
    ACME_CHAIN_BY_ISSUER = 1,
    /// Key identifier of any issuer in the chain, in hexadecimal digits.
    ACME_CHAIN_BY_KEY_ID = 2,
    /// No meaning: prefer the chain with the fewest bytes.
    ACME_CHAIN_SMALLEST = 3,
}

use acme_chain_by_t::*;

/// Checks the arguments, begins an operation with `start`, and sets `op`.
pub(super) fn begin(
    client: *const acme_client_t,
    op: *mut *mut acme_op_t,
    start: impl FnOnce(&ClientState) -> Result<Operation<Outcome>>,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(op, "op")?;
        let client: &ClientState = borrow(client, "client")?;
        out.set(give(OpState::begin(client, start(client)?, None)));
        Ok(())
    })
}

/// Registers the account, or finds it if the CA knows the key (RFC 8555 section 7.3). Afterwards
/// acme_client_account_url() returns its URL.
/// @param client The client. It may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_register(
    client: *const acme_client_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| Ok(client.engine.register().map(|_| Outcome::Done)))
}

/// Finds the account of the key and creates none (RFC 8555 section 7.3.1): ACME_ERR_ACCOUNT if the
/// CA does not know the key. Afterwards acme_client_account_url() returns its URL.
/// @param client The client. It may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_find_account(
    client: *const acme_client_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| Ok(client.engine.find_account().map(|_| Outcome::Done)))
}

/// Replaces the account's contacts, "mailto:..." URLs; an empty list removes them (RFC 8555 section
/// 7.3.2).
/// @param client The client. It may be freed before the operation.
/// @param contacts The contacts, copied; may be NULL when count is 0.
/// @param count Number of contacts.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: a contact is not a URL.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_update_contacts(
    client: *const acme_client_t,
    contacts: *const *const c_char,
    count: usize,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let contacts = texts(contacts, count, "contacts")?.into_iter().map(str::to_owned);
        Ok(client.engine.update_contacts(contacts.collect())?.map(|()| Outcome::Done))
    })
}

/// Replaces the account's key (RFC 8555 section 7.3.5). Store new_key before, and delete the old
/// key after ACME_STEP_DONE. If the program ends in between, begin again with the old key: the
/// operation finds out which key the CA knows. From ACME_STEP_DONE on the client uses the new key.
/// @param client The client. It may be freed before the operation.
/// @param new_key The new key. It may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_key_change(
    client: *const acme_client_t,
    new_key: *const acme_key_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let new_key: &KeyState = borrow(new_key, "new_key")?;
        Ok(client.engine.change_key(&new_key.key).map(|()| Outcome::Done))
    })
}

/// Deactivates the account permanently (RFC 8555 section 7.3.6).
/// @param client The client. It may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_deactivate(
    client: *const acme_client_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| Ok(client.engine.deactivate_account().map(|()| Outcome::Done)))
}

/// Fetches from the CA when to renew cert (RFC 9773). Without this information, the certificate's
/// lifetime decides.
/// Afterwards acme_op_renewal_info() has the window.
/// @param client The client. It may be freed before the operation.
/// @param cert The certificate. It may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_renewal_info(
    client: *const acme_client_t,
    cert: *const acme_cert_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let cert: &CertState = borrow(cert, "cert")?;
        Ok(client.engine.renewal_info(cert.chain()).map(Outcome::RenewalInfo))
    })
}

/// Revokes cert (RFC 8555 section 7.6). The request is signed with the account's key (key NULL; the
/// account that ordered it) or with the certificate's key. reason is an ACME_REVOKE_* value.
/// @param client The client. It may be freed before the operation.
/// @param cert The certificate. It may be freed before the operation.
/// @param key The certificate's key, which may be freed before the operation; NULL: the account's.
/// @param reason An ACME_REVOKE_* value.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: reason is another value, or key is not the
///   certificate's.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_revoke(
    client: *const acme_client_t,
    cert: *const acme_cert_t,
    key: *const acme_key_t,
    reason: c_int,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    begin(client, op, |client| {
        let cert: &CertState = borrow(cert, "cert")?;
        let known = REASONS.iter().find(|(code, _)| *code as c_int == reason);
        let (_, reason) = known.ok_or_else(|| {
            Error::invalid_argument(format!("reason is {reason}, which is no ACME_REVOKE_* value"))
        })?;
        let key = optional_key(key, "key")?;
        Ok(client.engine.revoke(cert.chain(), *reason, key.as_ref())?.map(|()| Outcome::Done))
    })
}

/// Begins to obtain a certificate (RFC 8555 section 7.1): account if needed, order, challenges,
/// finalize, download. Options that cannot work are refused here, before any request.
/// @param client The client. It may be freed before the operation.
/// @param options Read during the call only. Its handles may be freed before the operation.
/// @param op Out: the operation, to free with acme_op_free(). No request has been sent yet.
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: the message names the member and the reason;
///   ACME_ERR_UNSUPPORTED: this library does not know a member.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_begin_order(
    client: *const acme_client_t,
    options: *const acme_order_options_t,
    op: *mut *mut acme_op_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(op, "op")?;
        let client: &ClientState = borrow(client, "client")?;
        out.set(give(begin_order(client, &read_options(options, "options")?)?));
        Ok(())
    })
}

pub(super) fn begin_order(client: &ClientState, given: &acme_order_options_t) -> Result<OpState> {
    let mut options = order_options(given)?;
    if options.key.is_none() && options.csr.is_none() && client.engine.store().is_some() {
        let options = keep_options(given)?;
        let operation = client.engine.keep(options)?.map(|kept| Outcome::Kept(Box::new(kept)));
        return Ok(OpState::begin(client, operation, None));
    }
    if !given.stored_as.is_null() || given.key_type != 0 || given.new_key != 0 {
        let why =
            "stored_as, key_type and new_key need a client with a store, and exclude key and csr";
        return Err(Error::invalid_argument(why));
    }
    if options.key.is_none() && options.csr.is_none() {
        options.key = Some(Key::generate(KeyType::P256)?);
    }
    let key = options.key.clone();
    let operation = match flag(given.only_if_due, "only_if_due")? {
        false => client.engine.obtain(options)?.map(Outcome::Certificate),
        true => client.engine.renew(options)?.map(|renewal| match renewal {
            Renewal::NotDue(info) => Outcome::RenewalInfo(info),
            Renewal::Renewed(issued) => Outcome::Certificate(issued),
        }),
    };
    Ok(OpState::begin(client, operation, key))
}

/// Returns the options of an order that a store keeps.
pub(super) fn keep_options(given: &acme_order_options_t) -> Result<KeepOptions> {
    let mut options = KeepOptions::new(order_options(given)?);
    options.name = optional_text(given.stored_as, "stored_as")?.map(str::to_owned);
    options.key_type = key_type_of(given.key_type)?.unwrap_or(options.key_type);
    options.new_key = flag(given.new_key, "new_key")?;
    options.renew_now = !flag(given.only_if_due, "only_if_due")?;
    Ok(options)
}

fn order_options(given: &acme_order_options_t) -> Result<OrderOptions> {
    let mut options = OrderOptions::new(texts(given.names, given.name_count, "names")?);
    let types = acceptable_types(given.challenge_types, given.challenge_type_count)?;
    options.challenge_types = types.unwrap_or(options.challenge_types);
    if !given.name_challenge_types.is_null() {
        let name = "name_challenge_types";
        let types = optional_texts(given.name_challenge_types, given.name_count, name)?;
        for (name, kind) in options.names.iter().zip(types) {
            if let Some(kind) = kind {
                options.challenge_by_name.push((name.clone(), challenge_type(kind)?));
            }
        }
    }
    let ancestor_domain = optional_text(given.ancestor_domain, "ancestor_domain")?;
    options.ancestor_domain = ancestor_domain.map(str::to_owned);
    options.abandon_on_failure = flag(given.abandon_on_failure, "abandon_on_failure")?;
    if !given.csr.is_null() {
        let csr: &SigningRequest = borrow::<acme_csr_t>(given.csr, "csr")?;
        options.csr = Some(csr.clone());
    }
    options.key = optional_key(given.key, "key")?;
    options.order_url = optional_text(given.order_url, "order_url")?.map(str::to_owned);
    if given.timeout_s > 0 {
        options.timeout = Duration::from_secs(given.timeout_s as u64);
    }
    options.not_before = optional_date(given.not_before, "not_before")?;
    options.not_after = optional_date(given.not_after, "not_after")?;
    options.profile = optional_text(given.profile, "profile")?.map(str::to_owned);
    options.profile_optional = flag(given.profile_optional, "profile_optional")?;
    options.replaces = optional_chain(given.replaces, "replaces")?;
    options.preferred_chain = chain_preference(given)?;
    options.must_staple = flag(given.must_staple, "must_staple")?;
    Ok(options)
}

/// Returns the acceptable challenge types; `None`: the default.
pub(super) fn acceptable_types(
    types: *const *const c_char,
    count: usize,
) -> Result<Option<Vec<ChallengeType>>> {
    let types = texts(types, count, "challenge_types")?;
    let types: Vec<ChallengeType> = types.into_iter().map(challenge_type).collect::<Result<_>>()?;
    Ok((!types.is_empty()).then_some(types))
}

fn challenge_type(name: &str) -> Result<ChallengeType> {
    ChallengeType::from_name(name).ok_or_else(|| {
        let shown = crate::text::printable(name, 40);
        Error::invalid_argument(format!("\"{shown}\" is no challenge type; see acme_challenge_t"))
    })
}

fn optional_key(key: *const acme_key_t, name: &str) -> Result<Option<Key>> {
    match key.is_null() {
        true => Ok(None),
        false => Ok(Some(borrow::<acme_key_t>(key, name)?.key.clone())),
    }
}

fn optional_chain(cert: *const acme_cert_t, name: &str) -> Result<Option<CertificateChain>> {
    match cert.is_null() {
        true => Ok(None),
        false => Ok(Some(borrow::<acme_cert_t>(cert, name)?.chain().clone())),
    }
}

fn optional_date(date: *const c_char, name: &str) -> Result<Option<Time>> {
    let Some(date) = optional_text(date, name)? else { return Ok(None) };
    let refuse = || {
        Error::invalid_argument(format!("{name} is no RFC 3339 date, like 2026-12-01T00:00:00Z"))
    };
    Time::from_rfc3339(date).map(Some).ok_or_else(refuse)
}

fn chain_preference(given: &acme_order_options_t) -> Result<Option<ChainPreference>> {
    let by = given.preferred_chain_by;
    if by == ACME_CHAIN_SMALLEST as usize {
        return Ok(Some(ChainPreference::Smallest));
    }
    if given.preferred_chain.is_null() && by == 0 {
        return Ok(None);
    }
    let wanted = text(given.preferred_chain, "preferred_chain")?;
    Ok(Some(match by {
        _ if by == ACME_CHAIN_BY_ROOT as usize => ChainPreference::Root(wanted.to_owned()),
        _ if by == ACME_CHAIN_BY_ISSUER as usize => ChainPreference::Issuer(wanted.to_owned()),
        _ if by == ACME_CHAIN_BY_KEY_ID as usize => ChainPreference::key_identifier(wanted)?,
        _ => {
            let why = format!("preferred_chain_by is {by}, which is no ACME_CHAIN_* value");
            return Err(Error::invalid_argument(why));
        }
    }))
}
