//! Lookups: how a store of trusted certificates finds a certificate that it does not have yet.
//!
//! OpenSSL's own two read a whole file (`X509_LOOKUP_file`) or a directory with hashed names
//! (`X509_LOOKUP_hash_dir`). The one of this file asks a [`Find`]. `X509_LOOKUP_meth_new(3)`
//! describes the functions and the reference counts.

use std::cmp::Ordering;
use std::ffi::{CStr, OsString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::x509::store::X509StoreBuilderRef;
use openssl::x509::{X509, X509NameRef};
use openssl_sys::{X509_LOOKUP, X509_LOOKUP_METHOD, X509_NAME, X509_OBJECT, X509_STORE};

/// `X509_LU_X509`: the lookup is for a certificate, not for a CRL.
const CERTIFICATE: c_int = 1;
/// `X509_L_ADD_STORE`, the command behind `X509_LOOKUP_add_store`.
const ADD_STORE: c_int = 3;

unsafe extern "C" {
    fn X509_LOOKUP_meth_new(name: *const c_char) -> *mut X509_LOOKUP_METHOD;
    fn X509_LOOKUP_meth_set_free(
        method: *mut X509_LOOKUP_METHOD,
        free: unsafe extern "C" fn(*mut X509_LOOKUP),
    ) -> c_int;
    fn X509_LOOKUP_meth_set_get_by_subject(
        method: *mut X509_LOOKUP_METHOD,
        get: unsafe extern "C" fn(
            *mut X509_LOOKUP,
            c_int,
            *const X509_NAME,
            *mut X509_OBJECT,
        ) -> c_int,
    ) -> c_int;
    fn X509_LOOKUP_set_method_data(lookup: *mut X509_LOOKUP, data: *mut c_void) -> c_int;
    fn X509_LOOKUP_get_method_data(lookup: *const X509_LOOKUP) -> *mut c_void;
    fn X509_LOOKUP_get_store(lookup: *const X509_LOOKUP) -> *mut X509_STORE;
    fn X509_LOOKUP_store() -> *mut X509_LOOKUP_METHOD;
    fn X509_OBJECT_set1_X509(
        object: *mut X509_OBJECT,
        certificate: *mut openssl_sys::X509,
    ) -> c_int;
}

/// A source of trusted certificates.
pub(crate) trait Find: Send + Sync {
    /// Returns all certificates with this subject, and maybe others that are trusted as well.
    fn find(&self, subject: &X509NameRef) -> Vec<X509>;
}

/// The data of one lookup.
struct State {
    source: Arc<dyn Find>,
    /// The certificates that were found. OpenSSL uses the pointer that it gets a little longer than
    /// it holds a reference, so the lookup holds one as well.
    found: Mutex<Vec<X509>>,
}

/// Reads an environment variable: the caller may, this floor may not.
type Read = fn(String) -> Option<OsString>;

/// Returns the PEM file of the system's roots: the one in `SSL_CERT_FILE`, or OpenSSL's own.
pub(crate) fn default_cert_file(read: Read) -> OsString {
    // SAFETY: both functions return constant texts.
    let (variable, file) = unsafe {
        (
            CStr::from_ptr(openssl_sys::X509_get_default_cert_file_env()),
            CStr::from_ptr(openssl_sys::X509_get_default_cert_file()),
        )
    };
    environment_or(read, variable, file)
}

/// Returns the directories of the system's roots, with colons between: those in `SSL_CERT_DIR`, or
/// OpenSSL's own.
pub(crate) fn default_cert_dirs(read: Read) -> OsString {
    // SAFETY: both functions return constant texts.
    let (variable, dirs) = unsafe {
        (
            CStr::from_ptr(openssl_sys::X509_get_default_cert_dir_env()),
            CStr::from_ptr(openssl_sys::X509_get_default_cert_dir()),
        )
    };
    environment_or(read, variable, dirs)
}

/// A program with the rights of another user ignores the variable, as OpenSSL does.
fn environment_or(read: Read, variable: &CStr, default: &CStr) -> OsString {
    let found = match has_rights_of_another_user() {
        false => read(variable.to_string_lossy().into_owned()),
        true => None,
    };
    found.unwrap_or_else(|| default.to_string_lossy().into_owned().into())
}

fn has_rights_of_another_user() -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: it only returns a number.
    return unsafe { libc::getauxval(libc::AT_SECURE) != 0 };
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    // SAFETY: it only returns a number.
    return unsafe { libc::issetugid() != 0 };
    #[cfg(not(unix))]
    false
}

/// Adds the lookup for OpenSSL's default URI of certificates, which is one of those that
/// `SSL_CTX_set_default_verify_paths` adds.
pub(crate) fn add_default_store(store: &mut X509StoreBuilderRef) {
    // SAFETY: the store is valid. It owns the lookup, which may be null: then memory is exhausted,
    // and OpenSSL's own function ignores that, too.
    unsafe {
        let lookup = openssl_sys::X509_STORE_add_lookup(store.as_ptr(), X509_LOOKUP_store());
        if !lookup.is_null() {
            openssl_sys::X509_LOOKUP_ctrl(lookup, ADD_STORE, ptr::null(), 0, ptr::null_mut());
        }
    }
}

/// Adds a lookup that asks `source` for each subject that the store does not have yet. A store has
/// one such lookup at most.
pub(crate) fn add_lookup(
    store: &mut X509StoreBuilderRef,
    source: Arc<dyn Find>,
) -> Result<(), ErrorStack> {
    // SAFETY: the method is never freed, and the store owns the lookup. The data is a Box that
    // free_state() takes back.
    unsafe {
        let lookup = openssl_sys::X509_STORE_add_lookup(store.as_ptr(), method());
        if lookup.is_null() || !X509_LOOKUP_get_method_data(lookup).is_null() {
            return Err(ErrorStack::get());
        }
        let state = Box::new(State { source, found: Mutex::default() });
        X509_LOOKUP_set_method_data(lookup, Box::into_raw(state).cast());
    }
    Ok(())
}

/// Returns the method of all lookups. OpenSSL refers to it as long as a store exists, so it is
/// never freed.
fn method() -> *mut X509_LOOKUP_METHOD {
    struct Method(*mut X509_LOOKUP_METHOD);
    // SAFETY: nothing changes the method after it was made.
    unsafe impl Send for Method {}
    // SAFETY: as above.
    unsafe impl Sync for Method {}
    static METHOD: OnceLock<Method> = OnceLock::new();
    METHOD
        .get_or_init(|| {
            // SAFETY: the name is a constant. The other functions accept what the first returns;
            // without memory that is null, which X509_STORE_add_lookup() refuses.
            Method(unsafe {
                let method = X509_LOOKUP_meth_new(c"certificates found on demand".as_ptr());
                if !method.is_null() {
                    X509_LOOKUP_meth_set_free(method, free_state);
                    X509_LOOKUP_meth_set_get_by_subject(method, get_by_subject);
                }
                method
            })
        })
        .0
}

unsafe extern "C" fn free_state(lookup: *mut X509_LOOKUP) {
    // SAFETY: OpenSSL calls this once for each lookup, at its end. The data is null or from
    // add_lookup().
    unsafe {
        let state: *mut State = X509_LOOKUP_get_method_data(lookup).cast();
        if !state.is_null() {
            drop(Box::from_raw(state));
        }
    }
}

/// Returns 1 with a certificate in `object`, or 0. Any thread may call it at any time.
unsafe extern "C" fn get_by_subject(
    lookup: *mut X509_LOOKUP,
    kind: c_int,
    name: *const X509_NAME,
    object: *mut X509_OBJECT,
) -> c_int {
    // SAFETY: the pointers are OpenSSL's and valid for the call; the data is add_lookup()'s.
    let (state, name, store) = unsafe {
        let state: *const State = X509_LOOKUP_get_method_data(lookup).cast();
        let Some(state) = state.as_ref() else { return 0 };
        (state, X509NameRef::from_ptr(name.cast_mut()), X509_LOOKUP_get_store(lookup))
    };
    // A panic must not reach OpenSSL's C code.
    let found = catch_unwind(AssertUnwindSafe(|| match kind {
        CERTIFICATE => state.get(name, store),
        _ => None,
    }));
    let Ok(Some(certificate)) = found else { return 0 };
    // SAFETY: both are valid. OpenSSL takes one reference more than it gives back, as the manual
    // page says, so one is given back here; the state has another.
    unsafe {
        let set = X509_OBJECT_set1_X509(object, certificate.as_ptr());
        if set == 1 {
            openssl_sys::X509_free(certificate.as_ptr());
        }
        set
    }
}

impl State {
    /// Returns a certificate with this subject, after all of them are in the store.
    fn get(&self, subject: &X509NameRef, store: *mut X509_STORE) -> Option<X509> {
        let same = |other: &&X509| {
            other.subject_name().try_cmp(subject).is_ok_and(|order| order == Ordering::Equal)
        };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.iter().any(|certificate| same(&certificate)) {
            for certificate in self.source.find(subject) {
                // SAFETY: both are valid, and the store takes a reference of its own.
                unsafe { openssl_sys::X509_STORE_add_cert(store, certificate.as_ptr()) };
                found.push(certificate);
            }
        }
        found.iter().find(same).cloned()
    }
}
