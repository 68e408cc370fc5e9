//! Clients: one account at one CA.

use std::ffi::{CString, c_char};
use std::ptr::null;
use std::sync::{Mutex, PoisonError};

use safer_ffi::derive_ReprC;

use super::convert::{
    Out, bytes, c_text, copy_out, flag, optional_text, read_options, text, texts,
};
use super::guard::{catch, guard};
use super::handle::{borrow, give, handle, peek, release};
use super::http_client::BuiltInHttp;
use super::status::acme_status_t;
use super::types::{acme_client_options_t, acme_key_t, acme_store_t};
use crate::engine::{Client, ClientOptions, http01_answer};
use crate::error::{Error, Result};
use crate::jose::eab::{ExternalAccount, MacAlgorithm};
use crate::pki::{Key, KeyType};

/// One account at one CA: directory, account key, nonces, connections. Create one and share it.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_client_t {
    _private: [u8; 0],
}

handle!(acme_client_t, ClientState, b"acmeclnt");

/// A client, its HTTP client, and the texts that C has pointers to.
pub struct ClientState {
    pub(super) engine: Client,
    pub(super) http: BuiltInHttp,
    texts: Mutex<Vec<CString>>,
}

impl ClientState {
    /// Returns the same client, with texts of its own.
    pub(super) fn share(&self) -> ClientState {
        let (engine, http) = (self.engine.clone(), self.http.clone());
        ClientState { engine, http, texts: Mutex::default() }
    }

    /// Returns a pointer to `text` that stays valid for as long as the client: earlier texts are
    /// kept. An account's URL and a CA's terms change seldom.
    fn keep_text(&self, text: Option<String>) -> *const c_char {
        let Some(text) = text.map(c_text) else { return null() };
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = texts.iter().find(|known| **known == text) {
            return known.as_ptr();
        }
        // The bytes of a CString stay where they are when it moves.
        let pointer = text.as_ptr();
        texts.push(text);
        pointer
    }
}

/// Creates a client: one account at one CA. Sends no request.
/// @param options Read during the call only. Its key may be freed before the client.
/// @param client Out: the client, to free with acme_client_free().
/// @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: a member, or the file that it names, is missing or
///   malformed; ACME_ERR_POLICY: the directory's URL is not https; ACME_ERR_UNSUPPORTED: this
///   library does not know a member, or was built without an HTTP client.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_client_new(
    options: *const acme_client_options_t,
    client: *mut *mut acme_client_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(client, "client")?;
        let given = read_options(options, "options")?;
        let engine = Client::new(client_options(&given)?)?;
        let http = BuiltInHttp::new(&given)?;
        out.set(give(ClientState { engine, http, texts: Mutex::new(Vec::new()) }));
        Ok(())
    })
}

fn client_options(given: &acme_client_options_t) -> Result<ClientOptions> {
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
    let url = text(given.directory_url, "directory_url")?;
    let store = match given.store.is_null() {
        true => None,
        false => Some(borrow::<acme_store_t>(given.store, "store")?.store.clone()),
    };
    let is_own_account = !given.account_key.is_null();
    let account_key = match store {
        Some(_) if !is_own_account && !given.account_url.is_null() => {
            let why = "the account's URL comes from the store: leave account_url NULL";
            return Err(Error::invalid_argument(why));
        }
        Some(_) if !is_own_account => Key::generate(KeyType::P256)?, // if the store has none
        _ => borrow::<acme_key_t>(given.account_key, "account_key")?.key.clone(),
    };
    let mut options = ClientOptions::new(url, account_key);
    (options.store, options.is_own_account) = (store, is_own_account);
    options.account_url = optional_text(given.account_url, "account_url")?.map(str::to_owned);
    options.contacts = owned(texts(given.contacts, given.contact_count, "contacts")?);
    options.terms_agreed = flag(given.terms_agreed, "terms_agreed")?;
    let agreed_terms = optional_text(given.agreed_terms_url, "agreed_terms_url")?;
    options.agreed_terms_url = agreed_terms.map(str::to_owned);
    let languages = optional_text(given.accept_language, "accept_language")?;
    options.accept_language = languages.map(str::to_owned);
    options.external_account = external_account(given)?;
    options.user_agent = optional_text(given.user_agent, "user_agent")?.map(str::to_owned);
    options.allowed_hosts =
        owned(texts(given.allowed_hosts, given.allowed_host_count, "allowed_hosts")?);
    options.allow_http_loopback = flag(given.allow_http_loopback, "allow_http_loopback")?;
    Ok(options)
}

fn external_account(given: &acme_client_options_t) -> Result<Option<ExternalAccount>> {
    let key_id = optional_text(given.eab_key_id, "eab_key_id")?;
    let algorithm = match optional_text(given.eab_algorithm, "eab_algorithm")? {
        None => MacAlgorithm::default(),
        Some(name) => MacAlgorithm::from_name(name).ok_or_else(|| {
            Error::invalid_argument("eab_algorithm is none of HS256, HS384 and HS512")
        })?,
    };
    match (key_id, optional_text(given.eab_hmac_key, "eab_hmac_key")?) {
        (None, None) => Ok(None),
        (Some(key_id), Some(hmac_key)) => {
            Ok(Some(ExternalAccount::new(key_id, hmac_key)?.with_algorithm(algorithm)))
        }
        _ => Err(Error::invalid_argument("eab_key_id and eab_hmac_key go together")),
    }
}

/// Returns the account's URL, to store; NULL until an operation has needed it. Valid until the
/// client is freed.
/// @param client The client.
/// @return Text, valid until client is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_client_account_url(client: *const acme_client_t) -> *const c_char {
    peek(client).map_or(null(), |client| client.keep_text(client.engine.account_url()))
}

/// Returns the URL of the CA's terms of service; NULL until its directory is known, or if it has
/// none. Valid until the client is freed.
/// @param client The client.
/// @return Text, valid until client is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_client_terms_url(client: *const acme_client_t) -> *const c_char {
    peek(client).map_or(null(), |client| client.keep_text(client.engine.terms_of_service()))
}

/// Returns the name of the index-th certificate profile that the CA offers
/// (draft-ietf-acme-profiles); NULL past the end, and until the CA's directory is known. Valid
/// until the client is freed.
/// @param client The client.
/// @param index From 0.
/// @return Text, valid until client is freed, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_client_profile(client: *const acme_client_t, index: usize) -> *const c_char {
    let name = |client: &ClientState| client.engine.profiles().into_iter().nth(index);
    peek(client).map_or(null(), |client| client.keep_text(name(client).map(|(name, _)| name)))
}

/// Returns the CA's description of its index-th profile; see acme_client_profile().
/// @param client The client.
/// @param index From 0, as for acme_client_profile().
/// @return Text, valid until client is freed, or NULL. Untrusted text of the CA.
#[unsafe(no_mangle)]
pub extern "C" fn acme_client_profile_text(
    client: *const acme_client_t,
    index: usize,
) -> *const c_char {
    let text = |client: &ClientState| client.engine.profiles().into_iter().nth(index);
    peek(client).map_or(null(), |client| client.keep_text(text(client).map(|(_, text)| text)))
}

/// Writes the body of the response to a CA's http-01 request (RFC 8555 section 8.3), if the path
/// belongs to a challenge that an operation of this client has published right now. A program that
/// calls this function for every such request has nothing to do for http-01 in its publish callback
/// but return 0. For other paths the function returns 0: respond as usual. Any thread.
/// @param client The client whose operations have the challenges.
/// @param path The request's path, without a query; a NUL at its end is not necessary.
/// @param size Size of path in bytes.
/// @param body Out: the body of the response, without a NUL at its end.
/// @param room Space at body in bytes; 1024 are always enough.
/// @return Bytes written to body; 0: no published challenge has this path, or room is too small.
#[unsafe(no_mangle)]
pub extern "C" fn acme_client_http01_answer(
    client: *const acme_client_t,
    path: *const c_char,
    size: usize,
    body: *mut c_char,
    room: usize,
) -> usize {
    write_body(body, room, || {
        let client: &ClientState = borrow(client, "client")?;
        Ok(client.engine.http01_answer(utf8(bytes(path.cast(), size, "path")?)))
    })
}

/// Writes the body of the response to a CA's http-01 request (RFC 8555 section 8.3). It needs no
/// client, so the web server may be another process or machine. Every path that may belong to a
/// challenge has a body, published or not. Any thread.
/// @param thumbprint acme_key_thumbprint() of the account's key, 43 characters.
/// @param path The request's path, without a query; a NUL at its end is not necessary.
/// @param size Size of path in bytes.
/// @param body Out: the body of the response, without a NUL at its end.
/// @param room Space at body in bytes; 1024 are always enough.
/// @return Bytes written to body; 0: the path is not one of a challenge, or room is too small.
#[unsafe(no_mangle)]
pub extern "C" fn acme_http01_answer(
    thumbprint: *const c_char,
    path: *const c_char,
    size: usize,
    body: *mut c_char,
    room: usize,
) -> usize {
    write_body(body, room, || {
        let thumbprint = text(thumbprint, "thumbprint")?;
        Ok(http01_answer(thumbprint, utf8(bytes(path.cast(), size, "path")?)))
    })
}

/// Returns a path as text; one that is not UTF-8 belongs to no challenge.
pub(super) fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

pub(super) fn write_body(
    body: *mut c_char,
    room: usize,
    find: impl FnOnce() -> Result<Option<String>>,
) -> usize {
    let found = catch(find).ok().flatten().filter(|text| text.len() <= room);
    found.and_then(|text| copy_out(text.as_bytes(), body).ok()).unwrap_or(0)
}

/// Frees the handle. Operations that use the client keep working.
/// @param client The client; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_client_free(client: *mut acme_client_t) {
    release(client);
}
