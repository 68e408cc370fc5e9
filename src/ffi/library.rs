//! The library itself: its version, what is compiled in, its log.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Once, PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};
use safer_ffi::derive_ReprC;

use super::boundary::{c_text, catch};

/// Version of the header, as numbers; acme_version_number() is the library's.
pub const ACME_MICRO_VERSION_MAJOR: u32 = 0;
/// See ACME_MICRO_VERSION_MAJOR.
pub const ACME_MICRO_VERSION_MINOR: u32 = 14;
/// See ACME_MICRO_VERSION_MAJOR.
pub const ACME_MICRO_VERSION_PATCH: u32 = 1;

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => u32::MAX,
    }
}
const _: () = assert!(
    number(env!("CARGO_PKG_VERSION_MAJOR")) == ACME_MICRO_VERSION_MAJOR
        && number(env!("CARGO_PKG_VERSION_MINOR")) == ACME_MICRO_VERSION_MINOR
        && number(env!("CARGO_PKG_VERSION_PATCH")) == ACME_MICRO_VERSION_PATCH
);

/// Levels of the log.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_log_level_t {
    /// Something is wrong that nothing else reports.
    ACME_LOG_ERROR = 1,
    /// Something went wrong and was mended.
    ACME_LOG_WARN = 2,
    /// Something worth knowing happened.
    ACME_LOG_INFO = 3,
    /// Each request and each retry.
    ACME_LOG_DEBUG = 4,
    /// Transcripts: whatever operations ask for and are answered, without secrets, a JSON object a
    /// line. Names, contacts, URLs and certificates stand in them. See docs/testing.md.
    ACME_LOG_TRACE = 5,
}

use acme_log_level_t::*;

/// What may be compiled in; bits of acme_features().
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_feature_t {
    /// The built-in blocking HTTPS client for acme_op_send(), acme_op_run(), acme_obtain() and
    /// acme_driver_t.
    ACME_FEATURE_HTTP = 1,
}

/// Receives log lines on whichever thread called the library, or a driver's own. Must not call the
/// library, must return normally. The text is valid for the call. No line has a key, a token or a key
/// authorization in it.
pub type acme_log_fn =
    Option<unsafe extern "C" fn(level: c_int, message: *const c_char, user: *mut c_void)>;

/// Version of the library at run time, such as "0.14.1".
/// @return Static text; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn acme_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Version of the library at run time, as a number; compare with ACME_MICRO_VERSION_NUMBER.
/// @return The major version times 65536, plus the minor one times 256, plus the patch level.
#[unsafe(no_mangle)]
pub extern "C" fn acme_version_number() -> u32 {
    (ACME_MICRO_VERSION_MAJOR << 16) | (ACME_MICRO_VERSION_MINOR << 8) | ACME_MICRO_VERSION_PATCH
}

/// ACME_FEATURE_* bits compiled into this library.
/// @return A combination of ACME_FEATURE_* values.
#[unsafe(no_mangle)]
pub extern "C" fn acme_features() -> u32 {
    if cfg!(feature = "http") { acme_feature_t::ACME_FEATURE_HTTP as u32 } else { 0 }
}

/// Sends log lines up to level (ACME_LOG_*; other values are brought into that range) to log,
/// process-wide; NULL turns logging off, which is the default.
/// @param log Called for each line, on any thread, also on several at once; NULL: nobody is.
/// @param user Handed to log; has to stay valid until another callback is set and those under way
///   have returned.
/// @param level The most detailed ACME_LOG_* level that is wanted.
#[unsafe(no_mangle)]
pub extern "C" fn acme_set_log_callback(log: acme_log_fn, user: *mut c_void, level: c_int) {
    static INSTALL: Once = Once::new();
    let _ = catch(|| {
        INSTALL.call_once(|| {
            let _ = log::set_logger(&CALLBACK);
        });
        *CALLBACK.0.write().unwrap_or_else(PoisonError::into_inner) = Target { log, user };
        let enough = |of: acme_log_level_t| level <= of as c_int;
        log::set_max_level(match log {
            None => LevelFilter::Off,
            Some(_) if enough(ACME_LOG_ERROR) => LevelFilter::Error,
            Some(_) if enough(ACME_LOG_WARN) => LevelFilter::Warn,
            Some(_) if enough(ACME_LOG_INFO) => LevelFilter::Info,
            Some(_) if enough(ACME_LOG_DEBUG) => LevelFilter::Debug,
            Some(_) => LevelFilter::Trace,
        });
        Ok(())
    });
}

struct Target {
    log: acme_log_fn,
    user: *mut c_void,
}

// SAFETY: the library only hands the pointer back; the header says that the callback comes on any
// thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

struct Callback(RwLock<Target>);

static CALLBACK: Callback = Callback(RwLock::new(Target { log: None, user: std::ptr::null_mut() }));

impl Log for Callback {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The HTTP client's own lines may hold whole requests; they go nowhere.
        if !record.target().starts_with("acme_micro") || record.level() > log::max_level() {
            return;
        }
        let (log, user) = {
            let target = self.0.read().unwrap_or_else(PoisonError::into_inner);
            (target.log, target.user)
        };
        if let Some(log) = log {
            let message = c_text(record.args().to_string());
            // SAFETY: the host's own function with the host's own pointer; the text outlives the
            // call, and no lock is held during it.
            unsafe { log(record.level() as c_int, message.as_ptr(), user) }
        }
    }

    fn flush(&self) {}
}
