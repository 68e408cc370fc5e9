//! The log: lines go to a callback of the host.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Once, PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};
use safer_ffi::derive_ReprC;

use super::convert::c_text;
use super::guard::catch;

/// Levels of the log.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_log_level_t {
    /// A failure that no other result reports.
    ACME_LOG_ERROR = 1,
    /// A failure that the library has recovered from.
    ACME_LOG_WARN = 2,
    /// An event worth knowing.
    ACME_LOG_INFO = 3,
    /// Every request and every retry.
    ACME_LOG_DEBUG = 4,
    /// Transcripts: the requests and responses of operations, without secrets, one JSON object a
    /// line. They contain names, contacts, URLs and certificates. See docs/testing.md.
    ACME_LOG_TRACE = 5,
}

use acme_log_level_t::*;

/// Receives a log line, on the thread that calls the library or on a driver's own. Must not call
/// the library, and must return normally. The text is valid during the call. No line contains a
/// key, a token or a key authorization.
pub type acme_log_fn =
    Option<unsafe extern "C" fn(level: c_int, message: *const c_char, user: *mut c_void)>;

/// Sends log lines up to level (ACME_LOG_*; other values count as the nearest) to log, for the
/// whole process. NULL turns logging off, which is the default.
/// @param log Called for each line, on any thread, also on several at once; NULL: no logging.
/// @param user Pointer to pass to log. It must stay valid until another callback is set and running
///   calls have returned.
/// @param level The most detailed ACME_LOG_* level to log.
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
        // Drop the HTTP client's own lines: they may contain whole requests.
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
