//! Stores: where keys, accounts, certificates and orders in progress are kept.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use safer_ffi::derive_ReprC;
use zeroize::Zeroizing;

use super::cert::CertState;
use super::convert::{Options, Out, bytes, c_text, flag, path as path_of, read_options, text};
use super::guard::guard;
use super::handle::{borrow, give, handle, release};
use super::op::OpState;
use super::status::acme_status_t;
use super::types::{acme_cert_t, acme_op_t, acme_store_t};
use crate::error::{Error, ErrorKind, Result};
use crate::store::certificate_record::CertificateRecord;
use crate::store::{
    self, Claim, MAX_VALUE, MemoryStore, SealedStore, Store, Versioned, names, sealed,
};
use crate::text::printable;

handle!(acme_store_t, StoreState, b"acmestor");

/// A store of any kind.
pub struct StoreState {
    pub(super) store: Arc<dyn Store>,
    /// The same store, if it is a sealed one.
    sealed: Option<Arc<SealedStore>>,
    /// The work of the program itself, by its name.
    claims: Mutex<Vec<(String, Claim)>>,
}

impl StoreState {
    fn new(store: Arc<dyn Store>) -> StoreState {
        StoreState { store, sealed: None, claims: Mutex::default() }
    }

    fn claims(&self) -> MutexGuard<'_, Vec<(String, Claim)>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of the get function of a store, which acme_record_set() fills in.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_record_t {
    _private: [u8; 0],
}

/// The result of the list function of a store, which acme_names_add() fills in.
#[derive_ReprC]
#[repr(opaque)]
pub struct acme_names_t {
    _private: [u8; 0],
}

handle!(acme_record_t, Filled<Option<Versioned>>, b"acme_rec");
handle!(acme_names_t, Filled<Vec<String>>, b"acmename");

/// The result of a function of a store so far.
pub struct Filled<T>(Mutex<T>);

/// Reads a record: calls acme_record_set(), or nothing if there is no record of this name. Returns
/// ACME_OK, or ACME_ERR_STORE if the store cannot be reached.
pub type acme_store_get_fn = Option<
    unsafe extern "C" fn(
        name: *const c_char,
        found: *mut acme_record_t,
        user: *mut c_void,
    ) -> c_int,
>;

/// Writes a record if its version is still expected (0: if there is no record of this name), and
/// sets *version to its new version, which is not 0 and differs from every earlier one. value NULL:
/// removes the record. Returns ACME_OK; ACME_ERR_CONFLICT and changes nothing if the record has
/// another version; or ACME_ERR_STORE.
pub type acme_store_put_fn = Option<
    unsafe extern "C" fn(
        name: *const c_char,
        expected: u64,
        value: *const c_void,
        value_size: usize,
        version: *mut u64,
        user: *mut c_void,
    ) -> c_int,
>;

/// Calls acme_names_add() for the names that begin with prefix and come after the name after, in
/// the order of their bytes, at most limit of them. Returns ACME_OK or ACME_ERR_STORE.
pub type acme_store_list_fn = Option<
    unsafe extern "C" fn(
        prefix: *const c_char,
        after: *const c_char,
        limit: usize,
        found: *mut acme_names_t,
        user: *mut c_void,
    ) -> c_int,
>;

/// Sets *revision to a number that changes whenever a record changes; 0: not known. Returns ACME_OK or
/// ACME_ERR_STORE.
pub type acme_store_revision_fn =
    Option<unsafe extern "C" fn(revision: *mut u64, user: *mut c_void) -> c_int>;

/// Called once, when the store and all that uses it are freed.
pub type acme_store_free_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// The functions of a store of your own, for acme_store_custom(): for a database, for instance. They
/// are called on threads of a driver, or in acme_op_access_store(), acme_op_run() and the functions
/// with a store; several at a time. They may block.
///
/// A record has a name (text without control characters, at most 512 bytes), a value (at most
/// 262144 bytes) and a version. The values contain keys: protect them.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct acme_store_functions_t {
    /// sizeof(acme_store_functions_t), set by ACME_STORE_FUNCTIONS_INIT.
    pub size: usize,
    /// Required.
    pub get: acme_store_get_fn,
    /// Required.
    pub put: acme_store_put_fn,
    /// Required.
    pub list: acme_store_list_fn,
    /// Frees user; may be NULL.
    pub free: acme_store_free_fn,
    /// Passed to the functions.
    pub user: *mut c_void,
    /// Called by a manager once a minute, to notice certificates that another program has renewed; NULL: the
    /// manager notices them when it asks the CA again, a few times a day.
    pub revision: acme_store_revision_fn,
}

// SAFETY: an integer, raw pointers and nullable function pointers: all zero is a value of each.
unsafe impl Options for acme_store_functions_t {}
const _: () = assert!(size_of::<acme_store_functions_t>() == 7 * size_of::<*const c_void>());

/// A store of the program's own.
struct Custom(acme_store_functions_t);

// SAFETY: the host promises that its functions may be called on any thread, with its own pointer.
unsafe impl Send for Custom {}
// SAFETY: as above; several at a time.
unsafe impl Sync for Custom {}

impl Custom {
    /// Converts the status that a function returned.
    fn result(name: &str, function: &str, status: c_int) -> Result<()> {
        const CONFLICT: c_int = acme_status_t::ACME_ERR_CONFLICT as c_int;
        match status {
            0 => Ok(()),
            CONFLICT => Err(store::conflict(name)),
            other => {
                let why = format!("the store's {function} function gave {other}");
                Err(store::unusable(name, &why))
            }
        }
    }
}

fn misuse(why: &str) -> Error {
    Error::new(ErrorKind::Misuse, why)
}

impl Store for Custom {
    fn get(&self, name: &str) -> Result<Option<Versioned>> {
        let get = self.0.get.ok_or_else(|| misuse("the store has no get function"))?;
        let found: *mut acme_record_t = give(Filled(Mutex::default()));
        let text = c_text(name);
        // SAFETY: the host's own function with the host's own pointer; the others are valid until
        // it returns.
        let status = unsafe { get(text.as_ptr(), found, self.0.user) };
        let record = take(found);
        Custom::result(name, "get", status)?;
        record
    }

    fn put(&self, name: &str, expected: u64, value: Option<&[u8]>) -> Result<u64> {
        let put = self.0.put.ok_or_else(|| misuse("the store has no put function"))?;
        let (text, mut version) = (c_text(name), 0);
        let (data, size) = value.map_or((null(), 0), |value| (value.as_ptr(), value.len()));
        let (data, user) = (data.cast(), self.0.user);
        // SAFETY: the host's own function with the host's own pointer; the others are valid until
        // it returns.
        let status = unsafe { put(text.as_ptr(), expected, data, size, &raw mut version, user) };
        Custom::result(name, "put", status)?;
        match value {
            None => Ok(0),
            Some(_) if version == 0 || version == expected => {
                let shown = printable(name, 300);
                let why = format!("{shown}: the store's put function gave no new version");
                Err(misuse(&why))
            }
            Some(_) => Ok(version),
        }
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>> {
        let list = self.0.list.ok_or_else(|| misuse("the store has no list function"))?;
        let found: *mut acme_names_t = give(Filled(Mutex::default()));
        let (start, last) = (c_text(prefix), c_text(after));
        // SAFETY: the host's own function with the host's own pointer; the others are valid until
        // it returns.
        let status = unsafe { list(start.as_ptr(), last.as_ptr(), limit, found, self.0.user) };
        let names = take(found);
        Custom::result(prefix, "list", status)?;
        names
    }

    fn revision(&self) -> Result<Option<u64>> {
        let Some(function) = self.0.revision else { return Ok(None) };
        let mut revision = 0;
        // SAFETY: the host's own function with the host's own pointer; the other is valid until it returns.
        let status = unsafe { function(&raw mut revision, self.0.user) };
        Custom::result("the store", "revision", status)?;
        Ok(Some(revision).filter(|revision| *revision != 0))
    }
}

impl Drop for Custom {
    fn drop(&mut self) {
        if let Some(free) = self.0.free {
            // SAFETY: the host's own function with the host's own pointer, once.
            unsafe { free(self.0.user) }
        }
    }
}

/// Takes what a function has found, and frees the handle.
fn take<H: super::handle::Handle<Value = Filled<T>>, T: Default>(found: *mut H) -> Result<T> {
    let filled =
        borrow(found, "found").map(|filled: &Filled<T>| std::mem::take(&mut *filled.value()));
    release(found);
    filled
}

impl<T> Filled<T> {
    fn value(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a folder as a store for one CA; creates it with mode 0700 if it does not exist. Keys and
/// certificates are in files that servers can read: NAME.key.pem and NAME.chain.pem. Programs,
/// threads and forked processes may share the folder.
/// @param path The folder; the one above it must exist.
/// @param store Out: the store, to free with acme_store_free().
/// @return ACME_OK; ACME_ERR_STORE: the folder cannot be used, the message says why;
///   ACME_ERR_UNSUPPORTED: this system has no such files.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_directory(
    path: *const c_char,
    store: *mut *mut acme_store_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(store, "store")?;
        let path = path_of(path, "path")?;
        out.set(give(StoreState::new(open_directory(path)?)));
        Ok(())
    })
}

#[cfg(unix)]
fn open_directory(path: &Path) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(crate::folder::DirectoryStore::open(path)?))
}

#[cfg(not(unix))]
fn open_directory(_path: &Path) -> Result<Arc<dyn Store>> {
    Err(Error::new(ErrorKind::Unsupported, "this system has no locks of files"))
}

/// Creates an empty store in memory, for tests and for programs that keep what they need elsewhere.
/// @param store Out: the store, to free with acme_store_free().
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_memory(store: *mut *mut acme_store_t) -> acme_status_t {
    guard(|| {
        let out = Out::handle(store, "store")?;
        out.set(give(StoreState::new(Arc::new(MemoryStore::new()))));
        Ok(())
    })
}

/// Creates a store of the program's own functions. acme_store_check() shows whether they keep their
/// promises.
/// @param functions Read during the call only; get, put and list are required.
/// @param store Out: the store, to free with acme_store_free().
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT; then free is not called.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_custom(
    functions: *const acme_store_functions_t,
    store: *mut *mut acme_store_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(store, "store")?;
        let functions: acme_store_functions_t = read_options(functions, "functions")?;
        if functions.get.is_none() || functions.put.is_none() || functions.list.is_none() {
            return Err(Error::invalid_argument("functions lacks get, put or list"));
        }
        out.set(give(StoreState::new(Arc::new(Custom(functions)))));
        Ok(())
    })
}

/// Creates a store that encrypts the values of another one (AES-256-GCM). The other store sees the
/// names, sizes and versions of records only, and no record passes for another one. A record that
/// cannot be opened is never overwritten: ACME_ERR_STORE, with the id of the key that is missing, or
/// "damaged". In a folder, sealed records are files NAME.record, which no server can read.
/// @param inner The store that keeps the records; the caller may free it afterwards.
/// @param key 32 random bytes, copied. Without them the records are lost: keep them elsewhere.
/// @param old_key NULL, or 32 bytes: an earlier key. Records that it has sealed can be read; key
///   seals them at the next write, or in acme_store_reseal().
/// @param accept_plain 0: a value that is not sealed is refused, because it may be planted by a
///   person who can write the store. 1: it is read, and sealed like those of old_key: for the change
///   to a sealed store only.
/// @param store Out: the store, to free with acme_store_free().
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_sealed(
    inner: *const acme_store_t,
    key: *const u8,
    old_key: *const u8,
    accept_plain: c_int,
    store: *mut *mut acme_store_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(store, "store")?;
        let inner = borrow::<acme_store_t>(inner, "inner")?.store.clone();
        let old_key = match old_key.is_null() {
            true => None,
            false => Some(secret(old_key, "old_key")?),
        };
        let mut made = SealedStore::new(inner, secret(key, "key")?, old_key)?;
        if flag(usize::try_from(accept_plain).unwrap_or(usize::MAX), "accept_plain")? {
            made = made.accept_plain();
        }
        let made = Arc::new(made);
        out.set(give(StoreState { sealed: Some(made.clone()), ..StoreState::new(made) }));
        Ok(())
    })
}

/// Returns the bytes of a key.
fn secret<'a>(key: *const u8, name: &str) -> Result<&'a [u8; sealed::KEY]> {
    let key = bytes(key.cast(), sealed::KEY, name)?.try_into();
    key.map_err(|_| Error::invalid_argument(name))
}

/// Seals each record of a sealed store with its key that is sealed with old_key, or plain and
/// accepted: afterwards they are not needed any more. Blocking. Other programs may use the store.
/// @param store A store of acme_store_sealed().
/// @return ACME_OK; ACME_ERR_STORE: a record cannot be opened or written, and the message names it;
///   ACME_ERR_MISUSE: the store is another one.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_reseal(store: *const acme_store_t) -> acme_status_t {
    guard(|| match &borrow::<acme_store_t>(store, "store")?.sealed {
        Some(sealed) => sealed.reseal(),
        None => Err(misuse("store is not from acme_store_sealed()")),
    })
}

/// Checks that a store keeps its promises: versions, comparison, removal, lists. Writes and removes
/// records whose names begin with "check/". Blocking.
/// @param store The store.
/// @return ACME_OK; ACME_ERR_MISUSE: the message says which promise is broken; or the error of the
///   store.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_check(store: *const acme_store_t) -> acme_status_t {
    guard(|| store::check_store(&*borrow::<acme_store_t>(store, "store")?.store))
}

/// Reads a certificate from a store, with its key. Blocking. Sends no request: for a server that
/// starts, while it asks the CA whether a renewal is due.
/// @param store The store.
/// @param directory_url URL of the directory of the CA.
/// @param name The certificate's name in the store, usually the first of its names.
/// @param cert Out: the certificate, to free with acme_cert_free(); NULL with ACME_OK: the
///   store has no such certificate, or it does not fit its key.
/// @return ACME_OK; ACME_ERR_STORE: the store, or the key in it, cannot be read; or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_cert(
    store: *const acme_store_t,
    directory_url: *const c_char,
    name: *const c_char,
    cert: *mut *mut acme_cert_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(cert, "cert")?;
        let store = &borrow::<acme_store_t>(store, "store")?.store;
        let (url, name) = (text(directory_url, "directory_url")?, text(name, "name")?);
        let record = names::certificate(url, name)?;
        let Some(found) = store.get(&record)? else { return Ok(()) };
        let usable = CertificateRecord::parse(&record, &found.value)?.checked(&record)?;
        if let Some((chain, key)) = usable {
            out.set(give(CertState::new(chain, Some(key))));
        }
        Ok(())
    })
}

/// Begins work of the program itself in a store: while it changes files of a folder, for instance, no
/// other program works in the folder. Operations of this program go on. Returns at once.
/// @param store The store.
/// @param name A name of the program's own for the work, such as a file's.
/// @return ACME_OK: end the work with acme_store_release(); ACME_ERR_CONFLICT: another program is at
///   work in the folder, or another thread on this name, try again in a moment; or the error of the
///   store.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_store_claim(
    store: *const acme_store_t,
    name: *const c_char,
) -> acme_status_t {
    guard(|| {
        let (state, name) = work(store, name)?;
        let claim = state.store.claim(name)?;
        let busy = || Error::new(ErrorKind::Conflict, "another program or thread is at work");
        state.claims().push((name.to_owned(), claim.ok_or_else(busy)?));
        Ok(())
    })
}

/// Ends the work that acme_store_claim() began. A child of fork() calls it, too, to leave its parent's
/// work to the parent. Does nothing if there is no such work.
/// @param store The store.
/// @param name The name of the work.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub extern "C" fn acme_store_release(
    store: *const acme_store_t,
    name: *const c_char,
) -> acme_status_t {
    guard(|| {
        let (state, name) = work(store, name)?;
        state.claims().retain(|(known, _)| known != name);
        Ok(())
    })
}

fn work<'a>(store: *const acme_store_t, name: *const c_char) -> Result<(&'a StoreState, &'a str)> {
    Ok((borrow(store, "store")?, text(name, "name")?))
}

/// Frees the handle. Clients that use the store keep working.
/// @param store The store; NULL is fine.
#[unsafe(no_mangle)]
pub extern "C" fn acme_store_free(store: *mut acme_store_t) {
    release(store);
}

/// Sets what the get function of a store has found.
/// @param record The record, from the get function's arguments.
/// @param version Its version, not 0.
/// @param value Its value; copied.
/// @param size Number of bytes, at most 262144.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT: version is 0, or size is too large.
#[unsafe(no_mangle)]
pub extern "C" fn acme_record_set(
    record: *mut acme_record_t,
    version: u64,
    value: *const c_void,
    size: usize,
) -> acme_status_t {
    guard(|| {
        let filled: &Filled<Option<Versioned>> = borrow(record, "record")?;
        let value = bytes(value, size, "value")?;
        if version == 0 || size > MAX_VALUE {
            return Err(Error::invalid_argument("version is 0, or size is above 262144"));
        }
        let value = Zeroizing::new(value.to_vec());
        *filled.value() = Some(Versioned { version, value });
        Ok(())
    })
}

/// Adds a name to what the list function of a store has found.
/// @param names The names, from the list function's arguments.
/// @param name A name; copied.
/// @return ACME_OK, or ACME_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub extern "C" fn acme_names_add(names: *mut acme_names_t, name: *const c_char) -> acme_status_t {
    guard(|| {
        let filled: &Filled<Vec<String>> = borrow(names, "names")?;
        let name = text(name, "name")?.to_owned();
        filled.value().push(name);
        Ok(())
    })
}

/// Does the access of an operation to its store, at ACME_STEP_STORE. It may block: a program with an
/// event loop calls this on a worker thread, and polls when it returns.
/// @param op The operation. Another thread may poll it meanwhile.
/// @return ACME_OK: the operation has the result, which may be a failure of the store;
///   ACME_ERR_MISUSE: the operation does not wait for its store.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_access_store(op: *mut acme_op_t) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let access = op.take_access();
        access.ok_or_else(|| misuse("the operation does not wait for its store"))?.perform();
        Ok(())
    })
}
